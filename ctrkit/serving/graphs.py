"""A trained model as modules of plain tensors, ready to be exported: rows in, calibrated probabilities out.

One graph scores whole rows. Where a history is read, another scores the candidates of a request against one
history; and where encoding the history is work, a third does it before, once.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ctrkit.calibration import Calibrator, EntireSpaceCalibration, Identity
from ctrkit.models.lightgbm import LightGBM
from ctrkit.models.scorer import Output, Scorer
from ctrkit.nn.batches import Batch
from ctrkit.nn.embedding_tables import known_or_unknown
from ctrkit.nn.history import HistoryState, event_mask
from ctrkit.serving.bundle import ANSWERED, CANDIDATES, LOGITS, ROWS, USER, VALUE, Interface
from ctrkit.serving.calibrators import CalibratorGraph, joint_logit

_TINY = torch.finfo(torch.float64).tiny


class DomainState(NamedTuple):
    """What the state of the histories of one domain is.

    Attributes:
        sequences: names of its sequences.
        length: the length of padded histories.
        tensors: number of tensors.
    """

    sequences: tuple[str, ...]
    length: int
    tensors: int


class CalibratedModel(nn.Module):
    """A model and what makes calibrated probabilities of its logits.

    Args:
        network: the model.
        calibrators: task -> its calibrator, of the task's logit or of the joint logit.
        fields: task -> the categorical field whose ids are the calibrator's segments.
        value_factor: the factor of expected values.

    Attributes:
        interface: what graphs of it read and give.

    Raises:
        ConfigError: a calibrator cannot be part of a graph.
    """

    def __init__(
        self,
        network: Scorer,
        calibrators: Mapping[str, Calibrator | EntireSpaceCalibration],
        fields: Mapping[str, str],
        value_factor: float = 1.0,
    ) -> None:
        super().__init__()
        self.network, self.value_factor = network.eval(), value_factor
        features = network.feature_map
        self.tasks = features.tasks
        columns = list(features.categorical)
        self.segments = [columns.index(fields[task]) if task in fields else None for task in self.tasks]
        found = [calibrators.get(task) for task in self.tasks]
        self.entire_space = [isinstance(one, EntireSpaceCalibration) for one in found]
        self.calibrators = nn.ModuleList(
            CalibratorGraph(one.calibrator if isinstance(one, EntireSpaceCalibration) else one or Identity())
            for one in found
        )
        weighted = sum(bag.weighted for bag in features.bags.values())
        changed = [place for place, one in enumerate(features.vectors.values()) if one.table is not None]
        histories = len(features.sequences) if network.reads_history else 0
        self.domains = self._domains() if histories and network.encodes_history else ()
        state = sum(domain.tensors for domain in self.domains)
        self.interface = Interface(
            static=(
                *(("categorical",) if features.categorical else ()),
                *(("numeric",) if features.numeric else ()),
                *(f"bag-{place}" for place in range(len(features.bags))),
                *(f"weights-{place}" for place in range(weighted)),
                *(f"vector-{place}" for place in range(len(features.vectors))),
                *(f"vector-rows-{place}" for place in changed),
            ),
            sequences=tuple(f"sequence-{place}" for place in range(histories)),
            state=tuple(f"state-{place}" for place in range(state)),
            outputs=(*self.tasks, *((VALUE,) if features.value else ()), LOGITS),
        )

    def answer(self, output: Output, categorical: Tensor) -> tuple[Tensor, ...]:
        """The probability `[n]` of each task given the task before it, the expected value `[n]` given the
        last task where the model has one, and the logits before calibration, `[n, T]`; all float32.

        Args:
            output: the model's output.
            categorical: ids of the rows' categorical fields, `[n, F]`.
        """
        logits = output.logits.double().unbind(dim=1)
        found, before = [], torch.ones_like(logits[0])
        for index in range(len(logits)):
            p = self._probability(index, logits[: index + 1], before, categorical)
            found.append(p)
            before = (before * p).clamp(min=_TINY)
        if output.value is not None:
            positive, mean, deviation = output.value.double().unbind(dim=1)
            found.append(self.value_factor * positive.sigmoid() * (mean + deviation**2 / 2.0).exp())
        return (*(one.float() for one in found), output.logits.float())

    def _probability(
        self, task: int, logits: Sequence[Tensor], before: Tensor, categorical: Tensor
    ) -> Tensor:
        """The probability of a task given the one before it, from the logits up to it."""
        column, whole = self.segments[task], self.entire_space[task]
        segments = torch.zeros_like(before, dtype=torch.int64)
        if column is not None:
            segments = known_or_unknown(categorical[:, column]).long()
        p: Tensor = self.calibrators[task](joint_logit(logits) if whole else logits[-1], segments)
        return (p / before).clamp(max=1.0) if whole else p

    @torch.no_grad()
    def _domains(self) -> tuple[DomainState, ...]:
        """What the state of a history is, from that of one without events."""
        features, nothing = self.network.feature_map, torch.zeros(1, 0)
        ids = {name: torch.zeros(1, features.max_length, dtype=torch.int32) for name in features.sequences}
        batch = Batch(nothing.int(), nothing, ids, nothing, nothing.flatten())
        state = self.network.encode_history(batch)
        return tuple(
            DomainState(tuple(one.ids), one.mask.shape[1], 2 + len(one.memory))
            for one in state.domains or (state,)
        )


class ServedGraph(nn.Module):
    """Base of the graphs: tensors in the order of `inputs` in, tensors in the order of `outputs` out.

    Args:
        model: the network and its calibrators.

    Attributes:
        name: name of the graph.
        inputs: names of the tensors that it reads.
        by_row: those of them with as many rows as are scored; others have one.
        outputs: names of the tensors that it gives.
    """

    name: ClassVar[str]

    def __init__(self, model: CalibratedModel) -> None:
        super().__init__()
        self.model = model
        self.inputs, self.outputs = model.interface.graphs[self.name]

    @property
    @abstractmethod
    def by_row(self) -> tuple[str, ...]: ...

    @abstractmethod
    def rows(self, tensors: Sequence[Tensor]) -> tuple[Batch, HistoryState | None]:
        """The rows that are scored, and the history that they share."""

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        batch, history = self.rows(tensors)
        return self.model.answer(self.model.network(batch, history), batch.categorical)

    def named(self, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """The inputs by their names."""
        return dict(zip(self.inputs, tensors, strict=True))

    def batch(self, tensors: Mapping[str, Tensor]) -> Batch:
        """A batch of named tensors. A part that the model does not have is `[n, 0]`."""
        features = self.model.network.feature_map
        nothing = torch.zeros(next(iter(tensors.values())).shape[0], 0)
        weighted = [name for name, bag in features.bags.items() if bag.weighted]

        def listed(kind: str, names: Iterable[str]) -> dict[str, Tensor]:
            places = ((name, f"{kind}-{place}") for place, name in enumerate(names))
            return {name: tensors[place] for name, place in places if place in tensors}

        return Batch(
            tensors.get("categorical", nothing.int()),
            tensors.get("numeric", nothing),
            listed("sequence", features.sequences),
            labels=nothing,
            weight=nothing.flatten(),
            bags=listed("bag", features.bags),
            bag_weights=listed("weights", weighted),
            vectors=listed("vector", features.vectors),
            vector_rows=listed("vector-rows", features.vectors),
        )


class RowGraph(ServedGraph):
    """Whole rows, each with its history."""

    name = ROWS

    @property
    def by_row(self) -> tuple[str, ...]:
        return self.inputs

    def rows(self, tensors: Sequence[Tensor]) -> tuple[Batch, HistoryState | None]:
        return self.batch(self.named(tensors)), None


class UserGraph(ServedGraph):
    """One history, encoded: sequences `[1, L]` in, its state out."""

    name = USER

    @property
    def by_row(self) -> tuple[str, ...]:
        return ()

    def rows(self, tensors: Sequence[Tensor]) -> tuple[Batch, HistoryState | None]:
        return self.batch(self.named(tensors)), None

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        batch, _ = self.rows(tensors)
        return state_tensors(self.model.network.encode_history(batch))


class CandidateGraph(ServedGraph):
    """K candidates against one history: their static fields, the sequences and the state."""

    name = CANDIDATES

    @property
    def by_row(self) -> tuple[str, ...]:
        return self.model.interface.static

    def rows(self, tensors: Sequence[Tensor]) -> tuple[Batch, HistoryState | None]:
        named, interface = self.named(tensors), self.model.interface
        batch = self.batch({name: named[name] for name in interface.static})
        names = self.model.network.feature_map.sequences
        ids = {name: named[tensor] for name, tensor in zip(names, interface.sequences, strict=True)}
        encoded = [named[name] for name in interface.state]
        return batch, self.history(ids, encoded) if encoded else HistoryState.of_ids(ids)

    def history(self, ids: Mapping[str, Tensor], tensors: Sequence[Tensor]) -> HistoryState:
        """The encoded histories, from their ids and the tensors of `state_tensors`."""
        found, first = [], 0
        for domain in self.model.domains:
            own = {name: ids[name][:, -domain.length :] for name in domain.sequences}
            events, states, *memory = tensors[first : first + domain.tensors]
            found.append(HistoryState(event_mask(own), events, states, tuple(memory), own))
            first += domain.tensors
        return found[0] if len(found) == 1 else replace(found[0], ids=ids, domains=tuple(found))


class ColumnGraph(nn.Module):
    """What boosted trees read of the rows of a graph, `[n, C]`, and the rows' ids, for calibrators.

    Args:
        graph: the graph.
    """

    def __init__(self, graph: ServedGraph) -> None:
        super().__init__()
        self.of, self.inputs, self.by_row = graph, graph.inputs, graph.by_row
        self.outputs: tuple[str, ...] = ("columns", "ids")

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        trees, (batch, history) = self.of.model.network, self.of.rows(tensors)
        assert isinstance(trees, LightGBM)
        columns = trees.read(batch, batch.sequences if history is None else history.ids)
        return columns, batch.categorical


class AnswerGraph(nn.Module):
    """The calibrators alone, for logits `[n, T]` that a library has computed, and the rows' ids."""

    def __init__(self, model: CalibratedModel) -> None:
        super().__init__()
        self.inputs: tuple[str, ...] = ANSWERED
        self.model, self.by_row, self.outputs = model, self.inputs, model.interface.outputs

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        logits, ids = tensors
        return self.model.answer(Output(logits, logits[:, :0]), ids)


def state_tensors(state: HistoryState) -> tuple[Tensor, ...]:
    """What an encoded history is in each domain, but for its ids and its mask, which follow from them."""
    return tuple(
        tensor
        for domain in state.domains or (state,)
        for tensor in (domain.events, domain.states, *domain.memory)
    )


# Graph -> its module.
GRAPHS: Mapping[str, type[ServedGraph]] = {one.name: one for one in (RowGraph, UserGraph, CandidateGraph)}
