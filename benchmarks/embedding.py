"""A training step of DCNv2 with more and more ids: all rows of the embeddings written, or those of the batch.

    OMP_NUM_THREADS=1 python benchmarks/embedding.py [--ids 500000 5000000] [--steps 10]

39 fields as in Criteo, embeddings of 16, three cross layers beside a tower of three layers of 400. The
CPU time of this process counts, as neighbours lengthen the time on the wall even more. The contenders
take turns, step by step, and the median step of each is shown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.data.feature_map import FIRST_ID, FeatureMap
from ctrkit.nn.batches import Batch
from ctrkit.nn.embedding import FeatureEmbedding
from ctrkit.training.optimizers import OptimizerConfig, build_optimizer, clip_gradients

FIELDS, WIDTH, BATCH = 39, 16, 4096
CROSS_LAYERS, TOWER = 3, (400, 400, 400)


class DCNv2(nn.Module):
    """Cross layers of full matrices beside a tower, over embeddings `[B, F, d]`: `[B]`."""

    def __init__(self) -> None:
        super().__init__()
        flat = FIELDS * WIDTH
        self.cross = nn.ModuleList(nn.Linear(flat, flat) for _ in range(CROSS_LAYERS))
        widths = (flat, *TOWER)
        self.tower = nn.Sequential(
            *(nn.Sequential(nn.Linear(i, o), nn.ReLU()) for i, o in zip(widths, TOWER, strict=False))
        )
        self.head = nn.Linear(flat + TOWER[-1], 1)

    def forward(self, fields: Tensor) -> Tensor:
        x0 = fields.flatten(1)
        x = x0
        for layer in self.cross:
            x = x0 * layer(x) + x
        logits: Tensor = self.head(torch.cat([x, self.tower(x0)], dim=1))
        return logits.squeeze(-1)


class Contender:
    """DCNv2 with an embedding, trained one way."""

    name: str

    def step(self, batch: Batch) -> None:
        """One training step."""
        raise NotImplementedError

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, batch.labels[:, 0])


class Ours(Contender):
    """ctrkit's embedding, clipping and optimizer."""

    def __init__(self, feature_map: FeatureMap, config: OptimizerConfig) -> None:
        self.name = f"ctrkit, {config.name}"
        self.embedding = FeatureEmbedding(feature_map, WIDTH)
        self.network = DCNv2()
        self.model = nn.ModuleList([self.embedding, self.network])
        self.optimizer = build_optimizer(self.model, config)

    def step(self, batch: Batch) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(self.network(self.embedding.fields(batch)), batch).backward()
        clip_gradients(self.model, 10.0)
        self.optimizer.step()


class TorchSparse(Contender):
    """torch's own sparse embedding, one a field, with SparseAdam; gradients are not clipped, as torch clips
    no sparse ones."""

    name = "torch, nn.Embedding(sparse) and SparseAdam"

    def __init__(self, feature_map: FeatureMap) -> None:
        self.embeddings = nn.ModuleList(
            nn.Embedding(size, WIDTH, padding_idx=0, sparse=True) for size in feature_map.tables.values()
        )
        self.network = DCNv2()
        self.optimizers = [
            torch.optim.SparseAdam(list(self.embeddings.parameters())),
            torch.optim.AdamW(self.network.parameters(), fused=True),
        ]

    def step(self, batch: Batch) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        columns = batch.categorical.unbind(dim=1)
        fields = [embedding(ids) for embedding, ids in zip(self.embeddings, columns, strict=True)]
        self.loss(self.network(torch.stack(fields, dim=1)), batch).backward()
        for optimizer in self.optimizers:
            optimizer.step()


@dataclass(frozen=True)
class Data:
    """Made-up rows: vocabularies from small to large, `ids` in all, ids of a field log-uniform, so that half
    of a field's readings fall on the root of its vocabulary."""

    ids: int

    @property
    def sizes(self) -> list[int]:
        shares = np.geomspace(1, 3000, FIELDS)
        return [max(10, int(share)) + FIRST_ID for share in shares / shares.sum() * self.ids]

    @property
    def feature_map(self) -> FeatureMap:
        tables = {f"field_{number}": size for number, size in enumerate(self.sizes)}
        return FeatureMap(tables, {name: name for name in tables})

    def batches(self) -> Iterator[Batch]:
        rng = np.random.default_rng(0)
        largest = np.array(self.sizes) - FIRST_ID
        while True:
            ids = largest ** rng.random((BATCH, FIELDS)) - 1 + FIRST_ID
            labels = (rng.random((BATCH, 1)) < 0.2).astype(np.float32)
            yield Batch(
                torch.from_numpy(ids.astype(np.int32)),
                torch.zeros(BATCH, 0),
                {},
                torch.from_numpy(labels),
                torch.ones(BATCH),
            )


def seconds(contenders: list[Contender], batches: Iterator[Batch], steps: int) -> dict[str, float]:
    """Median CPU seconds of a step, after two steps to warm up."""
    taken: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for _ in range(steps + 2):
        batch = next(batches)
        for contender in contenders:
            begun = time.process_time()
            contender.step(batch)
            taken[contender.name].append(time.process_time() - begun)
    return {name: median(times[2:]) for name, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="embeddings: dense and row-wise optimizers")
    parser.add_argument("--ids", type=int, nargs="+", default=[500_000, 5_000_000])
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    shown = Table("ids", "embedding and optimizer", "ms a step", "rows per CPU-second", "to AdamW")
    for ids in arguments.ids:
        data = Data(ids)
        contenders: list[Contender] = [
            Ours(data.feature_map, OptimizerConfig(name="adamw")),
            TorchSparse(data.feature_map),
            Ours(data.feature_map, OptimizerConfig(name="rowwise")),
        ]
        taken = seconds(contenders, data.batches(), arguments.steps)
        dense = taken[contenders[0].name]
        for name, second in taken.items():
            speed = BATCH / second
            shown.add_row(f"{ids:,}", name, f"{second * 1e3:,.0f}", f"{speed:,.0f}", f"{dense / second:.2f}")
    Console(width=110).print(shown)


if __name__ == "__main__":
    main()
