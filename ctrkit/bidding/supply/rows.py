"""Auctions picked by row, and a stream cut into chunks of another size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from ctrkit.arrays import Indices
from ctrkit.bidding.market.auctions import Auctions, joined

_NAMES = tuple(field.name for field in fields(Auctions))


def picked(auctions: Auctions, rows: Indices) -> Auctions:
    """The auctions of these rows, in this order; a row may occur more than once."""
    columns: list[Any] = [getattr(auctions, name) for name in _NAMES]
    columns = [None if column is None else column[rows] for column in columns]
    return Auctions(*columns)


def recut(chunks: Iterator[Auctions], size: int) -> Iterator[Auctions]:
    """The same auctions in chunks of another size; the last chunk may be shorter.

    All chunks must have the same columns.
    """
    waiting: list[Auctions] = []
    held = 0
    for chunk in chunks:
        start = 0
        while held + len(chunk) - start >= size:
            end = start + size - held
            yield joined([*waiting, chunk[start:end]])
            waiting, held, start = [], 0, end
        if start < len(chunk):
            waiting.append(chunk[start:])
            held += len(chunk) - start
    if waiting:
        yield joined(waiting)
