"""`ctrkit ope`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


def ope(
    context: typer.Context,
    logs: Annotated[
        list[str] | None,
        typer.Option(
            help="Bandit log of any known format, or a glob; repeatable, and the option's name may be left"
            " out. Else the sample."
        ),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="Artifact, ONNX, uniform, logging, action:ID or column:NAME; repeatable. Else model.pt.",
        ),
    ] = None,
    target_column: Annotated[
        str | None, typer.Option(help="Column with the new policy's probability of the action.")
    ] = None,
    estimator: Annotated[
        list[str] | None, typer.Option(help="An estimator such as dr or switch-dr:tau=10; repeatable.")
    ] = None,
    interval: Annotated[
        str | None, typer.Option(help="Kind of intervals: cressie-read, normal, betting and more.")
    ] = None,
    confidence: Annotated[float | None, typer.Option(help="Confidence level of all intervals; 0.95.")] = None,
    cluster_by: Annotated[
        str | None, typer.Option(help="Column whose values are independent, or row. Else the user.")
    ] = None,
    segment: Annotated[
        list[str] | None, typer.Option(help="Column to tell estimates apart by; repeatable.")
    ] = None,
    outcome: Annotated[
        list[str] | None, typer.Option(help="Reward column such as value or cost; repeatable.")
    ] = None,
    action_feature: Annotated[
        str | None, typer.Option(help="What actions share, for MIPS and OffCEM.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="local, or ray for a cluster.")] = None,
    skip_bad_lines: Annotated[
        bool, typer.Option("--skip-bad-lines", help="Leave out and count broken lines of JSON lines, DSJSON.")
    ] = False,
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/ope"),
    config: common.ConfigFile = None,
    overrides: common.Overrides = None,
    seed: common.Seed = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Tell what a new policy would have earned on logged data, with intervals and a plain verdict."""
    if context.invoked_subcommand is not None:
        return

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.evaluate_policy(
            logs[0] if logs is not None and len(logs) == 1 else logs,
            policy,
            target_column=target_column,
            config=config,
            overrides=overrides or (),
            out=out,
            on_step=progress,
            **common.given(
                seed=seed,
                estimators=estimator,
                interval=interval,
                confidence=confidence,
                cluster_by=cluster_by,
                segments=segment,
                outcomes=outcome,
                action_feature=action_feature,
                engine=engine,
                skip_bad_lines=skip_bad_lines or None,
            ),
        )

    common.execute(
        common.Output(json, quiet, debug),
        work,
        where=f"report: {out / 'report.html'}",
        tables=logs or (),
        models=[one for one in policy or () if one.endswith((".pt", ".onnx"))],
        config=config,
    )
