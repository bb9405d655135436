"""Training rows on disk: prepared where they are missing or out of date, and checked where they are not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ctrkit.api.models.before_training import Notes, check_labels
from ctrkit.api.models.maturity import maturity_of
from ctrkit.api.models.preparation import deciding, named_table, prepare_rows, raw_table
from ctrkit.api.models.training_config import TrainConfig
from ctrkit.api.models.training_rows import TrainingRows
from ctrkit.config import ConfigLike
from ctrkit.data.encoder import Encoder
from ctrkit.data.raw_table import RawTable, states_of_vectors
from ctrkit.data.store import MANIFEST, Store, is_store, open_store
from ctrkit.data.versions import differences, plain_differences, version_of
from ctrkit.errors import DataError
from ctrkit.progress import OnStep
from ctrkit.tables import TableLike, files_of

# Larger files, in bytes all together, are not read whole.
LARGE = 1 << 28
# Differences that a message names.
_NAMED = 5


def config_of(data: TableLike | None) -> ConfigLike:
    """The config that a folder of prepared rows brings; None for anything else."""
    if not is_store(data):
        return None
    file = Path(data) / "config.yaml"
    if file.is_file():
        return file
    content: dict[str, Any] = open_store(data).record["config"]
    return content


def is_large(place: TableLike | None) -> bool:
    """Whether a table, or the files of a folder, are too large to be read whole."""
    files = [] if place is None else files_of(place) or []
    files = [path for file in files for path in (file.rglob("*") if file.is_dir() else [file])]
    return sum(file.stat().st_size for file in files if file.is_file()) > LARGE


def prepared(
    config: TrainConfig,
    data: TableLike | None,
    folder: Path,
    notes: Notes,
    on_step: OnStep,
    *,
    again: bool,
) -> Store:
    """The rows of a table, prepared in a folder; they are reused if the table, the files of vectors and the
    settings are the same.

    Args:
        config: the settings of the training.
        data: the raw table, in place of the config's own.
        folder: the folder.
        notes: receives the notes.
        on_step: called with (rows or bytes done, their number, what is being done).
        again: whether they are prepared in any case.

    Raises:
        DataError: the table is faulty, or the prepared rows are damaged.
    """
    if not again and (folder / MANIFEST).is_file():
        store = open_store(folder)
        state = named_table(config, data).state()
        looked_up = store.record.get("vectors", []) == states_of_vectors(config.features)
        same = state is not None and store.record["source"] == state and looked_up
        if same and not changed(config, store):
            notes += store.record["notes"]
            return store
    with raw_table(config, data, folder) as raw:
        return prepare_rows(config, raw, folder, notes, on_step)


def changed(config: TrainConfig, store: Store) -> list[str]:
    """What of the settings differs from those that rows were prepared with."""
    before = store.record["config"]
    return [*plain_differences(before, deciding(config), ("the data", "the config"))]


def stored_rows(config: TrainConfig, store: Store, notes: Notes) -> TrainingRows:
    """The rows of a folder, ready to train on.

    Raises:
        DataError: they were prepared with other settings, or there is nothing to learn from them.
    """
    if apart := changed(config, store):
        raise DataError(
            f"these data were prepared with other settings: {_named(apart)}",
            file=store.folder,
            hint="Prepare the data again, or train with the settings of its config.yaml",
        )
    known = store.record["data"]
    check_labels(config.features, store.encoded, store.split, notes, known["file"])
    return TrainingRows(
        None,
        known["file"],
        store.encoder,
        store.encoded,
        store.split,
        known["unknown"],
        {**known, **store.arrays},
        maturity_of(store),
        store,
    )


def raw_files(encoder: Encoder, data: TableLike) -> TableLike:
    """The raw table to read: `data`, or the files from which a folder of prepared rows was made.

    Args:
        encoder: the encoder of the model that shall read them.
        data: a table, or the folder of prepared rows.

    Raises:
        DataError: the rows have another version of the features than the model, or their files have changed.
    """
    if not is_store(data):
        return data
    store = open_store(data)
    versions = version_of(store.encoder), version_of(encoder)
    if versions[0] != versions[1]:
        apart = differences(store.encoder, encoder, ("the data", "the model"))
        raise DataError(
            f"the data have version {versions[0]} of '{store.encoder.spec.name}', and the model has"
            f" version {versions[1]} of '{encoder.spec.name}': {_named(apart)}",
            file=store.folder,
            hint="Prepare the data again and train on them, or give a raw table",
        )
    source = store.record["source"] or []
    files, events = ([one["file"] for one in source if one["events"] is of] for of in (False, True))
    there = files and all(map(os.path.exists, (*files, *events)))
    if not there or RawTable(encoder.spec, files, event_files=events).state() != source:
        raise DataError(
            "the raw files of these data are missing or have changed",
            file=store.folder,
            hint="Give the raw table as DATA",
        )
    return files


@contextmanager
def raw_rows(store: Store) -> Iterator[RawTable]:
    """The raw rows that a folder was made of, in their order, with derived columns, to be read part by part.

    Raises:
        DataError: their files are missing or have changed.
    """
    files, record = raw_files(store.encoder, store.folder), store.record
    config = TrainConfig.model_validate(record["config"])
    with TemporaryDirectory(prefix="ctrkit-") as scratch:
        # The files of a source are told apart by their place in its folder.
        place = files if config.source is None else record["data"]["file"]
        with raw_table(config, place, Path(scratch)) as raw:
            yield raw


def _named(apart: Sequence[str]) -> str:
    more = len(apart) - _NAMED
    return "; ".join(apart[:_NAMED]) + (f"; and {more} more" if more > 0 else "")
