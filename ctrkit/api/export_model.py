"""`ctrkit export`: from an artifact to graphs that other runtimes compute, with calibrated outputs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrkit.api.keywords import takes_settings
from ctrkit.api.models.model import Model, load
from ctrkit.api.reductions.reducing import reduced_model
from ctrkit.api.reductions.report import ExportConfig, ReductionReport
from ctrkit.api.results import Result
from ctrkit.artifact import versions
from ctrkit.config import ConfigLike, settings_of
from ctrkit.data.encoded import EncodedTable
from ctrkit.progress import OnStep, silent
from ctrkit.reports import Report, Table
from ctrkit.schema.features import VALUE
from ctrkit.tables import TableLike, read_chunks

if TYPE_CHECKING:
    from ctrkit.serving.export import Answers
    from ctrkit.serving.parity import Parity
    from ctrkit.serving.reductions import Reduction

# Key of what a reduction costs and saves.
REDUCTION = "reduction"
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
        parity: rows -> how the outputs compare with those of the model, or of the reduced network, if
            there is one.
        reduction: what a reduction costs and saves; None where nothing is reduced.
    """

    model: str | None
    format: str
    out: str
    files: tuple[str, ...]
    parity: dict[str, Parity]
    reduction: ReductionReport | None = None

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
            **({} if self.reduction is None else {REDUCTION: self.reduction.to_dict()}),
        }

    def report(self) -> Report:
        rows = tuple((name, *asdict(one).values()) for name, one in self.parity.items())
        header = ("rows", "compared", "largest difference", "left out at steps of a calibrator")
        answer = f"Exported into {self.out}: {', '.join(self.files)}."
        notes = () if "real" in self.parity else ("No real rows were compared: give some with --data.",)
        tables = [Table("Graphs beside the model", header, rows)]
        if self.reduction is not None:
            tables.append(self.reduction.table())
        return Report("Export", answer, tuple(tables), notes)


@takes_settings(ExportConfig)
def export_model(
    model: str | os.PathLike[str] | Model = "model.pt",
    *,
    format: str = "onnx",
    out: str | os.PathLike[str] = "export",
    data: TableLike | None = None,
    config: ConfigLike = None,
    overrides: Sequence[str] = (),
    on_step: OnStep = silent,
    **keywords: Any,
) -> ExportResult:
    """Write a model and its calibrators as graphs: encoded rows in, calibrated probabilities out.

    One graph scores whole rows. Where the model reads a history, another scores all candidates of a request
    against one history, which a third encodes before, once. The graphs are computed on random rows, and on
    real ones where there are some, and compared with the model. Boosted trees are one operator of a graph; an
    imported model stays the file that it is, and its calibrators are the graph.

    A reduced model is smaller or quicker, and errs. Its calibrators are fitted again, and what it costs and
    saves is measured on held-out rows: of the training table the test rows, of any other table one half. The
    export keeps these numbers.

    Args:
        model: an artifact's path, or a model in memory.
        format: "onnx", "openvino", "torch-export" or "tensorrt".
        out: the folder.
        data: a table with real rows; with labels, if the model is reduced. By default the training table, if
            it is there.
        config: a config file, or settings as a mapping.
        overrides: settings as `key=value`, which replace those of the config.
        on_step: called with (graphs written, their number, what is being done).

    Raises:
        ConfigError: the format is none for the model, or a package for it is not installed.
        RunError: the outputs differ from the model's by more than 1e-5, or a reduction costs more than is
            allowed. Nothing is written then.

    Example:
        >>> import ctrkit  # doctest: +SKIP
        >>> ctrkit.export_model("model.pt", out="export").largest_difference  # doctest: +SKIP
    """
    from ctrkit.serving.export import export
    from ctrkit.serving.graphs import CalibratedModel

    settings = settings_of(ExportConfig, config, overrides, keywords)
    loaded = model if isinstance(model, Model) else load(model)
    reductions: Sequence[Reduction] = ()
    reduction = None
    if settings.reduces:
        loaded, reductions, reduction = reduced_model(loaded, settings, format, data, on_step)
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
        reductions,
        {
            "calibrated": sorted(calibrators),
            "versions": versions(),
            **({} if reduction is None else {REDUCTION: reduction.to_dict()}),
        },
        on_step,
    )
    path = None if isinstance(model, Model) else os.fspath(model)
    return ExportResult(path, format, os.fspath(out), tuple(files), parity, reduction)


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
