"""Histories of several domains: each is read as if it were alone, and the readings are joined."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ctrkit.data.feature_map import Domain, FeatureMap
from ctrkit.errors import ConfigError
from ctrkit.nn.encoders import MambaConfig, NoEncoderConfig
from ctrkit.nn.history import HistoryConfig, HistoryReader, HistoryState
from ctrkit.nn.pooling.attention import DINPooling, TargetAttentionPooling
from ctrkit.nn.pooling.sim import HardSearchPooling
from ctrkit.nn.pooling.states import MeanPooling

WIDTH, USERS, CANDIDATES = 8, 5, 3
MAP = FeatureMap(
    tables={"item": 20, "category": 7, "query": 12},
    categorical={"item": "item", "category": "category"},
    sequences={"items": "item", "queries": "query", "categories": "category"},
    max_length=6,
    target=("item", "category"),
    domains=(Domain(("items", "categories"), 6), Domain(("queries",), 3)),
)
CONFIG = HistoryConfig(
    encoder=MambaConfig(blocks=1, state=4), readouts=(TargetAttentionPooling(), DINPooling()), positions=True
)


@pytest.fixture
def draw() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def reader(config: HistoryConfig = CONFIG, feature_map: FeatureMap = MAP) -> HistoryReader:
    torch.manual_seed(1)
    return HistoryReader(config, feature_map, WIDTH).eval()


def sequences(draw: torch.Generator, clicks: list[int], queries: list[int]) -> dict[str, torch.Tensor]:
    """Ids of histories with so many events, `[U, L]`."""
    ages, found = torch.arange(MAP.max_length - 1, -1, -1), {}
    for name, table in MAP.sequences.items():
        known = torch.tensor(queries if name == "queries" else clicks)
        ids = torch.randint(1, MAP.tables[table], (len(known), MAP.max_length), generator=draw)
        found[name] = (ids * (ages < known[:, None])).int()
    return found


def parts_of(ids: dict[str, torch.Tensor]) -> torch.Tensor:
    """Any embeddings of ids, 0 for padding: `[U, L, S, d]`."""
    directions = torch.randn(len(ids), 3, WIDTH, generator=torch.Generator().manual_seed(7))
    powers = [torch.stack([one, one.square() / 20, one.sin()], dim=2).float() for one in ids.values()]
    return torch.stack([x @ to for x, to in zip(powers, directions, strict=True)], dim=2)


def encode(history: HistoryReader, ids: dict[str, torch.Tensor]) -> HistoryState:
    mask = torch.stack([one != 0 for one in ids.values()]).any(dim=0)
    return history.encode(parts_of(ids), mask, ids)


def targets(draw: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    rows = USERS * CANDIDATES
    return torch.randn(rows, 2, WIDTH, generator=draw), torch.randint(1, 7, (rows, 2), generator=draw).int()


@torch.no_grad()
def test_readings_are_those_of_readers_of_each_domain_alone(draw: torch.Generator) -> None:
    history, target = reader(), targets(draw)
    ids = sequences(draw, [6, 0, 3, 1, 0], [3, 2, 0, 1, 0])
    found = history.read(encode(history, ids), *target)
    assert found.shape == (USERS * CANDIDATES, history.readings, WIDTH) == (15, 4, WIDTH)
    parts, wanted = parts_of(ids), []
    for own, one, places in zip(MAP.by_domain(), history.readers, ([0, 2], [1]), strict=True):
        alone = reader(CONFIG, own)
        state = {name: value for name, value in one.state_dict().items() if not name.startswith("others.")}
        alone.load_state_dict(state)
        newest = {name: ids[name][:, -own.max_length :] for name in own.sequences}
        mask = torch.stack([x != 0 for x in newest.values()]).any(dim=0)
        encoded = alone.encode(parts[:, -own.max_length :, places], mask, newest)
        wanted.append(alone.read(encoded, *target))
    torch.testing.assert_close(found, torch.cat(wanted, dim=1), rtol=0, atol=0)


@torch.no_grad()
def test_events_of_one_domain_do_not_touch_the_readings_of_another(draw: torch.Generator) -> None:
    history, target = reader(), targets(draw)
    ids = sequences(draw, [6, 0, 3, 1, 2], [3, 2, 0, 1, 0])
    others = {**ids, "queries": sequences(draw, [0] * USERS, [0, 3, 1, 2, 2])["queries"]}
    before, after = (history.read(encode(history, one), *target) for one in (ids, others))
    assert torch.equal(before[:, :2], after[:, :2])
    changed = (before[:, 2:] != after[:, 2:]).flatten(1).any(dim=1).reshape(USERS, CANDIDATES)
    assert bool(changed.all())


@torch.no_grad()
def test_an_event_is_appended_to_its_domain_alone(draw: torch.Generator) -> None:
    history, target = reader(), targets(draw)
    before = sequences(draw, [4, 0, 3, 1, 2], [2, 2, 0, 1, 0])
    new = torch.randint(1, 12, (USERS,), generator=draw).int()
    after = {name: torch.nn.functional.pad(ids, (1, 0)) for name, ids in before.items()}
    after["queries"] = torch.cat([before["queries"], new[:, None]], dim=1)
    parts = parts_of({name: ids[:, -1:] for name, ids in after.items()})[:, 0]
    longer = history.append(encode(history, before), parts, {"queries": new})
    assert {name: ids.tolist() for name, ids in longer.ids.items()} == {
        name: ids.tolist() for name, ids in after.items()
    }
    wanted = encode(history, {name: ids[:, 1:] for name, ids in after.items()})
    torch.testing.assert_close(history.read(longer, *target), history.read(wanted, *target))


@torch.no_grad()
def test_histories_without_a_place_are_those_without_events(draw: torch.Generator) -> None:
    search = HistoryConfig(readouts=(HardSearchPooling(), MeanPooling()))
    history, target = reader(search), targets(draw)
    none = sequences(draw, [0] * USERS, [0] * USERS)
    short = {name: ids[:, :0] for name, ids in none.items()}
    found, wanted = (history.read(encode(history, ids), *target) for ids in (short, none))
    torch.testing.assert_close(found, wanted)


def test_a_domain_is_read_by_the_poolings_that_can_read_it() -> None:
    search = HistoryConfig(readouts=(HardSearchPooling(),))
    clicks, queries = reader(search).readers
    assert [one.name for one in clicks.poolings] == ["sim_hard"]
    assert [one.name for one in queries.poolings] == ["din"]
    both = HistoryConfig(
        encoder=MambaConfig(blocks=1, state=4), readouts=(HardSearchPooling(), MeanPooling())
    )
    assert [[one.name for one in own.poolings] for own in reader(both).readers] == [
        ["sim_hard", "mean"], ["mean"]
    ]  # fmt: skip
    nobody = replace(MAP, sequences=dict.fromkeys(MAP.sequences, "query"))
    with pytest.raises(ConfigError, match="'sim_hard' needs a sequence that shares a table"):
        reader(search, nobody)


def test_a_model_that_reads_events_itself_has_readings_of_other_domains() -> None:
    first, second = reader(HistoryConfig(readouts=())).readers
    assert (first.poolings, [one.name for one in second.poolings]) == ((), ["din"])
    assert isinstance(second.encoder, type(NoEncoderConfig().encoder(WIDTH, 3)))
