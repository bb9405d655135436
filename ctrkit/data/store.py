"""Encoded rows on disk: memory-mapped arrays, written chunk by chunk.

A folder of encoded rows holds one `.npy` file for each array (of a sequence, one for its events and one for
the ends of rows; their lengths are the same in all sequences of a domain), `encoder.json`, which is the
fitted encoder as plain data, `arrays.zip` (see `ctrkit.array_files`), by which the rows are recognised later,
and `store.json`, which is written last: a folder without it is not complete. No file can hold code.
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
from ctrkit.data.encoded import EncodedTable, add_to_digest
from ctrkit.data.encoder import Encoder
from ctrkit.data.histories import Histories, Ids
from ctrkit.data.split import Split
from ctrkit.data.versions import version_of
from ctrkit.errors import DataError, RunError
from ctrkit.schema import FeatureSpec
from ctrkit.tables import atomic_path, write_json

# Format 1 had padded lists.
FORMAT = 2
MANIFEST, ENCODER, ARRAYS = "store.json", "encoder.json", "arrays.zip"
_PART, _LENGTHS, PARTS = "part", "lengths", ("train", "valid", "test")
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
        return sum(column.nbytes for column in self.arrays().values()) > SMALL

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
        spec: what the columns mean.
    """

    def __init__(self, folder: Path, rows: int, spec: FeatureSpec) -> None:
        self.folder, self.rows, self._lengths = folder, rows, _lengths(spec)
        # Temporary files, which get their names at the end.
        self.files = ExitStack()
        self.manifest: dict[str, Any] = {}
        self._written: dict[str, _ArrayFile] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        # The events that were written last, and where they begin.
        self._events: dict[str, tuple[Ids, int]] = {}
        self._done = 0

    def add(self, data: EncodedTable) -> None:
        """Append some rows."""
        lengths = {}
        for name, column in data.arrays().items():
            self._shapes[name] = self.rows, *column.shape[1:]
            if isinstance(column, Histories):
                self._append(_ends(name), column.ends + self._start_of(name, column.ids))
                lengths[self._lengths[name]] = column.lengths
            else:
                self._append(name, column)
        for name, of_domain in lengths.items():
            self._append(name, of_domain)
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
        self._append(_PART, split.parts)
        for written in self._written.values():
            written.finish()
        fingerprint = self._fingerprint(encoder)
        content = self.files.enter_context(atomic_path(self.folder / ENCODER))
        state = encoder.state()
        looked_up = {"vectors": state.pop("vectors")}
        content.write_text(json.dumps(state), encoding="utf-8")
        write_arrays({**arrays, **looked_up}, self.files.enter_context(atomic_path(self.folder / ARRAYS)))
        self.manifest = {
            "format": FORMAT,
            "name": encoder.spec.name,
            "version": version_of(encoder),
            "rows": {name: int(getattr(split, name).size) for name in PARTS},
            "arrays": list(self._written),
            "fingerprint": fingerprint,
            "split": split.describe(),
            "record": dict(record),
        }

    def _start_of(self, name: str, events: Ids) -> int:
        """Where the events of a sequence begin. They are written unless the rows before have the same."""
        if name not in self._events or self._events[name][0] is not events:
            self._events[name] = events, self._written[name].size if name in self._written else 0
            self._append(name, events)
        return self._events[name][1]

    def _append(self, name: str, array: NDArray[Any]) -> None:
        if name not in self._written:
            path = self.files.enter_context(atomic_path(self.folder / f"{name}.npy"))
            self._written[name] = _ArrayFile(path, self.files.enter_context(path.open("wb")), array)
        self._written[name].append(array)

    def _fingerprint(self, encoder: Encoder) -> str:
        """The fingerprint of the rows, as `EncodedTable` has it, read in blocks."""
        digest = hashlib.sha256()
        for name, shape in self._shapes.items():
            if _ends(name) in self._written:
                files = name, _ends(name), self._lengths[name]
                ids, ends, lengths = (_mapped(self._written[one].path) for one in files)
                add_to_digest(digest, Histories(ids, ends, lengths, shape[1]))
            elif name != "groups":
                digest.update(str(shape).encode())
                for block in self._written[name].blocks():
                    digest.update(block)
        for stock in encoder.stocks.values():
            if stock.table is not None:
                digest.update(stock.table.values.data)
        return digest.hexdigest()


class _ArrayFile:
    """An array on disk that grows.

    Args:
        path: where it is written.
        file: the same, opened.
        like: what is appended has its type and its shape, but for the first size.

    Attributes:
        size: its first size so far.
    """

    def __init__(self, path: Path, file: BinaryIO, like: NDArray[Any]) -> None:
        self.path, self.size = path, 0
        self._file, self._kind, self._shape = file, npy.dtype_to_descr(like.dtype), like.shape[1:]
        self._write_header()

    def append(self, array: NDArray[Any]) -> None:
        self._file.write(np.ascontiguousarray(array).data)
        self.size += len(array)

    def finish(self) -> None:
        """Write its size: the header is made so that it keeps its own."""
        self._file.seek(0)
        self._write_header()
        self._file.flush()

    def blocks(self) -> Iterator[bytes]:
        """Its bytes, after `finish`."""
        with self.path.open("rb") as file:
            npy.read_magic(file)
            npy.read_array_header_1_0(file)
            while block := file.read(_BLOCK):
                yield block

    def _write_header(self) -> None:
        shape = self.size, *self._shape
        npy.write_array_header_1_0(self._file, {"descr": self._kind, "fortran_order": False, "shape": shape})


@contextmanager
def writing(folder: Path, rows: int, spec: FeatureSpec) -> Iterator[StoreWriter]:
    """Write a folder of encoded rows: it is complete, or the folder holds what it held before.

    Yields the writer, whose `finish` must be called at the end.

    Raises:
        RunError: the operating system refuses: no room, no permission.
    """
    writer = StoreWriter(folder, rows, spec)
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
                f"the prepared data have format {known['format']}, but this ctrkit reads {FORMAT}",
                file=home,
                hint="Install a newer ctrkit, or prepare the data again",
            )
        if known["format"] < FORMAT:
            raise DataError("the prepared data are of an earlier version of ctrkit", file=home, hint=_AGAIN)
        arrays = read_arrays(home / ARRAYS)
        state = json.loads((home / ENCODER).read_text(encoding="utf-8"))
        encoder = Encoder.from_state({**state, "vectors": arrays.pop("vectors", {})})
        found = {name: _mapped(home / f"{name}.npy") for name in known["arrays"]}
        events = {
            sequence.name: (found.pop(f"sequence-{place}"), found.pop(_ends(f"sequence-{place}")))
            for place, sequence in enumerate(encoder.spec.sequences)
        }
        sizes = {len(array) for array in found.values()} | {len(ends) for _, ends in events.values()}
        if sizes != {sum(known["rows"].values())} or version_of(encoder) != known["version"]:
            raise ValueError("its parts are not of one table")
        part, width = found.pop(_PART), encoder.feature_map().max_length
        of_domain = list(_lengths(encoder.spec).values())
        lengths = {name: found.pop(name) for name in {*of_domain}}
        histories = {
            name: Histories(*one, lengths[array], width)
            for (name, one), array in zip(events.items(), of_domain, strict=True)
        }
        bags = {bag.name: found.pop(f"bag-{place}") for place, bag in enumerate(encoder.spec.bags)}
        weighted = [bag.name for bag in encoder.spec.bags if bag.weights is not None]
        weights = {name: found.pop(f"weights-{place}") for place, name in enumerate(weighted)}
        vectors = {
            name: stock.stored(found.pop(f"vector-{place}"))
            for place, (name, stock) in enumerate(encoder.stocks.items())
        }
        encoded = StoredTable(
            **found,
            sequences=histories,
            bags=bags,
            bag_weights=weights,
            vectors=vectors,
            counted=encoder.spec.impressions is not None,
            digest=known["fingerprint"],
        )
        ends = known["split"]["boundaries"]
        train, valid, test = (np.flatnonzero(part == index) for index in range(len(PARTS)))
        boundaries = None if ends is None else (ends[0], ends[1])
        split = Split(train, valid, test, known["split"]["by"], boundaries)
        return Store(home, encoder, encoded, split, known["record"], arrays)
    except DataError:
        raise
    except Exception as error:  # of many kinds, by the damage
        raise DataError("the prepared data are damaged", file=home, hint=_AGAIN) from error


def _lengths(spec: FeatureSpec) -> dict[str, str]:
    """The place of each sequence -> the array of its lengths, one for each domain."""
    domain_of = {one.name: place for place, domain in enumerate(spec.domains) for one in domain}
    places = (domain_of[one.name] for one in spec.sequences)
    return {f"sequence-{at}": f"{_LENGTHS}-{of}" if of else _LENGTHS for at, of in enumerate(places)}


def _ends(name: str) -> str:
    return f"{name}-ends"


def _mapped(path: Path) -> NDArray[Any]:
    """An array of a file. A write to it would stay in memory: torch takes no arrays that are read-only."""
    return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
