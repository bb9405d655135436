"""From logits to probabilities that come true, and which of the ways to take.

A calibrator is fitted on rows that the model was not trained on, maps logits to probabilities without ever
changing their order, and saves itself as plain arrays. A new one is a subclass of `Calibrator` in a file of
its own, imported here: the registry, `choose` and the contract tests find it.
"""

# The order of these imports is the registry's: from the simplest to the most flexible.
# isort: off
from ctrkit.calibration.base import (
    CALIBRATORS,
    CalibrationWarning,
    Calibrator,
    Identity,
    State,
    calibrator_from_state,
)
from ctrkit.calibration.temperature import TemperatureScaling
from ctrkit.calibration.platt import PlattScaling
from ctrkit.calibration.isotonic import IsotonicRegression
from ctrkit.calibration.choose import Choice, MethodScore, choose
from ctrkit.calibration.summary import CalibrationSummary, assess
# isort: on

__all__ = [
    "CALIBRATORS",
    "CalibrationSummary",
    "CalibrationWarning",
    "Calibrator",
    "Choice",
    "Identity",
    "IsotonicRegression",
    "MethodScore",
    "PlattScaling",
    "State",
    "TemperatureScaling",
    "assess",
    "calibrator_from_state",
    "choose",
]
