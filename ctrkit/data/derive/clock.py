"""Hours, weekdays and dates of unix times on the clock of a zone."""

from __future__ import annotations

import polars as pl

from ctrkit.schema.times import offsets

_DAY = 86_400


def local_seconds(seconds: pl.Series, zone: str | None) -> pl.Series:
    """Seconds since 1970 on the clock of a zone; None is UTC.

    Raises:
        ConfigError: there is no such zone.
    """
    return seconds if zone is None else seconds + offsets(seconds, zone)


def hours_and_weekdays(seconds: pl.Series, zone: str | None) -> tuple[pl.Series, pl.Series]:
    """Hours, 0 to 23, and weekdays, 1 (Monday) to 7 as in ISO 8601; missing for a missing time."""
    clock = local_seconds(seconds.fill_nan(None), zone).floor().cast(pl.Int64)
    # The first of January 1970 was a Thursday.
    return (clock % _DAY // 3600).cast(pl.Int8), ((clock // _DAY + 3) % 7 + 1).cast(pl.Int8)


def dates(seconds: pl.Series, zone: str | None) -> pl.Series:
    """Dates; missing for a missing time."""
    clock = local_seconds(seconds.fill_nan(None), zone)
    return (clock / _DAY).floor().cast(pl.Int32).cast(pl.Date)
