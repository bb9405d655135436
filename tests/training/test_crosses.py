from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from ctrkit.data.bins import Bins
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import FeatureMap
from ctrkit.nn.linear_terms import LinearTerms
from ctrkit.training.crosses import _VARIANCES, choose_crosses, evidence

FIELDS = ("a", "b", "c", "d", "e")
MAP = FeatureMap(
    tables=dict.fromkeys(FIELDS, 6),
    categorical={name: name for name in FIELDS},
    numeric=("x",),
    bins={"x": Bins((-10.0, 0.0, 10.0), (0.5, 0.5))},
    tasks=("click",),
)
ROWS = 6000


def fields(seed: int, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Ids 2 to 5 of each field, whose signs are -1 and 1 equally often, and a number."""
    rng = np.random.default_rng(seed)
    return rng.integers(2, 6, (rows, len(FIELDS))), rng.normal(size=(rows, 1))


def table(ids: np.ndarray, numbers: np.ndarray, logits: np.ndarray, seed: int) -> EncodedTable:
    labels = np.random.default_rng(seed + 50).random(len(ids)) < expit(logits)
    return EncodedTable(
        ids.astype(np.int32),
        numbers.astype(np.float32),
        {},
        labels[:, None].astype(np.float32),
        np.ones(len(ids), dtype=np.float32),
    )


def signs(ids: np.ndarray, *columns: int) -> np.ndarray:
    """The product of the signs of some fields: no field alone, and no smaller part, says anything of it."""
    return np.prod(1 - 2 * (ids[:, columns] % 2), axis=1)


def chosen(data: EncodedTable, rows: np.ndarray | None = None) -> tuple[tuple[str, ...], ...]:
    rows = np.arange(len(data)) if rows is None else rows
    terms = partial(LinearTerms, MAP, match_terms=False, pair_terms=False)
    return choose_crosses(terms, data, rows, rows)


def test_a_triple_of_quarters_is_found_where_hours_are_too_fine() -> None:
    """A law of the part of the day: 24 hours share the rows that four quarters have."""
    rng = np.random.default_rng(0)
    ids, numbers = fields(0, 3000)
    hour = rng.integers(0, 24, len(ids))
    ids = np.column_stack([ids, hour + 2])
    logits = 0.9 * signs(ids, 0, 1) * (1 - 2 * (hour // 6 % 2))
    hours = FeatureMap(
        tables={**MAP.tables, "hour": 26},
        categorical={**MAP.categorical, "hour": "hour"},
        numeric=("x",),
        quarters={"hour": (0, 0, *(1 + hour // 6 for hour in range(24)))},
    )
    terms = partial(LinearTerms, hours, match_terms=False, pair_terms=False)
    rows = np.arange(len(ids))
    found = choose_crosses(terms, table(ids, numbers, logits, 0), rows, rows)
    assert found == (("a", "b", "hour in quarters"),)


@pytest.mark.parametrize("seed", range(4))
def test_a_planted_pair_is_found(seed: int) -> None:
    ids, numbers = fields(seed)
    assert chosen(table(ids, numbers, 0.5 * signs(ids, 1, 3) - 0.5, seed)) == (("b", "d"),)


@pytest.mark.parametrize("seed", range(4))
def test_a_planted_pair_of_a_field_and_a_number_is_found(seed: int) -> None:
    ids, numbers = fields(seed)
    above = np.where(numbers[:, 0] >= 0, 1, -1)
    assert chosen(table(ids, numbers, 0.5 * signs(ids, 2) * above, seed)) == (("c", "x"),)


@pytest.mark.parametrize("seed", range(4))
def test_a_planted_triple_is_found_beside_two_of_its_pairs(seed: int) -> None:
    """Only the combination of the three fields shows the triple; two pairs show besides."""
    ids, numbers = fields(seed, 12_000)
    logits = 0.4 * signs(ids, 0, 1) + 0.4 * signs(ids, 1, 2) + 0.6 * signs(ids, 0, 1, 2)
    assert set(chosen(table(ids, numbers, logits, seed))) == {("a", "b"), ("b", "c"), ("a", "b", "c")}


def test_a_triple_is_found_without_any_of_its_pairs() -> None:
    ids, numbers = fields(0)
    assert chosen(table(ids, numbers, 0.6 * signs(ids, 0, 1, 2), 0)) == (("a", "b", "c"),)


def test_of_many_triples_those_of_the_strongest_pairs_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctrkit.training.crosses._TRIED_TRIPLES", 1)
    ids, numbers = fields(0, 12_000)
    hidden = 0.6 * signs(ids, 2, 3, 4)
    logits = 0.4 * signs(ids, 0, 1) + 0.4 * signs(ids, 1, 2) + 0.6 * signs(ids, 0, 1, 2) + hidden
    assert set(chosen(table(ids, numbers, logits, 0))) == {("a", "b"), ("b", "c"), ("a", "b", "c")}


def test_pairs_that_explain_all_bring_no_triple() -> None:
    ids, numbers = fields(1)
    logits = 0.5 * signs(ids, 0, 1) + 0.5 * signs(ids, 1, 2)
    assert set(chosen(table(ids, numbers, logits, 1))) == {("a", "b"), ("b", "c")}


@pytest.mark.parametrize("seed", range(12))
def test_noise_has_no_crosses(seed: int) -> None:
    """Neither labels without any cause, nor effects of single fields."""
    ids, numbers = fields(seed)
    assert chosen(table(ids, numbers, np.full(ROWS, -0.5), seed)) == ()
    single = np.array([-1.0, 0.5, 0.0, 1.0])[ids[:, 0] - 2] + np.array([0.7, -0.7, 0.0, 0.4])[ids[:, 1] - 2]
    assert chosen(table(ids, numbers, single, seed)) == ()


def test_strongest_pairs_come_first() -> None:
    ids, numbers = fields(2)
    logits = 0.35 * signs(ids, 0, 1) + 0.8 * signs(ids, 2, 3)
    assert chosen(table(ids, numbers, logits, 2))[:2] == (("c", "d"), ("a", "b"))


def test_weights_of_rows_count() -> None:
    ids, numbers = fields(3)
    rows = np.arange(ROWS)
    logits = np.where(rows % 2 == 0, 0.9 * signs(ids, 0, 4), 0.9 * signs(ids, 1, 2))
    data = table(ids, numbers, logits, 3)
    # Rows of weight 0 are no rows; whatever the scale of the others.
    even = replace(data, weight=np.where(rows % 2 == 0, 37.0, 0.0).astype(np.float32))
    assert chosen(even) == chosen(data, rows[::2]) == (("a", "e"),)
    # A light weight takes evidence away.
    assert set(chosen(data)) == {("a", "e"), ("b", "c")}
    light = replace(data, weight=np.where(rows % 2 == 0, 1.0, 0.05).astype(np.float32))
    assert chosen(light) == (("a", "e"),)


def test_only_training_rows_are_read() -> None:
    ids, numbers = fields(4)
    logits = np.where(np.arange(ROWS) < 3000, 0.0, 1.5 * signs(ids, 0, 1))
    assert chosen(table(ids, numbers, logits, 4), np.arange(3000)) == ()


def test_labels_of_one_kind_have_no_crosses() -> None:
    ids, numbers = fields(5, 300)
    assert chosen(table(ids, numbers, np.full(300, 60.0), 5)) == ()


def test_a_cross_of_more_cells_than_rows_is_not_tried() -> None:
    """35 rows of labels that a pair decides, against 36 cells."""
    ids, numbers = fields(6, 35)
    assert chosen(table(ids, numbers, 60.0 * signs(ids, 0, 1), 6)) == ()


def test_no_row_with_a_weight_has_no_crosses() -> None:
    ids, numbers = fields(7, 100)
    data = table(ids, numbers, np.zeros(100), 7)
    assert chosen(replace(data, weight=np.zeros(100, dtype=np.float32))) == ()


@pytest.mark.slow
def test_evidence_is_the_integral_of_the_quadratic_approximation() -> None:
    """log ∫ exp(R w - S w² / 2) N(w; 0, τ²) dw, one integral for each cell."""
    rng = np.random.default_rng(0)
    for scale in (0.0, 0.3, 3.0, 12.0):
        left, information = scale * rng.normal(size=5), rng.uniform(0.0, 30.0, 5)
        gains = [
            sum(
                np.log(
                    quad(
                        lambda w, r=r, s=s, v=v: np.exp(r * w - s * w * w / 2) * norm.pdf(w, 0, np.sqrt(v)),
                        *(centre(r, s, v) + side * 12 * width(s, v) for side in (-1, 1)),
                    )[0]
                )
                for r, s in zip(left, information, strict=True)
            )
            for v in _VARIANCES
        ]
        assert evidence(left, information) == pytest.approx(max(gains), rel=1e-6, abs=1e-8)


def centre(left: float, information: float, variance: float) -> float:
    return left / (information + 1.0 / variance)


def width(information: float, variance: float) -> float:
    return float(1.0 / np.sqrt(information + 1.0 / variance))


@pytest.mark.parametrize("shift", [0.0, 0.3, -0.4])
def test_evidence_is_near_the_likelihood_that_a_cells_weight_gains(shift: float) -> None:
    """The whole logistic likelihood of the rows of one cell, integrated over the prior of its weight."""
    rng = np.random.default_rng(1)
    margins = rng.normal(-1.0, 0.7, 400)
    labels = (rng.random(400) < expit(margins + shift)).astype(np.float64)
    p = expit(margins)

    def gain(w: float) -> float:
        moved = labels @ (margins + w) - np.logaddexp(0.0, margins + w).sum()
        return float(moved - (labels @ margins - np.logaddexp(0.0, margins).sum()))

    found = evidence(np.array([np.sum(labels - p)]), np.array([np.sum(p * (1.0 - p))]))
    integrals = []
    for v in _VARIANCES:
        most = max(gain(w) for w in np.linspace(-2, 2, 401))
        integral = quad(
            lambda w, v=v, most=most: np.exp(gain(w) - most) * norm.pdf(w, 0, np.sqrt(v)),
            -2, 2, limit=200, points=[shift],
        )[0]  # fmt: skip
        integrals.append(np.log(integral) + most)
    assert found == pytest.approx(max(integrals), abs=0.3, rel=0.15)
