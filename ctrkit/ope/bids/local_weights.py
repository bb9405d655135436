"""Weights of a policy of continuous actions from which smoothing is taken out: those of a local quadratic."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import integrate

from ctrkit.arrays import Floats
from ctrkit.ope.bids.kernels import KERNELS

# Points at which a kernel is integrated, and the share of its mass below which nothing is told.
_GRID = 8001
_LEAST_MASS = 0.25


@dataclass(frozen=True)
class LocalKernel:
    """K*(u) = K(u) (c_0 + c_1 u + c_2 u²) for each of B rows, cut to the part of the support in the range.

    c is such that ∫ K* = 1, ∫ u K* = 0 and ∫ u² K* = 0: what a local quadratic fit gives the actions around
    one (Fan and Gijbels, Local Polynomial Modelling and Its Applications, 1996, section 3.2.2). Where nothing
    is cut off this is a kernel of order 4, whose bias is of the order of h⁴ in place of h², and at the ends
    of the range the bias is of the order of h³ in place of h. It is below 0 in places, so it is no policy's.

    Attributes:
        kernel: a name of `KERNELS`.
        ends: [2, B] of the support, in bandwidths from the policy's action.
        coefficients: [3, B]; 0 for a row of which too little of the kernel lies in the range.
    """

    kernel: str
    ends: Floats
    coefficients: Floats

    def __call__(self, u: Floats) -> Floats:
        """K* of distances [B, ...] in bandwidths."""
        shape = (-1, *[1] * (u.ndim - 1))
        constant, linear, square = (one.reshape(shape) for one in self.coefficients)
        inside = (u >= self.ends[0].reshape(shape)) & (u <= self.ends[1].reshape(shape))
        return np.where(inside, KERNELS[self.kernel].density(u) * (constant + u * (linear + u * square)), 0.0)

    def nodes(self, count: int) -> Floats:
        """[B, count] distances from one end of the support to the other, the middles of equal parts."""
        part = (np.arange(count) + 0.5) / count
        return np.asarray(self.ends[0][:, None] + part * (self.ends[1] - self.ends[0])[:, None])


def local_kernel(
    kernel: str, policy: Floats, bandwidth: float, action_range: tuple[float, float] | None
) -> LocalKernel:
    """That of each row's action [B]; without a range nothing is cut off."""
    support = KERNELS[kernel].support
    low, high = action_range or (-np.inf, np.inf)
    ends = np.clip(np.stack([(low - policy) / bandwidth, (high - policy) / bandwidth]), -support, support)
    grid, sums = _partial_moments(kernel)
    moments = np.stack([np.interp(ends[1], grid, one) - np.interp(ends[0], grid, one) for one in sums])
    matrix = moments[np.add.outer(np.arange(3), np.arange(3))].transpose(2, 0, 1)
    told = moments[0] > _LEAST_MASS
    coefficients = np.zeros((len(policy), 3))
    if told.any():
        first = np.broadcast_to(np.array([[1.0], [0.0], [0.0]]), (int(told.sum()), 3, 1))
        coefficients[told] = np.linalg.solve(matrix[told], first)[:, :, 0]
    return LocalKernel(kernel, ends, coefficients.T)


@lru_cache(maxsize=len(KERNELS))
def _partial_moments(kernel: str) -> tuple[Floats, Floats]:
    """A grid over the support, and ∫ u^j K up to each of its points, j = 0 to 4."""
    grid = np.linspace(-KERNELS[kernel].support, KERNELS[kernel].support, _GRID)
    powers = grid ** np.arange(5)[:, None] * KERNELS[kernel].density(grid)
    sums = integrate.cumulative_simpson(powers, x=grid, initial=0.0)
    return grid, np.asarray(sums / sums[0, -1])
