"""Weights of a local quadratic fit, which correct continuous actions for smoothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import integrate

from ctrkit.arrays import Floats
from ctrkit.ope.bids.kernels import KERNELS

# Number of points at which a kernel is integrated, and the share of its mass that must be in the range.
_GRID = 8001
_LEAST_MASS = 0.25


@dataclass(frozen=True)
class LocalKernel:
    """K*(u) = K(u) (c_0 + c_1 u + c_2 u²) for each of B rows, cut to the part of the support in the range.

    c is such that ∫ K* = 1, ∫ u K* = 0 and ∫ u² K* = 0. These are the weights of a local quadratic fit (Fan
    and Gijbels, Local Polynomial Modelling and Its Applications, 1996, section 3.2.2). A kernel that is not
    cut has order 4 and a bias of the order of h⁴ instead of h². At the ends of the range the bias is of the
    order of h³ instead of h. K* is negative in parts, so it is not the density of any policy.

    Attributes:
        kernel: a name of `KERNELS`.
        ends: [2, B] ends of the support, in bandwidths from the policy's action.
        coefficients: [3, B] c; 0 for a row if too little of the kernel is in the range.
    """

    kernel: str
    ends: Floats
    coefficients: Floats

    def __call__(self, u: Floats) -> Floats:
        """K* at distances [B, ...], in bandwidths."""
        shape = (-1, *[1] * (u.ndim - 1))
        constant, linear, square = (one.reshape(shape) for one in self.coefficients)
        inside = (u >= self.ends[0].reshape(shape)) & (u <= self.ends[1].reshape(shape))
        return np.where(inside, KERNELS[self.kernel].density(u) * (constant + u * (linear + u * square)), 0.0)

    def nodes(self, count: int) -> Floats:
        """[B, count] distances: the midpoints of `count` equal parts of the support."""
        part = (np.arange(count) + 0.5) / count
        return np.asarray(self.ends[0][:, None] + part * (self.ends[1] - self.ends[0])[:, None])


def local_kernel(
    kernel: str, policy: Floats, bandwidth: float, action_range: tuple[float, float] | None
) -> LocalKernel:
    """The kernel around each row's action [B]; without a range it is not cut."""
    support = KERNELS[kernel].support
    low, high = action_range or (-np.inf, np.inf)
    ends = np.clip(np.stack([(low - policy) / bandwidth, (high - policy) / bandwidth]), -support, support)
    grid, sums = _partial_moments(kernel)
    moments = np.stack([np.interp(ends[1], grid, one) - np.interp(ends[0], grid, one) for one in sums])
    matrix = moments[np.add.outer(np.arange(3), np.arange(3))].transpose(2, 0, 1)
    enough = moments[0] > _LEAST_MASS
    coefficients = np.zeros((len(policy), 3))
    if enough.any():
        first = np.broadcast_to(np.array([[1.0], [0.0], [0.0]]), (int(enough.sum()), 3, 1))
        coefficients[enough] = np.linalg.solve(matrix[enough], first)[:, :, 0]
    return LocalKernel(kernel, ends, coefficients.T)


@lru_cache(maxsize=len(KERNELS))
def _partial_moments(kernel: str) -> tuple[Floats, Floats]:
    """A grid over the support, and ∫ u^j K up to each of its points, j = 0 to 4."""
    grid = np.linspace(-KERNELS[kernel].support, KERNELS[kernel].support, _GRID)
    powers = grid ** np.arange(5)[:, None] * KERNELS[kernel].density(grid)
    sums = integrate.cumulative_simpson(powers, x=grid, initial=0.0)
    return grid, np.asarray(sums / sums[0, -1])
