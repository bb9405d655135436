"""`ctrkit export`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


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
    out: Annotated[Path, typer.Option(help="Folder of the exported model.")] = Path("export"),
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Write a model as graphs for other runtimes: encoded rows in, calibrated probabilities out."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.export_model(model, format=format.value, out=out, data=data, on_step=progress)

    tables = () if data is None else (data,)
    common.execute(common.Output(json, quiet, debug), work, tables=tables, models=(model,))
