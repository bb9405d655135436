"""A row of count c is what c rows of one user are, to all that reads rows; and a thinned log has the truth.

The rows of a log may stand for others that were dropped (`p_drop`). So each test here takes rows with whole
counts, and the same rows, each as often as it counts, as rows of one user.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from ctrkit.ope import ESTIMATORS, Estimator, LoggedRows, evaluate, read_bandit_log
from ctrkit.ope.audit.audit import audit
from ctrkit.ope.audit.checks import by_time, calibrate_actions, newest_rows
from ctrkit.ope.bids.bid_log import read_bid_log
from ctrkit.ope.bids.evaluation import evaluate_bids
from ctrkit.ope.diagnostics.overlap import ActionOverlap
from ctrkit.ope.diagnostics.ranking import PolicyRanking
from ctrkit.ope.diagnostics.segments import SegmentSums
from ctrkit.ope.diagnostics.timeline import Timeline
from ctrkit.ope.diagnostics.weight_sketch import WeightSketch
from ctrkit.ope.estimators.importance import OnPolicy
from ctrkit.ope.estimators.interval_methods import AUTO, INTERVALS, make_interval_method
from ctrkit.ope.estimators.registry import make_estimator
from ctrkit.ope.estimators.weights import WeightTail
from ctrkit.ope.evaluation.engine import LocalEngine
from ctrkit.ope.evaluation.results import plain
from ctrkit.ope.intervals.moments import Floats
from ctrkit.ope.logs.bandit_log import BanditLog
from ctrkit.ope.models.density_ratio import DensityRatio
from ctrkit.ope.models.missing import with_estimated_propensities
from ctrkit.ope.models.reward_model import RewardModel
from ctrkit.policies import Policy
from ctrkit.training.counterfactual import CounterfactualObjective, Decisions, InversePropensityConfig
from tests.ope.estimates import held

RANGE = (0.0, 1.0)
ROWS = 600
SPECS = [
    *ESTIMATORS,
    "clipped-ips:lambda=slope",
    "switch-dr:tau=mse",
    "dr-os:lambda=slope",
    "sg-ips:lambda=mse",
]


def counted(seed: int = 0, replay: bool = False, rows: int = ROWS) -> LoggedRows:
    rng = np.random.default_rng(seed)
    weights = rng.gamma(0.8, 1.25, size=rows)
    return LoggedRows(
        np.where(weights > 1, weights, 0) if replay else weights,
        (rng.random(rows) < 0.15).astype(float),
        float(weights.max()),
        rng.uniform(0.02, 0.3, size=rows),
        rng.uniform(0.02, 0.3, size=rows),
        units=np.arange(rows).astype(np.uint64),
        counts=rng.integers(1, 5, size=rows).astype(float),
    )


def repeated(rows: LoggedRows) -> LoggedRows:
    """Each row as often as it counts."""
    at = np.repeat(np.arange(len(rows.weights)), rows.counts.astype(int))
    assert rows.q_logged is not None
    assert rows.q_policy is not None
    assert rows.units is not None
    return LoggedRows(
        rows.weights[at],
        rows.rewards[at],
        rows.largest_weight,
        rows.q_logged[at],
        rows.q_policy[at],
        at,
        rows.units[at],
        counts=np.ones(len(at)),
    )


def numbers(content: Any, apart: tuple[str, ...] = ()) -> Any:
    """Plain data without what users add to the name of a method, and without some keys."""
    if isinstance(content, dict):
        return {key: numbers(value, apart) for key, value in content.items() if key not in apart}
    if isinstance(content, list):
        return [numbers(value, apart) for value in content]
    return content.replace(", clustered", "") if isinstance(content, str) else content


def same(one: Any, two: Any, rtol: float = 1e-9, at: str = "") -> None:
    assert type(one) is type(two), (at, one, two)
    if isinstance(one, dict):
        assert one.keys() == two.keys(), at
        for key, value in one.items():
            same(value, two[key], rtol, f"{at}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two), (at, one, two)
        for place, value in enumerate(one):
            same(value, two[place], rtol, f"{at}[{place}]")
    elif isinstance(one, float):
        assert one == pytest.approx(two, rel=rtol, abs=1e-11, nan_ok=True), at
    else:
        assert one == two, at


def made(kind: Callable[[], Estimator], interval: str, rows: LoggedRows, reward_range: Any) -> dict[str, Any]:
    found = kind()
    found.method = make_interval_method(interval, reward_range)
    found.update(rows)
    result = found.result(0.9)
    assert not result.interval.missed
    assert not result.difference_interval.missed
    return numbers(
        plain(
            vars(result)
            | {"interval": vars(result.interval)}
            | {"difference_interval": vars(result.difference_interval)}
        )
    )


@pytest.mark.parametrize(
    ("spec", "interval", "reward_range"),
    [
        (spec, interval, reward_range)
        for reward_range in (RANGE, None)
        for interval in (AUTO, *INTERVALS)
        for spec in (*SPECS, "on-policy")
        # Betting's intervals are for independent rows, see below; without a range few can be had.
        if interval != "betting"
        and (reward_range or (interval in (AUTO, "normal", "bootstrap") and not spec.endswith("mse")))
    ],
)
def test_estimators_and_intervals(spec: str, interval: str, reward_range: Any) -> None:
    def kind() -> Estimator:
        return OnPolicy(reward_range) if spec == "on-policy" else make_estimator(spec, reward_range)

    rows = counted(replay=spec in ESTIMATORS and ESTIMATORS[spec].deterministic_only)
    found, copies = (made(kind, interval, each, reward_range) for each in (rows, repeated(rows)))
    same(found, copies)


def test_betting_takes_rows_that_all_stand_for_as_many_as_they_are() -> None:
    """Thinned evenly a log is a shorter log; thinned unevenly it is worth as many rows as Σ c / max c."""
    rows = counted(1)
    once = LoggedRows(rows.weights, rows.rewards, rows.largest_weight, counts=np.ones(ROWS))
    for spec in ("ips", "snips"):
        found, alone = (
            made(lambda s=spec: make_estimator(s, RANGE), "betting", each, RANGE)  # type: ignore[misc]
            for each in (replace(once, counts=np.full(ROWS, 3.0)), once)
        )
        assert found["interval"]["method"].startswith("betting")
        same(found, alone)
        uneven = made(lambda s=spec: make_estimator(s, RANGE), "betting", rows, RANGE)  # type: ignore[misc]
        own = made(lambda s=spec: make_estimator(s, RANGE), AUTO, repeated(rows), RANGE)  # type: ignore[misc]
        assert uneven["value"] == pytest.approx(own["value"], rel=1e-12)
        assert uneven["interval"]["low"] < own["interval"]["low"]
        assert uneven["interval"]["high"] > own["interval"]["high"]


@pytest.mark.parametrize("kind", ["ips", "snips", "delta-beta-ips", "dr"])
def test_rankings(kind: str) -> None:
    def ranked(rows: LoggedRows) -> Any:
        found = PolicyRanking(["a", "b"], ESTIMATORS[kind], RANGE)
        found.update([rows, replace(rows, weights=rows.weights**0.5)])
        return numbers(plain(found.result(0.9).to_dict()))

    rows = counted(2)
    same(ranked(rows), ranked(repeated(rows)), 1e-8)


def test_segments_and_time_bins() -> None:
    many = 2000
    rows, rng = counted(3, rows=many), np.random.default_rng(3)
    times, labels = np.sort(rng.random(many)), rng.integers(4, size=many)
    at = np.repeat(np.arange(many), rows.counts.astype(int))
    found = []
    for seen, where in ((rows, np.arange(many)), (repeated(rows), at)):
        segments = SegmentSums(["label"], lambda: make_estimator("dr", RANGE))
        segments.update(seen, pl.DataFrame({"label": labels[where]}))
        timeline = Timeline(np.linspace(0.0, 1.0, 11), RANGE)
        timeline.update(times[where], seen)
        content = [segments.result(0.9)[0].to_dict(), timeline.result(0.9).to_dict()]
        # Of rows taken as independent; see the weights below.
        found.append(numbers(plain(content), ("effective_sample_size",)))
    # The asymptotic bounds wait for a number of rows that earned, not of decisions.
    for one in found:
        for name in ("policy", "logging"):
            for end in ("low", "high"):
                one[1][name][end] = one[1][name][end][-1]
    same(*found, rtol=1e-8)


def test_diagnostics_of_weights() -> None:
    rows = counted(4)
    whole, actions = repeated(rows), pl.Series(np.arange(ROWS) % 7)
    at = np.repeat(np.arange(ROWS), rows.counts.astype(int))
    tables, sketches = [], []
    for seen, where in ((rows, np.arange(ROWS)), (whole, at)):
        overlap, sketch = ActionOverlap(), WeightSketch()
        overlap.update(seen.weights, actions[where], seen.counts)
        sketch.update(seen.weights, seen.counts)
        tables.append(overlap.result().drop("effective_sample_size").to_dict(as_series=False))
        # These take rows as independent, of which a row that stands for others is but one.
        apart = ("effective_sample_size", "mean_weight_z", "quantiles")
        # Beyond the largest 1,024 rows a quantile is right to 1/256.
        known = {
            share: float(np.quantile(whole.weights, share, method="inverted_cdf"))
            for share in (0.1, 0.5, 0.99)
        }
        for share, quantile in known.items():
            assert sketch.quantile(share) == pytest.approx(quantile, rel=1 / 128), share
        sketches.append(numbers(plain(sketch.to_dict()), apart))
        effective = seen.counts @ seen.weights
        assert sketch.effective_sample_size == pytest.approx(
            effective**2 / ((seen.counts * seen.weights) @ (seen.counts * seen.weights))
        )
    same(*tables)
    same(*sketches)


def test_the_largest_weight_to_reckon_with() -> None:
    rng = np.random.default_rng(5)
    policy, logging = (rng.dirichlet(np.full(40, 0.3), size=60) for _ in range(2))
    counts = rng.integers(1, 6, size=60)
    at = np.repeat(np.arange(60), counts)
    whole, copies, first, second = (WeightTail() for _ in range(4))
    whole.update(policy, logging, counts.astype(float))
    copies.update(policy[at], logging[at], np.ones(len(at)))
    first.update(policy[:25], logging[:25], counts[:25].astype(float))
    second.update(policy[25:], logging[25:], counts[25:].astype(float))
    first.merge(second)
    assert whole.largest == pytest.approx(copies.largest, rel=1e-9)
    assert first.largest == pytest.approx(whole.largest, rel=1e-9)


class ByAction(Policy):
    """Probabilities that depend on the action alone."""

    name = "by action"

    def __init__(self, shares: tuple[float, ...], name: str = "by action") -> None:
        self.shares, self.name = np.array(shares), name  # type: ignore[misc]

    def probabilities(self, context: pl.DataFrame, candidates: pl.Series) -> Floats:
        return np.asarray(np.tile(self.shares, (len(candidates), 1)))


POLICY = ByAction((0.15, 0.25, 0.6))
RATES = np.array([0.1, 0.2, 0.35])
LOGGING = np.array([0.5, 0.3, 0.2])


def table(rows: int, seed: int, scale: float = 1.0) -> pl.DataFrame:
    """A log of three actions, whose rewards depend on a number and on the action."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    logging = np.exp(np.log(LOGGING) + np.outer(x, [0.0, 0.2, 0.4]))
    logging /= logging.sum(axis=1, keepdims=True)
    action = (rng.random((rows, 1)) > logging.cumsum(axis=1)).sum(axis=1)
    rate = scale * np.clip(RATES * np.exp(0.3 * x)[:, None], 0, 1)
    return pl.DataFrame(
        {
            "user_id": np.arange(rows) + 1000,
            "timestamp": np.sort(rng.random(rows)) * 1e5,
            "x": x,
            "group": rng.choice(["a", "b"], size=rows),
            "action": action,
            "propensity": logging[np.arange(rows), action],
            "reward": (rng.random(rows) < rate[np.arange(rows), action]).astype(np.float64),
            "candidates": [[0, 1, 2]] * rows,
            "candidate_size": [[1.0, 2.0, 2.0]] * rows,
            "logging_probabilities": logging.tolist(),
            "true_click_probability": rate.tolist(),
            "half": np.where(action == 2, 0.5, 0.25),
        }
    )


def pair(rows: int = 1500, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame, np.ndarray]:
    """A log with counts, and each row as often as it counts; and where those stand in the first."""
    counts = np.random.default_rng(seed + 100).choice([1, 2, 4], size=rows)
    log = table(rows, seed).with_columns(p_drop=pl.Series(1 - 1 / counts))
    at = np.repeat(np.arange(rows), counts)
    return log, log[at].drop("p_drop"), at


def test_logs_say_what_their_rows_stand_for() -> None:
    log, copies, _ = pair(50)
    assert read_bandit_log(log).counts.sum() == pytest.approx(len(copies))
    assert read_bandit_log(copies).counts.tolist() == [1.0] * len(copies)


# What takes rows as independent, or counts them as evidence; and what names the rows' number.
APART = (
    *("effective_sample_size", "mean_weight_z", "positives", "reason", "notes"),
    *("timeline", "interval", "quantiles"),
    "checks",  # made of the numbers above and below
)


@pytest.mark.slow
@pytest.mark.parametrize("interval", [AUTO, "bootstrap"])
def test_a_whole_evaluation(interval: str) -> None:
    estimators = [name for name, kind in ESTIMATORS.items() if kind.view == "plain"]

    def evaluated(log: pl.DataFrame) -> Any:
        found = evaluate(
            read_bandit_log(log),
            [POLICY, ByAction((1 / 3, 1 / 3, 1 / 3), "even"), "half"],
            estimators,
            interval=interval,
            reward_model="logistic",
            context_columns=["x", "group"],
            segments=["group"],
            outcomes=["click", "x"],
        ).to_dict()
        return numbers(found, APART)

    log, copies, _ = pair(1000)
    same(evaluated(log), evaluated(copies), 1e-6)


def columns(log: pl.DataFrame, kind: str) -> pl.DataFrame:
    place = pl.int_range(pl.len())
    if kind == "slates":
        return log.with_columns(
            slate_id=place // 3,
            position=place % 3 + 1,
            user_id=place // 3,
            p_drop=pl.col("p_drop").gather(place // 3),
        )
    logger = (place % 2).alias("logger_id")
    both = pl.concat_list(pl.col("propensity"), pl.col("propensity"))
    return log.with_columns(logger, logger_probabilities=both)


@pytest.mark.parametrize("kind", ["slates", "loggers", "features"])
def test_pages_loggers_and_features(kind: str) -> None:
    log, _, _ = pair(900, 1)
    if kind != "features":
        log = columns(log, kind)
    counts = np.rint(1 / (1 - log["p_drop"].to_numpy())).astype(int)
    at = np.repeat(np.arange(len(log)), counts)
    copies = log[at].drop("p_drop")
    if kind == "slates":
        # Whole pages again, under names of their own.
        number = np.concatenate([np.arange(count) for count in counts])
        copies = copies.with_columns(slate_id=pl.col("slate_id") + 1000 * pl.Series(number))

    def groups(table: pl.DataFrame) -> Any:
        found = evaluate(
            read_bandit_log(table),
            [POLICY],
            ["ips", "dr"],
            reward_model="logistic",
            context_columns=["x"],
            action_feature="size" if kind == "features" else None,
        ).to_dict()
        (policy,) = found["policies"]
        assert policy["groups"]
        return numbers(policy["groups"])

    same(groups(log), groups(copies), 1e-6)


class Watched(LocalEngine):
    """Keeps hold of what is kept of a log."""

    def map(self, work: Any, parts: Any, on_rows: Any) -> Any:
        for found in super().map(work, parts, on_rows):
            self.found = found
            yield found


@pytest.mark.parametrize(
    "kind",
    [
        "plain",
        *(
            pytest.param(kind, marks=pytest.mark.slow)
            for kind in ("slates", "loggers", "features", "outcomes", "segments")
        ),
    ],
)
def test_memory_grows_with_users_and_not_with_rows(kind: str) -> None:
    sizes = []
    for rows, users in ((1_500, 15), (3_000, 15), (3_000, 30)):
        log = table(rows, 1).with_columns(user_id=pl.int_range(pl.len()) // 3 * 7 % users)
        if kind in ("slates", "loggers"):
            log = columns(log.with_columns(p_drop=pl.lit(0.0)), kind).drop("p_drop")
            log = log.with_columns(user_id=pl.int_range(pl.len()) // 3 * 7 % users)
        engine = Watched()
        evaluate(
            read_bandit_log(log),
            [POLICY, "half"],
            ["ips", "snips", "dr", "clipped-ips:lambda=mse"],
            reward_model="logistic",
            context_columns=["x"],
            segments=["group"] if kind == "segments" else [],
            outcomes=["click", "x"] if kind == "outcomes" else [],
            action_feature="size" if kind == "features" else None,
            engine=engine,
        )
        sizes.append(held(engine.found))
    few, more_rows, more_users = sizes
    assert more_rows <= 1.1 * few
    # Of a user and policy some 40 columns, and in each of 100 time bins 4 and a key, with room to grow.
    assert more_users - more_rows <= 15 * 2 * 1.5 * 8 * (150 + 5 * 100)


FITS: dict[str, Callable[[BanditLog, BanditLog], Floats]] = {
    "reward model": lambda log, asked: RewardModel.fit(log, ["x", "group"], kind="logistic").predict(
        asked, slice(0, len(asked))
    ),
    "more robust": lambda log, asked: RewardModel.fit(
        log, ["x"], kind="logistic", row_weights=log.table["half"].to_numpy() / log.propensity
    ).predict(asked, slice(0, len(asked))),
    "density ratio": lambda log, asked: DensityRatio.fit(
        log,
        lambda part, rows: POLICY.probabilities(part.table[rows], part.candidates(rows)),
        ["x"],
        kind="logistic",
    ).weights(asked),
}


@pytest.mark.parametrize("name", FITS)
def test_fitted_models(name: str) -> None:
    log, copies, _ = pair(1200, 2)
    one, two = read_bandit_log(log), read_bandit_log(copies)
    np.testing.assert_allclose(FITS[name](one, one), FITS[name](two, one), rtol=1e-4)


@pytest.mark.filterwarnings("ignore", category=ConvergenceWarning)
def test_propensities_that_the_log_lacks() -> None:
    log, copies, at = pair(1200, 3)
    wanted = ["x", "group"]
    one, two = (with_estimated_propensities(read_bandit_log(each), wanted) for each in (log, copies))
    np.testing.assert_allclose(one.propensity[at], two.propensity, rtol=2e-2)
    assert one.balance is not None
    assert two.balance is not None
    mine, theirs = (each.balance.sort("action", "column") for each in (one, two))  # type: ignore[union-attr]
    assert mine["rows"].to_list() == theirs["rows"].to_list()
    np.testing.assert_allclose(mine["before"].to_numpy(), theirs["before"].to_numpy(), atol=1e-9)


def test_audits() -> None:
    log, copies, _ = pair(1500, 4)
    one, two = read_bandit_log(log), read_bandit_log(copies)
    for mine, theirs in zip(calibrate_actions(one), calibrate_actions(two), strict=True):
        assert (mine.action, mine.rows, mine.chosen) == (theirs.action, theirs.rows, theirs.chosen)
        assert mine.expected == pytest.approx(theirs.expected)
        assert mine.ratio == pytest.approx(theirs.ratio)
        # Copies taken as independent stand out more than what they are copies of.
        assert abs(mine.z) <= abs(theirs.z)
    assert audit(one).reward == pytest.approx(audit(two).reward)
    time, newest = by_time(one, 5), newest_rows(one)
    assert time is not None
    assert newest is not None
    assert time.rows.sum() == len(copies)
    assert float(time.rows @ time.reward / time.rows.sum()) == pytest.approx(two.reward.mean())
    last = np.argsort(log["timestamp"].to_numpy())[-150:]
    assert newest.reward == pytest.approx(np.average(one.reward[last], weights=one.counts[last]))


def test_what_a_policy_learns_from() -> None:
    rng = np.random.default_rng(6)
    counts = rng.integers(1, 5, size=80)
    at = np.repeat(np.arange(80), counts)
    scores = torch.tensor(rng.normal(size=(80, 3)))
    objective = CounterfactualObjective(InversePropensityConfig(kl=0.1), 1.0)

    def value(where: Any, count: Any) -> float:
        rows = Decisions(
            torch.ones((80, 3), dtype=torch.bool)[where],
            torch.tensor(rng_logged)[where],
            torch.tensor(rng_propensity)[where],
            torch.tensor(rng_reward)[where],
            torch.tensor(count),
        )
        return float(objective(scores[where], rows))

    rng_logged, rng_propensity, rng_reward = rng.integers(3, size=80), rng.random(80), rng.random(80)
    one = value(np.arange(80), counts / counts.mean())
    assert one == pytest.approx(value(at, np.ones(len(at))), rel=1e-9)


def test_bids() -> None:
    """At one bandwidth: the rule of thumb goes by the rows that were seen, of which copies are more."""
    rng = np.random.default_rng(7)
    rows = 800
    bid, counts = rng.uniform(0, 4, size=rows), rng.choice([1, 2, 4], size=rows)
    reward = (rng.random(rows) < 0.1 + 0.1 * bid).astype(float)
    log = pl.DataFrame(
        {
            "user_id": np.arange(rows),
            "bid": bid,
            "density": np.full(rows, 0.25),
            "target_bid": np.clip(bid + 0.5, 0, 4),
            "reward": reward,
            "q_logged": 0.1 + 0.08 * bid,
            "q_policy": 0.1 + 0.08 * np.clip(bid + 0.5, 0, 4),
            "p_drop": 1 - 1 / counts,
        }
    )
    copies = log[np.repeat(np.arange(rows), counts)].drop("p_drop")
    found = [
        numbers(evaluate_bids(read_bid_log(each), bandwidth=0.7, bid_range=(0.0, 4.0)).to_dict(), APART)
        for each in (log, copies)
    ]
    same(*found, rtol=1e-8)


def test_models_of_bids() -> None:
    """Of a log whose rows without a reward were thinned to a tenth the model predicts the rewards of all."""
    rng = np.random.default_rng(9)
    bid = rng.uniform(0, 4, size=20_000)
    reward = (rng.random(len(bid)) < 0.02 + 0.01 * bid).astype(float)
    kept = (reward == 1) | (rng.random(len(bid)) < 0.1)
    log = pl.DataFrame(
        {"bid": bid, "density": 0.25, "target_bid": 2.0, "reward": reward, "p_drop": 0.9 * (1 - reward)}
    ).filter(pl.Series(kept))
    found = evaluate_bids(read_bid_log(log), bandwidth=1.0, bid_range=(0.0, 4.0))
    for one in found.estimates:
        assert one.interval.low <= 0.04 <= one.interval.high
        assert one.value == pytest.approx(0.04, rel=0.15)


def thinned(seed: int, rows: int) -> pl.DataFrame:
    """A log at the click rates of ads, of whose rows without a click one in ten was kept."""
    whole = table(rows, seed, 0.15).with_columns(user_id=None)
    kept = (whole["reward"] == 1).to_numpy() | (np.random.default_rng(seed + 1).random(rows) < 0.1)
    return whole.drop("user_id").filter(pl.Series(kept)).with_columns(p_drop=0.9 * (1 - pl.col("reward")))


@pytest.mark.slow
def test_every_estimator_tells_the_truth_of_a_thinned_log() -> None:
    """With 20,000 decisions of which 2,500 rows are left; the truth is that of all of them."""
    log = read_bandit_log(thinned(8, 20_000))
    truth = float(
        np.mean(np.stack(table(20_000, 8, 0.15)["true_click_probability"].to_list()) @ POLICY.shares)
    )
    found = evaluate(log, [POLICY, "half"], list(ESTIMATORS), context_columns=["x"])
    first = found.policies[0]
    assert first.truth == pytest.approx(truth, rel=0.02)
    by_name = {one.estimator: one for one in first.estimates}
    for one in first.estimates:
        if ESTIMATORS[one.estimator].biased:
            continue  # as their intervals say
        assert not one.interval.missed
        if one.estimator == "dm":
            # Its interval takes the model as it is, and leaves out how few clicks that has seen.
            low, high = (getattr(by_name["dr"].interval, end) for end in ("low", "high"))
            assert low <= one.value <= high
            continue
        assert one.interval.low <= truth <= one.interval.high, one
    assert (
        found.logging.interval.low
        <= float(table(20_000, 8, 0.15)["reward"].mean())
        <= found.logging.interval.high
    )
    assert first.diagnostics.rows == pytest.approx(20_000, rel=0.03)
    assert audit(log).severity != "error"
