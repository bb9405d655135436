"""The results of `ctrkit explain`: for a model as a whole, or for single rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from ctrkit.api.results import Result
from ctrkit.explanations import (
    Dependence,
    EmbeddingMap,
    FusionGate,
    FusionShares,
    Importance,
    RowExplanation,
)
from ctrkit.reports import DrawFigure, Drawings, Report, Table
from ctrkit.reports.cells import Change, Value, share, text
from ctrkit.reports.explanation_figures import (
    dependence_figure,
    gates_figure,
    importance_figure,
    map_figure,
    row_figure,
)

# The number of contributions in the table of a row; the JSON has all.
_STEPS = 15


@dataclass(frozen=True)
class ModelExplanation(Result):
    """What a model's predictions depend on, over many rows.

    Attributes:
        model: the model's path; None for a model in memory.
        task: the task that is explained.
        rows: the number of rows.
        importance: the importance of each feature, the most important first.
        method: the method of the shares.
        shares: feature -> mean absolute share of the logit; None if left out.
        largest_gap: the largest part of a row's logit difference that its shares do not explain, in logits.
        gates: the weights in each fusion of the network.
        dependence: partial dependence on the features shown.
        map: the map of embeddings, if there is one.
        map_by_frequency: whether the map is coloured by frequency.
        notes: sentences about the rows and the shares.
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
        return Report(
            f"What predictions of {self.task} depend on",
            self._answer(),
            (self._importance_table(), *(_gate_table(gate) for gate in self.gates)),
            self.notes,
        )

    def figures(self) -> Drawings:
        drawings: dict[str, DrawFigure] = {
            "importance": partial(importance_figure, self.importance, self.shares)
        }
        if self.gates:
            drawings["gates"] = partial(gates_figure, self.gates)
        for number, one in enumerate(self.dependence, start=1):
            name = f"dependence_{number}"
            drawings[name] = partial(dependence_figure, name, one, self.task)
        if self.map is not None:
            by = self.map_by_frequency
            drawings["map"] = partial(map_figure, self.map, self.task, by_frequency=by)
        return drawings

    def _answer(self) -> str:
        clear = [one for one in self.importance if one.auc.low > 0.0]
        if not clear:
            return f"{self.task}: no feature lowers AUC beyond noise when shuffled, on {self.rows:,} rows."
        named = ", ".join(f"{one.feature} ({text(one.auc.value)})" for one in clear[:3])
        return f"{self.task}: AUC falls most when these features are shuffled: {named}."

    def _importance_table(self) -> Table:
        header: tuple[str, ...] = ("feature", "fall of AUC", "rise of log loss")
        rows: list[tuple[Value, ...]] = [(one.feature, one.auc, one.log_loss) for one in self.importance]
        if self.shares is not None:
            header = (*header, f"mean |share| ({self.method})")
            rows = [(*row, self.shares[one.feature]) for row, one in zip(rows, self.importance, strict=True)]
        return Table(f"{self.task}: importance of each feature, on {self.rows:,} rows", header, tuple(rows))


@dataclass(frozen=True)
class RowsExplanation(Result):
    """How much each feature and each past event contributed to the probabilities of single rows.

    Attributes:
        model: the model's path; None for a model in memory.
        task: the task that is explained.
        method: the method of the shares.
        baseline: what the rows are compared with, in words.
        rows: the explanation of each row.
        notes: sentences about the shares.
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
            "rows": [explained.to_dict() for explained in self.rows],
            "notes": list(self.notes),
        }

    def report(self) -> Report:
        tables: list[Table] = []
        for explained in self.rows:
            tables.append(_row_table(explained, self.task))
            if explained.events:
                tables.append(_event_table(explained))
        answer = " ".join(
            f"Row {explained.row}: p({self.task}) is {text(share(explained.probability))}, and "
            f"{text(share(explained.base_probability))} for {self.baseline}."
            for explained in self.rows
        )
        title = f"Contributions to the probability of {self.task}"
        return Report(title, answer, tuple(tables), self.notes)

    def figures(self) -> Drawings:
        names = {f"row_{explained.row}": explained for explained in self.rows}
        return {name: partial(row_figure, name, explained, self.task) for name, explained in names.items()}


def _row_table(explained: RowExplanation, task: str) -> Table:
    rows: list[tuple[Value, ...]] = [("base", "", explained.base_logit, share(explained.base_probability))]
    kept, rest = explained.contributions[:_STEPS], explained.contributions[_STEPS:]
    rows += [(c.feature, c.value, Change(c.logit), share(c.probability)) for c in kept]
    if rest:
        last = rest[-1].probability
        rows.append((f"{len(rest)} others", "", Change(sum(c.logit for c in rest)), share(last)))
    if abs(explained.gap) >= 5e-5:
        rows.append(("not attributed", "", Change(explained.gap), share(explained.probability)))
    rows.append(("this row", "", explained.logit, share(explained.probability)))
    return Table(
        f"Row {explained.row}: contributions to the probability of {task}",
        ("feature", "value", "logit", "probability so far"),
        tuple(rows),
    )


def _event_table(explained: RowExplanation) -> Table:
    # Events of several domains have other parts and poolings.
    sequences = tuple(dict.fromkeys(name for event in explained.events for name in event.parts))
    poolings = tuple(dict.fromkeys(name for event in explained.events for name in event.attention))
    rows = tuple(
        (
            event.age,
            *(event.parts.get(name, "") for name in sequences),
            None if event.logit is None else Change(event.logit),
            *(event.attention.get(name) for name in poolings),
        )
        for event in explained.events
    )
    header = ("age", *sequences, "logit", *(f"weight ({name})" for name in poolings))
    return Table(f"Row {explained.row}: past events, the newest first", header, rows)


def _gate_table(gate: FusionGate) -> Table:
    if isinstance(gate, FusionShares):
        shares = tuple((operation, share(part)) for operation, part in gate.shares.items())
        return Table(f"Fusion: {gate.name}", ("operation", "share"), shares)
    content = gate.to_dict()
    rows = tuple(
        (f"{level:.0%} of rows below", share(value))
        for level, value in zip(content["levels"], content["quantiles_over_rows"], strict=True)
    )
    header = ("gate", f"share of {gate.first} (the rest is {gate.second})")
    return Table(f"Fusion: {gate.name}", header, (("mean", share(content["mean"])), *rows))
