"""From policies to what estimators see: a weight and two predictions a row, for any number of candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ctrkit.errors import RunError
from ctrkit.ope.base import LoggedRows
from ctrkit.ope.log import BanditLog
from ctrkit.ope.moments import Floats
from ctrkit.ope.reward_model import RewardModel
from ctrkit.ope.weights import WeightTail
from ctrkit.policies import Policy, candidate_mask
from ctrkit.policies.candidates import Mask

# Candidates whose probabilities, predictions and features are in memory at a time.
BLOCK = 200_000


@dataclass(frozen=True)
class PolicyRows:
    """A policy on a log, and its mass on candidates that the logging policy never chooses, where known."""

    rows: LoggedRows
    unsupported_share: float | None


def rows_of_column(log: BanditLog, column: str) -> PolicyRows:
    """A policy of which a column holds the probability of each logged action."""
    weights = log.target_probability(column) / log.propensity
    return PolicyRows(LoggedRows(weights, log.reward, _at_least_one(weights.max()), users=log.users), None)


def rows_of_policies(
    log: BanditLog, policies: Sequence[Policy], model: RewardModel | None
) -> list[PolicyRows]:
    """Policies on a log, read once block by block.

    The largest weight to reckon with comes from the probabilities of all candidates where the logging
    policy's are known (`WeightTail`), else it is the largest seen.

    Raises:
        RunError: for a policy whose probabilities are no distribution.
    """
    n = len(log)
    weights = np.empty((len(policies), n))
    q_policy = np.empty((len(policies), n))
    q_logged = np.empty(n)
    tails = [WeightTail() for _ in policies]
    unsupported = np.zeros(len(policies))
    step = max(BLOCK // log.width, 1)
    known = False
    for start in range(0, n, step):
        block = slice(start, min(start + step, n))
        context, candidates = log.table[block], log.candidates(block)
        mask = candidate_mask(candidates)
        logged = (np.arange(len(mask)), log.action_index[block])
        logging = log.logging_probabilities(block)
        known = logging is not None
        q = model.predict(block) if model is not None else None
        if q is not None:
            q_logged[block] = q[logged]
        for place, policy in enumerate(policies):
            probabilities = policy.probabilities(context, candidates)
            _check_distribution(policy, probabilities, mask, start)
            weights[place, block] = probabilities[logged] / log.propensity[block]
            if q is not None:
                q_policy[place, block] = (probabilities * q).sum(axis=1)
            if logging is not None:
                tails[place].update(probabilities, logging)
                unsupported[place] += probabilities[logging == 0].sum()
    return [
        PolicyRows(
            LoggedRows(
                weights[place],
                log.reward,
                _at_least_one(tails[place].largest if known else weights[place].max()),
                q_logged if model is not None else None,
                q_policy[place] if model is not None else None,
                log.users,
            ),
            float(unsupported[place]) / n if known else None,
        )
        for place in range(len(policies))
    ]


def _at_least_one(weight: float) -> float:
    """Weights have mean 1, so one of at least 1 exists, seen or not."""
    return max(float(weight), 1.0)


def _check_distribution(policy: Policy, probabilities: Floats, mask: Mask, start: int) -> None:
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
