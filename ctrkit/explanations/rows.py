"""Single rows told: which features and which past events made a probability."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.data.encoder import EncodedTable
from ctrkit.data.feature_map import PADDING_ID
from ctrkit.explanations.attributions import Attributions
from ctrkit.explanations.features import HISTORY, Names

_TICKS = 5


@dataclass(frozen=True)
class Contribution:
    """One step from the base to the row's probability.

    Attributes:
        feature: a static field, "past event 3" (1 is the newest), or "past events" where the method takes
            them as one.
        value: as in the table.
        logit: its share of the logit.
        probability: calibrated, after this step and those before it.
    """

    feature: str
    value: str
    logit: float
    probability: float


@dataclass(frozen=True)
class PastEvent:
    """One event of a row's history.

    Attributes:
        age: 1 for the newest.
        parts: sequence -> value, as in the table.
        logit: its share of the logit, and `by_sequence` what of it each part has; None where the method takes
            the history as one.
        attention: pooling -> the weight by which the target reads it.
    """

    age: int
    parts: dict[str, str]
    logit: float | None
    by_sequence: dict[str, float] | None
    attention: dict[str, float]


@dataclass(frozen=True)
class RowExplanation:
    """Where a row's probability comes from.

    Attributes:
        row: its number in the table, from 0.
        base_probability, probability: calibrated, of the baseline and of the row; `base_logit` and `logit`
            before calibration.
        contributions: the largest first. Their logits and `gap` add up to `logit - base_logit`.
        events: of its history, newest first.
        scale: (logit, calibrated probability) at even distances over all logits on the way.
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


def tell_rows(
    found: Attributions,
    data: EncodedTable,
    names: Names,
    numbers: Sequence[int],
    attention: Mapping[str, Floats],
    probability_of: Callable[[int, Floats], Floats],
) -> tuple[RowExplanation, ...]:
    """Attributions with the names of what they are of.

    Args:
        found: of n rows.
        data: these rows.
        numbers: their places in the table.
        attention: see `ctrkit.explanations.attention_weights`.
        probability_of: the calibrated probabilities that a row, by its place among the n, would have with
            these logits.
    """
    return tuple(
        _tell(found, data, names, row, number, attention, probability_of)
        for row, number in enumerate(numbers)
    )


def _tell(
    found: Attributions,
    data: EncodedTable,
    names: Names,
    row: int,
    number: int,
    attention: Mapping[str, Floats],
    probability_of: Callable[[int, Floats], Floats],
) -> RowExplanation:
    encoded = [*data.categorical[row].tolist(), *data.numeric[row].tolist()]
    steps = [
        (feature, names.field(position, encoded[position]), float(found.fields[row, position]))
        for position, feature in enumerate(names.feature_map.fields)
    ]
    events = _events(found, data, names, row, attention)
    if found.events is not None:
        steps += [
            (f"past event {event.age}", _short(event.parts), event.logit)
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
    attention: Mapping[str, Floats],
) -> tuple[PastEvent, ...]:
    """The events of a row, newest first."""
    if not data.sequences:
        return ()
    ids = {name: sequence[row] for name, sequence in data.sequences.items()}
    present = np.flatnonzero(np.any([sequence != PADDING_ID for sequence in ids.values()], axis=0))
    length = len(next(iter(ids.values())))
    told = []
    for place in present[::-1].tolist():
        shares = None if found.events is None else found.events[row, place]
        told.append(
            PastEvent(
                length - place,
                names.event({name: int(sequence[place]) for name, sequence in ids.items()}),
                None if shares is None else float(shares.sum()),
                None if shares is None else dict(zip(ids, shares.tolist(), strict=True)),
                {pooling: float(weights[row, place]) for pooling, weights in attention.items()},
            )
        )
    return tuple(told)


def _short(parts: Mapping[str, str]) -> str:
    """An event in one cell."""
    return " · ".join(parts.values())
