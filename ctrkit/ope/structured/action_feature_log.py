"""Features that actions share, told by a log's columns: MIPS and OffCEM in named estimates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from ctrkit.arrays import Floats, Integers
from ctrkit.errors import DataError, nearest
from ctrkit.ope.estimators.base import Estimate
from ctrkit.ope.logs.bandit_log import BanditLog
from ctrkit.ope.structured.action_features import (
    FeatureRows,
    MarginalizedInversePropensityScoring,
    OffCEM,
    SelfNormalizedMarginalized,
)
from ctrkit.policies.candidates import candidate_mask
from ctrkit.schema import CANDIDATE_PREFIX

# What each estimator takes for granted, for tables.
MEANING: Mapping[str, str] = {
    "mips": "the action acts on the reward through this feature alone",
    "snmips": "as mips, self-normalised",
    "offcem": "the reward model is right about how actions of one feature differ",
}


class FeatureEstimators:
    """Estimates a policy's value by the weights of a feature of the actions, such as category or advertiser.

    The log holds the feature of every candidate in the list `candidate_<feature>`.

    Args:
        feature: its name, with or without `candidate_`.
        reward_range: the least and the largest reward; without it intervals are normal ones.
    """

    def __init__(self, feature: str, reward_range: tuple[float, float] | None = None) -> None:
        self.feature = feature.removeprefix(CANDIDATE_PREFIX)
        self.estimators: tuple[MarginalizedInversePropensityScoring, ...] = (
            MarginalizedInversePropensityScoring(reward_range),
            SelfNormalizedMarginalized(reward_range),
            OffCEM(reward_range),
        )
        self.modelled = True

    def update(
        self,
        log: BanditLog,
        rows: slice,
        policy: Floats,
        logging: Floats,
        q_logged: Floats | None = None,
        q_policy: Floats | None = None,
    ) -> None:
        """Take in some rows, B, of a batch, all blocks of it in turn.

        Args:
            policy, logging: [B, K] both policies' probabilities of the candidates; 0 where there is none.
            q_logged, q_policy: [B] of a reward model, for OffCEM (see `FeatureRows`).

        Raises:
            DataError: for a feature that the log does not have, or not of every candidate, and a logged
                feature that the logging policy never shows.
        """
        codes = self._codes(log, rows)
        rewards, action, counts = log.reward[rows], log.action_index[rows], log.counts[rows]
        users = log.units[rows] if log.clustered else None
        made = FeatureRows.of_features(
            rewards, policy, logging, codes, action, q_logged, q_policy, users, counts=counts
        )
        # The features' weights and their tail are those of all the estimators.
        found = self.estimators[0].convert(made)
        self.modelled &= found.q_policy is not None
        for estimator in self.estimators:
            if self.modelled or not isinstance(estimator, OffCEM):
                estimator.estimator.update(found)

    def merge(self, other: FeatureEstimators) -> None:
        """Take in what another with the same settings has seen, of these or of other users."""
        for mine, theirs in zip(self.estimators, other.estimators, strict=True):
            mine.merge(theirs)
        self.modelled &= other.modelled

    def result(self, confidence: float = 0.95) -> tuple[Estimate, ...]:
        """MIPS, its self-normalised form, and OffCEM where all rows had a model's predictions."""
        first = self.estimators[0]
        for estimator in self.estimators:
            estimator.tail, estimator.largest_seen = first.tail, first.largest_seen
        return tuple(
            estimator.result(confidence)
            for estimator in self.estimators
            if self.modelled or not isinstance(estimator, OffCEM)
        )

    def _codes(self, log: BanditLog, rows: slice) -> Integers:
        """[B, K] codes from 0 of the candidates' features, in each row its own; any where there is none."""
        candidates = log.candidates(rows)
        mask = candidate_mask(candidates)
        name = f"{CANDIDATE_PREFIX}{self.feature}"
        if log.actions is not None or not isinstance(log.table.schema.get(name), pl.List):
            raise _missing(log, name)
        flat = log.table[name][rows].explode()
        if flat.null_count():
            at = int(flat.is_null().arg_max() or 0)
            lengths = mask.sum(axis=1)
            row = int(np.searchsorted(np.cumsum(lengths), at, side="right"))
            file, place = log.locate((rows.start or 0) + row)
            raise DataError(
                f"candidate {candidates.explode()[at]!r} has no {self.feature}",
                file=file,
                column=name,
                row=place,
                hint="Give the feature of every candidate",
            )
        codes = np.full(mask.shape, -1, dtype=np.int64)
        codes[mask] = flat.rank("dense").to_numpy()
        # Row by row, so that rows of few candidates need few places, however many values there are in all.
        order = np.argsort(codes, axis=1)
        sorted_codes = np.take_along_axis(codes, order, axis=1)
        steps = np.diff(sorted_codes, axis=1, prepend=sorted_codes[:, :1]) != 0
        np.put_along_axis(codes, order, steps.cumsum(axis=1), axis=1)
        return codes


def _missing(log: BanditLog, name: str) -> DataError:
    return DataError(
        "the log has no such feature of the actions",
        file=log.file,
        column=name,
        hint=nearest(name, log.table.columns),
    )
