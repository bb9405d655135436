"""What a reduction costs and saves, and whether that is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from pydantic import Field

from ctrkit.config import Config
from ctrkit.evaluation.gates import GateOutcome, MetricGate, check_gates
from ctrkit.reports import Table

Quantisation: TypeAlias = Literal["int8-embeddings", "int8-linear", "bf16"]


class ExportConfig(Config):
    """How an export is reduced; by default it is not. What a reduction may cost is measured on held-out rows,
    task by task, with calibrators that were fitted again.

    Attributes:
        quantise: fewer bits: "int8-embeddings" for embedding tables, "int8-linear" for linear layers in ONNX
            Runtime, "bf16" for all that OpenVINO computes.
        low_rank: rank of the matrices of cross layers; None for full ones.
        auc_fall: the largest fall of AUC that is allowed.
        log_loss_rise: the largest rise of the log loss that is allowed.
        ece_rise: the largest rise of the expected calibration error that is allowed.
    """

    quantise: tuple[Quantisation, ...] = ()
    low_rank: int | None = Field(default=None, ge=1)
    auc_fall: float = Field(default=0.001, ge=0.0)
    log_loss_rise: float = Field(default=0.001, ge=0.0)
    ece_rise: float = Field(default=0.002, ge=0.0)

    @property
    def reduces(self) -> bool:
        """Whether the export is reduced at all."""
        return bool(self.quantise) or self.low_rank is not None


@dataclass(frozen=True)
class Change:
    """A number before and after."""

    before: float
    after: float


@dataclass(frozen=True)
class TaskChange:
    """The metrics of one task on its held-out rows, before and after.

    Attributes:
        rows: number of rows.
        auc: the area under the curve.
        log_loss: the log loss.
        ece: the expected calibration error.
        largest_difference: the largest difference of a probability.
        recalibrated: whether the task has a calibrator, which was fitted again.
    """

    rows: int
    auc: Change
    log_loss: Change
    ece: Change
    largest_difference: float
    recalibrated: bool


@dataclass(frozen=True)
class ReductionReport:
    """What a reduction costs and saves.

    Attributes:
        reductions: their names.
        tasks: task -> its metrics; tasks that the rows cannot judge are left out.
        milliseconds: median processor time to score a request's rows.
        request: their number.
        megabytes: size of the graphs that do.
        gates: whether the costs are allowed.
    """

    reductions: tuple[str, ...]
    tasks: dict[str, TaskChange]
    milliseconds: Change
    request: int
    megabytes: Change
    gates: tuple[GateOutcome, ...]

    @property
    def broken(self) -> tuple[GateOutcome, ...]:
        """The gates that broke."""
        return tuple(gate for gate in self.gates if not gate.held)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)

    def table(self) -> Table:
        """The numbers before and after."""
        return Table(
            f"Reduced: {', '.join(self.reductions)}", ("what", "before", "after"), tuple(self._rows())
        )

    def _rows(self) -> Iterator[tuple[str, float, float]]:
        for task, one in self.tasks.items():
            for name in ("auc", "log_loss", "ece"):
                change: Change = getattr(one, name)
                yield f"{task}: {name.replace('_', ' ')}", change.before, change.after
        yield f"processor time of {self.request} rows (ms)", self.milliseconds.before, self.milliseconds.after
        yield "size of the graphs (MB)", self.megabytes.before, self.megabytes.after


def gates_of(tasks: dict[str, TaskChange], config: ExportConfig) -> tuple[GateOutcome, ...]:
    """Whether the costs are allowed, task by task."""
    costs = {}
    for task, one in tasks.items():
        costs[f"{task}: fall of AUC"] = config.auc_fall, one.auc.before - one.auc.after
        costs[f"{task}: rise of log loss"] = config.log_loss_rise, one.log_loss.after - one.log_loss.before
        costs[f"{task}: rise of ECE"] = config.ece_rise, one.ece.after - one.ece.before
    gates = {name: MetricGate(maximum=most) for name, (most, _) in costs.items()}
    return check_gates(gates, {name: cost for name, (_, cost) in costs.items()})
