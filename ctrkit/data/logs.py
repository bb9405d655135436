"""The logs of a simulated market: impressions to train on, a bandit log, an auction log.

Columns `true_*` hold the truth. No feature spec may use them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from ctrkit.arrays import Floats, Integers
from ctrkit.data.market import (
    CATEGORIES,
    DEVICES,
    NO_CLICK,
    PLACEMENTS,
    POLICY_STEPS,
    SEGMENTS,
    Population,
    Situation,
)
from ctrkit.errors import DataError

LogColumns: TypeAlias = dict[str, "pl.Series | NDArray[Any]"]
Scalar = TypeVar("Scalar", bound=np.generic)

CANDIDATES = 8
CAMPAIGN_ADS = 6
FLOOR = 0.02
TEMPERATURE = 0.4
# Number of rows made at a time, which limits memory: drawing candidates needs one number for each row and ad.
BLOCK = 20_000


class Market:
    """A simulated ad market.

    Each table depends only on the seed and its number of rows. The impressions (days 1 to 7) come before the
    bandit log (days 8 and 9), which comes before the auctions (day 10).

    Args:
        seed: any integer from 0.
        users: number of users.
        ads: number of ads.
        advertisers: number of advertisers.
    """

    def __init__(self, seed: int = 0, users: int = 2000, ads: int = 200, advertisers: int = 30) -> None:
        self.seed = seed
        self.population = Population(seed, users, ads, advertisers)
        rng = np.random.default_rng([seed, 1])
        # An auction log belongs to one campaign, whose ads are of different categories where possible.
        ad = rng.permutation(ads)
        first_of_category = np.unique(self.population.ads.category[ad], return_index=True)[1]
        rest = np.setdiff1d(np.arange(ads), first_of_category)
        self.campaign = np.sort(ad[np.concatenate([np.sort(first_of_category), rest])[:CAMPAIGN_ADS]])

    def impressions(self, rows: int) -> pl.DataFrame:
        """Rows to train on: one for each ad that the old policy showed, in time order, with its outcomes."""

        def block(rng: np.random.Generator, at: Situation) -> LogColumns:
            candidates, _, chosen = self._old_server(rng, at)
            ad = _pick(candidates, chosen)
            click_probability, conversion_probability = self._truth(at, ad[:, None])
            click, conversion = _outcomes(rng, click_probability, conversion_probability)
            delay = np.round(np.exp(rng.normal(np.log(5400), 1.2, size=len(at)))).astype(np.int32)
            converted = conversion[:, 0]
            return {
                **_ad_columns(self.population, ad),
                "click": click[:, 0],
                "conversion": converted,
                "conversion_delay": pl.Series(delay).set(pl.Series(converted == 0), None),
                "value": self.population.ads.conversion_value[ad].astype(np.float32),
                "true_click_probability": click_probability[:, 0].astype(np.float32),
                "true_conversion_probability": conversion_probability[:, 0].astype(np.float32),
            }

        return self._table(rows, 2, first_day=0, days=7, block=block)

    def bandit_log(self, rows: int) -> pl.DataFrame:
        """A bandit log: one row for each decision of the old policy, with the probabilities of candidates."""

        def block(rng: np.random.Generator, at: Situation) -> LogColumns:
            candidates, probabilities, chosen = self._old_server(rng, at)
            click_probability, conversion_probability = self._truth(at, candidates)
            click, conversion = _outcomes(rng, click_probability, conversion_probability)
            action = _pick(candidates, chosen)
            return {
                **_candidate_columns(self.population, candidates),
                "logging_probabilities": _lists(probabilities),
                "action": action.astype(np.int16),
                "propensity": _pick(probabilities, chosen),
                "reward": _pick(click, chosen),
                "conversion": _pick(conversion, chosen),
                "value": self.population.ads.conversion_value[action].astype(np.float32),
                "true_click_probability": _lists(click_probability.astype(np.float32)),
                "true_conversion_probability": _lists(conversion_probability.astype(np.float32)),
            }

        return self._table(rows, 3, first_day=7, days=2, block=block)

    def auction_log(self, rows: int) -> pl.DataFrame:
        """An auction log: one row for each auction of a slot, with the outcomes of the campaign's ads."""

        def block(rng: np.random.Generator, at: Situation) -> LogColumns:
            candidates = np.broadcast_to(self.campaign, (len(at), len(self.campaign)))
            click_probability, conversion_probability = self._truth(at, candidates)
            click, conversion = _outcomes(rng, click_probability, conversion_probability)
            value = self.population.ads.conversion_value[candidates].astype(np.float32)
            return {
                "market_price": self._market_price(rng, at, click_probability),
                **_candidate_columns(self.population, candidates),
                "candidate_value": _lists(value),
                "true_click": _lists(click),
                "true_conversion": _lists(conversion),
                "true_click_probability": _lists(click_probability.astype(np.float32)),
                "true_conversion_probability": _lists(conversion_probability.astype(np.float32)),
            }

        return self._table(rows, 4, first_day=9, days=1, block=block)

    def _table(
        self,
        rows: int,
        stream: int,
        first_day: int,
        days: int,
        block: Callable[[np.random.Generator, Situation], LogColumns],
    ) -> pl.DataFrame:
        if rows < 1:
            raise DataError(f"a log cannot have {rows} rows", hint="Ask for at least one row")
        rng = np.random.default_rng([self.seed, stream])
        at = self.population.situations(rng, rows, first_day, days)
        parts = []
        for start in range(0, rows, BLOCK):
            part = _part(at, slice(start, start + BLOCK))
            parts.append(pl.DataFrame({**_context_columns(self.population, part), **block(rng, part)}))
        event = pl.int_range(rows, dtype=pl.Int32, eager=True).alias("event_id")
        return pl.concat(parts).insert_column(0, event)

    def _old_server(self, rng: np.random.Generator, at: Situation) -> tuple[Integers, Floats, Integers]:
        """Candidates [n, K], their probabilities under the old policy, and the index of the drawn one."""
        ads = len(self.population.ads.category)
        key = rng.random((len(at), ads), dtype=np.float32)
        candidates = np.sort(np.argpartition(key, min(CANDIDATES, ads) - 1, axis=1)[:, :CANDIDATES], axis=1)
        probabilities = self.population.old_policy(at, candidates, FLOOR, TEMPERATURE)
        step = rng.integers(0, POLICY_STEPS, size=(len(at), 1))
        chosen = (np.round(np.cumsum(probabilities, axis=1) * POLICY_STEPS) <= step).sum(axis=1)
        return candidates, probabilities, chosen

    def _truth(self, at: Situation, ad: Integers) -> tuple[Floats, Floats]:
        return self.population.click_probability(at, ad), self.population.conversion_probability(at, ad)

    def _market_price(
        self, rng: np.random.Generator, at: Situation, click_probability: Floats
    ) -> NDArray[np.float32]:
        """The highest competing bid: log-normal, higher in the evening and for likely clicks."""
        by_segment = np.array([-0.35, 0.0, 0.25, 0.1, 0.3, -0.15])
        log_price: Floats = (
            np.log(0.18)
            + 0.35 * np.sin((at.hour - 13) * np.pi / 12)
            + by_segment[self.population.users.segment[at.user]]
            + 0.25 * np.log(click_probability.mean(axis=1) / 0.03)
            + rng.normal(0, 0.55, size=len(at))
        )
        price: NDArray[np.float32] = np.round(np.exp(log_price), 3).astype(np.float32)
        return price


def true_value(log: pl.DataFrame, probabilities: ArrayLike, truth: str = "true_click_probability") -> float:
    """The true value of a policy on a bandit log, per row: the mean over rows of Σ π(a) · truth(a).

    Args:
        log: a table of `Market.bandit_log`, with K candidates in each row.
        probabilities: the policy's probabilities [n, K], aligned with `candidates`.
        truth: the list column with the expected reward of each candidate.

    Raises:
        DataError: the probabilities have another shape than the candidates.
    """
    policy = np.asarray(probabilities, dtype=np.float64)
    expected = np.stack(log[truth].cast(pl.List(pl.Float64)).to_list())
    if policy.shape != expected.shape:
        raise DataError(
            f"the policy's probabilities have shape {policy.shape}, the candidates {expected.shape}",
            column=truth,
            hint="Give one probability for each candidate",
        )
    return float((policy * expected).sum(axis=1).mean())


def _context_columns(population: Population, at: Situation) -> LogColumns:
    users, ads = population.users, population.ads
    history, real = at.history, at.history != NO_CLICK
    length = real.sum(axis=1)
    clicked = history[real]
    return {
        "timestamp": at.time,
        "user_id": at.user.astype(np.int16 if len(users.age) < 2**15 else np.int32),
        "user_segment": _named(SEGMENTS, users.segment[at.user]),
        "user_age": users.age[at.user].astype(np.int8),
        "hour": at.hour.astype(np.int8),
        "device": _named(DEVICES, at.device),
        "placement": _named(PLACEMENTS, at.placement),
        "history_ads": _ragged(pl.Series(clicked.astype(np.int16)), length),
        "history_categories": _ragged(_named(CATEGORIES, ads.category[clicked]), length),
        "history_advertisers": _ragged(pl.Series(ads.advertiser[clicked].astype(np.int16)), length),
    }


def _ad_columns(population: Population, ad: Integers) -> LogColumns:
    ads = population.ads
    return {
        "ad_id": ad.astype(np.int16),
        "ad_category": _named(CATEGORIES, ads.category[ad]),
        "ad_advertiser": ads.advertiser[ad].astype(np.int16),
        "ad_price": ads.price[ad].astype(np.float32),
    }


def _candidate_columns(population: Population, candidates: Integers) -> LogColumns:
    """The columns of ads as lists: `candidates` for the ids, `candidate_<feature>` for the features."""
    n, k = candidates.shape
    flat = pl.DataFrame(_ad_columns(population, candidates.ravel()))
    lengths = np.full(n, k)
    ids, *features = (_ragged(column, lengths).alias(column.name) for column in flat)
    return {"candidates": ids, **{f"candidate_{feature.name}": feature for feature in features}}


def _outcomes(
    rng: np.random.Generator, click_probability: Floats, conversion_probability: Floats
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Clicks and conversions, drawn in advance for every candidate. A conversion needs a click."""
    click = rng.random(click_probability.shape) < click_probability
    conversion = click & (rng.random(click.shape) < conversion_probability)
    return click.astype(np.int8), conversion.astype(np.int8)


def _pick(values: NDArray[Scalar], chosen: Integers) -> NDArray[Scalar]:
    """The chosen column of each row."""
    return values[np.arange(len(values)), chosen]


def _part(at: Situation, rows: slice) -> Situation:
    return Situation(at.user[rows], at.time[rows], at.device[rows], at.placement[rows], at.history[rows])


def _named(names: Sequence[str], code: Integers) -> pl.Series:
    return pl.Series(names, dtype=pl.String).gather(code)


def _lists(matrix: NDArray[Any]) -> pl.Series:
    """A matrix [n, K] as a list column."""
    return _ragged(pl.Series(matrix.ravel()), np.full(len(matrix), matrix.shape[1]))


def _ragged(values: pl.Series, length: Integers) -> pl.Series:
    """Concatenated values as a list column with the given lengths."""
    offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    return pl.Series(pa.LargeListArray.from_arrays(pa.array(offsets), values.to_arrow()))
