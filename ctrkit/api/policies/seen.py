"""Whether artifacts have learnt from the rows of a log, and a log without these rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.api.models.labelled import LEAST_UNSEEN
from ctrkit.api.models.model import Model
from ctrkit.arrays import Booleans, Floats
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.encoder import Encoder
from ctrkit.data.fingerprints import (
    SEEN,
    beyond_chance,
    kept_keys,
    keys_of,
    rows_by_key,
    sample_from,
    seen_state,
    telling_keys,
    told_by,
)
from ctrkit.data.split import Split
from ctrkit.errors import ArtifactError, DataError, InputError
from ctrkit.ope import BanditLog
from ctrkit.ope.diagnostics.checks import Check, required
from ctrkit.ope.evaluation.engine import Engine, OnRows
from ctrkit.ope.evaluation.kept import KeptPart
from ctrkit.ope.evaluation.parts import LogPart
from ctrkit.progress import OnStep
from ctrkit.schema import require_columns

TIME = "timestamp"


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
    return table, replace(rows, labels=labels.astype(np.float32))


def seen_decisions(log: BanditLog, encoder: Encoder, split: Split, start: Model | None) -> dict[str, Any]:
    """What tells later which decisions a policy learnt from, or was chosen by (see `seen_state`).

    Args:
        log: the whole log.
        encoder: of the policy's model.
        split: how the log was divided.
        start: the model that the policy started from, whose rows the policy has seen too.
    """
    labels = np.zeros((len(log), max(len(encoder.spec.labels), 1)))
    labels[:, 0] = log.reward
    table, rows = logged_rows(encoder, log, labels)
    found = seen_state(encoder.spec, table, rows, np.concatenate([split.train, split.valid]), split.test)
    before = None if start is None else start.artifact.data.get("seen")
    return found if before is None else {**found, "start": before}


@dataclass
class _Found:
    """How many rows were looked up under one key, and found."""

    told: int = 0
    found: int = 0


class SeenRows:
    """Tells the rows of a log that an artifact was trained on, and counts them.

    An artifact keeps hashes of its training rows, by content and by event (see `ctrkit.data.fingerprints`). A
    decision of the log becomes such a row again: the context, the logged action with its features, and its
    reward as the first task's label. Labels of later tasks are not in the log; after a reward of 1 every way
    to go on is tried. Only rows with the same features in the same columns are known again: nothing found is
    no proof that nothing was seen.

    Args:
        model: the artifact's.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.state: Mapping[str, Any] = model.artifact.data.get("seen") or {}
        self.start = _held_out_from(model)
        self.keys = {name: _Found() for name in (kept_keys(self.state) if self.state else ())}

    def update(self, log: BanditLog) -> dict[str, Booleans]:
        """Take in rows; with several tasks those whose reward is neither 0 nor 1 tell nothing.

        Returns:
            By key, and by `timestamp`, which of the rows were seen, [B].
        """
        found: dict[str, Booleans] = {}
        try:
            found = self._update(log)
        except InputError:  # what the model lacks in the log, its own work on it says
            self.keys = {}
        if self.start is not None and TIME in log.table.columns:
            found[TIME] = log.table[TIME].to_numpy() < self.start
            if "event" in found:  # which holds the time: from the start on it is found by a false positive
                found["event"] &= found[TIME]
        return found

    def _update(self, log: BanditLog) -> dict[str, Booleans]:
        tasks = len(self.model.tasks)
        if not self.keys or (tasks > 1 and not log.binary):
            return {}
        if tasks == 1:
            return self._look_up(log, log.reward[:, None], again=False)
        seen: dict[str, Booleans] = {}
        for depth in range(tasks + 1):
            labels = np.zeros((len(log), tasks))
            labels[:, :depth] = 1.0
            only = log.reward == min(depth, 1)
            for name, rows in self._look_up(log, labels, again=depth > 1, only=only).items():
                seen[name] = seen.get(name, False) | (rows & only)
        return seen

    def _look_up(
        self, log: BanditLog, labels: Floats, *, again: bool, only: Any = slice(None)
    ) -> dict[str, Booleans]:
        """Look up rows with these labels; `again` where they were looked up with others before."""
        table, rows = logged_rows(self.model.encoder, log, labels)
        keys = list(keys_of(self.state, self.model.spec, table, rows))
        for name, hashes, of in keys:
            sample = sample_from(of)
            told = told_by(sample, hashes[only])
            # A row that is looked up under several hashes counts as one.
            self.keys[name].told += 0 if again else told.size
            self.keys[name].found += int(np.isin(told, sample).sum())
        return rows_by_key(keys)

    def merge(self, other: Self) -> None:
        """Take in what another has counted of the same artifact."""
        for name, mine in self.keys.items():
            if name in other.keys:
                mine.told += other.keys[name].told
                mine.found += other.keys[name].found

    def result(self) -> float | None:
        """The share of rows that training has seen, less those alike by chance; None: that cannot be told."""
        return max(self._shares().values(), default=None)

    def telling(self) -> list[str] | None:
        """The keys, or `timestamp`, whose rows together are those that were seen; None: none tells."""
        keys = telling_keys(self.state, self._shares()) if self.keys else None
        return keys or (None if self.start is None else [TIME])

    def _shares(self) -> dict[str, float]:
        kept = kept_keys(self.state) if self.keys else {}
        shares = {
            name: beyond_chance(one.found, one.told, float(kept[name]["alike"]))
            for name, one in self.keys.items()
        }
        return {name: share for name, share in shares.items() if share is not None}

    @property
    def share(self) -> float | None:
        """The share of rows seen; None where it is too small to matter, or is not known."""
        share = self.result()
        return share if share is not None and share > SEEN else None


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


# By key, which rows of a part were seen, one bit each; and how many rows the part has.
Marked: TypeAlias = tuple[dict[str, NDArray[np.uint8]], int]


@dataclass(frozen=True)
class _Look:
    """Of a part, what each artifact has seen."""

    models: Sequence[Model]

    def __call__(self, part: LogPart, on_rows: OnRows) -> list[tuple[SeenRows, Marked]]:
        found = [SeenRows(model) for model in self.models]
        seen: list[list[dict[str, Booleans]]] = [[] for _ in found]
        done = 0
        for log in part.batches():
            for one, of_one in zip(found, seen, strict=True):
                of_one.append(one.update(log))
            done += len(log)
            on_rows(done)
        return [(one, (_joined(of), done)) for one, of in zip(found, seen, strict=True)]


def _joined(batches: Sequence[dict[str, Booleans]]) -> dict[str, NDArray[np.uint8]]:
    """The rows of all batches, by the keys that every batch has."""
    names = set.intersection(*(set(one) for one in batches)) if batches else set()
    return {name: np.packbits(np.concatenate([one[name] for one in batches])) for name in names}


def _others(found: Sequence[SeenRows], marked: Sequence[Sequence[Marked]]) -> list[Booleans] | None:
    """The rows of each part that no artifact has seen, [N] each; None where they cannot be told.

    Args:
        found: by artifact, what was counted.
        marked: by artifact, the rows of every part.
    """
    kept = [np.ones(rows, dtype=bool) for _, rows in marked[0]]
    for one, parts in zip(found, marked, strict=True):
        names = one.telling()
        for mask, (seen, rows) in zip(kept, parts, strict=True):
            if names is None or not set(names) <= set(seen):
                return None
            for name in names:
                mask &= ~np.unpackbits(seen[name], count=rows).astype(bool)
    return kept


def unseen_rows(
    models: Mapping[str, Model],
    parts: Sequence[LogPart],
    engine: Engine,
    on_step: OnStep,
    wanted: bool | None,
) -> Learnt:
    """The rows that no artifact was trained on, if the artifacts tell which these are and they are enough.

    An artifact keeps a filter of its rows, however they were divided. One without tells by time where its
    rows were divided by time: it knows when its held-out rows begin.

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
    found, seen = _looked_up(models, parts, engine, on_step)
    shares = {name: share for name, one in found.items() if (share := one.share) is not None}
    if not shares:
        return whole
    names = " and ".join(shares)
    masks = _others([found[name] for name in shares], [seen[name] for name in shares])
    if masks is not None and wanted is not False:
        left, total = sum(int(mask.sum()) for mask in masks), sum(len(mask) for mask in masks)
        kept: list[LogPart] = [
            KeptPart.of(part, mask) for part, mask in zip(parts, masks, strict=True) if mask.any()
        ]
        if left >= (1 if wanted else LEAST_UNSEEN) and all(
            one.share is None for one in _looked_up(models, kept, engine, on_step)[0].values()
        ):
            note = (
                f"Trained on rows of this log, or chosen by them: {names}. The {total - left:,} rows that "
                f"are known again are left out; the {left:,} others are judged (`--no-unseen` judges all)."
            )
            return Learnt(kept, (note,))
    if wanted:
        why = "no others remain" if masks is not None else "it is not known which"
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


def _looked_up(
    models: Mapping[str, Model], parts: Sequence[LogPart], engine: Engine, on_step: OnStep
) -> tuple[dict[str, SeenRows], dict[str, list[Marked]]]:
    """What each artifact has seen of the rows, and which rows of each part.

    The same model under several names is looked up once.
    """
    distinct = list({id(model): model for model in models.values()}.values())
    total = sum(part.rows for part in parts)
    sums = [SeenRows(model) for model in distinct]
    rows: list[list[Marked]] = [[] for _ in distinct]
    for some in engine.map(_Look(distinct), parts, partial(_told, on_step, total)):
        for mine, of_mine, (more, seen) in zip(sums, rows, some, strict=True):
            mine.merge(more)
            of_mine.append(seen)
    place = {id(model): number for number, model in enumerate(distinct)}
    numbers = {name: place[id(model)] for name, model in models.items()}
    return {name: sums[one] for name, one in numbers.items()}, {
        name: rows[one] for name, one in numbers.items()
    }


def _told(on_step: OnStep, total: int, rows: int) -> None:
    on_step(rows, total, "comparing rows")


def _held_out_from(model: Model) -> float | None:
    """The time from which on no row was trained on or chosen by; None if rows were not divided by time."""
    split = model.artifact.data.get("split")
    boundaries = split.get("boundaries") if isinstance(split, Mapping) else None
    return None if not boundaries else float(boundaries[1])
