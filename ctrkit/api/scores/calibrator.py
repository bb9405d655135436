"""Calibrators for the predictions of any model: probabilities in and out, kept in a file of plain JSON."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from ctrkit.api.models.task_calibrators import TaskCalibrator, calibrated
from ctrkit.arrays import Floats, Integers
from ctrkit.calibration import EntireSpaceCalibration, logits_of
from ctrkit.errors import ArtifactError, DataError, reason
from ctrkit.evaluation.profile import values_as_text
from ctrkit.file_kinds import file_kind
from ctrkit.schema.scores import FUNNEL
from ctrkit.tables import write_json

FORMAT = 1
_MARK = "ctrkit calibrator"
_AGAIN = "Write it again with `ctrkit calibrate --scores`"


@dataclass(frozen=True)
class ScoreCalibrator:
    """Calibrators of the predictions of a model, task by task.

    Attributes:
        calibrators: task -> its calibrator, in funnel order.
        field: the column whose values have a correction each; None without one.
        values: the values of this column, as text, None for a missing one; a value's segment is its place
            from 1, and that of any other value is 0.
        reasons: task -> why its calibrator was chosen.
    """

    calibrators: Mapping[str, TaskCalibrator]
    field: str | None = None
    values: tuple[str | None, ...] = ()
    reasons: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __call__(self, probabilities: ArrayLike, segments: Any = None) -> Floats:
        """Calibrated probabilities of the first task, [N].

        Args:
            probabilities: the model's probabilities, in [0, 1], [N].
            segments: the value of `field` in each row, [N]; needed only where there is a field.

        Raises:
            DataError: a value outside [0, 1], or segments are needed and not given.
        """
        first = next(iter(self.calibrators))
        return self.of_tasks({first: probabilities}, segments)[first]

    def of_tasks(self, probabilities: Mapping[str, ArrayLike], segments: Any = None) -> dict[str, Floats]:
        """Calibrated probabilities of several tasks, [N], each given the task before it.

        Args:
            probabilities: task -> the model's probabilities, given the task before it, [N].
            segments: the value of `field` in each row, [N]; needed only where there is a field.

        Raises:
            DataError: a value outside [0, 1]; segments, or the task before, are needed and not given.
        """
        tasks = [task for task in FUNNEL if task in probabilities]
        for task in tasks:
            one = self.calibrators.get(task)
            joint = one is not None and isinstance(one.calibrator, EntireSpaceCalibration)
            if joint and len(tasks) < len(FUNNEL):
                raise DataError(
                    f"the calibrator of '{task}' is for all impressions and needs the probability of a click",
                    hint="Give both",
                )
        logits = np.stack([logits_of(probabilities[task]) for task in tasks], axis=1)
        return calibrated(tasks, self.calibrators, logits, lambda _: self.numbers(segments))

    @property
    def uses_segments(self) -> bool:
        """Whether some task needs the values of `field`."""
        return any(one.of_logits.uses_segments for one in self.calibrators.values())

    def numbers(self, segments: Any) -> Integers:
        """The number of each row's segment, [N].

        Raises:
            DataError: there are no segments.
        """
        if segments is None:
            raise DataError(
                f"the calibrator has corrections by '{self.field}', and no values of it are given",
                argument="segments",
                hint="Give `segments`",
            )
        return _numbers(segments, self.values)

    @classmethod
    def numbered(cls, segments: Any) -> tuple[tuple[str | None, ...], Integers]:
        """The values of a column in order, and the number of each row's segment, [N]."""
        found = values_as_text(pl.Series(segments)).unique().sort(nulls_last=True).to_list()
        return tuple(found), _numbers(segments, tuple(found))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the calibrator as JSON, atomically."""
        tasks = {task: _plain(one.state()) for task, one in self.calibrators.items()}
        content = {"mark": _MARK, "format": FORMAT, "tasks": tasks, "reasons": dict(self.reasons)}
        return write_json({**content, "field": self.field, "values": list(self.values)}, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a calibrator that `save` wrote.

        Raises:
            ArtifactError: the file is missing, damaged, of another kind or of a newer format.
        """
        if not Path(path).is_file():
            raise ArtifactError("no such calibrator", file=path, hint=_AGAIN)
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (UnicodeDecodeError, ValueError):
            content = None
        if not isinstance(content, dict) or content.get("mark") != _MARK:
            kind = file_kind(path).name
            raise ArtifactError(f"this is {kind}, not a file of calibrators", file=path, hint=_AGAIN)
        if content.get("format") != FORMAT:
            raise ArtifactError(
                f"the calibrator has format {content.get('format')!r}, and this ctrkit reads format {FORMAT}",
                file=path,
                hint="Install a newer ctrkit, or write the file again",
            )
        try:
            tasks = {task: TaskCalibrator.from_state(state) for task, state in content["tasks"].items()}
            values = tuple(None if one is None else str(one) for one in content["values"])
            if not tasks or not {*tasks} <= {*FUNNEL}:
                raise ValueError(f"its tasks are {', '.join(tasks) or 'none'}")
            return cls(tasks, content["field"], values, dict(content["reasons"]))
        except (ArtifactError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"the calibrator is damaged ({reason(error)})", file=path, hint=_AGAIN
            ) from error


def _numbers(segments: Any, values: tuple[str | None, ...]) -> Integers:
    numbers = {value: number for number, value in enumerate(values, 1)}
    text = values_as_text(segments if isinstance(segments, pl.Series) else pl.Series(segments))
    known = {value: number for value, number in numbers.items() if value is not None}
    found = text.replace_strict(known, default=0, return_dtype=pl.Int64)
    return found.set(text.is_null(), numbers.get(None, 0)).to_numpy()


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state with lists in place of arrays."""
    return {
        key: value if isinstance(value, str) else np.asarray(value).tolist() for key, value in state.items()
    }
