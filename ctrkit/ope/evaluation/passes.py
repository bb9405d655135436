"""The two passes over a log: a look at the whole, on which models are fitted, and the evaluation itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.errors import DataError
from ctrkit.ope.estimators.rows import Models, RewardPredictor, evaluated_rows
from ctrkit.ope.evaluation.engine import OnRows
from ctrkit.ope.evaluation.parts import LogPart
from ctrkit.ope.evaluation.plan import Plan
from ctrkit.ope.evaluation.policy_sums import EvaluationSums
from ctrkit.ope.logs.bandit_log import BanditLog
from ctrkit.ope.logs.sample import with_all_actions
from ctrkit.ope.logs.survey import LogFacts, Survey
from ctrkit.ope.models.density_ratio import DensityRatio
from ctrkit.ope.models.reward_features import context_columns
from ctrkit.ope.models.reward_model import RewardModel, mrdr_weights
from ctrkit.policies import Policy

# Rows that models are fitted on, at most.
MODEL_ROWS = 1_000_000


@dataclass(frozen=True)
class FirstPass:
    """The first pass over a part: facts, and rows to fit models on.

    Attributes:
        most: rows to fit on; 0 for none.
        narrow: whether of the candidates only the logged one is needed for that.
        named: columns that models are told to read.
        columns: that are read; None: all.
        reward_range: that no reward may leave.
    """

    most: int
    seed: int
    narrow: bool
    named: Collection[str]
    columns: Collection[str] | None
    reward_range: tuple[float, float] | None

    def __call__(self, part: LogPart, on_rows: OnRows) -> Survey:
        survey = Survey(self.most, self.seed, self.narrow, self.named)
        for log in part.batches(self.columns):
            if self.reward_range is not None:
                check_rewards(log, self.reward_range)
            survey.update(log)
            on_rows(survey.facts.rows)
        return survey


@dataclass(frozen=True)
class SecondPass:
    """The second pass over a part: policies and models on its rows.

    Attributes:
        columns: that are read; None: all.
    """

    plan: Plan
    policies: Sequence[Policy | str]
    models: Models
    facts: LogFacts
    columns: Collection[str] | None

    def __call__(self, part: LogPart, on_rows: OnRows) -> EvaluationSums:
        sums = EvaluationSums(self.plan)
        done = 0
        for log in part.batches(self.columns):
            whole = with_all_actions(log, self.facts.actions)

            def on_block(
                place: int, block: slice, *found: Any, log: BanditLog = whole, before: int = done
            ) -> None:
                sums.others[place].update_block(log, block, *found)
                on_rows(before + block.stop)

            rows = evaluated_rows(whole, self.policies, self.models, self.plan.columns, on_block)
            sums.update(whole, rows)
            done += len(log)
        return sums


@dataclass(frozen=True)
class ModelSettings:
    """How models are fitted on a log.

    Attributes:
        reward: a name of `learners.LEARNERS`, or a model that needs no fitting.
        columns: what they read; None: see `reward_features.context_columns`.
        excluded: columns that they do not read unless `columns` names them.
        folds: number of folds of the cross-fitting.
        seed: seed of the folds and of what models draw.
    """

    reward: str | RewardPredictor = "trees"
    columns: Sequence[str] | None = None
    folds: int = 3
    seed: int = 0
    excluded: tuple[str, ...] = ()

    def fit(
        self, sample: BanditLog | None, policies: Sequence[Policy | str], views: Collection[str]
    ) -> Models:
        """What the estimators of some views need.

        Args:
            sample: rows to fit on; None where nothing has to be fitted.
            views: `reward model` and what `ctrkit.ope.estimators.base.View` names.
        """
        if sample is not None and self.columns is None:
            columns = context_columns(sample, self.excluded)
            return replace(self, columns=columns).fit(sample, policies, views)
        kind = self.reward if isinstance(self.reward, str) else "trees"
        reward = None
        if "reward model" in views:
            reward = self.reward if not isinstance(self.reward, str) else self._reward_model(sample, kind)
        return Models(
            reward,
            [self._more_robust(sample, one, kind) for one in policies] if "more robust" in views else (),
            [self._balanced(sample, one, kind) for one in policies] if "balanced" in views else (),
        )

    def _reward_model(
        self, sample: BanditLog | None, kind: str, weights: Floats | None = None
    ) -> RewardModel:
        assert sample is not None
        return RewardModel.fit(sample, self.columns, self.folds, self.seed, kind, weights)

    def _more_robust(self, sample: BanditLog | None, policy: Policy | str, kind: str) -> RewardModel | None:
        if not isinstance(policy, Policy):
            return None
        assert sample is not None
        weights = evaluated_rows(sample, [policy], Models()).policies[0].weights
        return self._reward_model(sample, kind, mrdr_weights(weights * sample.propensity, sample.propensity))

    def _balanced(self, sample: BanditLog | None, policy: Policy | str, kind: str) -> DensityRatio | None:
        if not isinstance(policy, Policy):
            return None
        assert sample is not None

        def probabilities(log: BanditLog, rows: slice) -> Floats:
            return policy.probabilities(log.table[rows], log.candidates(rows))

        # Both policies choose by context and candidate together, which a line does not know.
        return DensityRatio.fit(sample, probabilities, self.columns, self.folds, self.seed, "trees")


def check_rewards(log: BanditLog, reward_range: tuple[float, float]) -> None:
    """Refuse rewards outside a range.

    Raises:
        DataError: names the first such row.
    """
    low, high = reward_range
    wrong = np.flatnonzero((log.reward < low) | (log.reward > high))
    if wrong.size:
        place = log.locate(int(wrong[0]))
        raise DataError(
            f"{log.reward[wrong[0]]:g} is outside the reward range from {low:g} to {high:g}",
            file=place.file,
            column="reward",
            row=place.row,
            hint="Widen the range or correct the reward",
        )
