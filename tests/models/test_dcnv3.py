from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ctrkit.errors import ConfigError
from ctrkit.models import build_model, model_config
from ctrkit.models.base import Inputs, InputShape
from ctrkit.models.dcnv3 import DCNv3, DCNv3Config
from tests.models.test_contract import FULL, PLAIN, make_batch

REFERENCE = Path(__file__).parents[1] / "fixtures" / "dcnv3_reference.npz"
FIELDS, WIDTH = 4, 6


def parts(content: dict[str, Any]) -> tuple[Any, list[Any]]:
    torch.manual_seed(0)
    model = build_model(model_config({"name": "dcnv3", **PLAIN, **content}), FULL)
    return model, [module for module in model.modules() if isinstance(module, DCNv3)]


def test_model_equals_the_authors_with_their_weights() -> None:
    with np.load(REFERENCE) as file:
        reference = {name: torch.from_numpy(file[name]) for name in file}
    model = DCNv3(DCNv3Config(), InputShape(FULL, WIDTH, FIELDS, 0, None)).eval()
    for network, prefix, final in ((model.exponential, "ecn.", "dfc"), (model.linear, "lcn.", "sfc")):
        weights = {
            name.removeprefix(prefix).replace(final, "head"): value
            for name, value in reference.items()
            if name.startswith(prefix) and not name.endswith("logit")
        }
        network.load_state_dict(weights, strict=True)
    # x holds the first halves of all fields, then the second halves.
    halves = reference["x"].reshape(-1, 2, FIELDS, WIDTH // 2)
    fields = halves.transpose(1, 2).flatten(2)
    made = model(Inputs(make_batch(FULL, len(fields)), fields, fields[:, :0], None))

    deep, shallow = reference["ecn.logit"].flatten(), reference["lcn.logit"].flatten()
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(made.auxiliary["deep"], deep, **close)
    torch.testing.assert_close(made.auxiliary["shallow"], shallow, **close)
    logit = made.logit_terms.sum(dim=1) * model.term_weight
    torch.testing.assert_close(logit, (deep + shallow) / 2, **close)


@pytest.mark.parametrize("heads", ["esmm", "shared_bottom"])
@pytest.mark.parametrize("cross", [{}, {"heads": 2}, {"rank": 3}])
def test_starts_with_the_mean_of_both_networks(heads: str, cross: dict[str, Any]) -> None:
    model, _ = parts({"heads": {"name": heads}, "cross": cross})
    model.set_base_rates([0.02, 0.1])
    with torch.no_grad():
        output = model.eval()(make_batch(FULL, 9))
    mean = (output.auxiliary["deep"] + output.auxiliary["shallow"]) / 2
    torch.testing.assert_close(output.logits[:, 0], mean)


def test_each_task_has_networks_of_its_own_unless_told_otherwise() -> None:
    assert len(parts({})[1]) == 2
    assert len(parts({"heads": {"name": "shared_bottom"}})[1]) == 1


def test_a_posterior_over_the_last_layer_has_a_number_for_every_dimension() -> None:
    model, backbones = parts({"cross": {"heads": 2}})
    assert model.last_layer.in_features == 2 * (6 + 1) * 16 == backbones[0].logit_terms


def test_low_rank_form_is_smaller() -> None:
    def numbers(rank: int | None) -> int:
        layers = parts({"cross": {"rank": rank}})[1][0].exponential.w
        return sum(parameter.numel() for parameter in layers.parameters())

    assert numbers(None) == 3 * 112 * 56
    assert numbers(8) == 3 * 8 * (112 + 56)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"embedding": 7}, "embedding.width must be even"),
        ({"cross": {"rank": 57}}, "rank 57 is above 56"),
        ({"heads": {"towers": [8]}}, "gives only logit terms"),
    ],
)
def test_what_cannot_be_built(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parts(content)


def test_all_fields_and_readings_are_crossed() -> None:
    model, _ = parts({})
    linears = [layer for layer in model.heads.modules() if isinstance(layer, nn.Linear)]
    assert {layer.in_features for layer in linears} == {(6 + 1) * 16, 2 * (6 + 1) * 16}
