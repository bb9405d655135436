"""A network as a differentiable function of embedding vectors, instead of ids and numbers.

Ids and missing numbers have no gradient, so attributions use embeddings. Every `FeatureEmbedding` of a
network (the common one, and those of first-order weights) reads its tables through `field_columns` and
`sequence_columns`, and numbers through `numbers`; the outputs of these modules can be recorded and replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from ctrkit.arrays import Floats
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import PADDING_ID, UNKNOWN_ID
from ctrkit.explanations.features import chunks
from ctrkit.models import CtrModel
from ctrkit.nn.batches import Batch
from ctrkit.nn.embedding import FeatureEmbedding

BaselineName: TypeAlias = Literal["mean", "unknown"]
_BATCH = 2048


@dataclass(frozen=True)
class Baseline:
    """The inputs that rows are compared with.

    Attributes:
        vectors: for each module that reads columns, one vector per column, `[C, d]`.
    """

    vectors: tuple[Tensor, ...]


class Substituted(nn.Module):
    """A task's logit as a function of vectors in place of ids and numbers.

    Attributes:
        network: the network, in evaluation mode.
        readers: the modules that read columns, whose outputs are replaced; the last are the terms of
            `LinearTerms`, if there are any.
        of_events: for each of these modules, whether it reads sequences.
        of_numbers: for each of these modules, whether it reads numbers.
        starts: for each of these modules, the position of its first column among the static fields.
    """

    def __init__(self, network: CtrModel, task: int, example: Batch) -> None:
        super().__init__()
        self.network, self.task = network.eval(), task
        embeddings = [module for module in network.modules() if isinstance(module, FeatureEmbedding)]
        numbers = [module.numbers for module in embeddings if hasattr(module, "numbers")]
        events = [module.sequence_columns for module in embeddings]
        bags = [module.bags for module in embeddings if hasattr(module, "bags")]
        vectors = [module.vectors for module in embeddings if hasattr(module, "vectors")]
        every = [*(module.field_columns for module in embeddings), *numbers, *bags, *vectors, *events]
        # Some modules are not used, for example the sequences of a model without a behaviour branch.
        called = [calls for calls, _ in self._recorded(every, example)]
        self.readers: list[nn.Module] = [one for one, calls in zip(every, called, strict=True) if calls]
        self.of_events = [any(one is reader for one in events) for reader in self.readers]
        self.of_numbers = [any(one is reader for one in numbers) for reader in self.readers]
        self.names, self.count = tuple(example.sequences), example.numeric.shape[1]
        features = network.feature_map
        self.lengths = {name: bag.length for name, bag in features.bags.items()}
        self.widths = {name: vector.width for name, vector in features.vectors.items()}
        of_vectors = len(features.fields) - len(self.widths)
        starts = [
            *((reader, len(features.categorical)) for reader in numbers),
            *((reader, of_vectors - len(self.lengths)) for reader in bags),
            *((reader, of_vectors) for reader in vectors),
        ]
        self.starts = [next((at for one, at in starts if one is reader), 0) for reader in self.readers]
        self.shares: Floats | None = None
        if network.linear is not None:
            self.shares = network.linear.terms.shares.double().cpu().numpy()
            self.readers.append(network.linear.terms)
            self.of_events.append(False)
            self.of_numbers.append(False)

    def vectors(self, batch: Batch) -> list[Tensor]:
        """The outputs of `readers` for a batch: `[B, C, d]` for fields, `[B, L, S, d]` for sequences."""
        return [vectors for _, vectors in self._recorded(self.readers, batch)]

    def forward(self, *tensors: Tensor) -> Tensor:
        """The logit, `[B]`.

        Args:
            tensors: the vectors of `readers`, then the ids as in the batch: categorical ids and each
                sequence. Only the padding of the ids is used.
        """
        vectors, (categorical, *sequences) = tensors[: len(self.readers)], tensors[len(self.readers) :]
        numeric = vectors[0].new_zeros(len(categorical), self.count)
        batch = Batch(
            categorical,
            numeric,
            dict(zip(self.names, sequences, strict=True)),
            numeric[:, :0],
            numeric.new_ones(len(numeric)),
            bags={name: categorical.new_zeros(len(numeric), n) for name, n in self.lengths.items()},
            bag_weights={name: numeric.new_zeros(len(numeric), n) for name, n in self.lengths.items()},
            vectors={name: numeric.new_zeros(len(numeric), n) for name, n in self.widths.items()},
            vector_rows={name: categorical.new_zeros(len(numeric)) for name in self.widths},
        )
        with self._replaced(vectors):
            logits: Tensor = self.network(batch).logits[:, self.task]
        return logits

    def baseline(self, name: BaselineName, data: EncodedTable) -> Baseline:
        """The baseline vector of every column.

        "mean" is the mean vector of a column over the rows given (for a sequence, over all their events).
        "unknown" is the vector of the out-of-vocabulary id. It is well trained only if unknown values are
        frequent in training; if every value has its own id, this vector is noise. Of numbers it is always the
        vector of their mean in training, a bag holds the unknown id alone, and a pretrained one is missing.
        """
        batch = Batch.of(data, slice(0, 1))
        unknown = Batch(
            torch.full_like(batch.categorical, UNKNOWN_ID),
            batch.numeric.new_tensor(self.network.feature_map.centre_of_numbers).expand_as(batch.numeric),
            {n: torch.full_like(ids, UNKNOWN_ID) for n, ids in batch.sequences.items()},
            batch.labels,
            batch.weight,
            bags={n: _alone(ids, UNKNOWN_ID) for n, ids in batch.bags.items()},
            bag_weights={n: _alone(weights, 1) for n, weights in batch.bag_weights.items()},
            vectors={n: torch.full_like(vectors, torch.nan) for n, vectors in batch.vectors.items()},
            vector_rows={n: torch.zeros_like(rows) for n, rows in batch.vector_rows.items()},
        )
        fixed = [
            vectors[0, -1] if of_events else vectors[0]
            for vectors, of_events in zip(self.vectors(unknown.to(self.device)), self.of_events, strict=True)
        ]
        if name == "unknown":
            return Baseline(tuple(fixed))
        sums: list[Tensor] = []
        counts: list[Tensor] = []
        for rows in chunks(len(data), _BATCH):
            batch = Batch.of(data, rows).to(self.device)
            parts = [
                self._sums(v, e, batch) for v, e in zip(self.vectors(batch), self.of_events, strict=True)
            ]
            sums = [s + p for s, (p, _) in zip(sums, parts, strict=True)] if sums else [p for p, _ in parts]
            counts = (
                [c + p for c, (_, p) in zip(counts, parts, strict=True)] if counts else [p for _, p in parts]
            )
        means = [(s / c.clamp(min=1).unsqueeze(1)).float() for s, c in zip(sums, counts, strict=True)]
        chosen = zip(fixed, means, self.of_numbers, strict=True)
        return Baseline(tuple(zero if of_numbers else mean for zero, mean, of_numbers in chosen))

    def _sums(self, vectors: Tensor, of_events: bool, batch: Batch) -> tuple[Tensor, Tensor]:
        """The sum of the vectors of each column, `[C, d]`, and their number, `[C]`."""
        vectors = vectors.double()
        if not of_events:
            return vectors.sum(dim=0), vectors.new_full((vectors.shape[1],), len(vectors))
        present = self._present(batch)
        return vectors.sum(dim=(0, 1)), present.sum(dim=(0, 1)).double()

    @staticmethod
    def _present(batch: Batch) -> Tensor:
        """Whether an event has a value in each sequence, bool `[B, L, S]`."""
        return torch.stack([ids != PADDING_ID for ids in batch.sequences.values()], dim=2)

    def start(self, baseline: Baseline, batch: Batch) -> list[Tensor]:
        """The baseline of each row.

        There is a mean event wherever the row has an event, so that the length of a history has no share. So
        terms of the newest event are the row's own where it has none.
        """
        found = []
        for vectors, of_events in zip(baseline.vectors, self.of_events, strict=True):
            if of_events:
                found.append(vectors * self._present(batch).unsqueeze(3))
            else:
                found.append(vectors.expand(len(batch), -1, -1).clone())
        fields = len(self.network.feature_map.fields)
        if self.shares is not None and self.shares.shape[1] > fields:
            of_newest = torch.from_numpy(self.shares[:, fields:] > 0.0)
            alone = ~self._present(batch).any(dim=1)  # [B, S]
            if bool(alone.any()):
                kept = (alone.unsqueeze(1) & of_newest.to(self.device)).any(dim=2)
                found[-1] = torch.where(kept.unsqueeze(2), self.vectors(batch)[-1], found[-1])
        return found

    def end(self, batch: Batch) -> list[Tensor]:
        """The inputs of `forward` for a batch, without its ids."""
        return self.vectors(batch)

    @staticmethod
    def ids(batch: Batch) -> tuple[Tensor, ...]:
        """The ids, the last inputs of `forward`."""
        return (batch.categorical, *batch.sequences.values())

    def by_unit(self, parts: Sequence[Tensor], fields: int, length: int) -> tuple[Floats, Floats]:
        """Attributions of fields and events, from those of the tensors of `end`.

        Returns:
            Attributions of the static fields, `[B, F]`, and of the parts of events, `[B, L, S]`.
        """
        of_fields = np.zeros((len(parts[0]), fields))
        of_parts = np.zeros((len(parts[0]), length, len(self.names)))
        values = [tensor.detach().double().cpu().numpy().sum(axis=-1) for tensor in parts]
        if self.shares is not None:
            terms = values.pop() @ self.shares
            of_fields += terms[:, :fields]
            if terms.shape[1] > fields:
                of_parts[:, -1] += terms[:, fields:]
        for part, of_events, start in zip(values, self.of_events, self.starts, strict=False):
            if of_events:
                of_parts += part
            else:
                of_fields[:, start : start + part.shape[1]] += part
        return of_fields, of_parts

    @property
    def device(self) -> torch.device:
        """The network's device."""
        return next(self.network.parameters()).device

    @torch.no_grad()
    def _recorded(self, modules: Sequence[nn.Module], batch: Batch) -> list[tuple[int, Any]]:
        """The number of calls of each module for a batch, and its last output."""
        found: list[tuple[int, Any]] = [(0, None)] * len(modules)

        def keep(number: int) -> Any:
            def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
                found[number] = (found[number][0] + 1, output)

            return hook

        handles = [module.register_forward_hook(keep(number)) for number, module in enumerate(modules)]
        try:
            self.network(batch)
        finally:
            for handle in handles:
                handle.remove()
        assert all(calls <= 1 for calls, _ in found), "a reader of tables is called once a batch"
        return found

    @contextmanager
    def _replaced(self, vectors: Sequence[Tensor]) -> Iterator[None]:
        """While this is active, `readers` return these vectors for any ids."""

        def give(chosen: Tensor) -> Any:
            return lambda module, inputs, output: chosen

        handles = [
            module.register_forward_hook(give(chosen))
            for module, chosen in zip(self.readers, vectors, strict=True)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _alone(places: Tensor, value: int) -> Tensor:
    """One value in the first place of each row, and 0 in all others."""
    alone = torch.zeros_like(places)
    alone[:, 0] = value
    return alone
