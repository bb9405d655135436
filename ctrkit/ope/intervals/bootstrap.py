"""A bootstrap that draws by a hash of the user: replicates do not depend on where a log's parts are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self, TypeAlias

import numpy as np
from scipy import stats

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError
from ctrkit.hashing import GOLDEN, Words, mixed
from ctrkit.ope.intervals.interval import ConfidenceInterval
from ctrkit.ope.intervals.moments import REWARD, TERM, WEIGHT

Statistic: TypeAlias = Callable[[Floats], Floats]

METHOD = "Poisson bootstrap"
BLOCK = 32_768
# One 64-bit hash holds the draws of four replicates.
DRAWS = 4
# Number of draws of a row, Poisson(1), for each value of 16 random bits: the quantile at the step's middle.
COPIES = (
    stats.poisson.cdf(np.arange(20), 1.0).searchsorted((np.arange(2**16) + 0.5) / 2**16).astype(np.float64)
)


class PoissonBootstrap:
    """Sums of z = (1, w, f, r) in R replicates of a log; each replicate has every user Poisson(1) times.

    Hanley and MacGibbon, Creating Non-Parametric Bootstrap Samples Using Poisson Frequencies, 2006; Chamandy,
    Muralidharan, Najmi and Naidu, Estimating Uncertainty for Massive Data Streams, Google 2012. The number of
    times is a hash of (seed, user, replicate). So all rows of a user are drawn together, wherever they are
    read, and the order of rows and parts does not matter.

    Percentile intervals, like normal ones, ignore clicks that the log could have had but did not: at the
    click rates of ads they are too short (see `benchmarks/ope_coverage.py`). Use them for statistics that
    have no other interval.

    Args:
        replicates: R, number of replicates, rounded up to a multiple of 4.
        seed: seed of the hash; parts that are merged must have the same.

    Attributes:
        sums: [R, 4] Σ copies · c z for each replicate.
        observed: [4] Σ c z of the log itself.
    """

    def __init__(self, replicates: int = 400, seed: int = 0) -> None:
        if replicates < 1:
            raise ConfigError(
                f"a bootstrap needs at least 1 replicate, not {replicates}", hint="Give 200 or more"
            )
        self.groups = -(-replicates // DRAWS)
        self.seed = seed
        self.sums = np.zeros((self.groups * DRAWS, 4))
        self.observed = np.zeros(4)

    def update(self, weights: Floats, terms: Floats, rewards: Floats, units: Words, counts: Floats) -> None:
        """Add rows.

        Args:
            weights: [B] w, the importance weights.
            terms: [B] f, the estimator's terms.
            rewards: [B] r.
            units: [B] keys of the independent units, the same in every part of the log (see
                `ctrkit.ope.logs.units`).
            counts: [B] c, number of decisions that each row stands for. A row drawn once counts as c.
        """
        keys, index = np.unique(units, return_inverse=True)
        rows = np.stack([np.ones(len(weights)), weights, terms, rewards])
        z = np.stack([np.bincount(index, row * counts, len(keys)) for row in rows], axis=1)
        self.observed += z.sum(axis=0)
        # Two rounds, so that the hashes of neighbouring users and seeds are independent.
        start = mixed(np.array([self.seed & (2**64 - 1)], dtype=np.uint64) * GOLDEN + GOLDEN)
        states = mixed(keys ^ start)
        for block in range(0, len(keys), BLOCK):
            state, of_users = states[block : block + BLOCK], z[block : block + BLOCK]
            for group in range(self.groups):
                step = np.array([group + 1], dtype=np.uint64) * GOLDEN
                copies = COPIES[mixed(state + step).astype("<u8").view("<u2")].reshape(-1, DRAWS)
                self.sums[group * DRAWS : (group + 1) * DRAWS] += copies.T @ of_users

    def merge(self, other: Self) -> None:
        """Add the rows of another bootstrap, of the same or of other users.

        Raises:
            ConfigError: the other has another seed or number of replicates.
        """
        if (self.seed, self.groups) != (other.seed, other.groups):
            raise ConfigError(
                f"a bootstrap of seed {self.seed} and {len(self.sums)} replicates cannot be merged with "
                f"one of seed {other.seed} and {len(other.sums)}",
                hint="Give both the same seed and number of replicates",
            )
        self.sums += other.sums
        self.observed += other.observed

    def replicates(self, statistic: Statistic) -> Floats:
        """The statistic of each replicate, [R].

        Args:
            statistic: a function from sums [..., 4] of (1, w, f, r) to values [...], such as `ips` or
                `snips`.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(statistic(self.sums), dtype=np.float64)

    def interval(self, statistic: Statistic, confidence: float) -> ConfidenceInterval:
        """The percentile interval; NaN where no replicate has a finite statistic.

        Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982.
        """
        found = self.replicates(statistic)
        found = found[np.isfinite(found)]
        if not found.size:
            return ConfidenceInterval(np.nan, np.nan, METHOD)
        tail = (1 - confidence) / 2
        low, high = np.quantile(found, [tail, 1 - tail])
        return ConfidenceInterval(float(low), float(high), METHOD)


def ips(sums: Floats) -> Floats:
    """Σ f / Σ 1."""
    return np.asarray(sums @ TERM / sums[..., 0])


def snips(sums: Floats) -> Floats:
    """Σ f / Σ w."""
    return np.asarray(sums @ TERM / (sums @ WEIGHT))


def difference_to_logging(statistic: Statistic) -> Statistic:
    """The statistic minus the logging policy's mean reward on the same rows, Σ r / Σ 1."""
    return lambda sums: np.asarray(statistic(sums) - sums @ REWARD / sums[..., 0])
