"""Writes an exported model, and checks that it gives what the model gives."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctrkit.array_files import write_arrays
from ctrkit.arrays import Booleans, Floats
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.encoder import Encoder
from ctrkit.data.raw_encoder import RawEncoder
from ctrkit.data.versions import version_of
from ctrkit.errors import ConfigError, DataError, RunError
from ctrkit.models.onnx import OnnxModel
from ctrkit.progress import OnStep, silent
from ctrkit.serving.batch import encoded_rows, raw_rows, write_batch
from ctrkit.serving.bundle import (
    ENCODER,
    FORMAT,
    MANIFEST,
    READING,
    ROWS,
    Graphs,
    arrays_of,
    graphs_of,
    sealed,
)
from ctrkit.serving.graphs import GRAPHS, CalibratedModel, UserGraph
from ctrkit.serving.parity import TOLERANCE, Parity, any_rows, compared
from ctrkit.serving.reductions import Reduction, check_formats, reduce_files
from ctrkit.serving.sessions import session_of
from ctrkit.serving.writing import writer_of
from ctrkit.tables import unwritable, write_json

# Rows on which graphs are traced: their number must be none that the model itself has.
_TRACED = 37
# Reduced graphs round by the rows of a call and by the processor; their logits agree to this share.
_REDUCED_TOLERANCE = 0.05


@dataclass(frozen=True)
class Answers:
    """What a model gives for some rows.

    Attributes:
        wanted: output -> [n], or [n, T] for logits.
        jumps: rows where a calibrator jumps so close to the logit that rounding decides, [n].
    """

    wanted: Mapping[str, Floats]
    jumps: Booleans


def export(
    model: CalibratedModel,
    encoder: Encoder,
    kind: str,
    folder: Path,
    answers: Callable[[EncodedTable], Answers],
    real: EncodedTable | None = None,
    reductions: Sequence[Reduction] = (),
    about: Mapping[str, Any] | None = None,
    on_step: OnStep = silent,
) -> tuple[list[str], dict[str, Parity]]:
    """Write an exported model into a folder; if the check fails, the folder holds what it held before.

    Args:
        model: the model and its calibrators.
        encoder: what encodes rows for it.
        kind: the format.
        folder: where to.
        answers: what the model gives for encoded rows.
        real: real rows, encoded; None to check random rows alone.
        reductions: those that have changed the model, and change its graphs once these are checked.
        about: further content of `export.json`.
        on_step: called with (graphs written, their number, what is being done).

    Returns:
        The files, and rows -> how their outputs compare, for "random" and "real" rows.

    Raises:
        ConfigError: the format is unknown or none for the model, a package that it needs is not installed, or
            there are no rows to compare.
        RunError: the outputs of the graphs differ from the model's by more than 1e-5, or a file cannot be
            written.
    """
    write, opens, interface = writer_of(model.network, kind), session_of(kind), model.interface
    check_formats(reductions, kind)
    rows = {"random": any_rows(encoder), **({} if real is None else {"real": real})}
    examples = examples_of(model, arrays_of(rows["random"]))
    manifest = {
        "format": FORMAT,
        "kind": kind,
        "name": encoder.spec.name,
        "features": version_of(encoder),
        "interface": asdict(interface),
        **({READING: model.network.config.reading} if isinstance(model.network, OnnxModel) else {}),
        **(about or {}),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as made:
            part = Path(made)
            for done, name in enumerate(interface.graphs):
                on_step(done, len(interface.graphs), f"exporting the graph '{name}'")
                write(GRAPHS[name](model), examples[name], part / f"{name}{opens.suffix}")
            on_step(len(interface.graphs), len(interface.graphs), "checking the graphs")
            graphs, checked = graphs_of(manifest, part, encoder), {}
            for name, table in rows.items():
                try:
                    answer = answers(table)
                except (DataError, RunError):
                    # An imported model need not take random values, such as unknown categories.
                    if name == "real" or not isinstance(encoder, RawEncoder):
                        raise
                    continue
                checked[name] = compared(graphs, table, answer.wanted, answer.jumps)
                _need_parity(name, checked[name])
                taken = table
            if not checked:
                raise ConfigError(
                    "the imported model takes no random values, so nothing was compared",
                    hint="Give rows that it takes with --data",
                )
            if reductions:
                written = [part / f"{name}{opens.suffix}" for name in interface.graphs]
                manifest["kind"] = reduce_files(reductions, kind, written)
            batch = raw_rows(encoder, taken)
            answer, tolerance = answers(encoded_rows(encoder, batch)), TOLERANCE
            if reductions:
                answer = _of_reduced(graphs_of(manifest, part, encoder), encoded_rows(encoder, batch))
                tolerance = _REDUCED_TOLERANCE
            write_batch(batch, answer.wanted, answer.jumps, tolerance, part)
            write_arrays(encoder.state(), part / ENCODER)
            parity = {name: asdict(one) for name, one in checked.items()}
            known = sealed({**manifest, "parity": parity}, part)
            (folder / MANIFEST).unlink(missing_ok=True)
            for name in known["files"]:
                (part / name).replace(folder / name)
    except OSError as error:
        raise unwritable(folder, error) from error
    write_json(known, folder / MANIFEST)
    return [*known["files"], MANIFEST], checked


def examples_of(model: CalibratedModel, arrays: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """Graph -> tensors of its inputs, to trace it on."""
    interface = model.interface
    static = {name: torch.from_numpy(arrays[name][:_TRACED]) for name in interface.static}
    many = {name: torch.from_numpy(arrays[name][:_TRACED]) for name in interface.sequences}
    one = {name: ids[-1:] for name, ids in many.items()}
    state: dict[str, Tensor] = {}
    if interface.state:
        with torch.no_grad():
            encoded = UserGraph(model)(*one.values())
        state = dict(zip(interface.state, encoded, strict=True))
    return {name: {**static, **(many if name == ROWS else one), **state} for name in interface.graphs}


def _of_reduced(graphs: Graphs, rows: EncodedTable) -> Answers:
    """What reduced graphs give. Logits alone are compared: rounding decides at steps of calibrators."""
    return Answers(graphs.score(arrays_of(rows)), np.ones(len(rows), dtype=np.bool_))


def _need_parity(rows: str, parity: Parity) -> None:
    if not parity.largest_difference <= TOLERANCE:
        raise RunError(
            f"The exported model differs from the model by {parity.largest_difference:.2g} on {rows} rows, "
            f"and {TOLERANCE:g} is allowed. Nothing was written: choose another format, and tell us of it."
        )
