"""`ctrkit learn-policy`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


def learn_policy(
    logs: Annotated[
        list[str] | None,
        typer.Option(help="Bandit log in any known format, or a glob; repeatable (default: the sample log)."),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="Artifact to start from (default: a small model with random weights).")
    ] = None,
    objective: Annotated[str | None, typer.Option(help="Estimate to maximise: snips, ips or dr.")] = None,
    model: Annotated[Path, typer.Option(help="File for the artifact.")] = Path("policy.pt"),
    map: common.ColumnMap = None,
    propensity: common.Propensity = None,
    out: common.RunFolder = Path("runs/learn-policy"),
    config: common.ConfigFile = None,
    overrides: common.Overrides = None,
    seed: common.Seed = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Learn a policy from logged decisions, and estimate on held-out ones what it would have earned."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.learn_policy(
            logs[0] if logs is not None and len(logs) == 1 else logs,
            policy=policy,
            model=model,
            out=out,
            config=config,
            overrides=overrides or (),
            on_step=progress,
            **common.given(map=map, propensity=propensity, seed=seed, objective=objective),
        )

    common.execute(
        common.Output(json, quiet, debug),
        work,
        where=f"policy: {model}   report: {out / 'report.html'}",
        tables=logs or (),
        models=(policy,),
        config=config,
    )
