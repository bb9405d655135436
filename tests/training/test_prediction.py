from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import FeatureMap
from ctrkit.models import build_model, model_config
from ctrkit.training import predict, predict_candidates
from tests.padded import histories as padded

MAP = FeatureMap(
    tables={"item": 30, "user": 9},
    categorical={"item": "item", "user": "user"},
    numeric=("price",),
    sequences={"seen": "item"},
    max_length=5,
    target=("item",),
    value=True,
)


def table(n: int, seed: int = 0) -> EncodedTable:
    draw = np.random.default_rng(seed)
    seen = draw.integers(1, 30, (n, 5)).astype(np.int32) * (np.arange(5) >= draw.integers(0, 6, (n, 1)))
    return EncodedTable(
        draw.integers(1, 9, (n, 2)).astype(np.int32),
        draw.standard_normal((n, 1)).astype(np.float32),
        {"seen": padded(seen.astype(np.int32))},
        np.empty((n, 0), dtype=np.float32),
        np.ones(n, dtype=np.float32),
    )


@pytest.mark.parametrize("content", [{"name": "mdaf"}, {"name": "dnn"}, {"branches": ["cross"]}])
@pytest.mark.parametrize("counts", [[3, 1, 0, 4, 2], [2, 2, 2], [0, 1], [0, 0], []])
@pytest.mark.parametrize("batch_size", [4, 4096])
def test_candidates_that_share_a_history_score_as_if_each_had_its_own(
    content: dict[str, Any], counts: list[int], batch_size: int
) -> None:
    torch.manual_seed(0)
    model = build_model(model_config(content), MAP)
    lengths = np.array(counts, dtype=np.int64)
    histories, candidates = table(len(counts)), table(int(lengths.sum()), seed=1)
    own = {"seen": histories.sequences["seen"].of_rows(np.repeat(np.arange(len(counts)), lengths))}
    spread = EncodedTable(
        candidates.categorical, candidates.numeric, own, candidates.labels, candidates.weight
    )
    expected = predict(model, spread)
    found = predict_candidates(model, histories, candidates, lengths, batch_size)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "content",
    [
        {"name": "mdaf"},
        {"name": "din"},
        {"name": "dien"},
        {"name": "bst"},
        {"name": "hyformer"},
        {
            "name": "dnn",
            "history": {"encoder": {"name": "hstu"}, "readouts": ["target_attention", "target_state"]},
        },
    ],
    ids=str,
)
def test_neighbours_that_share_a_history_have_it_encoded_once(
    content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = build_model(model_config(content), MAP)
    pages = np.repeat(np.arange(9), [7, 1, 9, 2, 5, 1, 1, 6, 8])
    rows, seen = table(pages.size), table(9, seed=1).sequences["seen"]
    rows = replace(rows, sequences={"seen": seen.of_rows(pages)})
    alone = predict(model, rows, batch_size=1)
    encoded, encode = list[int](), model.encode_history
    monkeypatch.setattr(
        model, "encode_history", lambda batch: encoded.append(len(batch.sequences["seen"])) or encode(batch)
    )
    shared = predict(model, rows, batch_size=16)
    for ours, theirs in zip(shared, alone, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    assert encoded == [3, 6, 1]
    # Rows of which most have a history of their own take the usual way.
    encoded.clear()
    predict(model, table(40))
    assert encoded == [40]


@pytest.mark.parametrize("content", [{"name": "dnn"}, {"name": "lr"}])
def test_no_rows_and_no_candidates_give_no_outputs_of_the_right_widths(content: dict[str, Any]) -> None:
    model = build_model(model_config(content), MAP)
    rows = table(3)
    some = predict(model, rows)
    none = predict(model, rows, np.empty(0, dtype=np.int64))
    empty = predict(model, table(0))
    no_candidates = predict_candidates(model, rows, table(0), np.zeros(3, dtype=np.int64))
    for found in (none, empty, no_candidates):
        for one, expected in zip(found, some, strict=True):
            assert one.shape == (0, *expected.shape[1:])
            assert one.dtype == expected.dtype
