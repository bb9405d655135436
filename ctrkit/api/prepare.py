"""`ctrkit prepare`: from raw files to encoded rows on disk, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ctrkit.api.inspect import LOOKED, config_or_inspected
from ctrkit.api.keywords import takes_settings
from ctrkit.api.models.before_training import Notes
from ctrkit.api.models.maturity import maturity_of, maturity_table
from ctrkit.api.models.preparation import FILES, prepare_rows, raw_table
from ctrkit.api.models.training_config import TrainConfig, load_train_config
from ctrkit.api.results import Result
from ctrkit.api.run_folder import run_folder
from ctrkit.config import ConfigLike
from ctrkit.data.delays import Maturity
from ctrkit.data.feature_map import FIRST_ID
from ctrkit.data.versions import version_of
from ctrkit.progress import OnStep, silent
from ctrkit.reports import Report, Table
from ctrkit.reports.cells import Value, share
from ctrkit.tables import TableLike


@dataclass(frozen=True)
class PreparationResult(Result):
    """Prepared training data.

    Attributes:
        out: their folder, which `ctrkit train` takes in place of a table.
        data: name of the raw table.
        name: name of the features.
        version: version of the features: a hash of the spec and of all that was learnt.
        rows: part -> number of rows.
        ids: embedding table -> number of known ids, or of the buckets that ids are hashed into.
        unknown: field or sequence -> part of the rows -> share of ids that are unknown.
        notes: notes for the user.
        maturity: what is known of each label that comes late.
    """

    out: str
    data: str
    name: str
    version: str
    rows: dict[str, int]
    ids: dict[str, int]
    unknown: dict[str, dict[str, float]]
    notes: tuple[str, ...]
    maturity: tuple[Maturity, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "version": self.version,
            "out": self.out,
            "data": self.data,
            "name": self.name,
            "ids": self.ids,
            "unknown": self.unknown,
            "notes": list(self.notes),
            "delays": {one.task: one.to_dict() for one in self.maturity},
        }

    def report(self) -> Report:
        known = tuple(self.ids.items())
        shares: tuple[tuple[Value, ...], ...] = tuple(
            (name, *(share(of[part]) for part in FILES))
            for name, of in self.unknown.items()
            if any(of.values())
        )
        tables = [Table("Known ids", ("table", "ids"), known)] if known else []
        tables += [Table("Ids that are unknown", ("column", *FILES), shares)] if shares else []
        tables += [maturity_table(self.maturity)] if self.maturity else []
        late = (sentence for one in self.maturity for sentence in one.sentences)
        counts = ", ".join(f"{count:,} {part}" for part, count in self.rows.items())
        answer = f"{sum(self.rows.values()):,} rows prepared in {self.out}: {counts}."
        version = f"Features '{self.name}', version {self.version}, from {self.data}."
        return Report("Preparation", answer, tuple(tables), (version, *late, *self.notes))


@takes_settings(TrainConfig)
def prepare(
    config: ConfigLike = None,
    data: TableLike | None = None,
    *,
    out: str | os.PathLike[str] = "prepared",
    overrides: Sequence[str] = (),
    on_step: OnStep = silent,
    **keywords: Any,
) -> PreparationResult:
    """Prepare training data: learn ids and scales from the training rows, encode all rows, and write them.

    The folder holds the encoded rows, which training reads from disk, the encoder as plain data, and
    `train_data.parquet`, `val_data.parquet` and `test_data.parquet` with the encoded rows of each part for
    other tools. Memory does not grow with the table, but for some 50 bytes a row and the distinct ids.

    Args:
        config: the settings of a training, also the name of a config that ships with ctrkit; features,
            delays, split and seed are read.
        data: the table (path, glob or frame), in place of the config's own; by default the sample log.
            Without a config, its columns are read as in `ctrkit.train`.
        out: the folder.
        overrides: `key.path=value` strings, laid over the config.
        on_step: called with (rows or bytes done, their number, what is being done).
        keywords: settings, laid over the config and the overrides.

    Raises:
        ConfigError: the config is faulty.
        DataError: the table is faulty.
        RunError: the folder cannot be written.

    Example:
        >>> import ctrkit, polars
        >>> rows = polars.read_parquet(ctrkit.sample_logs().files[-1])  # impressions
        >>> ctrkit.prepare(data=rows[:5_000], out="prepared").rows
        {'train': 4000, 'valid': 500, 'test': 500}
        >>> result = ctrkit.train(data="prepared", network="lr")
    """
    with run_folder(out, "prepare") as run:
        config, looked = config_or_inspected(config, data, overrides, keywords)
        settings = load_train_config(config, overrides, keywords)
        settings.split.need_one_fold()
        home = run.begin()
        assert home is not None
        notes = Notes()
        if looked is not None:
            notes.append(LOOKED)
        with raw_table(settings, data, home) as raw:
            store = prepare_rows(settings, raw, home, notes, on_step)
        result = PreparationResult(
            os.fspath(out),
            raw.file or "a table in memory",
            settings.features.name,
            version_of(store.encoder),
            {part: int(getattr(store.split, part).size) for part in FILES},
            {name: size - FIRST_ID for name, size in store.encoder.feature_map().tables.items()},
            store.record["data"]["unknown"],
            tuple(notes),
            maturity_of(store),
        )
        run.write(settings.to_dict(), result)
    return result
