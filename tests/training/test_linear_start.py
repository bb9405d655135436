from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from ctrkit.data.bins import Bins
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import Bag, FeatureMap
from ctrkit.data.split import Split
from ctrkit.models import CtrModel, build_model, model_config
from ctrkit.nn import batches
from ctrkit.nn.batches import Batch
from ctrkit.training import TrainingConfig, evidence, fit, linear_start
from ctrkit.training.evidence import honest
from ctrkit.training.linear_start import field_ids, linear_columns, start_linear_terms
from tests.models.settings import HEADS
from tests.padded import histories

MAP = FeatureMap(
    tables={"user": 30, "item": 20, "hour": 6},
    categorical={"user": "user", "item": "item", "hour": "hour"},
    numeric=("price",),
    bins={"price": Bins((-1.0, 0.0, 1.0), (0.6, 0.3))},
    sequences={"items": "item"},
    max_length=5,
    target=("item",),
    profile=("user",),
    tasks=("click", "conversion"),
)
ROWS = 1500
TRAIN, VALID = np.arange(1000), np.arange(1000, 1500)


def made(seed: int = 0) -> EncodedTable:
    """Clicks that item, price and matches decide; conversions that hour decides, against the price."""
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.integers(2, size, ROWS) for size in (30, 20, 6)], axis=1)
    present = np.arange(4, -1, -1) < rng.integers(0, 6, ROWS)[:, None]
    items = rng.integers(2, 20, (ROWS, 5)) * present
    items[:, -1] = np.where(present[:, -1] & (rng.random(ROWS) < 0.3), ids[:, 1], items[:, -1])
    price = rng.normal(size=ROWS)
    match = (items == ids[:, 1:2]).any(axis=1)
    click = rng.random(ROWS) < expit(np.linspace(-1, 1, 20)[ids[:, 1]] + 0.8 * price + match - 0.3)
    hour = np.array([0, 0, -1.5, 0.5, 1.5, 0.0])[ids[:, 2]]
    conversion = click & (rng.random(ROWS) < expit(hour - price))
    return EncodedTable(
        ids.astype(np.int32),
        price[:, None].astype(np.float32),
        {"items": histories(items.astype(np.int32))},
        np.stack([click, conversion], axis=1).astype(np.float32),
        rng.choice([0.0, 0.5, 1.0, 2.0], ROWS).astype(np.float32),
    )


def network(**content: Any) -> CtrModel:
    torch.manual_seed(0)
    settings = {"name": "dnn", "embedding": 4, "crosses": [["item", "hour"]], **content}
    model = build_model(model_config(settings), MAP)
    model.set_base_rates([0.3, 0.4])
    return model


def linear_logits(model: CtrModel, data: EncodedTable, rows: np.ndarray) -> np.ndarray:
    """The linear logits by loops over the columns of each row."""
    assert model.linear is not None
    columns = linear_columns(model.linear, data, rows)
    cells, slopes = model.linear.cells.numpy(), model.linear.slopes.detach().numpy()
    found = np.tile(model.linear.bias.numpy().astype(np.float64), (rows.size, 1))
    for row in range(rows.size):
        for cell in columns.cells[row]:
            found[row] += cells[cell]
        for number, value in enumerate(columns.numbers[row]):
            found[row] += value * slopes[number]
    return found


@torch.no_grad()
def logits(model: CtrModel, data: EncodedTable, rows: np.ndarray) -> np.ndarray:
    return model.eval()(Batch.of(data, rows)).logits.numpy()


CASES = [
    *({"heads": heads, "hidden": [8]} for heads in HEADS),
    {"name": "lr", "embedding": 1},
    *({"name": name} for name in ("deepfm", "dcnv2", "din", "wukong", "xdeepfm")),
    {"name": "mdaf", "width": 8},
    {"name": "sasrec", "embedding": 8},
]


def test_linear_columns_of_bags_are_their_terms_without_places_that_no_row_fills() -> None:
    rng = np.random.default_rng(0)
    tags = rng.integers(0, 7, (ROWS, 6)) * (np.arange(6) < rng.integers(0, 4, ROWS)[:, None])
    mass = rng.random((ROWS, 6)) * (tags > 0)
    data = replace(
        made(), bags={"tags": tags.astype(np.int32)}, bag_weights={"tags": mass.astype(np.float32)}
    )
    bagged = replace(MAP, tables={**MAP.tables, "tags": 7}, bags={"tags": Bag("tags", 6, "mean", True)})
    linear = build_model(model_config({"name": "lr", "embedding": 1, "crosses": []}), bagged).linear
    assert linear is not None
    torch.nn.init.normal_(linear.cells)
    torch.nn.init.normal_(linear.slopes)
    columns = linear_columns(linear, data, VALID)
    assert columns.cells.shape[1] == linear.columns - 3
    batch = Batch.of(data, VALID)
    expected = linear(batch, batch.sequences).detach().numpy()
    for task in range(2):
        weights = [linear.cells[:, task], linear.slopes[:, task].detach(), linear.bias[task : task + 1]]
        found = np.empty(VALID.size)
        columns.margins(torch.cat(weights).double().numpy(), found)
        np.testing.assert_allclose(found, expected[:, task], rtol=1e-4, atol=1e-4)


def test_a_missing_number_is_information_also_without_bins() -> None:
    holes = np.random.default_rng(3).random(ROWS) < 0.3
    click = (np.random.default_rng(4).random(ROWS) < np.where(holes, 0.6, 0.2)).astype(np.float32)
    numbers = np.where(holes, np.nan, 1.0).astype(np.float32)[:, None]
    data = replace(made(), numeric=numbers, labels=np.stack([click, click * 0], axis=1))
    holed = replace(MAP, bins={"price": Bins()}, missing=("price",))
    model = build_model(model_config({"name": "lr", "embedding": 1, "crosses": []}), holed)
    start_linear_terms(model, data, TRAIN, VALID)
    p = expit(logits(model, data, VALID)[:, 0])
    assert p[holes[VALID]].mean() == pytest.approx(0.6, abs=0.1)
    assert p[~holes[VALID]].mean() == pytest.approx(0.2, abs=0.1)


@pytest.mark.parametrize("content", CASES, ids=str)
def test_networks_start_at_their_linear_logits(content: dict[str, Any]) -> None:
    model, data = network(**content), made()
    start_linear_terms(model, data, TRAIN, VALID)
    expected = linear_logits(model, data, np.arange(200))
    assert expected.std(axis=0).min() > 0.1
    np.testing.assert_allclose(logits(model, data, np.arange(200)), expected, rtol=1e-4, atol=2e-5)


def held(**content: Any) -> tuple[CtrModel, EncodedTable]:
    model, data = network(**content), made()
    start_linear_terms(model, data, TRAIN, VALID)
    return model, data


def test_each_task_is_fitted_to_the_rows_where_it_can_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one round and without fading it is scikit-learn's ridge on those rows, with their weights."""
    one_round = evidence.fit_by_evidence
    monkeypatch.setattr(evidence, "_NEWTON_STEPS", 30)
    monkeypatch.setattr(evidence, "_ENOUGH", 1e-8)
    monkeypatch.setattr(evidence, "_CONJUGATE_STEPS", 100)
    monkeypatch.setattr(
        linear_start, "fit_by_evidence", lambda *args, **how: one_round(*args, **how, rounds=1)
    )
    monkeypatch.setattr(linear_start, "faded", lambda found, *others, **how: found)
    model, data = held()
    assert model.linear is not None
    columns = linear_columns(model.linear, data, TRAIN)
    matrix = np.zeros((TRAIN.size, columns.groups.size))
    for row in range(TRAIN.size):
        for cell in columns.cells[row]:
            matrix[row, cell] += 1.0
    matrix[:, sum(model.linear.sizes) :] = columns.numbers
    weight = data.weight[TRAIN].astype(np.float64)
    for task in range(2):
        mine = (weight > 0) & ((data.labels[TRAIN, 0] == 1) if task else True)
        mass = honest(weight[mine], data.labels[TRAIN[mine], task])
        peer = LogisticRegression(C=0.1, tol=1e-9, max_iter=5000)
        peer.fit(matrix[mine], data.labels[TRAIN[mine], task], sample_weight=mass)
        found = np.concatenate([model.linear.cells[:, task], model.linear.slopes[:, task].detach()])
        np.testing.assert_allclose(found, peer.coef_[0], atol=2e-3)
        assert float(model.linear.bias[task]) == pytest.approx(peer.intercept_[0], abs=2e-3)


def test_the_groups_are_the_columns_then_the_numbers_then_the_matches() -> None:
    model = network()
    assert model.linear is not None
    assert model.linear.names == ("user", "item", "hour", "price", "items", "item x hour", "items x item")
    columns = linear_columns(model.linear, made(), TRAIN)
    sizes = [30, 20, 6, 5, 20, 20 * 6, 20 * 20, 1, 4]
    np.testing.assert_array_equal(columns.groups, np.repeat(range(9), sizes))
    assert (columns.cells.dtype, columns.numbers.dtype) == (np.int32, np.float32)


def test_parts_of_many_rows_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, rows = network(), made(), np.random.default_rng(1).permutation(ROWS)
    assert model.linear is not None
    whole, ids = linear_columns(model.linear, data, rows), field_ids(model.linear.field_ids, data, rows)
    monkeypatch.setattr(batches, "_AT_ONCE", 64)
    again = linear_columns(model.linear, data, rows)
    np.testing.assert_array_equal(again.cells, whole.cells)
    np.testing.assert_allclose(again.numbers, whole.numbers, rtol=1e-6)
    np.testing.assert_array_equal(field_ids(model.linear.field_ids, data, rows), ids)
    np.testing.assert_array_equal(ids[:, :3], data.categorical[rows])
    np.testing.assert_array_equal(ids[:, 3], 1 + np.digitize(data.numeric[rows, 0], [-1.0, 0.0, 1.0]))


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_a_task_of_one_kind_of_labels_keeps_its_base_rate(label: float) -> None:
    data = made()
    labels = data.labels.copy()
    labels[:, 1] = labels[:, 0] * label
    data = replace(data, labels=labels)
    model, before = network(), network()
    start_linear_terms(model, data, TRAIN, VALID)
    assert model.linear is not None
    assert not model.linear.cells[:, 1].any()
    assert not model.linear.slopes[:, 1].any()
    assert float(model.linear.bias[1]) == 0.0
    found, others = (logits(one, data, TRAIN) for one in (model, before))
    np.testing.assert_array_equal(found[:, 1], others[:, 1])
    assert expit(found[:, 1]).mean() == pytest.approx(0.4, abs=0.05)
    np.testing.assert_allclose(found[:, 0], linear_logits(model, data, TRAIN)[:, 0], rtol=1e-4, atol=2e-5)


def test_validation_rows_of_one_kind_let_the_fit_be() -> None:
    data = made()
    labels = data.labels.copy()
    labels[VALID] = 0.0
    data = replace(data, labels=labels)
    model = network()
    start_linear_terms(model, data, TRAIN, VALID)
    assert np.isfinite(logits(model, data, TRAIN)).all()


def test_a_better_loss_than_that_of_the_base_rates() -> None:
    """Both tasks, on rows that neither the fit nor the fading has seen."""
    model, _ = held()
    other = made(seed=1)
    for task in range(2):
        mine = other.labels[:, 0] == 1 if task else np.ones(ROWS, dtype=bool)
        y, z = other.labels[mine, task], logits(model, other, np.flatnonzero(mine))[:, task]
        rate = y.mean()
        guessing = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
        assert np.mean(np.logaddexp(0.0, z) - y * z) < guessing - 0.02


SETTINGS = {"epochs": 1, "batch_size": 256, "validations_per_epoch": 1}


@pytest.mark.parametrize("averaging", [True, False])
def test_first_weights_are_validated_and_may_be_the_best(averaging: bool) -> None:
    model, data = held()
    split = Split(TRAIN, VALID, VALID, "random")
    first = logits(model, data, VALID)
    config = TrainingConfig.model_validate(
        {**SETTINGS, "averaging": averaging, "optimizer": {"learning_rate": 0.5}}
    )
    history = fit(model, data, split, config, seed=0, identity={}, validate_first=True)
    start, end = history.events
    assert start["epoch"] == 0
    assert "training_loss" not in start
    # Log loss of the entire space: clicks, and conversions of impressions.
    probabilities = expit(first.astype(np.float64)).cumprod(axis=1)
    expected = sum(
        log_loss(data.labels[VALID, task], probabilities[:, task], sample_weight=data.weight[VALID])
        for task in range(2)
    )
    assert start["validation_loss"] == pytest.approx(expected, rel=1e-4)
    # Steps as long as these only do harm, and the first weights are kept.
    assert end["validation_loss"] > start["validation_loss"]
    np.testing.assert_allclose(logits(model, data, VALID), first, rtol=1e-5, atol=1e-6)


def test_without_it_the_first_validation_is_after_steps() -> None:
    model, data = held()
    split = Split(TRAIN, VALID, VALID, "random")
    config = TrainingConfig.model_validate(SETTINGS)
    history = fit(model, data, split, config, seed=0, identity={})
    assert [event["epoch"] for event in history.events] == [1.0]


def test_cells_stay_as_fitted_through_training() -> None:
    model, data = held()
    assert model.linear is not None
    cells, slopes = model.linear.cells.clone(), model.linear.slopes.detach().clone()
    split = Split(TRAIN, VALID, VALID, "random")
    config = TrainingConfig.model_validate({**SETTINGS, "optimizer": {"learning_rate": 0.01}})
    fit(model, data, split, config, seed=0, identity={})
    assert torch.equal(model.linear.cells, cells)
    assert not torch.equal(model.linear.slopes, slopes)


def test_hidden_ids_are_read_as_unknown_by_columns_of_ids_alone() -> None:
    data, model = made(), network()
    assert model.linear is not None
    rng = np.random.default_rng(0)
    hidden = rng.random((TRAIN.size, data.categorical.shape[1])) < 0.3
    masked = replace(data, categorical=data.categorical.copy())
    masked.categorical[TRAIN] = np.where(hidden, 1, data.categorical[TRAIN])
    found = linear_columns(model.linear, data, TRAIN, hidden)
    np.testing.assert_array_equal(found.cells, linear_columns(model.linear, masked, TRAIN).cells)
    np.testing.assert_array_equal(found.numbers, linear_columns(model.linear, data, TRAIN).numbers)
    fields = model.linear.field_ids
    np.testing.assert_array_equal(field_ids(fields, data, TRAIN, hidden), field_ids(fields, masked, TRAIN))
