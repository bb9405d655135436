from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from ctrkit.training import evidence
from ctrkit.training.evidence import EvidenceFit, LinearColumns, faded, fit_by_evidence, honest

# First cells and numbers of ids of each column.
SIZES = (6, 4, 20)


def drawn(rows: int, seed: int = 0, numbers: int = 2) -> tuple[LinearColumns, np.ndarray]:
    """Three columns of ids and some numbers, all one group; the same features as a dense matrix."""
    rng = np.random.default_rng(seed)
    starts = np.cumsum([0, *SIZES])[:-1]
    cells = np.stack([start + rng.integers(0, size, rows) for start, size in zip(starts, SIZES, strict=True)])
    values = rng.normal(size=(rows, numbers)).astype(np.float32)
    groups = np.repeat(np.arange(len(SIZES) + bool(numbers)), [*SIZES, *([numbers] if numbers else [])])
    columns = LinearColumns(np.ascontiguousarray(cells.T.astype(np.int32)), values, groups)
    return columns, dense(columns)


def dense(columns: LinearColumns) -> np.ndarray:
    """The matrix X of all weights but the constant."""
    rows, count = len(columns.cells), columns.groups.size - columns.numbers.shape[1]
    matrix = np.zeros((rows, columns.groups.size))
    for row in range(rows):
        for cell in columns.cells[row]:
            matrix[row, cell] += 1.0
    matrix[:, count:] = columns.numbers
    return matrix


def clicks(logits: np.ndarray, seed: int = 9) -> np.ndarray:
    return (np.random.default_rng(seed).random(logits.size) < expit(logits)).astype(np.float64)


def planted(rows: int, seed: int = 0) -> tuple[LinearColumns, np.ndarray, np.ndarray]:
    """Labels that the first column decides, with weights of variance 1, and the numbers a little."""
    columns, matrix = drawn(rows, seed)
    weights = np.zeros(matrix.shape[1])
    weights[: SIZES[0]] = np.random.default_rng(seed + 100).permutation([-1.5, -1.0, -0.3, 0.4, 0.9, 1.5])
    weights[-2:] = 0.5, -0.4
    return columns, matrix, clicks(matrix @ weights - 1.0, seed)


@pytest.mark.parametrize("weighted", [False, True])
def test_with_fixed_variances_it_is_ridge_logistic_regression(
    weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """scikit-learn's C is the prior variance; the intercept has no penalty."""
    monkeypatch.setattr(evidence, "_NEWTON_STEPS", 30)
    monkeypatch.setattr(evidence, "_ENOUGH", 1e-9)
    monkeypatch.setattr(evidence, "_CONJUGATE_STEPS", 60)
    columns, matrix, labels = planted(800)
    rng = np.random.default_rng(5)
    row_weight = rng.uniform(0.2, 3.0, 800) if weighted else np.ones(800)
    found = fit_by_evidence(columns, labels, row_weight, rounds=1)
    peer = LogisticRegression(C=0.1, tol=1e-10, max_iter=5000)
    peer.fit(matrix, labels, sample_weight=honest(row_weight, labels))
    np.testing.assert_allclose(found.weights, peer.coef_[0], atol=2e-4)
    assert found.bias == pytest.approx(peer.intercept_[0], abs=2e-4)
    np.testing.assert_allclose(found.margins, peer.decision_function(matrix), atol=5e-4)


def test_weights_claim_the_information_that_their_sums_have() -> None:
    """Over many draws of labels, the variance of Σ w (y - p) is Σ w p (1 - p): no row counts as several."""
    rng = np.random.default_rng(0)
    row_weight, rate = 7.0 * rng.choice([0.02, 1.0, 30.0], 2000), 0.2
    draws = (rng.random((4000, 2000)) < rate).astype(np.float64)
    sums = [honest(row_weight, labels) @ (labels - rate) for labels in draws]
    claimed = [honest(row_weight, labels).sum() * rate * (1.0 - rate) for labels in draws[:200]]
    assert np.var(sums) == pytest.approx(np.mean(claimed), rel=0.08)
    np.testing.assert_allclose(honest(np.full(2000, 3.7), draws[0]), 1.0)


def test_the_steps_of_a_round_are_enough() -> None:
    columns, matrix, labels = planted(800)
    found = fit_by_evidence(columns, labels, np.ones(800), rounds=1)
    peer = LogisticRegression(C=0.1, tol=1e-10, max_iter=5000).fit(matrix, labels)
    np.testing.assert_allclose(found.weights, peer.coef_[0], atol=0.01)
    assert found.bias == pytest.approx(peer.intercept_[0], abs=0.01)


def test_margins_are_the_logits_of_the_rows() -> None:
    columns, matrix, labels = planted(500)
    found = fit_by_evidence(columns, labels, np.ones(500))
    np.testing.assert_allclose(found.margins, matrix @ found.weights + found.bias, rtol=1e-9, atol=1e-9)


def test_variances_are_a_fixed_point_of_mackays_equation() -> None:
    """τ² = Σ w² / Σ (1 - v / τ²), with v from the diagonal of the curvature, by dense arrays."""
    columns, matrix, labels = planted(3000)
    rng = np.random.default_rng(1)
    mass = rng.uniform(0.5, 1.5, 3000)
    found = fit_by_evidence(columns, labels, mass, rounds=400)
    mass = honest(mass, labels)
    p = expit(matrix @ found.weights + found.bias)
    information = (matrix**2).T @ (mass * p * (1.0 - p))
    kept = 0
    for group, variance in enumerate(found.variances):
        mine = columns.groups == group
        posterior = 1.0 / (information[mine] + 1.0 / variance)
        determined = np.sum(1.0 - posterior / variance)
        if variance > 1e-6:
            assert variance == pytest.approx(np.sum(found.weights[mine] ** 2) / determined, rel=0.01)
            kept += 1
    assert kept >= 2
    # The weights are the most probable ones under these variances.
    slope = matrix.T @ (mass * (labels - p)) - found.weights / found.variances[columns.groups]
    information += 1.0 / found.variances[columns.groups]
    assert np.abs(slope / information).max() < 2e-3


def test_a_group_of_noise_vanishes_and_a_group_with_signal_stays() -> None:
    for seed in range(4):
        columns, _, labels = planted(6000, seed)
        found = fit_by_evidence(columns, labels, np.ones(6000), rounds=30)
        assert 0.3 < found.variances[0] < 3.0
        assert found.variances[3] > 0.05  # the numbers
        assert found.variances[2] < 0.02
        assert np.abs(found.weights[columns.groups == 2]).max() < 0.15
        assert np.abs(found.weights[columns.groups == 0]).max() > 0.8


def test_the_scale_of_row_weights_does_not_matter() -> None:
    columns, _, labels = planted(400)
    row_weight = np.random.default_rng(2).uniform(0.1, 2.0, 400)
    one, other = (fit_by_evidence(columns, labels, scale * row_weight) for scale in (1.0, 1024.0))
    np.testing.assert_allclose(one.weights, other.weights, rtol=1e-9, atol=1e-12)
    assert one.bias == pytest.approx(other.bias)


def test_a_row_of_weight_zero_is_no_row() -> None:
    columns, _, labels = planted(400)
    row_weight = np.ones(400)
    row_weight[300:] = 0.0
    found = fit_by_evidence(columns, labels, row_weight, rounds=1)
    again = fit_by_evidence(columns.of(np.arange(300)), labels[:300], np.ones(300), rounds=1)
    np.testing.assert_allclose(found.weights, again.weights, atol=1e-9)


def test_separable_labels_leave_all_weights_finite() -> None:
    columns, _ = drawn(300)
    labels = (columns.cells[:, 0] < 3).astype(np.float64)
    found = fit_by_evidence(columns, labels, np.ones(300), rounds=50)
    assert np.isfinite(found.weights).all()
    assert np.isfinite(found.margins).all()
    assert np.isfinite(found.bias)
    assert (found.variances <= 4.0).all()
    assert ((found.margins > 0) == (labels == 1)).all()


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_labels_of_one_kind_leave_all_weights_finite(label: float) -> None:
    columns, _ = drawn(200)
    found = fit_by_evidence(columns, np.full(200, label), np.ones(200))
    assert np.isfinite(found.weights).all()
    assert (np.sign(found.margins) == (1 if label else -1)).all()


@pytest.mark.parametrize("cell", [-1, 30])
def test_a_cell_outside_the_weights_is_an_error(cell: int) -> None:
    columns, _ = drawn(10)
    columns.cells[3, 1] = cell  # 30 is the first weight of the numbers
    with pytest.raises(IndexError, match="outside"):
        fit_by_evidence(columns, np.zeros(10), np.ones(10))


@pytest.mark.parametrize("columns", [0, 1])
def test_nothing_to_learn_is_no_error(columns: int) -> None:
    """Labels that are half 1 in every cell: the first slope is exactly 0."""
    features = LinearColumns(
        np.zeros((4, columns), dtype=np.int32),
        np.zeros((4, 0), dtype=np.float32),
        np.zeros(columns, dtype=np.int64),
    )
    found = fit_by_evidence(features, np.array([0.0, 1.0, 0.0, 1.0]), np.ones(4))
    assert found.bias == 0.0
    assert (found.weights == 0.0).all()


def of_groups(found: EvidenceFit, columns: LinearColumns, matrix: np.ndarray) -> np.ndarray:
    """What each group adds to the logit of each row, `[n, G]`."""
    return np.stack(
        [matrix @ (found.weights * (columns.groups == group)) for group in range(found.variances.size)],
        axis=1,
    )


def most_probable(parts: np.ndarray, labels: np.ndarray, mass: np.ndarray, bias: float) -> np.ndarray:
    """The factors and the bias with the prior N(1, 0.3²), within [0, 1], by scipy."""

    def cost(x: np.ndarray) -> tuple[float, np.ndarray]:
        z = parts @ x[:-1] + x[-1]
        value = mass @ (np.logaddexp(0.0, z) - labels * z) + np.sum((x[:-1] - 1.0) ** 2) / (2 * 0.3**2)
        left = mass * (expit(z) - labels)
        return value, np.append(parts.T @ left + (x[:-1] - 1.0) / 0.3**2, left.sum())

    count = parts.shape[1]
    start, bounds = np.append(np.ones(count), bias), [*[(0.0, 1.0)] * count, (None, None)]
    found = minimize(
        cost, start, jac=True, bounds=bounds, method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 2000},
    )  # fmt: skip
    return found.x


# How much of each group's effect is left in the later rows: the last factors hit both bounds.
LEFT = {
    "some fade": (0.3, 1.0, 1.0, 0.6),
    "some turn round": (-1.0, 1.0, 1.0, 0.5),
    "all hold": (1.0, 1.0, 1.0, 1.0),
    "all grow": (2.0, 2.0, 2.0, 2.0),
    "one turns and one grows": (-1.5, 1.0, 1.0, 2.5),
}


@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT)
def test_faded_factors_are_the_most_probable_ones_within_bounds(left: tuple[float, ...]) -> None:
    columns, matrix, labels = planted(4000)
    found = fit_by_evidence(columns, labels, np.ones(4000))
    later, matrix = drawn(1500, seed=7)
    parts = of_groups(found, columns, matrix)
    after = clicks(parts @ np.array(left) - 0.5, seed=3)
    row_weight = np.random.default_rng(4).uniform(0.5, 2.0, 1500)
    again = faded(found, later, after, row_weight)
    expected = most_probable(parts, after, honest(row_weight, after), found.bias)
    factors = np.array(
        [
            again.weights[mine] @ found.weights[mine] / np.sum(found.weights[mine] ** 2)
            for mine in (columns.groups == group for group in range(4))
        ]
    )
    assert ((factors >= -1e-12) & (factors <= 1.0 + 1e-12)).all()
    np.testing.assert_allclose(factors, expected[:-1], atol=2e-3)
    assert again.bias == pytest.approx(expected[-1], abs=2e-3)
    np.testing.assert_allclose(again.weights, found.weights * factors[columns.groups], atol=1e-12)


def test_factors_of_groups_that_say_the_same_are_the_most_probable_ones_too() -> None:
    """Two groups that are alike but for their size: the bounds of one move the factor of the other."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 5, 2000)
    cells = np.stack([ids, 5 + ids], axis=1).astype(np.int32)
    columns = LinearColumns(cells, np.zeros((2000, 0), dtype=np.float32), np.repeat([0, 1], 5))
    shape = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    found = EvidenceFit(np.append(shape, 0.9 * shape + 0.05), 0.2, np.ones(2), np.zeros(2000))
    parts = of_groups(found, columns, dense(columns))
    for strength in (-1.0, 0.1, 1.0, 1.8, 3.0):
        labels = clicks(strength * shape[ids], seed=1)
        again = faded(found, columns, labels, np.ones(2000))
        expected = most_probable(parts, labels, np.ones(2000), found.bias)
        factors = [again.weights[0] / shape[0], again.weights[5] / found.weights[5]]
        np.testing.assert_allclose(factors, expected[:2], atol=2e-3)
        assert again.bias == pytest.approx(expected[2], abs=2e-3)


def test_later_rows_that_say_nothing_leave_the_fit() -> None:
    columns, _, labels = planted(300)
    found = fit_by_evidence(columns, labels, np.ones(300))
    later, _ = drawn(50, seed=1)
    for after, mass in ((np.ones(50), np.ones(50)), (np.arange(50.0) % 2, np.zeros(50))):
        assert faded(found, later, after, mass) is found
    nobody = replace(later, cells=later.cells[:0], numbers=later.numbers[:0])
    assert faded(found, nobody, np.empty(0), np.empty(0)) is found


def test_cells_that_count_by_amounts_are_columns_of_numbers() -> None:
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 7, (800, 3)).astype(np.int32)
    amounts = (rng.random((800, 3)) * rng.integers(0, 2, (800, 3))).astype(np.float32)
    matrix = np.zeros((800, 7), dtype=np.float32)
    for place in range(3):
        matrix[np.arange(800), cells[:, place]] += amounts[:, place]
    labels, weight = clicks(matrix @ np.linspace(-3, 3, 7)), rng.uniform(0.5, 2.0, 800)
    group = np.zeros(7, dtype=np.int64)
    bags = LinearColumns(cells, np.zeros((800, 0), dtype=np.float32), group, amounts)
    numbers = LinearColumns(np.zeros((800, 0), dtype=np.int32), matrix, group)
    one, other = (fit_by_evidence(columns, labels, weight) for columns in (bags, numbers))
    np.testing.assert_allclose(one.margins, other.margins, rtol=0.02, atol=0.02)
    one, other = (
        faded(one, columns.of(np.arange(400)), labels[:400], weight[:400]) for columns in (bags, numbers)
    )
    np.testing.assert_allclose(one.weights, other.weights, rtol=1e-4, atol=1e-4)
