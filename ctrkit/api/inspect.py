"""`ctrkit inspect`: what is in a table, and a first config to train on it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import yaml

from ctrkit.api.results import Result
from ctrkit.api.run_folder import run_folder
from ctrkit.api.sample_logs import bundled
from ctrkit.arrays import Integers
from ctrkit.config import ConfigLike, keys_of
from ctrkit.data.sources import SOURCES, recognised, source_tables
from ctrkit.errors import DataError
from ctrkit.inspection import InspectedColumn, first_config, inspected, proposed, spread_rows
from ctrkit.reports import Drawings, Report, Table
from ctrkit.reports.cells import share, text
from ctrkit.reports.inspection_figures import rate_figure
from ctrkit.schema import unix_seconds
from ctrkit.settings import meaning_of
from ctrkit.tables import TableLike, check_writable, name_of, write_text
from ctrkit.tables.chunks import first_columns

LOOKED = (
    "No config was given: the columns were taken for what `ctrkit inspect` shows, and writes as a config to "
    "change."
)
# A number is read as a logarithm if its largest value is above so many times its mean.
_SKEWED = 20.0
_PARTS, _MOST_VALUES = 5, 5
_MOST_FIGURES = 12
# In the run folder.
FIRST = "first_config.yaml"


@dataclass(frozen=True)
class Inspection(Result):
    """What is in a table.

    Attributes:
        data: its name.
        rows: number of rows.
        looked_at: number of rows, spread over the table, by which the columns were judged.
        columns: its columns.
        rates: feature -> a part of its values, its rows and the rate of the first label there.
        rate: rate of the first label.
        period: first and last time; None without times.
        config: the first config, as YAML.
        out: the file of the config; None if none was written.
        looks_like: the public data set of which the table seems to be, and how it is read as such.
    """

    data: str
    rows: int
    looked_at: int
    columns: tuple[InspectedColumn, ...]
    rates: dict[str, list[dict[str, Any]]]
    rate: float
    period: tuple[str, str] | None
    config: str
    out: str | None
    looks_like: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The first config as a mapping."""
        return dict(yaml.safe_load(self.config))

    def to_dict(self) -> dict[str, Any]:
        kept = ("name", "kind", "role", "why", "missing", "distinct")
        return {
            "rows": self.rows,
            "looked_at": self.looked_at,
            "label_rate": self.rate,
            "period": self.period,
            "columns": [{key: getattr(one, key) for key in kept} for one in self.columns],
            "rates": self.rates,
            "config": self.config,
            "out": self.out,
            "looks_like": self.looks_like,
        }

    def report(self) -> Report:
        of = [one for one in self.columns if one.role == "feature"]
        label = _in_role(self.columns, "label 1")
        answer = f"{self.rows:,} rows; '{label}' in {self.rate:.2%} of them; {len(of)} features."
        parts = tuple(
            (name, part["part"], part["rows"], share(part["rate"]))
            for name, of_name in self.rates.items()
            for part in of_name
        )
        tables = [
            columns_table(self.columns),
            Table(f"Rate of '{label}' by feature", ("feature", "values", "rows", "rate"), parts),
        ]
        if leaks := tuple((one.name, one.why) for one in self.columns if one.leaks):
            tables.append(Table("Left out, as they give the label away", ("column", "why"), leaks))
        notes = [] if self.period is None else [f"Times go from {self.period[0]} to {self.period[1]} (UTC)."]
        if self.looked_at < self.rows:
            notes.append(f"Columns were judged by {self.looked_at:,} rows, spread over the table.")
        notes.append(
            f"Train with `ctrkit train --config {self.out or 'CONFIG'}`, or look at the config and change it "
            "first."
        )
        notes += [] if self.looks_like is None else [f"{self.looks_like[0].upper()}{self.looks_like[1:]}."]
        config = Table("First config", ("config",), tuple((line,) for line in self.config.splitlines()))
        return Report("Inspection", answer, (*tables, config), tuple(notes))

    def figures(self) -> Drawings:
        label = _in_role(self.columns, "label 1") or ""
        widest = sorted(self.rates, key=lambda name: _spread(self.rates[name]), reverse=True)[:_MOST_FIGURES]
        return {
            f"rate_{name}": partial(rate_figure, name, label, parts, self.rate)
            for name, parts in self.rates.items()
            if name in widest
        }


def columns_table(columns: Sequence[InspectedColumn]) -> Table:
    """What each column was taken for."""
    rows = tuple((one.name, one.kind, one.role, share(one.missing), one.distinct, one.why) for one in columns)
    return Table("Columns", ("column", "kind", "taken for", "missing", "values", "why"), rows)


def config_or_inspected(
    config: ConfigLike,
    data: TableLike | None,
    overrides: Sequence[str],
    keywords: Mapping[str, Any],
) -> tuple[ConfigLike, Inspection | None]:
    """The config of a command, or the first config of a table that comes without any: it lacks columns of the
    sample logs, or is of a public data set.

    Args:
        config: the config that was given.
        data: the table.
        overrides: `key.path=value` strings; those of `features` say what the columns mean.
        keywords: the settings that were given.

    Returns:
        The config, and what was found in the table; None if it was not looked at.

    Raises:
        DataError: as of `inspect`.
    """
    told = "features" in keywords or any(one.startswith("features") for one in overrides)
    if config is not None or data is None or told:
        return config, None
    # Here, and not above: with the configs of all models comes torch, which a look at a table does not need.
    from ctrkit.api.models.training_config import TrainConfig, load_train_config

    source = keys_of(TrainConfig, None, overrides, keywords).get("source")
    with _naming_public_data(data, source):
        if source is None and {*load_train_config(None).features.columns} <= {*first_columns(data)}:
            return None, None
    found = inspect(data, source=source)
    return found.settings, found


@contextmanager
def _naming_public_data(data: TableLike, source: str | None) -> Iterator[None]:
    """Where a table of no known source cannot be understood, and is of a public data set, say so."""
    try:
        yield
    except DataError as error:
        found = _public_data(data, source)
        if found is None:
            raise
        raise DataError(found[0], file=data, hint=found[1]) from error


def _public_data(data: TableLike, source: str | None) -> tuple[str, str] | None:
    """What public data set a table of no known source seems to be, and how it is read as such."""
    path = data if source is None and isinstance(data, str | os.PathLike) else None
    if path is None or (name := recognised(path)) is None:
        return None
    what = re.split("[:;,.(]", meaning_of(SOURCES[name]))[0].strip()
    shipped = bundled("configs", f"{name}.yaml").is_file()
    option = f"--config {name}" if shipped else f"--set source={name}"
    how = f"Run `ctrkit train {os.fspath(path)} {option}`"
    return f"this looks like the data set '{name}' ({what})", how


def _in_role(columns: Sequence[InspectedColumn], role: str) -> str | None:
    """The column of a role; None if there is none."""
    return next((one.name for one in columns if one.role == role), None)


def inspect(
    data: TableLike,
    *,
    label: str | None = None,
    source: str | None = None,
    save: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
) -> Inspection:
    """Look at a table: what its columns are, how the click rate depends on them, and a first config.

    Large tables are read in chunks, and judged by at most 200,000 rows that are spread over them.

    Args:
        data: the table, or the file or folder of the public data set.
        label: the column of clicks, if its name does not say so.
        source: name of the public data set (see `ctrkit.list_sources`).
        save: file for the first config; by default `first_config.yaml` in the run folder.
        out: the run folder; None to write no folder.

    Raises:
        ConfigError: there is no source of that name, or `save` cannot be written.
        DataError: the table cannot be read, or no column can be the label.

    Example:
        >>> import ctrkit
        >>> found = ctrkit.inspect(ctrkit.sample_logs().files[-1])  # impressions
        >>> [one.name for one in found.columns if one.role.startswith("label")]
        ['click', 'conversion']
    """
    if save is not None:
        check_writable(save)
    with run_folder(out, "inspect") as run:
        home = run.begin()
        place = save if save is not None or home is None else home / FIRST
        found = _inspected(data, label, source, None if place is None else os.fspath(place))
        if place is not None:
            write_text(found.config, place)
        run.write({"data": name_of(data), "label": label, "source": source}, found)
    return found


def _inspected(data: TableLike, label: str | None, source: str | None, place: str | None) -> Inspection:
    """What is in a table, whose first config is to be written to a place."""
    with _naming_public_data(data, source):
        if source is not None and isinstance(data, str | os.PathLike):
            table, rows = spread_rows(source_tables(source, data).rows)
        else:
            table, rows = spread_rows(data)
        columns = inspected(table, label, name_of(data))
    first, counts = _in_role(columns, "label 1"), _in_role(columns, "impressions")
    assert first is not None
    clicks = table[first].cast(pl.Float64)
    shown = pl.Series(np.ones(table.height)) if counts is None else table[counts].cast(pl.Float64)
    features = [one for one in columns if one.role == "feature" and one.kind not in ("list", "bag", "vector")]
    numbers = [one.name for one in features if one.kind == "number"]
    skewed = frozenset(name for name in numbers if _is_skewed(table[name]))
    rate = float(clicks.sum()) / max(float(shown.sum()), 1.0)
    times, like = _in_role(columns, "time"), _public_data(data, source)
    return Inspection(
        name_of(data) or "a table in memory",
        rows,
        table.height,
        columns,
        {one.name: _rates(table[one.name], one, clicks, shown) for one in features},
        rate,
        None if times is None else _period(table[times]),
        first_config(columns, name_of(data), skewed, source, proposed(columns, table, rate)),
        place,
        None if like is None else ". ".join(like),
    )


def _spread(parts: Sequence[Mapping[str, Any]]) -> float:
    """How far the rates of a feature's parts are from one another: their deviation, weighted by rows."""
    rates, rows = (np.array([one[key] for one in parts], dtype=np.float64) for key in ("rate", "rows"))
    if not rows.sum():
        return 0.0
    return float(np.sqrt(np.average((rates - np.average(rates, weights=rows)) ** 2, weights=rows)))


def _is_skewed(values: pl.Series) -> bool:
    numbers = values.cast(pl.Float64).drop_nulls().drop_nans().to_numpy()
    return bool(numbers.size and numbers.min() >= 0 and numbers.max() > _SKEWED * numbers.mean())


def _rates(
    values: pl.Series, column: InspectedColumn, clicks: pl.Series, shown: pl.Series
) -> list[dict[str, Any]]:
    """The rate of clicks in parts of a number's range, or for the most frequent values."""
    in_range = column.kind == "number"
    whole = values.cast(pl.Int64) if values.dtype.is_float() and not in_range else values
    parts, places = _ranges(values) if in_range else (whole.cast(pl.String), np.zeros(values.len()))
    frame = pl.DataFrame(
        {"part": parts.fill_null("missing"), "place": places, "clicks": clicks, "shown": shown}
    )
    found = frame.group_by("part").agg(
        pl.col("place").first(), rows=pl.len(), rate=pl.col("clicks").sum() / pl.col("shown").sum()
    )
    kept = found.sort(["place" if in_range else "rows", "part"], descending=[not in_range, False])
    return kept.head(_PARTS + 1 if in_range else _MOST_VALUES).drop("place").to_dicts()


def _ranges(values: pl.Series) -> tuple[pl.Series, Integers]:
    """The part of the range that each number is in, as text, and its place; missing numbers come last."""
    numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    edges = np.unique(np.nanquantile(numbers, np.linspace(0, 1, _PARTS + 1)[1:-1]))
    between = [f"{text(low)} to {text(high)}" for low, high in pairwise(edges)]
    names = [f"up to {text(edges[0])}", *between, f"above {text(edges[-1])}", None]
    places = np.where(np.isnan(numbers), len(names) - 1, np.searchsorted(edges, numbers))
    return pl.Series(names, dtype=pl.String).gather(places), places


def _period(values: pl.Series) -> tuple[str, str]:
    seconds = unix_seconds(values.drop_nulls())
    moments = pl.Series([seconds.min(), seconds.max()]).cast(pl.Float64) * 1e6
    first, last = moments.cast(pl.Int64).cast(pl.Datetime("us")).dt.to_string("%Y-%m-%d %H:%M:%S")
    return first, last
