"""Times by their magnitude, the same in every table that ctrkit reads, and the clocks of zones."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from ctrkit.data.split import SplitConfig, split_rows
from ctrkit.errors import ConfigError, DataError
from ctrkit.schema import AUCTION_LOG, BANDIT_LOG, BID_LOG, Column, FeatureSpec, LogSchema, check_column
from ctrkit.schema.times import clock_seconds, unix_seconds

MOMENT = dt.datetime(2013, 6, 6, 0, 1, 4, 8000, tzinfo=dt.UTC)
SECONDS = MOMENT.timestamp()
TIMED = [
    (schema, column)
    for schema in (AUCTION_LOG, BANDIT_LOG, BID_LOG)
    for column in schema.columns
    if column.kind == "time"
]
# The least that each log needs beside its times.
NEEDED = {
    "auction log": {"market_price": 1.0},
    "bandit log": {"action": 1, "propensity": 1.0, "reward": 1.0},
    "bid log": {"bid": 1.0, "density": 1.0, "reward": 1.0},
}
SAME = {
    "seconds": [SECONDS],
    "milliseconds": [round(SECONDS * 1e3)],
    "microseconds": [round(SECONDS * 1e6)],
    "nanoseconds": [round(SECONDS * 1e3) * 10**6],
    "iPinYou": [20130606000104008],
    "digits as text": ["20130606000104008"],
    "ISO 8601": ["2013-06-06T00:01:04.008Z"],
    "a blank and an offset": ["2013-06-06 02:01:04.008+02:00"],
    "a datetime": [MOMENT],
}


def log_of(schema: LogSchema, name: str, times: object) -> pl.DataFrame:
    table = pl.DataFrame({name: times})
    return table.with_columns(**{key: pl.lit(value) for key, value in NEEDED[schema.name].items()})


@pytest.mark.parametrize("kind", SAME)
def test_a_moment_is_the_same_in_every_unit_and_form(kind: str) -> None:
    assert unix_seconds(pl.Series(SAME[kind])).to_list() == pytest.approx([SECONDS], abs=1e-6)


@pytest.mark.parametrize("kind", SAME)
@pytest.mark.parametrize(("schema", "column"), TIMED, ids=lambda value: value.name)
def test_every_log_tells_times_by_one_rule(schema: LogSchema, column: Column, kind: str) -> None:
    table = schema.apply(log_of(schema, column.aliases[0], SAME[kind]))
    ahead = 7200 if kind == "a blank and an offset" else 0  # on the clock of who wrote it
    assert table[column.name][0] == pytest.approx(SECONDS + ahead, abs=1e-6)


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        ([0, 86_400, 1.5], [0, 86_400, 1.5]),
        ([20240310, 20240311], [1_710_028_800, 1_710_115_200]),
        ([14102100, 14103023], [1_413_849_600, 1_414_710_000]),  # Avazu's hours
        ([2014102100], [1_413_849_600]),
        ([201410210005], [1_413_849_900]),
        (["2024-03-10", None], [1_710_028_800, None]),
    ],
)
def test_dates_in_digits_and_seconds_since_a_start_are_told_apart(
    times: list[object], seconds: list[float]
) -> None:
    assert unix_seconds(pl.Series(times, strict=False)).to_list() == seconds


@pytest.mark.parametrize(
    ("times", "said", "row"),
    [
        (["2024-03-10", "10/03/2023"], "'10/03/2023' is not a time.*not guessed", 1),
        (["2024-02-30"], "not a time", 0),
        ([1_700_000_000, 1_700_000_000_000], "not the same kind of time", 1),
        ([1_700_000_000, 0], "leave missing times empty, not 0", 1),
        ([10**10], "not a time from 1990 to 2100 in any unit", 0),
        ([20111011, 20111012], "several forms", 0),
        ([1.0, float("nan")], "not a finite number", 1),
        ([True], "not Boolean", None),
    ],
)
def test_what_may_be_another_time_is_refused(times: list[object], said: str, row: int | None) -> None:
    with pytest.raises(DataError, match=said) as caught:
        unix_seconds(pl.Series("t", times))
    assert caught.value.row == row


def test_days_and_hours_are_those_of_the_zone() -> None:
    """Against Python's own time zones, over a year with both changes of the clock."""
    zone = ZoneInfo("Europe/Berlin")
    moments = [dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=7 * k) for k in range(1200)]
    seconds = pl.Series([moment.timestamp() for moment in moments])
    local = [moment.astimezone(zone).replace(tzinfo=dt.UTC).timestamp() for moment in moments]
    expected = np.maximum.accumulate(local)
    np.testing.assert_array_equal(clock_seconds(seconds, "Europe/Berlin"), expected)
    zoned = pl.Series(moments).dt.convert_time_zone("Europe/Berlin")
    np.testing.assert_array_equal(clock_seconds(zoned), expected)
    text = pl.Series([moment.astimezone(zone).isoformat() for moment in moments])
    np.testing.assert_array_equal(clock_seconds(text), expected)
    np.testing.assert_array_equal(clock_seconds(seconds), seconds)
    with pytest.raises(ConfigError, match="no time zone 'Berlin'"):
        clock_seconds(seconds, "Berlin")


def test_a_clock_that_is_set_back_stands_still() -> None:
    start = dt.datetime(2024, 10, 27, 0, 0, tzinfo=dt.UTC).timestamp()  # 02:00, and again an hour later
    clock = clock_seconds(pl.Series([start + 1200 * k for k in range(7)]), "Europe/Berlin") - start
    assert clock.to_list() == [7200, 8400, 9600, 9600, 9600, 9600, 10_800]


def test_a_split_by_time_reads_dates_as_they_are_meant() -> None:
    spec = FeatureSpec.model_validate({"categorical": [{"name": "ad"}], "timestamp": "day"})
    table = pl.DataFrame({"ad": range(20), "click": [0, 1] * 10, "day": [20240301 + k for k in range(20)]})
    split = split_rows(spec, SplitConfig(), table, 0)
    assert split.boundaries == (1_710_633_600.0, 1_710_806_400.0)
    with pytest.raises(DataError, match="not guessed"):
        split_rows(spec, SplitConfig(), table.with_columns(day=pl.lit("03/10/2023")), 0)
    column = Column("day", "time", "the day")
    assert check_column(table["day"], column)[0] == 1_709_251_200.0
