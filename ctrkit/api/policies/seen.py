"""Whether artifacts have learnt from the rows of a log, and a log without these rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import numpy as np
import polars as pl

from ctrkit.api.models.labelled import SEEN
from ctrkit.api.models.model import Model
from ctrkit.arrays import Floats
from ctrkit.data.encoder import EncodedTable, Encoder
from ctrkit.data.fingerprints import (
    SAMPLE_SIZE,
    beyond_chance,
    event_hashes,
    row_hashes,
    sample_from,
    seen_state,
)
from ctrkit.data.split import Split
from ctrkit.errors import ArtifactError, DataError, InputError
from ctrkit.hashing import Words
from ctrkit.ope import BanditLog
from ctrkit.ope.diagnostics.checks import Check, required
from ctrkit.ope.evaluation.engine import Engine, OnRows
from ctrkit.ope.evaluation.later import TIME, LaterPart
from ctrkit.ope.evaluation.parts import LogPart
from ctrkit.progress import OnStep
from ctrkit.schema import require_columns

# With fewer rows that an artifact has not seen, all rows are judged, and not trusted.
LEAST_UNSEEN = 1000


def logged_rows(encoder: Encoder, log: BanditLog, labels: Floats) -> tuple[pl.DataFrame, EncodedTable]:
    """The decisions of a log as labelled rows: the context and the logged action with its features.

    Args:
        encoder: of a model.
        log: the log.
        labels: float [N, T].

    Raises:
        ArtifactError: the model's spec names no candidate.
        DataError: the log lacks a column that the model reads.
    """
    chosen = encoder.spec.candidate
    if chosen is None:
        raise ArtifactError(
            "the model's feature spec names no candidate, so it cannot score candidates",
            hint="Add `candidate: {id: ..., features: [...]}` to the config's features and train again",
        )
    listed = encoder.spec.candidate_lists(log.table.columns)
    require_columns(log.table, list(listed.values()), log.file)
    table = log.table.with_columns(
        log.table["action"].alias(chosen.id),
        *(
            log.table[column].list.get(pl.Series(log.action_index)).alias(name)
            for name, column in listed.items()
        ),
    )
    rows = encoder.encode(table, log.file, labels=False)
    return table, EncodedTable(
        rows.categorical, rows.numeric, rows.sequences, labels.astype(np.float32), rows.weight
    )


def seen_decisions(log: BanditLog, encoder: Encoder, split: Split) -> dict[str, Any]:
    """What tells later which decisions a policy learnt from, or was chosen by (see `seen_state`).

    Args:
        log: the whole log.
        encoder: of the policy's model.
        split: how the log was divided.
    """
    labels = np.zeros((len(log), max(len(encoder.spec.labels), 1)))
    labels[:, 0] = log.reward
    table, rows = logged_rows(encoder, log, labels)
    return seen_state(encoder.spec, table, rows, np.concatenate([split.train, split.valid]), split.test)


@dataclass
class _Found:
    """How many rows were looked up under one key, and found."""

    told: int = 0
    found: int = 0


class SeenRows:
    """Counts the rows of a log that an artifact was trained on.

    An artifact keeps hashes of a sample of its training rows, by content and by event (see
    `ctrkit.data.fingerprints`). A decision of the log becomes such a row again: the context, the logged
    action with its features, and its reward as the first task's label. Labels of later tasks are not in the
    log; after a reward of 1 every way to go on is tried. Only rows with the same features in the same
    columns are known again: nothing found is no proof that nothing was seen.

    Args:
        model: the artifact's.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.rows = 0
        self.keys = {name: _Found() for name in self._states()}

    def update(self, log: BanditLog) -> None:
        """Take in rows; with several tasks those whose reward is neither 0 nor 1 tell nothing."""
        self.rows += len(log)
        try:
            self._update(log)
        except InputError:  # what the model lacks in the log, its own work on it says
            self.keys = {}

    def _update(self, log: BanditLog) -> None:
        tasks = len(self.model.tasks)
        if not self.keys or (tasks > 1 and not log.binary):
            return
        if tasks == 1:
            self._look_up(log, log.reward[:, None], again=False)
            return
        for depth in range(tasks + 1):
            labels = np.zeros((len(log), tasks))
            labels[:, :depth] = 1.0
            self._look_up(log, labels, again=depth > 1, only=log.reward == min(depth, 1))

    def _look_up(self, log: BanditLog, labels: Floats, *, again: bool, only: Any = slice(None)) -> None:
        """Look up rows with these labels; `again` where they were looked up with others before."""
        table, rows = logged_rows(self.model.encoder, log, labels)
        for name, state in self._states().items():
            hashes = row_hashes(rows) if name == "content" else event_hashes(self.model.spec, table, rows)
            if hashes is None:
                continue
            sample: Words = sample_from(state)
            mine = hashes[only]
            told = mine if sample.size < SAMPLE_SIZE else mine[mine <= sample[-1]]
            # A row that is looked up under several hashes counts as one.
            self.keys[name].told += 0 if again else told.size
            self.keys[name].found += int(np.isin(told, sample).sum())

    def merge(self, other: Self) -> None:
        """Take in what another has counted of the same artifact."""
        self.rows += other.rows
        for name, mine in self.keys.items():
            if name in other.keys:
                mine.told += other.keys[name].told
                mine.found += other.keys[name].found

    def result(self) -> float | None:
        """The share of rows that training has seen, less those alike by chance; None: that cannot be told."""
        states = self._states()
        shares = [
            beyond_chance(one.found, one.told, float(states[name]["alike"]))
            for name, one in self.keys.items()
        ]
        return max((share for share in shares if share is not None), default=None)

    @property
    def share(self) -> float | None:
        """The share of rows seen; None where it is too small to matter, or is not known."""
        share = self.result()
        return share if share is not None and share > SEEN else None

    def _states(self) -> dict[str, Mapping[str, Any]]:
        """What the artifact keeps, by key."""
        seen = self.model.artifact.data.get("seen")
        if seen is None:
            return {}
        return {"content": seen, **({"event": seen["event"]} if "event" in seen else {})}


@dataclass(frozen=True)
class Learnt:
    """A log as it is judged, where artifacts have learnt from it.

    Attributes:
        parts: the rows that are judged.
        notes: sentences on the rows that were left out.
        shares: name of an artifact -> the share of the judged rows that it was trained on.
    """

    parts: list[LogPart]
    notes: tuple[str, ...] = ()
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Look:
    """Counts the rows of a part that artifacts were trained on."""

    models: Sequence[Model]

    def __call__(self, part: LogPart, on_rows: OnRows) -> list[SeenRows]:
        found = [SeenRows(model) for model in self.models]
        done = 0
        for log in part.batches():
            for one in found:
                one.update(log)
            done += len(log)
            on_rows(done)
        return found


def unseen_rows(
    models: Mapping[str, Model],
    parts: Sequence[LogPart],
    engine: Engine,
    on_step: OnStep,
    wanted: bool | None,
) -> Learnt:
    """The rows that no artifact was trained on, if the artifacts tell which these are and they are enough.

    An artifact whose rows were divided by time knows when its held-out rows begin.

    Args:
        models: by name.
        parts: of the log.
        engine: where the parts are read.
        on_step: told of progress.
        wanted: whether to leave seen rows out; None: if enough others remain.

    Raises:
        DataError: seen rows must be left out, and it is not known which these are, or none remain.
    """
    whole = Learnt(list(parts))
    if not models:
        return whole
    found, counts = _counted(models, parts, engine, on_step)
    shares = {name: share for name, one in found.items() if (share := one.share) is not None}
    if not shares:
        return whole
    names = " and ".join(shares)
    starts = [start for name in shares if (start := _held_out_from(models[name])) is not None]
    known = len(starts) == len(shares) and TIME in parts[0].names
    if known and wanted is not False:
        later = [LaterPart(part, max(starts)) for part in parts]
        again, left = _counted(models, later, engine, on_step)
        if sum(left) >= (1 if wanted else LEAST_UNSEEN) and all(one.share is None for one in again.values()):
            note = (
                f"Trained on rows of this log: {names}. The {sum(counts) - sum(left):,} rows before the "
                f"held-out time are left out; the {sum(left):,} later ones, which were not seen, are judged "
                "(`--no-unseen` judges all)."
            )
            return Learnt([part for part, rows in zip(later, left, strict=True) if rows], (note,))
    if wanted:
        why = "no others remain" if known else "it is not known which"
        raise DataError(
            f"rows of this log were training rows of {names}, and {why}",
            hint="Give a log that was not seen, or leave --unseen out: then the verdict says so",
        )
    return Learnt(list(parts), shares=shares)


def seen_check(name: str, share: float, role: str) -> Check:
    """The doubt that an artifact was trained on rows that it is judged by.

    Args:
        name: of the artifact.
        share: of the rows that it was trained on.
        role: what it is for the estimate.
    """
    return required(
        f"rows that {role} was trained on",
        share,
        "0",
        holds=False,
        doubt=f"{role} {name} was trained on about {share:.0%} of these rows, which it fits better than new "
        "ones: judge it on rows that it has not seen",
        share=True,
    )


def _counted(
    models: Mapping[str, Model], parts: Sequence[LogPart], engine: Engine, on_step: OnStep
) -> tuple[dict[str, SeenRows], list[int]]:
    """What each artifact has seen of the rows, and the rows of each part.

    The same model under several names is looked up once.
    """
    distinct = list({id(model): model for model in models.values()}.values())
    total = sum(part.rows for part in parts)
    sums = [SeenRows(model) for model in distinct]
    rows = []
    for some in engine.map(_Look(distinct), parts, partial(_told, on_step, total)):
        for mine, more in zip(sums, some, strict=True):
            mine.merge(more)
        rows.append(some[0].rows)
    by_model = {id(model): one for model, one in zip(distinct, sums, strict=True)}
    return {name: by_model[id(model)] for name, model in models.items()}, rows


def _told(on_step: OnStep, total: int, rows: int) -> None:
    on_step(rows, total, "comparing rows")


def _held_out_from(model: Model) -> float | None:
    """The time from which on no row was trained on or chosen by; None if rows were not divided by time."""
    split = model.artifact.data.get("split")
    boundaries = split.get("boundaries") if isinstance(split, Mapping) else None
    return None if not boundaries else float(boundaries[1])
