"""Bad input to any metric ends in one message that names column and row."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ctrkit import metrics
from ctrkit.errors import DataError

OF_PROBABILITIES = [
    metrics.log_loss, metrics.brier, metrics.normalized_entropy, metrics.ece, metrics.mce, metrics.pcoc,
    metrics.debiased_ece, metrics.reliability,
]  # fmt: skip
WEIGHTED = [m for m in OF_PROBABILITIES if m not in (metrics.debiased_ece, metrics.reliability)]
OF_ALL = [metrics.auc, *OF_PROBABILITIES]


@pytest.mark.parametrize("metric", OF_ALL)
@pytest.mark.parametrize(
    ("labels", "values", "message"),
    [
        ([0, 1, 2], [0.1, 0.2, 0.3], r"column 'labels', row 2 .*a label is 0 or 1, and this is 2"),
        ([0, 0.5, 1], [0.1, 0.2, 0.3], r"column 'labels', row 1 .*this is 0.5"),
        ([0, 1, np.nan], [0.1, 0.2, 0.3], r"column 'labels', row 2 .*missing"),
        ([0, 1, None], [0.1, 0.2, 0.3], r"column 'labels'"),
        ([0, 1, 1], [0.1, np.nan, 0.3], r"row 1 .*missing \(NaN\)"),
        ([0, 1, 1], [0.1, 0.2, np.inf], r"row 2 .*infinite"),
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
        DataError, match=r"column 'probabilities', row 1 .*1.2 and must be in \[0, 1\].*not logits"
    ):
        metric([0, 1], [0.5, 1.2])
    with pytest.raises(DataError, match=r"row 0 .*-3"):
        metric([0, 1], [-3, 0.5])


@pytest.mark.parametrize("metric", [metrics.auc, *WEIGHTED])
def test_bad_weights(metric) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=r"column 'weight', row 1 .*-1 and must be at least 0"):
        metric([0, 1], [0.1, 0.2], weight=[1, -1])
    with pytest.raises(DataError, match="every weight is 0"):
        metric([0, 1], [0.1, 0.2], weight=[0, 0])
    with pytest.raises(DataError, match="weight has 3"):
        metric([0, 1], [0.1, 0.2], weight=[1, 1, 1])


def test_bad_groups() -> None:
    labels, scores = [0, 1, 1], [0.1, 0.2, 0.3]
    with pytest.raises(DataError, match=r"column 'groups', row 1 .*missing"):
        metrics.gauc(labels, scores, np.array(["a", None, "b"], dtype=object))
    with pytest.raises(DataError, match=r"column 'groups', row 2 .*missing"):
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
