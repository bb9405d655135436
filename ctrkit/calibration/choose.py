"""Which calibrator to use: the simplest that cross-validated log loss cannot tell from the best."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats, Indices
from ctrkit.calibration.base import (
    CALIBRATORS,
    FEWEST,
    CalibrationWarning,
    Calibrator,
    SegmentIds,
    segment_numbers,
)
from ctrkit.errors import ConfigError, nearest
from ctrkit.metrics.checks import held_rows, independent_units, score_rows
from ctrkit.metrics.probability import entropy, log_losses

# Rows of the rarer label that a free number takes (Peduzzi et al. 1996); `minimum_positives` counts by it.
ROWS_A_NUMBER = 10


@dataclass(frozen=True)
class MethodScore:
    """One method's row in the table of the choice.

    Attributes:
        method: the calibrator's name.
        log_loss: cross-validated mean, in nats.
        penalty: added for too few positives, in nats; see `choose`.
        difference: log_loss + penalty, less that of the best method.
        standard_error: of the difference in log loss; rows of one group are summed first. 0 for the best.
    """

    method: str
    log_loss: float
    penalty: float
    difference: float
    standard_error: float


@dataclass(frozen=True)
class CalibratorChoice:
    """The calibrator chosen, fitted on all rows, and why.

    Attributes:
        calibrator: fitted.
        method: its name.
        reason: a few sentences.
        scores: of the methods compared, simplest first; empty where there was nothing to compare.
        left_out: method -> which rows it lacks to be compared.
        rows, positives: what it was fitted on, those of weight above 0.
        folds: of the cross-validation, 0 for none.
        compared_rows: how many rows, drawn at random, the methods were compared on; 0 for none.
    """

    calibrator: Calibrator
    method: str
    reason: str
    scores: tuple[MethodScore, ...]
    left_out: dict[str, str]
    rows: int
    positives: int
    folds: int
    compared_rows: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; without the calibrator, whose `state()` goes into the artifact."""
        return {
            "method": self.method,
            "reason": self.reason,
            "scores": [asdict(score) for score in self.scores],
            "left_out": dict(self.left_out),
            "rows": self.rows,
            "positives": self.positives,
            "folds": self.folds,
            "compared_rows": self.compared_rows,
        }


@dataclass(frozen=True)
class _Rows:
    """What is compared on: labels, logits, weights above 0, segments, and groups numbered from 0 to
    `number` - 1."""

    y: Floats
    z: Floats
    w: Floats
    segments: SegmentIds
    codes: Indices
    number: int

    def take(self, rows: Indices) -> _Rows:
        """Some of the rows."""
        segments = None if self.segments is None else self.segments[rows]
        return _Rows(self.y[rows], self.z[rows], self.w[rows], segments, self.codes[rows], self.number)

    def fitted(self, name: str) -> Calibrator:
        return CALIBRATORS[name]().fit(self.z, self.y, self.w, self.segments)

    @property
    def rate(self) -> float:
        """The weight of positives in that of all."""
        return float(self.w @ self.y / self.w.sum())

    def rarer(self) -> tuple[float, str]:
        """As how many rows of equal weight those of the rarer label count, and its name."""
        classes = ((self.w[self.y == 1], "positive"), (self.w[self.y == 0], "negative"))
        return min((independent_units(w, np.arange(len(w))), name) for w, name in classes)


def choose(
    logits: ArrayLike,
    labels: ArrayLike,
    methods: Sequence[str] | None = None,
    folds: int = 5,
    seed: int = 0,
    groups: ArrayLike | None = None,
    segments: ArrayLike | None = None,
    sample: int = 1_000_000,
    weight: ArrayLike | None = None,
) -> CalibratorChoice:
    """Compare calibrators by cross-validated log loss and fit the one chosen on all rows.

    Of the methods whose loss is within one standard error of the best one's (Hastie, Tibshirani &
    Friedman 2009, section 7.10; here the error of the paired difference) the simplest is taken, in the order
    of the registry. Methods that need more rows of the rarer label than there are (`minimum_positives`) are
    left out; below 20 only identity stays, with a `CalibrationWarning`. Weights do not make more rows
    of few: rows are counted as the effective number of those of equal weight (Kish 1965; see
    `ctrkit.metrics.checks.independent_units`).

    Flexible methods pay for too few positives before they are compared: a penalty of H · k / (2 n), with n
    the compared rows of the rarer label, H the entropy of the base rate, and k = minimum_positives / 10 a
    method's free numbers. That is 5 % of H where a method has just its minimum, and falls as 1/n. It is a
    convention, and stated as one: k numbers fitted to N rows are expected to lose k / (2 N) nats a row
    on new ones (Wilks 1938), which cross-validation counts already; but its folds share the same few
    positives, so where they mislead, they mislead in all folds. The penalty counts that loss once more,
    ln(1 / rate) + 1 times as high where the rarer label has a small rate.

    Args:
        logits: of rows that the model was not trained on, [N].
        labels: 0 or 1, [N].
        methods: names to compare; by default all that are meant to compete, those that use segments only
            where these are given. A single name is fitted without comparison.
        groups: rows of one group (a user's) stay in one fold.
        segments: whole numbers, [N]; lets methods that use them compete.
        sample: from more rows than this, so many are drawn for the comparison (whole groups at random).
            The fit of the method chosen takes all.
        weight: a row of weight 2 counts as two copies of itself, which are one independent row, [N]. Rows of
            weight 0 are not there.

    Raises:
        DataError: bad values. ConfigError: an unknown method, one that cannot be chosen, a method that uses
            segments where none are given, fewer than 2 folds, or a sample below 1,000 rows.
    """
    given = score_rows(labels, logits, weight, name="logits")
    numbers = None if segments is None else segment_numbers(segments, given.values.shape)
    y, z, w, codes, number, kept = held_rows(given, groups)
    numbers = None if numbers is None else numbers[kept]
    names = _known(methods, numbers is not None)
    if folds < 2:
        raise ConfigError(f"folds must be at least 2, and {folds} was given")
    if sample < 1000:
        raise ConfigError(f"the sample must be at least 1000 rows, and {sample} was given")
    rows = _Rows(y, z, w, numbers, codes, number)
    random = np.random.default_rng(seed)
    compared = _sample(rows, sample, random)
    rarer, label = compared.rarer()
    few = _counted(compared, rarer, label)
    left_out = {
        name: f"needs {CALIBRATORS[name].minimum_positives} {label} rows, and there are {few}"
        for name in names
        if rarer < CALIBRATORS[name].minimum_positives
    }

    def chosen(name: str, reason: str, scores: tuple[MethodScore, ...] = ()) -> CalibratorChoice:
        # Identity has nothing to fit, so it takes rows of a single class as well.
        calibrator = rows.fitted(name) if CALIBRATORS[name].learns else CALIBRATORS[name]()
        tried = (folds, len(compared.y)) if scores else (0, 0)
        return CalibratorChoice(calibrator, name, reason, scores, left_out, len(y), int(y.sum()), *tried)

    if len(names) == 1:
        if left_out:
            warnings.warn(f"{names[0]} {left_out[names[0]]}", CalibrationWarning, stacklevel=2)
        with warnings.catch_warnings():
            if left_out and rarer < FEWEST:  # the same doubt need not be told twice
                warnings.filterwarnings("ignore", ".* was fitted with only", CalibrationWarning)
            return chosen(names[0], f"{names[0].capitalize()} was asked for.")
    names = [name for name in names if name not in left_out]
    fold = _folds(compared, folds, random)
    divided = _fittable(compared.y, fold, folds)
    if names in ([], ["identity"]) or not divided:
        enough = np.count_nonzero(compared.y == (label == "positive")) >= FEWEST
        together = not divided and enough
        why = f"all {label} rows in one fold's groups" if together else f"only {few} {label} rows"
        reason = f"With {why} no calibrator can be judged: the model's own probabilities stay."
        warnings.warn(reason, CalibrationWarning, stacklevel=2)
        return chosen("identity", reason)
    losses = {name: _held_out_losses(name, compared, fold, folds) for name in names}
    scores, best = _compare(losses, compared, rarer)
    simplest = next(score for score in scores if score.difference <= score.standard_error)
    reason = _reason(simplest, best, scores) + _penalised(best, scores, few, label)
    if len(compared.y) < len(y):
        reason += f" Compared on {len(compared.y):,} rows drawn at random, fitted on all {len(y):,}."
    return chosen(simplest.method, reason, scores)


def _known(methods: Sequence[str] | None, with_segments: bool) -> list[str]:
    """The methods asked for, simplest first."""
    for name in methods or ():
        if name not in CALIBRATORS:
            raise ConfigError(f"unknown calibrator '{name}'", hint=nearest(name, CALIBRATORS))
        kind = CALIBRATORS[name]
        if not (kind.learns or name == "identity"):
            raise ConfigError(
                f"'{name}' learns nothing from labels, so it cannot be chosen by them",
                hint=f"Make a {kind.__name__} with the settings that you know",
            )
        if kind.uses_segments and not with_segments:
            raise ConfigError(f"'{name}' needs segments, and none are given", hint="Give `segments`")
    if methods:
        return [name for name in CALIBRATORS if name in methods]
    competing = (name for name, kind in CALIBRATORS.items() if kind.automatic)
    return [name for name in competing if with_segments or not CALIBRATORS[name].uses_segments]


def _counted(rows: _Rows, independent: float, label: str) -> str:
    """How many rows a label has, and as how many of equal weight they count, where those are fewer."""
    held = int(np.count_nonzero(rows.y == (label == "positive")))
    return f"{held:,}" if independent > held - 0.5 else f"{held:,} that count as {independent:,.0f}"


def _sample(rows: _Rows, size: int, random: np.random.Generator) -> _Rows:
    """Whole groups at random, as many as have `size` rows together; all rows where they are no more."""
    if len(rows.y) <= size:
        return rows
    if rows.number == len(rows.y):  # groups of one row
        return rows.take(np.sort(random.choice(len(rows.y), size, replace=False, shuffle=False)))
    order = random.permutation(rows.number)
    taken = np.cumsum(np.bincount(rows.codes, minlength=rows.number)[order]) <= size
    taken[0] = True
    inside = np.zeros(rows.number, dtype=bool)
    inside[order[taken]] = True
    return rows.take(np.flatnonzero(inside[rows.codes]))


def _folds(rows: _Rows, folds: int, random: np.random.Generator) -> Indices:
    """The fold of each row: groups dealt out in turn, those with most positives first, else at random."""
    positives = np.bincount(rows.codes, rows.w * rows.y, minlength=rows.number)
    dealt = np.lexsort((random.random(rows.number), -positives))
    fold_of_group = np.empty(rows.number, np.intp)
    fold_of_group[dealt] = np.arange(rows.number) % folds
    return fold_of_group[rows.codes]


def _fittable(y: Floats, fold: Indices, folds: int) -> bool:
    """Whether the rows outside each fold hold both classes."""
    outside = (y[fold != k] for k in range(folds) if (fold == k).any())
    return all(part.size and part.min() < part.max() for part in outside)


def _held_out_losses(name: str, rows: _Rows, fold: Indices, folds: int) -> Floats:
    """The log loss of each row under a calibrator fitted on the other folds, [N]."""
    losses = np.empty(len(rows.y))
    with warnings.catch_warnings():
        # What is wrong with the rows is said once, by the fit on all of them.
        warnings.simplefilter("ignore", CalibrationWarning)
        for k in range(folds):
            inside = np.flatnonzero(fold == k)
            if inside.size:
                calibrator = rows.take(np.flatnonzero(fold != k)).fitted(name)
                held_out = rows.take(inside)
                losses[inside] = log_losses(held_out.y, calibrator(held_out.z, held_out.segments))
    return losses


def _compare(
    losses: dict[str, Floats], rows: _Rows, rarer: float
) -> tuple[tuple[MethodScore, ...], MethodScore]:
    """The table of scores and the row of it with the smallest loss after penalties."""
    mass = float(rows.w.sum())
    means = {name: float(rows.w @ loss) / mass for name, loss in losses.items()}
    # Of a positive's share in all that there is to learn, k / (2 n): see `choose`.
    share = entropy(rows.rate) / (2 * rarer * ROWS_A_NUMBER)
    penalties = {name: share * CALIBRATORS[name].minimum_positives for name in losses}
    totals = {name: means[name] + penalties[name] for name in losses}
    best = min(totals, key=lambda name: totals[name])
    present = np.bincount(rows.codes, minlength=rows.number) > 0
    groups = int(present.sum())
    scores = []
    for name, loss in losses.items():
        difference = loss - losses[best]
        apart = rows.w * (difference - float(rows.w @ difference) / mass)
        by_group = np.bincount(rows.codes, apart, minlength=rows.number)
        error = float(np.sqrt(by_group @ by_group * groups / (groups - 1))) / mass
        scores.append(MethodScore(name, means[name], penalties[name], totals[name] - totals[best], error))
    return tuple(scores), next(score for score in scores if score.method == best)


def _reason(chosen: MethodScore, best: MethodScore, scores: tuple[MethodScore, ...]) -> str:
    """Why the chosen method, in words."""
    own = next((score for score in scores if score.method == "identity"), None)
    if chosen.method == "identity" and chosen == best:
        if min(score.log_loss for score in scores) < chosen.log_loss:
            return (
                "Calibration does not help measurably: no calibrator gains more than its flexibility costs."
            )
        return "Calibration does not help: no calibrator has a smaller cross-validated log loss."
    if chosen.method == "identity":
        return (
            f"Calibration does not help measurably: {best.method} would lower the cross-validated log loss "
            f"by {chosen.difference:.2g}, within one standard error ({chosen.standard_error:.2g})."
        )
    name = chosen.method.capitalize()
    gain = "" if own is None else f", {own.log_loss - chosen.log_loss:.2g} below the uncalibrated model's"
    if chosen == best:
        return f"{name} has the smallest cross-validated log loss, {chosen.log_loss:.5g}{gain}."
    return (
        f"{name} (cross-validated log loss {chosen.log_loss:.5g}{gain}) is simpler than {best.method}, which "
        f"is better by only {chosen.difference:.2g}, within one standard error ({chosen.standard_error:.2g})."
    )


def _penalised(best: MethodScore, scores: tuple[MethodScore, ...], few: str, label: str) -> str:
    """Of a method that would have been best without its penalty: that it was not, and why."""
    ahead = min(scores, key=lambda score: score.log_loss)
    if ahead == best:
        return ""
    return (
        f" {ahead.method.capitalize()} has the smallest loss, {ahead.log_loss:.5g}, but is charged "
        f"{ahead.penalty:.2g} for its flexibility, as there are only {few} {label} rows "
        f"({best.method}: {best.penalty:.2g})."
    )
