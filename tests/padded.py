"""Histories from padded lists, as tests write them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ctrkit.data.histories import Histories


def histories(lists: NDArray[np.int32]) -> Histories:
    """Histories of lists [n, L] with padding to the left of the events."""
    known = np.logical_or.accumulate(lists != 0, axis=1)
    return Histories.of_lists(lists[known], known.sum(axis=1), lists.shape[1])
