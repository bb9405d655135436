"""`ctrkit predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


def predict(
    model: Annotated[Path, typer.Argument(help="Artifact that predicts.")],
    data: Annotated[Path, typer.Argument(help="Table with the feature columns.")],
    out: Annotated[Path, typer.Option(help="File of predictions: .parquet, .csv or .jsonl.")] = Path(
        "predictions.parquet"
    ),
    key: Annotated[
        list[str] | None,
        typer.Option(help="Column that is written beside the predictions; repeatable."),
    ] = None,
    config: common.ConfigFile = None,
    overrides: common.Overrides = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Predict every row of a table: calibrated probabilities, one column a task, in bounded memory."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.predict(
            model,
            data,
            out=out,
            config=config,
            overrides=overrides or (),
            on_step=progress,
            **common.given(keys=key),
        )

    common.execute(common.Output(json, quiet, debug), work, tables=(data,), models=(model,), config=config)
