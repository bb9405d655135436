"""A fixed grid for numbers from 0 on: 128 equal steps in each factor of two, found without a logarithm."""

from __future__ import annotations

import numpy as np

from ctrkit.arrays import Floats, Integers

# The exponent of a float and the first 7 bits of its mantissa give its step.
_SHIFT = 52 - 7
_LOWEST, _HIGHEST = -30, 40
_BEFORE = ((1023 + _LOWEST) << 7) - 1
# Step 0 is from 0 to 2^-30, the last one all from 2^40 on; one between is at most 1/128 of its start wide.
STEPS = ((_HIGHEST - _LOWEST) << 7) + 2
GREATEST = 2.0**_HIGHEST


def steps(values: Floats) -> Integers:
    """The index of the step of each value; values of any shape, none below 0."""
    bits = np.ascontiguousarray(values, dtype=np.float64).view(np.int64)
    return np.asarray(np.clip((bits >> _SHIFT) - _BEFORE, 0, STEPS - 1))


def lower_edges(numbers: Integers) -> Floats:
    """The smallest value of each step; that of index `STEPS` is infinite."""
    bits = (np.asarray(numbers, dtype=np.int64) + _BEFORE) << _SHIFT
    return np.where(numbers > 0, np.where(numbers < STEPS, bits.view(np.float64), np.inf), 0.0)
