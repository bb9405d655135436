"""The simulated market: its tables against brute force, its outcomes against its truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from ctrkit.config import build, read_yaml
from ctrkit.data.market import CATEGORIES, DAY, DECAY, NO_CLICK, START, Population
from ctrkit.data.synthetic import COLUMNS, Market, true_value, write_sample_logs
from ctrkit.errors import ConfigError, DataError
from ctrkit.schema import AUCTION_LOG, BANDIT_LOG, CANDIDATE_PREFIX, FeatureSpec
from ctrkit.tables import write_table

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "logs_sample"


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(seed=7, users=300, ads=60, advertisers=12)


@pytest.fixture(scope="module")
def bandit(market: Market) -> pl.DataFrame:
    return market.bandit_log(20_000)


@pytest.fixture(scope="module")
def auctions(market: Market) -> pl.DataFrame:
    return market.auction_log(4_000)


@pytest.fixture(scope="module")
def impressions(market: Market) -> pl.DataFrame:
    return market.impressions(45_000)


@pytest.fixture(scope="module")
def shipped() -> dict[str, pl.DataFrame]:
    return {name: pl.read_parquet(SAMPLE / f"{name}.parquet") for name in COLUMNS}


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    def table(seed: int) -> bytes:
        market = Market(seed, users=200, ads=40, advertisers=8)
        frames = (market.impressions(500), market.bandit_log(500), market.auction_log(500))
        paths = [write_table(frame, tmp_path / f"{i}.parquet") for i, frame in enumerate(frames)]
        return b"".join(path.read_bytes() for path in paths)

    assert table(3) == table(3)
    assert table(3) != table(4)


def test_tables_do_not_depend_on_the_order_of_the_calls(market: Market, bandit: pl.DataFrame) -> None:
    assert Market(seed=7, users=300, ads=60, advertisers=12).bandit_log(20_000).equals(bandit)


@pytest.mark.slow
def test_shipped_logs_are_what_the_code_makes(tmp_path: Path, shipped: dict[str, pl.DataFrame]) -> None:
    *tables, page = write_sample_logs(tmp_path, seed=0)
    assert [path.stem for path in tables] == list(COLUMNS)
    for path in tables:
        assert pl.read_parquet(path).equals(shipped[path.stem])
        assert (SAMPLE / path.name).stat().st_size < 3_000_000
    assert page.read_text() == (SAMPLE / "README.md").read_text()
    assert not list(tmp_path.glob(".*")), "temporary files are left"


def test_every_column_is_described(shipped: dict[str, pl.DataFrame]) -> None:
    page = (SAMPLE / "README.md").read_text()
    sections = page.split("\n## ")[1:]
    for (name, table), section in zip(shipped.items(), sections, strict=True):
        assert section.startswith(f"{name}.parquet")
        assert list(COLUMNS[name]) == table.columns
        assert all(f"| `{column}` |" in section for column in table.columns)


def test_histories_hold_the_clicks_strictly_before(market: Market, impressions: pl.DataFrame) -> None:
    clicks, ads = market.population.clicks, market.population.ads
    for row in impressions.sample(300, seed=0).iter_rows(named=True):
        mine = (clicks.user == row["user_id"]) & (clicks.time < row["timestamp"])
        expected = clicks.ad[mine][-20:].tolist()
        assert row["history_ads"] == expected
        assert row["history_categories"] == [CATEGORIES[ads.category[ad]] for ad in expected]
        assert row["history_advertisers"] == [ads.advertiser[ad] for ad in expected]
    assert (np.diff(clicks.time)[np.diff(clicks.user) == 0] >= 0).all()


def test_no_outcome_of_a_log_reaches_a_history(market: Market) -> None:
    """Histories come from the population, which is drawn before any log."""
    before = Population(7, 300, 60, 12).clicks
    market.impressions(1_000)
    assert np.array_equal(before.ad, market.population.clicks.ad)


def test_click_probability_adds_up_its_causes(market: Market) -> None:
    """One situation at a time, against the sum written out in plain Python."""
    population = market.population
    users, ads = population.users, population.ads
    at = population.situations(np.random.default_rng(0), 200, 0, 7)
    shown = np.random.default_rng(1).integers(0, 60, size=(200, 3))
    found = population.click_probability(at, shown)
    for i in range(200):
        history = [int(ad) for ad in at.history[i] if ad != NO_CLICK]
        for k, ad in enumerate(shown[i]):
            category = ads.category[ad]
            affinity = sum(
                DECAY**age for age, old in enumerate(reversed(history)) if ads.category[old] == category
            )
            logit = -4.6 + 0.30 * ads.quality[ad] + (0.30, -0.35, 0.0)[at.placement[i]]
            logit += 0.42 * sum(
                a * b for a, b in zip(users.interests[at.user[i]], ads.latent[ad], strict=True)
            )
            likes_daypart = population.category_by_daypart[category, at.time[i] % 86_400 // 21_600]
            logit += 0.38 * likes_daypart * (1, -1, 0)[at.device[i]]
            logit += 1.2 * np.log(1 + affinity)
            if history:
                last = history[-1]
                logit += 1.2 * (population.complement[ads.category[last]] == category)
                logit -= 1.5 * (ads.advertiser[last] == ads.advertiser[ad])
            expected = min(max(1 / (1 + np.exp(-logit)), 0.001), 0.5)
            assert found[i, k] == pytest.approx(expected, abs=5.1e-5)


def test_outcomes_follow_the_truth(impressions: pl.DataFrame) -> None:
    """Clicks by tenth of the true probability, and conversions of clicks: no significant deviation."""
    truth = impressions["true_click_probability"].to_numpy().astype(float)
    click = impressions["click"].to_numpy()
    tenth = np.argsort(np.argsort(truth, kind="stable")) * 10 // len(truth)
    observed, expected = np.bincount(tenth, click), np.bincount(tenth, truth)
    variance = np.bincount(tenth, truth * (1 - truth))
    assert stats.chi2.sf(((observed - expected) ** 2 / variance).sum(), 10) > 1e-4
    clicked = impressions.filter(pl.col("click") == 1)
    p = clicked["true_conversion_probability"].to_numpy().astype(float)
    assert abs(clicked["conversion"].sum() - p.sum()) < 4 * np.sqrt((p * (1 - p)).sum())
    assert impressions.filter(pl.col("click") == 0)["conversion"].sum() == 0
    assert (impressions["conversion"] == 1).equals(impressions["conversion_delay"].is_not_null())


def test_propensities_are_those_of_the_draw(bandit: pl.DataFrame) -> None:
    policy = np.array(bandit["logging_probabilities"].to_list())
    candidates = np.array(bandit["candidates"].to_list())
    np.testing.assert_allclose(policy.sum(axis=1), 1.0, atol=1e-12)
    assert policy.min() >= 0.02
    assert all(len(set(row)) == 8 for row in candidates[:500])
    taken = candidates == bandit["action"].to_numpy()[:, None]
    assert (taken.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(policy[taken], bandit["propensity"].to_numpy())
    # Among decisions ranked by probability, each rank is drawn as often as its probabilities say.
    order = np.argsort(-policy, axis=1, kind="stable")
    drawn = np.take_along_axis(taken, order, axis=1).sum(axis=0)
    expected = np.take_along_axis(policy, order, axis=1)
    variance = (expected * (1 - expected)).sum(axis=0)
    assert (np.abs(drawn - expected.sum(axis=0)) < 4 * np.sqrt(variance)).all()


def test_true_value_against_a_loop_and_against_importance_weights(bandit: pl.DataFrame) -> None:
    truth = np.array(bandit["true_click_probability"].to_list())
    best = (truth == truth.max(axis=1, keepdims=True)).astype(float)
    best /= best.sum(axis=1, keepdims=True)
    by_hand = sum(sum(p * t for p, t in zip(ps, ts, strict=True)) for ps, ts in zip(best, truth, strict=True))
    assert true_value(bandit, best) == pytest.approx(by_hand / len(truth), rel=1e-9)
    taken = np.array(bandit["candidates"].to_list()) == bandit["action"].to_numpy()[:, None]
    for policy in (best, np.full_like(truth, 1 / 8), np.array(bandit["logging_probabilities"].to_list())):
        earned = bandit["reward"].to_numpy() * policy[taken] / bandit["propensity"].to_numpy()
        error = earned.std(ddof=1) / np.sqrt(len(earned))
        assert abs(earned.mean() - true_value(bandit, policy)) < 4 * error
    with pytest.raises(DataError, match="one probability for each candidate"):
        true_value(bandit, best[:, :5])


def test_candidate_columns_are_the_candidates(
    impressions: pl.DataFrame, bandit: pl.DataFrame, auctions: pl.DataFrame
) -> None:
    features = ["ad_category", "ad_advertiser", "ad_price"]
    known = {row[0]: row[1:] for row in impressions.select("ad_id", *features).unique().iter_rows()}
    for log in (bandit, auctions):
        for row in log.head(200).iter_rows(named=True):
            lists = [row[CANDIDATE_PREFIX + feature] for feature in features]
            for ad, *values in zip(row["candidates"], *lists, strict=True):
                assert known[ad] == tuple(values)


def test_one_spec_reads_all_three_logs(shipped: dict[str, pl.DataFrame]) -> None:
    """What the sample config names is there in each log, also after the log schemas had their say."""
    spec = build(FeatureSpec, read_yaml(ROOT / "configs" / "sample.yaml")["features"])
    assert spec.candidate is not None
    of_ad = {spec.candidate.id, *spec.candidate.features}
    assert set(spec.features) | set(spec.labels.values()) <= set(shipped["impressions"].columns)
    bandit, auctions = BANDIT_LOG.apply(shipped["bandit"]), AUCTION_LOG.apply(shipped["auctions"])
    for log in (bandit, auctions):
        assert set(spec.features) - of_ad <= set(log.columns)
        assert {CANDIDATE_PREFIX + feature for feature in spec.candidate.features} <= set(log.columns)
        assert "candidates" in log.columns
    with pytest.raises(ConfigError, match="holds the truth"):
        build(FeatureSpec, {"numeric": [{"name": "true_click_probability"}]})


def test_training_precedes_the_bandit_which_precedes_the_auctions(shipped: dict[str, pl.DataFrame]) -> None:
    impressions, bandit, auctions = (shipped[name]["timestamp"] for name in COLUMNS)
    assert all(times.is_sorted() for times in (impressions, bandit, auctions))
    assert impressions.min() >= START
    assert impressions.max() < bandit.min() < bandit.max() < auctions.min()
    assert auctions.max() < START + 10 * DAY


def test_auctions_tell_what_each_ad_would_do(auctions: pl.DataFrame) -> None:
    click, conversion = (np.array(auctions[f"true_{name}"].to_list()) for name in ("click", "conversion"))
    truth = np.array(auctions["true_click_probability"].to_list())
    assert (conversion <= click).all()
    assert abs(click.sum() - truth.sum()) < 4 * np.sqrt((truth * (1 - truth)).sum())
    log_price = np.log(auctions["market_price"].to_numpy())
    assert stats.spearmanr(log_price, truth.mean(axis=1)).statistic > 0.1
    by_hour = auctions.group_by("hour").agg(pl.col("market_price").mean()).sort("hour")["market_price"]
    assert by_hour[18:22].mean() > 1.2 * by_hour[5:9].mean()


def test_the_sample_is_worth_the_road(shipped: dict[str, pl.DataFrame]) -> None:
    """There is something to learn, a better policy to find, and a budget of 1,000 that binds."""
    impressions, bandit, auctions = (shipped[name] for name in COLUMNS)
    assert 0.02 < impressions["click"].mean() < 0.04
    assert 0.72 < roc_auc_score(impressions["click"], impressions["true_click_probability"]) < 0.80
    old = true_value(bandit, bandit["logging_probabilities"].to_list())
    best = np.array(bandit["true_click_probability"].to_list()).max(axis=1).mean()
    assert 1.5 < best / old < 2.1
    value = np.prod(
        [
            np.array(auctions[name].to_list())
            for name in ("true_click_probability", "true_conversion_probability", "candidate_value")
        ],
        axis=0,
    ).max(axis=1)
    price = auctions["market_price"].to_numpy()
    assert price[value >= price].sum() > 3_000


def test_a_log_without_rows_is_refused(market: Market) -> None:
    with pytest.raises(DataError, match="at least one row"):
        market.impressions(0)
