"""What a simulated bidder won, written as its own logs: to train on, and to evaluate policies on."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ctrkit.errors import DataError, nearest
from ctrkit.schema import CANDIDATE_PREFIX, TRUTH_PREFIX
from ctrkit.tables import write_table

# Known only after the auction, so that neither a model nor a policy may read them. The events hold the
# outcomes of the impression.
_NOT_KNOWN_BEFORE = (
    "market_price", "slot_prices", "click", "conversion", "true_click", "true_conversion",
)  # fmt: skip
_CLICK_TRUTH = f"{TRUTH_PREFIX}click_probability"


def impression_log(
    table: pl.DataFrame, events: pl.DataFrame, strategy: str, ad_column: str = "ad_id"
) -> pl.DataFrame:
    """What a strategy won, one row per impression, as `ctrkit train` reads it.

    The columns are those of the auction log that were known before the bid. Each list over the candidates is
    replaced by its value for the ad that was shown: `candidate_x` by `x`, and likewise the truth of a
    simulated market. Then come `click`, `conversion` where it is known, and `position` where pages have
    several slots. A click needs a user who looks at the slot, so lower slots have fewer clicks. The true
    click probability is that of the best slot, so it is left out where pages have several.

    Args:
        table: the auction log as `read_auction_log` gives it, whose rows are the auctions.
        events: the `events` of a `ctrkit.bidding.SimulationResult`.
        strategy: its name in the events.
        ad_column: the name of the new column with the id of the shown ad, where the log lists candidates.

    Raises:
        DataError: events of other auctions or without clicks, an unknown strategy, or one that won nothing.
    """
    won = _won(table, events, strategy)
    rows = won.rows.select(pl.exclude("candidates", f"^{CANDIDATE_PREFIX}.*$"))
    lists = [
        won.of_ad(name).alias(name.removeprefix(CANDIDATE_PREFIX))
        for name, dtype in won.rows.schema.items()
        if isinstance(dtype, pl.List) and name.startswith((CANDIDATE_PREFIX, TRUTH_PREFIX))
    ]
    if "candidates" not in won.rows.columns:
        return rows.with_columns(won.outcomes("click"))
    return rows.with_columns(won.of_ad("candidates").alias(ad_column), *lists, *won.outcomes("click"))


def bandit_log(table: pl.DataFrame, events: pl.DataFrame, strategy: str) -> pl.DataFrame:
    """What a strategy won, one row per decision which ad to show, as `ctrkit ope` reads it.

    The columns are those of the auction log that were known before the bid, with all candidates. Then come

    - `action`, the ad that was shown, and `propensity`, its probability;
    - `logging_probabilities`, the probabilities of all candidates;
    - `reward`, 1 for a click;
    - where they are known, `conversion` and `value`, the value of a conversion.

    Clicks, positions and truth are as in `impression_log`.

    An estimate on such a log is about the auctions that the strategy won: what another policy would have
    earned there if it had chosen the ads, at the same bids. The probabilities are those given the state of
    the tick, so an ad may have probability 0 in some ticks. The log does not support a policy that would
    often show such an ad, and `ctrkit ope` says so.

    Args:
        table: as in `impression_log`.
        events: as in `impression_log`.
        strategy: as in `impression_log`.

    Raises:
        DataError: as in `impression_log`; a strategy without probabilities; or a log without candidates.
    """
    won = _won(table, events, strategy)
    if not _drew(won.choice):
        raise DataError(
            f"strategy '{strategy}' has no probabilities with which it showed its ads",
            column="chances",
            hint="Take one that draws its ads, with a bid that does not depend on the draw, such as thompson",
        )
    if "candidates" not in won.rows.columns:
        raise DataError(
            "the auction log lists no candidates, so there was nothing to choose",
            column="candidates",
            hint="Give a log that lists the ads of each auction",
        )
    chances = won.choice["chances"]
    columns: list[pl.Expr | pl.Series] = [
        # The lists of probabilities are as long as the longest list of candidates.
        pl.lit(chances).list.head(pl.col("candidates").list.len()).alias("logging_probabilities"),
        won.of_ad("candidates").alias("action"),
        chances.list.get(won.choice["ad"]).alias("propensity"),
        *won.outcomes("reward"),
    ]
    if (worth := f"{CANDIDATE_PREFIX}value") in won.rows.columns:
        columns.append(won.of_ad(worth).alias("value"))
    return won.rows.with_columns(columns)


def write_logs(
    table: pl.DataFrame,
    events: pl.DataFrame,
    strategies: Sequence[str],
    folder: str | os.PathLike[str],
    ad_column: str = "ad_id",
) -> tuple[Path, ...]:
    """Write `<strategy>/impressions.parquet` and, if the strategy draws its ads, `<strategy>/bandit.parquet`.

    A bandit log of an earlier run of the same strategy is removed if there is none now; nothing else is
    removed. A strategy that won nothing has no logs, and an auction log without clicks gives none. A file is
    there whole or not at all. Characters that not every folder name may have become `_`.

    Args:
        table: as in `impression_log`.
        events: as in `impression_log`.
        strategies: their names in the events.
        folder: where the folders of the strategies are made.
        ad_column: as in `impression_log`.

    Returns:
        The files, strategy by strategy.
    """
    paths: list[Path] = []
    for strategy in strategies:
        own = events.filter(strategy=strategy)
        won = own.filter("won")
        if not won.height or "click" not in won.columns:
            continue
        home = Path(folder) / re.sub(r"[^\w.=,+-]", "_", strategy)
        impressions = impression_log(table, own, strategy, ad_column)
        paths.append(write_table(impressions, home / "impressions.parquet"))
        if _drew(won) and "candidates" in table.columns:
            paths.append(write_table(bandit_log(table, own, strategy), home / "bandit.parquet"))
        else:
            (home / "bandit.parquet").unlink(missing_ok=True)
    return tuple(paths)


@dataclass(frozen=True)
class _Won:
    """What a strategy won.

    Attributes:
        rows: the rows of the auction log that were won, with what was known before the bid and the truth.
        choice: the events of these rows.
    """

    rows: pl.DataFrame
    choice: pl.DataFrame

    def of_ad(self, name: str) -> pl.Series:
        """The entry of the shown ad in a list over the candidates."""
        return self.rows[name].list.get(self.choice["ad"])

    def outcomes(self, label: str) -> list[pl.Series]:
        """The click under the name `label`, the conversion and the position, where they are known."""
        names = {"click": label, "conversion": "conversion", "slot": "position"}
        return [self.choice[own].alias(name) for own, name in names.items() if own in self.choice.columns]


def _won(table: pl.DataFrame, events: pl.DataFrame, strategy: str) -> _Won:
    own = events.filter(strategy=strategy)
    if not own.height:
        raise DataError(
            f"there is no strategy '{strategy}' in the events",
            column="strategy",
            hint=nearest(strategy, events["strategy"].unique()),
        )
    if "click" not in own.columns:
        raise DataError(
            "the auction log has no clicks, so nothing can be learnt from what was won",
            column="click",
            hint="Give a log with clicks",
        )
    if not own["market_price"].equals(table["market_price"].cast(pl.Float64)):
        raise DataError(
            "the events and the log are not of the same auctions, row by row",
            column="market_price",
            hint="Give the log that was replayed, neither resampled nor under shocks",
        )
    choice = own.filter("won")
    if not choice.height:
        raise DataError(f"strategy '{strategy}' won nothing", column="won", hint="Give it a larger budget")
    left_out = [*_NOT_KNOWN_BEFORE, *([_CLICK_TRUTH] if "slot" in own.columns else [])]
    if "candidates" in table.columns:  # a column next to such a list need not be about the ad that was shown
        lists = (name for name in table.columns if name.startswith(CANDIDATE_PREFIX))
        left_out += [name.removeprefix(CANDIDATE_PREFIX) for name in lists]
    return _Won(table.filter(own["won"]).drop(left_out, strict=False), choice)


def _drew(won: pl.DataFrame) -> bool:
    """Whether the events of what was won hold the probabilities of all ads."""
    return "chances" in won.columns and not won["chances"].null_count()
