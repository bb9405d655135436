from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ctrkit.data.feature_map import FeatureMap
from ctrkit.nn.matches import DECAYS, Matches, matches_of, twins

MAP = FeatureMap(
    tables={"user": 9, "item": 7, "kind": 5, "word": 6},
    categorical={"user": "user", "item": "item", "kind": "kind"},
    sequences={"items": "item", "words": "word", "kinds": "kind"},
    max_length=6,
    target=("item", "kind"),
)
HISTORIES, CANDIDATES, LENGTH = 5, 3, 6
# Position of the sequence's field among the categorical fields.
FIELDS = {"items": 1, "kinds": 2}


def made() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Histories of lengths 0, 1, ..., with unseen values (negative ids) and missing ones (1)."""
    rng = np.random.default_rng(0)
    ids = np.array([-40, -7, 1, 2, 3], dtype=np.int32)
    present = np.arange(LENGTH - 1, -1, -1) < np.array([0, 1, 3, 6, 6])[:, None]
    sequences = {
        name: torch.from_numpy(rng.choice(ids, (HISTORIES, LENGTH)) * present).int() for name in MAP.sequences
    }
    return sequences, torch.from_numpy(rng.choice(ids, (HISTORIES * CANDIDATES, 3)))


def moved(module: Matches) -> Matches:
    with torch.no_grad():
        module.decays += torch.tensor([[0.3, 0.1, -0.5, 1.0], [-0.4, 0.0, 0.2, 0.5]])
    return module


def test_counts_are_those_of_loops_over_events() -> None:
    sequences, targets = made()
    module = moved(Matches(MAP))
    found = module(sequences, targets).detach().numpy()
    assert found.shape == (HISTORIES * CANDIDATES, module.outputs) == (15, 8)
    decays = np.maximum(module.decays.detach().numpy(), 0.0)
    some = 0
    for row in range(HISTORIES * CANDIDATES):
        for pair, (name, field) in enumerate(FIELDS.items()):
            events, target = sequences[name][row // CANDIDATES].tolist(), int(targets[row, field])
            for decay in range(len(DECAYS)):
                count = 0.0
                for age, event in enumerate(reversed(events)):
                    if event == target and target not in (0, 1):
                        count += np.exp(-decays[pair, decay] * age)
                        some += 1
                expected = np.log1p(count)
                assert found[row, pair * len(DECAYS) + decay] == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert some > 40


def test_padding_on_the_left_changes_nothing() -> None:
    sequences, targets = made()
    longer = {name: torch.nn.functional.pad(ids, (4, 0)) for name, ids in sequences.items()}
    module = moved(Matches(MAP))
    torch.testing.assert_close(module(longer, targets), module(sequences, targets), rtol=1e-6, atol=1e-7)


def test_unseen_values_match_themselves_but_missing_values_and_padding_do_not() -> None:
    events = torch.tensor([[0, -9, 1, 4, -9]])
    found = matches_of(events, torch.tensor([[-9, 0, 1, 4, -8]]))
    expected = [[0, 1, 0, 0, 1], [0] * 5, [0] * 5, [0, 0, 0, 1, 0], [0] * 5]
    np.testing.assert_array_equal(found[0], np.array(expected, dtype=bool))


def test_no_events_and_no_rows() -> None:
    module = Matches(MAP)
    none = {name: torch.zeros(2, 0, dtype=torch.int32) for name in MAP.sequences}
    assert (module(none, torch.full((6, 3), 2, dtype=torch.int32)) == 0).all()
    nobody = {name: torch.zeros(0, 4, dtype=torch.int32) for name in MAP.sequences}
    assert module(nobody, torch.zeros(0, 3, dtype=torch.int32)).shape == (0, 8)


def test_sequences_meet_the_first_target_field_of_their_table() -> None:
    assert twins(MAP) == {"items": 1, "kinds": 2}
    assert twins(replace(MAP, target=("item",))) == {"items": 1}
    assert twins(replace(MAP, target=("user",))) == {}
    # Without a declared target, every field is one; the first field of a table counts.
    two = replace(MAP, categorical={"user": "user", "last": "item", "item": "item"}, target=())
    assert twins(two) == {"items": 1}
    assert twins(replace(two, target=("item",))) == {"items": 2}


def test_a_new_module_counts_all_events_and_then_fewer() -> None:
    """The four counts of a history full of the target fall from log(1 + L) to nearly log 2."""
    sequences = {name: torch.full((1, LENGTH), 2, dtype=torch.int32) for name in MAP.sequences}
    found = Matches(MAP)(sequences, torch.full((1, 3), 2, dtype=torch.int32))[0, :4].detach().numpy()
    assert found[0] == pytest.approx(np.log(7.0))
    assert (np.diff(found) < 0).all()
    assert found[3] == pytest.approx(np.log(2.0), abs=0.05)
