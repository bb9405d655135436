"""An artifact as a policy: its model scores the candidates when it is asked, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import logit

from ctrkit.api.models.model import CandidateScores, Model
from ctrkit.arrays import Floats
from ctrkit.errors import ArtifactError
from ctrkit.policies import Policy, PolicyConfig, ScoreUncertainty, ThompsonPolicy

Found = TypeVar("Found")


class LastBlock(Generic[Found]):
    """What was found for the last rows that were asked for.

    Policies and a reward model that share it share the work, where each reads a block before the next one is
    read. Nothing else is kept.
    """

    def __init__(self) -> None:
        self._kept: tuple[pl.DataFrame, pl.Series, Found] | None = None

    def of(self, context: pl.DataFrame, candidates: pl.Series, find: Callable[[], Found]) -> Found:
        """What `find` gives for the rows; at once, where they are those of the last call."""
        if self._kept is not None:
            rows, lists, found = self._kept
            # Two slices of the same rows are equal and not the same; to compare them is cheap beside a model.
            if (context is rows and candidates is lists) or (
                candidates.equals(lists) and context.equals(rows)
            ):
                return found
        found = find()
        self._kept = context, candidates, found
        return found

    def forget(self) -> None:
        """Find the next rows anew."""
        self._kept = None


class CandidateScorer:
    """A model's view of the candidates of rows, of which the last block is kept (`LastBlock`).

    Args:
        model: scores the candidates.
        file: the log's name, for messages.
    """

    def __init__(self, model: Model, file: str | None = None) -> None:
        self.model = model
        self.file = file
        self._last: LastBlock[CandidateScores] = LastBlock()
        self._keeps_hidden = False

    def __call__(self, context: pl.DataFrame, candidates: pl.Series) -> Floats:
        """The calibrated log-odds of the first task, [B, K]; the scores of a policy."""
        task = self.model.tasks[0]
        scores = self.scores(context, candidates)
        # Without a calibrator these are the same, but for probabilities that round to 0 or 1.
        return logit(scores.probabilities[task]) if task in self.model.calibrators else scores.logits

    def probabilities(self, context: pl.DataFrame, candidates: pl.Series) -> Floats:
        """The calibrated probability of the first task, [B, K], NaN at missing places."""
        return self.scores(context, candidates).probabilities[self.model.tasks[0]]

    def hidden(self, context: pl.DataFrame, candidates: pl.Series) -> NDArray[np.float32]:
        """What the first task's last layer reads, [B, K, D]."""
        # From the first time on with every block, so that a block is scored once.
        if not self._keeps_hidden:
            self._keeps_hidden = True
            self._last.forget()
        found = self.scores(context, candidates).hidden
        assert found is not None
        return found

    def scores(self, context: pl.DataFrame, candidates: pl.Series) -> CandidateScores:
        """What the model says of the rows; at once, where they are those of the last call."""
        return self._last.of(
            context,
            candidates,
            lambda: self.model.score_candidates(
                context, candidates, hidden=self._keeps_hidden, file=self.file
            ),
        )


def policy_of_model(model: Model | CandidateScorer, config: PolicyConfig | None = None) -> Policy:
    """The policy of an artifact over its scores, the calibrated log-odds of the first task.

    Thompson sampling draws from the posterior of the last layer, which is one of the logit before
    calibration. A calibrator is one rising function for all candidates, so that it changes none's chance to
    be the best; one that corrects each value of a candidate's own field apart does, and is refused.

    Args:
        model: the artifact's, or a scorer of it that several policies share.
        config: in place of the artifact's own.

    Raises:
        ArtifactError: Thompson sampling is asked for, and the artifact has no posterior, or calibrators that
            differ by candidate.
    """
    scorer = model if isinstance(model, CandidateScorer) else CandidateScorer(model)
    config = config or scorer.model.policy
    if config.name != ThompsonPolicy.name:
        return config.policy(scorer)
    own, chosen = scorer.model.calibrators.get(scorer.model.tasks[0]), scorer.model.spec.candidate
    if own is not None and chosen is not None and own.field in (chosen.id, *chosen.features):
        raise ArtifactError(
            f"the model is calibrated by '{own.field}', which differs by candidate, and the posterior that "
            "thompson draws from knows nothing of it",
            hint="Choose another policy, or calibrate with a method of the logit alone",
        )
    return config.policy(scorer, ScoreUncertainty(scorer.hidden, scorer.model.posterior))
