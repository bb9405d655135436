"""Intervals that hold at all lengths of a log at once, by bets against each candidate value.

They may be read at any time while the log grows, as often as one likes. The intervals of
`ctrkit.ope.intervals.interval` hold only for a log whose length was fixed beforehand.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy.optimize import brentq

from ctrkit.arrays import Booleans, Floats
from ctrkit.errors import ConfigError, DataError
from ctrkit.ope.intervals.interval import ConfidenceInterval

METHOD = "betting, valid at any time"
# Cautions of the bets, in units of the largest weight. A bet of caution c gains most where the term of a row
# is about c, or where the evidence comes from about (c / spread)² rows. These cover logs up to 10⁸ rows.
CAUTION = 2.0 ** np.arange(-6, 14)
BLOCK = 16_384


class ConfidenceSequence:
    """Bets on the IPS terms of a log, row by row, and the interval of values that they have not ruled out.

    Waudby-Smith and Ramdas, Estimating Means of Bounded Random Variables by Betting, JRSS B 2024, on the
    weighted rewards of Waudby-Smith, Wu, Ramdas, Karampatziakis and Mineiro, Anytime-Valid Off-Policy
    Inference for Contextual Bandits, 2022. With s = (r - least) / (most - least), four terms y >= 0 of a
    row have a known mean ȳ(v), if v is the policy's scaled value and W the largest weight:

        w s: v,   W - w (1 - s): W - 1 + v,   w (1 - s): 1 - v,   W - w s: W - v.

    If the value is v, the bet 1 + λ (y - ȳ(v)) is fair for any λ in [0, 1 / ȳ(v)]. The product over the rows
    is the wealth of a player who bets against v. It is a martingale that starts at 1, so with probability 1 -
    α it never reaches 1/α (Ville). Values against which the wealth has grown beyond 1/α are ruled out. The
    first two terms rule out low values, the last two rule out high values; each side has half of α.

    Here λ = 1 / (c + ȳ(v)), and the player splits the wealth evenly over fixed cautions c and over both
    terms. The factor is then (c + y) / (c + ȳ(v)), so only Σ log(1 + y / c) over the rows is kept, one sum
    for each c and each term. This is exact for every v, and sums merge by addition. Not knowing the best c
    beforehand costs the logarithm of their number, once.

    A row may stand for c decisions, of which the others were dropped at random. Over the rows that were kept,
    c (y - ȳ(v)) has mean 0, so with C the largest c

        1 + (c / C) λ (y - ȳ(v))  >=  ((k + y) / (k + ȳ(v)))^(c / C),   λ = 1 / (k + ȳ(v)),

    is a fair bet for any c <= C and caution k. The smaller right-hand side is kept (the logarithm is
    concave), which is additive again: Σ c log(1 + y / k), divided by C at the end. The interval is as wide as
    that of Σ c / C rows; if all rows have the same c, this is the number of rows. C is a setting of the
    thinning, and is read from the rows.

    The interval is valid if, given all rows before it, a row's weight has mean 1 and its weighted reward has
    mean v. So it is valid if the logging policy learnt from earlier rows, but not if several rows of a user
    depend on each other.

    Args:
        reward_range: smallest and largest possible reward.
        largest_weight: W, an upper bound of all possible weights. None where no bound is known: then only the
            first and third terms are used, and the upper end is wider where rewards are rare.

    Raises:
        ConfigError: the range is empty or infinite, or the largest weight is below 1.
    """

    def __init__(self, reward_range: tuple[float, float], largest_weight: float | None = None) -> None:
        least, most = reward_range
        if not (np.isfinite(most - least) and least < most):
            raise ConfigError(
                f"a reward range from {least:g} to {most:g} is empty or infinite",
                hint="Give finite bounds, the lower one first",
            )
        if largest_weight is not None and not 1 <= largest_weight < np.inf:
            raise ConfigError(
                f"the largest weight cannot be {largest_weight:g}, because weights have mean 1",
                hint="Give the largest weight that the policies allow, or leave it out",
            )
        self.reward_range = (least, most)
        self.largest_weight = largest_weight
        self.caution = CAUTION * (largest_weight or 1.0)
        self.rows = 0.0
        self.largest_count = 0.0
        self.total = 0.0
        self.growth = np.zeros((2 if largest_weight is None else 4, len(self.caution)))

    def update(self, weights: Floats, rewards: Floats, counts: Floats) -> None:
        """Add rows.

        Args:
            weights: [B] importance weights.
            rewards: [B].
            counts: [B] number of decisions that each row stands for.

        Raises:
            DataError: a reward is outside the range, or a weight is below 0 or above the largest.
        """
        least, most = self.reward_range
        scaled = (rewards - least) / (most - least)
        _check("reward", rewards, (scaled >= 0) & (scaled <= 1), f"from {least:g} to {most:g}")
        bound = np.inf if self.largest_weight is None else self.largest_weight
        # A weight is a quotient: the largest one may exceed the bound by a rounding error.
        _check("weight", weights, (weights >= 0) & (weights <= bound * (1 + 1e-9)), f"from 0 to {bound:g}")
        for start in range(0, len(weights), BLOCK):
            w, s, c = (values[start : start + BLOCK] for values in (weights, scaled, counts))
            terms = [w * s, w * (1 - s)]
            if self.largest_weight is not None:
                terms += [np.maximum(self.largest_weight - term, 0.0) for term in terms]
            for row, term in zip(self.growth, terms, strict=True):
                for index, caution in enumerate(self.caution):
                    row[index] += c @ np.log1p(term / caution)
            self.total += float(c @ terms[0])
        self.rows += float(counts.sum())
        self.largest_count = max(self.largest_count, float(counts.max(initial=0.0)))

    def update_points(self, won_at: Floats, won: Floats, lost_at: Floats, lost: Floats) -> None:
        """Add rows of one decision each, whose terms are given as masses on fixed points.

        The chord of log(1 + y / c) between neighbouring points replaces the logarithm. It is below the
        logarithm and equal to it at the points. So every wealth is smaller, and the interval stays valid. If
        neighbouring points differ by at most 1/128 of their value, a row loses at most
        (y / (c + y))² / 131,072 in the first two terms.

        Args:
            won_at: [P] points of w s, none below 0 (see `TermPoints`).
            won: [P] number of rows at each point; a row between two points is split between them so that its
                mean is kept.
            lost_at: [Q] points of w (1 - s).
            lost: [Q] number of rows at each of them.

        Raises:
            ConfigError: a term is above the largest weight.
        """
        for index, (points, mass) in enumerate(((won_at, won), (lost_at, lost))):
            term, part = points[mass > 0, None], mass[mass > 0]
            self.growth[index] += part @ np.log1p(term / self.caution)
            if self.largest_weight is not None:
                # A term just below the largest weight W has mass on the point above W, where 1 + y / c > 0.3.
                if term.max(initial=0.0) > self.largest_weight * 1.01:
                    raise ConfigError(
                        f"some weights are above {self.largest_weight:g}",
                        hint="Give the largest weight, or leave it out",
                    )
                self.growth[index + 2] += part @ np.log1p((self.largest_weight - term) / self.caution)
        self.total += float(won @ won_at)
        self.rows += round(float(won.sum()))
        self.largest_count = max(self.largest_count, 1.0)

    def merge(self, other: Self) -> None:
        """Add the rows of another sequence.

        Raises:
            ConfigError: the other has another reward range or largest weight.
        """
        mine, others = ((one.reward_range, one.largest_weight) for one in (self, other))
        if mine != others:
            raise ConfigError(
                f"sequences with (range, largest weight) {mine} and {others} cannot be merged",
                hint="Give both the same reward range and largest weight",
            )
        self.rows += other.rows
        self.largest_count = max(self.largest_count, other.largest_count)
        self.total += other.total
        self.growth += other.growth

    @property
    def value(self) -> float:
        """The IPS estimate: least + (most - least) mean(w s); NaN without rows."""
        least, most = self.reward_range
        return least + (most - least) * self.total / self.rows if self.rows else np.nan

    def interval(self, confidence: float) -> ConfidenceInterval:
        """The values that the rows so far have not ruled out.

        With probability `confidence` it contains the true value at all lengths of the log. It may be empty
        (low above high): then an assumption is wrong, or this is the case of probability 1 - `confidence`.
        """
        goal = float(np.log(2 / (1 - confidence)))
        growths = [self.growth[:2]]
        offsets = [0.0]
        if self.largest_weight is not None:
            growths.append(self.growth[2:])
            offsets.append(self.largest_weight - 1)
        # Against low values: w s and W - w (1 - s). Against high values: the same with 1 - s instead of s.
        low = self._ruled_out([growths[0][0], *(growth[1] for growth in growths[1:])], offsets, goal)
        high = 1 - self._ruled_out([growths[0][1], *(growth[0] for growth in growths[1:])], offsets, goal)
        least, most = self.reward_range
        return ConfidenceInterval(least + (most - least) * low, least + (most - least) * high, METHOD)

    def _ruled_out(self, growths: list[Floats], offsets: list[float], goal: float) -> float:
        """The largest v in [0, 1] against which the log of the wealth has reached `goal`; 0 if there is none.

        The wealth falls as v grows, because a term of mean offset + v is then less surprising.
        """
        scale = max(self.largest_count, 1.0)
        growth, offset = np.stack(growths) / scale, np.array(offsets)[:, None]

        def beyond(value: float) -> float:
            purses = growth - self.rows / scale * np.log1p((offset + value) / self.caution)
            fattest = purses.max()
            return float(fattest + np.log(np.exp(purses - fattest).mean())) - goal

        if beyond(0.0) <= 0:
            return 0.0
        return float(brentq(beyond, 0.0, 1.0, xtol=1e-12)) if beyond(1.0) < 0 else 1.0


def _check(column: str, values: Floats, well: Booleans, where: str) -> None:
    if not well.all():
        row = int(np.argmin(well))
        raise DataError(
            f"{values[row]:g} is outside the range {where}",
            column=column,
            row=row,
            hint=f"Give bounds that contain every {column}",
        )
