"""Calibrators from logits to probabilities, and the choice of a calibrator.

A calibrator is fitted on rows that the model was not trained on, and saves itself as plain arrays. It keeps
the order of the logits (within a segment, if it uses segments). A new calibrator is a subclass of
`Calibrator` in a file of its own in this folder: the registry, `choose` and the contract tests find it.
"""

from importlib import import_module
from pkgutil import iter_modules

# The order of these imports is the registry's: from the simplest to the most flexible, and then all others.
# isort: off
from ctrkit.calibration.base import (
    CALIBRATORS,
    CalibrationWarning,
    Calibrator,
    Identity,
    CalibratorState,
    calibrator_from_state,
    logits_of,
)
from ctrkit.calibration.downsampling import DownsamplingCorrection
from ctrkit.calibration.temperature import TemperatureScaling
from ctrkit.calibration.platt import PlattScaling
from ctrkit.calibration.beta import BetaCalibration
from ctrkit.calibration.field_aware import FieldAware
from ctrkit.calibration.histogram import HistogramBinning
from ctrkit.calibration.isotonic import BinnedIsotonic, IsotonicRegression
from ctrkit.calibration.venn_abers import VennAbers
from ctrkit.calibration.online import OnlineRecalibration, Update
from ctrkit.calibration.entire_space import EntireSpaceCalibration, joint_logits
from ctrkit.calibration.choose import CalibratorChoice, MethodScore, choose, spoils_pcoc
from ctrkit.calibration.ranking import ranking_key, told_apart
from ctrkit.calibration.summary import CalibrationSummary, assess
from ctrkit.calibration.value import ValueScaling
# isort: on

for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)

__all__ = [
    "CALIBRATORS",
    "BetaCalibration",
    "BinnedIsotonic",
    "CalibrationSummary",
    "CalibrationWarning",
    "Calibrator",
    "CalibratorChoice",
    "CalibratorState",
    "DownsamplingCorrection",
    "EntireSpaceCalibration",
    "FieldAware",
    "HistogramBinning",
    "Identity",
    "IsotonicRegression",
    "MethodScore",
    "OnlineRecalibration",
    "PlattScaling",
    "TemperatureScaling",
    "Update",
    "ValueScaling",
    "VennAbers",
    "assess",
    "calibrator_from_state",
    "choose",
    "joint_logits",
    "logits_of",
    "ranking_key",
    "spoils_pcoc",
    "told_apart",
]
