from __future__ import annotations

import pytest
import torch

from ctrkit.errors import ConfigError
from ctrkit.models import build_model, model_config
from tests.models.test_contract import FULL, PLAIN, make, make_batch


def test_hidden_makes_it_autoint_plus() -> None:
    plain, plus = (
        make({"name": "autoint", **PLAIN, **content}, FULL) for content in ({}, {"hidden": [16, 8]})
    )
    attended = plain(make_batch(FULL, 9)).hidden
    assert attended.shape == (9, (6 + 1) * 32)
    plus.load_state_dict({**plus.state_dict(), **_but_the_last_layers(plain.state_dict())})
    beside = plus(make_batch(FULL, 9)).hidden
    assert beside.shape == (9, (6 + 1) * 32 + 8)
    torch.testing.assert_close(beside[:, :-8], attended)


def _but_the_last_layers(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in weights.items() if ".towers." not in name}


def test_heads_that_do_not_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="attention_heads must divide attention_width"):
        build_model(model_config({"name": "autoint", "attention_heads": 3}), FULL)
