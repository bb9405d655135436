"""What an epoch reads: every training row, all positives and the negatives that the model finds hard, or rows
of each class in given shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from ctrkit.arrays import Booleans, Floats, Integers
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.sampling import HardNegativesConfig
from ctrkit.errors import DataError
from ctrkit.models import CtrModel
from ctrkit.nn.batches import Batch
from ctrkit.training.order import epoch_order
from ctrkit.training.prediction import predict


class EpochRows:
    """Every epoch reads every training row once.

    Args:
        data: the encoded rows.
        rows: the training rows, ascending.
        groups: the group of every row of the data, where rows of a group stay together.
        seed: random seed.

    Attributes:
        size: number of rows that an epoch reads.
        counts: how often every row of the data counts in this epoch, float32 [n]; None if each counts once.
    """

    counts: NDArray[np.float32] | None = None

    def __init__(self, data: EncodedTable, rows: Integers, groups: Integers | None, seed: int) -> None:
        self.data, self.rows, self.groups, self.seed = data, rows, groups, seed
        self.size = rows.size

    def order(self, epoch: int, model: CtrModel) -> Integers:
        """The rows of an epoch, in the order in which they are read.

        Args:
            epoch: number of the epoch, from 0.
            model: the model as it is when the epoch begins.
        """
        return self._mixed(self.rows, epoch)

    def batch(self, rows: Integers) -> Batch:
        """Some of the rows, with the weights that they have in this epoch."""
        batch = Batch.of(self.data, rows)
        if self.counts is None:
            return batch
        return replace(batch, weight=batch.weight * torch.from_numpy(self.counts[rows]))

    def _mixed(self, rows: Integers, epoch: int) -> Integers:
        rng = np.random.default_rng([self.seed, epoch])
        return epoch_order(rows, self.groups, rng, in_blocks=self.data.in_blocks)


class HardNegatives(EpochRows):
    """Every epoch reads all positives, and negatives that are drawn by their scores (`HardNegativesConfig`).

    A negative that is drawn with the chance π counts 1 / π times, so that sums over the rows of an epoch are
    unbiased estimates of the sums over all rows, whatever the scores are: Horvitz and Thompson, JASA 1952.
    With the chances in proportion to p the estimate of the gradient is best, as a negative's gradient is in
    proportion to p: Wang, Zhang and Wang, "Nonuniform Negative Sampling and Log Odds Correction with Rare
    Events Data", NeurIPS 2021. The number of rows is fixed: they are drawn systematically, which gives each
    its chance exactly (Madow, Annals of Mathematical Statistics 1949).

    Its state is the chances of an epoch, as the model that gave the scores is gone when a run resumes.

    Args:
        data: the encoded rows.
        rows: the training rows, ascending.
        groups: the group of every row of the data, where rows of a group stay together.
        seed: random seed.
        config: how negatives are drawn.
    """

    counts: NDArray[np.float32]

    def __init__(
        self,
        data: EncodedTable,
        rows: Integers,
        groups: Integers | None,
        seed: int,
        config: HardNegativesConfig,
    ) -> None:
        super().__init__(data, rows, groups, seed)
        self.config = config
        negative: Booleans = data.labels[rows, 0] == 0.0
        self.positives, self.negatives = rows[~negative], rows[negative]
        self.kept = _share(config.kept, self.negatives.size)
        self.size = self.positives.size + self.kept
        self._scored = -1
        self._chances = np.empty(0)
        self.counts = np.ones(len(data), dtype=np.float32)

    def order(self, epoch: int, model: CtrModel) -> Integers:
        if self._scored < 0 or epoch - self._scored >= self.config.refresh:
            self._scored = epoch
            self._chances = self._by_score(model)
        pool, rng = self._pool(), np.random.default_rng([self.seed, epoch, 2])
        drawn = systematic(self._chances, self.kept, rng)
        scored = pool.size / max(self.negatives.size, 1)
        self.counts[pool[drawn]] = 1.0 / (scored * self._chances[drawn])
        return self._mixed(np.sort(np.concatenate([self.positives, pool[drawn]])), epoch)

    def state_dict(self) -> dict[str, Any]:
        """The chances, and the epoch of their scores."""
        return {"scored": self._scored, "chances": torch.from_numpy(self._chances)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what `state_dict` gave."""
        self._scored, self._chances = state_dict["scored"], state_dict["chances"].numpy()

    def _pool(self) -> Integers:
        """The negatives that are scored together, ascending."""
        size = max(_share(self.config.pool, self.negatives.size), self.kept)
        if size == self.negatives.size:
            return self.negatives
        rng = np.random.default_rng([self.seed, self._scored, 3])
        return self.negatives[np.sort(rng.choice(self.negatives.size, size, replace=False))]

    def _by_score(self, model: CtrModel) -> Floats:
        """The chance of each negative of the pool."""
        pool = self._pool()
        logits = predict(model, self.data, pool, hidden=False).logits[:, 0]
        p = np.nan_to_num(expit(logits), nan=1.0)  # a model that is broken stops at its next step
        weight = self.data.weight[pool].astype(np.float64)
        mean = max(weight @ p / weight.sum(), np.finfo(np.float64).tiny) if pool.size else 1.0
        random = self.config.random
        return chances(weight * (random + (1.0 - random) * p / mean), self.kept)


class BalancedRows(EpochRows):
    """Every epoch reads rows of each class in given shares (`SamplingConfig.balance`).

    The class of a row is the number of its labels that are 1, as each can be 1 only where the one before is.
    A class of n rows of which an epoch reads q has every row q // n times, and a random part of them once
    more. Each time a row counts n / q, so that a class has its own weight in every epoch.

    Args:
        data: the encoded rows.
        rows: the training rows, ascending.
        groups: the group of every row of the data, where rows of a group stay together.
        seed: random seed.
        shares: place of a task -> share of the rows with its label, in funnel order.

    Raises:
        DataError: there is no row that such a share could be made of.
    """

    counts: NDArray[np.float32]

    def __init__(
        self,
        data: EncodedTable,
        rows: Integers,
        groups: Integers | None,
        seed: int,
        shares: Mapping[int, float],
    ) -> None:
        super().__init__(data, rows, groups, seed)
        reached = (data.labels[rows] > 0.0).sum(axis=1)
        self.classes = [rows[reached == number] for number in range(data.labels.shape[1] + 1)]
        sizes = np.array([of.size for of in self.classes])
        self.quotas = np.zeros(sizes.size, dtype=np.int64)
        # Classes between two tasks with a share divide the difference of the shares among them.
        ends = [(0, 1.0), *((task + 1, share) for task, share in shares.items()), (sizes.size, 0.0)]
        for (first, share), (last, rest) in pairwise(ends):
            of = slice(first, last)
            if not sizes[of].any():
                raise DataError(
                    f"sampling.balance cannot be reached: no training row has {first} of the"
                    f" {sizes.size - 1} labels"
                    + (f", or up to {last - 1} of them" if last - 1 > first else ""),
                    hint="Leave it out, or choose other training rows with `split`",
                )
            quotas = rows.size * (share - rest) * sizes[of] / sizes[of].sum()
            self.quotas[of] = np.where(sizes[of] > 0, np.maximum(quotas.round(), 1), 0)
        self.size = int(self.quotas.sum())
        self.counts = np.ones(len(data), dtype=np.float32)
        for of_class, quota in zip(self.classes, self.quotas, strict=True):
            self.counts[of_class] = of_class.size / max(quota, 1)

    def order(self, epoch: int, model: CtrModel) -> Integers:
        rng = np.random.default_rng([self.seed, epoch, 4])
        read = []
        for rows, quota in zip(self.classes, self.quotas, strict=True):
            whole, rest = divmod(int(quota), max(rows.size, 1))
            read += [rows] * whole + [rng.choice(rows, rest, replace=False)]
        return self._mixed(np.sort(np.concatenate(read)), epoch)


def epoch_rows(
    data: EncodedTable,
    rows: Integers,
    groups: Integers | None,
    seed: int,
    hard: HardNegativesConfig | None,
    shares: Mapping[int, float] | None = None,
) -> EpochRows:
    """What the epochs of a training read.

    Args:
        data: the encoded rows.
        rows: the training rows, ascending.
        groups: the group of every row of the data; None if rows are single.
        seed: random seed.
        hard: how hard negatives are drawn; None to read every row.
        shares: place of a task -> share of the rows with its label; None to read every row.
    """
    if shares:
        return BalancedRows(data, rows, groups, seed, shares)
    if hard is None:
        return EpochRows(data, rows, groups, seed)
    return HardNegatives(data, rows, groups, seed, hard)


def chances(sizes: Floats, count: int) -> Floats:
    """Chances in proportion to sizes, at most 1, whose sum is a number of rows.

    Args:
        sizes: positive, [n].
        count: the number of rows, at most n.
    """
    found = np.zeros(sizes.size)
    free = np.ones(sizes.size, dtype=np.bool_)
    left = count
    while left and free.any():
        found[free] = sizes[free] * (left / sizes[free].sum())
        sure = free & (found >= 1.0)
        if not sure.any():
            break
        found[sure] = 1.0
        free &= ~sure
        left = count - int(np.count_nonzero(~free))
    return found


def systematic(chances: Floats, count: int, rng: np.random.Generator) -> Integers:
    """A number of rows, each with its own chance: the places of `count` equal steps along the summed chances.

    Args:
        chances: between 0 and 1, with the sum `count`, [n].
        count: number of rows.
        rng: decides where the first step begins.
    """
    if not count:
        return np.empty(0, dtype=np.int64)
    ends = np.cumsum(chances)
    ends *= count / ends[-1]
    found: Integers = np.searchsorted(ends, np.arange(count) + rng.random(), side="right")
    return np.minimum(found, chances.size - 1)


def _share(share: float, rows: int) -> int:
    """A share of some rows, at least one of them."""
    return min(max(round(share * rows), 1), rows)
