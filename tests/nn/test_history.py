"""Every encoder with every pooling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from ctrkit.config import build
from ctrkit.data.feature_map import FeatureMap
from ctrkit.errors import ConfigError
from ctrkit.nn.encoders import ENCODERS
from ctrkit.nn.history import HistoryConfig, HistoryReader, HistoryState
from ctrkit.nn.pooling import POOLINGS

WIDTH, LENGTH, USERS, CANDIDATES = 4, 5, 7, 3
FEATURE_MAP = FeatureMap(
    tables={"item": 40, "category": 9, "hour": 26},
    categorical={"item": "item", "category": "category", "hour": "hour"},
    sequences={"items": "item", "categories": "category"},
    max_length=LENGTH,
    target=("item", "category"),
)
SETTINGS: dict[str, dict[str, Any]] = {
    **{name: {} for name in ENCODERS},
    "lstm": {"layers": 2},
    "mamba": {"state": 4},
    "mamba4rec": {"state": 4},
    "transformer": {"blocks": 2},
}


def config(encoder: str, *readouts: str, **settings: Any) -> HistoryConfig:
    content = {"encoder": {"name": encoder, **SETTINGS[encoder]}, "readouts": list(readouts), **settings}
    return build(HistoryConfig, content)


GRID = [
    pytest.param(config(encoder, *readouts), id=f"{encoder}-{'+'.join(readouts)}")
    for encoder in ENCODERS
    for readouts in (*((name,) for name in POOLINGS), tuple(POOLINGS))
    if {POOLINGS[name].reads for name in readouts} != {"events"} or encoder == "none"
    if not any(POOLINGS[name].reads == "encoder" for name in readouts) or encoder != "none"
]
every_reading = pytest.mark.parametrize("config", GRID)


def make(config: HistoryConfig, feature_map: FeatureMap = FEATURE_MAP) -> HistoryReader:
    torch.manual_seed(0)
    return HistoryReader(config, feature_map, WIDTH).eval()


def histories(length: int = LENGTH) -> tuple[torch.Tensor, torch.Tensor]:
    """Parts of histories of 0, 1, 2, ... events, with numbers at padding too."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(length - 1, -1, -1) < (torch.arange(USERS) % (length + 1))[:, None]
    return torch.randn(USERS, length, 2, WIDTH, generator=generator), mask


def targets(candidates: int = CANDIDATES) -> torch.Tensor:
    return torch.randn(USERS * candidates, 3, WIDTH, generator=torch.Generator().manual_seed(2))


def encode(history: HistoryReader, parts: torch.Tensor, mask: torch.Tensor) -> HistoryState:
    ids = torch.arange(mask.numel(), dtype=torch.int32).view(mask.shape)
    return history.encode(parts, mask, {"items": ids, "categories": ids})


@every_reading
def test_candidates_that_share_a_history_read_what_each_alone_reads(config: HistoryConfig) -> None:
    history, (parts, mask), fields = make(config), histories(), targets()
    shared = history.read(encode(history, parts, mask), fields)
    assert shared.shape == (USERS * CANDIDATES, history.readings, WIDTH)
    own = encode(history, parts.repeat_interleave(CANDIDATES, 0), mask.repeat_interleave(CANDIDATES, 0))
    torch.testing.assert_close(shared, history.read(own, fields), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(shared, shared[torch.randperm(len(shared))])


@every_reading
def test_left_padding_changes_nothing(config: HistoryConfig) -> None:
    history, (parts, mask), fields = make(config), histories(), targets()
    alone = history.read(encode(history, parts, mask), fields)
    padded = torch.cat([torch.randn(USERS, 4, 2, WIDTH), parts], dim=1)
    state = encode(history, padded, torch.nn.functional.pad(mask, (4, 0)))
    torch.testing.assert_close(history.read(state, fields), alone, rtol=1e-4, atol=1e-5)


@every_reading
def test_an_empty_history_reads_zero_where_there_is_no_target_state(config: HistoryConfig) -> None:
    history, (parts, _), fields = make(config), histories(), targets()
    readings = history.read(encode(history, parts, torch.zeros(USERS, LENGTH, dtype=torch.bool)), fields)
    for pooling, reading in zip(config.readouts, readings.unbind(1), strict=True):
        assert bool(reading.isfinite().all())
        assert bool(reading.any()) == (pooling.reads == "encoder"), pooling.name


@every_reading
def test_gradient_reaches_every_parameter(config: HistoryConfig) -> None:
    history, (parts, mask) = make(config).train(), histories()
    history.read(encode(history, parts, mask), targets(1)).square().sum().backward()
    for name, parameter in history.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert bool(parameter.grad.any()), name


@every_reading
def test_an_appended_event_is_read_as_if_encoded_with_the_rest(config: HistoryConfig) -> None:
    history, (parts, mask), fields = make(config), histories(LENGTH - 2), targets()
    state = encode(history, parts, mask)
    more, ids = torch.randn(USERS, 2, 2, WIDTH), torch.arange(USERS, dtype=torch.int32)
    for event in more.unbind(1):
        state = history.append(state, event, {"items": ids, "categories": ids})
    whole = torch.cat([parts, more], dim=1)
    expected = encode(history, whole, torch.nn.functional.pad(mask, (0, 2), value=True))
    torch.testing.assert_close(
        history.read(state, fields), history.read(expected, fields), rtol=1e-4, atol=1e-5
    )
    assert torch.equal(state.ids["items"][:, -2:], ids[:, None].expand(-1, 2))


def test_products_and_ages() -> None:
    history, (parts, mask), fields = make(config("gru", "din", "mean", products=True)), histories(), targets()
    readings = history.read(encode(history, parts, mask), fields).unflatten(1, (2, 2))
    assert history.readings == 4
    assert history.target is not None
    query = history.target(fields, history.events)
    torch.testing.assert_close(readings[:, :, 1], readings[:, :, 0] * query.unsqueeze(1))

    aged = make(config("none", "din", positions=True))
    aged.load_state_dict(make(config("none", "din")).state_dict(), strict=False)
    assert aged.ages is not None
    same_events = parts[:, :1].expand(-1, LENGTH, -1, -1)
    before = aged.read(encode(aged, same_events, mask), fields)
    with torch.no_grad():
        aged.ages.weight[0] += 1.0  # of the newest event
    after = aged.read(encode(aged, same_events, mask), fields).view(USERS, CANDIDATES, -1)
    changed = (after != before.view(USERS, CANDIDATES, -1)).any(2).any(1)
    assert torch.equal(changed, mask[:, -1])


def test_a_target_that_equals_an_event_is_embedded_as_it() -> None:
    history, (parts, _) = make(config("none", "din")), histories()
    assert history.target is not None
    assert history.target.linear is None  # item and category both share a table with a sequence
    item, category = parts[:, 2].unbind(1)
    fields = torch.stack([item, category, torch.randn(USERS, WIDTH)], dim=1)
    torch.testing.assert_close(history.target(fields, history.events), history.events(parts[:, 2]))


def test_target_fields_that_no_sequence_knows_add_a_linear_term() -> None:
    wider = replace(FEATURE_MAP, target=())  # all fields
    history = make(config("none", "din"), wider)
    assert history.target is not None
    assert history.target.linear is not None
    others = [name for name in wider.fields if name not in ("item", "category")]
    assert history.target.linear.in_features == len(others) * WIDTH
    fields = torch.randn(USERS, len(wider.fields), WIDTH)
    twins = torch.stack([fields[:, wider.fields.index(name)] for name in ("item", "category")], dim=1)
    rest = torch.cat([fields[:, wider.fields.index(name)] for name in others], dim=1)
    expected = history.events(twins) + history.target.linear(rest)
    torch.testing.assert_close(history.target(fields, history.events), expected)


@pytest.mark.parametrize("readouts", [(), ("mean",)])
def test_only_what_is_read_is_built(readouts: tuple[str, ...]) -> None:
    history, (parts, mask) = make(config("none", *readouts, positions=True)), histories()
    assert {name.split(".")[0] for name, _ in history.named_parameters()} == {"events"}
    state = encode(history, parts, mask)
    assert history.read(state, targets()).shape == (USERS * CANDIDATES, len(readouts), WIDTH)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"encoder": {"name": "gru"}, "readouts": ["din"]},
            "nothing in `readouts` reads the states of 'gru'",
        ),
        ({"readouts": ["target_state"]}, "'target_state' reads an encoder, and there is none"),
        ({"readouts": ["mean", "din", "mean"]}, "each pooling may be named once"),
        ({"encoder": {"name": "lstm"}, "readouts": []}, "nothing in `readouts` reads the states of 'lstm'"),
        ({"encoder": {"name": "gro"}}, "Did you mean 'gru'"),
        ({"encoder": {"name": "sasrec", "head": 2}}, "Did you mean 'heads'"),
    ],
)
def test_configs_that_make_no_sense(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(HistoryConfig, content)
