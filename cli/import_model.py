"""`ctrkit import`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


class Scale(StrEnum):
    """What outputs are."""

    probability = "probability"
    logit = "logit"


def import_model(
    source: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="ONNX file with the whole model.")],
    config: Annotated[Path, typer.Option(help="YAML file with the features, as for `ctrkit train`.")],
    model: Annotated[Path, typer.Option(help="Where to write the artifact.")] = Path("model.pt"),
    features: Annotated[
        str | None, typer.Option(metavar="COLUMN,...", help="Columns of a single input, in its order.")
    ] = None,
    output: Annotated[
        list[str] | None, typer.Option(help="Output of each task, in funnel order; repeatable.")
    ] = None,
    positive: Annotated[
        int | None, typer.Option(min=0, max=1, help="Which of two numbers of a row is that of the event.")
    ] = None,
    scale: Annotated[Scale, typer.Option(help="What the outputs are.")] = Scale.probability,
    overrides: common.Overrides = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Make an artifact of an ONNX model of LightGBM, XGBoost, scikit-learn or any other library."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.import_model(
            source,
            config,
            model=model,
            features=common.listed(features),
            outputs=output,
            positive=cast(Literal[0, 1] | None, positive),
            scale=scale.value,
            overrides=overrides or (),
        )

    common.execute(
        common.Output(json, quiet, debug), work, where=f"model: {model}", models=(source,), config=config
    )
