"""Assignment of users to arms."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as draw
from scipy.stats import chi2_contingency, chisquare

from ctrkit.errors import ConfigError
from ctrkit.experiments.assignment import PLACES, Assignment
from ctrkit.hashing import text_hash, text_hashes

USERS = pl.Series([f"user-{number}" for number in range(40_000)])
SHARES = draw.lists(draw.tuples(draw.sampled_from("abc"), draw.floats(0, 1 / 3)), min_size=1, max_size=12)


def counts(arms: pl.Series, names: tuple[str | None, ...]) -> list[int]:
    return [int((arms.eq_missing(name)).sum()) for name in names]


def test_arms_have_their_shares_and_salts_are_independent() -> None:
    first = Assignment("one").with_share("a", 0.3).with_share("b", 0.2)
    second = Assignment("two").with_share("a", 0.3).with_share("b", 0.2)
    names = ("a", "b", None)
    seen = counts(first.arms(USERS), names)
    assert chisquare(seen, np.multiply(len(USERS), (0.3, 0.2, 0.5))).pvalue > 1e-3
    both = pl.DataFrame({"first": first.arms(USERS), "second": second.arms(USERS)})
    table = [[both.filter(pl.col("first").eq_missing(one) & pl.col("second").eq_missing(two)).height
              for two in names] for one in names]  # fmt: skip
    assert chi2_contingency(table).pvalue > 1e-3


def test_the_same_on_every_machine() -> None:
    found = (
        Assignment("spring").with_share("new", 0.5).arms(pl.Series(["1", "2", "ann", "Zoë", "", "8", "bob"]))
    )
    assert found.to_list() == ["new", None, None, None, None, "new", "new"]


@given(SHARES)
def test_users_move_between_the_control_and_the_arm_that_changes_alone(
    changes: list[tuple[str, float]],
) -> None:
    assignment, users = Assignment("s"), USERS[:500]
    for arm, share in changes:
        before, assignment = assignment.arms(users), assignment.with_share(arm, share)
        after = assignment.arms(users)
        moved = before.ne_missing(after)
        assert {*before.filter(moved), *after.filter(moved)} <= {arm, None}
        if after.eq_missing(arm).sum() > before.eq_missing(arm).sum():
            assert set(before.filter(moved)) == {None}
        assert assignment.share(arm) == round(share * PLACES) / PLACES
        places = sorted((one.start, one.end) for one in assignment.stretches)
        assert all(start < end for start, end in places)
        assert all(end <= start for (_, end), (start, _) in pairwise(places))


def test_shares_come_back_to_the_same_users() -> None:
    small = Assignment("s").with_share("a", 0.1).with_share("b", 0.1)
    assert small.with_share("a", 0.5).with_share("a", 0.1) == small
    assert Assignment("s").with_share("a", 1.0).arms(USERS[:100]).unique().to_list() == ["a"]


def test_one_user_is_as_many_are() -> None:
    assignment = Assignment("s").with_share("a", 0.4).with_share("b", 0.4)
    some = ["ann", "Zoë", "", None, "7"]
    assert [assignment.arm(one) for one in some] == assignment.arms(pl.Series(some)).to_list()
    assert assignment.arm("7") == assignment.arms(pl.Series([7]))[0]
    assert assignment.arm(None) is None


@given(draw.text(max_size=30))
def test_the_hash_of_one_text_is_that_of_many(text: str) -> None:
    assert text_hash(text) == int(text_hashes(pl.Series([text]))[0])
    assignment = Assignment(text).with_share("a", 0.3).with_share("b", 0.3)
    assert assignment.arm(text) == assignment.arms(pl.Series([text]))[0]


@pytest.mark.parametrize("share", [-0.1, 0.61, 1.5, float("nan")])
def test_a_share_that_is_not_to_be_had(share: float) -> None:
    with pytest.raises(ConfigError, match=r"from 0 to 0\.6"):
        Assignment("s").with_share("a", 0.4).with_share("b", share)
