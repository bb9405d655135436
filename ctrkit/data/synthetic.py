"""A market with known truth, and its sample logs with a page that describes their columns.

`Market` makes the tables, `true_value` gives the true value of any policy on them, and `write_sample_logs`
writes the files of `logs_sample/`. The same seed gives the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from ctrkit.data.logs import CAMPAIGN_ADS, CANDIDATES, FLOOR, Market, true_value
from ctrkit.data.market import HISTORY_LENGTH
from ctrkit.tables import write_table, write_text

__all__ = ["COLUMNS", "Market", "true_value", "write_sample_logs"]

# Chosen so that each file stays below 3 MB.
IMPRESSIONS, DECISIONS, AUCTIONS = 78_000, 26_000, 30_000

_CONTEXT = {
    "event_id": "number of the row",
    "timestamp": "unix seconds, UTC; rows are in time order",
    "user_id": "the user; its rows are not independent of one another",
    "user_segment": "the kind of household the user belongs to",
    "user_age": "years",
    "hour": "hour of the day, 0 to 23, UTC",
    "device": "mobile, desktop or tablet",
    "placement": "where on the page the ad stands",
    "history_ads": (
        f"the ads that the user clicked in the feed before this moment, oldest first, the newest "
        f"{HISTORY_LENGTH}; the feed is no part of these logs, so no row's own outcome can be in it"
    ),
    "history_categories": "the categories of those ads, in the same order",
    "history_advertisers": "their advertisers, in the same order",
}
_CANDIDATES = {
    "candidate_ad_category": "the category of each candidate",
    "candidate_ad_advertiser": "the advertiser of each candidate",
    "candidate_ad_price": "the price, in money, of what each candidate offers",
}

# Every column of every sample log and its meaning, for the page and a test.
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "impressions": {
        **_CONTEXT,
        "ad_id": "the ad that was shown",
        "ad_category": "what kind of thing it offers",
        "ad_advertiser": "who pays for it",
        "ad_price": "the price, in money, of what it offers",
        "click": "1 where the ad was clicked",
        "conversion": "1 where the click led to a conversion",
        "conversion_delay": "seconds from click to conversion; null without one; none is cut off",
        "value": "what a conversion of this ad is worth to its advertiser, in money, converted or not",
        "true_click_probability": "truth: the probability of the click",
        "true_conversion_probability": "truth: the probability of a conversion after a click",
    },
    "bandit": {
        **_CONTEXT,
        "candidates": f"the {CANDIDATES} ads that could have been shown, drawn at random from all",
        **_CANDIDATES,
        "logging_probabilities": f"the old policy's probability of each candidate, at least {FLOOR}",
        "action": "the ad that was shown",
        "propensity": "the old policy's probability of the action",
        "reward": "1 where the action was clicked",
        "conversion": "1 where the click led to a conversion",
        "value": "what a conversion of the action is worth, in money, converted or not",
        "true_click_probability": "truth: the probability of a click on each candidate, had it been shown",
        "true_conversion_probability": "truth: the probability of a conversion after a click on each",
    },
    "auctions": {
        **_CONTEXT,
        "market_price": "the highest competing bid, in money an impression",
        "candidates": f"the {CAMPAIGN_ADS} ads of the campaign that bids",
        **_CANDIDATES,
        "candidate_value": "what a conversion of each candidate is worth, in money",
        "true_click": "truth: 1 where the candidate would be clicked if it won this auction",
        "true_conversion": "truth: 1 where that click would lead to a conversion",
        "true_click_probability": "truth: the probability of a click on each candidate",
        "true_conversion_probability": "truth: the probability of a conversion after a click on each",
    },
}

_ABOUT = {
    "impressions": "Seven days of ads shown by the old ad server: what a model is trained on.",
    "bandit": "The next two days, with the old server's probabilities: what a new policy is judged on.",
    "auctions": "One more day, as auctions in which one campaign bids: what a budget is spent on.",
}


def write_sample_logs(folder: str | os.PathLike[str], seed: int = 0) -> list[Path]:
    """Write impressions, bandit and auctions as parquet, and README.md, which describes every column.

    Each file is written completely or not at all. The same seed gives the same bytes.
    """
    market = Market(seed)
    tables = {
        "impressions": market.impressions(IMPRESSIONS),
        "bandit": market.bandit_log(DECISIONS),
        "auctions": market.auction_log(AUCTIONS),
    }
    paths = [write_table(table, Path(folder) / f"{name}.parquet") for name, table in tables.items()]
    return [*paths, write_text(column_page(tables, seed), Path(folder) / "README.md")]


def column_page(tables: Mapping[str, pl.DataFrame], seed: int) -> str:
    """The page about sample logs, in Markdown."""
    lines = [
        "# Sample logs",
        "",
        f"Logs of a simulated ad market, made by `ctrkit sample-logs --seed {seed}`; the same seed gives",
        "the same bytes. Nothing in them comes from real people. Columns named `true_*` hold what a real",
        "log cannot: the probabilities that outcomes were drawn from. They are there to judge results by,",
        "and no feature may read one. Lists that describe candidates are in the order of `candidates`.",
    ]
    for name, table in tables.items():
        lines += [
            "",
            f"## {name}.parquet",
            "",
            f"{_ABOUT[name]} {table.height:,} rows.",
            "",
            *_truth(name, table),
            "| column | type | meaning |",
            "|---|---|---|",
            *(f"| `{c}` | {_type(table.schema[c])} | {meaning} |" for c, meaning in COLUMNS[name].items()),
        ]
    return "\n".join(lines) + "\n"


def _truth(name: str, table: pl.DataFrame) -> list[str]:
    """A paragraph with the true totals of the log."""
    if name == "bandit":
        truth = np.array(table["true_click_probability"].to_list())
        old = true_value(table, table["logging_probabilities"].to_list())
        best = truth.max(axis=1).mean()
        return [
            f"A decision of the old policy is truly worth {old:.5f} clicks; of the best policy, {best:.5f}.",
            "",
        ]
    if name == "auctions":
        return [f"To win every auction costs {table['market_price'].sum():,.0f}.", ""]
    clicks, conversions = table["click"].sum(), table["conversion"].sum()
    return [f"{clicks:,} clicks, {conversions:,} conversions.", ""]


def _type(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.List):
        return f"list of {dtype.inner}".lower()
    return str(dtype).lower()
