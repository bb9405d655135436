"""Whether vectors (`lanes`), which reach below numba's public parts, come out right in this version of it."""

# mypy: ignore-errors

from __future__ import annotations

import numpy as np

from ctrkit.nn.kernels.common import kernel, load, normalise, project, sigmoid, softplus, store

STEPS, WIDTH = 4, 20  # more than one vector, and no whole number of them


@kernel("void(f4[:,::1], f4[:,::1], f4[:,:,::1], f4[:,::1])")
def every_part(x, norm, weights, y):
    """y = softplus(LN(x) @ weights) sigmoid(LN(x) @ weights), which takes everything of `lanes`."""
    for step in range(x.shape[0]):
        normalise(x, step, norm, 1e-5)
    project(x, weights, y, x.shape[0])
    for step in range(x.shape[0]):
        value = load(y, (step, 0))
        store(y, (step, 0), softplus(value) * sigmoid(value))


def works() -> bool:
    """Whether one kernel compiles and agrees with NumPy."""
    generator = np.random.default_rng(0)
    x, norm, weights, y = (
        np.zeros(shape, np.float32) for shape in ((STEPS, 32), (2, WIDTH), (1, 32, 16), (STEPS, 16))
    )
    x[:, :WIDTH], norm[:], weights[0, :WIDTH] = (
        generator.normal(size=shape) for shape in ((STEPS, WIDTH), (2, WIDTH), (WIDTH, 16))
    )
    own = x[:, :WIDTH]
    centred = own - own.mean(axis=1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5) * norm[0] + norm[1]
    z = normed @ weights[0, :WIDTH]
    every_part(x, norm, weights, y)
    return np.allclose(y, np.logaddexp(0, z) / (1 + np.exp(-z)), rtol=1e-4, atol=1e-5)
