"""What follows from new clicks, against a loop over auctions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest

from ctrkit.bidding import Auctions
from ctrkit.bidding.supply.outcomes import Aftermath
from ctrkit.errors import DataError

Log = Callable[..., Auctions]


@pytest.mark.parametrize("size", [1, 13, 300])
def test_a_new_click_is_followed_by_what_followed_the_latest(
    full_log: Log,
    pieces: Callable[[Auctions, int], list[Auctions]],
    gathered: Callable[[Iterable[Auctions]], Auctions],
    size: int,
) -> None:
    log = full_log(300)
    log = replace(log, click=log.click * (np.arange(300) >= 20)[:, None])
    aftermath, everyone = Aftermath(), np.ones((300, 2), bool)
    found = gathered(aftermath.with_clicks(chunk, everyone[: len(chunk)]) for chunk in pieces(log, size))
    for name, first in (("conversion", 0.0), ("earned", 6.0)):
        expected, latest = np.empty((300, 2)), np.full(2, first)
        for i in range(300):
            for ad in range(2):
                if log.click[i, ad]:
                    latest[ad] = getattr(log, name)[i, ad]
            expected[i] = latest
        np.testing.assert_array_equal(getattr(found, name), expected)


def test_old_clicks_keep_what_followed_them(full_log: Log) -> None:
    log = full_log(500)
    click = np.random.default_rng(1).random((500, 2)) < 0.5
    moved = Aftermath().with_clicks(log, click)
    stay = click & (log.click != 0)
    np.testing.assert_array_equal(moved.click, click)
    for name in ("conversion", "earned"):
        np.testing.assert_array_equal(getattr(moved, name)[stay], getattr(log, name)[stay])
        assert not getattr(moved, name)[~click].any()


def test_a_log_that_counts_clicks_alone_goes_on_doing_so(full_log: Log) -> None:
    log = replace(full_log(50), conversion=None, earned=None)
    moved = Aftermath().with_clicks(log, np.ones((50, 2), bool))
    assert moved.conversion is None
    assert moved.earned is None


def test_needs_clicks(full_log: Log) -> None:
    with pytest.raises(DataError, match="column 'click'"):
        Aftermath().with_clicks(replace(full_log(5), click=None), np.ones((5, 2), bool))
