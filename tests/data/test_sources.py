"""Readers of public data: hand-made tables, brute force on the real ones, and published numbers."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ctrkit.api.models.training_config import load_train_config, read_training_table
from ctrkit.config import build, read_yaml
from ctrkit.data.sources import hillstrom, open_bandit, source_tables
from ctrkit.errors import ConfigError, DataError
from ctrkit.schema import BANDIT_LOG, FeatureSpec

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
FIXTURES = ROOT / "tests" / "fixtures"
needs_trivago = pytest.mark.skipif(
    not (SHARED / "data" / "trivago_actions.parquet").exists(), reason="the trivago logs are not here"
)
needs_hillstrom = pytest.mark.skipif(
    not (SHARED / "data" / "hillstrom.parquet").exists(), reason="the Hillstrom table is not here"
)
needs_obp = pytest.mark.skipif(find_spec("obp") is None, reason="obp is not installed")


def test_an_unknown_source_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'trivago'"):
        source_tables("trivag", "folder")


def trivago(folder: Path) -> pl.DataFrame:
    """The rows of trivago with all columns of its config."""
    return read_training_table(load_train_config(ROOT / "configs" / "trivago.yaml"), folder)[0]


@pytest.fixture
def hotel_folder(tmp_path: Path) -> Path:
    """Two lists of user u; the actions around them touch items 1 and 2 and one item outside the lists."""
    lists = [(0, "s1", 1000, 4, 2), (1, "s2", 5000, 1, 1)]
    pl.DataFrame(
        [
            {
                "event_id": event, "user_id": "u", "session_id": session, "timestamp": at, "step": step,
                "position": item, "item_id": item, "price": 10 * item, "click": int(item == clicked),
                "platform": "FR", "device": "mobile",
            }
            for event, session, at, step, clicked in lists
            for item in (1, 2, 3)
        ]
    ).write_parquet(tmp_path / "trivago_impressions.parquet")  # fmt: skip
    actions = [
        ("s1", 500, 1, "search for item", "99"),
        ("s1", 937, 2, "interaction item image", "1"),
        ("s1", 990, 3, "change of sort order", "price only"),
        ("s1", 1000, 4, "clickout item", "2"),
        ("s1", 1000, 5, "interaction item info", "3"),
        ("s2", 5000, 2, "interaction item rating", "1"),
    ]
    pl.DataFrame(
        [("u", *action) for action in actions],
        schema=["user_id", "session_id", "timestamp", "step", "action_type", "reference"],
        orient="row",
    ).write_parquet(tmp_path / "trivago_actions.parquet")
    return tmp_path


def test_trivago_touches_are_those_before_the_list(hotel_folder: Path) -> None:
    table = trivago(hotel_folder)
    first, second = table.filter(pl.col("event_id") == 0), table.filter(pl.col("event_id") == 1)
    # List 0 at 1000: item 99 was touched 500 s ago, item 1 63 s ago; the click itself is no history.
    assert first["touch_action"].to_list() == [["search for item", "image"]] * 3
    assert first["touch_same_item"].to_list() == [[0, 1], [0, 0], [0, 0]]
    assert first["touch_gap"].to_list() == [[8, 6]] * 3
    assert first["touch_below"].to_list() == [[11, 0], [11, 1], [11, 2]]
    assert first["item_recency"].to_list() == [1.0, 0.0, 0.0]
    assert first["below_last"].to_list() == [0, 1, 2]
    assert first["sort_order"].to_list() == ["price only"] * 3
    # List 1 at 5000, another session: all of the first, nothing of its own second.
    assert second["touch_action"].to_list() == [["search for item", "image", "clickout item", "info"]] * 3
    assert second["item_touches"].to_list() == [1, 1, 1]
    assert second["item_clicks"].to_list() == [0, 1, 0]
    assert second["item_recency"].to_list() == [1 / 3, 1 / 2, 1.0]
    assert second["sort_order"].to_list() == ["none"] * 3
    assert second["price_rank"].to_list() == [0.0, 0.5, 1.0]
    assert second["price_to_median"].to_list() == [0.5, 1.0, 1.5]
    # Each item was shown once before; only item 2 was clicked.
    np.testing.assert_allclose(second["item_click_rate"], [0.8 / 21, 1.8 / 21, 0.8 / 21])
    assert first["item_impressions"].to_list() == [0, 0, 0]


def test_trivago_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"trivago_impressions\.parquet: no such file"):
        trivago(tmp_path)


@pytest.fixture(scope="module")
def hotels() -> pl.DataFrame:
    return trivago(SHARED / "data")


@needs_trivago
def test_trivago_against_brute_force(hotels: pl.DataFrame) -> None:
    """Touches and as-of click rates of a few lists, by scanning all actions and impressions."""
    actions = pl.read_parquet(SHARED / "data" / "trivago_actions.parquet").sort("timestamp", "step")
    shown = pl.read_parquet(SHARED / "data" / "trivago_impressions.parquet")
    assert (hotels.height, hotels["click"].sum()) == (shown.height, shown["click"].sum())
    assert hotels["timestamp"].is_sorted()
    names = ("event_id", "item_id", "position")
    columns = (*names, "click", "price")
    assert hotels.select(columns).sort(names).equals(shown.select(columns).sort(names))
    for row in hotels.sample(60, seed=1).iter_rows(named=True):
        mine = [
            action
            for action in actions.filter(pl.col("user_id") == row["user_id"]).iter_rows(named=True)
            if str(action["reference"]).isdigit()
            and (
                action["timestamp"] < row["timestamp"]
                or (
                    action["timestamp"] == row["timestamp"]
                    and action["session_id"] == row["session_id"]
                    and action["step"] < row["step"]
                )
            )
        ]
        assert row["user_touches"] == len(mine)
        same = [int(int(action["reference"]) == row["item_id"]) for action in mine]
        assert row["item_touches"] == sum(same)
        assert row["touch_same_item"] == same[-20:]
        gaps = [int(np.log2(1 + row["timestamp"] - action["timestamp"])) for action in mine]
        assert row["touch_gap"] == gaps[-20:]
        past = shown.filter((pl.col("item_id") == row["item_id"]) & (pl.col("timestamp") < row["timestamp"]))
        assert row["item_impressions"] == past.height
        assert row["item_click_rate"] == pytest.approx((past["click"].sum() + 0.8) / (past.height + 20))


@needs_trivago
def test_the_config_names_columns_that_are_there(hotels: pl.DataFrame) -> None:
    spec = build(FeatureSpec, read_yaml(ROOT / "configs" / "trivago.yaml")["features"])
    table = hotels.select(*spec.features, *spec.labels.values(), spec.group, spec.timestamp)
    assert table.null_count().sum_horizontal().item() == 0
    numbers = table.select(feature.name for feature in spec.numeric)
    assert np.isfinite(numbers.to_numpy()).all()
    lengths = [table[s.name].list.len() for s in spec.sequences]
    assert all(length.equals(lengths[0]) for length in lengths)


@pytest.fixture(scope="module")
def customers() -> pl.DataFrame:
    return hillstrom.read(SHARED / "data")


@needs_hillstrom
def test_hillstrom_has_the_published_arm_means(customers: pl.DataFrame) -> None:
    means = customers.group_by("segment").agg(pl.col("visit", "conversion").mean())
    found = {arm: (round(visit, 5), round(conversion, 5)) for arm, visit, conversion in means.iter_rows()}
    assert found == {
        "Mens E-Mail": (0.18276, 0.01253),
        "Womens E-Mail": (0.15140, 0.00884),
        "No E-Mail": (0.10617, 0.00573),
    }
    assert customers.filter((pl.col("conversion") == 1) & (pl.col("visit") == 0)).height == 0
    spec = build(FeatureSpec, read_yaml(ROOT / "configs" / "hillstrom.yaml")["features"])
    assert {*spec.features, *spec.labels.values()} <= set(customers.columns)


@needs_hillstrom
def test_hillstrom_biased_log_values_the_arms(customers: pl.DataFrame) -> None:
    """The log is biased, its propensities are right, and importance weights take the bias out."""
    log = BANDIT_LOG.apply(hillstrom.biased_log(customers, seed=0))
    arms = np.array(log["action"].to_list())
    policy = np.array(log["logging_probabilities"].to_list())
    np.testing.assert_allclose(policy.sum(axis=1), 1.0)
    for k, arm in enumerate(hillstrom.ARMS):
        taken = arms == arm
        p = policy[:, k]
        np.testing.assert_allclose(p[taken], log["propensity"].to_numpy()[taken])
        assert abs(taken.sum() - p.sum()) < 4 * np.sqrt((p * (1 - p)).sum())
        truth = customers.filter(pl.col("segment") == arm)["visit"].mean()
        earned = taken / p * log["reward"].to_numpy()
        assert abs(earned.mean() - truth) < 4 * earned.std(ddof=1) / np.sqrt(len(earned))
    # Rejection leaves the customers as they were.
    for name in ("recency", "mens", "womens", "history"):
        error = customers[name].std() / np.sqrt(log.height)
        assert abs(log[name].mean() - customers[name].mean()) < 4 * error
    bought_mens = log.filter((pl.col("mens") == 1) & (pl.col("womens") == 0))
    assert (bought_mens["action"] == "Mens E-Mail").mean() > 0.45


@pytest.mark.slow
@needs_hillstrom
def test_hillstrom_log_of_strength_zero_is_the_whole_test(customers: pl.DataFrame) -> None:
    log = hillstrom.biased_log(customers, seed=3, strength=0.0)
    assert log.height == customers.height
    assert log["propensity"].unique().to_list() == pytest.approx([1 / 3])
    assert hillstrom.biased_log(customers, seed=3).equals(hillstrom.biased_log(customers, seed=3))


@needs_obp
@pytest.mark.parametrize("campaign", ["all", "men"])
def test_open_bandit_is_what_obp_reads(campaign: str) -> None:
    """Counts of both logs, and IPS and SNIPS of Bernoulli TS from the random one, as obp 0.5.7 gives them."""
    reference = json.loads((FIXTURES / "obd_reference.json").read_text())["obd"][campaign]
    for policy in ("random", "bts"):
        log = BANDIT_LOG.apply(open_bandit.read(campaign, policy))
        expected = reference[policy]
        assert (log.height, log["reward"].sum()) == (expected["n_rounds"], expected["clicks"])
        assert (
            log["position"].value_counts().sort("position")["count"].to_list() == expected["position_counts"]
        )
        assert log["propensity"].min() == pytest.approx(expected["pscore_min"])
        assert log["propensity"].max() == pytest.approx(expected["pscore_max"])
        assert log["timestamp"].is_sorted()
    log = open_bandit.read(campaign, "random")
    target = np.load(FIXTURES / f"obd_bts_dist_{campaign}.npy")
    weight = target[log["action"], log["position"]] / log["propensity"].to_numpy()
    earned = weight * log["reward"].to_numpy()
    values = reference["random->bts"]["values"]
    assert earned.mean() == pytest.approx(values["ipw"], rel=1e-12)
    assert earned.sum() / weight.sum() == pytest.approx(values["snipw"], rel=1e-12)


def test_open_bandit_without_obp_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_bandit, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install --no-deps"):
        open_bandit.read("all", "random")
