"""What estimators see of a batch of a log and policies: weights and predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import polars as pl

from ctrkit.arrays import Booleans, Floats
from ctrkit.errors import DataError, RunError
from ctrkit.hashing import Words
from ctrkit.ope.estimators.base import LoggedRows, View
from ctrkit.ope.estimators.truth import Truth, true_rewards
from ctrkit.ope.estimators.weights import WeightTail
from ctrkit.ope.logs.bandit_log import BanditLog
from ctrkit.policies import Policy, candidate_mask

# Candidates whose probabilities, predictions and features are in memory at the same time.
BLOCK = 200_000


# (policy, rows, probabilities [B, K], the logging policy's, q of the logged action, q under the policy)
OnBlock: TypeAlias = Callable[[int, slice, Floats, Floats | None, Floats | None, Floats | None], None]


class RewardPredictor(Protocol):
    """Predicts the reward of every candidate."""

    def predict(self, log: BanditLog, rows: slice) -> Floats:
        """Predictions q [B, K] for the candidates of some rows, 0 where there is no candidate."""
        ...


class WeightModel(Protocol):
    """Gives weights without propensities."""

    def weights(self, log: BanditLog) -> Floats:
        """Weights [N] for the policy that the model was fitted for."""
        ...


@dataclass(frozen=True)
class Models:
    """The models, fitted or given, for the evaluation of P policies.

    `more_robust` and `balanced` are empty where no estimator needs them; they have None for a policy without
    probabilities of all candidates.

    Attributes:
        reward: the reward model; None where no estimator needs one.
        more_robust: by policy, the reward models of MRDR.
        balanced: by policy, the models of the weights.
    """

    reward: RewardPredictor | None = None
    more_robust: Sequence[RewardPredictor | None] = ()
    balanced: Sequence[WeightModel | None] = ()


@dataclass
class PolicyColumns:
    """One policy on B rows.

    Attributes:
        weights: [B] the policy's probability of the logged action over the logging policy's.
        tail: the tail of the weights of all candidates, where both policies' probabilities are known.
        unsupported: [B] the policy's probability of candidates that the logging policy never chooses; None
            where either policy's probabilities of the candidates are unknown.
        q_policy: [B] mean prediction under the policy.
        more_robust: predictions of MRDR's model, [B] each: for the logged action, and the mean under the
            policy.
        balanced: [B] weights of the density ratio.
    """

    weights: Floats
    tail: WeightTail = field(default_factory=WeightTail)
    unsupported: Floats | None = None
    q_policy: Floats | None = None
    more_robust: tuple[Floats, Floats] | None = None
    balanced: Floats | None = None


@dataclass(frozen=True)
class EvaluatedRows:
    """B rows of a log with the weights and predictions of P policies.

    Attributes:
        rewards: [B] the logged rewards.
        units: [B] keys of users or rows (see `BanditLog`).
        counts: [B] how many decisions each row stands for.
        q_logged: [B] the reward model's prediction for the logged action.
        policies: the columns of each policy.
        truth: sums of the policies' true values.
        table: [B] the action, and all other columns that the statistics read.
    """

    rewards: Floats
    units: Words
    counts: Floats
    q_logged: Floats | None
    policies: tuple[PolicyColumns, ...]
    truth: Truth
    table: pl.DataFrame

    def logged(self, policy: int, view: View = "plain", *, clustered: bool = False) -> LoggedRows | None:
        """The rows as an estimator of one policy sees them; None where the policy has no such view.

        The largest weight is that of these rows; the largest possible one is only known at the end.

        Args:
            policy: index of the policy.
            view: which weights and predictions.
            clustered: whether rows with the same unit, such as a user, belong together.
        """
        one = self.policies[policy]
        weights, q_logged, q_policy = one.weights, self.q_logged, one.q_policy
        if view == "balanced":
            if one.balanced is None:
                return None
            weights = one.balanced
        elif view == "more robust":
            if one.more_robust is None:
                return None
            q_logged, q_policy = one.more_robust
        largest = max(float(weights.max(initial=0.0)), 1.0)
        return LoggedRows(
            weights,
            self.rewards,
            largest,
            q_logged,
            q_policy,
            self.units if clustered else None,
            self.units,
            one.unsupported,
            counts=self.counts,
        )

    def logging(self, *, clustered: bool = False) -> LoggedRows:
        """The rows as an estimator of the logging policy sees them."""
        users = self.units if clustered else None
        return LoggedRows.of_logging(self.rewards, counts=self.counts, users=users, units=self.units)


def evaluated_rows(
    log: BanditLog,
    policies: Sequence[Policy | str],
    models: Models,
    kept: Sequence[str] = ("action",),
    on_block: OnBlock = lambda place, block, probabilities, logging, q_logged, q_policy: None,
) -> EvaluatedRows:
    """Evaluate policies on a batch of a log, block by block.

    Args:
        log: the batch.
        policies: policies, or names of columns with a policy's probability of the logged action.
        models: the models whose predictions and weights are needed.
        kept: columns for `EvaluatedRows.table`; those that the log does not have are left out.
        on_block: called with each policy's probabilities of the candidates.

    Raises:
        DataError: a column is invalid.
        RunError: a policy's probabilities do not sum to 1.
    """
    n = len(log)
    truth = Truth(len(policies))
    columns = []
    supported = "logging_probabilities" in log.table.columns
    for place, policy in enumerate(policies):
        if isinstance(policy, Policy):
            columns.append(_empty(n, models, place, supported))
        else:
            columns.append(PolicyColumns(log.target_probability(policy) / log.propensity))
            truth.expected[place] = np.nan
    modelled = [(place, policy) for place, policy in enumerate(policies) if isinstance(policy, Policy)]
    q_logged = np.empty(n) if models.reward is not None and modelled else None
    step = max(BLOCK // log.width, 1)
    for start in range(0, n if modelled else 0, step):
        block = slice(start, min(start + step, n))
        context, candidates, counts = log.table[block], log.candidates(block), log.counts[block]
        mask = candidate_mask(candidates)
        chosen = (np.arange(len(mask)), log.action_index[block])
        logging = log.logging_probabilities(block)
        expected = true_rewards(context)
        if expected is not None:
            truth.update(expected, log.action_index[block], log.reward[block], counts)
        q = models.reward.predict(log, block) if models.reward is not None else None
        if q is not None and q_logged is not None:
            q_logged[block] = q[chosen]
        for place, policy in modelled:
            with _placed(log, start):
                probabilities = policy.probabilities(context, candidates)
            _check_distribution(policy, probabilities, mask, start)
            one = columns[place]
            one.weights[block] = probabilities[chosen] / log.propensity[block]
            if q is not None and one.q_policy is not None:
                one.q_policy[block] = (probabilities * q).sum(axis=1)
            if one.more_robust is not None:
                robust = models.more_robust[place]
                assert robust is not None
                better = robust.predict(log, block)
                one.more_robust[0][block] = better[chosen]
                one.more_robust[1][block] = (probabilities * better).sum(axis=1)
            if logging is not None:
                one.tail.update(probabilities, logging, counts)
                if one.unsupported is not None:
                    one.unsupported[block] = np.where(logging == 0, probabilities, 0.0).sum(axis=1)
            if expected is not None:
                truth.expected[place] += float(counts @ (probabilities * expected).sum(axis=1))
            mean = None if one.q_policy is None else one.q_policy[block]
            on_block(
                place, block, probabilities, logging, None if q_logged is None else q_logged[block], mean
            )
    for place, model in enumerate(models.balanced):
        if model is not None:
            columns[place].balanced = model.weights(log)
    table = log.table.select(name for name in kept if name in log.table.columns)
    return EvaluatedRows(log.reward, log.units, log.counts, q_logged, tuple(columns), truth, table)


@contextmanager
def _placed(log: BanditLog, start: int) -> Iterator[None]:
    """Errors of a block name file and row as the log does."""
    try:
        yield
    except DataError as error:
        if error.row is None or error.file is not None:
            raise
        file, row = log.locate(start + error.row)
        raise DataError(error.problem, file=file, column=error.column, row=row, hint=error.hint) from None


def _empty(rows: int, models: Models, place: int, supported: bool) -> PolicyColumns:
    robust = bool(models.more_robust) and models.more_robust[place] is not None
    return PolicyColumns(
        np.empty(rows),
        unsupported=np.empty(rows) if supported else None,
        q_policy=np.empty(rows) if models.reward is not None else None,
        more_robust=(np.empty(rows), np.empty(rows)) if robust else None,
    )


def _check_distribution(policy: Policy, probabilities: Floats, mask: Booleans, start: int) -> None:
    if probabilities.shape != mask.shape:
        raise RunError(
            f"policy {policy.name}: probabilities of shape {probabilities.shape} for candidates {mask.shape}"
        )
    # A NaN fails every comparison, so that what is asked is whether all is well.
    well = np.where(mask, probabilities >= 0, probabilities == 0).all(axis=1)
    well &= np.abs(probabilities.sum(axis=1) - 1) <= 1e-6
    if not well.all():
        row = start + int(np.argmin(well))
        raise RunError(f"policy {policy.name}: the probabilities of row {row} are no distribution")
