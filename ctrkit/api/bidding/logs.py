"""What a simulated bidder won, as the logs that it would have kept: to train on, and to judge policies by."""

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

# Known only once the auction is over, so that neither a model nor a policy may read them; what became of the
# impression is told by the events.
_NOT_KNOWN_BEFORE = (
    "market_price", "slot_prices", "click", "conversion", "true_click", "true_conversion",
)  # fmt: skip
_CLICK_TRUTH = f"{TRUTH_PREFIX}click_probability"


def impression_log(
    table: pl.DataFrame, events: pl.DataFrame, strategy: str, ad_column: str = "ad_id"
) -> pl.DataFrame:
    """What a strategy won, one row an impression, as `ctrkit train` reads it.

    The columns are those of the auction log that were known before the bid. Of each list about the
    candidates there is the value of the ad that was shown: `x` of `candidate_x`, and the truth of a simulated
    market. Then come `click` and, where known, `conversion`, and where pages have several slots `position`.
    A click is one that was seen, so that lower slots have fewer; the true probability of a click, which is
    that of the best slot, is then left out.

    Args:
        table: the auction log as `read_auction_log` gives it, whose rows are the auctions.
        events: of `ctrkit.bidding.SimulationResult`.
        strategy: as it is named there.
        ad_column: name of the column with the shown ad's id, where the log lists candidates.

    Raises:
        DataError: events of other auctions or without clicks, no such strategy, or one that won nothing.
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
    """What a strategy won, one row a decision which ad to show, as `ctrkit ope` reads it.

    The columns are those of the auction log that were known before the bid, with all candidates; then
    `action`, the ad that was shown, `propensity`, the chance that it had, and `logging_probabilities`, those
    of all candidates, `reward`, 1 for a click, and where known `conversion` and `value`, what one is worth.
    Clicks, positions and truth are as in `impression_log`.

    Estimates on such a log are of the auctions that the strategy won: what another policy, choosing in its
    place, would have earned there at the same bids. Chances are given what was known in the tick, so that an
    ad may have none in some of them; a policy that would often show such an ad is not told of by the log, and
    `ctrkit ope` says so.

    Args: as of `impression_log`.

    Raises:
        DataError: as in `impression_log`; a strategy that gives no chances; or a log without candidates.
    """
    won = _won(table, events, strategy)
    if not _drew(won.choice):
        raise DataError(
            f"strategy '{strategy}' does not say with what chances it showed its ads",
            column="chances",
            hint="Take one that draws them, and whose bid does not hang on the draw, such as thompson",
        )
    if "candidates" not in won.rows.columns:
        raise DataError(
            "the auction log names no candidates, so that there was nothing to choose",
            column="candidates",
            hint="Give a log that lists the ads of each auction",
        )
    chances = won.choice["chances"]
    columns: list[pl.Expr | pl.Series] = [
        # Chances have places for as many ads as the longest list has.
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
    """Write `<strategy>/impressions.parquet` and, where its chances are known, `<strategy>/bandit.parquet`.

    A bandit log of an earlier run of the same strategy is removed where there is none now; nothing else is.
    A strategy that won nothing has no logs, and none has where the auction log does not know clicks. Each
    file is there whole or not at all; characters that a folder's name cannot have everywhere become `_`.

    Args:
        strategies: as they are named in the events. Other args: as of `impression_log`.

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
        rows: of the auction log, with what was known before the bid and the truth.
        choice: the events beside them.
    """

    rows: pl.DataFrame
    choice: pl.DataFrame

    def of_ad(self, name: str) -> pl.Series:
        """The entry of a list about the candidates that is the shown ad's."""
        return self.rows[name].list.get(self.choice["ad"])

    def outcomes(self, label: str) -> list[pl.Series]:
        """The click under the name `label`, the conversion and the position, where they are known."""
        names = {"click": label, "conversion": "conversion", "slot": "position"}
        return [self.choice[own].alias(name) for own, name in names.items() if own in self.choice.columns]


def _won(table: pl.DataFrame, events: pl.DataFrame, strategy: str) -> _Won:
    own = events.filter(strategy=strategy)
    if not own.height:
        raise DataError(
            f"the events know no strategy '{strategy}'",
            column="strategy",
            hint=nearest(strategy, events["strategy"].unique()),
        )
    if "click" not in own.columns:
        raise DataError(
            "the auction log does not know what was clicked, so that nothing can be learnt of it",
            column="click",
            hint="Give a log with clicks",
        )
    if not own["market_price"].equals(table["market_price"].cast(pl.Float64)):
        raise DataError(
            "the events are not of the auctions of this log, row by row",
            column="market_price",
            hint="Give the log that was replayed as it is, neither resampled nor with shocks",
        )
    choice = own.filter("won")
    if not choice.height:
        raise DataError(f"strategy '{strategy}' won nothing", column="won", hint="Give it a larger budget")
    left_out = [*_NOT_KNOWN_BEFORE, *([_CLICK_TRUTH] if "slot" in own.columns else [])]
    if "candidates" in table.columns:  # what stands beside their lists need not be of the ad that was shown
        lists = (name for name in table.columns if name.startswith(CANDIDATE_PREFIX))
        left_out += [name.removeprefix(CANDIDATE_PREFIX) for name in lists]
    return _Won(table.filter(own["won"]).drop(left_out, strict=False), choice)


def _drew(won: pl.DataFrame) -> bool:
    """Whether the chances of all ads are known, of events."""
    return "chances" in won.columns and not won["chances"].null_count()
