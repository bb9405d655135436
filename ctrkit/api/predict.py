"""`ctrkit predict`: rows in, calibrated probabilities out, in bounded memory."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from pydantic import Field

from ctrkit.api.keywords import takes_settings
from ctrkit.api.models.model import Model, load
from ctrkit.api.results import Result
from ctrkit.config import Config, ConfigLike, settings_of
from ctrkit.data.unlike import LOOK_AT
from ctrkit.errors import ConfigError, DataError, DataWarning, nearest
from ctrkit.progress import OnStep, silent
from ctrkit.reports import Report, Table
from ctrkit.schema import FeatureSpec
from ctrkit.tables import TableLike, check_writable, name_of, read_chunks, table_writer

# The key of a row where the table has no id of events.
ROW = "row"
_EVENT = "event_id"


class PredictConfig(Config):
    """What is written beside the probabilities.

    Attributes:
        keys: columns of the table that say which row a prediction belongs to. By default `event_id` or, where
            there is none, the row number; and the group, the time and the candidate's id of the feature spec.
        chunk: number of rows that are predicted at a time.
    """

    keys: tuple[str, ...] | None = None
    chunk: int = Field(default=65_536, ge=1)


@dataclass(frozen=True)
class PredictedColumn:
    """A column of predictions in short.

    Attributes:
        mean: mean over all rows.
        lowest: the lowest prediction.
        highest: the highest prediction.
    """

    mean: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class PredictionResult(Result):
    """The predictions of a table.

    Attributes:
        model: the model's path; None for a model in memory.
        data: name of the table.
        out: the file of predictions; None where none was written.
        rows: number of rows.
        keys: columns that say which row a prediction belongs to.
        columns: column of predictions -> its mean and range; empty without rows.
        notes: notes for the user.
        table: keys and predictions; None where they were written to a file.
    """

    model: str | None
    data: str
    out: str | None
    rows: int
    keys: tuple[str, ...]
    columns: dict[str, PredictedColumn]
    notes: tuple[str, ...]
    table: pl.DataFrame | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "data": self.data,
            "out": self.out,
            "rows": self.rows,
            "keys": list(self.keys),
            "columns": {name: vars(one) for name, one in self.columns.items()},
            "notes": list(self.notes),
        }

    def report(self) -> Report:
        rows = tuple((name, one.mean, one.lowest, one.highest) for name, one in self.columns.items())
        header = ("column", "mean", "lowest", "highest")
        answer = f"{self.rows:,} rows predicted{'' if self.out is None else f' into {self.out}'}."
        keys = f"Each has the key {', '.join(self.keys)}."
        return Report("Predictions", answer, (Table("Predictions", header, rows),), (keys, *self.notes))


@takes_settings(PredictConfig)
def predict(
    model: str | os.PathLike[str] | Model = "model.pt",
    data: TableLike | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    config: ConfigLike = None,
    overrides: Sequence[str] = (),
    on_step: OnStep = silent,
    **keywords: Any,
) -> PredictionResult:
    """Predict every row of a table: the columns of `Model.predict`, with the key of each row before them.

    A file is read and written chunk by chunk, so that memory does not grow with it.

    Args:
        model: an artifact's path, or a model in memory.
        data: a table with the feature columns; labels are not read.
        out: the file of predictions, `.parquet`, `.csv` or `.jsonl`; None to keep them in memory.
        config: a config file, or settings as a mapping.
        overrides: settings as `key=value`, which replace those of the config.
        on_step: called with (rows or bytes done, their number, what is being done).

    Warns:
        DataWarning: the rows are unlike the training rows (see `Model.predict`).

    Raises:
        DataError: the table is faulty, or lacks a key.

    Example:
        >>> import ctrkit, polars
        >>> rows = polars.read_parquet(ctrkit.sample_logs().files[-1])  # impressions
        >>> model = ctrkit.train(data=rows[:5_000], network="lr").trained
        >>> ctrkit.predict(model, rows[5_000:15_000]).table.columns
        ['event_id', 'user_id', 'timestamp', 'ad_id', 'click', 'conversion']
    """
    settings = settings_of(PredictConfig, config, overrides, keywords)
    if data is None:
        raise ConfigError("there are no rows to predict", hint="Give a table as DATA")
    if out is not None:
        check_writable(out)
    loaded = model if isinstance(model, Model) else load(model)
    sums: dict[str, float] = {}
    ranges: dict[str, tuple[float, float]] = {}
    kept, sample = list[pl.DataFrame](), _Sample(loaded.spec)
    keys: tuple[str, ...] = ()
    rows = 0
    with _writer(out, kept) as write:
        for chunk in read_chunks(loaded.rows.divisible(data), settings.chunk):
            on_step(chunk.done, chunk.total, "predicting")
            table, _ = loaded.spec.read(chunk.table, may_be_empty=True)
            sample.add(table)
            keys = keys or _keys(settings, loaded.spec, table, name_of(data))
            found = pl.DataFrame(loaded.predictions(loaded.encoder.encode(table, chunk.file, labels=False)))
            numbered = table.with_row_index(ROW, rows) if ROW in keys and ROW not in table.columns else table
            write(pl.concat([numbered.select(_apart(keys, found)), found], how="horizontal"))
            for name, column in found.to_dict().items() if table.height else ():
                p = column.to_numpy()
                low, high = ranges.get(name, (p[0], p[0]))
                ranges[name] = min(low, float(p.min())), max(high, float(p.max()))
                sums[name] = sums.get(name, 0.0) + float(p.sum())
            rows += table.height
    notes = (*loaded.encoder.unlike(sample.rows), *loaded.warnings_of_use)
    for note in notes:
        warnings.warn(note, DataWarning, stacklevel=3)
    raw = [task for task in loaded.tasks if task not in loaded.calibrators]
    uncalibrated = (f"Not calibrated: {', '.join(raw)}. Use `ctrkit calibrate` first.",) if raw else ()
    return PredictionResult(
        None if isinstance(model, Model) else os.fspath(model),
        name_of(data) or "a table in memory",
        None if out is None else os.fspath(out),
        rows,
        keys,
        {name: PredictedColumn(sums[name] / rows, *ranges[name]) for name in sums},
        (*notes, *uncalibrated),
        pl.concat(kept) if out is None else None,
    )


class _Sample:
    """Some rows of all chunks, spread over the table: those at a step that doubles as the table goes on."""

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec, self.rows = spec, pl.DataFrame()
        self._step, self._next = 1, 0

    def add(self, table: pl.DataFrame) -> None:
        part = table.select(name for name in self.spec.feature_columns if name in table.columns)
        taken = part[self._next :].gather_every(self._step)
        self._next += taken.height * self._step - part.height
        self.rows = pl.concat([self.rows, taken], how="diagonal_relaxed") if self.rows.width else taken
        while self.rows.height > LOOK_AT:
            if self.rows.height % 2:  # the next row at the wider step comes one narrow step later
                self._next += self._step
            self.rows, self._step = self.rows.gather_every(2), 2 * self._step


@contextmanager
def _writer(
    out: str | os.PathLike[str] | None, kept: list[pl.DataFrame]
) -> Iterator[Callable[[pl.DataFrame], None]]:
    """What takes the parts of the predictions: a file or, without one, a list."""
    if out is None:
        yield kept.append
        return
    with table_writer(out) as write:
        yield write


def _keys(
    settings: PredictConfig, spec: FeatureSpec, table: pl.DataFrame, file: str | None
) -> tuple[str, ...]:
    """The columns that say which row a prediction belongs to."""
    if settings.keys is None:
        known = (spec.group, spec.timestamp, spec.candidate.id if spec.candidate else None)
        there = [name for name in dict.fromkeys(known) if name in table.columns]
        return (_EVENT if _EVENT in table.columns else ROW, *(name for name in there if name is not None))
    for name in settings.keys:
        if name not in (*table.columns, ROW):
            raise DataError(
                "this column is to be the key of a row, and the table has no such column",
                file=file,
                column=name,
                hint=nearest(name, table.columns),
            )
    return settings.keys


def _apart(keys: Sequence[str], found: pl.DataFrame) -> list[str]:
    """The keys, which must not have the name of a prediction."""
    if taken := [name for name in keys if name in found.columns]:
        raise ConfigError(
            f"the key '{taken[0]}' has the name of a column of predictions", hint="Leave it out of `keys`"
        )
    return list(keys)
