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


def ids_of(embedded: torch.Tensor) -> torch.Tensor:
    """An id for each embedding, so that no id depends on a place: `[..., d] -> [...]`."""
    return 2 + (embedded[..., 0] > 0).int()


def encode(history: HistoryReader, parts: torch.Tensor, mask: torch.Tensor) -> HistoryState:
    ids = ids_of(parts)
    return history.encode(parts, mask, {"items": ids[..., 0], "categories": ids[..., 1]})


def read(history: HistoryReader, state: HistoryState, fields: torch.Tensor) -> torch.Tensor:
    return history.read(state, fields, ids_of(fields))


@every_reading
def test_candidates_that_share_a_history_read_what_each_alone_reads(config: HistoryConfig) -> None:
    history, (parts, mask), fields = make(config), histories(), targets()
    shared = read(history, encode(history, parts, mask), fields)
    assert shared.shape == (USERS * CANDIDATES, history.readings, WIDTH)
    own = encode(history, parts.repeat_interleave(CANDIDATES, 0), mask.repeat_interleave(CANDIDATES, 0))
    torch.testing.assert_close(shared, read(history, own, fields), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(shared, shared[torch.randperm(len(shared))])


@every_reading
def test_left_padding_changes_nothing(config: HistoryConfig) -> None:
    history, (parts, mask), fields = make(config), histories(), targets()
    alone = read(history, encode(history, parts, mask), fields)
    padded = torch.cat([torch.randn(USERS, 4, 2, WIDTH), parts], dim=1)
    state = encode(history, padded, torch.nn.functional.pad(mask, (4, 0)))
    torch.testing.assert_close(read(history, state, fields), alone, rtol=1e-4, atol=1e-5)


@every_reading
def test_an_empty_history_reads_zero_where_there_is_no_target_state(config: HistoryConfig) -> None:
    history, (parts, _), fields = make(config), histories(), targets()
    readings = read(history, encode(history, parts, torch.zeros(USERS, LENGTH, dtype=torch.bool)), fields)
    for pooling, reading in zip(config.readouts, readings.unbind(1), strict=True):
        assert bool(reading.isfinite().all())
        assert bool(reading.any()) == (pooling.reads == "encoder"), pooling.name


@every_reading
def test_gradient_reaches_every_parameter(config: HistoryConfig) -> None:
    history, (parts, mask) = make(config).train(), histories()
    state = encode(history, parts, mask)
    loss = read(history, state, targets(1)).square().sum()
    if (search := history.search_logit(state, targets(1))) is not None:
        loss = loss + search.square().sum()
    loss.backward()
    for name, parameter in history.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert bool(parameter.grad.any()), name


@every_reading
def test_an_appended_event_is_read_as_if_encoded_with_the_rest(config: HistoryConfig) -> None:
    history, (parts, mask), fields = make(config), histories(LENGTH - 2), targets()
    state = encode(history, parts, mask)
    more = torch.randn(USERS, 2, 2, WIDTH)
    for event in more.unbind(1):
        ids = ids_of(event)
        state = history.append(state, event, {"items": ids[:, 0], "categories": ids[:, 1]})
    whole = torch.cat([parts, more], dim=1)
    expected = encode(history, whole, torch.nn.functional.pad(mask, (0, 2), value=True))
    torch.testing.assert_close(
        read(history, state, fields), read(history, expected, fields), rtol=1e-4, atol=1e-5
    )
    assert torch.equal(state.ids["items"], expected.ids["items"])


def test_products_and_ages() -> None:
    history, (parts, mask), fields = make(config("gru", "din", "mean", products=True)), histories(), targets()
    readings = read(history, encode(history, parts, mask), fields).unflatten(1, (2, 2))
    assert history.readings == 4
    assert history.target is not None
    query = history.target(fields, history.events)
    torch.testing.assert_close(readings[:, :, 1], readings[:, :, 0] * query.unsqueeze(1))

    aged = make(config("none", "din", positions=True))
    aged.load_state_dict(make(config("none", "din")).state_dict(), strict=False)
    assert aged.ages is not None
    same_events = parts[:, :1].expand(-1, LENGTH, -1, -1)
    before = read(aged, encode(aged, same_events, mask), fields)
    with torch.no_grad():
        aged.ages.weight[0] += 1.0  # of the newest event
    after = read(aged, encode(aged, same_events, mask), fields).view(USERS, CANDIDATES, -1)
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


def test_the_hard_search_reads_the_newest_events_of_the_targets_category() -> None:
    """By default of the smaller table, here that of categories; the unknown category equals no category."""
    history, parts = make(config("none", "sim_hard:top=2")), histories()[0][:1]
    ids = torch.tensor([[3, 4, 3, 1, 3]], dtype=torch.int32)
    items = torch.tensor([[5, 6, 7, 5, 5]], dtype=torch.int32)
    fields = torch.randn(4, 3, WIDTH)
    of_targets = torch.tensor([[5, 3, 2], [5, 4, 2], [5, 1, 2], [5, 8, 2]], dtype=torch.int32)
    read_places: tuple[list[int], ...] = ([2, 4], [1], [], [])
    for chosen, places in (("", read_places), (",sequence=items", ([3, 4],) * 4)):
        history = make(config("none", f"sim_hard:top=2{chosen}"))
        state = history.encode(
            parts, torch.ones(1, LENGTH, dtype=torch.bool), {"items": items, "categories": ids}
        )
        readings = history.read(state, fields, of_targets)
        for target, own in enumerate(places):
            mask = torch.zeros(1, LENGTH, dtype=torch.bool)
            mask[0, own] = True
            alone = history.encode(parts, mask, {"items": items, "categories": ids})
            expected = history.read(alone, fields, of_targets)[target]
            torch.testing.assert_close(readings[target], expected)
            assert bool(expected.any()) == bool(own)


@pytest.mark.parametrize("name", ["din", "target_attention"])
def test_attention_may_read_the_newest_events_alone(name: str) -> None:
    whole, newest = make(config("gru", "mean", name)), make(config("gru", "mean", f"{name}:newest=2"))
    newest.load_state_dict(whole.state_dict(), strict=True)
    (parts, mask), fields = histories(), targets()
    state = encode(newest, parts, mask)
    hidden = replace(state, mask=mask & (torch.arange(LENGTH) >= LENGTH - 2))
    torch.testing.assert_close(read(newest, state, fields)[:, 1], read(whole, hidden, fields)[:, 1])
    assert not torch.allclose(read(newest, state, fields)[:, 1], read(whole, state, fields)[:, 1])


@pytest.mark.parametrize("readouts", [(), ("mean",)])
def test_only_what_is_read_is_built(readouts: tuple[str, ...]) -> None:
    history, (parts, mask) = make(config("none", *readouts, positions=True)), histories()
    assert {name.split(".")[0] for name, _ in history.named_parameters()} == {"events"}
    state = encode(history, parts, mask)
    assert read(history, state, targets()).shape == (USERS * CANDIDATES, len(readouts), WIDTH)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"encoder": {"name": "gru"}, "readouts": ["din"]},
            "nothing in `readouts` reads the states of 'gru'",
        ),
        ({"readouts": ["target_state"]}, "'target_state' reads an encoder, and there is none"),
        ({"readouts": ["eta:bit=3"]}, "pooling 'eta': unknown key 'bit'.*Did you mean 'bits'"),
        ({"readouts": [{"name": "sdim", "bits": 11}]}, "pooling 'sdim': bits is 11 and must be at most 10"),
        ({"readouts": ["mean", "din", "mean"]}, "each pooling may be named once"),
        ({"encoder": {"name": "lstm"}, "readouts": []}, "nothing in `readouts` reads the states of 'lstm'"),
        ({"encoder": {"name": "gro"}}, "Did you mean 'gru'"),
        ({"encoder": {"name": "sasrec", "head": 2}}, "Did you mean 'heads'"),
    ],
)
def test_configs_that_make_no_sense(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(HistoryConfig, content)


@pytest.mark.parametrize(
    ("settings", "feature_map", "message"),
    [
        ("sequence=item", FEATURE_MAP, "and 'item' is none.*Did you mean 'items'"),
        (
            "sequence=hours",
            FEATURE_MAP,
            "'sim_hard' needs a sequence that shares a table with a target field",
        ),
        ("", replace(FEATURE_MAP, target=("hour",)), "Declare one with `shares`"),
    ],
)
def test_sequences_that_no_target_can_match(settings: str, feature_map: FeatureMap, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(config("none", f"sim_hard:{settings}"), feature_map)
