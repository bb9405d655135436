"""Times of every kind as unix seconds, recognised by their magnitude, and the clock of a time zone.

Numbers are, in this order,

- digits of a date, if every value is a date between 1990 and 2099: `20240310`, `24031012` (a day and an hour,
  as in Avazu's log), `2024031012`, `202403101200`, `20240310120000`, and `20240310120000123` (as in
  iPinYou's);
- seconds since some start, below 10^8 (three years), whose days are counted from that start;
- unix time of 1990 to 2100: in seconds (10 digits), milliseconds (13), microseconds (16), nanoseconds (19).

Any other number, or a column that mixes these kinds, is refused. Text is ISO 8601 with the year first; the
order of day and month is never guessed. A time without a zone is in UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import polars as pl

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError, DataError

# Numbers below it are seconds since some start.
CLOCK = 1e8
_FIRST, _LAST = 631_152_000, 4_102_444_800  # 1990 and 2100
_UNITS = (("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9))
_CALENDARS = ("yyyyMMdd", "yyMMddHH", "yyyyMMddHH", "yyyyMMddHHmm", "yyyyMMddHHmmss", "yyyyMMddHHmmssSSS")
_LOOK_AT = 1000
_ISO = (
    r"^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(:\d{2})?(?:[.,](\d+))?)?\s*"
    r"(?:Z|z|UTC|GMT|([+-])(\d{2}):?(\d{2})?)?$"
)
_KNOWN = (
    "Give unix seconds, milliseconds, microseconds or nanoseconds of 1990 to 2100, seconds since a start "
    "below 10^8, or dates such as 2024-03-10"
)


def unix_seconds(values: pl.Series, file: str | None = None, column: str | None = None) -> pl.Series:
    """Times as unix seconds, Float64; missing times stay missing.

    Raises:
        DataError: a value is not a time, or not of the same kind as the first; the error names its row.
    """
    return _times(values, file, column or values.name)[0].alias(values.name)


def reader_between(ends: pl.Series) -> Callable[[pl.Series], pl.Series] | None:
    """How whole numbers between these two are read as unix seconds, whatever they are.

    Args:
        ends: the lowest and the highest number of a column.

    Returns:
        A function from numbers to unix seconds; None if all numbers must be seen (they may all be dates), or
        if `unix_seconds` refuses some.
    """
    if ends.null_count() or _may_be_dates(ends):
        return None
    sizes = [abs(int(end)) for end in ends]
    if max(sizes) < CLOCK:
        return partial(_scaled, unit=1)
    for _, unit in _UNITS:
        if all(_FIRST * unit <= size < _LAST * unit for size in sizes) and ends.min() == min(sizes):
            return partial(_scaled, unit=unit)
    return None


def clock_seconds(
    values: pl.Series, zone: str | None = None, file: str | None = None, column: str | None = None
) -> pl.Series:
    """Times in seconds on the clock of a zone, so that days and hours are local ones.

    If the clock is set back, an hour occurs twice. The second time the clock stands still here, so that a log
    in order of time stays in order.

    Args:
        values: the times.
        zone: a zone such as `Europe/Berlin`; None: the zone of the column's type or the offsets of the texts,
            else UTC.
        file: the file, for messages.
        column: the column's name in the file, for messages.

    Raises:
        ConfigError: there is no such zone.
        DataError: a value is not a time (see `unix_seconds`).
    """
    seconds, own = _times(values, file, column or values.name)
    zone = zone or getattr(values.dtype, "time_zone", None)
    shift = own if zone is None else offsets(seconds, zone)
    if zone is None and shift is not None and float(shift.max() or 0) - float(shift.min() or 0) > 3600:  # type: ignore[arg-type]
        shift = None  # times of many zones have no clock in common
    if shift is None or bool((shift == 0).all()):
        return seconds.alias(values.name)
    clock = (seconds + shift).alias(values.name)
    return clock.cum_max() if bool((seconds.diff().drop_nulls() >= 0).all()) else clock


def offsets(seconds: pl.Series, zone: str) -> pl.Series:
    """Seconds by which the clock of a zone is ahead of UTC at these unix seconds.

    Raises:
        ConfigError: there is no such zone.
    """
    check_zone(zone)
    moments = (seconds * 1e6).round().cast(pl.Int64).cast(pl.Datetime("us", "UTC"))
    local = moments.dt.convert_time_zone(zone)
    ahead = local.dt.base_utc_offset() + local.dt.dst_offset()
    return ahead.dt.total_seconds().cast(pl.Float64)


def check_zone(zone: str) -> None:
    """Refuse a name that is not a time zone.

    Raises:
        ConfigError: there is no such zone.
    """
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            f"there is no time zone '{zone}'",
            hint="Give a name such as Europe/Berlin, America/New_York or UTC",
        ) from None


def _times(values: pl.Series, file: str | None, column: str) -> tuple[pl.Series, pl.Series | None]:
    """Unix seconds, and the offsets from UTC of texts; None for other types."""

    def refuse(problem: str, row: int | None, hint: str = _KNOWN) -> DataError:
        return DataError(problem, file=file, column=column, row=row, hint=hint)

    dtype = values.dtype
    if isinstance(dtype, pl.Datetime) or dtype == pl.Date:
        return values.cast(pl.Datetime("us", getattr(dtype, "time_zone", None))).dt.epoch("us") / 1e6, None
    if dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    if values.dtype == pl.String:
        numbers = values.str.strip_chars().cast(pl.Int64, strict=False)
        if numbers.null_count() > values.null_count():
            numbers = values.str.strip_chars().cast(pl.Float64, strict=False)
        if numbers.null_count() > values.null_count() or values.null_count() == values.len():
            return _from_text(values, refuse)
        values = numbers
    if dtype == pl.Null:
        return values.cast(pl.Float64), None
    if not values.dtype.is_numeric():
        raise refuse(f"times are unix seconds or datetimes, not {dtype}", None)
    return _from_numbers(values, refuse), None


def _from_text(values: pl.Series, refuse: Callable[..., DataError]) -> tuple[pl.Series, pl.Series]:
    """ISO 8601 text."""
    text = values.str.strip_chars()
    parts = text.str.extract_groups(_ISO).struct.unnest()
    parts.columns = ["day", "minute", "second", "fraction", "sign", "hours", "minutes"]
    whole = parts.select(
        pl.concat_str(
            "day", pl.lit("T"), pl.col("minute").fill_null("00:00"), pl.col("second").fill_null(":00")
        )
    ).to_series()
    moment = whole.str.to_datetime("%Y-%m-%dT%H:%M:%S", strict=False, time_unit="us").dt.epoch("us") / 1e6
    fraction = ("0." + parts["fraction"].fill_null("0")).cast(pl.Float64)
    sign = (parts["sign"] == "-").fill_null(False).replace_strict({True: -1.0, False: 1.0})
    hours, minutes = (parts[name].cast(pl.Float64).fill_null(0.0) for name in ("hours", "minutes"))
    shift = sign * (hours * 3600 + minutes * 60)
    seconds = moment + fraction - shift
    if (wrong := _first(seconds.is_null() & values.is_not_null())) is not None:
        raise refuse(
            f"{values[wrong]!r} is not a time",
            wrong,
            "Write dates as 2024-03-10 or 2024-03-10T12:00:00: the order of day and month is not guessed",
        )
    return seconds, shift


def _from_numbers(values: pl.Series, refuse: Callable[..., DataError]) -> pl.Series:
    """Numbers, by their magnitude."""
    numbers = values.cast(pl.Float64)
    if (row := _first(~numbers.is_finite().fill_null(True))) is not None:
        raise refuse(f"{numbers[row]} is not a finite number", row)
    if numbers.null_count() == numbers.len():
        return numbers
    if (dates := _from_calendar(values, refuse)) is not None:
        return dates
    size = numbers.abs().to_numpy(writable=True)
    size = np.where(np.isnan(size), size[~np.isnan(size)][0], size)
    kinds = np.full(len(size), -1)
    kinds[size < CLOCK] = len(_UNITS)
    for kind, (_, unit) in enumerate(_UNITS):
        kinds[(size >= _FIRST * unit) & (size < _LAST * unit)] = kind
    if (kinds == -1).any():
        row = int(np.argmax(kinds == -1))
        raise refuse(f"{_shown(values, row)} is not a time from 1990 to 2100 in any unit", row)
    if (kinds != kinds[0]).any():
        row = int(np.argmax(kinds != kinds[0]))
        raise refuse(
            f"{_shown(values, row)} is not the same kind of time as {_shown(values, 0)} in the first row",
            row,
            "Give all times of the column in one unit; leave missing times empty, not 0",
        )
    return _scaled(values, 1 if kinds[0] == len(_UNITS) else _UNITS[kinds[0]][1])


def _scaled(values: pl.Series, unit: int) -> pl.Series:
    """Numbers of so many parts of a second as seconds."""
    if unit > 1 and values.dtype.is_integer():
        # In whole numbers first: a float holds microseconds of today, and no nanoseconds.
        wide = values.cast(pl.Int64)
        return (wide // unit).cast(pl.Float64) + (wide % unit).cast(pl.Float64) / unit
    return values.cast(pl.Float64) / unit


def _from_calendar(values: pl.Series, refuse: Callable[..., DataError]) -> pl.Series | None:
    """Unix seconds of digits of dates; None if some value is not a date."""
    known = values.drop_nulls()
    if known.dtype.is_float() and not bool((known == known.round()).all()):
        return None
    # Text takes memory, and the first values of most columns already are no dates.
    if not (forms := _read_in_forms(known.head(_LOOK_AT), _CALENDARS)):
        return None
    read = _read_in_forms(values, tuple(forms))
    if len(read) > 1:
        row = int(values.is_not_null().arg_max() or 0)
        raise refuse(
            f"{_shown(values, row)} can be read in several forms ({', '.join(read)})",
            row,
            "Write times as 2024-03-10T12:00:00 or as unix seconds",
        )
    return next(iter(read.values()), None)


def _read_in_forms(values: pl.Series, forms: Sequence[str]) -> dict[str, pl.Series]:
    """Unix seconds of whole numbers, by each form in which all of them are dates."""
    digits = values.cast(pl.Int64, strict=False).cast(pl.String)
    lengths = digits.str.len_chars().drop_nulls()
    return {
        form: dates
        for form in forms
        if bool((lengths == len(form)).all()) and (dates := _calendar(digits, form)) is not None
    }


def _may_be_dates(values: pl.Series) -> bool:
    """Whether every value is a date in at least one form."""
    try:
        return _from_calendar(values, lambda problem, *_: DataError(problem)) is not None
    except DataError:
        return True


def _calendar(digits: pl.Series, form: str) -> pl.Series | None:
    """Digits of the given form as unix seconds; None if some are not a date from 1990 to 2099."""
    parts: dict[str, Floats] = {}
    for sign in "yMdHmsS":
        if (width := form.count(sign)) > 0:
            part = digits.str.slice(form.index(sign), width).cast(pl.Float64)
            parts[sign] = part.to_numpy()
        else:
            parts[sign] = np.where(digits.is_null().to_numpy(), np.nan, 0.0)
    year = parts["y"] + (2000 if form.count("y") == 2 else 0)
    there = ~np.isnan(year)
    limits = (("M", 1, 12), ("d", 1, 31), ("H", 0, 23), ("m", 0, 59), ("s", 0, 60))
    sound = reduce(np.logical_and, [(parts[s] >= low) & (parts[s] <= high) for s, low, high in limits])
    if not (sound & (year >= 1990) & (year < 2100))[there].all():
        return None
    days = np.full(len(year), np.nan)
    months = ((year[there] - 1970) * 12 + parts["M"][there] - 1).astype("int64").astype("datetime64[M]")
    moment = months.astype("datetime64[D]") + (parts["d"][there].astype("int64") - 1)
    if (moment.astype("datetime64[M]") != months).any():
        return None  # the 31st of a shorter month
    days[there] = moment.astype("int64")
    seconds = days * 86_400 + parts["H"] * 3600 + parts["m"] * 60 + parts["s"] + parts["S"] / 1000
    return pl.Series(digits.name, seconds).fill_nan(None)


def _shown(values: pl.Series, row: int) -> str:
    value = values[row]
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _first(mask: pl.Series) -> int | None:
    """Index of the first True, or None."""
    index = mask.arg_max() if mask.any() else None
    return int(index) if index is not None else None
