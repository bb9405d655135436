"""Calibrators as modules of tensors, so that they can be part of an exported graph.

Each formula is that of the calibrator's class; `tests/serving/test_calibrators.py` holds all registered
classes to it. Numbers have 64 bits, as in the calibrators.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.arrays import Floats
from ctrkit.calibration import (
    BetaCalibration,
    Calibrator,
    DownsamplingCorrection,
    FieldAware,
    HistogramBinning,
    Identity,
    IsotonicRegression,
    OnlineRecalibration,
    PlattScaling,
    TemperatureScaling,
    VennAbers,
)
from ctrkit.calibration.base import LEAST, MARGIN
from ctrkit.errors import ConfigError

_TINY = float(np.finfo(np.float64).tiny)


class CalibratorGraph(nn.Module):
    """A fitted calibrator: what it gives for logits, as an expression of tensors.

    Raises:
        ConfigError: the calibrator's class has no module.
    """

    def __init__(self, calibrator: Calibrator) -> None:
        super().__init__()
        self.formula = formula_of(calibrator)

    def forward(self, logits: Tensor, segments: Tensor) -> Tensor:
        """Float64 logits `[n]` and int64 segments `[n]`, which most do not read, to float64 `[n]`."""
        p: Tensor = self.formula(logits, segments)
        return p.clamp(LEAST, 1 - MARGIN)


class _Formula(nn.Module):
    """Base of the formulas: constants are float64 tensors."""

    def __init__(self, **constants: Floats | float) -> None:
        super().__init__()
        for name, value in constants.items():
            self.register_buffer(name, torch.from_numpy(np.array(value, dtype=np.float64)))


class _Line(_Formula):
    slope: Tensor
    intercept: Tensor

    def forward(self, z: Tensor, segments: Tensor) -> Tensor:
        return (self.slope * z + self.intercept).sigmoid()


class _Beta(_Formula):
    a: Tensor
    b: Tensor
    c: Tensor

    def forward(self, z: Tensor, segments: Tensor) -> Tensor:
        return (self.a * F.logsigmoid(z) - self.b * F.logsigmoid(-z) + self.c).sigmoid()


class _FieldAware(_Formula):
    segments: Tensor
    slopes: Tensor
    intercepts: Tensor
    slope: Tensor
    intercept: Tensor

    def forward(self, z: Tensor, segments: Tensor) -> Tensor:
        place = _below(self.segments, segments.double(), or_equal=False).clamp(max=len(self.segments) - 1)
        known = self.segments[place] == segments
        slope = torch.where(known, self.slopes[place], self.slope)
        return (slope * z + torch.where(known, self.intercepts[place], self.intercept)).sigmoid()


class _Steps(_Formula):
    """A step function of `values [S + 1]`: the next one begins at each of `places [S]`, or behind it."""

    places: Tensor
    values: Tensor

    def __init__(self, places: Floats, values: Floats, *, or_equal: bool) -> None:
        super().__init__(places=places, values=values)
        self.or_equal = or_equal

    def forward(self, z: Tensor, segments: Tensor) -> Tensor:
        return self.values[_below(self.places, z, or_equal=self.or_equal)]


class _Curve(_Formula):
    """A curve that is linear between knots, and flat beyond them."""

    knots: Tensor
    values: Tensor
    slopes: Tensor

    def __init__(self, knots: Floats, values: Floats) -> None:
        slopes = np.append(np.diff(values) / np.diff(knots), 0.0)
        super().__init__(knots=knots, values=values, slopes=slopes)

    def forward(self, z: Tensor, segments: Tensor) -> Tensor:
        left = _below(self.knots[1:], z, or_equal=True)
        return self.values[left] + self.slopes[left] * (z - self.knots[left]).clamp(min=0.0)


class _VennAbers(nn.Module):
    def __init__(self, low: nn.Module, high: nn.Module) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, z: Tensor, segments: Tensor) -> Tensor:
        p0, p1 = self.low(z, segments), self.high(z, segments)
        answer: Tensor = p1 / (1 - p0 + p1)
        return answer


class _Recalibrated(_Formula):
    slope: Tensor
    intercept: Tensor

    def __init__(self, inner: nn.Module, line: Floats) -> None:
        super().__init__(slope=line[0], intercept=line[1])
        self.inner = inner

    def forward(self, z: Tensor, segments: Tensor) -> Tensor:
        p = self.inner(z, segments)
        log_odds: Tensor = p.log() - torch.log1p(-p)
        return (self.slope * log_odds + self.intercept).sigmoid()


@singledispatch
def formula_of(calibrator: Calibrator) -> nn.Module:
    """The module of a calibrator's class; classes register theirs.

    Raises:
        ConfigError: the class has none.
    """
    raise ConfigError(
        f"the calibrator '{calibrator.name}' cannot be part of a graph",
        hint="Calibrate with another method, or register a formula: ctrkit/serving/calibrators.py",
    )


@formula_of.register
def _(calibrator: Identity) -> nn.Module:
    return _Line(slope=1.0, intercept=0.0)


@formula_of.register
def _(calibrator: DownsamplingCorrection) -> nn.Module:
    return _Line(slope=1.0, intercept=float(np.log(calibrator.rate)))


@formula_of.register
def _(calibrator: TemperatureScaling) -> nn.Module:
    return _Line(slope=1.0 / calibrator.temperature, intercept=0.0)


@formula_of.register
def _(calibrator: PlattScaling) -> nn.Module:
    return _Line(slope=calibrator.slope, intercept=calibrator.intercept)


@formula_of.register
def _(calibrator: BetaCalibration) -> nn.Module:
    return _Beta(a=calibrator.a, b=calibrator.b, c=calibrator.c)


@formula_of.register
def _(calibrator: FieldAware) -> nn.Module:
    arrays = {name: getattr(calibrator, name) for name in ("segments", "slopes", "intercepts")}
    return _FieldAware(**arrays, slope=calibrator.line.slope, intercept=calibrator.line.intercept)


@formula_of.register
def _(calibrator: HistogramBinning) -> nn.Module:
    return _Steps(calibrator.edges, calibrator.probabilities, or_equal=False)


@formula_of.register
def _(calibrator: IsotonicRegression) -> nn.Module:
    return _Curve(calibrator.knots, calibrator.probabilities)


@formula_of.register
def _(calibrator: VennAbers) -> nn.Module:
    low, high = calibrator.low, calibrator.high
    return _VennAbers(
        _Steps(low.places, low.values, or_equal=True), _Steps(high.places, high.values, or_equal=False)
    )


@formula_of.register
def _(calibrator: OnlineRecalibration) -> nn.Module:
    return _Recalibrated(CalibratorGraph(calibrator.calibrator), calibrator.line)


def joint_logit(logits: Sequence[Tensor]) -> Tensor:
    """The logit of the probability that all tasks happen: T times `[n]` -> `[n]`."""
    log_p = torch.stack([F.logsigmoid(one) for one in logits]).sum(dim=0)
    return log_p - torch.log(-torch.expm1(log_p.clamp(max=-_TINY)))


def _below(places: Tensor, z: Tensor, *, or_equal: bool) -> Tensor:
    """How many of the rising places `[S]` are below each z, or equal to it: `[n] -> int64 [n]`.

    z is compared with all of them, as graphs have no binary search.
    """
    compared = places <= z.unsqueeze(1) if or_equal else places < z.unsqueeze(1)
    return compared.sum(dim=1)
