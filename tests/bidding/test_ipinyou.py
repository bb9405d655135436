"""iPinYou campaign 2997, against the published integers of the RLB replay (H. Cai et al., WSDM 2017)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ctrkit.bidding import (
    Auctions,
    Bids,
    BidStrategy,
    CampaignTerms,
    LinearBidding,
    SimulationResult,
    TickResult,
    auctions_from_log,
    read_auction_log,
    simulate,
)
from ctrkit.bidding.strategies import AuctionHistory, RlbBidding, SsMdpBidding

DATA = Path(__file__).parents[3] / "shared" / "data"
LOG = DATA / "ipinyou_2997_test.parquet"
PRICES = DATA / "ipinyou_train_price_histogram.parquet"


@pytest.fixture(scope="module")
def log() -> Auctions:
    if not LOG.exists():
        pytest.skip("the iPinYou log is not beside the checkout")
    return auctions_from_log(read_auction_log(LOG))


@pytest.fixture(scope="module")
def training() -> AuctionHistory:
    """Market prices of the training days, and its mean click rate for every impression."""
    if not PRICES.exists():
        pytest.skip("the iPinYou histograms are not beside the checkout")
    counts = pl.read_parquet(PRICES).filter(campaign=2997)
    price = np.repeat(counts["market_price"].to_numpy().astype(np.float64), counts["count"].to_numpy())
    rate = np.full(len(price), 1386 / 312437)
    return AuctionHistory(price, rate, rate)


def replay(log: Auctions, *strategies: str, tick: int | None = None) -> SimulationResult:
    return simulate(
        log, strategies, CampaignTerms(1969, max_bid=300, integer_bids=True), episode_length=1000, tick=tick
    )


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


def auction_by_auction(log: Auctions, strategy: BidStrategy[Any]) -> tuple[int, float, float]:
    """Wins, clicks and cost of a replay that updates at every auction, for bids of budget and time alone.

    Within a tick such bids change only with what is won, so a tick is cut short after its first win.
    """
    assert log.click is not None
    price, click, rng = log.market_price, log.click[:, 0], np.random.default_rng(0)
    wins, clicks, cost, first, state = 0, 0.0, 0.0, 0, strategy.start(1969, 1000)
    while first < len(log):
        if first % 1000 == 0:
            spent, state = 0.0, strategy.restart(state, 1969, 1000)
        ahead = log[first : min(first + 8, (first // 1000 + 1) * 1000)].slots
        bids = strategy.bid(state, ahead, rng)
        won = np.minimum(np.minimum(bids.amount, 300), 1969 - spent) >= price[first : first + len(ahead)]
        end = int(np.argmax(won)) + 1 if won.any() else len(ahead)
        won, played = won[:end], Bids(bids.ad[:end], bids.amount[:end], bids.value[:end])
        paid = np.where(won, price[first : first + end], 0.0)
        state = strategy.update(state, TickResult(ahead, played, won, paid))
        wins, clicks = wins + int(won.sum()), clicks + float(click[first : first + end] @ won)
        spent, cost, first = spent + float(paid.sum()), cost + float(paid.sum()), first + end
    return wins, clicks, cost


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "published"), [(RlbBidding, (39_680, 78, 304_375)), (SsMdpBidding, (40_395, 80, 306_637))]
)
def test_the_markov_decision_processes_give_the_published_integers(
    log: Auctions, training: AuctionHistory, kind: type[RlbBidding], published: tuple[int, int, int]
) -> None:
    strategy = kind(unit=1, highest_bid=300).tuned(training, CampaignTerms(1969), 1000)
    assert auction_by_auction(log, strategy) == published


@pytest.mark.slow
def test_bids_by_ticks_of_ten_lose_next_to_nothing(log: Auctions, training: AuctionHistory) -> None:
    rlb = RlbBidding(unit=1, highest_bid=300).tuned(training, CampaignTerms(1969), 1000)
    result = simulate(log, [rlb], CampaignTerms(1969, max_bid=300, integer_bids=True), episode_length=1000)
    assert (result.strategies[0].clicks or 0) >= 76
    assert (result.strategies[0].share_of_optimum or 0) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize(("share", "clicks"), [(4, 247), (8, 161), (16, 107), (32, 74)])
def test_linear_tuned_on_the_test_set_finds_the_best_base_bid(log: Auctions, share: int, clicks: int) -> None:
    """Clicks of the best of all base bids, by a search that counts clicks; ours counts expected ones."""
    budget = int(19689072 / 312437 * 1000 / share)
    linear = LinearBidding().tuned(
        AuctionHistory.from_auctions(log), CampaignTerms(budget, max_bid=300, integer_bids=True), 1000
    )
    (tuned,) = simulate(
        log, [linear], CampaignTerms(budget, max_bid=300, integer_bids=True), episode_length=1000, tick=1000
    ).strategies
    assert clicks * 0.93 <= (tuned.clicks or 0) <= clicks


@pytest.mark.slow
def test_dual_pacing_is_as_good_as_the_published_learners(log: Auctions) -> None:
    (dual,) = replay(log, "dual").strategies
    # RLB, which is given the distribution of market prices, wins 39,680 impressions and 78 clicks.
    assert (dual.clicks or 0) >= 76
    assert (dual.share_of_optimum or 0) > 0.95


def test_the_log_is_the_known_one(log: Auctions) -> None:
    assert log.click is not None
    assert (log.market_price.sum(), log.click.sum()) == (8_617_148, 530)
