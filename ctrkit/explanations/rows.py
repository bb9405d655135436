"""Explanations of single rows: the contribution of each feature and past event to the probability."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import PADDING_ID
from ctrkit.explanations.attributions import Attributions
from ctrkit.explanations.features import HISTORY, Names

_TICKS = 5


@dataclass(frozen=True)
class Contribution:
    """One step from the base to the row's probability.

    Attributes:
        feature: a static field, "past event 3" (1 is the newest), or "past events" if the method treats them
            as one unit.
        value: the value in the table.
        logit: the share of the logit.
        probability: the calibrated probability after this step and all steps before it.
    """

    feature: str
    value: str
    logit: float
    probability: float


@dataclass(frozen=True)
class PastEvent:
    """One event of a row's history.

    Attributes:
        age: 1 for the newest event of its domain.
        parts: sequence -> value in the table.
        logit: the event's share of the logit; None if the method treats the history as one unit.
        by_sequence: sequence -> the share of this part of the event; None likewise.
        attention: pooling -> the target's attention weight on the event.
    """

    age: int
    parts: dict[str, str]
    logit: float | None
    by_sequence: dict[str, float] | None
    attention: dict[str, float]


@dataclass(frozen=True)
class RowExplanation:
    """The contributions to one row's probability.

    Attributes:
        row: the row's index in the table, from 0.
        base_logit: the baseline's logit, before calibration.
        base_probability: the baseline's calibrated probability.
        logit: the row's logit, before calibration.
        probability: the row's calibrated probability.
        gap: the part of the logit difference that no contribution explains.
        contributions: the contributions, the largest first. Their logits and `gap` add up to
            `logit - base_logit`.
        events: the events of the row's history, newest first; of several domains, one after another.
        scale: pairs (logit, calibrated probability) at equal distances, for the axes of the figure.
    """

    row: int
    base_logit: float
    base_probability: float
    logit: float
    probability: float
    gap: float
    contributions: tuple[Contribution, ...]
    events: tuple[PastEvent, ...]
    scale: tuple[tuple[float, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)


def explain_rows(
    found: Attributions,
    data: EncodedTable,
    names: Names,
    numbers: Sequence[int],
    attention: Sequence[Mapping[str, Floats]],
    probability_of: Callable[[int, Floats], Floats],
) -> tuple[RowExplanation, ...]:
    """The explanations of rows: their attributions with the names of features and values.

    Args:
        found: the attributions of n rows.
        data: these rows.
        names: the names of encoded values.
        numbers: the indices of these rows in the table.
        attention: attention weights, as `ctrkit.explanations.attention_weights` gives them; none if empty.
        probability_of: (position of a row among the n, logits) -> the calibrated probabilities that the row
            would have with these logits.
    """
    return tuple(
        _explain(found, data, names, row, number, attention, probability_of)
        for row, number in enumerate(numbers)
    )


def _explain(
    found: Attributions,
    data: EncodedTable,
    names: Names,
    row: int,
    number: int,
    attention: Sequence[Mapping[str, Floats]],
    probability_of: Callable[[int, Floats], Floats],
) -> RowExplanation:
    shares = found.fields[row].tolist()
    steps = list(zip(names.feature_map.fields, names.row(data, row), shares, strict=True))
    events = _events(found, data, names, row, attention)
    if found.events is not None:
        steps += [
            (_called(event, names), _short(event.parts), event.logit)
            for event in events
            if event.logit is not None
        ]
    elif data.sequences:
        steps.append((HISTORY, f"{len(events)} events", float(found.history[row])))
    steps.sort(key=lambda step: -abs(step[2]))
    logits = found.base[row] + np.cumsum([0.0, *(share for _, _, share in steps)])
    passed = np.append(logits, found.final[row])
    ticks = np.linspace(passed.min(), passed.max(), _TICKS)
    ends = probability_of(row, passed)
    contributions = tuple(Contribution(*step, float(p)) for step, p in zip(steps, ends[1:-1], strict=True))
    return RowExplanation(
        number,
        float(found.base[row]),
        float(ends[0]),
        float(found.final[row]),
        float(ends[-1]),
        float(found.gap[row]),
        contributions,
        events,
        tuple(zip(ticks.tolist(), probability_of(row, ticks).tolist(), strict=True)),
    )


def _events(
    found: Attributions,
    data: EncodedTable,
    names: Names,
    row: int,
    attention: Sequence[Mapping[str, Floats]],
) -> tuple[PastEvent, ...]:
    """The events of a row, newest first, one domain after another."""
    events = []
    for place, domain in enumerate(names.feature_map.by_domain() if data.sequences else ()):
        ids = {name: data.sequences[name][row : row + 1][0] for name in domain.sequences}
        present = np.any([sequence != PADDING_ID for sequence in ids.values()], axis=0)
        columns = [list(data.sequences).index(name) for name in ids]
        weights = attention[place].items() if attention else ()
        for age in (np.flatnonzero(present[::-1]) + 1).tolist():
            shares = None if found.events is None else found.events[row, -age, columns]
            events.append(
                PastEvent(
                    age,
                    names.event({name: int(sequence[-age]) for name, sequence in ids.items()}),
                    None if shares is None else float(shares.sum()),
                    None if shares is None else dict(zip(ids, shares.tolist(), strict=True)),
                    {pooling: float(of_rows[row, -age]) for pooling, of_rows in weights},
                )
            )
    return tuple(events)


def _called(event: PastEvent, names: Names) -> str:
    """An event as a step."""
    several = f" of {next(iter(event.parts))}" if names.feature_map.domains else ""
    return f"past event {event.age}{several}"


def _short(parts: Mapping[str, str]) -> str:
    """An event as the text of one cell."""
    return " · ".join(parts.values())
