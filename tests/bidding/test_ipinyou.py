"""iPinYou campaign 2997, against the published integers of the RLB replay (H. Cai et al., WSDM 2017)."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctrkit.bidding import Auctions, SimulationResult, auctions_from_log, read_auction_log, simulate

LOG = Path(__file__).parents[3] / "shared" / "data" / "ipinyou_2997_test.parquet"


@pytest.fixture(scope="module")
def log() -> Auctions:
    if not LOG.exists():
        pytest.skip("the iPinYou log is not beside the checkout")
    return auctions_from_log(read_auction_log(LOG))


def replay(log: Auctions, *strategies: str, tick: int | None = None) -> SimulationResult:
    return simulate(log, strategies, 1969, episode_length=1000, max_bid=300, integer_bids=True, tick=tick)


def test_gives_the_published_integers(log: Auctions) -> None:
    value_per_click, average_ctr = 19689072 / 1386, 1386 / 312437
    result = replay(
        log,
        f"truthful:value_per_click={value_per_click}",
        f"linear:base_bid=10,average_ctr={average_ctr}",
        tick=1000,
    )
    truthful, linear = result.strategies
    assert (truthful.wins, truthful.clicks, truthful.spend) == (14_752, 48, 307_751)
    assert (linear.wins, linear.clicks, linear.spend) == (32_208, 71, 203_610)
    assert truthful.auctions == linear.auctions == 156_063
    assert result.episodes == 157


def test_dual_pacing_is_as_good_as_the_published_learners(log: Auctions) -> None:
    (dual,) = replay(log, "dual").strategies
    # RLB, which is given the distribution of market prices, wins 39,680 impressions and 78 clicks.
    assert (dual.clicks or 0) >= 76
    assert (dual.share_of_optimum or 0) > 0.95


def test_the_log_is_the_known_one(log: Auctions) -> None:
    assert log.click is not None
    assert (log.market_price.sum(), log.click.sum()) == (8_617_148, 530)
