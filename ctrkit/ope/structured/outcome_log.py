"""Several reward columns of a log: their means under a policy, and ratios such as ROAS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError, DataError, nearest
from ctrkit.ope.estimators.base import Estimate, Estimator, LoggedRows
from ctrkit.ope.estimators.importance import OnPolicy, SelfNormalizedInversePropensityScoring
from ctrkit.ope.logs.bandit_log import BanditLog
from ctrkit.ope.structured.outcomes import OutcomeEstimates, OutcomeSums, Range
from ctrkit.schema import Column, check_column

# What each outcome and ratio is, for tables.
MEANING: Mapping[str, str] = {
    "click": "clicks per row",
    "conversion": "conversions per row",
    "value": "value per row",
    "cost": "cost per row",
    "roas": "return on ad spend: value divided by cost",
    "cpa": "cost per conversion",
    "ecpc": "cost per click",
    "cvr": "conversions per click",
}


@dataclass(frozen=True)
class OutcomeResult:
    """Outcomes and ratios of a policy and of the logging policy.

    Attributes:
        policy: one estimate per outcome and ratio, under its name; differences are from the logging policy.
        logging: the same estimates for the logging policy itself.
        ranges: the smallest and the largest value of each outcome, as the intervals use them; None: unknown.
    """

    policy: tuple[Estimate, ...]
    logging: tuple[Estimate, ...]
    ranges: Mapping[str, Range | None]


class OutcomeLog:
    """Estimates a policy's means of reward columns, and their ratios.

    The outcome `click` is the column `reward` where the log has no column `click`.

    Args:
        outcomes: names of columns of numbers, such as `click`, `conversion`, `value` and `cost`.
        kind: the class of the estimators; one with a reward model needs `q` in `update`.
        ranges: the smallest and the largest possible value of each outcome. The default is 0 and 1 where all
            values are 0 or 1; else the range is unknown and the interval normal.
        ratios: name to (numerator, denominator); by default those of `RATIOS` whose outcomes are there.

    Raises:
        ConfigError: there are no outcomes, or a range or ratio names an unknown outcome.
    """

    def __init__(
        self,
        outcomes: Sequence[str],
        kind: type[Estimator] = SelfNormalizedInversePropensityScoring,
        ranges: Mapping[str, Range] | None = None,
        ratios: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        self.outcomes, self.kind, self.ratios = tuple(outcomes), kind, ratios
        if not self.outcomes:
            raise ConfigError("no outcomes are named", hint="Name reward columns, such as click and cost")
        self.given = dict(ranges or {})
        for name in self.given:
            if name not in self.outcomes:
                raise ConfigError(
                    f"a range is given for '{name}', which is not an outcome",
                    hint=nearest(name, self.outcomes),
                )
        self.binary = dict.fromkeys(self.outcomes, True)
        self.policy, self.logging = self._new(kind), self._new(OnPolicy)

    def update(
        self,
        log: BanditLog,
        rows: LoggedRows,
        q: Mapping[str, tuple[Floats, Floats]] | None = None,
    ) -> None:
        """Take in a batch.

        Args:
            log: the batch.
            rows: all rows of the batch as an estimator of the policy sees them; the rewards are not read.
            q: by outcome, a model's predictions for the logged action [N] and their mean under the policy
                [N].

        Raises:
            DataError: a column is missing, does not hold numbers, or holds values outside its range.
        """
        values = {name: self._values(log, name) for name in self.outcomes}
        for name, seen in values.items():
            self.binary[name] &= bool(np.isin(seen, (0.0, 1.0)).all())
        rows = replace(rows, users=log.units if log.clustered else None)
        of_each = {name: replace(rows, rewards=seen) for name, seen in values.items()}
        self.logging.update(of_each)
        for name, (logged, mean) in (q or {}).items():
            of_each[name] = replace(of_each[name], q_logged=logged, q_policy=mean)
        self.policy.update(of_each)

    def merge(self, other: OutcomeLog) -> None:
        """Merge the rows of another with the same settings, of the same or of other users."""
        self.policy.merge(other.policy)
        self.logging.merge(other.logging)
        for name, binary in other.binary.items():
            self.binary[name] &= binary

    def result(self, confidence: float = 0.95) -> OutcomeResult:
        """Means and ratios under the policy, under the logging policy, and their differences.

        Raises:
            ConfigError: for a confidence out of bounds.
        """
        ranges: dict[str, Range | None] = {
            name: self.given.get(name, (0.0, 1.0) if self.binary[name] else None) for name in self.outcomes
        }
        policy, logging = self._new(self.kind, ranges), self._new(OnPolicy, ranges)
        policy.merge(self.policy)
        logging.merge(self.logging)
        return OutcomeResult(_flat(policy.result(confidence)), _flat(logging.result(confidence)), ranges)

    def _new(self, kind: type[Estimator], ranges: Mapping[str, Range | None] | None = None) -> OutcomeSums:
        return OutcomeSums(ranges or dict.fromkeys(self.outcomes), kind, self.ratios)

    def _values(self, log: BanditLog, name: str) -> Floats:
        """An outcome's values [N], checked."""
        column = "reward" if name == "click" and name not in log.table.columns else name
        if column not in log.table.columns:
            raise DataError(
                "no such outcome column",
                file=log.file,
                column=column,
                hint=nearest(column, log.table.columns),
            )
        try:
            kind = Column(column, "number", "an outcome of each row, 0 where nothing happened")
            values = check_column(log.table[column], kind, log.file).to_numpy()
        except DataError as error:
            if error.row is None:
                raise
            file, row = log.locate(error.row)
            raise DataError(error.problem, file=file, column=column, row=row, hint=error.hint) from None
        low, high = self.given.get(name, (-np.inf, np.inf))
        if (wrong := np.flatnonzero((values < low) | (values > high))).size:
            file, row = log.locate(int(wrong[0]))
            raise DataError(
                f"{values[wrong[0]]:g} is outside the range from {low:g} to {high:g}",
                file=file,
                column=column,
                row=row,
                hint="Widen the range or correct the value",
            )
        return np.asarray(values)


def _flat(found: OutcomeEstimates) -> tuple[Estimate, ...]:
    """Outcomes and ratios as one tuple of estimates, each under its own name."""
    means = (replace(estimate, estimator=name) for name, estimate in found.outcomes.items())
    ratios = (
        Estimate(ratio.name, ratio.value, ratio.interval, ratio.difference, ratio.difference_interval)
        for ratio in found.ratios.values()
    )
    return (*means, *ratios)
