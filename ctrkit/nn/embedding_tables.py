"""Embedding tables: several in one matrix, with a dimension of their own, or hashed.

Every kind of table is called in the same way: `ids [..., C]` of C columns and `tables [C]`, the position of
each column's table, give `[..., C, width]`. The id 0 is padding: its vector is always zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import accumulate
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.data.feature_map import FIRST_ID, PADDING_ID, UNKNOWN_ID

HASHES = 2  # k of the paper's experiments
_AT_ONCE = 1 << 16  # vectors that are mixed at a time, where all of a table are
PRIME = (1 << 31) - 1  # above every id; a product of two numbers below it fits into int64


class RowMatrix(nn.Module):
    """A matrix that is read by row. Row 0 is zero, gets no gradient, and so stays zero.

    Attributes:
        weight: `[rows, width]`.
        sparse: whether the gradient is a coalesced sparse tensor, which holds only the rows that were read in
            training. `ctrkit.training.optimizers.build_optimizer` sets it.
    """

    def __init__(self, rows: int, width: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(rows, width).mul_(std))
        self.sparse = False
        with torch.no_grad():
            self.weight[PADDING_ID].zero_()

    def forward(self, rows: Tensor) -> Tensor:
        """Row numbers, of any integer type: `[...] -> [..., width]`."""
        if self.sparse and self.training:
            vectors: Tensor = _SparseRead.apply(self.weight, rows)  # type: ignore[no-untyped-call]
            return vectors
        return F.embedding(rows, self.weight, padding_idx=PADDING_ID)


class _SparseRead(torch.autograd.Function):
    """Rows of a matrix, whose gradient is summed by row at once.

    `F.embedding(sparse=True)` leaves one gradient for each read row. To filter out the padding and sum by row
    afterwards takes several times as long as the sort and the embedding bag used here.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape = weight.shape
        return F.embedding(rows, weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        rows, order = rows.flatten().sort(stable=True)  # stable, so that sums are the same in every run
        paddings = int((rows == PADDING_ID).sum())
        rows, order = rows[paddings:], order[paddings:]
        touched, readings = torch.unique_consecutive(rows, return_counts=True)
        first = readings.cumsum(0) - readings
        gradient = gradients[0].reshape(-1, ctx.shape[1])
        sums = F.embedding_bag(order, gradient, first, mode="sum")
        sparse = torch.sparse_coo_tensor(
            touched[None], sums, ctx.shape, is_coalesced=True, check_invariants=False
        )
        return sparse, None


class StackedTables(nn.Module):
    """Tables of one width in one matrix: `[..., C] -> [..., C, width]`.

    Row 0 is the padding of all tables. The ids 1, 2, ... of a table lie one after the other from its start.

    Args:
        sizes: table -> number of its ids, padding included.
        width: width of the vectors.
        std: standard deviation of the initial values.
    """

    starts: Tensor

    def __init__(self, sizes: Mapping[str, int], width: int, std: float) -> None:
        super().__init__()
        self.names = tuple(sizes)
        self.register_buffer("starts", table_starts(list(sizes.values())), persistent=False)
        self.matrix = RowMatrix(1 + sum(size - 1 for size in sizes.values()), width, std)

    def forward(self, ids: Tensor, tables: Tensor) -> Tensor:
        vectors: Tensor = self.matrix(table_rows(ids, self.starts[tables]))
        return vectors

    @torch.no_grad()
    def settle_unknown(self, table: str, counts: Tensor) -> None:
        """Set the vector of a table's unknown id to the mean of all its ids, weighted by `counts [size]`."""
        weight, start = self.matrix.weight, int(self.starts[self.names.index(table)])
        known = counts[FIRST_ID:].to(weight)
        vectors = weight[start + FIRST_ID : start + FIRST_ID + len(known)]
        weight[start + UNKNOWN_ID] = known @ vectors / known.sum()


class ProjectedTables(nn.Module):
    """Tables with a common dimension of their own, each projected to the common width: `[..., C] ->
    [..., C, width]`.

    "Mixed Dimension Embeddings with Application to Memory-Efficient Recommendation Systems" (Ginart et al.,
    ISIT 2021). The projection has no bias, so that padding stays zero, and starts at the scale that gives
    projected vectors the standard deviation `std`.

    Args:
        sizes: table -> number of its ids, padding included.
        dimension: dimension of the tables' vectors.
        width: width of the projected vectors.
    """

    def __init__(self, sizes: Mapping[str, int], dimension: int, width: int, std: float) -> None:
        super().__init__()
        self.names = tuple(sizes)
        self.stack = StackedTables(sizes, dimension, std)
        self.projection = nn.Parameter(torch.randn(len(sizes), dimension, width) * dimension**-0.5)

    def forward(self, ids: Tensor, tables: Tensor) -> Tensor:
        vectors = self.stack(ids, tables)
        return torch.einsum("...cn,cnd->...cd", vectors, self.projection[tables])

    def settle_unknown(self, table: str, counts: Tensor) -> None:
        """Set the unknown id's vector to the mean: the projection of the mean is the mean of projections."""
        self.stack.settle_unknown(table, counts)


class HashedTables(nn.Module):
    """Tables without vectors of their own, mixed from shared rows: `[..., C] -> [..., C, width]`.

    "Hash Embeddings for Efficient Word Representations" (Svenstrup et al., NIPS 2017): the vector of an id
    is the sum over k = 1, 2 of p_k(id) E[h_k(id)], with rows E that all ids of all tables share, and two
    importance weights p for each id. Two ids with the same two rows still differ in their weights. The
    hash functions ((a id + b) mod prime) mod rows are universal (Carter and Wegman, 1979); their constants
    depend only on the name of the table.

    p starts as N(0, 1/2), which gives mixed vectors the standard deviation `std` of E.

    Args:
        sizes: table -> number of its ids, padding included.
        rows: number of rows of E.
        width: width of the vectors.
    """

    constants: Tensor

    def __init__(self, sizes: Mapping[str, int], rows: int, width: int, std: float) -> None:
        super().__init__()
        self.names, self.rows = tuple(sizes), rows
        self.register_buffer("constants", hash_constants(self.names), persistent=False)
        self.importance = StackedTables(sizes, HASHES, HASHES**-0.5)
        self.shared = RowMatrix(1 + rows, width, std)

    def forward(self, ids: Tensor, tables: Tensor) -> Tensor:
        rows = hash_rows(ids, self.constants[tables], self.rows)  # [..., C, k]
        mix: Tensor = self.importance(ids, tables).unsqueeze(-1) * self.shared(rows)
        return mix.sum(dim=-2)

    @torch.no_grad()
    def settle_unknown(self, table: str, counts: Tensor) -> None:
        """Set the unknown id's vector as close to the mean of mixed vectors as its two rows of E allow."""
        at = self.names.index(table)
        known, column = counts[FIRST_ID:].to(self.shared.weight), self.constants.new_tensor([at])
        mean = self.shared.weight.new_zeros(self.shared.weight.shape[1])
        for first in range(0, len(known), _AT_ONCE):
            part = known[first : first + _AT_ONCE]
            ids = torch.arange(first, first + len(part), dtype=torch.int32, device=part.device) + FIRST_ID
            mean += part @ self(ids[:, None], column)[:, 0]
        unknown = torch.tensor([UNKNOWN_ID], device=mean.device)
        rows = self.shared.weight[hash_rows(unknown, self.constants[column], self.rows)[0]]  # [k, width]
        weights = torch.linalg.pinv(rows.T) @ (mean / known.sum())
        self.importance.matrix.weight[int(self.importance.starts[at]) + UNKNOWN_ID] = weights


def table_starts(sizes: Sequence[int]) -> Tensor:
    """The offset of each table's ids, so that tables share row 0 and nothing else: `[T]`.

    The ids of each table fit into int32, but the rows of all tables may not. Then offsets and rows are int64.
    Otherwise they are int32, which sorts in half the time.
    """
    *starts, last_row = accumulate((size - 1 for size in sizes), initial=0)
    return torch.tensor(starts, dtype=torch.int32 if last_row < 1 << 31 else torch.int64)


def known_or_unknown(ids: Tensor) -> Tensor:
    """Ids with one unknown id, `UNKNOWN_ID`: negative ids of unseen values have no vector of their own."""
    return ids.masked_fill(ids < PADDING_ID, UNKNOWN_ID)


def table_rows(ids: Tensor, starts: Tensor) -> Tensor:
    """Rows of int32 ids in a matrix of stacked tables: `[..., C]` and `[C]` give `[..., C]`."""
    return (ids + starts).masked_fill_(ids == PADDING_ID, PADDING_ID)


def hash_constants(tables: Sequence[str]) -> Tensor:
    """a in 1, ..., prime - 1 and b in 0, ..., prime - 1 of each hash function: int64 `[T, 2, k]`.

    They come from a cryptographic digest of the table's name, so they are the same on every machine and in
    every run.
    """

    def draw(table: str, letter: str, function: int, low: int) -> int:
        digest = blake2b(f"{letter}{function}/{table}".encode(), digest_size=16).digest()
        return low + int.from_bytes(digest, "big") % (PRIME - low)

    return torch.tensor(
        [[[draw(table, letter, k, low) for k in range(HASHES)] for letter, low in (("a", 1), ("b", 0))]
         for table in tables],
        dtype=torch.int64,
    )  # fmt: skip


def hash_rows(ids: Tensor, constants: Tensor, rows: int) -> Tensor:
    """1 + ((a id + b) mod prime) mod rows for each hash function, and 0 for padding.

    Args:
        ids: int32 or int64 `[..., C]`, below 2^31: then nothing overflows int64.
        constants: a and b, int64 `[C, 2, k]`.

    Returns:
        int64 `[..., C, k]`.
    """
    a, b = constants.unbind(dim=1)
    ids = ids.unsqueeze(-1)
    return ((ids * a + b) % PRIME % rows + 1).masked_fill_(ids == PADDING_ID, PADDING_ID)


def own_dimension(size: int) -> int:
    """min(50, floor(size ** 1/4)), at least 1: exact, where a float's power may fall short of an integer."""
    return max(1, min(50, isqrt(isqrt(size))))
