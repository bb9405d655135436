"""What a calibrator is: logits in, probabilities that come true out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ctrkit.errors import ArtifactError, RunError, nearest
from ctrkit.metrics.checks import Floats, finite_floats, need_both_classes, score_rows

# Plain data: an artifact holds it as it is.
State: TypeAlias = dict[str, str | float | NDArray[np.float64]]

# Outputs stay this far from 0 and 1: log loss and odds stay finite, also after a cast to float32.
MARGIN = 1e-7


class CalibrationWarning(UserWarning):
    """A calibrator was fitted, but the rows gave reason for doubt; the message says which."""


# name -> class, in order of simplicity; a class enters by being defined.
CALIBRATORS: dict[str, type[Calibrator]] = {}


class Calibrator(ABC):
    """A non-decreasing map from logit to probability, fitted on rows that the model was not trained on.

    A concrete class names itself, says from how many rows of the rarer label on it can be trusted, and
    implements `_fit`, `_probabilities`, `_state` and `_load`.

    Attributes:
        name: in states, tables and on the command line.
        minimum_positives: `choose` leaves the class out where the rarer label has fewer rows.
    """

    name: ClassVar[str]
    minimum_positives: ClassVar[int]
    _fitted = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        CALIBRATORS[cls.name] = cls

    def fit(self, logits: ArrayLike, labels: ArrayLike, weight: ArrayLike | None = None) -> Self:
        """Fit in place.

        Args:
            logits: any finite numbers, [N]. labels: 0 or 1, [N].
            weight: a row of weight 2 counts as two, [N].

        Raises:
            DataError: bad values, or only one class has weight.
        """
        y, z, w = score_rows(labels, logits, weight, column="logits")
        need_both_classes(float(w @ y), float(w @ (1 - y)), f"{self.name} calibration")
        held = w > 0
        self._fit(z[held], y[held], w[held])
        self._fitted = True
        return self

    def __call__(self, logits: ArrayLike) -> Floats:
        """Calibrated probabilities, float64 in [1e-7, 1 - 1e-7], of the shape of the logits.

        Raises:
            RunError: before `fit`. DataError: a logit is not finite.
        """
        self._need_fit()
        return np.clip(self._probabilities(finite_floats(logits, "logits")), MARGIN, 1 - MARGIN)

    def state(self) -> State:
        """Everything that `from_state` needs, with the calibrator's name, as floats and arrays."""
        self._need_fit()
        return {"name": self.name, **self._state()}

    @classmethod
    def from_state(cls, state: Mapping[str, object]) -> Self:
        """The calibrator that `state` describes; it gives the very same probabilities.

        Raises:
            ArtifactError: the state is of another calibrator, lacks a part, or holds an impossible value.
        """
        if state.get("name") != cls.name:
            raise ArtifactError(f"the state of calibrator '{state.get('name')}' was read as '{cls.name}'")
        calibrator = cls()
        try:
            calibrator._load({key: np.asarray(v, np.float64) for key, v in state.items() if key != "name"})
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"the state of calibrator '{cls.name}' is damaged ({error})",
                mend="Run `ctrkit calibrate` again",
            ) from error
        calibrator._fitted = True
        return calibrator

    @abstractmethod
    def _fit(self, logits: Floats, labels: Floats, weight: Floats) -> None:
        """Fit to checked rows of weight above 0, both classes among them."""

    @abstractmethod
    def _probabilities(self, logits: Floats) -> Floats:
        """Probabilities in [0, 1] of finite logits of any size and shape."""

    @abstractmethod
    def _state(self) -> State:
        """The fitted parameters."""

    @abstractmethod
    def _load(self, state: Mapping[str, Floats]) -> None:
        """Take parameters; raises KeyError for a missing one and ValueError for an impossible one."""

    def _need_fit(self) -> None:
        if not self._fitted:
            raise RunError(f"the {self.name} calibrator was not fitted")


class Identity(Calibrator):
    """p = σ(logit): the model's own probability, for comparison, and where calibration does not help."""

    name = "identity"
    minimum_positives = 0
    _fitted = True

    def _fit(self, logits: Floats, labels: Floats, weight: Floats) -> None:
        pass

    def _probabilities(self, logits: Floats) -> Floats:
        return sigmoid(logits)

    def _state(self) -> State:
        return {}

    def _load(self, state: Mapping[str, Floats]) -> None:
        pass


def calibrator_from_state(state: Mapping[str, object]) -> Calibrator:
    """The calibrator that a state names and describes.

    Raises:
        ArtifactError: no such calibrator, or a damaged state.
    """
    name = str(state.get("name"))
    if name not in CALIBRATORS:
        raise ArtifactError(f"unknown calibrator '{name}'", mend=nearest(name, CALIBRATORS))
    return CALIBRATORS[name].from_state(state)


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + e^-z), to full relative precision at small values and without overflow."""
    small = np.exp(-np.abs(logits))
    probabilities: Floats = np.where(logits >= 0, 1.0, small) / (1.0 + small)
    return probabilities


def positive_scalar(state: Mapping[str, Floats], key: str) -> float:
    """A parameter that must be one finite number above 0."""
    value = float(state[key])
    if not 0 < value < np.inf:
        raise ValueError(f"{key} = {value}")
    return value
