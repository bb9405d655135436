from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch
from torch import nn

import ctrkit
from ctrkit.api.list_models import flops_per_row
from ctrkit.data.feature_map import FeatureMap
from ctrkit.models import MODELS, SCORERS, build_model, model_config
from ctrkit.nn.batches import Batch

ITEMS = FeatureMap(
    tables={"item": 9, "user": 9},
    categorical={"item": "item", "user": "user"},
    sequences={"seen": "item"},
    max_length=5,
    target=("item",),
)


PLAIN = {"match_terms": False, "pair_terms": False, "co_occurrence_terms": False}


def rows(count: int) -> Batch:
    ids = torch.ones(count, 2, dtype=torch.int32)
    seen = torch.ones(count, 5, dtype=torch.int32)
    return Batch(ids, torch.zeros(count, 0), {"seen": seen}, torch.zeros(count, 1), torch.ones(count))


@pytest.mark.slow
def test_the_table_names_every_model(logs: Path) -> None:
    found = {model.name: model for model in ctrkit.list_models(data=logs / "impressions.parquet").models}
    assert set(found) == {*MODELS, *SCORERS}
    for name, model in found.items():
        assert model.problem is None
        assert model.description
        if name in SCORERS:  # what is learnt decides its size
            continue
        assert model.parameters is not None
        assert model.flops is not None
        assert model.flops > 0


def test_a_model_that_cannot_be_built_says_why() -> None:
    config = {"features": {"labels": {"click": "click"}, "categorical": [{"name": "ad"}, {"name": "user"}]}}

    table = pl.DataFrame({"ad": [1, 2, 1, 2], "user": [1, 2, 3, 4], "click": [0, 1, 0, 1]})
    found = {model.name: model for model in ctrkit.list_models(config, table).models}
    assert "needs a behaviour sequence" in (found["din"].problem or "")
    assert found["fm"].problem is None


def test_parameters_and_flops_are_those_of_the_layers() -> None:
    config = {"name": "dnn", "embedding": 4, "hidden": [8, 3], "history": {"readouts": [], **PLAIN}}
    model = build_model(model_config(config), ITEMS)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    expected = sum(2 * layer.in_features * layer.out_features for layer in layers)
    assert flops_per_row(model, rows(16)) == expected


@pytest.mark.parametrize("encoder", ["gru", "lstm"])
def test_flops_of_a_recurrent_encoder(encoder: str) -> None:
    config = {"name": "dnn", "embedding": 4, "hidden": [8], "history": {"encoder": {"name": encoder}}}
    plain = build_model(model_config({**config, "history": {}}), ITEMS)
    recurrent = build_model(model_config(config), ITEMS)
    gates = 3 if encoder == "gru" else 4
    added = flops_per_row(recurrent, rows(16)) - flops_per_row(plain, rows(16))
    # One column more than the events' width: padding is an input of its own.
    assert added == 5 * 2 * gates * 4 * (5 + 4)
