"""`ctrkit export`: from an artifact to graphs that other runtimes compute, with calibrated outputs."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrkit.api.models.model import Model, load
from ctrkit.api.results import Result
from ctrkit.artifact import versions
from ctrkit.data.encoded import EncodedTable
from ctrkit.progress import OnStep, silent
from ctrkit.reports import Report, Table
from ctrkit.schema.features import VALUE
from ctrkit.tables import TableLike, read_chunks

if TYPE_CHECKING:
    from ctrkit.serving.export import Answers
    from ctrkit.serving.parity import Parity

# Real rows that are compared.
_REAL = 512
# Logits of a graph differ by rounding, and at a step of a calibrator this decides.
_ROUNDING, _JUMP = 1e-4, 1e-3


@dataclass(frozen=True)
class ExportResult(Result):
    """An exported model.

    Attributes:
        model: the artifact's path; None for a model in memory.
        format: the format of the graphs.
        out: the folder.
        files: the files in it.
        parity: rows -> how the graphs' outputs compare with the model's.
    """

    model: str | None
    format: str
    out: str
    files: tuple[str, ...]
    parity: dict[str, Parity]

    @property
    def largest_difference(self) -> float:
        """The largest difference of a probability from the model's."""
        return max(one.largest_difference for one in self.parity.values())

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "format": self.format,
            "out": self.out,
            "files": list(self.files),
            "parity": {
                "largest_difference": self.largest_difference,
                "by_rows": {name: asdict(one) for name, one in self.parity.items()},
            },
        }

    def report(self) -> Report:
        rows = tuple((name, *asdict(one).values()) for name, one in self.parity.items())
        header = ("rows", "compared", "largest difference", "left out at steps of a calibrator")
        answer = f"Exported into {self.out}: {', '.join(self.files)}."
        notes = () if "real" in self.parity else ("No real rows were compared: give some with --data.",)
        return Report("Export", answer, (Table("Graphs beside the model", header, rows),), notes)


def export_model(
    model: str | os.PathLike[str] | Model = "model.pt",
    *,
    format: str = "onnx",
    out: str | os.PathLike[str] = "export",
    data: TableLike | None = None,
    on_step: OnStep = silent,
) -> ExportResult:
    """Write a model and its calibrators as graphs: encoded rows in, calibrated probabilities out.

    One graph scores whole rows. Where the model reads a history, another scores all candidates of a request
    against one history, which a third encodes before, once. The graphs are computed on random rows, and on
    real ones where there are some, and compared with the model. Boosted trees are one operator of a graph; an
    imported model stays the file that it is, and its calibrators are the graph.

    Args:
        model: an artifact's path, or a model in memory.
        format: "onnx", "openvino", "torch-export" or "tensorrt".
        out: the folder.
        data: a table with real rows. By default the training table, if it is there.
        on_step: called with (graphs written, their number, what is being done).

    Raises:
        ConfigError: the format is none for the model, or a package for it is not installed.
        RunError: the outputs differ from the model's by more than 1e-5. Nothing is written then.

    Example:
        >>> import ctrkit  # doctest: +SKIP
        >>> ctrkit.export_model("model.pt", out="export").largest_difference  # doctest: +SKIP
    """
    from ctrkit.serving.export import export
    from ctrkit.serving.graphs import CalibratedModel

    loaded = model if isinstance(model, Model) else load(model)
    calibrators = loaded.calibrators
    graphs = CalibratedModel(
        loaded.network,
        {task: one.calibrator for task, one in calibrators.items()},
        {task: one.field for task, one in calibrators.items() if one.field is not None},
        1.0 if loaded.value_scaling is None else loaded.value_scaling.factor,
    )
    files, parity = export(
        graphs,
        loaded.encoder,
        format,
        Path(out),
        lambda rows: _answers(loaded, rows),
        _real_rows(loaded, data),
        {"calibrated": sorted(calibrators), "versions": versions()},
        on_step,
    )
    return ExportResult(
        None if isinstance(model, Model) else os.fspath(model), format, os.fspath(out), tuple(files), parity
    )


def _real_rows(model: Model, data: TableLike | None) -> EncodedTable | None:
    """The first rows of a table, or of the training table where it still is; None where it is not."""
    if data is None:
        data = model.artifact.data["file"]
        if data is None or not Path(data).is_file():
            return None
    chunk = next(iter(read_chunks(model.rows.divisible(data), _REAL)))
    table, file = model.rows.read(chunk.table)
    return model.encoder.encode(table.head(_REAL), file, labels=False)


def _answers(model: Model, rows: EncodedTable) -> Answers:
    """What the model gives for encoded rows."""
    from ctrkit.serving.bundle import LOGITS
    from ctrkit.serving.export import Answers

    outputs = model.outputs_of(rows)
    wanted = model.probabilities(outputs.logits, rows)
    near = [model.probabilities(outputs.logits + one, rows) for one in (-_ROUNDING, _ROUNDING)]
    jumps = np.any([np.abs(near[1][task] - near[0][task]) > _JUMP for task in wanted], axis=0)
    if (value := model.values(outputs)) is not None:
        wanted[VALUE] = value
    return Answers({**wanted, LOGITS: outputs.logits}, jumps)
