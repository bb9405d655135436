"""What `ctrkit explain` found: of a model as a whole, or of single rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ctrkit.api.results import Result
from ctrkit.explanations import (
    Dependence,
    EmbeddingMap,
    FusionGate,
    FusionShares,
    Importance,
    Repeated,
    RowExplanation,
)
from ctrkit.reports import Figure, Report, Table
from ctrkit.reports.explanation_figures import (
    dependence_figure,
    gates_figure,
    importance_figure,
    map_figure,
    row_figure,
)

# Steps of a row that its table shows; the JSON holds all.
_STEPS = 15


@dataclass(frozen=True)
class ModelExplanation(Result):
    """What a model goes by, over many rows.

    Attributes:
        task: that is explained, on so many `rows`.
        importance: by feature, the most important first.
        shares: feature -> mean size of its share of a logit, by `method`; None where left out.
        largest_gap: what the shares of any row miss of its logit difference, in logits.
        map_by_frequency: whether the map is coloured by frequency.
    """

    model: str | None
    task: str
    rows: int
    importance: tuple[Importance, ...]
    method: str
    shares: dict[str, float] | None
    largest_gap: float | None
    gates: tuple[FusionGate, ...]
    dependence: tuple[Dependence, ...]
    map: EmbeddingMap | None
    map_by_frequency: bool
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "task": self.task,
            "rows": self.rows,
            "importance": [one.to_dict() for one in self.importance],
            "attributions": None
            if self.shares is None
            else {"method": self.method, "mean_absolute": self.shares, "largest_gap": self.largest_gap},
            "fusion": [gate.to_dict() for gate in self.gates],
            "partial_dependence": [one.to_dict() for one in self.dependence],
            "embedding_map": None if self.map is None else self.map.to_dict(),
            "notes": list(self.notes),
        }

    def report(self) -> Report:
        figures = [importance_figure(self.importance, self.shares)]
        figures += [gates_figure(self.gates)] if self.gates else []
        figures += [
            dependence_figure(f"dependence_{number}", one, self.task)
            for number, one in enumerate(self.dependence, start=1)
        ]
        if self.map is not None:
            figures.append(map_figure(self.map, self.task, by_frequency=self.map_by_frequency))
        return Report(
            f"Why the model says what it says of {self.task}",
            self._answer(),
            (self._importance_table(), *(_gate_table(gate) for gate in self.gates)),
            tuple(figures),
            self.notes,
        )

    def _answer(self) -> str:
        clear = [one for one in self.importance if one.auc.low > 0.0]
        if not clear:
            return f"{self.task}: no feature is surely worth anything on these {self.rows:,} rows."
        named = ", ".join(f"{one.feature} ({one.auc.value:.4f})" for one in clear[:3])
        return f"{self.task}: AUC falls most without {named}."

    def _importance_table(self) -> Table:
        rows = tuple(
            (
                one.feature,
                _interval(one.auc),
                _interval(one.log_loss),
                "–" if self.shares is None else f"{self.shares[one.feature]:.4f}",
            )
            for one in self.importance
        )
        header = ("feature", "fall of AUC", "rise of log loss", f"mean |share| ({self.method})")
        return Table(f"{self.task}: what each feature is worth, on {self.rows:,} rows", header, rows)


@dataclass(frozen=True)
class RowsExplanation(Result):
    """Which features and which past events made the probabilities of single rows.

    Attributes:
        baseline: what the rows are compared with, in words.
    """

    model: str | None
    task: str
    method: str
    baseline: str
    rows: tuple[RowExplanation, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "task": self.task,
            "method": self.method,
            "baseline": self.baseline,
            "rows": [told.to_dict() for told in self.rows],
            "notes": list(self.notes),
        }

    def report(self) -> Report:
        tables: list[Table] = []
        figures: list[Figure] = []
        for told in self.rows:
            tables.append(_row_table(told, self.task))
            if told.events:
                tables.append(_event_table(told))
            figures.append(row_figure(f"row_{told.row}", told, self.task))
        answer = " ".join(
            f"Row {told.row}: p({self.task}) is {told.probability:.2%}, and {told.base_probability:.2%} "
            f"for {self.baseline}."
            for told in self.rows
        )
        title = f"Why these probabilities of {self.task}"
        return Report(title, answer, tuple(tables), tuple(figures), self.notes)


def _row_table(told: RowExplanation, task: str) -> Table:
    rows = [("base", "", f"{told.base_logit:.4f}", f"{told.base_probability:.3%}")]
    kept, rest = told.contributions[:_STEPS], told.contributions[_STEPS:]
    rows += [(c.feature, c.value, f"{c.logit:+.4f}", f"{c.probability:.3%}") for c in kept]
    if rest:
        last = rest[-1].probability
        rows.append((f"{len(rest)} others", "", f"{sum(c.logit for c in rest):+.4f}", f"{last:.3%}"))
    if abs(told.gap) >= 5e-5:
        rows.append(("not attributed", "", f"{told.gap:+.4f}", f"{told.probability:.3%}"))
    rows.append(("this row", "", f"{told.logit:.4f}", f"{told.probability:.3%}"))
    return Table(
        f"Row {told.row}: what made the probability of {task}",
        ("feature", "value", "logit", "probability so far"),
        tuple(rows),
    )


def _event_table(told: RowExplanation) -> Table:
    sequences = tuple(told.events[0].parts)
    readouts = tuple(told.events[0].attention)
    rows = tuple(
        (
            str(event.age),
            *(event.parts.get(name, "") for name in sequences),
            "–" if event.logit is None else f"{event.logit:+.4f}",
            *(f"{event.attention[name]:+.3f}" for name in readouts),
        )
        for event in told.events
    )
    header = ("age", *sequences, "logit", *(f"weight ({name})" for name in readouts))
    return Table(f"Row {told.row}: past events, the newest first", header, rows)


def _gate_table(gate: FusionGate) -> Table:
    if isinstance(gate, FusionShares):
        shares = tuple((operation, f"{share:.3f}") for operation, share in gate.shares.items())
        return Table(f"Fusion: {gate.name}", ("operation", "share"), shares)
    content = gate.to_dict()
    rows = tuple(
        (f"{level:.0%} of rows below", f"{value:.3f}")
        for level, value in zip(content["levels"], content["quantiles_over_rows"], strict=True)
    )
    header = ("gate", f"share of {gate.first} against {gate.second}")
    return Table(f"Fusion: {gate.name}", header, (("mean", f"{content['mean']:.3f}"), *rows))


def _interval(found: Repeated) -> str:
    return f"{found.value:.5f} [{found.low:.5f}, {found.high:.5f}]"
