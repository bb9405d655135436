"""How many of the positives are at the top of a ranking: cumulative gain and lift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError
from ctrkit.metrics.checks import digits, need_both_classes, score_rows

SHARES = (0.01, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Gain:
    """The gain curve of a ranking, and its lift at some shares of the rows.

    Attributes:
        share: the share of rows taken from the top, rising from 0 to 1, [P].
        gain: the share of all positives that these rows hold, [P].
        lift: share of rows -> gain / share: how many times the base rate the best rows reach.
    """

    share: Floats
    gain: Floats
    lift: dict[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "share": self.share.tolist(),
            "gain": self.gain.tolist(),
            "lift": {f"{share:g}": value for share, value in self.lift.items()},
        }


def gain(
    labels: ArrayLike,
    scores: ArrayLike,
    shares: Sequence[float] = SHARES,
    points: int = 100,
    weight: ArrayLike | None = None,
) -> Gain:
    """Cumulative gain and lift (Ling & Li 1998, "Data Mining for Direct Marketing").

    Rows of equal score have no order, so the positives among them count in proportion: the curve is straight
    over a tie, and a constant score gives the diagonal and a lift of 1.

    Args:
        labels: 0 or 1, [N].
        scores: a high score is best, [N].
        shares: the shares of rows at which lift is read, each in (0, 1].
        points: the number of steps of the returned curve.
        weight: the weight of each row, [N]; a row of weight 2 counts as two.

    Raises:
        DataError: bad values, or only one class.
        ConfigError: a share outside (0, 1].
    """
    if wrong := [share for share in shares if not 0 < share <= 1]:
        raise ConfigError(f"a share of rows must be in (0, 1], and {digits(wrong[0])} was given")
    y, s, w = score_rows(labels, scores, weight)
    need_both_classes(float(w @ y), float(w @ (1 - y)), "gain")
    order = np.argsort(-s, kind="stable")
    last = np.flatnonzero(np.r_[s[order][1:] != s[order][:-1], True])  # the last row of each tie
    rows = np.r_[0.0, np.cumsum(w[order])[last]] / w.sum()
    won = np.r_[0.0, np.cumsum((w * y)[order])[last]] / (w @ y)
    at = np.linspace(0.0, 1.0, points + 1)
    lift = {share: float(np.interp(share, rows, won)) / share for share in shares}
    return Gain(at, np.interp(at, rows, won), lift)
