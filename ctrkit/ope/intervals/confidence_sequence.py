"""Intervals that hold at every length of a log at once: a gambler who bets against each candidate value.

They may be looked at as the log grows, as often as one likes, and acted on at any moment; the intervals of
`ctrkit.ope.intervals.interval` hold for a log whose length was settled beforehand.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy.optimize import brentq

from ctrkit.arrays import Booleans, Floats
from ctrkit.errors import ConfigError, DataError
from ctrkit.ope.intervals.interval import ConfidenceInterval

METHOD = "betting, valid at any time"
# How cautious the bets are, in units of the largest weight: a gambler of caution c wins most where the term
# of a row is about c, or where the evidence comes from some (c / spread)² rows. These serve to 10⁸ rows.
CAUTION = 2.0 ** np.arange(-6, 14)
BLOCK = 16_384


class ConfidenceSequence:
    """Bets on the IPS terms of a log, row by row, and the values that they have not ruled out.

    Waudby-Smith and Ramdas, Estimating Means of Bounded Random Variables by Betting, JRSS B 2024, on the
    weighted rewards of Waudby-Smith, Wu, Ramdas, Karampatziakis and Mineiro, Anytime-Valid Off-Policy
    Inference for Contextual Bandits, 2022. With s = (r - least) / (most - least), four terms y >= 0 of a
    row have a known mean ȳ(v), if v is the policy's scaled value and W the largest weight:

        w s: v,   W - w (1 - s): W - 1 + v,   w (1 - s): 1 - v,   W - w s: W - v.

    Who holds that the value is v must take the bet 1 + λ (y - ȳ(v)) for fair, for any λ in [0, 1 / ȳ(v)]:
    the product over rows is the wealth of his opponent, a martingale that starts at 1 and so stays below 1/α
    for ever with probability 1 - α (Ville). Values against which it has grown beyond that are ruled out. The
    first two terms find low values out, the last two high ones; each side has half of α.

    Here λ = 1 / (c + ȳ(v)), and the opponent spreads his wealth evenly over fixed c and over both terms. The
    factor is then (c + y) / (c + ȳ(v)), so that Σ log(1 + y / c) over the rows is all that is kept, one sum
    for each c and each term: exact for every v, and merged by addition. The price for not knowing the best c
    beforehand is the logarithm of their number, once.

    A row may stand for c decisions, of which the others were dropped at random. Of the rows that were kept it
    is c (y - ȳ(v)) that has mean 0, so that with C the largest c

        1 + (c / C) λ (y - ȳ(v))  >=  ((k + y) / (k + ȳ(v)))^(c / C),   λ = 1 / (k + ȳ(v)),

    is a fair bet for any c <= C and caution k. What is kept is the smaller right-hand side (the logarithm is
    concave), which is additive again: Σ c log(1 + y / k), all of it over C at the end. The interval is that
    of as many rows as Σ c / C; where all stand for as many, of the rows themselves. C is a setting of whoever
    thinned the log, and taken from the rows.

    Valid where, given all rows before it, a row's weight has mean 1 and its weighted reward mean v, so also
    where the logging policy learnt from earlier rows; not where the rows of a user share his taste.

    Args:
        reward_range: the least and the largest possible reward.
        largest_weight: W, which no weight may pass, seen or not. None where no bound is known: then only the
            first and third terms are bet on, and the upper end suffers where rewards are rare.

    Raises:
        ConfigError: for an empty range, or a largest weight below 1.
    """

    def __init__(self, reward_range: tuple[float, float], largest_weight: float | None = None) -> None:
        least, most = reward_range
        if not (np.isfinite(most - least) and least < most):
            raise ConfigError(
                f"a reward range from {least:g} to {most:g} is empty or infinite",
                hint="Give finite bounds, the lesser one first",
            )
        if largest_weight is not None and not 1 <= largest_weight < np.inf:
            raise ConfigError(
                f"weights have mean 1, so they are not all at most {largest_weight:g}",
                hint="Give the largest weight that the policies allow, or none",
            )
        self.reward_range = (least, most)
        self.largest_weight = largest_weight
        self.caution = CAUTION * (largest_weight or 1.0)
        self.rows = 0.0
        self.largest_count = 0.0
        self.total = 0.0
        self.growth = np.zeros((2 if largest_weight is None else 4, len(self.caution)))

    def update(self, weights: Floats, rewards: Floats, counts: Floats) -> None:
        """Take in rows, arrays [B]; `counts` is how many decisions each stands for.

        Raises:
            DataError: for a reward outside the range, or a weight below 0 or above the largest.
        """
        least, most = self.reward_range
        scaled = (rewards - least) / (most - least)
        _check("reward", rewards, (scaled >= 0) & (scaled <= 1), f"from {least:g} to {most:g}")
        bound = np.inf if self.largest_weight is None else self.largest_weight
        # A weight is a quotient: the largest may come out a rounding error above itself.
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
        """Take in rows, each of one decision, of which is told how near to fixed points their terms are.

        In place of log(1 + y / c) comes its chord between neighbouring points, which is below it and meets it
        at the points. Every wealth is the less for it, so that what is promised holds. Where points are at
        most 1/128 of their value apart, a row loses at most (y / (c + y))² / 131,072 of the first two terms.

        Args:
            won_at: [P] points, none below 0, see `TermPoints`.
            won: [P] how many rows' w s stand at each, a row between two of them in the parts that give its
                place.
            lost_at, lost: [Q] the same of w (1 - s).

        Raises:
            ConfigError: for terms beyond the largest weight.
        """
        for index, (points, mass) in enumerate(((won_at, won), (lost_at, lost))):
            term, part = points[mass > 0, None], mass[mass > 0]
            self.growth[index] += part @ np.log1p(term / self.caution)
            if self.largest_weight is not None:
                # A term next to the largest weight W reaches to the point after it, where 1 + y / c > 0.3.
                if term.max(initial=0.0) > self.largest_weight * 1.01:
                    raise ConfigError(
                        f"weights pass {self.largest_weight:g}", hint="Give the largest weight, or none"
                    )
                self.growth[index + 2] += part @ np.log1p((self.largest_weight - term) / self.caution)
        self.total += float(won @ won_at)
        self.rows += round(float(won.sum()))
        self.largest_count = max(self.largest_count, 1.0)

    def merge(self, other: Self) -> None:
        """Take in what another has seen.

        Raises:
            ConfigError: where the other's range or largest weight differ.
        """
        mine, others = ((one.reward_range, one.largest_weight) for one in (self, other))
        if mine != others:
            raise ConfigError(
                f"sequences for {mine} and {others} do not add up",
                hint="Give both one range and one weight",
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
        """The values that are not ruled out by the rows so far.

        With probability `confidence` it holds the true value at every length of the log. It is empty, low
        above high, where something that was taken for granted is wrong (and else with that probability).
        """
        goal = float(np.log(2 / (1 - confidence)))
        growths = [self.growth[:2]]
        offsets = [0.0]
        if self.largest_weight is not None:
            growths.append(self.growth[2:])
            offsets.append(self.largest_weight - 1)
        # Against low values: w s and W - w (1 - s). Against high ones the same with 1 - s for s.
        low = self._ruled_out([growths[0][0], *(growth[1] for growth in growths[1:])], offsets, goal)
        high = 1 - self._ruled_out([growths[0][1], *(growth[0] for growth in growths[1:])], offsets, goal)
        least, most = self.reward_range
        return ConfidenceInterval(least + (most - least) * low, least + (most - least) * high, METHOD)

    def _ruled_out(self, growths: list[Floats], offsets: list[float], goal: float) -> float:
        """The largest v in [0, 1] against which the log of the wealth has reached `goal`; 0 if there is none.

        The wealth falls as v grows: a term of mean offset + v is the less surprising.
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
            hint=f"Give bounds that no {column} passes",
        )
