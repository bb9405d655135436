"""The base class of calibrators: logits in, calibrated probabilities out."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats, Integers
from ctrkit.errors import ArtifactError, DataError, RunError, nearest
from ctrkit.metrics.checks import finite_floats, need_both_classes, score_rows, unit_interval

# Plain data: an artifact holds it as it is.
CalibratorState: TypeAlias = dict[str, str | float | Floats]

# The segment of each row, int64 of the logits' shape; None for a calibrator that uses none.
SegmentIds: TypeAlias = Integers | None

# Outputs stay this far from 0 and from 1, so that log loss and odds are finite, also after a cast to float32,
# whose largest number below 1 is 1 - 6e-8. Near 0 the limit is lower: joint probabilities of 1e-7 are common.
LEAST, MARGIN = 1e-30, 1e-7
# With fewer rows of the rarer label a fit is unreliable, and warns.
FEWEST = 20
# Segments are kept as float64, which holds whole numbers up to here.
LARGEST_SEGMENT = 2**53


class CalibrationWarning(UserWarning):
    """A calibrator was fitted, but the rows give reason for doubt; the message says why."""


# name -> class, in order of simplicity; a class is registered when it is defined.
CALIBRATORS: dict[str, type[Calibrator]] = {}


class Calibrator(ABC):
    """A non-decreasing map from logit to probability, fitted on rows that the model was not trained on.

    A concrete class sets `name` and `minimum_positives`, and implements `_fit`, `_probabilities`, `_state`
    and `_load`. A class that uses segments (a value of each row, such as the advertiser) has a map for each
    segment, which is non-decreasing within the segment.

    Attributes:
        name: the name in states, tables and on the command line.
        minimum_positives: `choose` leaves the class out if the rarer label has fewer rows.
        uses_segments: whether `fit` and the call need `segments`; other calibrators ignore them.
        learns: whether `fit` learns from the labels.
        knows_zero: whether the map depends on where the logit is 0, so that shifted logits give another map.
        sets_mean: whether a fit gives its rows the right mean probability, a PCOC of 1. A class without an
            intercept does not. `choose` leaves such a class out where it makes PCOC wrong.
        automatic: whether `choose` compares the class by default.
        texts: keys of the state that hold text; all other keys hold numbers.
    """

    name: ClassVar[str]
    minimum_positives: ClassVar[int]
    # A wrapper sets this on the instance: it needs segments if the calibrator inside it does.
    uses_segments: bool = False
    learns: ClassVar[bool] = True
    knows_zero: ClassVar[bool] = False
    sets_mean: ClassVar[bool] = True
    automatic: ClassVar[bool] = True
    texts: ClassVar[frozenset[str]] = frozenset({"name"})
    _fitted = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        CALIBRATORS[cls.name] = cls

    def fit(
        self,
        logits: ArrayLike,
        labels: ArrayLike,
        weight: ArrayLike | None = None,
        segments: ArrayLike | None = None,
    ) -> Self:
        """Fit in place.

        With fewer than 20 rows of the rarer label it warns (`CalibrationWarning`).

        Args:
            logits: any finite numbers, [N].
            labels: 0 or 1, [N].
            weight: the weight of each row, [N]; a row of weight 2 counts as two. The common scale of the
                weights matters only for calibrators that add half a row or one row against certainty.
            segments: the segment of each row, whole numbers, [N]; needed only if `uses_segments`.

        Raises:
            DataError: bad values, only one class has weight, or segments are needed and not given.
        """
        y, z, w = score_rows(labels, logits, weight, name="logits")
        codes = self._segments(segments, z.shape)
        held = w > 0
        if not held.all():
            y, z, w = y[held], z[held], w[held]
            codes = None if codes is None else codes[held]
        positives = int(y.sum())
        rarer = min(positives, len(y) - positives)
        need_both_classes(positives, len(y) - positives, f"{self.name} calibration")
        if rarer < FEWEST and self.learns:
            label = "positive" if positives == rarer else "negative"
            warnings.warn(
                f"{self.name} was fitted with only {rarer} {label} rows; below {FEWEST} its probabilities "
                "are mostly chance",
                CalibrationWarning,
                stacklevel=2,
            )
        # Compiled loops need contiguous, writable arrays; arrays of a table are often neither.
        z, y, w = (np.require(column, requirements=("C", "W")) for column in (z, y, w))
        self._fit(z, y, w, codes)
        self._fitted = True
        return self

    def __call__(self, logits: ArrayLike, segments: ArrayLike | None = None) -> Floats:
        """Calibrated probabilities, float64 in [1e-30, 1 - 1e-7], of the shape of the logits.

        Args:
            logits: any finite numbers, of any shape.
            segments: whole numbers of the shape of the logits; needed only if `uses_segments`.

        Raises:
            RunError: the calibrator is not fitted.
            DataError: a logit is not finite, or segments are needed and not given.
        """
        self._need_fit()
        z = finite_floats(logits, "logits")
        p = self._probabilities(z, self._segments(segments, z.shape))
        return np.clip(p, LEAST, 1 - MARGIN)

    def state(self) -> CalibratorState:
        """Everything that `from_state` needs: the calibrator's name, floats and arrays."""
        self._need_fit()
        return {"name": self.name, **self._state()}

    @classmethod
    def from_state(cls, state: Mapping[str, object]) -> Self:
        """The calibrator that `state` describes; it gives exactly the same probabilities.

        Raises:
            ArtifactError: the state is of another calibrator, lacks a part, or holds an impossible value.
        """
        if state.get("name") != cls.name:
            raise ArtifactError(f"the state of calibrator '{state.get('name')}' was read as '{cls.name}'")
        calibrator = cls()
        try:
            calibrator._load(
                {key: np.asarray(v, np.str_ if key in cls.texts else np.float64) for key, v in state.items()}
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"the state of calibrator '{cls.name}' is damaged ({error})",
                hint="Run `ctrkit calibrate` again",
            ) from error
        calibrator._fitted = True
        return calibrator

    @abstractmethod
    def _fit(self, logits: Floats, labels: Floats, weight: Floats, segments: SegmentIds) -> None:
        """Fit to checked rows of weight above 0, with both classes."""

    @abstractmethod
    def _probabilities(self, logits: Floats, segments: SegmentIds) -> Floats:
        """Probabilities in [0, 1] of finite logits of any size and shape."""

    @abstractmethod
    def _state(self) -> CalibratorState:
        """The fitted parameters."""

    @abstractmethod
    def _load(self, state: Mapping[str, Floats]) -> None:
        """Set the parameters; raises KeyError if one is missing and ValueError if one is impossible."""

    def _segments(self, segments: ArrayLike | None, shape: tuple[int, ...]) -> SegmentIds:
        """The checked segments; None if the calibrator uses none."""
        if not self.uses_segments:
            return None
        if segments is None:
            raise DataError(
                f"{self.name} calibration needs the segment of every row, and none were given",
                argument="segments",
                hint="Give `segments`, or use a calibrator without segments",
            )
        return segment_numbers(segments, shape)

    def _need_fit(self) -> None:
        if not self._fitted:
            raise RunError(f"the {self.name} calibrator was not fitted")


class Identity(Calibrator):
    """p = σ(logit): the model's own probability, for comparison, or if calibration does not help."""

    name = "identity"
    minimum_positives = 0
    learns = False
    knows_zero = True
    sets_mean = False
    _fitted = True

    def _fit(self, logits: Floats, labels: Floats, weight: Floats, segments: SegmentIds) -> None:
        pass

    def _probabilities(self, logits: Floats, segments: SegmentIds) -> Floats:
        return sigmoid(logits)

    def _state(self) -> CalibratorState:
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
        raise ArtifactError(f"unknown calibrator '{name}'", hint=nearest(name, CALIBRATORS))
    return CALIBRATORS[name].from_state(state)


def nested_state(calibrator: Calibrator) -> CalibratorState:
    """The state of a calibrator inside another one, under keys that begin with `inner`."""
    state = calibrator.state()
    return {"inner": state.pop("name"), **{f"inner.{key}": value for key, value in state.items()}}


def nested_calibrator(state: Mapping[str, object]) -> Calibrator:
    """The calibrator whose `nested_state` is part of a state; raises KeyError or ValueError."""
    parts = {key.removeprefix("inner."): value for key, value in state.items() if key.startswith("inner.")}
    try:
        return calibrator_from_state({**parts, "name": str(state["inner"])})
    except ArtifactError as error:
        raise ValueError(str(error)) from error


def segment_numbers(segments: ArrayLike, shape: tuple[int, ...]) -> Integers:
    """Segments as int64 of the given shape.

    Raises:
        DataError: the shape differs, a value is no whole number, or a value is beyond ±2^53.
    """
    array = np.asarray(segments)
    if array.shape != shape:
        raise DataError(f"logits has the shape {shape} and segments has {array.shape}", argument="segments")
    if array.dtype.kind not in "biu" and array.size:
        raise DataError(
            f"segments are whole numbers, and the type is {array.dtype}",
            argument="segments",
            hint="Number the field's values, also the missing ones",
        )
    beyond = (array > LARGEST_SEGMENT) | (array < -LARGEST_SEGMENT)
    if beyond.any():
        row = int(np.argmax(beyond.reshape(-1)))
        raise DataError("a segment's number is beyond 2^53", argument="segments", row=row)
    return array.astype(np.int64, copy=False)


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + e^-z), to full relative precision at small values and without overflow."""
    small = np.exp(-np.abs(logits))
    probabilities: Floats = np.where(logits >= 0, 1.0, small) / (1.0 + small)
    return probabilities


def logits_of(probabilities: ArrayLike) -> Floats:
    """log(p / (1 - p)) of probabilities of any shape; 0 counts as 1e-30, and 1 as the largest float below.

    Raises:
        DataError: a value outside [0, 1], or one that is missing.
    """
    p = unit_interval(finite_floats(probabilities, "probabilities"), "probabilities")
    p = np.clip(p, LEAST, 1 - np.finfo(np.float64).eps)
    logits: Floats = np.log(p) - np.log1p(-p)
    return logits


def positive_scalar(state: Mapping[str, Floats], key: str) -> float:
    """A parameter that must be a finite number above 0."""
    value = float(state[key])
    if not 0 < value < np.inf:
        raise ValueError(f"{key} = {value}")
    return value
