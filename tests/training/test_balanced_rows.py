"""Rows of each class in given shares, with weights that keep all sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ctrkit
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.split import Split
from ctrkit.errors import ConfigError, DataError
from ctrkit.models import CtrModel
from ctrkit.training.epoch_rows import BalancedRows
from tests.training.sampled_clicks import FEATURES, clicks, trained


@pytest.mark.parametrize("shares", [{0: 0.7}, {1: 0.02}, {0: 0.2, 1: 0.15}, {0: 0.9, 1: 0.6}])
def test_shares_are_reached_and_sums_are_those_of_all_rows(
    data: EncodedTable, split: Split, new_model: Callable[[], CtrModel], shares: dict[int, float]
) -> None:
    rows, found = split.train, []
    losses = np.abs(data.numeric[:, 0].astype(np.float64)) * data.weight
    reached = data.labels.sum(axis=1)
    for seed in range(60):
        reading = BalancedRows(data, rows, None, seed, shares)
        read = reading.order(seed % 3, new_model())
        assert read.size == reading.size == pytest.approx(rows.size, abs=1)
        for task, share in shares.items():
            assert data.labels[read, task].mean() == pytest.approx(share, abs=1e-3)
        counts = reading.batch(read).weight.double().numpy() / data.weight[read]
        for number in range(3):  # every class has its own weight in every epoch
            of_class = np.count_nonzero(reached[rows] == number)
            assert counts[reached[read] == number].sum() == pytest.approx(of_class, rel=1e-5)
        times = np.bincount(read, minlength=len(data))[rows]
        wanted = 1.0 / reading.counts[rows]
        assert (np.abs(times - wanted) < 1.0 + 1e-6).all()
        found.append(losses[read] @ counts)
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - losses[rows].sum()) < 4.0 * error
    if shares == {1: 0.02}:  # the other classes keep their proportions
        others = [np.mean(reached[of][reached[of] < 2]) for of in (read, rows)]
        assert others[0] == pytest.approx(others[1], abs=2e-3)


def test_rows_of_a_group_stay_together(
    data: EncodedTable, split: Split, new_model: Callable[[], CtrModel]
) -> None:
    read = BalancedRows(data, split.train, data.groups, 0, {0: 0.8}).order(0, new_model())
    groups = data.groups[read]  # type: ignore[index]
    assert np.count_nonzero(np.diff(groups)) + 1 == np.unique(groups).size


def test_a_share_that_no_row_can_have_is_refused(data: EncodedTable, split: Split) -> None:
    without = split.train[data.labels[split.train, 1] == 0]
    with pytest.raises(DataError, match="no training row has 2 of the 2 labels"):
        BalancedRows(data, without, None, 0, {1: 0.1})


WITH_BUYS = {**FEATURES, "labels": {"click": "click", "buy": "buy"}}


def test_a_trained_model_predicts_all_rows() -> None:
    """Without the weights the PCOC of the click would be about 2.5."""
    sampling = {"balance": {"click": 0.6, "buy": 0.3}}
    result = trained(clicks(base=-1.8), WITH_BUYS, sampling, train=0.6)
    assert result.metrics["click"]["pcoc"] == pytest.approx(1.0, abs=0.12)
    assert result.metrics["buy"]["pcoc"] == pytest.approx(1.0, abs=0.2)
    assert result.metrics["click"]["auc"] > 0.65
    assert any("0.6 with a click, 0.3 with a buy" in note for note in result.notes)


@pytest.mark.parametrize(
    ("network", "sampling", "message"),
    [
        ("lightgbm", {"balance": {"buy": 0.3}}, "not trained in epochs"),
        ("dnn", {"balance": {"bye": 0.3}}, "Did you mean 'buy'"),
        ("dnn", {"balance": {"click": 0.3, "buy": 0.3}}, "must be below that of 'click'"),
        ("dnn", {"balance": {"click": 1.0}}, "must be below 1"),
        ("dnn", {"balance": {"click": None}}, "must be a number"),
        ("dnn", {"balance": {"click": 0.3}, "hard_negatives": {}}, "give one of them"),
    ],
)
def test_faulty_settings_are_named(network: str, sampling: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ctrkit.train(data=clicks(100, -1.8), features=WITH_BUYS, network=network, sampling=sampling)
