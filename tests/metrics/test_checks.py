"""Bad input to any metric ends in one message that names column and row."""

from __future__ import annotations

import pickle

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ctrkit import metrics
from ctrkit.errors import DataError, arguments_named
from ctrkit.metrics.checks import dense_rank, digits, group_codes
from ctrkit.metrics.order import order_within

OF_PROBABILITIES = [
    metrics.log_loss, metrics.brier, metrics.normalized_entropy, metrics.ece, metrics.mce, metrics.pcoc,
    metrics.debiased_ece, metrics.reliability,
]  # fmt: skip
OF_ALL = [metrics.auc, *OF_PROBABILITIES]


@pytest.mark.parametrize("metric", OF_ALL)
@pytest.mark.parametrize(
    ("labels", "values", "message"),
    [
        ([0, 1, 2], [0.1, 0.2, 0.3], r"argument `labels`, row index 2.*a label is 0 or 1, and this is 2"),
        ([0, 0.5, 1], [0.1, 0.2, 0.3], r"argument `labels`, row index 1.*this is 0.5"),
        ([0, 1, np.nan], [0.1, 0.2, 0.3], r"argument `labels`, row index 2.*missing"),
        ([0, 1, None], [0.1, 0.2, 0.3], r"argument `labels`"),
        ([0, 1, 1], [0.1, np.nan, 0.3], r"row index 1.*missing \(NaN\)"),
        ([0, 1, 1], [0.1, 0.2, np.inf], r"row index 2.*infinite"),
        ([0, 1, 1], [0.1, 0.2], r"labels has 3 rows and \w+ has 2"),
        ([0, 1, 1], ["0.1", "0.2", "0.3"], r"numbers are needed"),
        ([[0, 1]], [[0.1, 0.2]], r"the shape is \(1, 2\)"),
        ([], [], r"no rows"),
    ],
)  # fmt: skip
def test_bad_rows(metric, labels, values, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=message):
        metric(labels, values)


@pytest.mark.parametrize("metric", OF_PROBABILITIES)
def test_probabilities_outside_0_to_1(metric) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(
        DataError, match=r"argument `probabilities`, row index 1.*1.2 and must be in \[0, 1\].*not logits"
    ):
        metric([0, 1], [0.5, 1.2])
    with pytest.raises(DataError, match=r"row index 0.*-3"):
        metric([0, 1], [-3, 0.5])


@pytest.mark.parametrize("metric", OF_ALL)
def test_bad_weights(metric) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=r"argument `weight`, row index 1.*-1 and must be at least 0"):
        metric([0, 1], [0.1, 0.2], weight=[1, -1])
    with pytest.raises(DataError, match="every weight is 0"):
        metric([0, 1], [0.1, 0.2], weight=[0, 0])
    with pytest.raises(DataError, match="weight has 3"):
        metric([0, 1], [0.1, 0.2], weight=[1, 1, 1])


def test_bad_groups() -> None:
    labels, scores = [0, 1, 1], [0.1, 0.2, 0.3]
    with pytest.raises(DataError, match=r"argument `groups`, row index 1.*missing"):
        metrics.gauc(labels, scores, np.array(["a", None, "b"], dtype=object))
    with pytest.raises(DataError, match=r"argument `groups`, row index 2.*missing"):
        metrics.gauc(labels, scores, [0.0, 0.0, np.nan])
    with pytest.raises(DataError, match="several types"):
        metrics.gauc(labels, scores, np.array(["a", 1, "b"], dtype=object))
    with pytest.raises(DataError, match=r"groups has the shape \(2,\)"):
        metrics.gauc(labels, scores, [0, 0])


def test_columns_of_frames_are_taken_as_they_are() -> None:
    frame = pl.DataFrame(
        {"click": [True, False, True, False], "p": [0.9, 0.2, 0.3, 0.4], "user": ["a", "a", "b", "b"]}
    )
    assert metrics.auc(frame["click"], frame["p"]) == 0.75
    assert metrics.gauc(frame["click"], frame["p"], frame["user"]) == 0.5
    pandas = frame.to_pandas()
    assert metrics.gauc(pandas["click"], pandas["p"].astype("float32"), pandas["user"]) == 0.5


@pytest.mark.parametrize(
    "groups",
    [
        np.array([7, -3, 7, 0, 2**62, -(2**63)]),
        np.array([0, 2**64 - 1, 5, 5, 2**63, 1], dtype=np.uint64),
        np.array([3, 1, 2, 1, 3, 3], dtype=np.int8),
        np.array([True, False, True, True, False, True]),
        np.array([0.0, -0.0, 1e-300, -1e300, 0.5, 0.5]),
        np.array(["b", "a", "", "ba", "a", "\u00ff"]),
        np.array(["user-123456789", "user-12345678", "user-123456780", "use", "\u4e2d\u6587", "\u4e2d"]),
        np.array(["a", "b", "a", "\U0001f600", "b", "c"], dtype=object),
        np.array(["x" * 100, "x" * 99, "y", "x" * 100, "", "z"], dtype=object),
        np.array([3, 10**15, 3, -1, 0, 7], dtype=object),
        np.array([3, 10**30, 3, -1, 0, 7], dtype=object),
        np.array([3, 2.5, 3, -1, 0, True], dtype=object),
        np.array([b"b", b"a", b"b", b"", b"ab", b"a"]),
        np.array(
            ["2024-01-02", "2024-01-01", "1960-05-05", "2024-01-02", "2000-01-01", "1960-05-05"], "M8[D]"
        ),
        np.array([1 + 1j, 1j, 1 + 1j, 0, 2, 1j]),
    ],
    ids=str,
)
def test_groups_are_numbered_in_the_order_of_their_names(groups: np.ndarray) -> None:
    names, expected = np.unique(groups, return_inverse=True)
    codes, number = group_codes(groups, 6)
    assert (codes.tolist(), number) == (expected.tolist(), len(names))
    assert codes.dtype == np.intp


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12), min_size=1))
def test_names_of_any_text(names: list[str]) -> None:
    expected = {name: code for code, name in enumerate(sorted(set(names)))}
    for groups in (names, np.array(names, dtype=object)):
        codes, number = group_codes(groups, len(names))
        assert codes.tolist() == [expected[name] for name in names]
        assert number == len(expected)


@given(arrays(np.float64, st.integers(1, 60), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_dense_rank_of_any_floats(values: np.ndarray) -> None:
    before = values.copy()
    assert dense_rank(values).tolist() == np.unique(values, return_inverse=True)[1].tolist()
    assert np.array_equal(values, before)


def test_dense_rank_of_many_rows_that_differ_in_their_last_digit_alone() -> None:
    random = np.random.default_rng(0)
    values = np.where(random.random(3000) < 0.5, -1e300, 1.0) * (1 + random.integers(0, 40, 3000) * 2.0**-52)
    assert np.array_equal(dense_rank(values), np.unique(values, return_inverse=True)[1])
    assert np.array_equal(dense_rank(np.sort(values)), np.unique(np.sort(values), return_inverse=True)[1])


@pytest.mark.parametrize("spread", [1, 3, 400, 2**40, 2**62])
@pytest.mark.parametrize("last_digits", [False, True])
def test_order_within_groups(spread: int, last_digits: bool) -> None:
    random = np.random.default_rng(spread % 97)
    values = random.normal(size=2000) * 10.0 ** random.integers(-300, 300, 2000)
    if last_digits:  # beside 1e300, they are left out of the keys that are sorted first
        values = np.where(random.random(2000) < 0.01, 1e300, 1 + random.integers(0, 9, 2000) * 2.0**-52)
    group = np.minimum(random.integers(0, spread, 2000), random.integers(0, spread, 2000))
    found = order_within(group, values)
    expected = np.lexsort((values, group))
    assert np.array_equal(found.order, expected)
    assert np.array_equal(found.group, group[expected])
    assert np.array_equal(np.diff(found.keys[group[expected] == group.min()]) > 0,
                          np.diff(values[expected][group[expected] == group.min()]) > 0)  # fmt: skip


@pytest.mark.parametrize("metric", OF_PROBABILITIES)
def test_rounding_in_single_precision_is_no_fault(metric) -> None:  # type: ignore[no-untyped-def]
    labels = [0, 1, 1, 0] * 5
    exact, rounded = np.tile([0.25, 1.0, 0.5, 0.0], 5), np.tile([0.25, 1 + 1.2e-7, 0.5, -1e-8], 5)
    assert str(metric(labels, rounded)) == str(metric(labels, exact))
    for far, said in ((1.00001, "1.00001"), (1 + 1e-5, "1.00001"), (-2e-6, "-2e-06")):
        with pytest.raises(
            DataError, match=f"argument `probabilities`, row index 1.*the value is {said} and must"
        ):
            metric(labels, [0.25, far, 0.5, 0.0] * 5)


def test_numbers_are_told_with_all_their_digits() -> None:
    assert [digits(x) for x in (1.0000001, 1.0, 0.1, 1e-300)] == ["1.0000001", "1", "0.1", "1e-300"]
    with pytest.raises(DataError, match=r"a label is 0 or 1, and this is 1\.0000001"):
        metrics.auc([0, 1.0000001], [0.1, 0.2])


def test_an_error_names_the_column_of_the_table_where_there_is_one() -> None:
    with pytest.raises(DataError, match="argument `labels`: AUC needs rows of both classes"):
        metrics.auc([1, 1], [0.1, 0.2])
    with (
        pytest.raises(DataError, match=r"^log.csv, column 'clicked': AUC needs rows of both classes") as told,
        arguments_named({"labels": "clicked"}, "log.csv"),
    ):
        metrics.auc([1, 1], [0.1, 0.2])
    assert (told.value.column, told.value.argument, told.value.row) == ("clicked", None, None)
    with pytest.raises(DataError, match="argument `scores`"), arguments_named({"labels": "clicked"}):
        metrics.auc([1, 0], [0.1, np.nan])
    copied = pickle.loads(pickle.dumps(told.value.__cause__))
    assert str(copied) == str(told.value.__cause__)
