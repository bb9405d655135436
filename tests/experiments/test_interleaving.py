"""Interleaving by team draft, against all its coins."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as draw

from ctrkit.experiments.interleaving import preference, team_draft


class Coins:
    """Coins that fall as told."""

    def __init__(self, falls: tuple[int, ...]) -> None:
        self.falls = list(falls)

    def integers(self, _: int) -> int:
        return self.falls.pop(0)


def by_hand(
    first: tuple[int, ...], second: tuple[int, ...], falls: tuple[int, ...]
) -> tuple[list[int], list[int]]:
    rankings, order, teams, falls_left = (first, second), [], [], list(falls)
    while len(order) < len(first):
        # Who has fewer items picks; if both have as many, the coin says who.
        few = teams.count(0) - teams.count(1)
        team = falls_left.pop(0) if few == 0 else int(few > 0)
        order.append(next(item for item in rankings[team] if item not in order))
        teams.append(team)
    return order, teams


@given(draw.permutations(range(5)), draw.permutations(range(5)))
def test_all_coins_give_the_lists_of_the_rule_and_no_ranking_is_favoured(
    first: list[int], second: list[int]
) -> None:
    points = Counter[int]()
    for falls in product((0, 1), repeat=3):
        found = team_draft(first, second, Coins(falls))  # type: ignore[arg-type]
        assert (list(found.order), list(found.teams)) == by_hand(tuple(first), tuple(second), falls)
        assert sorted(found.order) == sorted(first)
        for place, team in enumerate(found.teams):
            points[place] += 1 if team else -1
    assert not any(points.values())  # clicks by place alone


def test_the_better_ranking_wins() -> None:
    rng, good, wins, losses = np.random.default_rng(0), set(range(5)), 0, 0
    for _ in range(400):
        better = [*rng.permutation(5), *(5 + rng.permutation(5))]
        found = team_draft(list(rng.permutation(10)), [int(one) for one in better], rng)
        credit = [
            2 * team - 1 for item, team in zip(found.order[:4], found.teams, strict=False) if item in good
        ]
        wins, losses = wins + (sum(credit) > 0), losses + (sum(credit) < 0)
    assert preference(wins, losses, 0).low > 0.5  # type: ignore[operator]


def test_the_preference_is_the_sign_test() -> None:
    found = preference(8, 2, 90)
    assert (found.share, found.ties) == (0.8, 90)
    assert found.p_value == pytest.approx(2 * sum((45, 10, 1)) / 1024)
    # Clopper and Pearson's interval of 8 in 10.
    assert (found.low, found.high) == (pytest.approx(0.4439, abs=1e-4), pytest.approx(0.9748, abs=1e-4))
    assert preference(0, 0, 5).share is None
