"""Reading bandit logs, and what bad ones are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ctrkit.errors import DataError
from ctrkit.ope import read_bandit_log


def log_table() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": ["a", "b", "a"],
            "action": [3, 1, 2],
            "propensity": [0.5, 0.25, 1.0],
            "reward": [1, 0, 0],
            "candidates": [[1, 3], [1, 2, 3], [2]],
            "logging_probabilities": [[0.5, 0.5], [0.25, 0.25, 0.5], [1.0]],
            "candidate_price": [[1.0, 2.0], [1.0, 2.0, 3.0], [5.0]],
        }
    )


def test_arrays() -> None:
    log = read_bandit_log(log_table())
    assert len(log) == 3
    assert log.width == 3
    assert log.binary
    np.testing.assert_array_equal(log.action_index, [1, 0, 0])
    np.testing.assert_array_equal(log.reward, [1, 0, 0])
    np.testing.assert_array_equal(log.propensity, [0.5, 0.25, 1])
    assert log.users is not None
    assert log.users[0] == log.users[2] != log.users[1]
    probabilities = log.logging_probabilities(slice(1, 3))
    np.testing.assert_array_equal(probabilities, [[0.25, 0.25, 0.5], [1, 0, 0]])
    assert log.candidates(slice(1, 3)).to_list() == [[1, 2, 3], [2]]


def test_text_ids() -> None:
    table = log_table().with_columns(
        pl.col("action").cast(pl.String), pl.col("candidates").cast(pl.List(pl.String))
    )
    np.testing.assert_array_equal(read_bandit_log(table).action_index, [1, 0, 0])


def test_without_candidates_they_are_all_actions_of_the_log() -> None:
    table = log_table().drop("candidates", "logging_probabilities", "candidate_price")
    log = read_bandit_log(table)
    assert log.actions is not None
    assert log.actions.to_list() == [1, 2, 3]
    assert log.candidates(slice(0, 2)).to_list() == [[1, 2, 3], [1, 2, 3]]
    np.testing.assert_array_equal(log.action_index, [2, 0, 1])
    assert log.logging_probabilities(slice(0, 2)) is None
    with pytest.raises(DataError, match=r"'candidates'.*Add a list column"):
        read_bandit_log(table, require_candidates=True)


def test_a_user_of_one_row_each_is_no_cluster() -> None:
    assert read_bandit_log(log_table().with_columns(user_id=pl.Series(["a", "b", "c"]))).users is None


def test_aliases() -> None:
    table = log_table().rename(
        {
            "action": "item_id",
            "propensity": "pscore",
            "reward": "click",
            "logging_probabilities": "logging_probs",
        }
    )
    log = read_bandit_log(table)
    np.testing.assert_array_equal(log.propensity, [0.5, 0.25, 1])


def test_a_distribution_in_32_bit_floats_is_taken() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(80, 0.3), size=50).astype(np.float32)
    action = probabilities.argmax(axis=1)
    table = pl.DataFrame(
        {
            "action": action,
            "propensity": np.round(probabilities[np.arange(50), action].astype(float), 6),
            "reward": np.zeros(50),
            "candidates": [list(range(80))] * 50,
            "logging_probabilities": probabilities,
        }
    )
    assert read_bandit_log(table).width == 80


def _set(column: str, values: list[object]) -> pl.DataFrame:
    return log_table().with_columns(pl.Series(column, values))


BAD = [
    (_set("action", [3, 4, 2]), "action", 1, "action 4 is not one of the row's candidates"),
    (_set("candidates", [[1, 3], [1, 1, 3], [2]]), "candidates", 1, "twice"),
    (_set("candidates", [["1", "3"], ["01", "2", "3"], ["2"]]), "action", 1, "action '1' is not one of"),
    (_set("candidates", [[1, 3], [1, 2, 3], []]), "candidates", 2, "the list is empty"),
    (_set("candidate_price", [[1.0, 2.0], [1.0], [5.0]]), "candidate_price", 1, "1 values for 3 candidates"),
    (
        _set("logging_probabilities", [[0.5, 0.5], [0.25, 0.25, 0.5], [0.5, 0.5]]),
        "logging_probabilities",
        2,
        "2 values for 1 candidates",
    ),
    (
        _set("logging_probabilities", [[0.5, 0.5], [0.25, 0.25, 0.3], [1.0]]),
        "logging_probabilities",
        1,
        "sum to 0.8",
    ),
    (_set("propensity", [0.5, 0.26, 1.0]), "propensity", 1, "has 0.25"),
    (_set("propensity", [0.5, 0.0, 1.0]), "propensity", 1, "not in"),
    (_set("propensity", [0.5, 1.5, 1.0]), "propensity", 1, "not in"),
    (_set("propensity", [0.5, None, 1.0]), "propensity", 1, "missing"),
    (_set("propensity", [float("nan"), 0.25, 1.0]), "propensity", 0, "not a finite number"),
    (_set("reward", [1.0, 0.0, float("inf")]), "reward", 2, "not a finite number"),
    (_set("target_probability", [0.1, 1.2, 0.0]), "target_probability", 1, "above 1"),
    (_set("target_probability", [0.1, 0.2, -0.1]), "target_probability", 2, "below 0"),
    (log_table().drop("propensity"), "propensity", None, "needs this column"),
    (log_table().drop("candidates"), "candidates", None, "does not list the candidates"),
]


@pytest.mark.parametrize(("table", "column", "row", "message"), BAD)
def test_bad_logs(table: pl.DataFrame, column: str, row: int | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "log.parquet"
    table.write_parquet(file)
    with pytest.raises(DataError, match=message) as caught:
        read_bandit_log(file)
    assert (caught.value.column, caught.value.row) == (column, row)
    assert caught.value.file == str(file)
    assert caught.value.hint


def test_a_log_without_rows() -> None:
    with pytest.raises(DataError, match="no rows"):
        read_bandit_log(log_table().clear())


def test_target_column_that_is_not_there() -> None:
    log = read_bandit_log(log_table().with_columns(my_policy=pl.Series([0.1, 0.2, 0.3])))
    np.testing.assert_array_equal(log.target_probability("my_policy"), [0.1, 0.2, 0.3])
    with pytest.raises(DataError, match="Did you mean 'my_policy'"):
        log.target_probability("my_polcy")
