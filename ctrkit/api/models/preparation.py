"""Preparation of training data in passes of bounded memory: split, learn the encoder, encode, write."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.api.models.before_training import Notes, group_notes
from ctrkit.api.models.negative_rows import notes_on, sampled_log
from ctrkit.api.models.profile import training_profile
from ctrkit.api.models.training_config import TrainConfig, training_place
from ctrkit.api.models.training_rows import counted_rows
from ctrkit.arrays import columns_of
from ctrkit.data.delays import LateLabels, columns_read, settled
from ctrkit.data.derive import EventFiles
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.encoder import Encoder
from ctrkit.data.fingerprints import event_hashes, field_hashes, row_hashes, seen_by, times_digest, times_of
from ctrkit.data.labels import Groups, read_weights
from ctrkit.data.learning import Learning
from ctrkit.data.negatives import counting
from ctrkit.data.raw_table import ROWS, RawTable, Samples, states_of_vectors
from ctrkit.data.split import Split, key_of, split_rows
from ctrkit.data.store import PARTS, Store, open_store, writing
from ctrkit.data.unlike import spread, unknown_by_part
from ctrkit.errors import RunError
from ctrkit.progress import OnStep, silent
from ctrkit.schema import FeatureSpec
from ctrkit.tables import TableLike, plain_errors, table_writer, unwritable

# For people and other tools.
FILES = {"train": "train_data.parquet", "valid": "val_data.parquet", "test": "test_data.parquet"}


@contextmanager
def raw_table(config: TrainConfig, data: TableLike | None, folder: Path) -> Iterator[RawTable]:
    """The raw rows of a training, as a table that can be read part by part.

    Rows of a data source, and rows with derived columns, are written into a temporary folder first, part by
    part where the types of a table are known before all of it is read (see `RowReader.in_parts`).

    Args:
        config: the settings of the training.
        data: the table, in place of the config's own.
        folder: takes the temporary folder.
    """
    named = named_table(config, data)
    if config.source is None and not config.reader.derives(named.source):
        yield named
        return
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".raw") as scratch:
        file = Path(scratch) / "rows.parquet"
        parts = Path(scratch) / "derived"
        parts.mkdir()
        events = EventFiles(
            Path(scratch) / "events", [sequence.name for sequence in config.features.sequences]
        )
        rows = config.reader.in_parts(named.source, parts, events)
        if rows is None:
            yield replace(named, source=config.reader.whole(named.source)[0], origin=named.source)
            return
        try:
            with plain_errors():
                rows.sink_parquet(file, row_group_size=ROWS)
        except OSError as error:
            raise unwritable(file, error) from error
        yield replace(named, source=file, origin=named.source, events=events.columns())


def named_table(config: TrainConfig, data: TableLike | None) -> RawTable:
    """The raw rows of a training before columns are derived: by their files, prepared rows are reused."""
    files = tuple(config.events.values()) if config.source is None else ()
    return RawTable(config.features, training_place(config, data), event_files=files)


def prepare_rows(
    config: TrainConfig, raw: RawTable, folder: Path, notes: Notes, on_step: OnStep = silent
) -> Store:
    """Learn an encoder from the training rows of a table, encode all rows and write them into a folder.

    The table is read three times, chunk by chunk. Memory grows with the number of distinct ids, and by some
    50 bytes for each row: its time, its part, and the hashes by which it is recognised later.

    Args:
        config: the features, the split and the seed.
        raw: the raw table.
        folder: takes the rows.
        notes: receives the notes.
        on_step: called with (rows or bytes done, their number, what is being done).

    Raises:
        DataError: the table is faulty.
        RunError: the folder cannot be written.
    """
    spec, state = config.features, raw.state()
    labels = (*spec.labels.values(), *columns_read(config.delays)) if config.delays else ()
    whole = _narrow(raw, (*labels, key_of(spec, config.split)), on_step)
    late = LateLabels.read(config.delays, spec, whole, raw.file)
    until = None if late is None else late.settled_until
    split = split_rows(spec, config.split, whole, config.seed, raw.file, until)
    outcomes = None if late is None else late.outcomes(split)
    if (ties := split.note(config.split)) is not None:
        notes.tell(ties)
    if config.sampling.negatives is not None:
        raw = sampled = sampled_log(config, raw, split, whole)
        notes.extend(notes_on(config, sampled))
        split, whole = sampled.split(split), whole[sampled.sources]
    encoder, groups, profiled, unknown = _learn(raw, split, whole, notes, on_step)
    times, count = times_of(spec, whole), whole.height
    digest = times_digest(times)
    del whole, late
    mass = np.ones(profiled.height)
    if spec.weight is not None:
        mass = read_weights(spec.weight, profiled, raw.file)
    numbers = np.empty(count if spec.group else 0, dtype=np.int64)
    content, event = (np.empty(count, dtype=np.uint64) for _ in range(2))
    told = True
    parts = split.parts
    with writing(folder, count, encoder.spec) as writer:
        tables = _PartWriters(spec, config.delays, folder, writer.files)
        events = encoder.event_ids(raw.events)
        for rows in raw.chunks(spec.columns, pointers=True):
            on_step(rows.done, rows.total, "encoding")
            here = slice(rows.start, rows.start + rows.table.height)
            data = counting(encoder.encode(rows.table, rows.file, events=events), rows.counts)
            if outcomes is not None:
                data = outcomes.of(data, here)
            if spec.group is not None:
                numbers[here] = groups.numbers(rows.table[spec.group], rows.start)
                data = replace(data, groups=numbers[here])
            writer.add(data)
            fields, lasting = field_hashes(data), settled(config.delays, data, spec.tasks)
            content[here] = row_hashes(lasting, fields)
            moments = None if times is None else times[here]
            of_events = event_hashes(spec, rows.table, lasting, moments, fields)
            told = told and of_events is not None
            event[here] = 0 if of_events is None else of_events
            tables.add(rows.table, data, parts[here])
        if spec.group is not None:
            notes += group_notes(spec.group, numbers, lambda row: groups.values[int(numbers[row]) - 1])
        if raw.state() != state:
            raise RunError(f"{raw.file} has changed while it was read. Prepare it again.")
        del times
        held_out = np.flatnonzero(parts)
        seen = notes.attempt(
            "sample that recognises the training rows",
            lambda: seen_by(content, event if told else None, split.train, held_out, split.valid),
        )
        known = {
            "file": raw.file,
            "times": digest,
            "rows": count,
            "unknown": unknown,
            "maturity": [] if outcomes is None else [asdict(one) for one in outcomes.maturity],
            "profile": notes.attempt(
                "profile of the training rows, so drift cannot be measured without them",
                lambda: training_profile(spec, profiled, mass),
            ),
        }
        record = {
            "config": deciding(config),
            "source": state,
            "vectors": states_of_vectors(spec),
            "data": known,
            "notes": list(notes),
        }
        writer.finish(encoder, split, record, {"seen": seen})
    return open_store(folder)


def deciding(config: TrainConfig) -> dict[str, Any]:
    """The settings that decide how rows are prepared, as plain data."""
    names = ("source", "events", "derive", "features", "delays", "split", "seed")
    content: dict[str, Any] = config.model_dump(mode="json")
    found = {name: content[name] for name in names}
    negatives = content["sampling"]["negatives"]
    return found if negatives is None else {**found, "negatives": negatives}


def _narrow(raw: RawTable, others: Sequence[str | None], on_step: OnStep) -> pl.DataFrame:
    """The columns that are needed of all rows at once: times, weights, others that are named, and the labels
    by which outcomes of a row of sums are told; or any one column."""
    spec = raw.spec
    held = [name for name in (spec.timestamp, spec.weight, *others) if name is not None]
    if spec.impressions is not None:
        held += spec.labels.values()
    found = []
    for rows in raw.chunks(held or list(spec.labels.values())[:1]):
        on_step(rows.done, rows.total, "dividing")
        found.append(rows.table)
    return spec.typed(pl.concat(found, how="vertical_relaxed"), raw.file)


def _learn(
    raw: RawTable, split: Split, whole: pl.DataFrame, notes: Notes, on_step: OnStep
) -> tuple[Encoder, Groups, pl.DataFrame, dict[str, dict[str, float]]]:
    """The encoder, the groups, some training rows to profile, and the shares of unknown ids."""
    spec = raw.spec
    mine = counted_rows(spec, whole, split.train)
    others = np.ones(whole.height, dtype=np.bool_)
    others[mine] = False
    parts = {name: spread(getattr(split, name)) for name in PARTS}
    samples = Samples(
        {
            "mine": spread(mine),
            "others": spread(np.flatnonzero(others)),
            **parts,
        }
    )
    learning, groups = Learning(spec, mine.size, raw.file), Groups()
    for rows in raw.chunks(spec.columns):
        on_step(rows.done, rows.total, "learning ids and scales")
        learning.add(rows.table, rows.among(mine), rows.file)
        samples.add(rows)
        if spec.group is not None:
            groups.add(rows.table[spec.group])
    encoder = Encoder.learnt(learning, samples.table("mine", spec), samples.table("others", spec))
    notes += encoder.notes
    parts_of = {name: samples.table(name, spec) for name in PARTS}
    unknown, unlike = unknown_by_part(encoder, parts_of)
    notes += unlike
    return encoder, groups, parts_of["train"], unknown


class _PartWriters:
    """Writes the encoded rows of each part as a parquet table with the names of the columns.

    Args:
        spec: what the columns mean.
        late: the tasks whose labels come late.
        folder: takes the tables.
        files: closes them.
    """

    def __init__(self, spec: FeatureSpec, late: Collection[str], folder: Path, files: ExitStack) -> None:
        self.spec, self.late = spec, late
        self._append = {
            name: files.enter_context(table_writer(folder / file)) for name, file in FILES.items()
        }
        self._begun = set[str]()

    def add(self, table: pl.DataFrame, data: EncodedTable, parts: NDArray[np.int8]) -> None:
        """Write the rows of a chunk."""
        frame = self._frame(table, data)
        for index, name in enumerate(PARTS):
            rows = frame if (parts == index).all() else frame.filter(pl.Series(parts == index))
            if rows.height or name not in self._begun:
                self._append[name](rows)
                self._begun.add(name)

    def _frame(self, table: pl.DataFrame, data: EncodedTable) -> pl.DataFrame:
        spec = self.spec
        raw = (spec.timestamp, spec.group)
        columns = {name: table[name] for name in raw if name is not None}
        fields = zip(spec.categorical, columns_of(data.categorical), strict=True)
        columns |= {feature.name: pl.Series(ids) for feature, ids in fields}
        numbers = zip(spec.numeric, columns_of(data.numeric), strict=True)
        columns |= {feature.name: pl.Series(values) for feature, values in numbers}
        columns |= {name: pl.Series(one[:]) for name, one in data.sequences.items()}
        columns |= {name: pl.Series(ids) for name, ids in data.bags.items()}
        columns |= {name: pl.Series(one.by_row) for name, one in data.vectors.items()}
        of_bags = {bag.name: bag.weights for bag in spec.bags if bag.weights is not None}
        columns |= {of_bags[name]: pl.Series(weights) for name, weights in data.bag_weights.items()}
        for (task, name), values in zip(spec.labels.items(), data.labels.T, strict=True):
            if task in self.late:  # null where it is not known, and above 1 where it counts for others
                columns[name] = pl.Series(np.where(data.weight > 0, values, np.nan)).fill_nan(None)
            else:
                columns[name] = pl.Series(values).cast(pl.Int8)
        if spec.weight is not None:
            columns[spec.weight] = pl.Series(data.weight)
        if spec.value is not None and data.value is not None:
            columns[spec.value] = pl.Series(data.value)
        return pl.DataFrame(columns)
