"""Permutation importance against scikit-learn's, and where it is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.inspection import permutation_importance as of_scikit_learn

from ctrkit.data.encoded import EncodedTable
from ctrkit.errors import DataError
from ctrkit.explanations import HISTORY, Repeated, permutation_importance, units
from ctrkit.training import predict
from tests.explanations.toys import FULL, make, rows


def clicks(logits: NDArray[np.float64], of: EncodedTable) -> NDArray[np.float64]:
    """Probabilities that nobody calibrated."""
    return np.asarray(expit(logits[:, 0]))


def labelled(content: dict[str, Any], count: int = 200) -> tuple[Any, EncodedTable]:
    """A network, and rows whose clicks it predicts."""
    network, data = make(content), rows(count=count)
    logits = predict(network, data)[0][:, 0]
    drawn = np.random.default_rng(2).random(count) < expit(logits - logits.mean())
    data.labels[:, 0] = drawn
    return network, data


@pytest.mark.slow
def test_drops_are_those_of_scikit_learn() -> None:
    network, data = labelled({"name": "deepfm"})

    class Peer(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        """The network over plain columns: three ids, two numbers, the number of the row of the history."""

        classes_ = np.array([0, 1])

        def fit(self, x: Any, y: Any) -> Peer:
            return self

        def predict_proba(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
            history = x[:, 5].astype(int)
            table = EncodedTable(
                x[:, :3].astype(np.int32),
                x[:, 3:5].astype(np.float32),
                {name: ids.of_rows(history) for name, ids in data.sequences.items()},
                data.labels,
                data.weight,
            )
            p = expit(predict(network, table)[0][:, 0])
            return np.column_stack([1 - p, p])

    x = np.column_stack([data.categorical, data.numeric, np.arange(len(data))])
    theirs = of_scikit_learn(
        Peer(), x, data.labels[:, 0], scoring=["roc_auc", "neg_log_loss"], n_repeats=25, random_state=0
    )
    ours = permutation_importance(network, data, clicks, repeats=25, seed=1, confidence=0.999)
    assert [one.feature for one in ours] == ["user", "item", "category", "price", "age", HISTORY]
    assert max(one.auc.value for one in ours) > 0.05
    for number, one in enumerate(ours):
        for measure, found in (("roc_auc", one.auc), ("neg_log_loss", one.log_loss)):
            spread = theirs[measure].importances[number].std(ddof=1) * np.sqrt(2 / 25)
            assert found.value == pytest.approx(theirs[measure].importances_mean[number], abs=4.5 * spread)


def test_what_is_not_read_is_worth_nothing_and_what_is_alone_is_worth_all() -> None:
    network, data = labelled({"name": "mdaf", "branches": ["cross"]})
    history = permutation_importance(network, data, clicks, repeats=2)[-1]
    assert history.feature == HISTORY
    assert history.auc == history.log_loss == Repeated(0.0, 0.0, 0.0)
    data.categorical[:] = data.categorical[:1]
    data.numeric[:, 1] = data.numeric[0, 1]
    data.labels[:, 0] = predict(network, data)[0][:, 0] > np.median(predict(network, data)[0][:, 0])
    found = {one.feature: one for one in permutation_importance(network, data, clicks, repeats=8)}
    assert found["price"].auc.value == pytest.approx(0.5, abs=0.06)
    assert found["price"].auc.low > 0.4
    assert found["user"].auc.value == 0.0


def test_the_interval_is_students() -> None:
    values = np.random.default_rng(0).normal(size=9)
    found = Repeated.of(values, 0.9)
    low, high = stats.t.interval(0.9, 8, loc=values.mean(), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.value == pytest.approx(values.mean())


def test_a_seed_gives_the_same_again_and_steps_are_told() -> None:
    network, data = labelled({"name": "lr"}, 60)
    told: list[tuple[int, int]] = []
    first = permutation_importance(
        network, data, clicks, seed=3, repeats=2, on_step=lambda done, total, what: told.append((done, total))
    )
    assert first == permutation_importance(network, data, clicks, seed=3, repeats=2)
    assert first != permutation_importance(network, data, clicks, seed=4, repeats=2)
    assert told == [(step, 12) for step in range(1, 13)]
    assert len(first) == len(units(FULL))


def test_one_label_alone_has_no_auc() -> None:
    network, data = labelled({"name": "lr"}, 20)
    data.labels[:] = 0.0
    with pytest.raises(DataError, match="all 20 rows have the label 0, so there is no AUC to lose"):
        permutation_importance(network, data, clicks)
