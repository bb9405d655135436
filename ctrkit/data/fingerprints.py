"""Whether a table or a row was in the training data: small digests and samples of hashes, kept in a model.

A row has two keys, so that it is recognised after common changes:

- its content: features, histories and labels. It does not change when time stamps are shifted or users are
  renamed.
- its event: time, group, ids and labels. It does not change when numbers are rounded or histories are cut.

Different rows may share a key by chance. The chance is measured beside the sample and subtracted. Where it is
small, a filter of all rows tells row by row which were seen. It finds every row that is unchanged, and of the
others the share that is alike by chance, and 0.05 % (see `ctrkit.data.bloom`). A table is
the training table only if all rows, their order, labels, weights and times are the same: the times decide
which rows were held out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.arrays import Booleans, Floats, Integers
from ctrkit.data.bloom import among, bloom_filter
from ctrkit.data.encoded import EncodedColumn, EncodedTable
from ctrkit.errors import DataError
from ctrkit.hashing import GOLDEN, Words, distinct, mixed
from ctrkit.schema import Column, FeatureSpec, check_column

# The name of a key, the hashes of some rows [n], and what a model keeps of its training rows.
Key: TypeAlias = tuple[str, Words, Mapping[str, Any]]

# Largest number of hashes of distinct rows that a model keeps: a share is then known to about 1 %.
SAMPLE_SIZE = 8192
# Rows count as seen if their share is above the chance share by this number of standard deviations.
_DEVIATIONS = 4.0
# Above this share of training rows among the rows, results are too optimistic.
SEEN = 0.05
# Of keys that more unseen rows share by chance, no filter is kept: it would leave out too many of them.
LARGEST_CHANCE = 0.05
# Rows that are hashed at a time: they stay in the cache of a processor.
_AT_ONCE = 1 << 13
# Rows of which a sample is taken at a time.
_SAMPLED = 1 << 18


def field_hashes(data: EncodedTable) -> Words:
    """A 64-bit hash of the ids of every row, with which its other hashes begin, [n].

    Columns are mixed one by one with SplitMix64 (see `ctrkit.hashing`).
    """
    return _with(np.zeros(len(data), dtype=np.uint64), data.categorical)


def row_hashes(data: EncodedTable, fields: Words | None = None) -> Words:
    """A 64-bit hash of every row: equal for equal features, histories and labels, [n].

    Args:
        data: the rows.
        fields: their `field_hashes`, where they are known.
    """
    hashes = field_hashes(data) if fields is None else fields
    columns: tuple[EncodedColumn, ...] = (
        data.numeric,
        *data.sequences.values(),
        *data.bags.values(),
        *data.bag_weights.values(),
        *(one.by_row.reshape(len(data), -1) for one in data.vectors.values()),
        data.labels,
    )
    for column in columns:
        hashes = _with(hashes, column[:])
    return hashes


def event_hashes(
    spec: FeatureSpec,
    table: pl.DataFrame,
    data: EncodedTable,
    times: Floats | None = None,
    fields: Words | None = None,
) -> Words | None:
    """A 64-bit hash of every row: equal for equal times, groups, ids and labels, [n].

    Args:
        spec: what the columns mean.
        table: the raw rows.
        data: the same rows, encoded.
        times: their times as `times_of` reads them, where they are known.
        fields: their `field_hashes`, where they are known.

    Returns:
        The hashes; None if the table lacks the times or groups that the spec names, or has unreadable times.
    """
    hashes = _with(field_hashes(data) if fields is None else fields, data.labels)
    if spec.timestamp is not None:
        times = times_of(spec, table) if times is None else times
        if times is None:
            return None
        hashes = _with(hashes, times[:, None])
    if spec.group is not None:
        if spec.group not in table.columns:
            return None
        text = table[spec.group].cast(pl.String).fill_null("")
        names, place = text.unique().sort(), text.rank("dense").to_numpy().astype(np.int64) - 1
        digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
        hashes = _with(hashes, np.frombuffer(digests, dtype="<u8")[place][:, None])
    return hashes


def times_of(spec: FeatureSpec, table: pl.DataFrame) -> Floats | None:
    """Time stamps in seconds, [n]; None if the spec or the table has none, or one cannot be read."""
    if spec.timestamp is None or spec.timestamp not in table.columns:
        return None
    try:
        column = Column(spec.timestamp, "time", "the time of the row")
        return np.ascontiguousarray(check_column(table[spec.timestamp], column).to_numpy(), dtype=np.float64)
    except DataError:
        return None


def times_digest(times: Floats | None) -> str | None:
    """SHA-256 of a table's times in order; None where there are none."""
    return None if times is None else hashlib.sha256(times.data).hexdigest()


def seen_state(
    spec: FeatureSpec,
    table: pl.DataFrame,
    data: EncodedTable,
    training: Integers,
    held_out: Integers,
    chosen_by: Integers | None = None,
) -> dict[str, Any]:
    """Plain data by which the training rows of a table are recognised later (see `seen_by`).

    Args:
        spec: what the columns mean.
        table: the raw rows.
        data: the same rows, encoded.
        training: indices of the training rows.
        held_out: indices of all other rows.
        chosen_by: indices of rows by which the model was chosen.
    """
    return seen_by(row_hashes(data), event_hashes(spec, table, data), training, held_out, chosen_by)


def seen_by(
    content: Words,
    event: Words | None,
    training: Integers,
    held_out: Integers,
    chosen_by: Integers | None = None,
) -> dict[str, Any]:
    """Plain data by which the training rows are recognised later: for each key a sample of hashes, the share
    of other rows that have the same key by chance and, where it is small, a filter of all rows.

    Args:
        content: `row_hashes` of all rows.
        event: `event_hashes` of all rows.
        training: indices of the training rows.
        held_out: indices of all other rows.
        chosen_by: indices of rows by which the model was chosen, which the filters hold too.

    Rows held out by time never share a time with training rows. So the chance share of the event key is also
    measured among the training rows themselves.
    """
    trained = np.zeros(content.size, dtype=np.bool_)
    trained[training] = True
    known = trained
    if chosen_by is not None:
        known = trained.copy()
        known[chosen_by] = True
    sample = sample_of(content, trained)
    # Signed in all formats of artifacts: torch, which wrote the first, has no unsigned 64-bit integers.
    state: dict[str, Any] = {"sample": sample.view(np.int64), "alike": share_seen(content[held_out], sample)}
    if not state["alike"] > LARGEST_CHANCE:
        state["filter"] = bloom_filter(content, known)
    if event is not None:
        sample = sample_of(event, trained)
        chance = [_repeated(event, trained), share_seen(event[held_out], sample)]
        state["event"] = {"sample": sample.view(np.int64), "alike": float(np.nanmax(chance))}
        if not state["event"]["alike"] > LARGEST_CHANCE:
            state["event"]["filter"] = bloom_filter(event, known)
    return state


def share_of_seen(
    state: Mapping[str, Any], spec: FeatureSpec, table: pl.DataFrame, data: EncodedTable
) -> float | None:
    """The share of rows that were training rows, minus the share found by chance. The larger share of the two
    keys counts; None where neither key gives one.

    Args:
        state: plain data from `seen_state`; earlier versions have no event key.
        spec: what the columns mean.
        table: the raw rows.
        data: the same rows, encoded.
    """
    return max(_shares(keys_of(state, spec, table, data)).values(), default=None)


def _shares(keys: Iterable[Key]) -> dict[str, float]:
    """By key, the share of rows that were training rows, less chance."""
    shares: dict[str, float] = {}
    for name, hashes, of in keys:
        sample = sample_from(of)
        told = told_by(sample, hashes)
        share = beyond_chance(int(np.isin(told, sample).sum()), told.size, float(of["alike"]))
        shares |= {} if share is None else {name: share}
    return shares


def rows_seen(
    state: Mapping[str, Any], spec: FeatureSpec, table: pl.DataFrame, data: EncodedTable
) -> Booleans | None:
    """Which rows were training rows, or rows that the model was chosen by, [n].

    Args:
        state: plain data from `seen_state`; earlier versions have no filters.
        spec: what the columns mean.
        table: the raw rows.
        data: the same rows, encoded.

    Returns:
        The rows; None where no key tells them apart.
    """
    keys = list(keys_of(state, spec, table, data))
    found, names = rows_by_key(keys), telling_keys(state, _shares(keys))
    return None if names is None else np.logical_or.reduce([found[name] for name in names])


def rows_by_key(keys: Iterable[Key]) -> dict[str, Booleans]:
    """The rows [n] that were seen by each of the `keys_of` rows with a filter; `telling_keys` says which of
    them to believe."""
    return {name: among(hashes, np.asarray(of["filter"])) for name, hashes, of in keys if "filter" in of}


def telling_keys(state: Mapping[str, Any], shares: Mapping[str, float]) -> list[str] | None:
    """The keys whose rows together are those that were seen; None where some cannot be told.

    Of a model's two keys the one counts that knows more rows again. If both know about as many, the one
    counts that fewer rows have by chance.

    Args:
        state: plain data from `seen_state`.
        shares: key -> the share of the rows that were seen by it.
    """
    kept, found = kept_keys(state), list[str]()
    for of in dict.fromkeys(name.partition(",")[2] for name in kept):
        known = [name for name in shares if name.partition(",")[2] == of]
        able = [name for name in known if "filter" in kept[name]]
        if able:
            found.append(max(able, key=lambda name: (round(20 * shares[name]), -float(kept[name]["alike"]))))
        elif max((shares[name] for name in known), default=0.0) > SEEN:
            return None
    return found or None


def keys_of(
    state: Mapping[str, Any], spec: FeatureSpec, table: pl.DataFrame, data: EncodedTable
) -> Iterator[Key]:
    """For each key that rows have: its name, their hashes [n], and what the model keeps of it."""
    content, event = row_hashes(data), event_hashes(spec, table, data)
    for name, of in kept_keys(state).items():
        hashes = event if name.startswith("event") else content
        if hashes is not None:
            yield name, hashes, of


def kept_keys(state: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What a model keeps, by key: of its own training rows, and of those that it started from."""
    found: dict[str, Mapping[str, Any]] = {"content": state}
    if "event" in state:
        found["event"] = state["event"]
    if (start := state.get("start")) is not None:
        found |= {f"{name}, start": of for name, of in kept_keys(start).items()}
    return found


def beyond_chance(found: int, told: int, alike: float) -> float | None:
    """The share of rows that were seen, corrected for chance.

    If an unseen row is found with probability `alike`, then found / told = seen + (1 - seen) · alike. Where
    this is within the noise around no seen row, the share is 0.

    Args:
        found: number of rows found in the sample.
        told: number of rows that were looked up.
        alike: probability that an unseen row is found by chance.

    Returns:
        The share; None where nothing was looked up, or every row is found by chance.
    """
    chance = 0.0 if np.isnan(alike) else alike
    if not told or chance >= 1.0:
        return None
    above = found / told - chance
    noise = _DEVIATIONS * np.sqrt(2.0 * chance * (1.0 - chance) / told)
    return float(above / (1.0 - chance)) if above > noise else 0.0


def sample_from(state: Mapping[str, Any]) -> Words:
    """The sample of a key, from an artifact."""
    return np.ascontiguousarray(np.asarray(state["sample"])).view(np.uint64)


def sample_of(hashes: Words, rows: Booleans | None = None, size: int = SAMPLE_SIZE) -> Words:
    """The smallest distinct hashes, ascending: a uniform sample of the distinct rows (Broder 1997).

    Args:
        hashes: the hashes.
        rows: which of them are sampled; by default all.
        size: the largest number of hashes.
    """
    sample = np.empty(0, dtype=np.uint64)
    for first in range(0, hashes.size, _SAMPLED):
        part = slice(first, first + _SAMPLED)
        some = hashes[part] if rows is None else hashes[part][rows[part]]
        sample = distinct(np.append(sample, told_by(sample, some, size)))[:size]
    return sample


def share_seen(hashes: Words, sample: Words, size: int = SAMPLE_SIZE) -> float:
    """The estimated share of rows that are in the sampled table; NaN where no row can be looked up."""
    told = told_by(sample, hashes, size)
    return float(np.isin(told, sample).mean()) if told.size else float("nan")


def _repeated(hashes: Words, rows: Booleans) -> float:
    """The share of some rows whose hash another of them has too; NaN without rows."""
    ordered = hashes[rows]
    ordered.sort()
    alike = np.zeros(ordered.size + 1, dtype=np.bool_)
    np.equal(ordered[1:], ordered[:-1], out=alike[1:-1])
    return float((alike[1:] | alike[:-1]).mean()) if ordered.size else float("nan")


def told_by(sample: Words, hashes: Words, size: int = SAMPLE_SIZE) -> Words:
    """The hashes that can be looked up: a seen row whose hash is at most the sample's largest is in it."""
    return hashes if sample.size < size else hashes[hashes <= sample[-1]]


def _with(hashes: Words, array: NDArray[Any]) -> Words:
    """The hashes mixed with the columns of an array, [n, C] of 32 or 64 bits."""
    words, found = np.ascontiguousarray(array).view(np.uint32), hashes.copy()
    for first in range(0, len(found), _AT_ONCE):
        some = found[first : first + _AT_ONCE]
        for column in words[first : first + _AT_ONCE].T:
            some[:] = mixed((some ^ column) + GOLDEN)
    return found
