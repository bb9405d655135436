"""Pretrained vectors as one vector of the common width a row."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ctrkit.data.feature_map import VectorField
from ctrkit.nn.batches import Batch
from ctrkit.nn.embedding_tables import RowMatrix


class VectorReader(nn.Module):
    """Pretrained vectors v as W v + bias; a missing one as `missing` + bias, at first as the mean vector is.

    Where training changes the vectors of a file, v is the file's vector plus a change, which starts at 0 and
    which features that read the same file share. A penalty on embeddings so draws them towards the file.

    Args:
        vectors: the features, M of them.
        width: d, the common width.
        std: standard deviation of what W v and the bias start as.
    """

    def __init__(self, vectors: Mapping[str, VectorField], width: int, std: float) -> None:
        super().__init__()
        self.vectors = dict(vectors)
        self.projections = nn.ParameterList(
            torch.randn(one.width, width) * (std * one.width**-0.5) for one in vectors.values()
        )
        self.bias = nn.Parameter(torch.randn(len(vectors), width) * std)
        self.missing = nn.Parameter(torch.zeros(len(vectors), width))
        trained = {one.table: one for one in vectors.values() if one.table is not None}
        self.tables = tuple(trained)
        self.changes = nn.ModuleList(RowMatrix(one.rows, one.width, std=0.0) for one in trained.values())

    def forward(self, batch: Batch) -> Tensor:
        """`[B, M, d]`."""
        changes = self._changes(batch)
        read: list[Tensor] = []
        for name, projection in zip(self.vectors, self.projections, strict=True):
            known, absent = known_vectors(batch, name)
            absent = absent * self.missing[len(read)]
            read.append(torch.addmm(absent, known + changes[name] if name in changes else known, projection))
        return torch.stack(read, dim=1) + self.bias

    def _changes(self, batch: Batch) -> dict[str, Tensor]:
        """Feature -> by what training has changed its vectors. A matrix is read once for all its features."""
        found: dict[str, Tensor] = {}
        for table, matrix in zip(self.tables, self.changes, strict=True):
            names = [name for name, one in self.vectors.items() if one.table == table]
            rows = torch.stack([batch.vector_rows[name] for name in names])
            found |= dict(zip(names, matrix(rows), strict=True))
        return found


def known_vectors(batch: Batch, name: str) -> tuple[Tensor, Tensor]:
    """The vectors of a feature, `[B, width]`, 0 (the mean) where one is missing; and 1 there, `[B, 1]`."""
    given = batch.vectors[name]
    return given.nan_to_num(0.0), given[:, :1].isnan().to(given.dtype)
