"""The bandwidth of a kernel, chosen without reading any reward."""

from __future__ import annotations

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.ope.bids.kernels import kernel_of

# Half of Silverman's 0.9, which is best for a density: there the bias is half of the standard error. An
# interval ignores the bias, so it needs a smaller one; half the bandwidth has a quarter of the bias.
SCALE = 0.45


def rule_of_thumb(actions: Floats, counts: Floats, kernel: str) -> float:
    """0.45 min(σ, IQR / 1.349) n^(-1/5) / (the kernel's deviation); 0 where half of the actions are equal.

    This is half of the bandwidth of Silverman, Density Estimation for Statistics and Data Analysis, 1986,
    (3.31). It depends on the logged actions and their number, but on no reward, so intervals are as valid as
    with a given bandwidth.

    Args:
        actions: [N] the logged actions.
        counts: [N] number of decisions that each row stands for; n is the number of rows.
        kernel: a name of `KERNELS`. All kernels smooth equally with their bandwidths.

    Raises:
        ConfigError: there is no such kernel.
    """
    order = np.argsort(actions, kind="stable")
    share = (np.cumsum(counts[order]) - counts[order] / 2) / counts.sum()
    low, high = np.interp((0.25, 0.75), share, actions[order])
    mean = np.average(actions, weights=counts)
    deviation = float(np.sqrt(np.average((actions - mean) ** 2, weights=counts)))
    spread = min(deviation, float(high - low) / 1.349)
    return float(SCALE * spread * len(actions) ** -0.2 / kernel_of(kernel).deviation)
