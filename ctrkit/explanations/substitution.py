"""A network as a differentiable function of embedding vectors and numbers, instead of ids.

Ids have no gradient, so attributions use their embeddings. Every `FeatureEmbedding` of a network (the common
one, and those of first-order weights) reads its tables through `field_columns` and `sequence_columns`; the
outputs of these modules can be recorded and replaced.
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
from ctrkit.data.encoder import EncodedTable
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
        vectors: for each module that reads tables, one vector per column, `[C, d]`.
    """

    vectors: tuple[Tensor, ...]


class Substituted(nn.Module):
    """A task's logit as a function of numbers and vectors in place of ids.

    Attributes:
        network: the network, in evaluation mode.
        readers: the modules that read tables, whose outputs are replaced.
        of_events: for each of these modules, whether it reads sequences.
    """

    def __init__(self, network: CtrModel, task: int, example: Batch) -> None:
        super().__init__()
        self.network, self.task = network.eval(), task
        embeddings = [module for module in network.modules() if isinstance(module, FeatureEmbedding)]
        fields = [module.field_columns for module in embeddings]
        events = [module.sequence_columns for module in embeddings]
        # Some modules are not used, for example the sequences of a model without a behaviour branch.
        called = [calls for calls, _ in self._recorded([*fields, *events], example)]
        known = [(module, number >= len(fields)) for number, module in enumerate([*fields, *events])]
        used = [pair for pair, calls in zip(known, called, strict=True) if calls]
        self.readers: list[nn.Module] = [module for module, _ in used]
        self.of_events = [of_events for _, of_events in used]
        self.names = tuple(example.sequences)

    def vectors(self, batch: Batch) -> list[Tensor]:
        """The outputs of `readers` for a batch: `[B, C, d]` for fields, `[B, L, S, d]` for sequences."""
        return [vectors for _, vectors in self._recorded(self.readers, batch)]

    def forward(self, *tensors: Tensor) -> Tensor:
        """The logit, `[B]`.

        Args:
            tensors: numbers `[B, N]`, the vectors of `readers`, then the ids as in the batch: categorical ids
                and each sequence. Only the padding of the ids is used.
        """
        numeric, *rest = tensors
        vectors, (categorical, *sequences) = rest[: len(self.readers)], rest[len(self.readers) :]
        nothing = numeric.new_zeros(len(numeric), 0)
        batch = Batch(
            categorical, numeric, dict(zip(self.names, sequences, strict=True)), nothing, nothing[:, 0:0]
        )
        with self._replaced(vectors):
            logits: Tensor = self.network(batch).logits[:, self.task]
        # captum needs a gradient for the numbers even if there are none.
        return logits if numeric.shape[1] else logits + numeric.sum()

    def baseline(self, name: BaselineName, data: EncodedTable) -> Baseline:
        """The baseline vector of every column.

        "mean" is the mean vector of a column over the rows given (for a sequence, over all their events).
        "unknown" is the vector of the out-of-vocabulary id. It is well trained only if unknown values are
        frequent in training; if every value has its own id, this vector is noise.
        """
        if name == "unknown":
            batch = Batch.of(data, slice(0, 1))
            unknown = Batch(
                torch.full_like(batch.categorical, UNKNOWN_ID),
                batch.numeric,
                {n: torch.full_like(ids, UNKNOWN_ID) for n, ids in batch.sequences.items()},
                batch.labels,
                batch.weight,
            )
            return Baseline(
                tuple(
                    vectors[0, -1] if of_events else vectors[0]
                    for vectors, of_events in zip(
                        self.vectors(unknown.to(self.device)), self.of_events, strict=True
                    )
                )
            )
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
        return Baseline(tuple(means))

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

        Numbers are 0, their mean in training. There is a mean event wherever the row has an event, so that
        the length of a history has no share.
        """
        found = [torch.zeros_like(batch.numeric)]
        for vectors, of_events in zip(baseline.vectors, self.of_events, strict=True):
            if of_events:
                found.append(vectors * self._present(batch).unsqueeze(3))
            else:
                found.append(vectors.expand(len(batch), -1, -1).clone())
        return found

    def end(self, batch: Batch) -> list[Tensor]:
        """The inputs of `forward` for a batch, without its ids."""
        return [batch.numeric, *self.vectors(batch)]

    @staticmethod
    def ids(batch: Batch) -> tuple[Tensor, ...]:
        """The ids, the last inputs of `forward`."""
        return (batch.categorical, *batch.sequences.values())

    def by_unit(self, parts: Sequence[Tensor], fields: int, length: int) -> tuple[Floats, Floats]:
        """Attributions of fields and events, from those of the tensors of `end`.

        Returns:
            Attributions of the static fields, `[B, F]`, and of the parts of events, `[B, L, S]`.
        """
        numeric, *vectors = [part.detach().double().cpu().numpy() for part in parts]
        of_fields = np.zeros((len(numeric), fields))
        of_fields[:, fields - numeric.shape[1] :] = numeric
        of_parts = np.zeros((len(numeric), length, len(self.names)))
        for part, of_events in zip(vectors, self.of_events, strict=True):
            if of_events:
                of_parts += part.sum(axis=3)
            else:
                of_fields[:, : part.shape[1]] += part.sum(axis=2)
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
