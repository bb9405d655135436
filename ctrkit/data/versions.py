"""The version of a feature set, and what differs between two encoders, in words."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrkit.data.encoder import Encoder

# Digits of a version: 48 bits, so that a million versions share one with a chance below 1 %.
DIGITS = 12


def version_of(encoder: Encoder) -> str:
    """The version of a feature set: a hash of its spec and of all that was learnt, 12 hexadecimal digits.

    Equal encoders have equal versions on every machine, also after they were written and read again.
    """
    plain = json.dumps(encoder.state(), sort_keys=True, default=_digest)
    return hashlib.sha256(plain.encode()).hexdigest()[:DIGITS]


def differences(
    one: Encoder, other: Encoder, names: tuple[str, str] = ("the first", "the second")
) -> tuple[str, ...]:
    """What differs between two encoders, a clause for each difference; nothing if their versions are equal.

    Args:
        one: an encoder.
        other: another one.
        names: what the two are called in the clauses, for example ("the model", "the data").
    """
    first, second = (json.loads(json.dumps(encoder.state(), default=_digest)) for encoder in (one, other))
    vectors = first.pop("vectors"), second.pop("vectors")
    vocabularies = first.pop("vocabularies"), second.pop("vocabularies")
    found = [*_ids(*vocabularies, names)]
    found += [f"the vectors of '{name}' differ" for name in vectors[0] if _differ(name, *vectors)]
    # The spec explains the rest, so it comes first.
    return (*plain_differences(first, second, names), *found)


def _ids(
    one: Mapping[str, Sequence[str]], other: Mapping[str, Sequence[str]], names: tuple[str, str]
) -> Iterator[str]:
    """What differs between vocabularies that both have; the spec tells of the others."""
    for name in (name for name in one if name in other and one[name] != other[name]):
        only = len({*one[name]} - {*other[name]}), len({*other[name]} - {*one[name]})
        parts = [f"{n} only in {who}" for n, who in zip(only, names, strict=True) if n]
        yield f"the ids of '{name}' differ: {', '.join(parts) or 'the same ones in another order'}"


def _differ(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return name in other and one[name] != other[name]


def _digest(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def plain_differences(one: Any, other: Any, names: tuple[str, str], place: str = "") -> Iterator[str]:
    """What differs between plain data, a clause for each difference; `names` as above."""
    if one == other and type(one) is type(other):
        return
    first, second = _by_name(one), _by_name(other)
    if first is None or second is None:
        yield f"{place} is {_shown(one)} in {names[0]} and {_shown(other)} in {names[1]}"
        return
    before = f"{place}." if place else ""
    for name in dict.fromkeys((*first, *second)):
        if name in first and name in second:
            yield from plain_differences(first[name], second[name], names, before + name)
        else:
            yield f"{before}{name} is only in {names[0] if name in first else names[1]}"
    if [*first] != [*second] and {*first} == {*second} and isinstance(one, list):
        yield f"{place} stand in another order"


def _by_name(value: Any) -> dict[str, Any] | None:
    """A mapping, or a list of features by their names; None for anything else."""
    if isinstance(value, dict):
        return value
    named = isinstance(value, list) and all(isinstance(part, dict) and "name" in part for part in value)
    if not named or max(Counter(part["name"] for part in value).values(), default=1) > 1:
        return None
    return {part["name"]: part for part in value}


def _shown(value: Any) -> str:
    return f"a list of {len(value)}" if isinstance(value, list) and len(value) > 8 else json.dumps(value)
