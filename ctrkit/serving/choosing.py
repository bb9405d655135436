"""Chooses one candidate of a scored request by a policy, so that the choice can be drawn again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import polars as pl

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError

# Probabilities of 0 and 1 have no finite log-odds.
_SMALLEST = 1e-15


@dataclass(frozen=True)
class Choice:
    """A choice among K candidates.

    Attributes:
        index: place of the chosen candidate.
        probabilities: the probability with which each candidate is chosen, [K].
    """

    index: int
    probabilities: Floats

    @property
    def propensity(self) -> float:
        """The probability with which the chosen candidate was chosen."""
        return float(self.probabilities[self.index])


def seed_of(request_id: str) -> int:
    """The seed of what is drawn for a request: the same one if the request is sent again."""
    return int.from_bytes(blake2b(request_id.encode(), digest_size=8).digest())


class Chooser:
    """Chooses by a policy over the calibrated log-odds of the first task, as `ctrkit ope` does.

    Args:
        probabilities: from the scores of K candidates to the probabilities of choosing them, both [K].
    """

    def __init__(self, probabilities: Callable[[Floats], Floats]) -> None:
        self._probabilities = probabilities

    @classmethod
    def of(cls, line: str) -> Chooser:
        """The chooser of a policy.

        Args:
            line: `NAME:key=value,...` of `ctrkit.policies.POLICIES`.

        Raises:
            ConfigError: there is no such policy, a setting is wrong, or the policy draws from the posterior
                of a network.
        """
        from ctrkit.policies import POLICIES  # takes long to import

        config = POLICIES.read(line)
        if config.needs_belief:
            raise ConfigError(
                f"the policy '{config.name}' draws from the posterior of a network, which no export has",
                hint="Take softmax, epsilon-greedy, uniform or greedy",
            )

        def probabilities(scores: Floats) -> Floats:
            policy = config.policy(lambda context, candidates: scores[None])
            found = policy.probabilities(pl.DataFrame(), pl.Series([range(scores.size)]))
            return np.asarray(found[0])

        return cls(probabilities)

    def choose(self, request_id: str, probability: Floats) -> Choice:
        """The choice of a request. The same id and the same probabilities give the same choice.

        Args:
            request_id: its hash is the seed of the draw.
            probability: the calibrated probability of the first task for each candidate, [K].
        """
        inside = np.clip(probability, _SMALLEST, 1 - _SMALLEST)
        chances = self._probabilities(np.log(inside) - np.log1p(-inside))
        sums = np.cumsum(chances)
        drawn = np.random.default_rng(seed_of(request_id)).random()
        index = int(np.searchsorted(sums, drawn * sums[-1], side="right"))
        # A product that is rounded up to the whole sum would lie behind the last candidate.
        return Choice(min(index, int(np.flatnonzero(chances)[-1])), chances)
