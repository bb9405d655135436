"""Estimators with clipped or otherwise shrunk weights, each with its default strength."""

from __future__ import annotations

from typing import ClassVar

from ctrkit.ope.estimators.base import register
from ctrkit.ope.estimators.shrinkage import Clip, Harmonic, Optimistic, Shrinkage, Switch
from ctrkit.ope.estimators.shrunk_weights import ShrunkDoublyRobust, ShrunkInversePropensityScoring


@register
class ClippedInversePropensityScoring(ShrunkInversePropensityScoring):
    """mean(min(w, λ) r), by default λ = 10.

    Ionides, Truncated Importance Sampling, 2008; Bottou et al., Counterfactual Reasoning and Learning
    Systems, JMLR 2013, section 4, which bounds the bias by the weight lost as `bias` does.
    """

    name: ClassVar[str] = "clipped-ips"
    shrinkage: ClassVar[type[Shrinkage]] = Clip
    default: ClassVar[float] = 10.0


@register
class SubGaussianInversePropensityScoring(ShrunkInversePropensityScoring):
    """mean(w / (1 - λ + λ w) · r), by default λ = 0.1, so that weights stay below 10; see `Harmonic`."""

    name: ClassVar[str] = "sg-ips"
    biased: ClassVar[bool] = True
    shrinkage: ClassVar[type[Shrinkage]] = Harmonic
    default: ClassVar[float] = 0.1


@register
class SwitchDoublyRobust(ShrunkDoublyRobust):
    """Doubly robust where w <= τ, the reward model alone where not; by default τ = 10; see `Switch`."""

    name: ClassVar[str] = "switch-dr"
    shrinkage: ClassVar[type[Shrinkage]] = Switch
    parameter: ClassVar[str] = "tau"
    default: ClassVar[float] = 10.0


@register
class OptimisticDoublyRobust(ShrunkDoublyRobust):
    """Doubly robust with weights λ w / (w² + λ); see `Optimistic`.

    By default λ = 100, which keeps half of a weight of 10, where `SwitchDoublyRobust` drops them.
    """

    name: ClassVar[str] = "dr-os"
    shrinkage: ClassVar[type[Shrinkage]] = Optimistic
    default: ClassVar[float] = 100.0


@register
class PessimisticDoublyRobust(ShrunkDoublyRobust):
    """Doubly robust with weights min(w, λ), by default λ = 10; see `Clip`."""

    name: ClassVar[str] = "dr-ps"
    shrinkage: ClassVar[type[Shrinkage]] = Clip
    default: ClassVar[float] = 10.0


@register
class SubGaussianDoublyRobust(ShrunkDoublyRobust):
    """Doubly robust with weights w / (1 - λ + λ w), by default λ = 0.1; see `Harmonic`."""

    name: ClassVar[str] = "sg-dr"
    shrinkage: ClassVar[type[Shrinkage]] = Harmonic
    default: ClassVar[float] = 0.1
