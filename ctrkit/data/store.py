"""Encoded rows on disk: memory-mapped arrays, written chunk by chunk.

A folder of encoded rows holds one `.npy` file for each array, `encoder.json`, which is the fitted encoder as
plain data, `arrays.zip` (see `ctrkit.array_files`), by which the rows are recognised later, and `store.json`,
which is written last: a folder without it is not complete. No file can hold code.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ctrkit.array_files import read_arrays, write_arrays
from ctrkit.data.encoder import EncodedTable, Encoder
from ctrkit.data.split import Split
from ctrkit.data.versions import version_of
from ctrkit.errors import DataError, RunError
from ctrkit.tables import atomic_path, write_json

FORMAT = 1
MANIFEST, ENCODER, ARRAYS = "store.json", "encoder.json", "arrays.zip"
_PART, PARTS = "part", ("train", "valid", "test")
_AGAIN = "Prepare the data again, with `ctrkit prepare` or `ctrkit train --prepare-data`"
_BLOCK = 1 << 24
# Tables of more bytes are read block by block.
SMALL = 1 << 30


@dataclass(frozen=True)
class StoredTable(EncodedTable):
    """Encoded rows whose arrays lie on disk.

    Attributes:
        digest: their fingerprint.
    """

    digest: str = ""

    @property
    def in_blocks(self) -> bool:
        return sum(array.nbytes for array in self.arrays().values()) > SMALL

    def fingerprint(self) -> str:
        return self.digest


@dataclass(frozen=True)
class Store:
    """Rows that are ready to train on.

    Attributes:
        folder: their folder.
        encoder: what encoded them.
        encoded: all rows, encoded.
        split: which rows are training, validation and test rows.
        record: what is known of the raw rows, as plain data.
        arrays: what is known of them as plain data and arrays.
    """

    folder: Path
    encoder: Encoder
    encoded: StoredTable
    split: Split
    record: dict[str, Any]
    arrays: dict[str, Any]


class StoreWriter:
    """Writes encoded rows, a chunk at a time in the order of the table. Use `writing`.

    Args:
        folder: the folder.
        rows: number of rows of the whole table.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder, self.rows = folder, rows
        # Temporary files, which get their names at the end.
        self.files = ExitStack()
        self.manifest: dict[str, Any] = {}
        self._written: dict[str, tuple[Path, BinaryIO, tuple[int, ...]]] = {}
        self._done = 0

    def add(self, data: EncodedTable) -> None:
        """Append some rows."""
        for name, array in data.arrays().items():
            self._append(name, array)
        self._done += len(data)

    def finish(
        self, encoder: Encoder, split: Split, record: Mapping[str, Any], arrays: Mapping[str, Any]
    ) -> None:
        """Write what is not an array of rows, after the last of them.

        Args:
            encoder: what encoded the rows.
            split: which rows are training, validation and test rows.
            record: what is known of the raw rows, as plain data.
            arrays: what is known of them as plain data and arrays.

        Raises:
            RunError: the table has had another number of rows meanwhile.
        """
        if self._done != self.rows:
            raise RunError(
                f"The table had {self.rows:,} rows at first and {self._done:,} later. Prepare it again."
            )
        names = list(self._written)
        fingerprint = self._fingerprint()
        self._append(_PART, split.parts)
        content = self.files.enter_context(atomic_path(self.folder / ENCODER))
        content.write_text(json.dumps(encoder.state()), encoding="utf-8")
        write_arrays(dict(arrays), self.files.enter_context(atomic_path(self.folder / ARRAYS)))
        self.manifest = {
            "format": FORMAT,
            "name": encoder.spec.name,
            "version": version_of(encoder),
            "rows": {name: int(getattr(split, name).size) for name in PARTS},
            "arrays": names,
            "fingerprint": fingerprint,
            "split": split.describe(),
            "record": dict(record),
        }

    def _append(self, name: str, array: NDArray[Any]) -> None:
        if name not in self._written:
            path = self.files.enter_context(atomic_path(self.folder / f"{name}.npy"))
            file = self.files.enter_context(path.open("wb"))
            shape = (self.rows, *array.shape[1:])
            kind = npy.dtype_to_descr(array.dtype)
            npy.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
            self._written[name] = path, file, shape
        self._written[name][1].write(np.ascontiguousarray(array).data)

    def _fingerprint(self) -> str:
        """The fingerprint of the rows, as `EncodedTable` has it, read in blocks."""
        digest = hashlib.sha256()
        for name, (path, written, shape) in self._written.items():
            written.flush()
            if name == "groups":
                continue
            digest.update(str(shape).encode())
            with path.open("rb") as file:
                npy.read_magic(file)
                npy.read_array_header_1_0(file)
                while block := file.read(_BLOCK):
                    digest.update(block)
        return digest.hexdigest()


@contextmanager
def writing(folder: Path, rows: int) -> Iterator[StoreWriter]:
    """Write a folder of encoded rows: it is complete, or the folder holds what it held before.

    Yields the writer, whose `finish` must be called at the end.

    Raises:
        RunError: the operating system refuses: no room, no permission.
    """
    writer = StoreWriter(folder, rows)
    with writer.files:
        yield writer
        (folder / MANIFEST).unlink(missing_ok=True)
    write_json(writer.manifest, folder / MANIFEST)


def is_store(path: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether this is the path of a folder of encoded rows, complete or not."""
    if not isinstance(path, (str, os.PathLike)):
        return False
    return any((Path(path) / name).is_file() for name in (MANIFEST, ENCODER))


def open_store(folder: str | os.PathLike[str]) -> Store:
    """Open a folder of encoded rows. Its arrays are mapped into memory, and read when they are used.

    Raises:
        DataError: the folder is not complete, damaged, or of a newer format.
    """
    home = Path(folder)
    if not (home / MANIFEST).is_file():
        raise DataError("the prepared data are not complete", file=home, hint=_AGAIN)
    try:
        known = json.loads((home / MANIFEST).read_text(encoding="utf-8"))
        if known["format"] > FORMAT:
            raise DataError(
                f"the prepared data have format {known['format']}, but this ctrkit reads up to {FORMAT}",
                file=home,
                hint="Install a newer ctrkit, or prepare the data again",
            )
        encoder = Encoder.from_state(json.loads((home / ENCODER).read_text(encoding="utf-8")))
        found = {name: _mapped(home / f"{name}.npy") for name in (*known["arrays"], _PART)}
        sizes = {len(array) for array in found.values()} | {sum(known["rows"].values())}
        if len(sizes) > 1 or version_of(encoder) != known["version"]:
            raise ValueError("its parts are not of one table")
        part = found.pop(_PART)
        listed = {
            sequence.name: found.pop(f"sequence-{place}")
            for place, sequence in enumerate(encoder.spec.sequences)
        }
        bags = {bag.name: found.pop(f"bag-{place}") for place, bag in enumerate(encoder.spec.bags)}
        weighted = [bag.name for bag in encoder.spec.bags if bag.weights is not None]
        weights = {name: found.pop(f"weights-{place}") for place, name in enumerate(weighted)}
        encoded = StoredTable(
            **found,
            sequences=listed,
            bags=bags,
            bag_weights=weights,
            counted=encoder.spec.impressions is not None,
            digest=known["fingerprint"],
        )
        ends = known["split"]["boundaries"]
        train, valid, test = (np.flatnonzero(part == index) for index in range(len(PARTS)))
        boundaries = None if ends is None else (ends[0], ends[1])
        split = Split(train, valid, test, known["split"]["by"], boundaries)
        return Store(home, encoder, encoded, split, known["record"], read_arrays(home / ARRAYS))
    except DataError:
        raise
    except Exception as error:  # of many kinds, by the damage
        raise DataError("the prepared data are damaged", file=home, hint=_AGAIN) from error


def _mapped(path: Path) -> NDArray[Any]:
    """An array of a file. A write to it would stay in memory: torch takes no arrays that are read-only."""
    return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
