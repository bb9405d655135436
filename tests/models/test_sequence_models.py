"""What the models of behaviour sequences share."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ctrkit.errors import ConfigError
from ctrkit.models import MODELS, CtrModel, build_model, model_config
from ctrkit.nn.batches import Batch
from tests.models.test_contract import FULL, MAPS, make, make_batch

NAMES = sorted(name for name, model in MODELS.items() if model.needs_history)
CANDIDATES = 3
every_model = pytest.mark.parametrize("name", [*NAMES, "mdaf"])


def with_last_event(batch: Batch) -> Batch:
    """Every history ends with an event, so that it can be taken away and appended again."""
    sequences = {name: ids.clone() for name, ids in batch.sequences.items()}
    for ids in sequences.values():
        ids[:, -1] = ids[:, -1].clamp(min=2)
    return replace(batch, sequences=sequences)


def test_the_models_that_are_nothing_without_a_sequence() -> None:
    states = {"bst", "dien", "gru4rec", "hstu", "mamba4rec", "sasrec"}
    assert {*NAMES} == states | {"din", "eta", "sdim", "sim", "twin"}


@pytest.mark.parametrize("name", NAMES)
def test_without_a_sequence_there_is_no_model(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' needs a behaviour sequence, and there is none"):
        build_model(model_config({"name": name}), MAPS["no history, one task"])


@pytest.mark.parametrize("name", NAMES)
def test_each_is_a_dnn_with_a_history_of_its_own(name: str) -> None:
    model, settings = make({"name": name}, FULL).eval(), model_config({"name": name}).model_dump()
    dnn = make({**settings, "name": "dnn"}, FULL, seed=1).eval()
    dnn.load_state_dict(model.state_dict(), strict=True)
    batch = make_batch(FULL, 9)
    assert torch.equal(dnn(batch).logits, model(batch).logits)


@every_model
def test_candidates_share_a_history_that_is_encoded_once(name: str) -> None:
    model, users = make({"name": name}, FULL).eval(), make_batch(FULL, 7)
    rows = make_batch(FULL, 7 * CANDIDATES, seed=2)
    own = {key: ids.repeat_interleave(CANDIDATES, dim=0) for key, ids in users.sequences.items()}
    expected = model(replace(rows, sequences=own))
    output = model(rows, model.encode_history(users))
    torch.testing.assert_close(output.logits, expected.logits, rtol=1e-4, atol=1e-5)


@every_model
def test_an_appended_event_is_read_as_if_encoded_with_the_rest(name: str) -> None:
    model, batch = make({"name": name}, FULL).eval(), with_last_event(make_batch(FULL, 7))
    before = replace(batch, sequences={key: ids[:, :-1] for key, ids in batch.sequences.items()})
    event = replace(batch, sequences={key: ids[:, -1:] for key, ids in batch.sequences.items()})
    history = model.append_event(model.encode_history(before), event)
    assert all(torch.equal(history.ids[key], ids) for key, ids in batch.sequences.items())
    torch.testing.assert_close(model(batch, history).logits, model(batch).logits, rtol=1e-4, atol=1e-5)
    longer = model.append_event(model.encode_history(batch), event)  # longer than any in training
    expected = replace(batch, sequences=longer.ids)
    torch.testing.assert_close(model(batch, longer).logits, model(expected).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "keys"), [("sim", {"search"}), ("twin", set())])
def test_a_learned_search_has_a_logit_in_training_only(name: str, keys: set[str]) -> None:
    model, batch = make({"name": name}, FULL), make_batch(FULL, 7)
    output = model(batch)
    assert set(output.auxiliary) == keys
    assert not model.eval()(batch).auxiliary
    torch.testing.assert_close(output.logits, model(batch).logits)


def test_what_reads_no_sequences_cannot_append_to_one() -> None:
    model: CtrModel = make({"name": "dnn"}, MAPS["no history, one task"])
    for call in (model.encode_history, lambda batch: model.append_event(None, batch)):  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="reads no sequences"):
            call(make_batch(MAPS["no history, one task"], 2))


@pytest.mark.parametrize("name", ["bst", "hstu", "sasrec"])
def test_heads_that_do_not_divide_the_width(name: str) -> None:
    config = model_config({"name": name, "embedding": 18, "history": {"encoder": {"heads": 4}}})
    with pytest.raises(ConfigError, match="4 heads do not divide 18"):
        build_model(config, FULL)
