"""A policy that is a program of its own: TorchScript or `torch.export`, from context to logits."""

from __future__ import annotations

import os
import re
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctrkit.api.exported_program import OF_FILES, open_exported
from ctrkit.errors import ArtifactError, DataError, nearest
from ctrkit.policies import Policy, SoftmaxPolicy, candidate_mask
from ctrkit.policies.candidates import Floats, Mask

# Of the files that may lie inside an archive: what the program reads, and which actions it scores.
COLUMNS, ACTIONS = "columns", "actions"
# What stands in the program's matrix of candidates where a row has fewer than the longest.
NO_CANDIDATE = -1

_SCRIPT_CODE = re.compile(rb"\b(" + "|".join(sorted(OF_FILES)).encode() + rb")\s*\(")


@dataclass(frozen=True)
class Program:
    """Something that gives logits.

    Attributes:
        run: from tensors to one tensor.
        inputs: how many it takes.
        shapes: of the inputs, None for a size that may vary; empty where nothing is said of them.
    """

    run: Callable[..., Tensor]
    inputs: int
    shapes: tuple[tuple[int | None, ...], ...] = ()


@dataclass(eq=False)
class ProgramPolicy(Policy):
    """Chooses with the softmax of a program's logits.

    The program is called with the context, float32 [B, D], the columns in their order; and, where it takes a
    second input, with the candidates' ids, int64 [B, K], -1 at missing places. Of two inputs it gives the
    logits of the candidates, [B, K], of one the logits of all actions, [B, A]. Places without a candidate are
    left out of the softmax; a logit of -inf is a candidate that is never chosen.

    Attributes:
        program: what is run.
        columns: what it reads.
        actions: the ids of its outputs, where it takes one input. None: the sorted candidates, which must be
            the same for all rows.
        file: its name for messages.
    """

    name: ClassVar[str] = "program"

    program: Program
    columns: Sequence[str]
    actions: Sequence[str] | None
    file: str
    _met: pl.Series | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for place, what in enumerate(("context", "candidates")[: len(self.program.shapes)]):
            shape = self.program.shapes[place]
            if len(shape) != 2 or shape[0] is not None or (place == 1 and shape[1] is not None):
                sizes = ", ".join("any" if size is None else str(size) for size in shape)
                raise self._error(
                    f"the program takes {what} of the fixed shape [{sizes}] only",
                    "Export it with dynamic_shapes for the rows and, of the candidates, the places",
                )
        if self.program.shapes and self.program.shapes[0][1] not in (None, len(self.columns)):
            raise self._error(
                f"the program reads {self.program.shapes[0][1]} columns and {len(self.columns)} are named",
                "Name the columns that it was made for, in their order",
            )
        if self.actions is not None and self.program.inputs == 2:
            raise self._error(
                "the program is given the candidates, and a list of actions besides", "Leave out the actions"
            )

    def probabilities(self, context: pl.DataFrame, candidates: pl.Series) -> Floats:
        """See `Policy`.

        Raises:
            ArtifactError: the program fails, or gives other than finite logits of the right shape.
            DataError: the log lacks a column that the program reads, or has no number in it.
        """
        mask = candidate_mask(candidates)
        features = torch.from_numpy(self._features(context))
        if self.program.inputs == 2:
            ids = torch.from_numpy(self._ids(candidates, mask))
            logits = self._run(mask.shape, features, ids)
        else:
            place, width = self._places(candidates, mask)
            logits = np.take_along_axis(self._run((len(mask), width), features), place, axis=1)
        wrong = np.argwhere(mask & (np.isnan(logits) | np.isposinf(logits)))
        if wrong.size:
            row, at = (int(index) for index in wrong[0])
            raise self._error(f"the logit of candidate {at} of row {row} is {logits[row, at]}", "Mend it")
        scores = np.where(mask, logits, -np.inf)
        none = np.flatnonzero(np.isneginf(scores.max(axis=1)))
        if none.size:
            raise self._error(f"the logits of row {none[0]} are all -inf", "Leave each row a candidate")
        return SoftmaxPolicy(lambda context, candidates: scores).choose(scores, mask)

    def _run(self, shape: tuple[int, ...], *inputs: Tensor) -> Floats:
        try:
            with torch.inference_mode():
                found = self.program.run(*inputs)
        except Exception as error:  # whatever a stranger's program may meet
            told = str(error).strip().splitlines()
            sizes = " and ".join(str(list(one.shape)) for one in inputs)
            raise self._error(
                f"the program fails on inputs of {sizes} ({told[-1] if told else type(error).__name__})",
                "Check what it reads and in which shapes",
            ) from error
        if not isinstance(found, Tensor) or tuple(found.shape) != shape:
            what = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise self._error(f"the program gives {what}, and logits of {list(shape)} are needed", "Mend it")
        return np.asarray(found.double().cpu().numpy())

    def _features(self, context: pl.DataFrame) -> NDArray[np.float32]:
        for name in self.columns:
            if name not in context.columns:
                raise DataError(
                    f"the program {self.file} reads a column that the log lacks",
                    column=name,
                    mend=nearest(name, context.columns),
                )
            kind = context.schema[name]
            if not (kind.is_numeric() or kind == pl.Boolean):
                raise DataError(
                    f"the program {self.file} reads numbers, and this is {kind}",
                    column=name,
                    mend="Name columns of numbers",
                )
        numbers = context.select(pl.col(self.columns).cast(pl.Float32).fill_null(np.nan)).to_numpy()
        wrong = np.argwhere(~np.isfinite(numbers))
        if wrong.size:
            row, at = (int(index) for index in wrong[0])
            raise DataError(
                f"the program {self.file} reads numbers, and here is none",
                column=self.columns[at],
                row=row,
                mend="Fill the column",
            )
        # torch wants to own what it is given; in rows, as the program was written for.
        return np.array(numbers, dtype=np.float32, order="C")

    def _ids(self, candidates: pl.Series, mask: Mask) -> NDArray[np.int64]:
        flat = candidates.explode()
        if not flat.dtype.is_integer():
            raise self._error(
                f"the program is given candidates as whole numbers, and those of the log are {flat.dtype}",
                "Give a program of one input, with `actions`, or a log whose actions are whole numbers",
            )
        ids = np.full(mask.shape, NO_CANDIDATE, dtype=np.int64)
        ids[mask] = flat.cast(pl.Int64).to_numpy()
        return ids

    def _places(self, candidates: pl.Series, mask: Mask) -> tuple[NDArray[np.int64], int]:
        """Of each candidate the place among the program's outputs, [B, K], and how many outputs there are."""
        flat = candidates.explode()
        if self.actions is not None:
            known = pl.Series(self.actions, dtype=pl.String)
            flat = flat.cast(pl.String)
        else:
            own = flat.unique().sort()
            if (mask.sum(axis=1) != own.len()).any() or not own.equals(
                self._met if self._met is not None else own
            ):
                raise self._error(
                    "the program gives logits of all actions, and the rows have not all the same candidates",
                    "Say which actions its outputs are of: `actions=ID,ID,...`",
                )
            known = self._met = own
        at = flat.replace_strict(known, np.arange(known.len()), default=None, return_dtype=pl.Int64)
        if at.null_count():
            raise self._error(
                f"action {flat.filter(at.is_null())[0]!r} is none of the program's {known.len()}",
                "Name all of the log's actions, in the order of the outputs",
            )
        places = np.zeros(mask.shape, dtype=np.int64)
        places[mask] = at.to_numpy()
        return places, known.len()

    def _error(self, problem: str, mend: str) -> ArtifactError:
        return ArtifactError(problem, file=self.file, mend=mend)


def kind_of_program(path: str | os.PathLike[str]) -> Literal["TorchScript", "torch.export"] | None:
    """Which kind of program a file is, by what lies inside, whatever it is called; None: neither."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        names = {name.partition("/")[2] or name for name in archive.namelist()}
    if names & {"archive_format", "serialized_exported_program.json"}:
        return "torch.export"
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return "TorchScript"
    return None


def open_program(
    path: str | os.PathLike[str],
    columns: Sequence[str] | None = None,
    actions: Sequence[str] | None = None,
) -> ProgramPolicy:
    """Open a program as a policy, without running pickles.

    A `torch.export` archive is read by `ctrkit.api.exported_program`, which refuses pickled payloads. The
    pickles of a TorchScript archive are read in C++ by torch (torch/csrc/jit/serialization/unpickler.cpp),
    which knows tensors, containers and the classes that the archive itself defines in TorchScript; it imports
    and calls nothing of Python, and names that it does not know are errors. Either way a program is torch's
    operators; the two that read and write files are refused.

    Args:
        columns: what the program reads of the log, in this order. By default the file `columns` inside the
            archive, names separated by commas, which torch.jit.save(..., _extra_files={"columns": "a,b"})
            and torch.export.save(..., extra_files={"columns": "a,b"}) write.
        actions: of a program of one input, the ids of its outputs; by default the archive's file `actions`,
            written alike, and without it the sorted candidates.

    Raises:
        ArtifactError: the file is no such program, is damaged, holds pickled payloads, takes other than one
            or two tensors, or does not say which columns it reads.
    """
    file = os.fspath(path)
    kind = kind_of_program(path)
    if kind is None:
        raise ArtifactError(
            "this is neither a TorchScript nor a torch.export program", file=file, mend="Write it again"
        )
    # Checked and read from the same bytes.
    content = Path(path).read_bytes()
    with zipfile.ZipFile(BytesIO(content)) as archive:
        columns = columns if columns is not None else _listed(archive, COLUMNS)
        actions = actions if actions is not None else _listed(archive, ACTIONS)
        if kind == "torch.export":
            exported = open_exported(archive, file)
            program = Program(exported, len(exported.inputs), exported.inputs)
        else:
            _check_script(archive, file)
            program = _script(content, file)
    if program.inputs not in (1, 2):
        raise ArtifactError(
            f"the program takes {program.inputs} inputs",
            file=file,
            mend="Write one of the context, or of the context and the candidates",
        )
    if not columns:
        raise ArtifactError(
            "the program does not say which columns of the log it reads",
            file=file,
            mend=f"Write {file}:columns=NAME,NAME or store them in it as the extra file 'columns'",
        )
    return ProgramPolicy(program, tuple(columns), None if actions is None else tuple(actions), file)


def _listed(archive: zipfile.ZipFile, name: str) -> list[str] | None:
    """The names in an extra file of an archive, if it has one."""
    for path in archive.namelist():
        if path.partition("/")[2] == f"extra/{name}":
            return [one.strip() for one in archive.read(path).decode().split(",")]
    return None


def _check_script(archive: zipfile.ZipFile, file: str) -> None:
    """TorchScript runs code while it is opened, so what it may not call is looked for before."""
    names = [name.lower() for name in archive.namelist()]
    code = [name for name in archive.namelist() if "/code/" in name.lower()]
    if len(set(names)) < len(names) or any(_SCRIPT_CODE.search(archive.read(name)) for name in code):
        raise ArtifactError(
            "the program reads or writes files of its own, or names a file inside twice",
            file=file,
            mend="Write one that does neither save nor from_file",
        )


def _script(content: bytes, file: str) -> Program:
    try:
        with warnings.catch_warnings():
            # torch would rather see torch.export; TorchScript files are there all the same.
            warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
            module = torch.jit.load(BytesIO(content), map_location="cpu")  # type: ignore[no-untyped-call]
        arguments = module.forward.schema.arguments[1:]
    except (RuntimeError, ValueError, AttributeError) as error:
        raise ArtifactError("the TorchScript program is damaged", file=file, mend="Write it again") from error
    module.eval()
    return Program(module, sum(not one.has_default_value() for one in arguments))
