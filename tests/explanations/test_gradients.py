"""Integrated gradients and DeepSHAP: completeness over the registry, and shares that are known."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ctrkit.data.bins import Bins
from ctrkit.data.encoded import EncodedTable
from ctrkit.errors import ConfigError
from ctrkit.explanations import deepshap, integrated_gradients, take
from ctrkit.explanations.gradients import DEEPSHAP_GAP
from ctrkit.explanations.substitution import Substituted
from ctrkit.models import MODELS
from ctrkit.nn.batches import Batch
from ctrkit.training import predict
from tests.explanations.toys import MAPS, make, rows
from tests.padded import histories

pytest.importorskip("captum")

# SDIM's reading jumps where an event changes its bucket, and no number of points integrates a jump.
NAMES = sorted(set(MODELS) - {"sdim"})
# What changes where vectors come from, or how often the parts of a network are called.
SETTINGS: list[dict[str, Any]] = [
    {"name": "dnn", "embedding": {"width": 8, "per_field": True, "hash_above": 20, "hash_rows": 16}},
    {"name": "deepfm", "heads": {"name": "ple", "expert_widths": [16]}, "embedding": 8},
    {"name": "mdaf", "fusion": {"name": "context_gate"}},
    {"name": "mdaf", "branches": ["cross"]},
]


@pytest.mark.parametrize("content", [*({"name": name} for name in NAMES), *SETTINGS], ids=str)
def test_shares_add_up_to_the_logit_difference(content: dict[str, Any]) -> None:
    network, data = make(content), rows()
    found = integrated_gradients(network, data, rows(count=50, seed=5))
    difference = predict(network, data)[0][:, 0] - found.base
    assert np.abs(difference).max() > 0.05
    shares = found.fields.sum(axis=1) + found.history
    np.testing.assert_array_less(
        np.abs(shares - difference), 0.01 * np.maximum(np.abs(difference), 0.1) + 1e-9
    )
    assert found.events is not None
    np.testing.assert_allclose(found.events.sum(axis=(1, 2)), found.history, atol=1e-12)
    empty = np.stack([ids[:] == 0 for ids in data.sequences.values()], axis=2)
    assert not found.events[empty].any()


@pytest.mark.parametrize("method", [integrated_gradients, deepshap])
def test_a_missing_number_has_a_share_of_its_own(method: Any) -> None:
    """Of a linear model, exactly: the logit with the number missing, less that with the background's."""
    feature_map = replace(MAPS["full"], bins={name: Bins() for name in MAPS["full"].numeric})
    network, data, behind = (
        make({"name": "lr"}, feature_map),
        rows(feature_map),
        rows(feature_map, 30, seed=5),
    )
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith("missing"):
                weight += torch.arange(1.0, len(weight) + 1).unsqueeze(1)
    data.numeric[2, 1] = np.nan
    behind.numeric[:] = 0.0
    found = method(network, data, behind)
    assert np.isfinite(found.fields).all()
    known = replace(data, numeric=data.numeric.copy())
    known.numeric[2, 1] = 0.0
    effect = predict(network, data)[0][2, 0] - predict(network, known)[0][2, 0]
    assert abs(effect) > 0.5
    assert found.fields[2, data.categorical.shape[1] + 1] == pytest.approx(effect, rel=1e-3)
    assert found.relative_gap.max() <= 0.01


@pytest.mark.parametrize("kind", [kind for kind in MAPS if kind != "full"])
@pytest.mark.parametrize("name", ["mdaf", "deepfm", "lr", "dlrm"])
def test_whatever_kinds_of_features_there_are(name: str, kind: str) -> None:
    feature_map = MAPS[kind]
    network, data = make({"name": name}, feature_map), rows(feature_map)
    found = integrated_gradients(network, data, rows(feature_map, 50, seed=5), task=1)
    assert found.fields.shape == (7, len(feature_map.fields))
    np.testing.assert_allclose(found.final, predict(network, data)[0][:, 1])
    assert found.relative_gap.max() <= 0.01
    assert bool(found.history.any()) == bool(feature_map.sequences)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_behind_its_tables_is_the_network(name: str) -> None:
    network, data = make({"name": name}), rows()
    batch = Batch.of(data, slice(0, 7))
    function = Substituted(network, 1, batch)
    again = function(*function.end(batch), *function.ids(batch))
    torch.testing.assert_close(again, network(batch).logits[:, 1], rtol=1e-4, atol=1e-5)
    assert not any(module._forward_hooks for module in network.modules())
    # The ids are read for padding alone.
    ids = [torch.where(ids > 0, 1, 0).int() for ids in function.ids(batch)]
    torch.testing.assert_close(function(*function.end(batch), *ids), again)


def unknown_but(data: EncodedTable, unit: int, place: int = -1) -> EncodedTable:
    """Rows of unknown values, numbers at 0, where one unit alone is as it was."""
    categorical, numeric = np.ones_like(data.categorical), np.zeros_like(data.numeric)
    sequences = {name: (ids[:] > 0).astype(np.int32) for name, ids in data.sequences.items()}
    split = data.categorical.shape[1]
    if unit < split:
        categorical[:, unit] = data.categorical[:, unit]
    elif unit < split + data.numeric.shape[1]:
        numeric[:, unit - split] = data.numeric[:, unit - split]
    else:
        name = list(sequences)[unit - split - data.numeric.shape[1]]
        sequences[name][:, place] = data.sequences[name][:][:, place]
    own = {name: histories(ids) for name, ids in sequences.items()}
    return replace(data, categorical=categorical, numeric=numeric, sequences=own)


@pytest.mark.parametrize("name", ["deepfm", "dien", "mdaf"])
@pytest.mark.parametrize("unit", range(7))
def test_a_difference_in_one_place_is_attributed_to_this_place(name: str, unit: int) -> None:
    network, full = make({"name": name}), take(rows(), np.array([3, 4, 5]))  # of 3 to 5 events
    data = unknown_but(full, unit, place=-2)
    found = integrated_gradients(network, data, data, baseline="unknown")
    nothing = unknown_but(full, -1)
    nothing = replace(nothing, categorical=np.ones_like(full.categorical))
    np.testing.assert_allclose(found.base, predict(network, nothing)[0][:, 0], atol=1e-5)
    assert found.events is not None
    difference = found.final - found.base
    assert np.abs(difference).max() > 1e-4
    expected_fields, expected_events = np.zeros_like(found.fields), np.zeros_like(found.events)
    if unit < 5:
        expected_fields[:, unit] = difference
    else:
        expected_events[:, -2, unit - 5] = difference
    np.testing.assert_allclose(found.fields, expected_fields, rtol=0.01, atol=1.1e-3)
    np.testing.assert_allclose(found.events, expected_events, rtol=0.01, atol=1.1e-3)


@pytest.mark.parametrize(
    "content", [{"name": "din"}, {"name": "mdaf", "crosses": []}, {"name": "dnn"}], ids=str
)
def test_shares_of_linear_terms_add_up(content: dict[str, Any]) -> None:
    network, data = make(content), rows()
    assert network.linear is not None
    torch.nn.init.normal_(network.linear.cells)
    torch.nn.init.normal_(network.linear.slopes)
    found = integrated_gradients(network, data, rows(count=50, seed=5))
    difference = predict(network, data)[0][:, 0] - found.base
    assert np.abs(difference).max() > 1.0
    shares = found.fields.sum(axis=1) + found.history
    np.testing.assert_allclose(shares, difference, rtol=0.01, atol=0.01)


def test_of_a_linear_model_a_share_is_what_swapping_the_value_changes() -> None:
    """In a linear model the mean logit over a swapped column and that of the mean column are the same."""
    network, data, behind = make({"name": "lr"}), rows(), rows(count=50, seed=5)
    behind.numeric[:] -= behind.numeric.mean(axis=0)  # the baseline of numbers is 0
    found = integrated_gradients(network, data, behind)
    logits = predict(network, data)[0][:, 0]
    for column in range(3):
        swapped = []
        for row in range(len(behind)):
            categorical = data.categorical.copy()
            categorical[:, column] = behind.categorical[row, column]
            swapped.append(predict(network, replace(data, categorical=categorical))[0][:, 0])
        np.testing.assert_allclose(found.fields[:, column], logits - np.mean(swapped, axis=0), atol=1e-5)
    for column in range(2):
        numeric = data.numeric.copy()
        numeric[:, column] = 0.0
        without = predict(network, replace(data, numeric=numeric))[0][:, 0]
        np.testing.assert_allclose(found.fields[:, 3 + column], logits - without, atol=1e-5)


@pytest.mark.slow
def test_the_integral_of_a_number_is_that_of_its_differences_along_the_path() -> None:
    network, data = make({"name": "dcnv2"}), rows(count=3)
    behind = rows(count=50, seed=5)
    found = integrated_gradients(network, data, behind, steps=256)
    batch = Batch.of(data, slice(0, 3))
    function = Substituted(network, 0, batch).double()
    start = function.start(function.baseline("mean", behind), batch)
    ends = [end.double() for end in function.end(batch)]
    starts = [begin.double() for begin in start]
    middle, step, of_numbers = (np.arange(200) + 0.5) / 200, 1e-5, function.of_numbers.index(True)
    for column in range(2):
        slopes = []
        for place in middle:
            point = [begin + place * (end - begin) for begin, end in zip(starts, ends, strict=True)]
            move = torch.zeros_like(point[of_numbers])
            move[:, column] = step * (ends[of_numbers] - starts[of_numbers])[:, column]
            sides = []
            for sign in (1, -1):
                moved = [*point[:of_numbers], point[of_numbers] + sign * move, *point[of_numbers + 1 :]]
                with torch.no_grad():
                    sides.append(function(*moved, *function.ids(batch)))
            slopes.append(((sides[0] - sides[1]) / (2 * step)).numpy())
        np.testing.assert_allclose(found.fields[:, 3 + column], np.mean(slopes, axis=0), rtol=0.02, atol=1e-3)


def test_more_steps_are_taken_where_few_leave_a_gap() -> None:
    network, data, behind = make({"name": "masknet"}), rows(), rows(count=50, seed=5)
    few = integrated_gradients(network, data, behind, steps=2, most_steps=2)
    more = integrated_gradients(network, data, behind, steps=2)
    assert few.relative_gap.max() > 0.01
    assert more.relative_gap.max() <= 0.01
    np.testing.assert_array_equal(few.gap, few.final - few.base - few.fields.sum(axis=1) - few.history)


def test_deepshap_of_a_linear_model_is_exact() -> None:
    network, data, behind = make({"name": "lr"}), rows(), rows(count=10, seed=5)
    found = deepshap(network, data, behind)
    by_path = integrated_gradients(network, data, behind)
    np.testing.assert_allclose(found.fields[:, :3], by_path.fields[:, :3], atol=1e-5)
    weights = by_path.fields[:, 3:] / data.numeric
    expected = weights * (data.numeric - behind.numeric.mean(axis=0))
    np.testing.assert_allclose(found.fields[:, 3:], expected, atol=1e-5)
    np.testing.assert_allclose(found.gap, 0.0, atol=1e-5)


def test_deepshap_of_a_tower_adds_up() -> None:
    """A ReLU has a rule, so that it is complete where the plain gradient is not."""
    feature_map = MAPS["no history"]
    network, data, behind = (
        make({"name": "dnn"}, feature_map),
        rows(feature_map),
        rows(feature_map, 10, seed=5),
    )
    found = deepshap(network, data, behind, task=1)
    np.testing.assert_allclose(found.base, predict(network, behind)[0][:, 1].mean(), rtol=1e-4)
    np.testing.assert_allclose(found.gap, 0.0, atol=1e-4)
    assert np.abs(found.final - found.base).max() > 0.1


@pytest.mark.parametrize("name", ["mdaf", "fm", "transformer"])
def test_deepshap_is_refused_where_it_does_not_hold(name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"DeepSHAP does not work for this model: .*\. Use the method ig or shap"
    ):
        deepshap(make({"name": name}), rows(), rows(count=10, seed=5))
    assert 0.0 < DEEPSHAP_GAP < 0.1


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    for explain in (integrated_gradients, deepshap):
        with pytest.raises(ConfigError, match=r"needs the package 'captum'.*ctrkit\[explain\]"):
            explain(make({"name": "lr"}), rows(), rows())
