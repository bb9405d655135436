"""An exported model: a folder of graphs, and of what encodes rows for them.

`export.json` is written last: a folder without it is not complete. It has the hash of every other file, and
the version of the model is a hash of what it says, so that a changed byte anywhere is found. No file can
hold code, and a folder is opened without PyTorch, but for graphs of PyTorch's own format.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrkit.array_files import read_arrays
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.encoder import Encoder
from ctrkit.data.raw_encoder import RawEncoder, encoder_of
from ctrkit.data.raw_model import RawModel
from ctrkit.data.versions import DIGITS
from ctrkit.errors import ArtifactError, ConfigError
from ctrkit.serving.sessions import Arrays, OnnxSession, Session, session_of

FORMAT = 2
MANIFEST, ENCODER = "export.json", "encoder.zip"
# What calibrators read alone: logits before them, and ids.
ANSWERED = "found", "ids"
# The file of an imported model, and the key of how it is read.
IMPORTED, READING = "imported.onnx", "imported"
# Names of the graphs: whole rows; the history of a user, and candidates against it.
ROWS, USER, CANDIDATES = "rows", "user", "candidates"
# Outputs beside the probabilities of the tasks.
LOGITS, VALUE = "logits", "value"
_AGAIN = "Export the model again with `ctrkit export`"


@dataclass(frozen=True)
class Interface:
    """What an exported model reads and gives.

    Attributes:
        static: names of a row's inputs but for its history.
        sequences: names of the inputs of a history.
        state: names of the arrays of an encoded history; none where a history is read as it is.
        outputs: names of the outputs: the tasks, `value` where the model has one, and `logits`.
    """

    static: tuple[str, ...]
    sequences: tuple[str, ...]
    state: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def graphs(self) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        """Graph -> its inputs and its outputs."""
        found = {ROWS: ((*self.static, *self.sequences), self.outputs)}
        if self.state:
            found[USER] = self.sequences, self.state
        if self.sequences:
            found[CANDIDATES] = (*self.static, *self.sequences, *self.state), self.outputs
        return found


class Graphs:
    """The graphs of an exported model, opened.

    Args:
        folder: where their files are.
        kind: their format.
        interface: what they read and give.
        threads: number of threads for a call.

    Raises:
        ArtifactError: a file is missing or damaged.
        ConfigError: the format is unknown, or its runtime is not installed.

    Attributes:
        parallel: whether several threads may call them at once.
    """

    def __init__(self, folder: Path, kind: str, interface: Interface, threads: int = 1) -> None:
        self.interface, opens = interface, session_of(kind)
        self.parallel = opens.parallel
        self._sessions: dict[str, Session] = {}
        for name, (inputs, outputs) in interface.graphs.items():
            self._sessions[name] = opens(_there(folder / f"{name}{opens.suffix}"), inputs, outputs, threads)

    def score(self, rows: Arrays) -> dict[str, NDArray[Any]]:
        """The outputs for n rows, by the names of `EncodedTable.arrays`.

        Each task has its probability [n] given the task before it.
        """
        return self._sessions[ROWS](rows)

    def encode(self, sequences: Arrays) -> dict[str, NDArray[Any]]:
        """One history, [1, L] in each array, ready for any number of candidates."""
        own = {name: sequences[name] for name in self.interface.sequences}
        return {**own, **self._sessions[USER](own)} if self.interface.state else own

    def score_candidates(self, static: Arrays, history: Arrays) -> dict[str, NDArray[Any]]:
        """The outputs for K candidates of one history, which `encode` gave."""
        return self._sessions[CANDIDATES]({**static, **history})


class ImportedGraphs(Graphs):
    """An imported model, which reads the raw values of encoded rows, and its calibrators as a graph.

    Args:
        folder: where their files are.
        interface: what they read and give.
        reading: how the model is read, as `RawModel` takes it.
        encoder: what encodes the rows, and holds their raw values.
        threads: number of threads for a call.

    Raises:
        ArtifactError: a file is missing or damaged.
        ConfigError: ONNX Runtime is not installed.
    """

    def __init__(
        self,
        folder: Path,
        interface: Interface,
        reading: Mapping[str, Any],
        encoder: RawEncoder,
        threads: int = 1,
    ) -> None:
        # The encoder holds the raw values of the rows that it has encoded last.
        self.interface, self._encoder, self.parallel = interface, encoder, False
        self._answers = OnnxSession(
            _there(folder / f"{ROWS}{OnnxSession.suffix}"), ANSWERED, interface.outputs, threads
        )
        path = _there(folder / IMPORTED)
        self._model = RawModel(
            path.read_bytes(), str(path), **reading, feature_map=encoder.feature_map(), threads=threads
        )

    def score(self, rows: Arrays) -> dict[str, NDArray[Any]]:
        count = len(next(iter(rows.values())))
        ids = rows.get("categorical", np.empty((count, 0), np.int32))
        numbers = rows.get("numeric", np.empty((count, 0), np.float32))
        found = self._model.logits(ids, numbers, self._encoder)
        return self._answers(dict(zip(ANSWERED, (found, ids), strict=True)))


def graphs_of(known: Mapping[str, Any], folder: Path, encoder: Encoder, threads: int = 1) -> Graphs:
    """The graphs of an exported model, opened.

    Args:
        known: what `export.json` says.
        folder: where their files are.
        encoder: what encodes rows.
        threads: number of threads for a call.
    """
    interface = Interface(**{name: tuple(names) for name, names in known["interface"].items()})
    if READING not in known:
        return Graphs(folder, known["kind"], interface, threads)
    if not isinstance(encoder, RawEncoder):
        raise ValueError("an imported model reads raw values")
    return ImportedGraphs(folder, interface, known[READING], encoder, threads)


def _there(path: Path) -> Path:
    if not path.is_file():
        raise ArtifactError("the graph is missing", file=path, hint=_AGAIN)
    return path


@dataclass(frozen=True)
class Bundle:
    """An exported model.

    Attributes:
        known: what `export.json` says.
        encoder: what encodes rows.
        graphs: its graphs, opened.
    """

    known: dict[str, Any]
    encoder: Encoder
    graphs: Graphs


def open_bundle(folder: str | os.PathLike[str], threads: int = 1) -> Bundle:
    """Open an exported model.

    Args:
        folder: its folder.
        threads: number of threads for a call.

    Raises:
        ArtifactError: the folder is not complete, damaged, or of a newer format.
        ConfigError: the runtime is not installed.
    """
    home = Path(folder)
    known = read_manifest(home)
    check_files(home, known)
    try:
        encoder = encoder_of(read_arrays(home / ENCODER))
        return Bundle(known, encoder, graphs_of(known, home, encoder, threads))
    except (ArtifactError, ConfigError):
        raise
    except Exception as error:  # of many kinds, by the damage
        raise _damaged(home) from error


def sealed(manifest: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What `export.json` shall say: a manifest with the hashes of all files, and the version of the model.

    Args:
        manifest: what else it says.
        folder: the files, which are complete.
    """
    files = {path.name: _digest(path) for path in sorted(folder.iterdir())}
    known = {**manifest, "files": files}
    return {**known, "version": _version(known)}


def read_manifest(folder: Path) -> dict[str, Any]:
    """What `export.json` says.

    Raises:
        ArtifactError: it is missing or damaged, or of another format.
    """
    if not (folder / MANIFEST).is_file():
        raise ArtifactError("this is no exported model, or it is not complete", file=folder, hint=_AGAIN)
    try:
        known: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if known["format"] > FORMAT:
            raise ArtifactError("the export is of a newer ctrkit", file=folder, hint="Install a newer ctrkit")
        if known["format"] < FORMAT:
            raise ArtifactError("the export is of an older ctrkit", file=folder, hint=_AGAIN)
        inside = all(Path(name).name == name for name in known["files"])
        if known["version"] != _version(known) or not inside:
            raise _damaged(folder)
    except ArtifactError:
        raise
    except Exception as error:  # of many kinds, by the damage
        raise _damaged(folder) from error
    return known


def check_files(folder: Path, known: Mapping[str, Any]) -> None:
    """Check that the files of an exported model are those that were written.

    Args:
        folder: the folder.
        known: what its `export.json` says.

    Raises:
        ArtifactError: a file is missing or has changed.
    """
    for name, digest in known["files"].items():
        path = folder / name
        if not path.is_file():
            raise ArtifactError("the file is missing", file=path, hint=_AGAIN)
        if _digest(path) != digest:
            raise ArtifactError("the file is damaged: its hash is another", file=path, hint=_AGAIN)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(known: Mapping[str, Any]) -> str:
    said = json.dumps({name: value for name, value in known.items() if name != "version"}, sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:DIGITS]


def _damaged(folder: Path) -> ArtifactError:
    return ArtifactError("the exported model is damaged", file=folder, hint=_AGAIN)


def arrays_of(rows: EncodedTable) -> dict[str, NDArray[Any]]:
    """The arrays of encoded rows, a row each, with histories as padded lists; features are called by place.

    Where training changes vectors of a file, `vector-rows-<place>` says which of them a row has.
    """
    found = {name: column[:] for name, column in rows.arrays().items()}
    for place, one in enumerate(rows.vectors.values()):
        if one.rows is not None:
            found |= {f"vector-{place}": one.values[one.rows], f"vector-rows-{place}": one.rows}
    return found
