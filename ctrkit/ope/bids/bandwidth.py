"""The bandwidth of a kernel, fixed before any reward is looked at."""

from __future__ import annotations

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.ope.bids.kernels import kernel_of

# Of Silverman's 0.9. A density is best told where the bias is half of the standard error; an interval that
# leaves the bias out needs it far below, and at half the bandwidth the bias is a quarter.
SCALE = 0.45


def rule_of_thumb(actions: Floats, counts: Floats, kernel: str) -> float:
    """0.45 min(σ, IQR / 1.349) n^(-1/5) over the kernel's deviation; 0 where half of the actions are alike.

    Half of the bandwidth of Silverman, Density Estimation for Statistics and Data Analysis, 1986, (3.31): it
    reads the logged actions and how many there are, and no reward, so that intervals hold as if it had been
    given.

    Args:
        actions: [N].
        counts: [N] how many decisions each row stands for; n are the rows.
        kernel: a name of `KERNELS`, which all smooth as much with this bandwidth.

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
