"""`ctrkit interleave`: which of two rankers would win interleaved lists, on a log."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field

from ctrkit.api.keywords import takes_settings
from ctrkit.api.results import Result
from ctrkit.api.run_folder import run_folder
from ctrkit.arrays import Floats, Indices
from ctrkit.config import Config, ConfigLike, settings_of
from ctrkit.data.labels import read_groups, read_labels
from ctrkit.errors import ConfigError, DataError
from ctrkit.experiments.preference import MeanPreference, Needed, impressions_needed, preference_of
from ctrkit.experiments.simulation import Method, Simulated, rankings, simulate
from ctrkit.hashing import mixed, text_hashes
from ctrkit.reports import Report, Table
from ctrkit.reports.cells import Interval, share
from ctrkit.schema import require_columns
from ctrkit.schema.columns import Column, check_column
from ctrkit.tables import TableLike, read_named

_ASSUMED = (
    "Clicks are those of the log: a candidate that was clicked there counts as clicked wherever a list has"
    " it. The log's own order is favoured, as what it showed low had fewer clicks."
)


class InterleaveConfig(Config):
    """How lists are made, and which columns the log has.

    Attributes:
        request: the column by which rows are candidates of one request.
        label: the column of clicks, 0 or 1.
        user: the column of users, whose requests are one unit of the interval; None: each request is one.
        method: how lists are made.
        length: number of candidates of a list.
        confidence: confidence level of the intervals.
        power: chance to find the difference, for the impressions that a test needs at a significance of 5 %.
        draws: number of bootstrap draws of the users.
        seed: seed of lists, of the order of equal scores and of the bootstrap.
    """

    request: str = "request_id"
    label: str = "click"
    user: str | None = None
    method: Method = "team-draft"
    length: int = Field(default=3, ge=1)
    confidence: float = Field(default=0.95, gt=0.0, lt=1.0)
    power: float = Field(default=0.8, gt=0.05, lt=1.0)
    draws: int = Field(default=500, ge=20)
    seed: int = Field(default=0, ge=0, lt=2**64)


@dataclass(frozen=True, repr=False)
class InterleaveResult(Result):
    """What interleaved lists of two rankers say.

    Attributes:
        a: column of the first ranker's scores.
        b: column of the second one's.
        settings: how lists were made.
        requests: number of requests with a list.
        units: number of users, or of requests.
        clicks: clicks that the log has on these requests.
        shown: clicks on the interleaved lists.
        same: requests for which both rankers have the same list.
        preference: of all impressions: below 0 if the first ranker is better.
        needed: impressions that a test needs.
        saving: impressions of an A/B test for one of interleaving, with its interval.
        notes: sentences on the log.
    """

    a: str
    b: str
    settings: InterleaveConfig
    requests: int
    units: int
    clicks: int
    shown: int
    same: int
    preference: MeanPreference
    needed: Needed
    saving: Interval
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        content = asdict(self)
        content["settings"] = self.settings.model_dump()
        for name in ("preference", "needed", "saving"):
            numbers = getattr(self, name)._asdict()
            content[name] = {key: _finite(one) for key, one in numbers.items() if key != "signs"}
        content["preference"]["signs"] = self.preference.signs.to_dict()
        content["notes"] = [*self.notes]
        return content

    def report(self) -> Report:
        found, of = self.preference, "users" if self.settings.user else "requests"
        wins = Table(
            f"Preference by {self.settings.method}",
            ("what", "value"),
            (
                ("requests", self.requests),
                ("clicks in the log", self.clicks),
                ("clicks on the lists", self.shown),
                ("requests with the same list by both", self.same),
                (f"{of} that prefer {self.a}", found.signs.losses),
                (f"{of} that prefer {self.b}", found.signs.wins),
                (f"{of} that prefer neither", found.signs.ties),
                (f"mean preference for {self.b}, from -1 to 1", Interval(found.mean, found.low, found.high)),
                ("p-value of the mean", found.p_value),
                ("p-value of the sign test", found.signs.p_value),
            ),
        )
        needed = Table(
            "Impressions that a test needs",
            ("test", "impressions", "for one of interleaving"),
            (
                ("interleaving", _whole(self.needed.interleaving), 1),
                ("A/B", _whole(self.needed.ab_test), self.saving),
            ),
        )
        return Report("Interleaving", self._answer(), (wins, needed), self.notes)

    def _answer(self) -> str:
        found = self.preference
        decided = found.signs.losses + found.signs.wins
        if not found.low > 0 and not found.high < 0:
            return f"The log does not tell {self.a} and {self.b} apart."
        better, wins = (self.b, found.signs.wins) if found.mean > 0 else (self.a, found.signs.losses)
        of = "users" if self.settings.user else "requests"
        won = f"{share(wins / decided):.1%} of the {decided:,} {of} that prefer one"
        return f"{better} is preferred: it wins {won}."


@takes_settings(InterleaveConfig)
def interleave(
    logs: TableLike,
    *,
    a: str,
    b: str,
    config: ConfigLike = None,
    overrides: Sequence[str] = (),
    out: str | os.PathLike[str] | None = None,
    **keywords: Any,
) -> InterleaveResult:
    """Interleave two rankers on a log of requests whose candidates have clicks and two scores.

    Each request gets a list of candidates of both rankers, and the log's clicks on it are credited to the
    ranker that brought them. The log also tells how many impressions this takes, beside an A/B test of the
    clicks on each ranker's own list. Requests with one candidate are left out.

    Args:
        logs: a path, a glob, a list of them or a table: one row a candidate.
        a: the column of the first ranker's scores: the highest is the best.
        b: the column of the second ranker's scores.
        config: a config file, or settings as a mapping.
        overrides: settings as `key=value`, which replace those of the config.
        out: the run folder; None: nothing is written.

    Raises:
        DataError: a column is missing, a score is missing or no finite number, a label is not 0 or 1, a
            ranker gives all candidates the same score, or no list can be made or has a click.
        ConfigError: both rankers are one column, or a setting is wrong.

    Example:
        >>> import ctrkit, polars
        >>> rows = polars.DataFrame({"request_id": [1, 1, 2, 2], "click": [1, 0, 0, 1]})
        >>> rows = rows.with_columns(old=polars.Series([1, 2, 4, 3]), new=polars.Series([2, 1, 1, 2]))
        >>> ctrkit.interleave(rows, a="old", b="new", length=2).requests
        2
    """
    settings = settings_of(InterleaveConfig, config, overrides, keywords)
    if a == b:
        raise ConfigError(f"'{a}' is both rankers", hint="Name another column of scores", argument="b")
    with run_folder(out, "interleave") as run:
        result = _interleaved(logs, a, b, settings)
        run.write(settings, result, a=a, b=b)
    return result


def _interleaved(logs: TableLike, a: str, b: str, settings: InterleaveConfig) -> InterleaveResult:
    of_ids = {settings.request, settings.user}
    raw, file = read_named(logs, lambda name: name in of_ids)
    named = (a, b, settings.request, settings.label, *((settings.user,) if settings.user else ()))
    require_columns(raw, named, file)
    scores = [_scores(raw[name], name, file) for name in (a, b)]
    labels = read_labels({"click": settings.label}, raw, file)[:, 0] > 0
    requests = check_column(
        raw[settings.request], Column(settings.request, "id", "the request", nullable=True), file
    )
    kept, numbers, notes = _requests(requests, settings.request, file)
    rng = np.random.default_rng(settings.seed)
    ties, starts = rng.random(kept.size), np.flatnonzero(np.diff(numbers, prepend=-1))
    first, second = (rankings(each[kept], numbers, ties) for each in scores)
    ids = requests.gather(kept[starts])
    found = simulate(
        first,
        second,
        np.split(labels[kept], starts[1:]),
        (text_hashes(ids.cast(pl.String)) ^ mixed(np.array([settings.seed], dtype=np.uint64))).tolist(),
        settings.length,
        settings.method,
    )
    if not found.shown.any():
        raise DataError(
            f"the log has no click on a list of {settings.length} candidates",
            file=file,
            column=settings.label,
            hint="Give a longer log, or a greater `length`",
        )
    units = _units(raw, kept[starts], settings.user)
    needed, saving = _sensitivity(found, units, settings, rng)
    notes += (_ASSUMED,)
    if found.same.all():
        notes += ("Both rankers have the same list for every request.",)
    if np.array_equal(*found.clicks):
        notes += (
            f"Both rankers' own lists of {settings.length} have the same clicks, so an A/B test of clicks"
            " would find nothing: `length` should be below the number of candidates.",
        )
    return InterleaveResult(
        a,
        b,
        settings,
        len(first),
        int(units.max()) + 1,
        int(labels[kept].sum()),
        int(found.shown.sum()),
        int(found.same.sum()),
        preference_of(found.preferences, units, settings.confidence),
        needed,
        saving,
        notes,
    )


def _scores(values: pl.Series, name: str, file: str | None) -> Floats:
    found: Floats = check_column(values, Column(name, "number", "a ranker's score"), file).to_numpy()
    if (found == found[0]).all():
        raise DataError(
            "every candidate has the same score, which ranks nothing",
            file=file,
            column=name,
            hint="Name the column of a ranker's scores",
        )
    return found


def _requests(requests: pl.Series, name: str, file: str | None) -> tuple[Indices, Indices, tuple[str, ...]]:
    """The rows with a choice, request by request; the number of each one's request; and what was left out."""
    rows = pl.DataFrame({"request": requests, "row": np.arange(len(requests))}).drop_nulls()
    sized = rows.with_columns(size=pl.len().over("request"))
    chosen = sized.filter(pl.col("size") > 1).sort("request", "row")
    if chosen.is_empty():
        raise DataError(
            "no request has two candidates, so there is nothing to rank",
            file=file,
            column=name,
            hint="Name the column of requests as `request`",
        )
    numbers = chosen["request"].rle_id().to_numpy().astype(np.intp)
    alone, unnamed = sized.height - chosen.height, len(requests) - rows.height
    left = {"requests with one candidate": alone, "rows without a request": unnamed}
    notes = tuple(f"Left out: {number:,} {what}." for what, number in left.items() if number)
    return chosen["row"].to_numpy().astype(np.intp), numbers, notes


def _units(raw: pl.DataFrame, rows: Indices, user: str | None) -> Indices:
    """The number of each request's user, from 0; a request without one is a unit of its own."""
    groups = read_groups(user, raw[rows])
    if groups is None:
        return np.arange(rows.size)
    return np.unique(groups, return_inverse=True)[1]


def _sensitivity(
    found: Simulated, units: Indices, settings: InterleaveConfig, rng: np.random.Generator
) -> tuple[Needed, Interval]:
    """Impressions that tests need, and the ratio of both with its percentile interval, users drawn anew."""
    sizes = np.bincount(units)
    sums: Floats = np.array([np.bincount(units, each) for each in (found.preferences, *found.clicks)])

    def needed(drawn: Indices) -> Needed:
        return impressions_needed(sums[0, drawn], sums[1:, drawn], sizes[drawn], power=settings.power)

    def ratio(of: Needed) -> float:
        return of.ab_test / of.interleaving if of.interleaving > 0 else math.nan

    whole = needed(np.arange(sizes.size))
    ratios = np.array([ratio(needed(rng.integers(0, sizes.size, sizes.size))) for _ in range(settings.draws)])
    known, tail = ratios[~np.isnan(ratios)], (1 - settings.confidence) / 2
    low, high = (
        np.quantile(known, [tail, 1 - tail], method="inverted_cdf") if known.size else (math.nan, math.nan)
    )
    return whole, Interval(ratio(whole), float(low), float(high))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _whole(value: float) -> int | None:
    return math.ceil(value) if math.isfinite(value) else None
