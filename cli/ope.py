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
            help="Bandit log in any known format, or a glob; repeatable. `--logs` may be left out (default:"
            " the sample log)."
        ),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="New policy: an artifact, an ONNX file, uniform, logging, action:ID or column:NAME;"
            " repeatable (default: model.pt).",
        ),
    ] = None,
    target_column: Annotated[
        str | None, typer.Option(help="Column with the new policy's probability of the logged action.")
    ] = None,
    estimator: Annotated[
        list[str] | None, typer.Option(help="Estimator, such as dr or switch-dr:tau=10; repeatable.")
    ] = None,
    interval: Annotated[
        str | None, typer.Option(help="Kind of interval: cressie-read, normal, betting and others.")
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(help="Confidence level of all intervals (default: 0.95).")
    ] = None,
    cluster_by: Annotated[
        str | None, typer.Option(help="Column of the independent units, or row (default: the user column).")
    ] = None,
    segment: Annotated[
        list[str] | None, typer.Option(help="Column to split the estimates by; repeatable.")
    ] = None,
    outcome: Annotated[
        list[str] | None, typer.Option(help="Reward column, such as value or cost; repeatable.")
    ] = None,
    action_feature: Annotated[
        str | None, typer.Option(help="Feature that actions share, for MIPS and OffCEM.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="Where to compute: local, or ray for a cluster.")] = None,
    unseen: Annotated[
        bool | None,
        typer.Option(
            help="Leave out the rows that an artifact was trained on (default: if 1,000 others remain).",
        ),
    ] = None,
    skip_bad_lines: common.SkipBadLines = False,
    map: common.ColumnMap = None,
    propensity: common.Propensity = None,
    out: common.RunFolder = Path("runs/ope"),
    config: common.ConfigFile = None,
    overrides: common.Overrides = None,
    seed: common.Seed = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Estimate from a log what a new policy would have earned, with intervals and a plain verdict."""
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
                map=map,
                propensity=propensity,
                seed=seed,
                estimators=estimator,
                interval=interval,
                confidence=confidence,
                cluster_by=cluster_by,
                segments=segment,
                outcomes=outcome,
                action_feature=action_feature,
                engine=engine,
                unseen=unseen,
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
