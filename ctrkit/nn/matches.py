"""Matches: how often, and how lately, a target stands in a history."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ctrkit.data.feature_map import PADDING_ID, UNKNOWN_ID, FeatureMap

# Initial decays: all events count, the newest five or so, the newest one or two, the newest alone.
DECAYS = (0.0, 0.2, 0.7, 3.0)


class Matches(nn.Module):
    """Decayed counts of the events that equal the target: log(1 + Σ_l exp(-λ_j age_l) [event_l = target]).

    Each sequence that shares the table of a target field has such counts, for four learned decays λ_j. Ages
    count from the newest event, which has age 0. Values that training did not see still match themselves, as
    their negative ids keep their identity. Missing values match nothing.

    Args:
        feature_map: sequences and fields.

    Attributes:
        outputs: number of counts.
    """

    def __init__(self, feature_map: FeatureMap) -> None:
        super().__init__()
        self.pairs = twins(feature_map)
        self.outputs = len(self.pairs) * len(DECAYS)
        self.decays = nn.Parameter(torch.tensor([DECAYS] * len(self.pairs)))

    def forward(self, sequences: Mapping[str, Tensor], targets: Tensor) -> Tensor:
        """The counts, `[U * K, outputs]`.

        Args:
            sequences: sequence -> int32 ids `[U, L]`.
            targets: int32 ids of the fields of U * K targets, `[U * K, F]`, K targets for each history.
        """
        counts, histories = [], len(next(iter(sequences.values())))
        candidates = len(targets) // max(histories, 1)
        for (sequence, field), decays in zip(self.pairs.items(), self.decays, strict=True):
            events = sequences[sequence]
            target = targets[:, field].reshape(len(events), candidates)
            matches = matches_of(events, target).to(decays.dtype)
            ages = torch.arange(events.shape[1] - 1, -1, -1, device=events.device, dtype=decays.dtype)
            weights = torch.exp(-decays.clamp(min=0.0) * ages.unsqueeze(1))  # [L, J]
            counts.append(torch.log1p(matches @ weights))
        return torch.cat(counts, dim=2).flatten(0, 1)


def matches_of(events: Tensor, targets: Tensor) -> Tensor:
    """Which events equal a target, by their ids `[U, L]` and `[U, K]`: bool `[U, K, L]`."""
    target = targets.unsqueeze(2)
    return (events.unsqueeze(1) == target) & (target != PADDING_ID) & (target != UNKNOWN_ID)


def twins(feature_map: FeatureMap) -> dict[str, int]:
    """The sequences that share the table of a target field -> position of that categorical field."""
    fields = {
        table: position
        for position, (name, table) in reversed(list(enumerate(feature_map.categorical.items())))
        if name in feature_map.target or not feature_map.target
    }
    return {name: fields[table] for name, table in feature_map.sequences.items() if table in fields}
