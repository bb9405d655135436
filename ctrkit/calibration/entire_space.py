"""Calibration of p(conversion) over all impressions, not only over clicked ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats
from ctrkit.calibration.base import Calibrator, CalibratorState, logits_of, nested_calibrator, nested_state
from ctrkit.calibration.platt import PlattScaling
from ctrkit.errors import ArtifactError, DataError
from ctrkit.metrics.checks import finite_floats, unit_interval


class EntireSpaceCalibration:
    """p(click and conversion) calibrated on every impression, and p(conversion | click) that agrees with it.

    A bid needs p(click) · p(conversion | click) of an impression before the click. Calibrating the second
    factor on clicked rows alone is biased for this use, in two ways. First, clicked rows are a selection:
    they are the rows that the logit, and everything the model does not know, made likely to be clicked. What
    is right on average over clicks is not right on average over impressions (the sample selection bias of Ma
    et al. 2018, ESMM). Second, two calibrated factors need not have a calibrated product: users who click
    more than predicted often convert more too. But every impression has a label of the joint event: 1 for a
    conversion and 0 otherwise, clicked or not.

    So any calibrator is fitted on the joint logit against this label. The conditional probability is
    min(1, joint / p(click)) with the calibrated p(click); times p(click) it gives the joint probability.

    A delayed conversion counts as 0 until it arrives: leave out rows that are too recent.

    Args:
        calibrator: the calibrator of the joint logit; by default Platt scaling. Use another one for segments
            or updates.
    """

    name = "entire-space"

    def __init__(self, calibrator: Calibrator | None = None) -> None:
        self.calibrator = PlattScaling() if calibrator is None else calibrator

    def fit(
        self,
        joint_logits: ArrayLike,
        labels: ArrayLike,
        weight: ArrayLike | None = None,
        segments: ArrayLike | None = None,
    ) -> Self:
        """Fit in place on all impressions.

        Args:
            joint_logits: logits of the uncalibrated p(click) · p(conversion | click), [N] (see the function
                `joint_logits`).
            labels: 1 for a click with a conversion, otherwise 0, [N].
            weight: the weight of each row, [N].
            segments: the segment of each row, whole numbers, [N], for a calibrator that uses segments.

        Raises:
            DataError: bad values, or only one class (see `Calibrator.fit`).
        """
        self.calibrator.fit(joint_logits, labels, weight, segments)
        return self

    def joint(self, joint_logits: ArrayLike, segments: ArrayLike | None = None) -> Floats:
        """Calibrated p(click and conversion), of the shape of the logits."""
        return self.calibrator(joint_logits, segments)

    def conditional(
        self, joint_logits: ArrayLike, click_probabilities: ArrayLike, segments: ArrayLike | None = None
    ) -> Floats:
        """p(conversion | click) = min(1, joint / p(click)), of the shape of the logits.

        Args:
            joint_logits: logits of the uncalibrated joint probability.
            click_probabilities: calibrated p(click), above 0, of the shape of the logits.
            segments: the segments, for a calibrator that uses them.

        Raises:
            DataError: bad values, or shapes that differ.
        """
        joint, click = self.joint(joint_logits, segments), _probabilities(click_probabilities, "click")
        if joint.shape != click.shape:
            raise DataError(
                f"logits has the shape {joint.shape} and click has {click.shape}", argument="click"
            )
        if not (click > 0).all():
            row = int(np.argmin(np.atleast_1d(click)))
            raise DataError("p(click) is 0, and must be above 0 to divide by it", argument="click", row=row)
        return np.minimum(1.0, joint / click)

    def state(self) -> CalibratorState:
        """Everything that `from_state` needs, as text, floats and arrays."""
        return {"name": self.name, **nested_state(self.calibrator)}

    @classmethod
    def from_state(cls, state: Mapping[str, object]) -> Self:
        """The calibration that `state` describes.

        Raises:
            ArtifactError: the state is of another calibrator, or damaged.
        """
        if state.get("name") != cls.name:
            raise ArtifactError(f"the state of '{state.get('name')}' was read as '{cls.name}'")
        try:
            return cls(nested_calibrator(state))
        except (KeyError, ValueError) as error:
            raise ArtifactError(
                f"the state of '{cls.name}' is damaged ({error})", hint="Run `ctrkit calibrate` again"
            ) from error


def joint_logits(click_probabilities: ArrayLike, conversion_probabilities: ArrayLike) -> Floats:
    """The logit of p(click) · p(conversion | click), of their shape.

    The two factors need not be calibrated, because their product is calibrated next.

    Raises:
        DataError: a value outside [0, 1], or shapes that differ.
    """
    click = _probabilities(click_probabilities, "click")
    conversion = _probabilities(conversion_probabilities, "conversion")
    if click.shape != conversion.shape:
        raise DataError(
            f"click has the shape {click.shape} and conversion has {conversion.shape}", argument="conversion"
        )
    return logits_of(click * conversion)


def _probabilities(values: ArrayLike, column: str) -> Floats:
    return unit_interval(finite_floats(values, column), column, "Give probabilities")
