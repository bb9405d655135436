"""A row of weight c equals c copies of it in all that an evaluation measures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ctrkit.evaluation import (
    MEASURES,
    EvaluationSettings,
    LabelledRows,
    MetricGate,
    Scored,
    by_count,
    check_gates,
    drift,
    evaluate_task,
    occurrences,
    profile,
)
from ctrkit.evaluation.measures import Drawing, Measured, measure

SETTINGS = EvaluationSettings(draws=20, minimum_rows=20)
# All but the one that takes long.
QUICK = [one for one in MEASURES if one.name != "smooth_ece"]


def measured(labels: object, probabilities: object, groups: np.ndarray | None = None) -> Measured:
    return measure(QUICK, labels, probabilities, groups, Drawing(draws=20))  # type: ignore[arg-type]


def same(found: dict[str, float | str] | None, expected: dict[str, float | str] | None) -> bool:
    """Whether two intervals (or their difference with its p-value) are the same, but for rounding."""
    if found is None or expected is None:
        return found is expected
    return all(
        value
        == (expected[key] if isinstance(value, str) else pytest.approx(expected[key], rel=1e-8, abs=1e-12))
        for key, value in found.items()
    )


def weighted_rows(number: int = 1500, seed: int = 0) -> tuple[LabelledRows, np.ndarray]:
    """Rows with weights 1 to 4, which are one within a user, and the place of each copy."""
    random = np.random.default_rng(seed)
    p = 1 / (1 + np.exp(2.0 - random.normal(size=number)))
    users = random.integers(0, number // 5, number)
    weight = random.integers(1, 5, number).astype(float)
    q = np.clip(p * np.exp(random.normal(0, 0.3, number)), 0, 1)
    rows = LabelledRows(
        (random.random(number) < p).astype(float),
        weight,
        Scored(p, p),
        Scored(q, q),
        users,
        {"place": random.choice(np.array(["a", "b"]), number)},
        {"popularity": by_count(random.integers(0, 9, number), 2)},
    )
    return rows, np.repeat(np.arange(number), weight.astype(int))


def test_a_whole_task() -> None:
    rows, copies = weighted_rows()
    copied = replace(rows[copies], weight=np.ones(len(copies)))
    one = evaluate_task("click", rows, None, SETTINGS).to_dict()
    other = evaluate_task("click", copied, None, SETTINGS).to_dict()
    lists = {name for name, reason in one["undefined"].items() if "different weights" in reason}
    assert lists == {"ndcg_at_10", "map_at_10", "mean_reciprocal_rank", "hit_rate_at_10"}
    for name in {measure_.name for measure_ in MEASURES} - lists:
        assert same(one["metrics"][name], other["metrics"][name]), name
        assert same(*(task["against"]["differences"][name] for task in (one, other))), name
    assert one["gain"]["lift"] == pytest.approx(other["gain"]["lift"], rel=1e-9)
    assert one["scores"]["positive"] == pytest.approx(other["scores"]["positive"], rel=1e-9)
    assert one["reliability"]["observed"] == pytest.approx(other["reliability"]["observed"], rel=1e-9)
    for key in ("ece", "rce"):
        assert one["fields"]["place"][key] == pytest.approx(other["fields"]["place"][key], rel=1e-9)
    for part, again in zip(one["slices"]["popularity"], other["slices"]["popularity"], strict=True):
        for name, value in part["metrics"].items():
            assert same(value, again["metrics"][name]), name


def test_drift_popularity_and_parts() -> None:
    random = np.random.default_rng(1)
    ids, number = random.choice(["x", "y", "z"], 500), random.normal(size=500)
    table = pl.DataFrame(
        {"id": ids, "number": number, "list": [[0] * int(n) for n in random.integers(0, 9, 500)]}
    )
    weight = random.integers(1, 4, 500).astype(float)
    copies = np.repeat(np.arange(500), weight.astype(int))
    kinds = {"categorical": ["id"], "numeric": ["number"], "lists": ["list"]}
    one, other = profile(table, **kinds, weight=weight), profile(table[copies], **kinds)
    for name, found in one.items():
        assert found.edges == other[name].edges
        assert found.shares == pytest.approx(other[name].shares)
        assert 300 < found.rows < 500 < other[name].rows
    tilted = np.where(ids == "x", 5.0, 1.0)
    twice = table[np.repeat(np.arange(500), tilted.astype(int))]
    by_weight = {one.column: one for one in drift(other, table, tilted)}
    by_copy = {one.column: one for one in drift(other, twice)}
    assert by_weight["id"].psi == pytest.approx(by_copy["id"].psi, rel=0.02)  # but for half a row a bin
    assert by_weight["id"].evaluated == pytest.approx(by_copy["id"].evaluated)
    assert by_weight["id"].noise > by_copy["id"].noise  # copies are no rows of their own
    counted = occurrences(table["id"], table["id"], weight)
    assert counted.tolist() == occurrences(table["id"], table["id"][copies]).tolist()
    parts = by_count(np.arange(500), 5, weight)
    mass = np.bincount(parts.part, weight)[1:]
    assert mass == pytest.approx(mass.mean(), rel=0.02)
    assert by_count([1.5, 2.0], 2).names == ("1.5", "2")


def test_rows_without_a_group_are_units_of_their_own_and_out_of_gauc() -> None:
    rows, _ = weighted_rows()
    groups = rows.groups
    assert groups is not None
    alone = np.arange(1500) % 3 == 0
    told = np.where(alone, -1 - np.arange(1500), groups)
    found = measured(rows.labels, rows.model.probabilities, told)
    some = np.flatnonzero(~alone)
    within = measured(rows.labels[some], rows.model.probabilities[some], groups[some])
    for one in QUICK:
        if one.grouped:
            assert found.intervals[one.name] == within.intervals[one.name]
    as_one = measured(rows.labels, rows.model.probabilities, np.where(alone, 0, groups))
    assert as_one.intervals["gauc"] != found.intervals["gauc"]
    nobody = measured(rows.labels, rows.model.probabilities, -1 - np.arange(1500))
    assert nobody.intervals["gauc"] is None
    assert nobody.reasons["gauc"] == "gauc needs groups, and no row has one"
    assert nobody.intervals["brier"] == measured(rows.labels, rows.model.probabilities).intervals["brier"]


def test_a_degenerate_interval_passes_no_verdict_and_no_gate() -> None:
    rows, _ = weighted_rows()
    one_user = replace(rows, groups=np.zeros(1500, dtype=np.int64), other=None)
    found = evaluate_task("click", one_user, None, SETTINGS)
    assert found.verdict.decision == "cannot tell"
    assert all(value is None for value in found.measured.intervals.values())
    assert set(found.measured.reasons.values()) == {"an interval needs at least two rows or groups"}
    lone = replace(rows, weight=np.where(np.arange(1500) == 7, 1e9, 1.0), other=None)
    found = evaluate_task("click", lone, None, SETTINGS)
    assert found.verdict.decision == "cannot tell"
    assert not check_gates({"pcoc": MetricGate(minimum=0.0)}, found.measured.intervals)[0].held
    # An AUC of 1 of two users, each with two rows.
    two = measured([0, 1, 0, 1], [0.1, 0.9, 0.2, 0.8], np.array([0, 0, 1, 1]))
    (gate,) = check_gates({"auc": MetricGate(minimum=0.6)}, two.intervals)
    assert (gate.value, gate.held) == (1.0, False)
    many = measured(np.tile([0, 1], 500), np.tile([0.1, 0.9], 500))
    assert check_gates({"auc": MetricGate(minimum=0.6)}, many.intervals)[0].held


def test_ranking_goes_by_the_scores_and_calibration_by_the_probabilities() -> None:
    rows, _ = weighted_rows()
    steps = np.round(rows.model.probabilities, 1)
    scored = replace(rows, model=Scored(steps, rows.model.probabilities), other=None)
    found = evaluate_task("click", scored, None, SETTINGS).measured.intervals
    plain = evaluate_task("click", replace(rows, other=None), None, SETTINGS).measured.intervals
    tied = evaluate_task("click", replace(rows, model=Scored(steps, steps), other=None), None, SETTINGS)
    for name in ("auc", "gauc", "average_precision"):
        assert found[name] == plain[name] != tied.measured.intervals[name]
    assert found["ece"] == tied.measured.intervals["ece"] != plain["ece"]
