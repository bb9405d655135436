"""AuctionNet (Alimama, NeurIPS 2024): simulated auctions of 48 bidders, every bid of every auction."""

from __future__ import annotations

from pathlib import Path

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.data.sources.official import Float64, Int8, Int64, official
from ctrkit.tables import TextFormat, scan_text

COLUMNS = {
    "deliveryPeriodIndex": Int64, "advertiserNumber": Int64, "advertiserCategoryIndex": Int64,
    "budget": Float64, "CPAConstraint": Float64, "timeStepIndex": Int64, "remainingBudget": Float64,
    "pvIndex": Int64, "pValue": Float64, "pValueSigma": Float64, "bid": Float64, "xi": Int8, "adSlot": Int8,
    "cost": Float64, "isExposed": Int8, "conversionAction": Int8, "leastWinningCost": Float64, "isEnd": Int8,
}  # fmt: skip


class AuctionNet(Source):
    """AuctionNet's tables made in advance: 21 periods of 500,000 auctions, a row for each of the 48 bidders.

    The columns have the owner's names; `conversionAction` is `conversion`. `leastWinningCost` is the price at
    which the auction was won: `ctrkit simulate-bidding --map market_price=leastWinningCost` replays it.
    """

    name = "auctionnet"
    rows = "500 M"
    columns = 18
    labels = ("conversion",)
    publisher = "https://github.com/alimama-tech/AuctionNet"
    terms = "Apache 2.0"
    first_line = "deliveryPeriodIndex,advertiserNumber,"

    def tables(self, path: Path) -> SourceTables:
        rows = scan_text(official(path, "period-*.csv"), TextFormat(COLUMNS))
        return SourceTables(rows.rename({"conversionAction": "conversion"}))
