"""The order in which an epoch reads the training rows."""

from __future__ import annotations

import numpy as np

from ctrkit.arrays import Integers

# Consecutive rows that are read together, and how many such blocks are mixed: a quarter of a million rows.
BLOCK, WINDOW = 1024, 256


def epoch_order(
    rows: Integers, groups: Integers | None, rng: np.random.Generator, *, in_blocks: bool = False
) -> Integers:
    """The rows in random order. With groups `[n]` of all rows of the data, a group's rows stay together.

    Args:
        rows: the training rows, ascending.
        groups: the group of every row of the data; None if rows are single.
        rng: decides the order.
        in_blocks: whether rows lie on a disk, where only neighbours are read fast (see `block_order`).
    """
    if groups is None:
        return block_order(rows, rng) if in_blocks else rng.permutation(rows)
    order = rng.permutation(rows)
    known, group = np.unique(groups[order], return_inverse=True)
    place = rng.permutation(known.size)[group]
    return order[np.argsort(place, kind="stable")]


def block_order(rows: Integers, rng: np.random.Generator) -> Integers:
    """Blocks of neighbours in random order, and rows in random order within every `WINDOW` of blocks.

    The blocks of a window come from everywhere in the data, so a batch holds rows of all times.
    """
    starts = rng.permutation(np.arange(0, rows.size, BLOCK))
    order = np.empty_like(rows)
    done = 0
    for first in range(0, starts.size, WINDOW):
        window = np.concatenate([rows[start : start + BLOCK] for start in starts[first : first + WINDOW]])
        order[done : done + window.size] = rng.permutation(window)
        done += window.size
    return order


def of_rank(order: Integers, rank: int, world: int) -> Integers:
    """The part of an epoch that one of `world` processes reads: each row is read by one of them.

    Parts are consecutive, so that the blocks of a process are its own; their sizes differ by one at most.

    Args:
        order: the whole epoch, which is the same in every process.
        rank: number of this process, from 0.
        world: number of processes.
    """
    return np.array_split(order, world)[rank]
