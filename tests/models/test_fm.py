from __future__ import annotations

from itertools import combinations

import pytest
import torch

from ctrkit.data.feature_map import FeatureMap
from ctrkit.errors import ConfigError
from ctrkit.models import CtrModel, build_model, model_config
from ctrkit.nn.batches import Batch
from tests.models.test_contract import PLAIN

MAP = FeatureMap(
    tables={"user": 4, "item": 5, "hour": 6},
    categorical={"user": "user", "item": "item", "hour": "hour"},
    numeric=("age",),
    sequences={"seen": "item"},
    max_length=3,
)
ROWS = 8


def make_batch() -> Batch:
    torch.manual_seed(1)
    ids = torch.stack([torch.randint(1, size, (ROWS,)) for size in (4, 5, 6)], dim=1).int()
    seen = torch.randint(0, 5, (ROWS, 3)).int()
    return Batch(ids, torch.randn(ROWS, 1), {"seen": seen}, torch.zeros(ROWS, 0), torch.ones(ROWS))


def factorization(model: CtrModel, batch: Batch, first_order: torch.Tensor) -> torch.Tensor:
    """The two orders of a factorization machine, by Rendle's formula as it stands."""
    width = 16
    with torch.no_grad():
        fields = list(model.embedding.fields(batch).unbind(dim=1))
        assert model.history is not None
        reading = model.history.read(
            model.encode_history(batch), torch.stack(fields, dim=1), batch.categorical
        )
        vectors = [*fields, reading[:, 0] / width**0.5]
        pairs = sum((v * w).sum(dim=1) for v, w in combinations(vectors, 2))
        return torch.stack([first_order.sum(dim=1), torch.as_tensor(pairs)], dim=1)


def test_a_new_fm_is_rendles_formula() -> None:
    torch.manual_seed(0)
    model, batch = build_model(model_config({"name": "fm", **PLAIN}), MAP), make_batch()
    output = model(batch)
    assert output.hidden.shape == (ROWS, 5 + 16)
    expected = factorization(model, batch, output.hidden[:, :5].detach())
    assert bool((expected != 0).all())
    torch.testing.assert_close((output.logits[:, 0] - model.last_layer.bias).detach(), expected.sum(dim=1))


def test_terms_of_a_new_deepfm_are_those_of_fm() -> None:
    torch.manual_seed(0)
    fm = build_model(model_config({"name": "fm", **PLAIN}), MAP)
    deepfm, batch = build_model(model_config({"name": "deepfm", **PLAIN}), MAP), make_batch()
    # The backbones of both have first-order terms; give them the same weights and the same embeddings.
    known = deepfm.state_dict()
    deepfm.load_state_dict(
        known
        | {
            n.replace("heads.backbones.0", "heads.backbone"): value
            for n, value in fm.state_dict().items()
            if "towers" not in n
        }
    )
    first_order = fm(batch).hidden[:, :5].detach()
    terms = deepfm(batch).hidden[:, -2:].detach()
    torch.testing.assert_close(terms, factorization(fm, batch, first_order))
    assert deepfm.last_layer.weight[0, -2:].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("name", "shown"), [("fm", "FM"), ("deepfm", "DeepFM"), ("xdeepfm", "xDeepFM")])
def test_one_feature_makes_no_pair(name: str, shown: str) -> None:
    alone = FeatureMap(tables={"user": 4}, categorical={"user": "user"})
    with pytest.raises(
        ConfigError, match=f"{shown} multiplies pairs of features, but the number of features is 1"
    ):
        build_model(model_config({"name": name}), alone)


def test_wrong_configs() -> None:
    with pytest.raises(ConfigError, match=r"heads.towers must read"):
        build_model(model_config({"name": "fm", "heads": {"towers": [8]}}), MAP)
    with pytest.raises(ConfigError, match="hidden"):
        model_config({"name": "deepfm", "hidden": []})
    with pytest.raises(ConfigError, match="a CIN layer of 7 maps cannot be split"):
        build_model(model_config({"name": "xdeepfm", "maps": [7, 4], "split_half": True}), MAP)
