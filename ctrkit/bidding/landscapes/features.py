"""A landscape that differs by auction: location and shape from features, linear or by a small network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit, logit

from ctrkit.arrays import Floats
from ctrkit.bidding.landscapes.base import arrays_in, arrays_of
from ctrkit.bidding.landscapes.bounds import PriceBounds
from ctrkit.bidding.landscapes.likelihood import fit_market, row_likelihood
from ctrkit.bidding.landscapes.parametric import Gamma, LogLogistic, LogNormal, SmoothLandscape
from ctrkit.errors import ArtifactError, ConfigError, DataError
from ctrkit.metrics.checks import finite_floats

MOST_ITERATIONS = 1000
# By the name in a state.
_FAMILIES: Final[dict[str, type[SmoothLandscape]]] = {
    one.name: one for one in (LogNormal, LogLogistic, Gamma)
}


@dataclass(frozen=True)
class FeatureLandscape:
    """F(b | x): a smooth landscape whose location, and if asked also log_shape, is a function of features x.

    Both are linear in φ(x) = (1, x, tanh(W (x, 1))), with x standardised and H hidden units, none by default.

    Attributes:
        family: of the landscape.
        mean, scale: of the features in the data, [D].
        location, log_shape: coefficients of φ, [1 + D + H].
        hidden: W, [H, D + 1].
        zero: the share of prices that are 0, alike for all.
    """

    family: type[SmoothLandscape]
    mean: Floats
    scale: Floats
    location: Floats
    log_shape: Floats
    hidden: Floats
    zero: float

    name: ClassVar[str] = "features"

    @classmethod
    def fit(
        cls,
        features: ArrayLike,
        bounds: PriceBounds,
        *,
        family: type[SmoothLandscape] = LogNormal,
        hidden_units: int = 0,
        shape_by_features: bool = False,
        penalty: float = 1.0,
        seed: int = 0,
    ) -> Self:
        """By penalised censored maximum likelihood with L-BFGS; a network starts from the linear fit.

        Args:
            features: [n, D].
            bounds: of the same n auctions.
            penalty: half of it times the square of each coefficient but the intercepts is taken off the
                log-likelihood of all rows: the precision of a normal prior on standardised features.
            seed: of the hidden units.

        Raises:
            DataError: shapes differ, or no landscape could be fitted even without features.
            ConfigError: a negative number of units or penalty.
        """
        x = finite_floats(features, "features")
        if x.ndim != 2 or len(x) != len(bounds):
            raise DataError(f"the shape is {x.shape}, and {len(bounds)} rows are needed", column="features")
        if hidden_units < 0 or not penalty >= 0:
            raise ConfigError("hidden_units and penalty are at least 0")
        middle, log_shape, zero, _ = fit_market(family, bounds)
        mean = np.average(x, axis=0, weights=bounds.weight)
        scale = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=bounds.weight))
        scale[scale == 0] = 1.0
        width = 1 + x.shape[1]
        found = cls(
            family, mean, scale, middle * _first(width), log_shape * _first(width), np.empty((0, width)), zero
        )._climbed(x, bounds, shape_by_features, penalty)
        if not hidden_units:
            return found
        start = cls(
            family, mean, scale,
            np.append(found.location, np.zeros(hidden_units)),
            np.append(found.log_shape, np.zeros(hidden_units)),
            np.random.default_rng(seed).normal(0, 1 / np.sqrt(width), (hidden_units, width)),
            found.zero,
        )  # fmt: skip
        return start._climbed(x, bounds, shape_by_features, penalty)

    def at(self, features: ArrayLike) -> SmoothLandscape:
        """The landscapes of n auctions with features [n, D], as one whose bids and worths are [n]."""
        x = finite_floats(features, "features")
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise DataError(f"the shape is {x.shape}, and [n, {len(self.mean)}] is needed", column="features")
        basis = self._basis(self._standardised(x), self.hidden)
        return self.family(basis @ self.location, basis @ self.log_shape, self.zero)

    def state(self) -> dict[str, Any]:
        """The names of the kind and its family, and plain arrays by name."""
        return {"name": self.name, "family": self.family.name, **arrays_of(self)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The inverse of `state`.

        Raises:
            ArtifactError: the state is of another kind or family, or lacks a part.
        """
        parts = arrays_in(state, cls, but=("family",))
        if (family := _FAMILIES.get(str(state.get("family")))) is None:
            raise ArtifactError(f"the state of a {cls.name} landscape has the family {state.get('family')!r}")
        return cls(family, **parts)

    def _standardised(self, x: Floats) -> Floats:
        """(x, 1), [n, D + 1]."""
        return np.column_stack([(x - self.mean) / self.scale, np.ones(len(x))])

    @staticmethod
    def _basis(z: Floats, hidden: Floats) -> Floats:
        """φ, [n, 1 + D + H], from (x, 1)."""
        return np.column_stack([z[:, -1], z[:, :-1], np.tanh(z @ hidden.T)])

    def _climbed(self, x: Floats, bounds: PriceBounds, shape_by_features: bool, penalty: float) -> Self:
        """From here to the nearest maximum of the penalised likelihood."""
        z, total = self._standardised(x), bounds.weight.sum()
        weight, units = bounds.weight / total, len(self.hidden)
        width = len(self.location)
        start = np.concatenate(
            [self.location, self.log_shape, self.hidden.ravel(), [logit(self.zero) if self.zero else 0.0]]
        )
        free, shrunk = np.ones(len(start)), np.full(len(start), penalty / total)
        free[width + 1 : 2 * width] = shape_by_features
        free[-1] = self.zero > 0
        shrunk[[0, width, -1]] = 0.0

        def loss(theta: Floats) -> tuple[float, Floats]:
            location, log_shape, hidden = theta[:width], theta[width : 2 * width], theta[2 * width : -1]
            basis = self._basis(z, hidden.reshape(self.hidden.shape))
            rows = row_likelihood(
                self.family, bounds, basis @ location, basis @ log_shape, theta[-1] if self.zero else None
            )
            by_location, by_shape = weight * rows.by_location, weight * rows.by_log_shape
            tanh = basis[:, width - units :]  # of no columns without hidden units
            by_unit = np.outer(by_location, location[width - units :])
            by_unit += np.outer(by_shape, log_shape[width - units :])
            slopes = [
                basis.T @ by_location, basis.T @ by_shape,
                ((by_unit * (1 - tanh**2)).T @ z).ravel(), [weight @ rows.by_zero],
            ]  # fmt: skip
            value = weight @ rows.value - shrunk @ theta**2 / 2
            return -float(value), free * (shrunk * theta - np.concatenate(slopes))

        options: Any = {"maxiter": MOST_ITERATIONS, "ftol": 1e-12, "gtol": 1e-7}
        found = np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x)
        return type(self)(
            self.family, self.mean, self.scale, found[:width], found[width : 2 * width],
            found[2 * width : -1].reshape(self.hidden.shape), float(expit(found[-1])) if self.zero else 0.0,
        )  # fmt: skip


def _first(width: int) -> Floats:
    return np.asarray(np.eye(1, width)[0])
