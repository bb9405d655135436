from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from ctrkit.data.feature_map import FeatureMap
from ctrkit.errors import ConfigError
from ctrkit.models import CtrModel, build_model, model_config
from ctrkit.nn.batches import Batch

MAP = FeatureMap(
    tables={"user": 4, "item": 5},
    categorical={"user": "user", "item": "item"},
    numeric=("age",),
    sequences={"seen": "item"},
    max_length=3,
    tasks=("click", "conversion"),
)


def made(feature_map: FeatureMap = MAP) -> CtrModel:
    torch.manual_seed(0)
    return build_model(
        model_config(
            {
                "name": "lr",
                "crosses": None,
                "history": {"match_terms": False, "pair_terms": False, "co_occurrence_terms": False},
            }
        ),
        feature_map,
    )


def make_batch(rows: int) -> Batch:
    torch.manual_seed(1)
    ids = torch.stack([torch.randint(1, size, (rows,)) for size in (4, 5)], dim=1).int()
    ages, seen = torch.randn(rows, 1), torch.randint(0, 5, (rows, 3)).int()
    truth = (
        torch.tensor([0.0, 0.0, 1.0, -1.0])[ids[:, 0].long()] + 0.7 * ages[:, 0] + (seen == 2).float().sum(1)
    )
    labels = torch.bernoulli(torch.sigmoid(truth - 0.5))[:, None].expand(-1, 2)
    return Batch(ids, ages, {"seen": seen}, labels, torch.ones(rows))


def test_maximum_likelihood_is_that_of_scikit_learn() -> None:
    batch = make_batch(400)
    model = made()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(model(batch).logits, batch.labels)
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]

    events = one_hot(batch.sequences["seen"].long(), 5)[..., 1:].double()
    bag = events.sum(dim=1) / events.sum(dim=(1, 2))[:, None].clamp(min=1)
    columns = [one_hot(batch.categorical[:, 0].long(), 4), one_hot(batch.categorical[:, 1].long(), 5)]
    x = np.concatenate([batch.numeric, bag, *columns], axis=1)
    theirs = LogisticRegression(C=np.inf, tol=1e-9, max_iter=5000).fit(x, batch.labels[:, 0].numpy())
    with torch.no_grad():
        ours = model(batch).logits.sigmoid().numpy()
    np.testing.assert_allclose(ours[:, 0], theirs.predict_proba(x)[:, 1], atol=2e-3)


def test_tasks_have_weights_of_their_own() -> None:
    model, batch = made(), make_batch(20)
    model(batch).logits[:, 1].sum().backward()
    touched = {id(p) for p in model.parameters() if p.grad is not None and bool((p.grad != 0).any())}
    model.zero_grad()
    model(batch).logits[:, 0].sum().backward()
    also = {id(p) for p in model.parameters() if p.grad is not None and bool((p.grad != 0).any())}
    assert touched
    assert also
    assert touched.isdisjoint(also)


def test_hidden_are_the_first_order_terms_and_all_weigh_one() -> None:
    model, batch = made(), make_batch(20)
    output = model(batch)
    assert output.hidden.shape == (20, 2 + 1 + 1)
    torch.testing.assert_close(
        output.logits[:, 0] - model.last_layer.bias, output.hidden.sum(dim=1), rtol=0, atol=1e-6
    )


def test_candidates_share_a_history() -> None:
    model = made().eval()
    batch = make_batch(6)
    history = model.encode_history(
        Batch(
            batch.categorical,
            batch.numeric,
            {"seen": batch.sequences["seen"][:2]},
            batch.labels,
            batch.weight,
        )
    )
    repeated = {"seen": batch.sequences["seen"][:2].repeat_interleave(3, dim=0)}
    whole = Batch(batch.categorical, batch.numeric, repeated, batch.labels, batch.weight)
    torch.testing.assert_close(model(batch, history).logits, model(whole).logits)


def test_no_weights_but_those_of_the_terms() -> None:
    one_task = FeatureMap(
        tables=MAP.tables, categorical=MAP.categorical, sequences=MAP.sequences, max_length=3
    )
    model = made(one_task)
    ids = 1 + 3 + 4 + 4  # padding, users, items, items in the history
    last_layer = 3 + 1
    assert sum(parameter.numel() for parameter in model.parameters()) == ids + last_layer


def test_linear_terms_stand_alone_unless_a_value_is_learnt() -> None:
    model = build_model(model_config("lr"), MAP)
    assert model.last_layer.in_features == 1
    assert build_model(model_config("lr"), replace(MAP, value=True)).last_layer.in_features > 1
    assert made().last_layer.in_features > 1
    linear = model.linear
    assert linear is not None
    torch.nn.init.normal_(linear.cells)
    for tower in model.heads.task_towers:
        tower.start_at_linear()
    batch = make_batch(20)
    torch.testing.assert_close(model(batch).logits, linear(batch, batch.sequences))


def test_wrong_configs() -> None:
    with pytest.raises(ConfigError, match=r"embedding.width must be 1, because LR"):
        model_config({"name": "lr", "embedding": 8})
    with pytest.raises(ConfigError, match=r"heads.towers must read"):
        build_model(model_config({"name": "lr", "heads": {"towers": [8]}}), MAP)
