"""Policies to compare with: the logging policy itself, and one action always."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import polars as pl

from ctrkit.arrays import Floats
from ctrkit.errors import DataError
from ctrkit.policies.base import Policy
from ctrkit.policies.candidates import candidate_mask, padded

LOGGED = "logging_probabilities"


class LoggingPolicy(Policy):
    """What the log's own policy did: its value is the mean of the logged rewards, and every weight is 1."""

    name: ClassVar[str] = "logging"

    def probabilities(self, context: pl.DataFrame, candidates: pl.Series) -> Floats:
        """The probability of choosing each candidate, [B, K] (see `Policy`).

        Raises:
            DataError: the log does not hold the logging policy's probabilities of all candidates.
        """
        if LOGGED not in context.columns:
            raise DataError(
                "the logging policy's probabilities of the candidates are not in the log",
                column=LOGGED,
                hint="Log them as a list column, or leave this policy out",
            )
        logged = padded(context[LOGGED], fill=0.0)
        # Written with a few digits, they sum to almost 1.
        return np.asarray(logged / logged.sum(axis=1, keepdims=True))


class FixedPolicy(Policy):
    """Always the same action: what each arm of an experiment does.

    Args:
        action: its id.
    """

    name: ClassVar[str] = "fixed"

    def __init__(self, action: str | int) -> None:
        self.action = action

    def probabilities(self, context: pl.DataFrame, candidates: pl.Series) -> Floats:
        """The probability of choosing each candidate, [B, K] (see `Policy`).

        Raises:
            DataError: a row does not have the action among its candidates.
        """
        mask = candidate_mask(candidates)
        chosen = np.zeros(mask.shape)
        chosen[mask] = (candidates.explode().cast(pl.String) == str(self.action)).to_numpy()
        missing = np.flatnonzero(chosen.sum(axis=1) != 1)
        if missing.size:
            raise DataError(
                f"action {self.action!r} is not among the candidates",
                column="candidates",
                row=int(missing[0]),
                hint="Name an action that every row could choose",
            )
        return chosen
