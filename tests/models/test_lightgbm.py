"""Boosted trees as a model, beside LightGBM itself and columns made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import FeatureMap
from ctrkit.data.split import Split
from ctrkit.errors import ConfigError
from ctrkit.models import build_scorer, model_config
from ctrkit.models.lightgbm import LightGBM
from ctrkit.models.tree_text import check_trees
from ctrkit.nn.batches import Batch
from ctrkit.training import predict, predict_candidates
from ctrkit.training.boosting import columns_of, fit_trees
from tests.padded import histories as padded

lightgbm = pytest.importorskip("lightgbm")

MAP = FeatureMap(
    tables={"item": 9, "user": 90},
    categorical={"item": "item", "user": "user"},
    numeric=("price",),
    sequences={"seen": "item"},
    max_length=4,
    target=("item",),
    tasks=("click", "conversion"),
)
SMALL = {"name": "lightgbm", "rounds": 12, "rows_of_leaf": 5, "leaves": [4], "patience": 5}


def rows(count: int, seed: int = 0) -> EncodedTable:
    rng = np.random.default_rng(seed)
    items, users = rng.integers(1, 9, count), rng.integers(1, 90, count)
    price = np.where(rng.random(count) < 0.1, np.nan, rng.normal(size=count))
    seen = rng.integers(2, 9, (count, 4)) * (np.arange(4) >= rng.integers(0, 5, count)[:, None])
    score = (seen == items[:, None]).sum(axis=1) + np.nan_to_num(price) + (items % 3 == 0)
    click = rng.random(count) < 1 / (1 + np.exp(1 - score))
    both = np.stack([click, click & (rng.random(count) < 0.3 + 0.4 * (items % 2))], axis=1)
    return EncodedTable(
        np.stack([items, users], axis=1).astype(np.int32),
        price[:, None].astype(np.float32),
        {"seen": padded(seen.astype(np.int32))},
        both.astype(np.float32),
        rng.integers(0, 3, count).astype(np.float32),
    )


DATA = rows(1500)
SPLIT = Split(np.arange(1000), np.arange(1000, 1250), np.arange(1250, 1500), "random")


def new(**settings: object) -> LightGBM:
    model = build_scorer(model_config({**SMALL, **settings}), MAP)
    assert isinstance(model, LightGBM)
    return model


@pytest.fixture(scope="module")
def trained() -> LightGBM:
    model = new()
    fit_trees(model, DATA, SPLIT, seed=0)
    return model


def test_columns_are_those_that_a_person_would_make(trained: LightGBM) -> None:
    data = replace(DATA, categorical=DATA.categorical.copy())
    data.categorical[:20, 0] = -7  # a new item
    events, item = data.sequences["seen"][:], data.categorical[:, :1]
    events[5, -1] = -7
    data = replace(data, sequences={"seen": padded(events)})
    match = (events == item) & (item != 1)
    ages = np.arange(3, -1, -1)
    expected = [
        np.where(data.categorical < 0, 1, data.categorical),
        np.where(events[:, -1:] < 0, 1, events[:, -1:]),
        data.numeric,
        np.log1p((events != 0).sum(axis=1, keepdims=True)),
        *(np.log1p(match @ np.exp(-decay * ages))[:, None] for decay in (0.0, 0.2, 0.7, 3.0)),
        match[:, -1:],
    ]
    found = columns_of(trained, data, np.arange(len(data)))
    assert match[5, -1]
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), rtol=1e-6)


def test_logits_are_those_of_lightgbm_trained_on_these_columns(trained: LightGBM) -> None:
    columns = columns_of(trained, DATA, np.arange(len(DATA)))
    logits = predict(trained, DATA).logits
    for task, possible in enumerate((np.ones(1500, dtype=bool), DATA.labels[:, 0] == 1)):
        chosen, valid = (
            part[possible[part] & (DATA.weight[part] > 0)] for part in (SPLIT.train, SPLIT.valid)
        )
        best, expected = np.inf, np.empty(0)
        for categories in ([0, 2], []):  # the user has too many values
            theirs = lightgbm.LGBMClassifier(
                n_estimators=12, learning_rate=0.03, num_leaves=4, min_child_samples=5, subsample=0.8,
                subsample_freq=1, colsample_bytree=0.8, random_state=0, n_jobs=1, verbose=-1,
                deterministic=True, force_row_wise=True,
            ).fit(
                columns[chosen],
                DATA.labels[chosen, task],
                sample_weight=DATA.weight[chosen],
                eval_X=columns[valid],
                eval_y=DATA.labels[valid, task],
                eval_sample_weight=[DATA.weight[valid]],
                eval_metric="binary_logloss",
                categorical_feature=categories,
                callbacks=[lightgbm.early_stopping(5, verbose=False)],
            )  # fmt: skip
            loss = theirs.best_score_["valid_0"]["binary_logloss"]
            if loss < best:
                best, expected = loss, theirs.predict_proba(columns, raw_score=True)
        np.testing.assert_allclose(logits[:, task], expected, atol=1e-9)


def test_the_history_of_losses_ends_at_the_trees_that_are_kept() -> None:
    model = new()
    history = fit_trees(model, DATA, SPLIT, seed=0)
    assert history.events[-1]["trees"] == model.trees[0].num_trees()
    assert history.events[-1]["validation_loss"] == min(one["validation_loss"] for one in history.events)


def test_stored_trees_give_the_same_logits(trained: LightGBM) -> None:
    again = new()
    again.take_arrays(trained.arrays())
    np.testing.assert_array_equal(predict(again, DATA).logits, predict(trained, DATA).logits)


def test_rows_stand_alone_and_candidates_share_histories(trained: LightGBM) -> None:
    assert predict(trained, DATA, np.arange(0)).logits.shape == (0, 2)
    whole = predict(trained, DATA).logits
    np.testing.assert_array_equal(predict(trained, DATA, np.array([7])).logits, whole[7:8])
    batch = Batch.of(DATA, slice(0, 9))
    padded = replace(batch, sequences={"seen": torch.nn.functional.pad(batch.sequences["seen"], (3, 0))})
    torch.testing.assert_close(trained(padded).logits, trained(batch).logits)
    cut = replace(batch, sequences={"seen": batch.sequences["seen"][:, :0]})
    none = replace(batch, sequences={"seen": torch.zeros_like(batch.sequences["seen"])})
    torch.testing.assert_close(trained(cut).logits, trained(none).logits)
    counts, histories = np.array([3, 0, 2]), rows(3, seed=1)
    candidates = rows(5, seed=2)
    shared = histories.sequences["seen"].of_rows(np.repeat(np.arange(3), counts))
    own = replace(candidates, sequences={"seen": shared})
    found = predict_candidates(trained, histories, candidates, counts).logits
    np.testing.assert_array_equal(found, predict(trained, own).logits)


def test_a_missing_number_is_information_if_training_has_some_and_else_the_mean_number() -> None:
    holes = np.isnan(DATA.numeric[:, 0])
    data = replace(DATA, labels=np.stack([holes, holes * 0.0], axis=1).astype(np.float32))
    model = new()
    fit_trees(model, data, SPLIT, seed=0)
    found = predict(model, data).logits[:, 0]
    assert found[holes].min() > found[~holes].max()
    whole = build_scorer(model_config(SMALL), replace(MAP, centres={"price": 0.4}))
    assert isinstance(whole, LightGBM)
    assert (columns_of(whole, data, np.flatnonzero(holes))[:, 3] == np.float32(0.4)).all()


def test_a_task_without_both_labels_keeps_its_base_rate() -> None:
    data = replace(DATA, labels=DATA.labels * [1, 0])
    model = new()
    model.set_base_rates([0.3, 0.02])
    history = fit_trees(model, data, SPLIT, seed=0)
    assert history.notes == (
        "conversion: there are too few rows to train trees on, so it keeps its base rate.",
    )
    np.testing.assert_allclose(predict(model, data).logits[:, 1], np.log(0.02 / 0.98))
    again = new()
    again.take_arrays(model.arrays())
    np.testing.assert_array_equal(predict(again, data).logits, predict(model, data).logits)


def test_no_value() -> None:
    with pytest.raises(ConfigError, match="'lightgbm' predicts no value"):
        build_scorer(model_config(SMALL), replace(MAP, value=True))


DAMAGE = {
    "cut off": lambda text: text[:900],
    "no trees": lambda text: text[: text.index("Tree=")],
    "another text": lambda text: "hello",
    "a node that is its own child": lambda text: text.replace("left_child=", "left_child=0 ", 1),
    "an unknown column": lambda text: text.replace("split_feature=", "split_feature=9", 1),
    "a leaf that is no number": lambda text: text.replace("leaf_value=", "leaf_value=nan ", 1),
    "more leaves": lambda text: text.replace("num_leaves=4", "num_leaves=9", 1),
    "other sizes": lambda text: text.replace("tree_sizes=", "tree_sizes=9", 1),
    "another objective": lambda text: text.replace("binary sigmoid:1", "regression"),
    "linear trees": lambda text: text.replace("is_linear=0", "is_linear=1", 1),
    "categories outside": lambda text: text.replace("cat_boundaries=0", "cat_boundaries=1", 1),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_trees_are_refused_before_lightgbm_reads_them(kind: str) -> None:
    model = new(categories=[True])
    fit_trees(model, DATA, SPLIT, seed=0)
    (text, _), columns = model.texts, model.columns
    check_trees(text, columns)
    damaged = DAMAGE[kind](text)
    assert damaged != text
    if kind != "other sizes":  # a text whose sizes fit otherwise
        head, *trees = damaged.split("Tree=")
        sizes = " ".join(str(len("Tree=" + tree.removesuffix("end of trees\n"))) for tree in trees)
        damaged = "Tree=".join([head.rpartition("tree_sizes=")[0] + f"tree_sizes={sizes}\n\n", *trees])
    with pytest.raises(ValueError, match=r"^(its|it|tree|a line)"):
        check_trees(damaged, columns)
    arrays = {**model.arrays(), "trees.click": np.frombuffer(damaged.encode(), dtype=np.uint8)}
    with pytest.raises(ValueError, match=r"^(its|it|tree|a line)"):
        new().take_arrays(arrays)
