"""Estimates by a feature of the actions, from the columns of a log: MIPS and OffCEM."""

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

# What each estimator assumes, for tables.
MEANING: Mapping[str, str] = {
    "mips": "the action affects the reward only through this feature",
    "snmips": "as mips, self-normalised",
    "offcem": "the reward model is right about differences between actions with the same feature",
}


class FeatureEstimators:
    """Estimates a policy's value with weights of a feature of the actions, such as category or advertiser.

    The log holds the feature of every candidate in the list `candidate_<feature>`.

    Args:
        feature: the name of the feature, with or without `candidate_`.
        reward_range: the smallest and the largest reward; without it intervals are normal.
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
        """Take in B rows of a batch.

        Args:
            log: the batch.
            rows: which rows of the batch.
            policy: [B, K] the policy's probabilities of the candidates; 0 where there is no candidate.
            logging: [B, K] the logging policy's probabilities of the candidates.
            q_logged: [B] a reward model's prediction for the logged action, for OffCEM.
            q_policy: [B] the mean of the predictions under the policy, for OffCEM.

        Raises:
            DataError: the log does not have the feature, or not for every candidate, or a logged feature has
                probability 0 under the logging policy.
        """
        codes = self._codes(log, rows)
        rewards, action, counts = log.reward[rows], log.action_index[rows], log.counts[rows]
        users = log.units[rows] if log.clustered else None
        made = FeatureRows.of_features(
            rewards, policy, logging, codes, action, q_logged, q_policy, users, counts=counts
        )
        # All estimators share the weights of the features and their tail.
        found = self.estimators[0].convert(made)
        self.modelled &= found.q_policy is not None
        for estimator in self.estimators:
            if self.modelled or not isinstance(estimator, OffCEM):
                estimator.estimator.update(found)

    def merge(self, other: FeatureEstimators) -> None:
        """Merge the rows of another with the same settings, of the same or of other users."""
        for mine, theirs in zip(self.estimators, other.estimators, strict=True):
            mine.merge(theirs)
        self.modelled &= other.modelled

    def result(self, confidence: float = 0.95) -> tuple[Estimate, ...]:
        """MIPS, self-normalised MIPS, and OffCEM if all rows had predictions of a model."""
        first = self.estimators[0]
        for estimator in self.estimators:
            estimator.tail, estimator.largest_seen = first.tail, first.largest_seen
        return tuple(
            estimator.result(confidence)
            for estimator in self.estimators
            if self.modelled or not isinstance(estimator, OffCEM)
        )

    def _codes(self, log: BanditLog, rows: slice) -> Integers:
        """[B, K] codes of the candidates' features, from 0 in each row; arbitrary at missing places."""
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
        # Codes are per row, so that rows with few candidates need few codes.
        order = np.argsort(codes, axis=1)
        sorted_codes = np.take_along_axis(codes, order, axis=1)
        steps = np.diff(sorted_codes, axis=1, prepend=sorted_codes[:, :1]) != 0
        np.put_along_axis(codes, order, steps.cumsum(axis=1), axis=1)
        return codes


def _missing(log: BanditLog, name: str) -> DataError:
    return DataError(
        "the log does not have this feature of the actions",
        file=log.file,
        column=name,
        hint=nearest(name, log.table.columns),
    )
