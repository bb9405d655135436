"""Estimated propensities against true ones, frequencies, and what cross-fitting promises."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ctrkit.errors import ConfigError, DataError
from ctrkit.ope.intervals.moments import Floats
from ctrkit.ope.models.propensities import (
    EstimatedPropensities,
    PropensityMethod,
    _calibrate,
    _Classifier,
    _folds,
    balance,
    encode_context,
    estimate_propensities,
)

ACTIONS = 4


def draw(rows: int, seed: int, actions: int = ACTIONS) -> tuple[pl.DataFrame, pl.Series, Floats]:
    """Context, logged actions and the true probabilities [rows, actions] of a softmax logging policy."""
    rng = np.random.default_rng(seed)
    x, segment = rng.normal(size=(rows, 2)), rng.integers(3, size=rows)
    weights = np.random.default_rng(99)
    scores = (
        x @ weights.normal(0, 0.6, size=(2, actions)) + weights.normal(0, 0.6, size=(3, actions))[segment]
    )
    truth = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    logged = (truth.cumsum(axis=1) < rng.random(rows)[:, None]).sum(axis=1).clip(0, actions - 1)
    context = pl.DataFrame(
        {"x0": x[:, 0], "x1": x[:, 1], "segment": np.array(["a", "b", "c"])[segment], "constant": 3}
    )
    return context, pl.Series("action", np.array([f"ad{i}" for i in range(actions)])[logged]), truth


def logged_codes(actions: pl.Series) -> np.ndarray:
    return actions.str.slice(2).cast(pl.Int64).to_numpy()


@pytest.mark.parametrize(("method", "error"), [("logistic", 0.008), ("trees", 0.03)])
def test_estimates_are_near_the_truth(method: PropensityMethod, error: float) -> None:
    context, actions, truth = draw(12_000, 0)
    found = estimate_propensities(context, actions, np.ones(len(actions)), method=method, all_actions=True)
    assert found.actions.to_list() == ["ad0", "ad1", "ad2", "ad3"]
    assert found.all_actions is not None
    assert np.abs(found.all_actions - truth).mean() < error
    codes = logged_codes(actions)
    places = np.arange(len(codes))
    np.testing.assert_array_equal(found.logged, found.all_actions[places, codes])
    np.testing.assert_allclose(found.all_actions.sum(axis=1), 1)
    best = -np.log(truth[places, codes]).mean()
    assert best - 0.005 < found.log_loss < best + (0.005 if method == "logistic" else 0.03)
    assert found.frequency_log_loss > best + 0.1
    slack = 0.0 if method == "logistic" else 0.02
    # Calibrated: among rows given about 0.1, 0.2, ... for an action, that share chose it.
    for action in range(ACTIONS):
        place = np.digitize(
            found.all_actions[:, action], np.quantile(found.all_actions[:, action], [0.2, 0.8])
        )
        for bin_ in range(3):
            mine = place == bin_
            chosen = (codes[mine] == action).mean()
            spread = np.sqrt(chosen * (1 - chosen) / mine.sum())
            assert found.all_actions[mine, action].mean() == pytest.approx(chosen, abs=slack + 4 * spread)


def test_ips_with_estimates_is_near_the_truth_and_with_frequencies_is_not() -> None:
    errors: dict[str, list[float]] = {"true": [], "estimated": [], "frequency": []}
    policy = np.array([0.1, 0.7, 0.1, 0.1])
    for seed in range(12):
        context, actions, truth = draw(4000, seed)
        codes = logged_codes(actions)
        rng = np.random.default_rng(100 + seed)
        x = context["x1"].to_numpy()[:, None]
        # What leads to the policy's favourite is also what leads to a reward.
        rates = 0.1 + 0.1 * np.arange(ACTIONS) + 0.4 * (x > 0)
        value = float((rates @ policy).mean())
        rewards = (rng.random(4000) < rates[np.arange(4000), codes]).astype(float)
        propensities = {
            "true": truth[np.arange(4000), codes],
            "estimated": estimate_propensities(context, actions, np.ones(len(actions))).logged,
            "frequency": (np.bincount(codes) / 4000)[codes],
        }
        for name, propensity in propensities.items():
            errors[name].append(float((policy[codes] / propensity * rewards).mean()) - value)
    size = {name: float(np.sqrt(np.mean(np.square(error)))) for name, error in errors.items()}
    assert size["estimated"] < 1.2 * size["true"]
    assert size["frequency"] > 2 * size["estimated"]


def test_without_context_they_are_the_frequencies_of_the_other_folds() -> None:
    _, actions, _ = draw(300, 1)
    codes = logged_codes(actions)
    users = np.arange(300) // 3
    found = estimate_propensities(pl.DataFrame(), actions, np.ones(len(actions)), users)
    fold = _folds(300, users, 3, 0)
    for row in range(300):
        others = codes[fold != fold[row]]
        expected = ((others == codes[row]).sum() + 0.5) / (len(others) + 0.5 * ACTIONS)
        assert found.logged[row] == pytest.approx(expected)
    assert found.log_loss == found.frequency_log_loss
    assert found.balance.is_empty()


@pytest.mark.parametrize("method", ["logistic", "trees"])
def test_irrelevant_context_gives_the_frequencies(method: PropensityMethod) -> None:
    rng = np.random.default_rng(2)
    share = np.array([0.5, 0.3, 0.15, 0.05])
    actions = rng.choice(ACTIONS, size=8000, p=share)
    context = pl.DataFrame({"x": rng.normal(size=8000), "y": rng.random(8000)})
    found = estimate_propensities(
        context, pl.Series(actions), np.ones(len(actions)), method=method, all_actions=True
    )
    frequency = np.bincount(actions) / 8000
    assert found.all_actions is not None
    assert np.abs(found.all_actions - frequency).mean() < 0.012
    assert found.log_loss == pytest.approx(found.frequency_log_loss, abs=0.002)


@pytest.mark.parametrize("method", ["logistic", "trees"])
def test_a_users_propensities_do_not_depend_on_the_users_actions(method: PropensityMethod) -> None:
    context, actions, _ = draw(900, 3)
    users = np.random.default_rng(0).integers(60, size=900)
    mine = users == 7
    turned = pl.Series("action", np.where(mine, "ad1", actions.to_numpy()))
    before, after = (
        estimate_propensities(
            context, each, np.ones(len(each)), users, method=method, all_actions=True
        ).all_actions
        for each in (actions, turned)
    )
    assert before is not None
    assert after is not None
    np.testing.assert_array_equal(before[mine], after[mine])
    assert (before[~mine] != after[~mine]).any()


def test_calibration_finds_the_factor_and_the_biases() -> None:
    """A model whose log-odds are twice too large and favour the first action."""
    rng = np.random.default_rng(4)
    truth = rng.dirichlet(np.full(3, 2.0), size=30_000)
    codes = (truth.cumsum(axis=1) < rng.random(30_000)[:, None]).sum(axis=1).clip(0, 2)
    wrong = 2 * np.log(truth) + np.array([1.0, 0.0, 0.0])

    class Wrong(_Classifier):
        def __init__(self) -> None:
            """Nothing is fitted."""

        def log_probabilities(self, features: Floats) -> Floats:
            return np.asarray(features - np.log(np.exp(features).sum(axis=1, keepdims=True)))

    scale, bias = _calibrate(
        {0: Wrong()}, wrong, codes, np.ones(30_000), np.zeros(30_000, dtype=np.int64), 3, 0
    )
    assert scale == pytest.approx(0.5, abs=0.02)
    np.testing.assert_allclose(bias - bias[1], [-0.5, 0, 0], atol=0.06)


@pytest.mark.parametrize("method", ["logistic", "trees"])
def test_rare_actions(method: PropensityMethod) -> None:
    """Some that stand together, one that is there once and so unknown to the model of its fold."""
    rng = np.random.default_rng(5)
    actions = rng.integers(3, size=2000)
    actions[:60] = 10 + np.arange(60) % 6
    actions[60] = 99
    order = rng.permutation(2000)
    x = rng.normal(size=2000) + (actions == 1)
    found = estimate_propensities(
        pl.DataFrame({"x": x[order]}),
        pl.Series(actions[order]),
        np.ones(2000),
        method=method,
        all_actions=True,
    )
    assert found.all_actions is not None
    np.testing.assert_allclose(found.all_actions.sum(axis=1), 1)
    shares = dict(zip(found.actions, found.all_actions.mean(axis=0), strict=True))
    for action in range(10, 16):
        assert shares[action] == pytest.approx(0.005, rel=0.3)
    assert 1e-4 < shares[99] < 1.5e-3
    assert (found.logged > 1e-4).all()


def test_balance_by_brute_force() -> None:
    context, actions, truth = draw(500, 6)
    propensity = truth[np.arange(500), logged_codes(actions)]
    found = balance(context, actions, propensity, np.ones(len(actions)))
    assert set(found["column"]) == {"x0", "x1", "segment=a", "segment=b", "segment=c"}
    assert len(found) == 5 * ACTIONS
    assert found["after"].abs().is_sorted(descending=True)
    for row in found.iter_rows(named=True):
        name, _, value = row["column"].partition("=")
        values = (context[name] == value if value else context[name]).cast(pl.Float64).to_numpy()
        mine = (actions == row["action"]).to_numpy()
        assert row["rows"] == mine.sum()
        before = (values[mine].mean() - values.mean()) / values.std()
        weighted = np.average(values[mine], weights=1 / propensity[mine])
        assert row["before"] == pytest.approx(before)
        assert row["after"] == pytest.approx((weighted - values.mean()) / values.std(), abs=1e-12)
        w = 1 / propensity[mine]
        assert row["noise"] == pytest.approx(np.sqrt((w**2).sum()) / w.sum())


def test_estimates_balance_the_log() -> None:
    context, actions, _ = draw(12_000, 7)
    found: EstimatedPropensities = estimate_propensities(context, actions, np.ones(len(actions)))
    assert found.balance["before"].abs().max() > 0.3
    assert found.balance["after"].abs().max() < 0.1


def test_context_as_numbers() -> None:
    context = pl.DataFrame(
        {
            "n": [1.0, None, 3.0, float("nan")],
            "b": [True, False, True, True],
            "t": ["u", "v", None, "u"],
            "same": [5, 5, 5, 5],
        }
    )
    found = encode_context(context, np.ones(context.height))
    # Whether n is missing, n, b, and t = u, v, missing.
    assert found.shape == (4, 6)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(found.std(axis=0), 1)
    np.testing.assert_allclose(found[:, 0], [-1, 1, -1, 1])
    np.testing.assert_allclose(found[:, 1], np.array([-1, 0, 1, 0]) * np.sqrt(2))


def test_bad_input() -> None:
    context, actions, _ = draw(60, 8)
    with pytest.raises(ConfigError, match=r"no method 'tree'.*Did you mean 'trees'"):
        estimate_propensities(context, actions, np.ones(len(actions)), method="tree")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least 3 folds, not 2"):
        estimate_propensities(context, actions, np.ones(len(actions)), folds=2)
    with pytest.raises(DataError, match="59 rows and there are 60 actions"):
        estimate_propensities(context[1:], actions, np.ones(60))
    with pytest.raises(DataError, match="a single action"):
        estimate_propensities(context, pl.Series("action", ["a"] * 60), np.ones(60))
    with pytest.raises(DataError, match="'action', row index 2"):
        estimate_propensities(context[:3], pl.Series("action", ["a", "b", None]), np.ones(3))
    with pytest.raises(DataError, match="the log has 2"):
        estimate_propensities(context, actions, np.ones(len(actions)), np.arange(60) % 2)
    with pytest.raises(DataError, match="numbers and texts, not List"):
        estimate_propensities(pl.DataFrame({"l": [[1]] * 60}), actions, np.ones(60))
    with pytest.raises(DataError, match=r"column 'x', row index 1.*infinite"):
        estimate_propensities(pl.DataFrame({"x": [0.0, np.inf] * 30}), actions, np.ones(60))
