"""Interleaving against all outcomes of its coins and draws."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations, permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as draw

from ctrkit.experiments.interleaving import (
    balanced,
    balanced_credit,
    credit,
    preference,
    probabilistic,
    team_draft,
)

RANKINGS = list(permutations(range(3)))
CLICKS = [one for size in range(4) for one in combinations(range(3), size)]
EVEN = (0, 1, 2)


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


class Draws:
    """Numbers from 0 to 1 as told."""

    def __init__(self, numbers: list[float]) -> None:
        self.numbers = list(numbers)

    def random(self) -> float:
        return self.numbers.pop(0)


def softmaxed(second: tuple[int, ...]) -> dict[tuple[int, ...], dict[tuple[int, ...], float]]:
    """List -> teams -> chance: at each place a coin, and an item by rank^-3 of the ranking that it names."""
    found: dict[tuple[int, ...], dict[tuple[int, ...], float]] = defaultdict(dict)
    for order, teams in product(permutations(EVEN), product((0, 1), repeat=3)):
        chance = 1.0
        for place, team in enumerate(teams):
            weights = {one: ((EVEN, second)[team].index(one) + 1.0) ** -3 for one in order[place:]}
            chance *= 0.5 * weights[order[place]] / sum(weights.values())
        found[order][teams] = chance
    return found


def draws_to(second: tuple[int, ...], order: tuple[int, ...]) -> Draws:
    """Draws that end at a list: the middle of its stretch at each place."""
    draws, left = [], list(EVEN)
    for one in order:
        chances = np.zeros(len(left))
        for ranking in (EVEN, second):
            weights = np.array([(ranking.index(each) + 1.0) ** -3 for each in left])
            chances += weights / weights.sum() / 2
        place = left.index(one)
        draws.append(float(chances[:place].sum() + chances[place] / 2))
        left.remove(one)
    return Draws(draws)


@pytest.mark.parametrize("second", RANKINGS)
def test_credit_of_a_mixture_is_that_of_all_its_teams_and_favours_none(second: tuple[int, ...]) -> None:
    total = dict.fromkeys(CLICKS, 0.0)
    for order, teams in softmaxed(second).items():
        found = probabilistic(EVEN, second, 3, draws_to(second, order))  # type: ignore[arg-type]
        assert found.order == order
        whole = sum(teams.values())
        for clicked in CLICKS:
            signs = {team: float(np.sign(sum(2 * team[place] - 1 for place in clicked))) for team in teams}
            expected = sum(chance * signs[team] for team, chance in teams.items()) / whole
            assert credit(found.seconds, clicked) == pytest.approx(expected, abs=1e-12)
            total[clicked] += whole * credit(found.seconds, clicked)
    assert [*total.values()] == pytest.approx([0.0] * len(CLICKS), abs=1e-12)


def test_mixtures_are_drawn_as_often_as_they_should_be() -> None:
    second, seen = (2, 0, 1), Counter[tuple[int, ...]]()
    for one, two in product((np.arange(60) + 0.5) / 60, repeat=2):
        seen[probabilistic(EVEN, second, 3, Draws([one, two, 0.5])).order] += 1  # type: ignore[arg-type]
    for order, teams in softmaxed(second).items():
        assert seen[order] / 3600 == pytest.approx(sum(teams.values()), abs=0.03)


@pytest.mark.parametrize("clicked", CLICKS)
def test_clicks_on_places_favour_no_team_of_a_draft(clicked: tuple[int, ...]) -> None:
    for second in RANKINGS:
        drafts = [team_draft(EVEN, second, Coins(falls)) for falls in product((0, 1), repeat=2)]  # type: ignore[arg-type]
        assert sum(credit(one.teams, clicked) for one in drafts) == 0


def test_balanced_lists_and_their_known_bias() -> None:
    first, second = (0, 1, 2), (1, 2, 0)
    for fall, order in enumerate([(0, 1, 2), (1, 0, 2)]):
        assert balanced(first, second, 3, Coins((fall,))) == order  # type: ignore[arg-type]
        assert balanced(first, second, 1, Coins((fall,))) == order[:1]  # type: ignore[arg-type]
        # One click on a place at random: the second ranking wins two of three.
        credits = [balanced_credit(first, second, order, (place,)) for place in range(3)]
        assert sorted(credits) == [-1.0, 1.0, 1.0]


@given(draw.permutations(range(6)), draw.integers(0, 9), draw.integers(0, 99))
def test_equal_rankings_get_no_credit(ranking: list[int], length: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mixture = probabilistic(ranking, ranking, length, rng)
    assert len({*mixture.order}) == min(length, 6)
    assert credit(mixture.seconds, range(len(mixture.order))) == pytest.approx(0, abs=1e-12)
    order = balanced(ranking, ranking, length, rng)
    assert order == tuple(ranking[:length])
    assert balanced_credit(ranking, ranking, order, range(len(order))) == 0
