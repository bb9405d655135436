"""`ctrkit export`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


class Quantisation(StrEnum):
    """What gets fewer bits."""

    int8_embeddings = "int8-embeddings"
    int8_linear = "int8-linear"
    bf16 = "bf16"


class Format(StrEnum):
    """Formats of graphs."""

    onnx = "onnx"
    openvino = "openvino"
    tensorrt = "tensorrt"
    torch_export = "torch-export"


def export_model(
    model: Annotated[Path, typer.Argument(help="Artifact to export.")] = Path("model.pt"),
    format: Annotated[Format, typer.Option(help="Format of the graphs.")] = Format.onnx,
    data: Annotated[
        Path | None, typer.Option(help="Table with real rows to compare on; by default the training table.")
    ] = None,
    quantise: Annotated[
        list[Quantisation] | None,
        typer.Option(help="Fewer bits, unless held-out rows show that this costs too much; repeatable."),
    ] = None,
    low_rank: Annotated[
        int | None, typer.Option(help="Rank of the matrices of cross layers, under the same condition.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the exported model.")] = Path("export"),
    config: common.ConfigFile = None,
    overrides: common.Overrides = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Write a model as graphs for other runtimes: encoded rows in, calibrated probabilities out."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        given: dict[str, Any] = {"quantise": [one.value for one in quantise]} if quantise else {}
        if low_rank is not None:
            given["low_rank"] = low_rank
        return ctrkit.export_model(
            model,
            format=format.value,
            out=out,
            data=data,
            config=config,
            overrides=overrides or (),
            on_step=progress,
            **given,
        )

    tables = () if data is None else (data,)
    common.execute(common.Output(json, quiet, debug), work, tables=tables, models=(model,), config=config)
