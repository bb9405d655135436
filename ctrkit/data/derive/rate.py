"""rate: smoothed click rates of the past, by any key or keys."""

from __future__ import annotations

import numpy as np
import polars as pl
from pydantic import Field

from ctrkit.data.derive.base import Names, SomeNames, Step, measures
from ctrkit.data.derive.known import Moments, group_codes, known_events
from ctrkit.data.derive.part import SECONDS, Part, seconds_in
from ctrkit.settings import NotNegative, UnitInterval, checked


@checked
class Rate(Step):
    """The click rate of all rows with the same keys at strictly earlier times, smoothed, and their number.

    rate = (clicks + prior · strength) / (rows + strength): the posterior mean under a Beta prior, as
    "Web-Scale Bayesian Click-Through Rate Prediction for Sponsored Search Advertising" (Graepel et al., 2010)
    and many others smooth counts. A row counts only once its label was known: `delay` seconds after its time.
    Rows whose label is missing never count.
    """

    name = "rate"
    counts_rows = True
    by: SomeNames = Field(description="columns whose values rows must share")
    makes: measures("rate", "count", "clicks") = Field(  # type: ignore[valid-type]
        description="new column -> rate, count (of earlier rows) or clicks"
    )
    prior: UnitInterval = Field(description="the rate where nothing is known")
    strength: NotNegative = Field(default=20.0, description="number of rows that the prior counts as")
    label: str = Field(default="click", description="column of the label")
    time: str = Field(default="timestamp", description="column of times")
    delay: NotNegative = Field(default=0.0, description="seconds after a row when its label is known")

    @property
    def new_columns(self) -> Names:
        return tuple(self.makes)

    @property
    def keys(self) -> Names:
        return self.by

    @property
    def reads(self) -> Names:
        return (self.label,)

    @property
    def times(self) -> Names:
        return (self.time,)

    def derive(self, part: Part) -> list[pl.Series]:
        past = part.rows.select(*self.by, self.label, f"{SECONDS}{self.time}")
        past = past.filter(pl.col(self.label).is_not_null())
        known = known_events(
            past,
            *group_codes(part.rows, past, self.by),
            Moments(seconds_in(part.rows, self.time)),
            Moments(seconds_in(past, self.time)),
            delay=self.delay,
        )
        # Labels are whole numbers, whose sums are exact: they do not depend on what stands before.
        total = np.concatenate([[0.0], np.cumsum(known.events[self.label].cast(pl.Float64).to_numpy())])
        clicks, rows = total[known.end] - total[known.start], known.count
        with np.errstate(invalid="ignore"):
            rate = (clicks + self.prior * self.strength) / (rows + self.strength)
        found = {
            "rate": pl.Series(rate).fill_nan(None),
            "count": pl.Series(rows),
            "clicks": pl.Series(clicks),
        }
        return [found[what] for what in self.makes.values()]
