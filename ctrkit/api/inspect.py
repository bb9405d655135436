"""`ctrkit inspect`: what is in a table, and a first config to train on it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import yaml

from ctrkit.api.results import Result
from ctrkit.arrays import Integers
from ctrkit.config import ConfigLike, keys_of
from ctrkit.data.sources import source_tables
from ctrkit.inspection import InspectedColumn, first_config, inspected, spread_rows
from ctrkit.reports import Report, Table
from ctrkit.reports.cells import share, text
from ctrkit.schema import unix_seconds
from ctrkit.tables import TableLike, check_writable, name_of, write_text
from ctrkit.tables.chunks import first_columns

LOOKED = (
    "No config was given: the columns were taken for what `ctrkit inspect` shows, and writes as a config to "
    "change."
)
# A number is read as a logarithm if its largest value is above so many times its mean.
_SKEWED = 20.0
_PARTS, _MOST_VALUES = 5, 5


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
        tables = (
            columns_table(self.columns),
            Table(f"Rate of '{label}' by feature", ("feature", "values", "rows", "rate"), parts),
        )
        notes = [] if self.period is None else [f"Times go from {self.period[0]} to {self.period[1]} (UTC)."]
        if self.looked_at < self.rows:
            notes.append(f"Columns were judged by {self.looked_at:,} rows, spread over the table.")
        notes.append(
            f"Train with `ctrkit train --config {self.out or 'CONFIG'}`, or look at the config and change it "
            "first."
        )
        config = Table("First config", ("config",), tuple((line,) for line in self.config.splitlines()))
        return Report("Inspection", answer, (*tables, config), tuple(notes))


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
    if source is None and {*load_train_config(None).features.columns} <= {*first_columns(data)}:
        return None, None
    found = inspect(data, source=source)
    return found.settings, found


def _in_role(columns: Sequence[InspectedColumn], role: str) -> str | None:
    """The column of a role; None if there is none."""
    return next((one.name for one in columns if one.role == role), None)


def inspect(
    data: TableLike,
    *,
    label: str | None = None,
    source: str | None = None,
    out: str | os.PathLike[str] | None = None,
) -> Inspection:
    """Look at a table: what its columns are, how the click rate depends on them, and a first config.

    Large tables are read in chunks, and judged by at most 200,000 rows that are spread over them.

    Args:
        data: the table, or the file or folder of the public data set.
        label: the column of clicks, if its name does not say so.
        source: name of the public data set (see `ctrkit.list_sources`).
        out: file for the first config; None to write none.

    Raises:
        ConfigError: there is no source of that name.
        DataError: the table cannot be read, or no column can be the label.

    Example:
        >>> import ctrkit
        >>> found = ctrkit.inspect(ctrkit.sample_logs().files[-1])  # impressions
        >>> [one.name for one in found.columns if one.role.startswith("label")]
        ['click', 'conversion']
    """
    if out is not None:
        check_writable(out)
    if source is not None and isinstance(data, str | os.PathLike):
        table, rows = spread_rows(source_tables(source, data).rows)
    else:
        table, rows = spread_rows(data)
    columns = inspected(table, label, name_of(data))
    label, counts = _in_role(columns, "label 1"), _in_role(columns, "impressions")
    assert label is not None
    clicks = table[label].cast(pl.Float64)
    shown = pl.Series(np.ones(table.height)) if counts is None else table[counts].cast(pl.Float64)
    features = [one for one in columns if one.role == "feature" and one.kind != "list"]
    numbers = [one.name for one in features if one.kind == "number"]
    skewed = frozenset(name for name in numbers if _is_skewed(table[name]))
    config = first_config(columns, name_of(data), skewed, source)
    if out is not None:
        write_text(config, out)
    rates = {one.name: _rates(table[one.name], one, clicks, shown) for one in features}
    times = _in_role(columns, "time")
    rate = float(clicks.sum()) / max(float(shown.sum()), 1.0)
    return Inspection(
        name_of(data) or "a table in memory",
        rows,
        table.height,
        columns,
        rates,
        rate,
        None if times is None else _period(table[times]),
        config,
        None if out is None else os.fspath(out),
    )


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
