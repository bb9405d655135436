"""The rows of a log by period of time, each judged as far as it can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl

from ctrkit.api.evaluation.of_model import money_of
from ctrkit.api.evaluation.rows import (
    HeldOut,
    drift_since_training,
    held_out_rows,
    unknown_since_training,
)
from ctrkit.api.models.labelled import table_or_own
from ctrkit.api.models.model import Model
from ctrkit.api.models.training_config import TrainConfig, read_training_table
from ctrkit.arrays import Floats, Integers
from ctrkit.data.encoder import Encoder
from ctrkit.data.fingerprints import times_of
from ctrkit.data.labels import read_weights
from ctrkit.data.raw_encoder import RawEncoder
from ctrkit.errors import DataError
from ctrkit.evaluation.drift import Drift
from ctrkit.evaluation.measures import MAIN, Drawing, Measured, measure
from ctrkit.evaluation.unknown import UnknownShare
from ctrkit.schema import SERVED_PREFIX
from ctrkit.tables import TableLike

Length: TypeAlias = Literal["hour", "day", "week"]
SECONDS: Mapping[Length, int] = {"hour": 3600, "day": 86_400, "week": 7 * 86_400}
# Metrics that do not need groups, in the order in which they are shown.
WATCHED = tuple(one for one in MAIN if not one.grouped)
# More periods are too many to read.
MOST = 1000


@dataclass(frozen=True)
class Skew:
    """How far the probabilities that were served are from those of the model.

    Attributes:
        rows: number of rows with a served probability.
        mean: mean difference, served minus model.
        largest: largest absolute difference.
    """

    rows: int
    mean: float
    largest: float


@dataclass(frozen=True)
class Period:
    """Some rows of a log.

    Attributes:
        name: when they were, or `all`.
        rows: their number.
        predicted: task -> mean probability, given the task before it.
        quantiles: task -> the 1st, 50th and 99th percentile of the probabilities.
        known: task -> number of rows where the label is known and the task before it happened.
        observed: task -> share of these rows where it happened; absent without any.
        measured: task -> its metrics on these rows.
        drifts: drift of each column since training, largest first; None if the training rows are not known.
        unknown: share of unknown ids of each column.
        missing: feature -> share of rows without a value, beyond that of training.
        shift: numeric feature -> mean of the scaled numbers, minus that of training.
        money: clicks and money of the rows whose labels are all known.
        skew: task -> how far the served probabilities are from the model's, where the log has them.
    """

    name: str
    rows: int
    predicted: dict[str, float]
    quantiles: dict[str, tuple[float, float, float]]
    known: dict[str, int]
    observed: dict[str, float]
    measured: dict[str, Measured]
    drifts: tuple[Drift, ...] | None
    unknown: tuple[UnknownShare, ...]
    missing: dict[str, float]
    shift: dict[str, float]
    money: dict[str, float]
    skew: dict[str, Skew]

    @property
    def psi(self) -> Drift | None:
        """The largest drift."""
        return self.drifts[0] if self.drifts else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "name": self.name,
            "rows": self.rows,
            "predicted": self.predicted,
            "quantiles": {task: list(of) for task, of in self.quantiles.items()},
            "known": self.known,
            "observed": self.observed,
            "measured": {
                task: {name: None if one is None else one.to_dict() for name, one in of.intervals.items()}
                for task, of in self.measured.items()
            },
            "drifts": None if self.drifts is None else [one.to_dict() for one in self.drifts],
            "unknown": [one.to_dict() for one in self.unknown],
            "missing": self.missing,
            "shift": self.shift,
            "money": self.money,
            "skew": {task: vars(one) for task, one in self.skew.items()},
        }


def rows_of_log(model: Model, data: TableLike | None) -> HeldOut:
    """The rows of a log; without labels in the table none is known.

    Args:
        model: the model.
        data: the table; None for the test rows of the training table.

    Raises:
        DataError: the table is faulty.
    """
    try:
        return held_out_rows(model, data)
    except DataError as error:
        if error.column not in model.spec.labels.values():
            raise
    config = TrainConfig.model_validate(model.artifact.config)
    table, file = read_training_table(config, table_or_own(model, data))
    named = model.spec.weight is not None and model.spec.weight in table.columns
    weight = read_weights(model.spec.weight, table, file) if named else np.ones(table.height)
    table, weight = table.filter(weight > 0), weight[weight > 0]
    labels = np.full((table.height, len(model.tasks)), np.nan)
    note = "The log has no labels, so nothing is known of calibration, clicks and money."
    return HeldOut(table, file, labels, weight, None, None, {}, (note, *model.encoder.unlike(table)))


class Judge:
    """Judges parts of a log.

    Args:
        model: the model.
        rows: all rows; labels that are not known are NaN.
        columns: the log's names of money and counts.
        confidence: confidence level of all intervals.
    """

    def __init__(
        self, model: Model, rows: HeldOut, columns: Mapping[str, str], confidence: float = 0.95
    ) -> None:
        self._model, self._rows, self._columns = model, rows, columns
        self._confidence = confidence
        encoded = model.encoder.encode(rows.table, rows.file, labels=False)
        self._predicted = model.probabilities(model.outputs_of(encoded).logits, encoded)
        self._numbers = encoded.numeric

    def judge(self, name: str, of: Integers) -> Period:
        """Judge some rows.

        Args:
            name: what they are called.
            of: which they are.
        """
        part, model = self._part(of), self._model
        predicted = {task: values[of] for task, values in self._predicted.items()}
        known: dict[str, int] = {}
        observed: dict[str, float] = {}
        measured: dict[str, Measured] = {}
        before = np.ones(of.size, dtype=np.bool_)
        for place, (task, values) in enumerate(predicted.items()):
            labels = part.labels[:, place]
            rows = before & ~np.isnan(labels)
            known[task], before = int(rows.sum()), rows & (labels == 1)
            if rows.any():
                observed[task] = float(np.average(labels[rows], weights=part.weight[rows]))
                groups = None if part.groups is None else part.groups[rows]
                drawing = Drawing(confidence=self._confidence)
                measured[task] = measure(
                    WATCHED, labels[rows], values[rows], groups, drawing, part.weight[rows]
                )
        drifts, _ = drift_since_training(model, part)
        return Period(
            name,
            of.size,
            {task: float(np.average(values, weights=part.weight)) for task, values in predicted.items()},
            {task: _quantiles(values) for task, values in predicted.items()},
            known,
            observed,
            measured,
            drifts,
            unknown_since_training(model, part),
            _missing(model.encoder, part.table),
            self._shift(of),
            money_of(model, part, self._columns)[0] if any(known.values()) else {},
            {
                task: one
                for task in predicted
                if (one := _skew(part.table, task, predicted[task])) is not None
            },
        )

    def _shift(self, of: Integers) -> dict[str, float]:
        encoder = self._model.encoder
        if isinstance(encoder, RawEncoder):  # it scales nothing
            return {}
        names = [one.name for one in encoder.spec.numeric]
        numbers = {name: self._numbers[of, place] for place, name in enumerate(names)}
        there = {name: values[~np.isnan(values)] for name, values in numbers.items()}
        return {
            name: float(values.mean(dtype=np.float64)) - encoder.scales[name].centre
            for name, values in there.items()
            if values.size
        }

    def _part(self, of: Integers) -> HeldOut:
        rows = self._rows
        return replace(
            rows,
            table=rows.table[of],
            labels=rows.labels[of],
            weight=rows.weight[of],
            groups=None if rows.groups is None else rows.groups[of],
            values=None if rows.values is None else rows.values[of],
        )


def periods_of(model: Model, rows: HeldOut, length: Length | None) -> Iterator[tuple[str, Integers]]:
    """The periods of a log in the order of time, and their rows; none without times.

    Args:
        model: knows the column of times.
        rows: the rows.
        length: length of a period; None for one that suits the log: hours within three days, days within a
            quarter, else weeks. Days and weeks begin in UTC; weeks begin on Mondays.

    Raises:
        DataError: there are too many periods.
    """
    times = times_of(model.spec, rows.table)
    if times is None or not times.size:
        return
    whole = float(times.max() - times.min())
    length = length or ("hour" if whole <= 3 * 86_400 else "day" if whole <= 92 * 86_400 else "week")
    # The first day of 1970 was a Thursday.
    shift = 3 * 86_400 if length == "week" else 0
    number = ((times + shift) // SECONDS[length]).astype(np.int64)
    found, place = np.unique(number, return_inverse=True)
    if found.size > MOST:
        raise DataError(
            f"the log has rows in {found.size:,} periods of one {length}",
            file=rows.file,
            column=model.spec.timestamp,
            hint="Give a longer period with --by, or a part of the log",
        )
    order = np.argsort(place, kind="stable")
    for one, of in zip(found, np.split(order, np.cumsum(np.bincount(place))[:-1]), strict=True):
        start = datetime.fromtimestamp(int(one) * SECONDS[length] - shift, UTC)
        yield start.strftime("%Y-%m-%d %H:00" if length == "hour" else "%Y-%m-%d"), of


def _quantiles(values: Floats) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values, (0.01, 0.5, 0.99)).tolist()
    return low, middle, high


def _missing(encoder: Encoder, table: pl.DataFrame) -> dict[str, float]:
    """Feature -> share of rows without a value, beyond that of training."""
    found: dict[str, float] = {}
    for name in encoder.spec.feature_columns:
        column = table[name]
        absent = column.is_null()
        if column.dtype.is_nested():
            absent |= column.list.len().fill_null(0) == 0
        elif column.dtype.is_float():
            absent |= column.is_nan().fill_null(value=False)
        found[name] = int(absent.sum()) / max(table.height, 1) - encoder.usual_missing.get(name, 0.0)
    return found


def _skew(table: pl.DataFrame, task: str, predicted: Floats) -> Skew | None:
    """How far the column of what was served is from the predictions; None without one."""
    name = f"{SERVED_PREFIX}{task}"
    if name not in table.columns or not table[name].dtype.is_numeric():
        return None
    apart = table[name].cast(pl.Float64).to_numpy() - predicted
    apart = apart[np.isfinite(apart)]
    return Skew(apart.size, float(apart.mean()), float(np.abs(apart).max())) if apart.size else None
