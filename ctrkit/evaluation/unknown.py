"""Ids of the evaluated rows that the model has not seen in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class UnknownShare:
    """The share of a column's ids that are unknown to the model.

    Attributes:
        column: name of the field or sequence.
        training: the share in the training rows; None if it is not known.
        evaluated: the share in the evaluated rows.
        item: whether the ids are those of the items that a bid is for.
        advice: what to do where most ids are new.
    """

    column: str
    training: float | None
    evaluated: float
    item: bool
    advice: str

    @property
    def far_above(self) -> bool:
        """Whether the share is nearer to 1 than to the share in training."""
        return self.evaluated > (1 + (self.training or 0.0)) / 2

    def hides(self, limit: float) -> bool:
        """Whether the evaluated rows hide what the model knows about items: the share is at least `limit`,
        and far above the share in training.

        A model that was trained on rows with mostly unknown items is judged as it was trained.
        """
        return self.item and self.evaluated >= limit and self.far_above

    @property
    def sentence(self) -> str:
        """How many ids are unknown, what this means, and what to do about it."""
        before = "" if self.training is None else f" (in training {self.training:.0%})"
        return (
            f"{self.evaluated:.0%} of the ids in '{self.column}' are unknown to the model{before}, so these"
            f" rows judge it without these ids. If they are new, {self.advice}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {"column": self.column, "training": self.training, "evaluated": self.evaluated}
