"""A bootstrap whose draws are a hash of the user: parts of a log read anywhere give the same replicates."""

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
# How often a row is drawn, Poisson(1), by 16 random bits: the quantile in the middle of each step.
COPIES = (
    stats.poisson.cdf(np.arange(20), 1.0).searchsorted((np.arange(2**16) + 0.5) / 2**16).astype(np.float64)
)


class PoissonBootstrap:
    """Sums of z = (1, w, f, r) in R replicates of a log, in each of which a user stands Poisson(1) times.

    Hanley and MacGibbon, Creating Non-Parametric Bootstrap Samples Using Poisson Frequencies, 2006;
    Chamandy, Muralidharan, Najmi and Naidu, Estimating Uncertainty for Massive Data Streams, Google 2012.
    A user's number in a replicate is a hash of (seed, user, replicate). So all his rows stand together
    however dependent they are, wherever they are read, and the order of rows and parts does not matter.

    Percentiles of replicates are as blind to clicks that the log might have held as a normal interval is:
    at the click rates of ads they are too short (see `benchmarks/ope_coverage.py`). Their use is for
    statistics that no other interval is made for.

    Args:
        replicates: R, rounded up to a multiple of 4.
        seed: of the hash; parts to be merged must share it.

    Attributes:
        sums: [R, 4] Σ of copies · c z, a row for each replicate.
        observed: [4] Σ c z of the log itself.
    """

    def __init__(self, replicates: int = 400, seed: int = 0) -> None:
        if replicates < 1:
            raise ConfigError(f"{replicates} replicates make no bootstrap", hint="Give 200 or more")
        self.groups = -(-replicates // DRAWS)
        self.seed = seed
        self.sums = np.zeros((self.groups * DRAWS, 4))
        self.observed = np.zeros(4)

    def update(self, weights: Floats, terms: Floats, rewards: Floats, units: Words, counts: Floats) -> None:
        """Take in rows.

        Args:
            weights, terms, rewards: [B].
            counts: [B] c, how many decisions each row stands for: drawn once it stands for c, as c rows of
                its user would.
            units: [B] keys of what is independent, the same in every part of the log (see
                `ctrkit.ope.logs.units`).
        """
        keys, index = np.unique(units, return_inverse=True)
        rows = np.stack([np.ones(len(weights)), weights, terms, rewards])
        z = np.stack([np.bincount(index, row * counts, len(keys)) for row in rows], axis=1)
        self.observed += z.sum(axis=0)
        # Two rounds, so that the hashes of neighbouring users and seeds have nothing in common.
        start = mixed(np.array([self.seed & (2**64 - 1)], dtype=np.uint64) * GOLDEN + GOLDEN)
        states = mixed(keys ^ start)
        for block in range(0, len(keys), BLOCK):
            state, of_users = states[block : block + BLOCK], z[block : block + BLOCK]
            for group in range(self.groups):
                step = np.array([group + 1], dtype=np.uint64) * GOLDEN
                copies = COPIES[mixed(state + step).astype("<u8").view("<u2")].reshape(-1, DRAWS)
                self.sums[group * DRAWS : (group + 1) * DRAWS] += copies.T @ of_users

    def merge(self, other: Self) -> None:
        """Take in what another has seen, of these or of other users.

        Raises:
            ConfigError: where the other's seed or number of replicates differ.
        """
        if (self.seed, self.groups) != (other.seed, other.groups):
            raise ConfigError(
                f"replicates of seeds {self.seed} and {other.seed}, {len(self.sums)} and {len(other.sums)} "
                "of them, do not add up",
                hint="Give both one seed and one number of replicates",
            )
        self.sums += other.sums
        self.observed += other.observed

    def replicates(self, statistic: Statistic) -> Floats:
        """The statistic of each replicate, [R].

        Args:
            statistic: from sums [..., 4] of (1, w, f, r) to [...], such as `ips` and `snips`.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(statistic(self.sums), dtype=np.float64)

    def interval(self, statistic: Statistic, confidence: float) -> ConfidenceInterval:
        """The percentile interval: Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982.

        NaN where no replicate determines the statistic.
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
    """The statistic less the logging policy's mean reward, Σ r / Σ 1, of the same rows."""
    return lambda sums: np.asarray(statistic(sums) - sums @ REWARD / sums[..., 0])
