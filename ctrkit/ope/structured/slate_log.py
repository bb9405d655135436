"""Pages of several slots, told by a log's columns: one row a slot, in named slate estimates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import TypeAlias

import numpy as np
import polars as pl

from ctrkit.arrays import Floats
from ctrkit.errors import DataError
from ctrkit.ope.estimators.base import Estimate
from ctrkit.ope.estimators.importance import logging_value
from ctrkit.ope.logs.bandit_log import BanditLog, Part
from ctrkit.ope.logs.units import DROPPED
from ctrkit.ope.structured.slates import (
    SelfNormalizedSlateIndependentIPS,
    SelfNormalizedSlateRewardInteractionIPS,
    SelfNormalizedSlateStandardIPS,
    SlateIndependentIPS,
    SlateRewardInteractionIPS,
    SlateRows,
    SlateStandardIPS,
)
from ctrkit.ope.structured.slates_additive import SelfNormalizedSlatePseudoInverse, SlatePseudoInverse
from ctrkit.ope.structured.slates_cascade import SlateCascadeDoublyRobust

SlateEstimator: TypeAlias = (
    SlateStandardIPS | SlateIndependentIPS | SlateRewardInteractionIPS | SlateCascadeDoublyRobust
)
KINDS: tuple[type[SlateEstimator], ...] = (
    SlateStandardIPS,
    SelfNormalizedSlateStandardIPS,
    SlateIndependentIPS,
    SelfNormalizedSlateIndependentIPS,
    SlateRewardInteractionIPS,
    SelfNormalizedSlateRewardInteractionIPS,
    SlatePseudoInverse,
    SelfNormalizedSlatePseudoInverse,
    SlateCascadeDoublyRobust,
)
# What each estimator assumes, for tables.
MEANING: Mapping[str, str] = {
    "sips": "no assumption about slots; its variance grows exponentially with their number",
    "snsips": "as sips, self-normalised",
    "iips": "a slot's reward depends only on its own action",
    "sniips": "as iips, self-normalised",
    "rips": "a slot's reward depends on its action and those above it (the page is read from the top)",
    "snrips": "as rips, self-normalised",
    "pi": "the page's reward is a sum of what each slot's action adds; slots are filled independently",
    "snpi": "as pi, self-normalised",
    "cascade-dr": "as rips, with a model's predictions of the rewards from each slot down",
}
INDEPENDENT = (
    "The log has no {column}: {whose} is taken to fill each slot whatever stands above it, on which "
    "iips, sniips, pi and snpi rest."
)
_MODEL = ("q_logged", "q_policy")
_VALUES = ("reward", "policy", "logging", "policy_marginal", "logging_marginal", *_MODEL)


class SlateLog:
    """Estimates the mean reward a page of a policy, from a log with one row a slot.

    The log needs `slate_id` and `position`, a whole number that counts a page's slots from 1, or from 0, in
    all of the log. `propensity` and the policy's probability are those of the slot's action given the
    actions above it. With `marginal_propensity` and `target_marginal_probability` they are given whatever
    stands above as well, which independent IPS and the pseudo-inverse need. With `q_logged` and `q_policy`
    (see `SlateRows`: of the rewards from the slot on) cascade-DR is estimated too.

    Pages may have different numbers of slots. A page's rows stand together, but may lie in two batches: the
    first and the last page of each batch are kept until `result`, as few numbers a slot each.

    Args:
        reward_range: the least and the largest reward of one slot; without it intervals are normal ones.
    """

    def __init__(self, reward_range: tuple[float, float] | None = None) -> None:
        self.estimators: tuple[SlateEstimator, ...] = tuple(kind(1, reward_range) for kind in KINDS)
        self.kept: list[pl.DataFrame] = []
        self.clustered = False
        self.columns: frozenset[str] = frozenset()
        # The number of the top slot, once known.
        self.top: int | None = None

    def update(self, log: BanditLog, policy_probability: Floats) -> None:
        """Take in a batch; `policy_probability` [N] is the policy's, of each slot's action.

        Raises:
            DataError: for a position that is no whole number, or twice on a page, a page without its top
                slot or with a gap, and probabilities that are none.
        """
        table = _slots(log, policy_probability)
        self.columns |= set(table.columns)
        # Pages by themselves are whole here anyway.
        self.clustered |= log.clustered and log.unit_columns[0] != "slate_id"
        ends = table["slate"].gather([0, table.height - 1])
        at_end = table["slate"].is_in(ends.implode())
        self.kept.append(table.filter(at_end))
        self._take(table.filter(~at_end))

    def merge(self, other: SlateLog) -> None:
        """Take in what another has seen, of these or of other users; pages of both are joined."""
        tops = {self.top, other.top} - {None}
        if len(tops) > 1:
            raise DataError(
                "one part of the log counts slots from 0 and another from 1", column="position", hint=_COUNT
            )
        self.top = tops.pop() if tops else None
        self.kept += other.kept
        self.clustered |= other.clustered
        self.columns |= other.columns
        slots = max(self._slots, other._slots)
        for mine, theirs in zip(self.estimators, other.estimators, strict=True):
            wide = deepcopy(theirs)
            for one in (mine, wide):
                one.widen(slots)
            mine.merge(wide)  # type: ignore[arg-type]

    def result(self, confidence: float = 0.95) -> tuple[Estimate, ...]:
        """The estimates, of a page's reward, that the log's columns allow.

        Raises:
            DataError: see `update`, for pages that lay in two batches.
        """
        modelled = set(_MODEL) <= self.columns
        return tuple(
            estimator.result(confidence)
            for estimator in self.settled().estimators
            if modelled or not isinstance(estimator, SlateCascadeDoublyRobust)
        )

    def logging(self, confidence: float = 0.95) -> Estimate:
        """A page's reward under the logging policy itself; raises as `result` does."""
        found = self.settled().estimators[0]
        assert isinstance(found, SlateStandardIPS)
        return logging_value(found.estimator, confidence)

    def settled(self) -> SlateLog:
        """The same with all pages taken in; none comes after."""
        if not self.kept:
            return self
        whole = SlateLog()
        whole.estimators, whole.top, whole.columns = deepcopy(self.estimators), self.top, self.columns
        whole.clustered = self.clustered
        whole._take(pl.concat(self.kept, how="vertical_relaxed"))
        return whole

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what was taken for granted."""
        wanted = (
            ("logging_marginal", "marginal_propensity", "the logging policy"),
            ("policy_marginal", "target_marginal_probability", "the policy"),
        )
        return tuple(
            INDEPENDENT.format(column=column, whose=whose)
            for name, column, whose in wanted
            if name not in self.columns
        )

    @property
    def _slots(self) -> int:
        return self.estimators[0].slots

    def _take(self, table: pl.DataFrame) -> None:
        """Take in whole pages."""
        if not table.height:
            return
        if self.top is None:
            self.top = int(table["position"].min())  # type: ignore[arg-type]
        rows = _pages(table, self.top, self.clustered)
        slots = max(self._slots, rows.rewards.shape[1])
        for estimator in self.estimators:
            if slots > estimator.slots:
                estimator.widen(slots)
            if rows.q_logged is not None or not isinstance(estimator, SlateCascadeDoublyRobust):
                estimator.update(rows.padded(slots))


_COUNT = "Count the slots of every page from 1 on, the top one first"


def _slots(log: BanditLog, policy_probability: Floats) -> pl.DataFrame:
    """What is needed of each slot, and where it was found."""
    table = log.table
    position = table["position"]
    if not position.dtype.is_integer():
        number = position.cast(pl.Int64, strict=False)
        if number.null_count():
            row = int(number.is_null().arg_max() or 0)
            raise _refused(*log.locate(row), f"slot {position[row]!r} is no whole number", _COUNT)
        position = number
    columns = {
        "slate": table["slate_id"],
        "position": position.cast(pl.Int64),
        "reward": log.reward,
        "policy": policy_probability,
        "logging": log.propensity,
        "unit": log.units,
        "count": log.counts,
    }
    if "marginal_propensity" in table.columns:
        columns["logging_marginal"] = table["marginal_propensity"]
    if "target_marginal_probability" in table.columns:
        columns["policy_marginal"] = log.target_probability("target_marginal_probability")
    columns |= {name: table[name] for name in _MODEL if set(_MODEL) <= set(table.columns)}
    return pl.DataFrame(columns).with_columns(file_and_row(log))


def file_and_row(log: BanditLog) -> Iterable[pl.Series]:
    """Each row's file and its number there, as columns `file` and `row`."""
    parts = log.parts or (Part(log.file, 0),)
    starts = [part.start for part in parts]
    counts = np.diff([*starts, len(log)])
    files = pl.Series("file", [part.file for part in parts], dtype=pl.String)
    rows = np.concatenate([part.numbers(int(count)) for part, count in zip(parts, counts, strict=True)])
    return files.gather(np.repeat(np.arange(len(parts)), counts)), pl.Series("row", rows)


def _pages(table: pl.DataFrame, top: int, clustered: bool) -> SlateRows:
    """Slots put together to pages, every page checked."""
    page = table["slate"].rank("dense").to_numpy().astype(np.int64) - 1
    position = table["position"].to_numpy()
    order = np.lexsort((position, page))
    page, position = page[order], position[order]
    lengths = np.bincount(page)
    starts = np.cumsum(lengths) - lengths
    depth = np.arange(len(page)) - starts[page]
    wrong = np.flatnonzero(position != depth + top) if top in (0, 1) else np.zeros(1, dtype=np.int64)
    units = table["unit"].to_numpy()[order]
    if wrong.size:
        at = int(wrong[0])
        slate, row = table["slate"][int(order[at])], table.row(int(order[at]), named=True)
        if depth[at] == 0:
            problem, hint = (
                f"page {slate!r} has no slot {min(top, 1)} in the rows that stand together",
                _COUNT,
            )
        elif position[at] == position[at - 1]:
            problem, hint = f"page {slate!r} has slot {position[at]} twice", "Give each page its own slate_id"
        else:
            problem = f"page {slate!r} has slot {position[at]} and no slot {position[at] - 1}"
            hint = f"{_COUNT}, and let the rows of a page stand together"
        raise _refused(row["file"], row["row"], problem, hint)
    if clustered and (odd := np.flatnonzero(units != units[starts][page])).size:
        row = table.row(int(order[odd[0]]), named=True)
        raise _refused(
            row["file"], row["row"], f"page {row['slate']!r} was shown to two users", "Fix it", "user_id"
        )

    def of(name: str) -> Floats | None:
        if name not in table.columns:
            return None
        found = np.ones((len(lengths), int(lengths.max())))
        found[page, depth] = table[name].to_numpy()[order]
        return found

    arrays = {name: of(name) for name in _VALUES}
    rewards, policy, logging = (arrays.pop(name) for name in _VALUES[:3])
    assert rewards is not None
    assert policy is not None
    assert logging is not None
    shown = (np.arange(rewards.shape[1]) < lengths[:, None]).astype(np.float64)
    users = units[starts] if clustered else None
    of_slots = table["count"].to_numpy()[order]
    counts = of_slots[starts]
    if (odd := np.flatnonzero(of_slots != counts[page])).size:
        row = table.row(int(order[odd[0]]), named=True)
        problem = f"the slots of page {row['slate']!r} were dropped with different probabilities"
        hint = "Give the slots of a page one p_drop: a page is in the log with all its slots, or not"
        raise _refused(row["file"], row["row"], problem, hint, DROPPED)
    return SlateRows(rewards, policy, logging, shown=shown, users=users, counts=counts, **arrays)


def _refused(file: str | None, row: int, problem: str, hint: str, column: str = "position") -> DataError:
    return DataError(problem, file=file, column=column, row=row, hint=hint)
