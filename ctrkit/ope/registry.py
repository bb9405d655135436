"""Estimators by the names of the command line."""

from __future__ import annotations

from collections.abc import Mapping

from ctrkit.ope.base import Estimator
from ctrkit.ope.doubly_robust import DirectMethod, DoublyRobust
from ctrkit.ope.importance import InversePropensityScoring, SelfNormalizedInversePropensityScoring

ESTIMATORS: Mapping[str, type[Estimator]] = {
    estimator.name: estimator
    for estimator in (
        InversePropensityScoring,
        SelfNormalizedInversePropensityScoring,
        DirectMethod,
        DoublyRobust,
    )
}
