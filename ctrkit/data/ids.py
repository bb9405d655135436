"""Ids and histories of tables: their text, and the share of known ids."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.arrays import Booleans
from ctrkit.data.feature_map import FIRST_ID, UNKNOWN_ID
from ctrkit.errors import DataError
from ctrkit.hashing import text_hashes
from ctrkit.schema import ListFeature, VectorFeature
from ctrkit.tables.cells import as_ids, ids_as_text, lists_of, unsplit

# Smallest number of values for which a share is judged.
LEAST = 10
_EXAMPLES = 3
# Number of unknown events that are searched for another separator.
_LOOK_AT = 1000
# A share of unknown ids is judged only if it is this much above the usual share (or has this small a chance).
_APART, _BY_CHANCE = 0.2, 1e-3
# Below this share of known events, a history is written in another way than the ids whose table it shares.
_KNOWN_EVENTS = 0.01


@dataclass(frozen=True)
class UnknownIds:
    """The unknown ids of a column.

    Attributes:
        values: number of ids.
        unknown: number of unknown ids.
        examples: the most frequent unknown ids.
    """

    values: int
    unknown: int
    examples: tuple[str, ...]

    @classmethod
    def of(cls, ids: pl.Series, unknown: Booleans) -> UnknownIds:
        """The unknown ids of a column; missing ids do not count.

        Args:
            ids: the ids of a column, in any form.
            unknown: which of them are unknown (`ctrkit.data.feature_map.is_unknown`), [n]; missing ones are.
        """
        other = ids_as_text(ids.filter(pl.Series(unknown))).alias("id")
        missing, other = other.null_count(), other.drop_nulls()
        counts = other.value_counts(name="rows").sort("rows", "id", descending=[True, False])
        return cls(ids.len() - missing, other.len(), tuple(counts["id"].head(_EXAMPLES).to_list()))

    @property
    def share(self) -> float:
        """The share of unknown ids; 0 where there are no ids."""
        return self.unknown / self.values if self.values else 0.0

    def far_above(self, usual: float) -> bool:
        """Whether the share is nearer to 1 than to the usual share.

        It must also be well above the usual share, or all ids must be unknown where chance would leave some.
        """
        none = self.unknown == self.values and usual**self.values < _BY_CHANCE
        apart = none or self.share > usual + _APART
        return self.values >= LEAST and self.share > (1 + usual) / 2 and apart

    def named(self) -> str:
        """The examples, for a sentence."""
        return ", ".join(f"'{one}'" for one in self.examples)

    def note(self, column: str, known: Sequence[str], usual: float | None, min_count: int) -> str:
        """What is unknown, and what to do about it.

        Args:
            column: name of the column.
            known: ids of the column's vocabulary.
            usual: the usual share of unknown ids; None where it is not known.
            min_count: how often an id must occur in training to be known.
        """
        before = "" if usual is None else f" (in training {usual:.0%})"
        like = f", such as '{known[0]}'" if known else ""
        return (
            f"Column '{column}': {self.share:.0%} of the ids are unknown to the model{before}, such as "
            f"{self.named()}. If they are new, {advice_on_new_ids(min_count)}. If they are only written in "
            f"another way, write them as in training{like}."
        )


def advice_on_new_ids(min_count: int) -> str:
    """What to do where most ids are new to the model.

    Args:
        min_count: how often an id must occur in training to be known.
    """
    lower = f" lower its min_count of {min_count}," if min_count > 1 else ""
    return f"train on newer rows,{lower} or leave the id out and use its category"


class Vocabulary:
    """The known values of an embedding table, as `ids_as_text` writes them, and their ids.

    Args:
        values: values in the order of their ids, from `FIRST_ID` up; of equal ones the first counts.
    """

    def __init__(self, values: Sequence[str]) -> None:
        known = ids_as_text(pl.Series(values, dtype=pl.String))
        first = known.is_first_distinct() & known.is_not_null()
        self._type = pl.Enum(known.filter(first))
        places = np.flatnonzero(first.to_numpy())
        # A missing value is in the last place.
        self._ids = np.append(places + FIRST_ID, UNKNOWN_ID).astype(np.int32)

    def __len__(self) -> int:
        return int(self._ids.size) - 1

    def by_text(self) -> dict[str, int]:
        """Every value -> its id."""
        return dict(zip(self._type.categories.to_list(), self._ids.tolist(), strict=False))

    def ids(self, text: pl.Series) -> NDArray[np.int32]:
        """The id of each text, `UNKNOWN_ID` where there is none, [n]."""
        places = text.cast(self._type, strict=False).to_physical().cast(pl.Int64)
        found: NDArray[np.int32] = self._ids[places.fill_null(self._ids.size - 1).to_numpy()]
        return found


class Buckets:
    """The ids of an embedding table that is hashed: the bucket of each value, by a hash of its text.

    Every value has a bucket, and the same one on every machine; a missing value is unknown. Weinberger et
    al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009; without the signs, as a bucket has a
    vector that is learnt.

    Args:
        size: number of buckets.
    """

    def __init__(self, size: int) -> None:
        self._size = np.uint64(size)

    def ids(self, text: pl.Series) -> NDArray[np.int32]:
        """The id of each text, as `ids_as_text` writes it, `UNKNOWN_ID` where there is none, [n]."""
        found = (text_hashes(text) % self._size).astype(np.int32) + np.int32(FIRST_ID)
        found[text.is_null().to_numpy()] = UNKNOWN_ID
        return found


def unseen_ids(values: pl.Series) -> NDArray[np.int32]:
    """A negative id for each value: the same for equal values, on every machine.

    Values that training did not see have no vector, but an event can still be recognised as the target.
    Two values have the same id with probability 2 ** -31. Missing values get `UNKNOWN_ID`.

    Args:
        values: ids as text.
    """
    distinct = values.unique().drop_nulls()
    digests = b"".join(blake2b(value.encode(), digest_size=4).digest() for value in distinct)
    negative = np.frombuffer(digests, dtype="<i4") | np.int32(-(2**31))
    ids = values.replace_strict(distinct, pl.Series(negative), default=None, return_dtype=pl.Int32)
    return ids.fill_null(UNKNOWN_ID).to_numpy()


def as_lists(values: pl.Series, sequence: ListFeature | VectorFeature, file: str | None) -> pl.Series:
    """A sequence, a bag or vectors as a list column. A missing list counts as empty."""
    if isinstance(values.dtype, pl.Array):
        return values.cast(pl.List(values.dtype.inner))
    if values.dtype in (pl.String, pl.Categorical, pl.Enum):
        return lists_of(values, sequence.separator)
    if values.dtype == pl.Null:
        return values.cast(pl.List(pl.String))
    if not isinstance(values.dtype, pl.List):
        raise DataError(
            f"the feature needs one list for each row, not {values.dtype}",
            file=file,
            column=values.name,
            hint=f"Store it as a list column, or as text with '{sequence.separator}' between its values",
        )
    return values


def check_separator(cells: pl.Series, sequence: ListFeature, file: str | None) -> None:
    """Check that histories in text cells contain the separator, unless most contain no other sign either.

    Raises:
        DataError: no history contains the separator, and most contain another one.
    """
    other = unsplit(cells, sequence.separator) if cells.dtype == pl.String else None
    if other is not None:
        problem = f"no history contains the separator '{sequence.separator}', and most contain '{other}'"
        raise _other_separator(problem, other, sequence, file)


def _other_separator(problem: str, sign: str, sequence: ListFeature, file: str | None) -> DataError:
    written = f"'{sign}'" if sign.isprintable() else json.dumps(sign)
    hint = f"Declare the feature with `separator: {written}`"
    return DataError(problem, file=file, column=sequence.name, hint=hint)


def check_known(
    cells: pl.Series, events: pl.Series, sequence: ListFeature, known: Sequence[str], file: str | None
) -> None:
    """Check that the events of a history are ids of the field whose table it shares.

    If unknown events become known ids when they are split at another sign, the error names that separator.

    Args:
        cells: the histories as they were read.
        events: all their events, as ids.
        sequence: the sequence feature.
        known: the known ids.
        file: name of the table, for messages.

    Raises:
        DataError: almost no event is a known id.
    """
    vocabulary = pl.Series(known, dtype=pl.String)
    sign = _hidden_separator(events, vocabulary) if cells.dtype == pl.String else None
    if sign is not None:
        problem = f"most unknown events are ids of '{sequence.shares}' with {sign!r} between them"
        raise _other_separator(problem, sign, sequence, file)
    unknown = ~events.is_in(vocabulary.implode()).fill_null(False).to_numpy()
    _check_share(UnknownIds.of(events, unknown), sequence, known, file)


def _hidden_separator(events: pl.Series, known: pl.Series) -> str | None:
    """The sign that splits most unknown events into known ids; None where there is none."""
    unknown = events.drop_nulls().unique(maintain_order=True)
    unknown = unknown.filter(~unknown.is_in(known.implode())).head(_LOOK_AT)
    signs: list[str] = re.findall(r"[\W_]+", "\n".join(unknown.head(_EXAMPLES).to_list()))
    for sign in dict.fromkeys(signs):
        cut = unknown.filter(unknown.str.contains(sign, literal=True)).str.split(sign)
        parts = as_ids(cut.explode()).drop_nulls()
        found = int(parts.is_in(known.implode()).sum())
        if 2 * cut.len() > unknown.len() >= LEAST and 2 * found > parts.len():
            return sign
    return None


def _check_share(events: UnknownIds, sequence: ListFeature, known: Sequence[str], file: str | None) -> None:
    if events.values >= LEAST and 1 - events.share < _KNOWN_EVENTS:
        like = f", such as '{known[0]}'" if known else ""
        raise DataError(
            f"only {1 - events.share:.1%} of the events are ids of '{sequence.shares}', as they share it; "
            f"other events are {events.named()}",
            file=file,
            column=sequence.name,
            hint=f"Write events as in '{sequence.shares}'{like}, with '{sequence.separator}' between them, "
            "or declare their separator",
        )
