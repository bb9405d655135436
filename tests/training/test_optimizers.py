from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from ctrkit.config import build
from ctrkit.data.feature_map import FeatureMap
from ctrkit.errors import ConfigError
from ctrkit.nn.batches import Batch
from ctrkit.nn.embedding import EmbeddingConfig, FeatureEmbedding
from ctrkit.nn.embedding_tables import RowMatrix
from ctrkit.training.optimizers import OptimizerConfig, RowwiseAdamW, build_optimizer, clip_gradients

SIZES = {"user": 1500, "item": 900, "sex": 3}
MAP = FeatureMap(
    tables=SIZES,
    categorical={name: name for name in SIZES},
    numeric=("age",),
    sequences={"seen": "item"},
    max_length=2,
)
KINDS = {
    "plain": EmbeddingConfig(width=16),
    "per field": EmbeddingConfig(width=16, per_field=True),
    "hashed": EmbeddingConfig(width=16, hash_above=800, hash_rows=50),
}


class Net(nn.Module):
    """Fields and a history, added up and read by two layers."""

    def __init__(self, config: EmbeddingConfig) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(MAP, config)
        self.tower = nn.Sequential(nn.Linear(config.width, 8), nn.GELU(), nn.Linear(8, 1))

    def forward(self, batch: Batch) -> Tensor:
        events = self.embedding.sequences(batch).sum(dim=(1, 2))
        logits: Tensor = self.tower(self.embedding.fields(batch).sum(dim=1) + events)
        return logits.squeeze(-1)


def net(config: EmbeddingConfig | None = None, seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net(config or EmbeddingConfig(width=16))


def random_batch(seed: int, rows: int = 32) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    ids = {name: torch.randint(0, size, (rows,), generator=draw) for name, size in SIZES.items()}
    seen = torch.randint(0, SIZES["item"], (rows, 2), generator=draw)
    return Batch(
        torch.stack(list(ids.values()), dim=1).int(),
        torch.randn(rows, 1, generator=draw),
        {"seen": seen.int()},
        torch.randint(0, 2, (rows, 1), generator=draw).float(),
        torch.ones(rows),
    )


def every_id() -> Batch:
    """A batch that reads every row of every table."""
    rows = max(SIZES.values())
    ids = torch.stack([torch.arange(rows) % size for size in SIZES.values()], dim=1).int()
    labels = (torch.arange(rows) % 3 == 0).float()[:, None]
    seen = {"seen": ids[:, 1:2].repeat(1, 2)}
    return Batch(ids, torch.linspace(-1, 1, rows)[:, None], seen, labels, torch.ones(rows))


def backward(model: Net, batch: Batch) -> None:
    model.zero_grad()
    logits = model(batch)
    nn.functional.binary_cross_entropy_with_logits(logits, batch.labels[:, 0]).backward()


def train(model: Net, optimizer: torch.optim.Optimizer, batches: range) -> None:
    for seed in batches:
        backward(model, random_batch(seed))
        clip_gradients(model, 0.05)
        optimizer.step()


def matrix_of(model: Net) -> RowMatrix:
    (matrix,) = (module for module in model.modules() if isinstance(module, RowMatrix))
    return matrix


def rowwise(**settings: Any) -> OptimizerConfig:
    return OptimizerConfig(name="rowwise", **settings)


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_it_is_adam_where_every_step_touches_every_row(config: EmbeddingConfig) -> None:
    lazy, dense = net(config), net(config)
    optimizers = [
        build_optimizer(lazy, rowwise(learning_rate=0.01)),
        torch.optim.AdamW(dense.parameters(), lr=0.01, weight_decay=0.0),
    ]
    start = copy.deepcopy(lazy.state_dict())
    for _ in range(5):
        for model, optimizer in zip((lazy, dense), optimizers, strict=True):
            backward(model, every_id())
            optimizer.step()
    for name, value in lazy.named_parameters():
        torch.testing.assert_close(value, dense.get_parameter(name), rtol=1e-3, atol=1e-5)
        assert not torch.equal(value, start[name])


def test_it_is_sparse_adam_on_the_rows_touched() -> None:
    model = net()
    optimizer = build_optimizer(model, rowwise(learning_rate=0.01))
    weight = matrix_of(model).weight
    theirs = nn.Parameter(weight.detach().clone())
    sparse_adam = torch.optim.SparseAdam([theirs], lr=0.01, eps=1e-12)
    optimizer.param_groups[1]["eps"] = 1e-12  # which the two scale differently
    for seed in range(6):
        backward(model, random_batch(seed))
        assert weight.grad is not None
        assert weight.grad.is_sparse
        theirs.grad = weight.grad.clone()
        optimizer.step()
        sparse_adam.step()
    torch.testing.assert_close(weight, theirs, rtol=1e-4, atol=1e-6)


def test_rows_not_read_keep_every_bit_of_weights_and_moments() -> None:
    model = net()
    optimizer = build_optimizer(model, rowwise(learning_rate=0.01, weight_decay=0.1, embedding_l2=0.1))
    weight = matrix_of(model).weight
    train(model, optimizer, range(3))
    before = [value.clone() for value in (weight, *_moments(optimizer, weight))]
    train(model, optimizer, range(3, 4))
    batch = random_batch(3)
    starts = torch.tensor([0, SIZES["user"] - 1, SIZES["user"] + SIZES["item"] - 2])
    read = {int(row) for row in (batch.categorical + starts)[batch.categorical > 0]}
    read |= {int(row) for row in (batch.sequences["seen"] + starts[1])[batch.sequences["seen"] > 0]}
    others = torch.tensor([row for row in range(len(weight)) if row not in read])
    for old, new in zip(before, (weight, *_moments(optimizer, weight)), strict=True):
        assert torch.equal(new[others], old[others])
        assert (new[sorted(read)] != old[sorted(read)]).any(dim=1).all()


def _moments(optimizer: torch.optim.Optimizer, weight: Tensor) -> tuple[Tensor, Tensor]:
    state = optimizer.state[weight]
    return state["exp_avg"], state["exp_avg_sq"]


def test_l2_pulls_the_rows_of_the_batch_by_the_formula() -> None:
    l2, rate, (beta1, beta2), eps = 0.3, 0.01, (0.9, 0.999), 1e-8
    model = net()
    optimizer = build_optimizer(model, rowwise(learning_rate=rate, embedding_l2=l2))
    weight = matrix_of(model).weight
    expected = weight.detach().double().tolist()
    m = [[0.0] * 16 for _ in expected]
    v = [[0.0] * 16 for _ in expected]
    for step in range(1, 4):
        backward(model, random_batch(step, rows=8))
        assert weight.grad is not None
        gradient = weight.grad.coalesce()
        optimizer.step()
        for row, values in zip(gradient.indices()[0].tolist(), gradient.values().tolist(), strict=True):
            for j, value in enumerate(values):
                g = value + l2 * expected[row][j]
                m[row][j] = beta1 * m[row][j] + (1 - beta1) * g
                v[row][j] = beta2 * v[row][j] + (1 - beta2) * g * g
                denominator = math.sqrt(v[row][j] / (1 - beta2**step)) + eps
                expected[row][j] -= rate * m[row][j] / (1 - beta1**step) / denominator
    torch.testing.assert_close(weight.detach(), torch.tensor(expected), rtol=1e-4, atol=1e-6)


def test_the_network_gets_adamw_and_embeddings_a_rate_of_their_own_without_decay() -> None:
    model, plain = net(), net()
    optimizer = build_optimizer(
        model, rowwise(learning_rate=0.01, weight_decay=0.5, embedding_learning_rate=0.2)
    )
    theirs = torch.optim.AdamW(plain.parameters(), lr=0.01, weight_decay=0.5)
    weight, before = matrix_of(model).weight, matrix_of(model).weight.detach().clone()
    for copied, stepped in ((model, optimizer), (plain, theirs)):
        backward(copied, random_batch(0))
        stepped.step()
    for name, value in model.named_parameters():
        if value is not weight:
            torch.testing.assert_close(value, plain.get_parameter(name))
    # The first step of Adam has the length of the learning rate, whatever the gradient.
    assert weight.grad is not None
    gradient = weight.grad.to_dense()
    moved = gradient.abs() > 1e-5
    torch.testing.assert_close(
        (before - weight.detach())[moved], 0.2 * gradient[moved].sign(), rtol=0.01, atol=0.0
    )


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("name", ["adamw", "rowwise"])
def test_a_run_that_is_resumed_ends_with_the_same_bits(
    name: str, config: EmbeddingConfig, tmp_path: Path
) -> None:
    settings = OptimizerConfig.model_validate({"name": name, "learning_rate": 0.01})
    whole, half, resumed = net(config), net(config), net(config, seed=9)
    train(whole, build_optimizer(whole, settings), range(8))
    optimizer = build_optimizer(half, settings)
    train(half, optimizer, range(4))
    torch.save({"model": half.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "half.pt")
    content = torch.load(tmp_path / "half.pt", weights_only=True)
    optimizer = build_optimizer(resumed, settings)
    resumed.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    train(resumed, optimizer, range(4, 8))
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("share", [0.3, 3.0])
def test_clipping_is_that_of_torch_on_dense_gradients(config: EmbeddingConfig, share: float) -> None:
    sparse, dense = net(config), net(config)
    build_optimizer(sparse, rowwise())
    for model in (sparse, dense):
        backward(model, random_batch(0))
    norm = clip_grad_norm_(dense.parameters(), float("inf"))
    expected = clip_grad_norm_(dense.parameters(), share * norm.item())
    torch.testing.assert_close(clip_gradients(sparse, share * norm.item()), expected)
    for name, value in sparse.named_parameters():
        assert value.grad is not None
        torch.testing.assert_close(value.grad.to_dense(), dense.get_parameter(name).grad)


def test_clipping_sums_the_parts_of_a_row_before_it_squares_them() -> None:
    layer = nn.Embedding(4, 2, sparse=True)  # leaves a gradient for each reading
    (layer(torch.tensor([1, 1, 1, 3])) * torch.tensor([3.0, 4.0])).sum().backward()
    torch.testing.assert_close(clip_gradients(layer, 1.0), torch.tensor(math.sqrt(10 * 25)))
    assert layer.weight.grad is not None
    expected = torch.tensor([[0.0, 0.0], [9.0, 12.0], [0.0, 0.0], [3.0, 4.0]]) / math.sqrt(250)
    torch.testing.assert_close(layer.weight.grad.to_dense(), expected)


def test_a_dense_gradient_touches_the_rows_where_it_is_not_zero() -> None:
    sparse, dense = net(), net()
    for model in (sparse, dense):
        optimizer = build_optimizer(model, rowwise(learning_rate=0.01))
        matrix_of(model).sparse = model is sparse
        for seed in range(3):
            backward(model, random_batch(seed))
            optimizer.step()
    torch.testing.assert_close(matrix_of(sparse).weight, matrix_of(dense).weight)


def test_the_optimizer_says_which_gradients_are_sparse() -> None:
    model = net(KINDS["hashed"])
    matrices = [module for module in model.modules() if isinstance(module, RowMatrix)]
    assert isinstance(build_optimizer(model, rowwise()), RowwiseAdamW)
    assert all(matrix.sparse for matrix in matrices)
    optimizer = build_optimizer(model, OptimizerConfig(name="adamw"))
    assert not isinstance(optimizer, RowwiseAdamW)
    assert not any(matrix.sparse for matrix in matrices)
    bare = build_optimizer(nn.Linear(2, 1), rowwise())
    assert [len(group["params"]) for group in bare.param_groups] == [2, 0]


def test_a_closure_is_evaluated_and_a_schedule_reaches_both_groups() -> None:
    model = net()
    optimizer = build_optimizer(model, rowwise(learning_rate=0.01, embedding_learning_rate=0.1))
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)

    def closure() -> float:
        backward(model, random_batch(0))
        return 7.0

    assert optimizer.step(closure) == 7.0
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.005, 0.05]


def test_settings_that_only_rowwise_has_are_refused_elsewhere() -> None:
    for setting in ("embedding_l2", "embedding_learning_rate"):
        with pytest.raises(ConfigError, match="rowwise"):
            build(OptimizerConfig, {"name": "adamw", setting: 0.1})
    with pytest.raises(ConfigError, match="learning_rate"):
        build(OptimizerConfig, {"learning_rate": 0.0})
