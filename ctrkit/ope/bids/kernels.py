"""Kernels of one variable: a density around 0, and its distribution function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError, nearest


@dataclass(frozen=True)
class Kernel:
    """A symmetric density K with integral 1, for u = distance / bandwidth.

    Wand and Jones, Kernel Smoothing, 1995.

    Attributes:
        density: K(u).
        distribution: ∫ K from -∞ to u.
        deviation: standard deviation of the density.
        support: K is 0, or nearly 0, beyond ± this value.
    """

    density: Callable[[Floats], Floats]
    distribution: Callable[[Floats], Floats]
    deviation: float
    support: float = 1.0


def _gaussian(u: Floats) -> Floats:
    return np.asarray(np.exp(-0.5 * u * u) / np.sqrt(2 * np.pi))


def _gaussian_distribution(u: Floats) -> Floats:
    return np.asarray(special.ndtr(u))


def _epanechnikov(u: Floats) -> Floats:
    return np.where(np.abs(u) < 1, 0.75 * (1 - u * u), 0.0)


def _epanechnikov_distribution(u: Floats) -> Floats:
    u = np.clip(u, -1, 1)
    return np.asarray(0.5 + 0.75 * u - 0.25 * u**3)


def _triangular(u: Floats) -> Floats:
    return np.asarray(np.maximum(1 - np.abs(u), 0.0))


def _triangular_distribution(u: Floats) -> Floats:
    u = np.clip(u, -1, 1)
    return np.asarray(0.5 + u - 0.5 * u * np.abs(u))


def _cosine(u: Floats) -> Floats:
    return np.where(np.abs(u) < 1, np.pi / 4 * np.cos(np.pi / 2 * np.clip(u, -1, 1)), 0.0)


def _cosine_distribution(u: Floats) -> Floats:
    return np.asarray(0.5 + 0.5 * np.sin(np.pi / 2 * np.clip(u, -1, 1)))


KERNELS: Mapping[str, Kernel] = {
    "gaussian": Kernel(_gaussian, _gaussian_distribution, 1.0, 6.0),
    "epanechnikov": Kernel(_epanechnikov, _epanechnikov_distribution, 5**-0.5),
    "triangular": Kernel(_triangular, _triangular_distribution, 6**-0.5),
    "cosine": Kernel(_cosine, _cosine_distribution, (1 - 8 / np.pi**2) ** 0.5),
}


def kernel_of(name: str) -> Kernel:
    """A kernel by its name.

    Raises:
        ConfigError: there is no such kernel.
    """
    if name not in KERNELS:
        raise ConfigError(f"there is no kernel '{name}'", hint=nearest(name, KERNELS))
    return KERNELS[name]
