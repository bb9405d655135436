"""Several reward columns of a log at once: their means under a policy, and ratios such as ROAS."""

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
    "click": "clicks a row",
    "conversion": "conversions a row",
    "value": "value a row",
    "cost": "cost a row",
    "roas": "value over cost: return on ad spend",
    "cpa": "cost of a conversion",
    "ecpc": "cost of a click",
    "cvr": "conversions a click",
}


@dataclass(frozen=True)
class OutcomeResult:
    """Outcomes and ratios of a policy beside the logging policy's.

    Attributes:
        policy: an estimate an outcome and a ratio, by that name; its difference is to the logging policy.
        logging: the same of the logging policy itself.
        ranges: of the outcomes, as the intervals reckon with them.
    """

    policy: tuple[Estimate, ...]
    logging: tuple[Estimate, ...]
    ranges: Mapping[str, Range | None]


class OutcomeLog:
    """Estimates a policy's means of reward columns, and their ratios.

    `click` is the column `reward` where the log has none of its own, as logs of clicks are read.

    Args:
        outcomes: names of columns of numbers, such as `click`, `conversion`, `value` and `cost`.
        kind: the class of the estimators; one with a reward model needs `q` in `update`.
        ranges: an outcome's least and largest possible value; by default 0 and 1 where all values are one of
            them, else unknown, and then its interval is a normal one.
        ratios: see `OutcomeSums`.

    Raises:
        ConfigError: for no outcomes, ranges of others, and a ratio of unknown outcomes.
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
                    f"a range is given for '{name}', no outcome", hint=nearest(name, self.outcomes)
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
            rows: of the policy on all its rows; the rewards are not looked at.
            q: by outcome, a model's prediction for the logged action [N] and its mean under the policy [N].

        Raises:
            DataError: for a column that is missing, holds no numbers, or values outside their range.
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
        """Take in what another with the same settings has seen, of these or of other users."""
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
            kind = Column(column, "number", "an outcome of each row, 0 where there was none")
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
    """Outcomes and ratios alike, each under its own name."""
    means = (replace(estimate, estimator=name) for name, estimate in found.outcomes.items())
    ratios = (
        Estimate(ratio.name, ratio.value, ratio.interval, ratio.difference, ratio.difference_interval)
        for ratio in found.ratios.values()
    )
    return (*means, *ratios)
