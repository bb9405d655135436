"""Histories as windows on events: the lists that rows brought, and no event twice where rows share it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrkit.data.histories import Histories
from ctrkit.errors import DataError


def of(lists: list[list[int]], width: int = 5) -> Histories:
    ids = np.array([one for row in lists for one in row], dtype=np.int32)
    return Histories.of_lists(ids, np.array([len(row) for row in lists], dtype=np.int64), width)


def kept_by_a_loop(lists: list[list[int]]) -> int:
    """How many events are left where each list shares the longest part with the list before it."""
    kept, before = 0, list[int]()
    for row in lists:
        shared = max(n for n in range(min(len(before), len(row)) + 1) if before[len(before) - n :] == row[:n])
        kept, before = kept + len(row) - shared, row or before
    return kept


# Few values, so that lists overlap often, also by chance.
LISTS = st.lists(st.lists(st.integers(1, 2) | st.integers(-9, 9).filter(bool), max_size=5), max_size=12)


@given(LISTS)
def test_windows_hold_the_lists_and_share_what_they_can(lists: list[list[int]]) -> None:
    found = of(lists)
    assert found[:].tolist() == [[0] * (5 - len(row)) + row for row in lists]
    assert found.ids.size == kept_by_a_loop(lists)
    some = np.arange(len(lists))[::-2]
    np.testing.assert_array_equal(found[some], found[:][some])
    np.testing.assert_array_equal(found.of_rows(some)[:], found[:][some])
    np.testing.assert_array_equal(Histories.joined([found, found])[:], np.concatenate([found[:]] * 2))


def test_ids_of_any_size_are_read_as_they_are() -> None:
    for kind, highest in ((np.uint8, 255), (np.uint16, 65_535), (np.int32, 2**31 - 1)):
        ids = np.array([highest, 1, 2, highest], dtype=kind)
        found = Histories.of_lists(ids, np.array([3, 1]), 4)
        assert found.ids.dtype == kind
        assert found[:].tolist() == [[0, highest, 1, 2], [0, 0, 0, highest]]


def test_a_page_and_a_growing_history_are_stored_once() -> None:
    user = list(range(2, 40))
    pages = [user[max(0, end - 5) : end] for end in range(38) for _ in range(25)]
    found = of(pages)
    assert found.ids.tolist() == user[:37]
    assert found.nbytes == 37 * 4 + len(pages) * 12


def test_what_is_not_there_is_not_read() -> None:
    with pytest.raises(ValueError, match="lengths"):
        Histories.of_lists(np.ones(3, dtype=np.int32), np.array([4, -1]), 5)
    with pytest.raises(ValueError, match="lengths"):
        Histories.of_lists(np.ones(6, dtype=np.int32), np.array([6]), 5)
    good = of([[2, 3], [4]])
    for ends, lengths in (([9, 3], [2, 1]), ([2, 3], [3, 1]), ([2, 3], [6, 1]), ([2, 3], [-1, 1])):
        wrong = Histories(good.ids, np.array(ends), np.array(lengths, dtype=np.int32), 5)
        with pytest.raises(DataError, match="events that are not there"):
            wrong[:]
