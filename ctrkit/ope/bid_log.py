"""Logs of bids, or any continuous action: read, checked, and a new bidder's value in named estimates."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingRegressor

from ctrkit.errors import ConfigError, DataError, nearest
from ctrkit.ope.bandwidth import BandwidthBySlope
from ctrkit.ope.base import Estimate, LoggedRows
from ctrkit.ope.continuous import (
    ContinuousRows,
    KernelDoublyRobust,
    KernelEstimator,
    KernelInversePropensityScoring,
    KernelSelfNormalized,
)
from ctrkit.ope.formats import LogTable, detect, read_log
from ctrkit.ope.formats.align import aligned
from ctrkit.ope.formats.dsjson import DSJSON, read_continuous
from ctrkit.ope.importance import OnPolicy
from ctrkit.ope.log import Part
from ctrkit.ope.moments import Floats, Ints
from ctrkit.ope.slate_log import decisions
from ctrkit.ope.units import codes_of, user_keys
from ctrkit.schema import BID_LOG, check_column
from ctrkit.tables import TableLike, files_of, join_tables, name_of

KINDS: tuple[type[KernelEstimator], ...] = (
    KernelInversePropensityScoring,
    KernelSelfNormalized,
    KernelDoublyRobust,
)
# What each estimator is, for tables.
MEANING: Mapping[str, str] = {
    "kernel-ips": "logged bids near the new ones, reweighted",
    "kernel-snips": "as kernel-ips, self-normalised",
    "kernel-dr": "a model's predictions, corrected by logged bids near the new ones",
}
# The grid of bandwidths, in standard deviations of the logged bids.
GRID = (0.05, 0.1, 0.2, 0.4, 0.8)
# With fewer rows a reward model predicts their mean.
LEAST_ROWS = 40
TARGET = next(column for column in BID_LOG.columns if column.name == "target_bid")

NOTES = (
    "What is estimated is the reward of one impression, all others left as they were: that bids of one "
    "auction take from the budget of the next is not covered.",
    "The intervals are those of a policy that draws its bid from the kernel around the new one; how far its "
    "value lies from the new policy's own they leave out.",
)
NO_ENDS = (
    "The least and the largest bid that the logging policy draws are not given: near them the kernel loses "
    "mass, kernel-ips is too low there, and intervals are normal ones."
)
DETERMINISTIC = (
    "the log has no density of its bids, as those of a bidder that always bids the same in the same context: "
    "no reweighting can tell what other bids would have earned, only a model of the market can"
)
MODEL_OF_MARKET = (
    "Replay the auctions with `ctrkit simulate-bidding`, or log bids that are drawn, with their density"
)


@dataclass(frozen=True)
class BidLog:
    """A checked log of N bids.

    Attributes:
        table: under the names of `ctrkit.schema.BID_LOG`.
        file: where it came from, for messages.
        bid: [N] in any unit.
        density: [N] the logging policy's density at them, per that unit; above 0.
        reward: [N].
        users: [N] codes from 0; None where users are unknown or each has one row.
        parts: the files, in their order.
        notes: sentences on what was changed, left out or taken for granted in reading.
    """

    table: pl.DataFrame
    file: str | None
    bid: Floats
    density: Floats
    reward: Floats
    users: Ints | None
    parts: tuple[Part, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.table.height

    def numbers(self, column: str) -> Floats:
        """A column of numbers, [N], checked."""
        if column not in self.table.columns:
            raise DataError(
                "no such column", file=self.file, column=column, mend=nearest(column, self.table.columns)
            )
        try:
            return check_column(self.table[column], TARGET, self.file, called=column).to_numpy()
        except DataError as error:
            if error.row is None:
                raise
            raise self.refused(column, error.row, error.problem, error.mend) from None

    def refused(self, column: str, row: int, problem: str, mend: str | None) -> DataError:
        """The error for a row, by its number in the log, which tells its place in its file."""
        part = self.parts[bisect_right([part.start for part in self.parts], row) - 1]
        return DataError(problem, file=part.file, column=column, row=row - part.start, mend=mend)


@dataclass(frozen=True)
class BidEvaluation:
    """What a log says about a new bidder.

    Attributes:
        logging: the logging policy's own value.
        bandwidths: by estimator, in the bids' unit.
        effective_sample_size: of the kernel's weights, (Σ w)² / Σ w² (Kish 1965), by estimator.
        notes: sentences on what was taken for granted or left out.
    """

    logging: Estimate
    estimates: tuple[Estimate, ...]
    bandwidths: Mapping[str, float]
    effective_sample_size: Mapping[str, float]
    confidence: float
    notes: tuple[str, ...]


def read_bid_log(source: TableLike, format: str | None = None) -> BidLog:
    """Read and check a log of bids.

    Args:
        source: a path, a glob, a list of them, or a table with the columns of `ctrkit.schema.BID_LOG`,
            aliases accepted; of DSJSON files the lines with `_label_ca`. Many files are one log.
        format: a name of `ctrkit.ope.formats.FORMATS`; by default each file's content tells.

    Raises:
        ConfigError: there is no such format.
        DataError: names the file, the column, the first faulty row and the mend; so for a log without
            densities, which says nothing of other bids.
    """
    tables = _read(source, format)
    checked = [_checked(table) for table in tables]
    starts = np.cumsum([0, *(own.height for own in checked)])
    table = join_tables(checked, [table.file for table in tables])
    return BidLog(
        table,
        name_of(source),
        table["bid"].to_numpy(),
        table["density"].to_numpy(),
        table["reward"].to_numpy(),
        codes_of(user_keys(table["user_id"])) if "user_id" in table.columns else None,
        tuple(Part(one.file, int(start)) for one, start in zip(tables, starts, strict=False)),
        tuple(dict.fromkeys(note for one in tables for note in one.notes)),
    )


def _read(source: TableLike, format: str | None) -> tuple[LogTable, ...]:
    files = files_of(source)
    if files is None:
        return read_log(source, format)
    vw = [format == DSJSON.name or (format is None and detect(file) is DSJSON) for file in files]
    found = tuple(
        read_continuous(file) if continuous else read_log(file, format)[0]
        for file, continuous in zip(files, vw, strict=True)
    )
    return aligned(found) if all(vw) else found


def _checked(source: LogTable) -> pl.DataFrame:
    """One file's table under the schema's names, every value checked."""
    table, file = source.table, source.file
    if table.height == 0:
        raise DataError("the table has no rows", file=file, mend="Give a log with at least one row")
    density = next(column for column in BID_LOG.columns if column.name == "density")
    name = next((name for name in (density.name, *density.aliases) if name in table.columns), None)
    if name is None:
        raise DataError(DETERMINISTIC, file=file, column="density", mend=MODEL_OF_MARKET)
    missing = table[name].is_null()
    if table.schema[name].is_float():
        missing |= ~table[name].fill_null(0.0).is_finite()
    if missing.any():
        row = int(missing.arg_max() or 0)
        raise DataError(DETERMINISTIC, file=file, column=name, row=row, mend=MODEL_OF_MARKET)
    table = BID_LOG.apply(table, file)
    if (wrong := np.flatnonzero(table["density"].to_numpy() <= 0)).size:
        row = int(wrong[0])
        raise DataError(
            f"a bid was made whose density is {table['density'][row]:g}",
            file=file,
            column=name,
            row=row,
            mend="Log the density, above 0, with which each bid was drawn",
        )
    if "p_drop" in table.columns and (wrong := np.flatnonzero(table["p_drop"].to_numpy() >= 1)).size:
        row = int(wrong[0])
        problem = f"a row that is there was not dropped with probability {table['p_drop'][row]:g}"
        raise DataError(problem, file=file, column="p_drop", row=row, mend="Give probabilities below 1")
    return table


def evaluate_bids(
    log: BidLog,
    column: str = TARGET.name,
    *,
    context_columns: Sequence[str] = (),
    bandwidth: float | None = None,
    kernel: str = "epanechnikov",
    bid_range: tuple[float, float] | None = None,
    reward_range: tuple[float, float] | None = None,
    confidence: float = 0.95,
    folds: int = 3,
    seed: int = 0,
) -> BidEvaluation:
    """Estimate what a new bidder would have earned an impression.

    Args:
        column: the new bidder's bid in each row.
        context_columns: what the reward model reads beside the bid. They must have been known before the
            auction, which of a log's columns it cannot tell itself: a market price or a win spoils the
            estimate. Where the log has `q_logged` and `q_policy`, those are used and no model is fitted.
        bandwidth: in the bids' unit; by default each estimator's own by SLOPE (`ctrkit.ope.bandwidth`, whose
            caveat holds), from `GRID`.
        kernel, bid_range: see `KernelEstimator`, whose `action_range` is the latter.
        reward_range: see `KernelEstimator`; by default 0 and 1 where all rewards are one of them.
        folds, seed: of the reward model's cross-fitting.

    Raises:
        ConfigError: for settings out of bounds.
        DataError: for columns that are missing or hold no numbers, bids outside `bid_range`, rewards outside
            `reward_range`, and logged bids that are all alike.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"a confidence of {confidence} is not between 0 and 1", mend="Give 0.95, say")
    if reward_range is None and np.isin(log.reward, (0.0, 1.0)).all():
        reward_range = (0.0, 1.0)
    for name, values, allowed in (("bid", log.bid, bid_range), ("reward", log.reward, reward_range)):
        _check_range(log, name, values, allowed)
    policy = log.numbers(column)
    q_logged, q_policy = _predictions(log, policy, context_columns, folds, seed)
    counts = decisions(log.table) if "p_drop" in log.table.columns else None
    rows = ContinuousRows(log.bid, log.density, policy, log.reward, q_logged, q_policy, log.users, counts)
    spread = float(log.bid.std())
    if bandwidth is None and not spread > 0:
        raise DataError(DETERMINISTIC, file=log.file, column="bid", mend=MODEL_OF_MARKET)

    estimates, used = [], {}
    for kind in KINDS:
        if bandwidth is not None:
            chosen = kind(kernel, bandwidth, bid_range, reward_range)
            chosen.update(rows)
            estimate = chosen.result(confidence)
        else:
            rule = BandwidthBySlope(kind, kernel, [step * spread for step in GRID], bid_range, reward_range)
            rule.update(rows)
            estimate, chosen = replace(rule.result(confidence), estimator=kind.name), rule.selected
        estimates.append(estimate)
        used[kind.name] = chosen
    logging = OnPolicy(reward_range)
    logging.update(LoggedRows(np.ones(len(log)), log.reward, 1.0, users=log.users, counts=counts))
    bandwidths = {name: each.bandwidth for name, each in used.items()}
    told = ", ".join(f"{name} {width:.4g}" for name, width in bandwidths.items())
    how = "by SLOPE" if bandwidth is None else "as given"
    return BidEvaluation(
        logging.result(confidence),
        tuple(estimates),
        bandwidths,
        {name: _effective(each) for name, each in used.items()},
        confidence,
        (*log.notes, *NOTES, *(() if bid_range else (NO_ENDS,)), f"Bandwidths, {how}: {told}."),
    )


def _effective(estimator: KernelEstimator) -> float:
    """(Σ w)² / Σ w² from the estimator's sums."""
    _, total, square = *estimator.estimator.moments.rows[0, :2], estimator.estimator.moments.rows[1, 1]
    return float(total**2 / square) if square > 0 else 0.0


def _check_range(log: BidLog, name: str, values: Floats, allowed: tuple[float, float] | None) -> None:
    if allowed is None:
        return
    low, high = allowed
    if not low < high:
        raise ConfigError(
            f"a range of {name}s from {low:g} to {high:g} is empty", mend="Give the lesser first"
        )
    if (wrong := np.flatnonzero((values < low) | (values > high))).size:
        row = int(wrong[0])
        problem = f"{values[row]:g} is outside the range from {low:g} to {high:g}"
        raise log.refused(name, row, problem, "Widen the range or mend the value")


def _predictions(
    log: BidLog, policy: Floats, columns: Sequence[str], folds: int, seed: int
) -> tuple[Floats, Floats]:
    """Predicted rewards of the logged and of the new bids: the log's own, or of trees, cross-fitted by user.

    Chernozhukov et al., Double/Debiased Machine Learning, 2018: no row is predicted by trees that have seen
    its user.
    """
    if {"q_logged", "q_policy"} <= set(log.table.columns):
        return log.table["q_logged"].to_numpy(), log.table["q_policy"].to_numpy()
    context = [_encoded(log, name) for name in columns]
    unit = log.users if log.users is not None else np.arange(len(log))
    units = int(unit.max()) + 1
    if min(units, folds) < 2:
        raise DataError(
            "a reward model is fitted on some users and used on others, and the log has one",
            file=log.file,
            mend="Give a longer log, or columns q_logged and q_policy",
        )
    fold = (np.random.default_rng(seed).permutation(units) % min(units, folds))[unit]
    logged, new = (np.column_stack([bids, *context]) for bids in (log.bid, policy))
    q_logged, q_policy = np.empty(len(log)), np.empty(len(log))
    for number in range(int(fold.max()) + 1):
        mine = fold == number
        if int((~mine).sum()) < LEAST_ROWS:
            q_logged[mine] = q_policy[mine] = log.reward[~mine].mean()
            continue
        model: Any = HistGradientBoostingRegressor(
            max_iter=100,
            max_leaf_nodes=8,
            min_samples_leaf=max(min(100, int((~mine).sum()) // 20), 1),
            l2_regularization=10.0,
            early_stopping=True,
            random_state=seed,
        ).fit(logged[~mine], log.reward[~mine])
        q_logged[mine], q_policy[mine] = model.predict(logged[mine]), model.predict(new[mine])
    return q_logged, q_policy


def _encoded(log: BidLog, name: str) -> Floats:
    """A context column as numbers: texts by their order."""
    if name not in log.table.columns:
        raise DataError(
            "no such context column", file=log.file, column=name, mend=nearest(name, log.table.columns)
        )
    values = log.table[name]
    if values.dtype in (pl.String, pl.Categorical, pl.Enum):
        values = values.cast(pl.String).rank("dense")
    if not (values.dtype.is_numeric() or values.dtype == pl.Boolean):
        raise DataError(
            f"a reward model reads numbers and texts, not {values.dtype}",
            file=log.file,
            column=name,
            mend="Leave the column out or cast it",
        )
    return values.cast(pl.Float64).to_numpy()
