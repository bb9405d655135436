"""The checks of an audit and their sentences: one function for each check, which gives findings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from scipy.special import ndtr

from ctrkit.arrays import Booleans, Floats, Integers
from ctrkit.ope.audit.checks import ActionCalibration, Newest, TimeBins, deficit_p_value
from ctrkit.ope.logs.bandit_log import BanditLog, RowLocation
from ctrkit.ope.logs.faults import Fault

Severity = Literal["error", "warning", "fine"]

# A finding names at most this many rows.
NAMED = 10
FEW_POSITIVES = 10
# A significant difference below this share is too small to doubt a log.
SMALL = 0.1
# Differences over time, or at the end of the log, are reported at p-values below this.
UNLIKELY = 1e-3
# A row with more than this share of Σ 1/p, and ten times its even share, dominates estimates.
HEAVY = 0.01


@dataclass(frozen=True)
class AuditFinding:
    """What one check found.

    Attributes:
        check: name of the check.
        severity: `error`: estimates from this log are wrong or impossible; `warning`: they may be wrong;
            `fine`: no problem.
        sentence: the finding, for people.
        columns: columns of the log that it is about.
        rows: the first few rows that it is about; empty if it is not about rows.
        count: number of rows that it is about.
    """

    check: str
    severity: Severity
    sentence: str
    columns: tuple[str, ...] = ()
    rows: tuple[RowLocation, ...] = ()
    count: int = 0


def rewards(log: BanditLog) -> Iterator[AuditFinding]:
    positives, rows = int(np.count_nonzero(log.reward)), len(log)
    least, mean, largest = least_mean_largest(log.reward, log.counts)
    told = f"{rows:,} rows, {positives:,} with a reward other than 0; rewards from {least:g} to {largest:g}"
    columns = ("reward",)
    if least == largest:
        yield AuditFinding(
            "rewards", "error", f"All rewards are {least:g}: policies cannot be compared.", columns
        )
    elif positives < FEW_POSITIVES:
        yield AuditFinding("rewards", "warning", f"{told}: too few to compare policies.", columns)
    else:
        yield AuditFinding("rewards", "fine", f"{told}, {mean:.5g} on average.", columns)


def propensities(log: BanditLog) -> Iterator[AuditFinding]:
    columns = ("propensity",)
    least, _, largest = least_mean_largest(log.propensity, log.counts)
    choice = _candidates(log) > 1
    if not choice.any():
        yield AuditFinding(
            "propensities",
            "error",
            "Every row has a single candidate: the logging policy had no choice.",
            columns,
        )
        return
    certain = choice & (log.propensity == 1)
    if certain.sum() == choice.sum():
        yield AuditFinding(
            "propensities",
            "error",
            "All propensities are 1: the logging policy is deterministic, so only replay or a reward model "
            "can be used.",
            columns,
        )
        return
    told = f"Propensities lie between {least:.3g} and {largest:.3g}"
    if certain.any():
        share = log.counts[certain].sum() / log.counts[choice].sum()
        yield _of_rows(
            log,
            certain,
            "propensities",
            "warning",
            f"{told}; {share:.2%} of the rows with several candidates have a propensity of 1, so no other "
            "action was possible there.",
            columns,
        )
    else:
        yield AuditFinding("propensities", "fine", f"{told}.", columns)
    inverse = log.counts / log.propensity
    heavy = inverse / inverse.sum() > max(HEAVY, 10 / len(log))
    if heavy.any():
        yield _of_rows(
            log,
            heavy,
            "tiny propensities",
            "warning",
            f"{_count(heavy)} with a very small propensity (smallest {log.propensity[heavy].min():.3g}): "
            f"each has over {max(HEAVY, 10 / len(log)):.0%} of the sum of all inverse propensities.",
            columns,
        )


def distribution(log: BanditLog, faulty: bool) -> Iterator[AuditFinding]:
    columns = ("logging_probabilities",)
    if "logging_probabilities" not in log.table.columns:
        yield AuditFinding(
            "sum to one",
            "fine",
            "Only the propensity of the chosen action is logged, so the sum of probabilities cannot be "
            "checked.",
        )
    elif not faulty:
        off = (log.table["logging_probabilities"].list.sum() - 1).abs().max()
        yield AuditFinding(
            "sum to one",
            "fine",
            f"The logged probabilities of the candidates sum to 1 (to within {float(off or 0):.1g}).",  # type: ignore[arg-type]
            columns,
        )


def calibration(log: BanditLog, actions: Sequence[ActionCalibration], rate: float) -> Iterator[AuditFinding]:
    columns = ("action", "propensity")
    odd = [action for action in actions if action.adjusted_p_value <= rate]
    if not odd:
        yield AuditFinding(
            "calibration",
            "fine",
            f"All {len(actions):,} actions were chosen as often as their propensities say, up to chance.",
            columns,
        )
        return
    worst = min(odd, key=lambda action: action.p_value)
    far = [action for action in odd if abs(_of_one(action) - 1) > SMALL]
    # Without a candidates column, a deficit may only mean that the action was not available in every row.
    sure = [action for action in far if log.actions is None or _of_one(action) > 1]
    worst_of = "" if len(odd) == 1 else f". The worst is {worst.action!r}"
    named = f"{len(odd):,} of {len(actions):,} actions" if worst_of else f"Action {worst.action!r}"
    unless = "" if sure or not far else " Or it was not available in every row: log the candidates to check."
    yield AuditFinding(
        "calibration",
        "error" if sure else "warning",
        f"{named} {'were' if worst_of else 'was'} not chosen as often as the propensities say{worst_of}: "
        f"{_of_one(worst):.3g} times as often as expected (z = {worst.z:.1f}).{unless}",
        columns,
    )


def _of_one(action: ActionCalibration) -> float:
    """Choices divided by expected choices."""
    return action.chosen / action.expected if action.expected else action.ratio


def support(log: BanditLog, actions: Sequence[ActionCalibration]) -> Iterator[AuditFinding]:
    if log.actions is not None:
        yield AuditFinding(
            "support",
            "warning",
            f"The log has no candidates column: all {log.actions.len():,} actions of the log count as "
            "candidates of every row.",
            ("candidates",),
        )
        return
    never = [action for action in actions if not action.chosen]
    offered = log.table["candidates"]
    all_candidates = offered.explode().n_unique()
    ruled_out = all_candidates - len(actions)
    if not never and not ruled_out:
        yield AuditFinding(
            "support",
            "fine",
            f"Each of the {all_candidates:,} candidates was chosen at least once.",
            ("candidates", "action"),
        )
        return
    parts = []
    if ruled_out:
        parts.append(f"{ruled_out:,} have a logged probability of 0 in every row")
    if never:
        parts.append(f"{len(never):,} were never chosen (for example {never[0].action!r})")
    yield AuditFinding(
        "support",
        "warning",
        f"Of {all_candidates:,} candidates {' and '.join(parts)}: the log does not show what they would "
        "earn.",
        ("candidates", "action"),
    )


def replay(log: BanditLog) -> Iterator[AuditFinding]:
    """Two checks of the weights: of the logging policy on its own log, and of the uniform policy."""
    columns = ("propensity",)
    if "logging_probabilities" in log.table.columns:
        own = log.table["logging_probabilities"].list.get(pl.Series(log.action_index)).to_numpy()
        weights = own / log.propensity
        value, mean = (
            float(np.average(each, weights=log.counts)) for each in (weights * log.reward, log.reward)
        )
        near = abs(value - mean) <= 1e-3 * abs(mean) + 1e-12
        yield AuditFinding(
            "replay",
            "fine" if near else "error",
            f"The estimated value of the logging policy on its own log is {value:.6g}; the mean reward is "
            f"{mean:.6g}.",
            (*columns, "logging_probabilities"),
        )
    weights = 1 / (log.propensity * _possible(log))
    rows = float(log.counts.sum())
    mean = float(np.average(weights, weights=log.counts))
    error = math.sqrt(float(log.counts**2 @ (weights - mean) ** 2)) / rows
    z = (mean - 1) / error if error > 1e-12 * mean else 0.0 if abs(mean - 1) < 1e-9 else math.inf
    p_value = float(2 * ndtr(-abs(z)))
    if mean < 1:
        # As for a single action, too small a sum comes with too small a variance.
        counted = log.counts * weights
        squares, fourths = (float((counted**power).sum()) for power in (2, 4))
        bound = deficit_p_value(counted.sum(), squares, fourths, rows, float(counted.max()))
        p_value = max(p_value, float(bound))
    off = p_value < UNLIKELY and abs(mean - 1) > SMALL
    reason = ""
    if off and mean < 1:
        reason = " Propensities are too large, or some candidates could not be chosen."
    elif off:
        reason = " Propensities are too small."
    yield AuditFinding(
        "sum of weights",
        "error" if off and mean > 1 else "warning" if off else "fine",
        f"The mean weight of the uniform policy is {mean:.4g}; it should be 1 (z = {z:.1f}).{reason}",
        columns,
    )


def drift(log: BanditLog, time: TimeBins | None) -> Iterator[AuditFinding]:
    if time is None:
        reason = "there are no timestamps"
        if "timestamp" in log.table.columns:
            reason = "there are too few rows, rewards or different times"
        yield AuditFinding("drift", "fine", f"Drift over time was not tested: {reason}.")
        return
    for name, means, p_value, then in (
        ("reward", time.reward, time.reward_p_value, "the value of a policy depends on the time"),
        (
            "propensity",
            time.propensity,
            time.propensity_p_value,
            "the logging policy or its candidates changed; estimates stay right if each row has its own "
            "propensity",
        ),
    ):
        spread = f"between {means.min():.4g} and {means.max():.4g} in {len(means)} time bins of equal size"
        average = abs(float(means.mean()))
        moved = p_value < UNLIKELY and float(np.ptp(means)) > SMALL * average
        yield AuditFinding(
            f"drift of {name}",
            "warning" if moved else "fine",
            f"The mean {name} is {spread} (p = {p_value:.2g}){': ' + then if moved else ''}.",
            (name, "timestamp"),
        )


def duplicates(log: BanditLog) -> Iterator[AuditFinding]:
    if "event_id" in log.table.columns:
        # The slots of one page may share its id.
        key = [name for name in ("event_id", "position") if name in log.table.columns]
        twice = log.table.select(key).is_duplicated().to_numpy()
        if twice.any():
            yield _of_rows(
                log,
                twice,
                "duplicates",
                "error",
                f"{_count(twice)} with the same {' and '.join(key)} as another row: they would count twice.",
                tuple(key),
            )
        else:
            yield AuditFinding("duplicates", "fine", "No event is in the log twice.", tuple(key))
        return
    single = [name for name, dtype in log.table.schema.items() if not dtype.is_nested()]
    twice = log.table.select(single).is_duplicated().to_numpy()
    if not twice.any():
        yield AuditFinding("duplicates", "fine", "No two rows are equal.")
    elif "timestamp" in single:
        yield _of_rows(
            log,
            twice,
            "duplicates",
            "warning",
            f"{_count(twice)} equal to another row, including the timestamp: they may be duplicates.",
            ("timestamp",),
        )
    else:
        yield AuditFinding(
            "duplicates",
            "fine",
            "Some rows are equal; without event_id or timestamp it is unknown whether they are duplicates.",
        )


def delay(log: BanditLog, newest: Newest | None) -> Iterator[AuditFinding]:
    if newest is None:
        return
    fell = newest.p_value < UNLIKELY and newest.reward < (1 - SMALL) * newest.earlier
    told = (
        f"The mean reward of the newest tenth of the rows is {newest.reward:.4g}, of the earlier rows "
        f"{newest.earlier:.4g} (z = {newest.z:.1f})"
    )
    yield AuditFinding(
        "delayed rewards",
        "warning" if fell else "fine",
        f"{told}: some of their rewards may still be missing. If so, leave these rows out. A trend or the "
        "time of day has the same effect."
        if fell
        else f"{told}: no sign of delayed rewards.",
        ("reward", "timestamp"),
    )


def dropped(log: BanditLog) -> Iterator[AuditFinding]:
    if "p_drop" not in log.table.columns:
        return
    drop = log.table["p_drop"].to_numpy()
    if drop.max() == 0:
        return
    counts = log.counts
    effective = counts.sum() ** 2 / (counts @ counts)
    yield AuditFinding(
        "dropped rows",
        "fine",
        f"Each row counts as 1 / (1 - p_drop) decisions, with p_drop from {drop.min():.3g} to "
        f"{drop.max():.3g}: {len(log):,} rows stand for {counts.sum():,.0f} decisions. Means are about as "
        f"precise as those of {effective:,.0f} rows without any dropped.",
        ("p_drop",),
    )


def fault(fault: Fault) -> AuditFinding:
    return AuditFinding(
        "faulty rows",
        "error",
        f"{fault.problem[0].upper()}{fault.problem[1:]}: {_count(fault.rows)}, left out of the other checks.",
        fault.columns,
        tuple(RowLocation(fault.file, int(row)) for row in fault.rows[:NAMED]),
        int(fault.rows.size),
    )


def _count(rows: Booleans | Integers) -> str:
    """ "1 row" or "23 rows"."""
    number = int(rows.sum()) if rows.dtype == bool else rows.size
    return f"{number:,} row{'' if number == 1 else 's'}"


def _of_rows(
    log: BanditLog,
    mask: Booleans,
    check: str,
    severity: Severity,
    sentence: str,
    columns: tuple[str, ...],
) -> AuditFinding:
    rows = np.flatnonzero(mask)
    locations = tuple(log.locate(int(row)) for row in rows[:NAMED])
    return AuditFinding(check, severity, sentence, columns, locations, int(rows.size))


def _possible(log: BanditLog) -> Floats:
    """[N] number of candidates that could be chosen: those with a logged probability above 0."""
    if "logging_probabilities" not in log.table.columns:
        return _candidates(log)
    above = log.table.select((pl.col("logging_probabilities").list.eval(pl.element() > 0)).list.sum())
    return above.to_series().cast(pl.Float64).to_numpy()


def _candidates(log: BanditLog) -> Floats:
    """[N] number of candidates of each row."""
    if log.actions is not None:
        return np.full(len(log), float(log.actions.len()))
    return log.table["candidates"].list.len().cast(pl.Float64).to_numpy()


def least_mean_largest(values: Floats, counts: Floats) -> tuple[float, float, float]:
    return float(values.min()), float(np.average(values, weights=counts)), float(values.max())
