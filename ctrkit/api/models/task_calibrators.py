"""The calibrators of a model's tasks: their inputs beside the logit, and how they are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from ctrkit.arrays import Floats
from ctrkit.calibration import Calibrator, EntireSpaceCalibration, calibrator_from_state
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import rows_of_tables
from ctrkit.errors import ConfigError, nearest

# Key of the field beside a calibrator's state in an artifact.
_FIELD = "field"


@dataclass(frozen=True)
class TaskCalibrator:
    """A task's calibrator.

    Attributes:
        calibrator: calibrator of the task's logit or, over the entire space, of the joint logit of the task
            and all tasks before it.
        field: the categorical feature whose ids are the calibrator's segments; None without segments.
    """

    calibrator: Calibrator | EntireSpaceCalibration
    field: str | None = None

    @property
    def entire_space(self) -> bool:
        """Whether the calibrator is for the joint logit of the task and all tasks before it."""
        return isinstance(self.calibrator, EntireSpaceCalibration)

    @property
    def of_logits(self) -> Calibrator:
        """The calibrator of the task's own logit or of the joint logit."""
        one = self.calibrator
        return one.calibrator if isinstance(one, EntireSpaceCalibration) else one

    def holding(self, calibrator: Calibrator) -> TaskCalibrator:
        """A copy with another calibrator of the logit."""
        return replace(
            self, calibrator=EntireSpaceCalibration(calibrator) if self.entire_space else calibrator
        )

    def state(self) -> dict[str, Any]:
        """Plain data, for the artifact."""
        return {**self.calibrator.state(), **({} if self.field is None else {_FIELD: self.field})}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> TaskCalibrator:
        """A calibrator from the plain data of `state`.

        Raises:
            ArtifactError: the state is damaged.
        """
        content = {key: value for key, value in state.items() if key != _FIELD}
        if content.get("name") == EntireSpaceCalibration.name:
            return cls(EntireSpaceCalibration.from_state(content), state.get(_FIELD))
        return cls(calibrator_from_state(content), state.get(_FIELD))


def calibrated(
    tasks: Sequence[str],
    calibrators: Mapping[str, TaskCalibrator],
    logits: Floats,
    segments_by: Callable[[str], NDArray[np.integer]],
) -> dict[str, Floats]:
    """Probabilities [n] of each task given the task before it; σ(logit) where a task has no calibrator.

    Args:
        tasks: names of the tasks, in funnel order.
        calibrators: task -> calibrator.
        logits: [n, T].
        segments_by: gives the segment of each row by a field, [n].
    """
    found: dict[str, Floats] = {}
    before = np.ones(len(logits))  # calibrated p(all tasks before)
    for index, task in enumerate(tasks):
        one, column = calibrators.get(task), logits[:, index]
        if one is None:
            p = expit(column)
        else:
            segments = None if one.field is None else segments_by(one.field)
            if isinstance(one.calibrator, EntireSpaceCalibration):
                p = one.calibrator.conditional(joint_of(logits, index), before, segments)
            else:
                p = one.calibrator(column, segments)
        found[task] = p
        before = np.maximum(before * p, np.finfo(np.float64).tiny)  # never 0, as later tasks divide by it
    return found


def joint_of(logits: Floats, index: int) -> Floats:
    """The logit of the uncalibrated probability that a task and all tasks before happen: [n, T] -> [n]."""
    log_p = -np.logaddexp(0.0, -logits[:, : index + 1]).sum(axis=1)
    # log(p / (1 - p)), also for tiny p; close to 1, 1 - p is at least the last digit.
    joint: Floats = log_p - np.log(-np.expm1(np.minimum(log_p, -np.finfo(np.float64).tiny)))
    return joint


def segments_of(field: str, rows: EncodedTable, fields: Sequence[str]) -> NDArray[np.int32]:
    """The ids of a categorical feature, by row.

    Raises:
        ConfigError: there is no such feature.
    """
    if field not in fields:
        raise ConfigError(f"'{field}' is not a categorical feature of the model", hint=nearest(field, fields))
    return rows_of_tables(rows.categorical[:, list(fields).index(field)])
