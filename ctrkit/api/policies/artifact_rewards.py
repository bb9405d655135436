"""An artifact as the reward model of DM and DR."""

from __future__ import annotations

import numpy as np

from ctrkit.api.models.model import Model
from ctrkit.api.policies.artifact_policy import CandidateScorer
from ctrkit.arrays import Floats
from ctrkit.errors import DataError
from ctrkit.ope import BanditLog
from ctrkit.policies import candidate_mask


class ArtifactRewards:
    """The calibrated probability of the first task as the expected reward of every candidate.

    Args:
        model: an artifact, or a scorer that its policies share.

    Raises:
        ArtifactError: its predictions are no probabilities.
    """

    def __init__(self, model: Model | CandidateScorer) -> None:
        self.scorer = model if isinstance(model, CandidateScorer) else CandidateScorer(model)
        self.scorer.model.need_base_rate("rewards")

    def predict(self, log: BanditLog, rows: slice) -> Floats:
        """q [B, K] of the candidates of some rows; 0 at missing places.

        Raises:
            DataError: a reward is neither 0 nor 1, so that a probability does not predict it.
        """
        if not log.binary:
            row = int(np.argmin(np.isin(log.reward, (0.0, 1.0))))
            place = log.locate(row)
            raise DataError(
                f"an artifact predicts the probability of a reward of 1, and this one is {log.reward[row]:g}",
                file=place.file,
                column="reward",
                row=place.row,
                hint="Give rewards of 0 and 1, or take a reward model that is fitted on the log",
            )
        context, candidates = log.table[rows], log.candidates(rows)
        found = self.scorer.probabilities(context, candidates)
        return np.where(candidate_mask(candidates), found, 0.0)
