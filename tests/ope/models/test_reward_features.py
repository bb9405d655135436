"""What a reward model reads: which columns, what they become, and that a sample's codes hold elsewhere."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ctrkit.errors import DataError
from ctrkit.ope.logs.bandit_log import BanditLog, read_bandit_log
from ctrkit.ope.models.reward_features import CandidateFeatures, Features, context_columns


def log_of(**columns: object) -> BanditLog:
    """Three decisions among candidates "a" to "c", and whatever else."""
    base = {
        "action": ["b", "a", "c"],
        "propensity": [0.5, 0.5, 1.0],
        "reward": [0, 1, 0],
        "candidates": [["a", "b"], ["b", "a"], ["c"]],
    }
    return read_bandit_log(pl.DataFrame({**base, **columns}))


SAMPLE = {
    "age": [30, None, 50],
    "city": ["Rome", "Oslo", "Rome"],
    "taste": [[0.5, 1.0], [2.0, None], None],
    "candidate_price": [[1.0, 2.0], [3.0, 4.0], [5.0]],
    "candidate_kind": [["x", "y"], ["y", "y"], ["z"]],
}
COLUMNS = ("age", "city", "taste")


def test_matrix_written_by_hand() -> None:
    log = log_of(**SAMPLE)
    features = CandidateFeatures.fit(log, COLUMNS)
    n = np.nan
    # The commonest category has code 0; of equally common ones the first in order is first.
    assert features.is_categorical == (False, True, False, False, False, True, True)
    found = features.of_candidates(log, slice(0, 3))
    np.testing.assert_array_equal(
        found.matrix,
        [
            [30, 0, 0.5, 1.0, 1, 1, 0],
            [30, 0, 0.5, 1.0, 2, 0, 1],
            [n, 1, 2.0, n, 3, 0, 1],
            [n, 1, 2.0, n, 4, 0, 0],
            [50, 0, n, n, 5, 2, 2],
        ],
    )
    np.testing.assert_array_equal(features.of_candidates(log, slice(1, 2)).matrix, found.matrix[2:4])
    np.testing.assert_array_equal(features.of_logged_actions(log).matrix, found.matrix[[1, 3, 4]])


def test_codes_are_those_of_the_sample() -> None:
    features = CandidateFeatures.fit(log_of(**SAMPLE), COLUMNS)
    other = log_of(
        age=[1.5, 2.5, 3.5],
        city=["Bern", "Rome", None],
        taste=pl.Series([[1, 2], [3, 4], [5, 6]], dtype=pl.Array(pl.Int64, 2)),
        candidate_price=[[1, 2], [3, 4], [5]],
        candidate_kind=[["w", "z"], ["x", "y"], ["y"]],
        action=["d", "a", "e"],
        candidates=[["c", "d"], ["a", "d"], ["e"]],
    )
    n = np.nan
    np.testing.assert_array_equal(
        features.of_candidates(other, slice(0, 3)).matrix,
        [
            [1.5, n, 1, 2, 1, n, 2],
            [1.5, n, 1, 2, 2, 2, n],
            [2.5, 0, 3, 4, 3, 1, 0],
            [2.5, 0, 3, 4, 4, 0, n],
            [3.5, n, 5, 6, 5, 0, n],
        ],
    )


def test_a_log_without_candidates_has_all_of_its_actions() -> None:
    table = pl.DataFrame({"action": [7, 3, 7], "propensity": 0.5, "reward": [0, 1, 0], "x": [1.0, 2.0, 3.0]})
    log = read_bandit_log(table)
    found = CandidateFeatures.fit(log, ["x"]).of_candidates(log, slice(1, 3))
    np.testing.assert_array_equal(found.matrix, [[2, 1], [2, 0], [3, 1], [3, 0]])


def test_features_of_some_rows() -> None:
    log = log_of(**SAMPLE)
    whole = CandidateFeatures.fit(log, COLUMNS).of_candidates(log, slice(0, 3))
    some = whole.of_rows(np.array([False, True, True]))
    assert isinstance(some, Features)
    assert len(some.context) == 2
    np.testing.assert_array_equal(some.matrix, whole.matrix[2:])


def test_default_context_leaves_out_truths_outcomes_ids_and_what_the_action_says() -> None:
    rng = np.random.default_rng(0)
    action, reward = rng.integers(4, size=500), rng.integers(2, size=500)
    table = pl.DataFrame(
        {
            "user_id": rng.integers(100, size=500),
            "action": action,
            "propensity": 0.25,
            "reward": reward,
            "position": rng.integers(3, size=500),
            "x": rng.normal(size=500),
            "city": rng.choice(["Rome", "Oslo"], size=500),
            "embedding": rng.normal(size=(500, 3)),
            "listed": rng.normal(size=(500, 2)).tolist(),
            # Not to be read:
            "of_action": rng.normal(size=(4, 2))[action].tolist(),
            "price": action * 2.5,
            "conversion": reward * rng.integers(2, size=500),
            "after_click": (reward[:, None] * rng.normal(size=(500, 2))).tolist(),
            "true_rate": rng.random(500),
            "history": [[1.0] * (1 + i % 3) for i in range(500)],
            "ids": rng.integers(9, size=(500, 2)).tolist(),
        }
    )
    assert context_columns(read_bandit_log(table)) == ("position", "x", "city", "embedding", "listed")


def test_vectors_of_whole_numbers_are_read_where_they_are_named() -> None:
    log = log_of(ids=[[1, 2], [3, 4], [5, 6]])
    found = CandidateFeatures.fit(log, ["ids"]).of_logged_actions(log)
    np.testing.assert_array_equal(found.context, [[1, 2], [3, 4], [5, 6]])


@pytest.mark.parametrize(
    ("columns", "name", "message"),
    [
        ({"age": [1, 2, 3]}, "agee", "column 'agee': no such context column. Did you mean 'age'"),
        (
            {"taste": [[1.0], [1.0, 2.0], [3.0]]},
            "taste",
            "row index 1.*: the list has 2 numbers where others have 1",
        ),
        ({"names": [["a"], ["b"], ["c"]]}, "names", "numbers, texts and vectors of numbers, not List"),
        ({"empty": pl.Series([[], [], []], dtype=pl.List(pl.Float64))}, "empty", "not List"),
        ({"candidate_price": SAMPLE["candidate_price"]}, "candidate_price", "not List"),
    ],
)
def test_bad_context_columns(columns: dict[str, object], name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        CandidateFeatures.fit(log_of(**columns), [name])


def test_parts_of_a_log_that_lack_what_the_sample_had() -> None:
    features = CandidateFeatures.fit(log_of(**SAMPLE), COLUMNS)
    without = {name: values for name, values in SAMPLE.items() if name != "candidate_price"}
    with pytest.raises(DataError, match="column 'candidate_price': no such"):
        features.of_candidates(log_of(**without), slice(0, 3))
    longer = {**SAMPLE, "taste": [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0, 3.0]]}
    with pytest.raises(DataError, match=r"row index 2.*: the list has 3 numbers where others have 2"):
        features.of_logged_actions(log_of(**longer))
