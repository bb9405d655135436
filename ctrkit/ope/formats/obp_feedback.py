"""Open Bandit Pipeline's `bandit_feedback`: the dictionary in memory, or saved with `numpy.savez`.

The reader takes action, reward, pscore, position and context as every data set of obp 0.5.7 gives them, and
any other array with one value for each round. `context` [N, D] becomes the columns `context_0` to
`context_{D-1}`. `pi_b` [N, A, 1], the logging policy's probabilities of all actions, becomes
`logging_probabilities`. `action_context` and `expected_reward` (the simulated truth) are left out.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.errors import DataError
from ctrkit.ope.formats.base import Format, LogTable, check_file

_NEEDED = ("action", "reward", "pscore")
_TRUTHS = ("expected_reward", "action_context", "n_rounds", "n_actions")


def is_feedback(source: object) -> bool:
    """Whether a dictionary is obp's feedback, and not a dictionary of columns."""
    return isinstance(source, Mapping) and "pscore" in source and {"n_rounds", "n_actions"} <= set(source)


def read(source: Mapping[str, Any] | str | os.PathLike[str], skip_bad_lines: bool = False) -> LogTable:
    """Read a dictionary or an .npz file. No pickled object is loaded.

    Raises:
        DataError: an array is missing or of another shape, an action has several columns (a slate), or the
            file is damaged.
    """
    file: str | None = None
    notes: list[str] = []
    if isinstance(source, Mapping):
        arrays = {name: value for name, value in source.items() if value is not None}
    else:
        file = os.fspath(source)
        arrays, left_out = _load(Path(file))
        if left_out:
            notes.append(
                f"Arrays left out, because reading them would run pickled code: {', '.join(left_out)}."
            )
    for name in _NEEDED:
        if name not in arrays:
            raise DataError(
                "an obp bandit_feedback needs this array",
                file=file,
                column=name,
                hint="Save the whole dictionary: numpy.savez(path, **bandit_feedback)",
            )
    rows = np.size(arrays["action"])
    columns: dict[str, Any] = {}
    for name in _NEEDED:
        values = np.asarray(arrays[name])
        if values.ndim != 1 or len(values) != rows:
            raise DataError(
                f"the array needs one value for each of {rows} rounds, and its shape is {values.shape}",
                file=file,
                column=name,
                hint="Log one action a round; slates are not read",
            )
        columns[name] = values
    for name, value in arrays.items():
        if name in _NEEDED or name in _TRUTHS:
            continue
        values = np.asarray(value)
        if name == "pi_b":
            columns |= _distribution(values, rows, file)
        elif name == "context" and values.ndim == 2 and len(values) == rows:
            columns |= {f"context_{index}": values[:, index] for index in range(values.shape[1])}
        elif values.ndim == 1 and len(values) == rows:
            columns[name] = values
        else:
            notes.append(
                f"Array '{name}' was left out: its shape {values.shape} is not one value for each round."
            )
    table = pl.DataFrame(columns)
    return LogTable(table, file, tuple(notes), _all_actions(arrays.get("n_actions"), table, file))


def _all_actions(count: Any, table: pl.DataFrame, file: str | None) -> pl.Series | None:
    """The actions 0 to `n_actions` - 1, of which the log may not show all; None where `n_actions` is unknown.

    Raises:
        DataError: a logged action is not one of them.
    """
    if count is None or "candidates" in table.columns:
        return None
    actions = pl.Series("action", np.arange(int(count)))
    if not table.schema["action"].is_integer():
        return None  # ids of other types are checked with the other columns
    if (wrong := table["action"].is_between(0, int(count) - 1)).not_().any():
        row = int(wrong.arg_min() or 0)
        raise DataError(
            f"action {table['action'][row]} is not among the actions 0 to {int(count) - 1} (n_actions)",
            file=file,
            column="action",
            row=row,
            hint="Fix the action or n_actions",
        )
    return actions


def _distribution(values: NDArray[Any], rows: int, file: str | None) -> dict[str, pl.Series]:
    """The logging policy's probabilities of all actions, as candidates and their probabilities."""
    if values.ndim != 3 or values.shape[0] != rows or values.shape[2] != 1:
        raise DataError(
            f"the shape must be [{rows}, actions, 1] (a distribution for each round), not {values.shape}",
            file=file,
            column="pi_b",
            hint="Leave it out, or give the distribution of one position",
        )
    actions = np.broadcast_to(np.arange(values.shape[1]), values.shape[:2])
    return {
        "candidates": pl.Series(actions).arr.to_list(),
        "logging_probabilities": pl.Series(np.ascontiguousarray(values[:, :, 0])).arr.to_list(),
    }


def _load(path: Path) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The arrays of an .npz file, and the names of its pickled arrays."""
    check_file(path)
    arrays: dict[str, NDArray[Any]] = {}
    left_out: list[str] = []
    try:
        with np.load(path, allow_pickle=False) as stored:
            for name in stored.files:
                try:
                    arrays[name] = stored[name]
                except ValueError:
                    left_out.append(name)
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, AttributeError) as error:
        raise DataError(
            "the file is damaged or not an .npz archive", file=path, hint="Write it with numpy.savez"
        ) from error
    return arrays, left_out


OBP = Format("obp", "Open Bandit Pipeline's bandit_feedback, a dictionary or .npz", read)
