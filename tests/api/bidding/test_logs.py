"""What a bidder won, as logs: every row against the auction it came from, and the chances against counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ctrkit.api.bidding.logs import bandit_log, impression_log, write_logs
from ctrkit.bidding import (
    AuctionRule,
    Auctions,
    CampaignTerms,
    auctions_from_log,
    parse_strategy,
    read_auction_log,
    simulate,
)
from ctrkit.data.synthetic import Market
from ctrkit.errors import DataError
from ctrkit.ope import read_bandit_log
from ctrkit.policies import padded
from ctrkit.policies.laplace import LastLayerPosterior
from ctrkit.tables import join_tables

ROWS, WIDTH = 3000, 3
# A posterior so wide that every ad is now and then the best.
POSTERIOR = LastLayerPosterior(np.zeros(WIDTH + 1), np.eye(WIDTH + 1) * 2.0)
# What the sample's own logs hold beside it, and the auction log cannot know.
UNKNOWN = {"conversion_delay"}


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return read_auction_log(Market(seed=5, users=100, ads=20, advertisers=5).auction_log(ROWS))


def scored(table: pl.DataFrame, **others: Any) -> Auctions:
    """The log as auctions: a believed click rate, and hidden values that make the believer unsure."""
    rng = np.random.default_rng(1)
    click, truth = (padded(table[name], fill=0.0) for name in ("true_click", "true_click_probability"))
    real = truth > 0
    return Auctions(
        market_price=table["market_price"].to_numpy(),
        click_probability=np.where(real, rng.uniform(0.02, 0.04, truth.shape), 0.0),
        value_of_click=np.ones(truth.shape),
        hidden=rng.normal(size=(*truth.shape, WIDTH)),
        click=click,
        conversion=padded(table["true_conversion"], fill=0.0),
        true_click_probability=truth,
        **others,
    )


def played(auctions: Auctions, *texts: str, share: float = 0.5, **terms: Any) -> pl.DataFrame:
    """The events of strategies with a budget of this share of what all auctions cost."""
    strategies = [parse_strategy(text, None if text.startswith("dual") else POSTERIOR) for text in texts]
    budget = share * float(auctions.market_price.sum())
    return simulate(auctions, strategies, CampaignTerms(budget, **terms), seed=7).events


@pytest.fixture(scope="module")
def events(table: pl.DataFrame) -> pl.DataFrame:
    return played(scored(table), "thompson", "epsilon-greedy:epsilon=0.5", "greedy", "dual")


@pytest.mark.parametrize("strategy", ["thompson", "dual"])
def test_each_impression_is_that_of_its_auction(
    table: pl.DataFrame, events: pl.DataFrame, strategy: str
) -> None:
    won = events.filter(pl.col("strategy") == strategy, "won").rows(named=True)
    auctions = table.rows(named=True)
    log = impression_log(table, events, strategy)
    assert log.height == len(won) > 100
    for event, row in zip(won, log.rows(named=True), strict=True):
        auction, ad = auctions[event["auction"]], event["ad"]
        assert row["event_id"] == auction["event_id"]
        assert row["history_ads"] == auction["history_ads"]
        assert row["ad_id"] == auction["candidates"][ad]
        assert row["ad_price"] == auction["candidate_ad_price"][ad]
        assert row["value"] == auction["candidate_value"][ad]
        assert row["click"] == auction["true_click"][ad]
        assert row["conversion"] == auction["true_conversion"][ad]
        assert row["true_click_probability"] == auction["true_click_probability"][ad]


def test_each_decision_is_that_of_its_auction(table: pl.DataFrame, events: pl.DataFrame) -> None:
    won = events.filter(pl.col("strategy") == "thompson", "won").rows(named=True)
    auctions = table.rows(named=True)
    log = bandit_log(table, events, "thompson")
    for event, row in zip(won, log.rows(named=True), strict=True):
        auction, ad = auctions[event["auction"]], event["ad"]
        assert row["candidates"] == auction["candidates"]
        assert row["candidate_ad_category"] == auction["candidate_ad_category"]
        assert row["true_click_probability"] == auction["true_click_probability"]
        assert row["action"] == auction["candidates"][ad]
        assert row["propensity"] == row["logging_probabilities"][ad] > 0
        assert sum(row["logging_probabilities"]) == pytest.approx(1.0)
        assert (row["reward"], row["conversion"]) == (
            auction["true_click"][ad],
            auction["true_conversion"][ad],
        )
        assert row["value"] == auction["candidate_value"][ad]


def test_the_columns_are_those_of_the_markets_own_logs(table: pl.DataFrame, events: pl.DataFrame) -> None:
    market = Market(seed=5, users=100, ads=20, advertisers=5)
    old = market.impressions(50).drop(UNKNOWN)
    new = impression_log(table, events, "thompson")
    assert set(new.columns) == set(old.columns)
    assert join_tables([old, new], [None, None]).height == 50 + new.height  # types that go together
    decisions, before = bandit_log(table, events, "thompson"), market.bandit_log(50)
    assert set(decisions.columns) == {*before.columns, "candidate_value"}
    assert join_tables([before, decisions.select(before.columns)], [None, None]).height > 50


def test_what_is_known_only_after_the_auction_is_left_out(table: pl.DataFrame, events: pl.DataFrame) -> None:
    after = {"market_price", "true_click", "true_conversion", "bid", "won", "spend", "explored", "chances"}
    assert not after & {*impression_log(table, events, "dual").columns}
    assert not after & {*bandit_log(table, events, "thompson").columns}


def misfit(log: pl.DataFrame) -> float:
    """By how many standard errors, at most, ads were shown more or less often than their chances say: each ad
    over all rows, and the likelier ads of each row. Sums of martingales: E[1(a = k)] = p(k) has the variance
    p(1 − p), and E[p(a)] = Σ p² has Σ p³ − (Σ p²)², however the chances came about."""
    chances = padded(log["logging_probabilities"], fill=0.0)
    shown = padded(log["candidates"]) == log["action"].to_numpy()[:, None]
    by_ad = (shown - chances).sum(axis=0) / np.sqrt((chances * (1 - chances)).sum(axis=0))
    square, cube = (chances**2).sum(axis=1), (chances**3).sum(axis=1)
    likely = (chances[shown] - square).sum() / np.sqrt((cube - square**2).sum())
    return float(np.abs([*by_ad, likely]).max())


@pytest.mark.parametrize("strategy", ["thompson", "epsilon-greedy", "bootstrapped"])
def test_ads_are_shown_as_often_as_their_propensities_say(table: pl.DataFrame, strategy: str) -> None:
    log = bandit_log(table, played(scored(table), strategy, share=0.2), strategy)
    read = read_bandit_log(log, require_candidates=True)  # with all its checks
    assert len(read) > 100
    assert misfit(log) < 4
    # With chances in another order they would not be.
    other = log.with_columns(pl.col("logging_probabilities").list.reverse())
    assert misfit(other) > 4


@pytest.mark.parametrize("strategy", ["thompson", "epsilon-greedy"])
def test_weighting_gives_what_another_policy_would_earn(
    table: pl.DataFrame, events: pl.DataFrame, strategy: str
) -> None:
    # Rewards without luck, the truth itself, leave the luck of the choice alone: Σ π/p · r is as far from
    # Σ π · r as the exact variance of weights allows.
    log = bandit_log(table, events, strategy)
    chances, truth = padded(log["logging_probabilities"]), padded(log["true_click_probability"])
    supported = chances > 0
    policy = supported / supported.sum(axis=1, keepdims=True)
    place = (padded(log["candidates"]) == log["action"].to_numpy()[:, None]).argmax(axis=1)
    rows = np.arange(log.height)
    found = policy[rows, place] / log["propensity"].to_numpy() * truth[rows, place]
    expected = (policy * truth).sum(axis=1)
    square = np.divide((policy * truth) ** 2, chances, where=supported, out=np.zeros_like(truth)).sum(axis=1)
    error = np.sqrt((square - expected**2).sum())
    assert abs((found - expected).sum()) < 4 * error
    assert error < 0.2 * expected.sum()


def test_lists_of_other_lengths_are_kept(table: pl.DataFrame) -> None:
    length = np.random.default_rng(0).integers(1, 7, table.height)
    lists = [name for name, dtype in table.schema.items() if name.startswith(("cand", "true_"))]
    ragged = table.with_columns(pl.col(lists).list.head(pl.lit(pl.Series(length))))
    log = bandit_log(ragged, played(scored(ragged), "thompson"), "thompson")
    own = log["candidates"].list.len()
    assert own.n_unique() == 6
    assert own.equals(log["logging_probabilities"].list.len())
    assert log["logging_probabilities"].list.sum().to_numpy() == pytest.approx(np.ones(log.height))
    assert len(read_bandit_log(log)) == log.height


def test_a_click_in_a_worse_slot_is_the_one_that_was_seen(table: pl.DataFrame) -> None:
    best = table["market_price"].to_numpy()
    paged = scored(table, slot_price=np.column_stack([best, 0.3 * best]))
    events = played(paged, "thompson", rule=AuctionRule("gsp", slot_effects=(1.0, 0.3)))
    log = impression_log(table, events, "thompson")
    own = events.filter("won")
    assert set(log["position"]) == {0, 1}
    assert log["position"].to_list() == own["slot"].to_list()
    potential = padded(table["true_click"])[own["auction"].to_numpy(), own["ad"].to_numpy()]
    seen = log["click"].to_numpy()
    assert (seen <= potential).all()
    assert (seen < potential).any()
    assert (seen == potential)[log["position"].to_numpy() == 0].all()
    # The truth is that of the best slot, and would be taken for that of these rewards.
    decisions = bandit_log(table, events, "thompson")
    assert "true_click_probability" not in {*decisions.columns, *log.columns}
    assert "position" in decisions.columns
    assert misfit(decisions) < 4


def test_a_log_of_single_ads_gives_its_own_rows(tmp_path: Path) -> None:
    impressions = Market(seed=5, users=100, ads=20, advertisers=5).impressions(500)
    raw = impressions.with_columns(market_price=pl.lit(0.2), pctr=pl.lit(0.03))
    table = read_auction_log(raw)
    events = played(auctions_from_log(table), "dual")
    won = events.filter("won")["auction"]
    log = impression_log(table, events, "dual")
    assert log.select(impressions.columns).equals(table.select(impressions.columns)[won])
    assert set(log.columns) == {*impressions.columns, "pctr"}
    assert write_logs(table, events, ["dual"], tmp_path) == (tmp_path / "dual" / "impressions.parquet",)


def test_features_of_another_ad_do_not_stay_beside_the_candidates(
    table: pl.DataFrame, events: pl.DataFrame
) -> None:
    stale = table.with_columns(ad_category=pl.lit("stale"), ad_id=pl.lit(-1))
    assert "stale" not in impression_log(stale, events, "dual")["ad_category"]
    assert -1 not in impression_log(stale, events, "dual")["ad_id"]
    assert "ad_category" not in bandit_log(stale, events, "thompson").columns


def test_every_strategy_has_a_folder(table: pl.DataFrame, events: pl.DataFrame, tmp_path: Path) -> None:
    both = ["thompson:draws=8", "thompson:draws=64"]
    found = played(scored(table), *both, "dual")
    names = found["strategy"].unique(maintain_order=True).to_list()
    paths = write_logs(table, found, names, tmp_path / "logs", ad_column="shown")
    folders = [path.parent.name for path in paths]
    assert [path.name for path in paths] == ["impressions.parquet", "bandit.parquet"] * 2 + [
        "impressions.parquet"
    ]
    assert len(set(folders)) == 3
    assert not any(sign in name for name in folders for sign in ':*?"<>|/\\ ')
    assert all((tmp_path / "logs" / name).is_dir() for name in folders)
    assert pl.read_parquet(paths[1]).equals(bandit_log(table, found, names[0]))
    assert "shown" in pl.read_parquet(paths[0]).columns
    again = write_logs(table, found, names, tmp_path / "again", ad_column="shown")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]


def test_who_won_nothing_and_who_knows_no_clicks_has_no_logs(table: pl.DataFrame, tmp_path: Path) -> None:
    cheap = played(scored(table), "dual", max_bid=1e-9)
    assert write_logs(table, cheap, ["dual"], tmp_path) == ()
    with pytest.raises(DataError, match="won nothing"):
        impression_log(table, cheap, "dual")
    single = read_auction_log(pl.DataFrame({"market_price": [0.2] * 50, "pctr": [0.1] * 50}))
    blind = played(auctions_from_log(single), "dual")
    assert write_logs(single, blind, ["dual"], tmp_path) == ()
    with pytest.raises(DataError, match="has no clicks"):
        impression_log(single, blind, "dual")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_a_bandit_log_says_so(table: pl.DataFrame, events: pl.DataFrame) -> None:
    for sure in ("greedy", "dual"):
        with pytest.raises(DataError, match="has no probabilities with which") as error:
            bandit_log(table, events, sure)
        assert "thompson" in (error.value.hint or "")
    with pytest.raises(DataError, match="no strategy 'tompson' in the events") as error:
        bandit_log(table, events, "tompson")
    assert error.value.hint == "Did you mean 'thompson'"
    with pytest.raises(DataError, match="lists no candidates"):
        bandit_log(table.drop("candidates"), events, "thompson")


def test_events_of_another_log_are_refused(table: pl.DataFrame, events: pl.DataFrame) -> None:
    for other in (table[::-1], table[:-1], pl.concat([table, table[:1]])):
        with pytest.raises(DataError, match="not of the same auctions"):
            impression_log(other, events, "dual")


def test_a_bid_that_hangs_on_the_choice_gives_no_bandit_log(table: pl.DataFrame) -> None:
    found = played(scored(table), "thompson:bid_value=mean")
    with pytest.raises(DataError, match="has no probabilities with which"):
        bandit_log(table, found, "thompson")


def test_a_bandit_log_of_an_earlier_run_does_not_stay(table: pl.DataFrame, tmp_path: Path) -> None:
    drawn, hanging = (played(scored(table), f"thompson{more}") for more in ("", ":bid_value=mean"))
    assert len(write_logs(table, drawn, ["thompson"], tmp_path)) == 2
    assert write_logs(table, hanging, ["thompson"], tmp_path) == (
        tmp_path / "thompson" / "impressions.parquet",
    )
    assert not (tmp_path / "thompson" / "bandit.parquet").exists()
