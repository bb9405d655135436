"""Interleaving simulated on a log: lists of two rankers, and the logged clicks on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from ctrkit.arrays import Booleans, Floats, Indices
from ctrkit.experiments.interleaving import balanced, balanced_credit, credit, probabilistic, team_draft

Method: TypeAlias = Literal["team-draft", "probabilistic", "balanced"]


class Simulated(NamedTuple):
    """Impressions of a simulation.

    Attributes:
        preferences: of each impression, [n].
        clicks: clicks on the first ranker's own list, and on the second's, [2, n].
        shown: clicks on the interleaved list, [n].
        same: whether both rankers have the same list, [n].
    """

    preferences: Floats
    clicks: Floats
    shown: Floats
    same: Booleans


def rankings(scores: Floats, requests: Indices, ties: Floats) -> list[list[int]]:
    """The candidates of each request, best first, numbered from 0 in the order of their rows.

    Args:
        scores: of each candidate, [N].
        requests: number of each candidate's request, ascending from 0 and each there, [N].
        ties: numbers that order equal scores, [N].
    """
    order = np.lexsort((ties, -scores, requests))
    starts = np.flatnonzero(np.diff(requests, prepend=-1))
    return [part.tolist() for part in np.split(order - starts[requests], starts[1:])]


def simulate(
    first: Sequence[list[int]],
    second: Sequence[list[int]],
    clicked: Sequence[Booleans],
    seeds: Sequence[int],
    length: int,
    method: Method,
) -> Simulated:
    """Show an interleaved list for each request, with the clicks that the log has on its candidates.

    Args:
        first: ranking of each request by the first ranker, [n].
        second: the same by the second one, [n].
        clicked: whether each candidate of each request was clicked, [n].
        seeds: a seed of each request, [n].
        length: number of candidates of a list.
        method: how lists are made.
    """
    n = len(first)
    found = Simulated(np.zeros(n), np.zeros((2, n)), np.zeros(n), np.zeros(n, np.bool_))
    for row, (one, two, clicks, seed) in enumerate(zip(first, second, clicked, seeds, strict=True)):
        order, seconds = _shown(one, two, length, np.random.default_rng(seed), method)
        places = [place for place, candidate in enumerate(order) if clicks[candidate]]
        if seconds is None:
            found.preferences[row] = balanced_credit(one, two, order, places)
        else:
            found.preferences[row] = credit(seconds, places)
        found.shown[row] = len(places)
        found.clicks[:, row] = [clicks[top[:length]].sum() for top in (one, two)]
        found.same[row] = one[:length] == two[:length]
    return found


def _shown(
    first: list[int], second: list[int], length: int, rng: np.random.Generator, method: Method
) -> tuple[tuple[int, ...], Sequence[float] | None]:
    """A list, and the probability of each place that it is the second ranker's, where credit is by place."""
    if method == "balanced":
        return balanced(first, second, length, rng), None
    if method == "probabilistic":
        mixture = probabilistic(first, second, length, rng)
        return mixture.order, mixture.seconds
    draft = team_draft(first, second, rng)
    return draft.order[:length], draft.teams[:length]
