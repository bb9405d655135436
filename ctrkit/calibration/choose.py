"""The choice of a calibrator: the simplest one within one standard error of the best."""

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
    Identity,
    SegmentIds,
    segment_numbers,
)
from ctrkit.errors import ConfigError, nearest
from ctrkit.metrics.checks import held_rows, independent_units, score_rows
from ctrkit.metrics.probability import entropy, log_losses

# Rows of the rarer label needed per free parameter (Peduzzi et al. 1996), as in `minimum_positives`.
ROWS_A_NUMBER = 10
# Bids are proportional to PCOC, and within this range they are at most a tenth too low or too high.
PCOC_RANGE = (0.9, 1.1)


@dataclass(frozen=True)
class MethodScore:
    """One calibrator in the comparison.

    Attributes:
        method: the calibrator's name.
        log_loss: cross-validated mean log loss, in nats.
        penalty: penalty for flexibility with few positives, in nats (see `choose`).
        difference: log_loss + penalty, minus that of the best method.
        standard_error: standard error of the difference in log loss, clustered by group; 0 for the best.
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
        calibrator: the fitted calibrator.
        method: the calibrator's name.
        reason: why it was chosen, in a few sentences.
        scores: the methods compared, simplest first; empty if there was no comparison.
        left_out: method that was left out -> why: it would need more rows, or it makes PCOC wrong.
        rows: the number of rows that the calibrator was fitted on, of weight above 0.
        positives: the number of positive rows among them.
        folds: the number of folds of the cross-validation; 0 if there was none.
        compared_rows: the number of rows in the comparison; 0 if there was none.
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
    """Rows: labels, logits, weights above 0, segments, and groups numbered from 0 to `number` - 1."""

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
        """The share of positive rows, by weight."""
        return float(self.w @ self.y / self.w.sum())

    def rarer(self) -> tuple[float, str]:
        """The effective number of rows of the rarer label, and its name."""
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
    """Compare calibrators by cross-validated log loss and fit the chosen one on all rows.

    The simplest method (the first in the registry) is chosen among those within one standard error of the
    best (Hastie, Tibshirani & Friedman 2009, section 7.10; here the error of the paired difference). Methods
    with `minimum_positives` above the number of rows of the rarer label are left out. With fewer than 20 such
    rows only identity is left, with a `CalibrationWarning`. Rows are counted by their effective number (Kish
    1965; see `ctrkit.metrics.checks.independent_units`), so weights do not turn few rows into many.

    A method that does not set the mean probability (`Calibrator.sets_mean`) is left out if its
    cross-validated PCOC is wrong (`spoils_pcoc`) and a method that sets the mean is compared. Log loss alone
    may prefer the simpler method where positives are few, but bids are proportional to PCOC.

    Before the comparison a penalty for flexibility is added to each method's loss: H · k / (2 n). n is the
    number of compared rows of the rarer label, H is the entropy of the base rate, and k = minimum_positives /
    10 is the method's number of free parameters. The penalty is 5 % of H if a method has just its minimum of
    rows, and falls as 1/n. It is a convention: k parameters fitted to N rows are expected to lose k / (2 N)
    nats per row on new rows (Wilks 1938). Cross-validation counts this loss already, but all folds share the
    same few positives: if these mislead, they mislead in all folds. So the penalty counts the loss once more,
    ln(1 / rate) + 1 times as high if the rarer label has a small rate.

    Args:
        logits: logits of rows that the model was not trained on, [N].
        labels: 0 or 1, [N].
        methods: names of the methods to compare; by default all `automatic` ones, and those that use segments
            only if segments are given. A single method is fitted without comparison.
        folds: number of folds of the cross-validation.
        seed: seed of the folds and of the sample.
        groups: the group of each row, [N]; rows of one group (a user's) stay in one fold.
        segments: the segment of each row, whole numbers, [N]; needed by methods that use segments.
        sample: largest number of rows in the comparison; with more rows, whole groups are drawn at random.
            The chosen method is fitted on all rows.
        weight: the weight of each row, [N]. A row of weight 2 counts as two copies of it, which are one
            independent row; rows of weight 0 are left out.

    Raises:
        DataError: bad values.
        ConfigError: an unknown method, one that learns nothing from labels, a method that uses segments if
            none are given, fewer than 2 folds, or a sample below 1,000 rows.
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
        # Identity has nothing to fit, so it also accepts rows of a single class.
        calibrator = rows.fitted(name) if CALIBRATORS[name].learns else CALIBRATORS[name]()
        tried = (folds, len(compared.y)) if scores else (0, 0)
        return CalibratorChoice(calibrator, name, reason, scores, left_out, len(y), int(y.sum()), *tried)

    if len(names) == 1:
        if left_out:
            warnings.warn(f"{names[0]} {left_out[names[0]]}", CalibrationWarning, stacklevel=2)
        with warnings.catch_warnings():
            if left_out and rarer < FEWEST:  # the warning above already says so
                warnings.filterwarnings("ignore", ".* was fitted with only", CalibrationWarning)
            return chosen(names[0], f"{names[0].capitalize()} was requested.")
    names = [name for name in names if name not in left_out]
    fold = _folds(compared, folds, random)
    divided = _fittable(compared.y, fold, folds)
    if names in ([], ["identity"]) or not divided:
        enough = np.count_nonzero(compared.y == (label == "positive")) >= FEWEST
        together = not divided and enough
        why = f"all {label} rows in the groups of one fold" if together else f"only {few} {label} rows"
        reason = f"With {why} no calibrator can be judged: the model's own probabilities stay."
        warnings.warn(reason, CalibrationWarning, stacklevel=2)
        return chosen("identity", reason)
    predicted = {name: _held_out(name, compared, fold, folds) for name in names}
    spoilt = _spoilt(predicted, compared)
    left_out |= spoilt
    losses = {name: log_losses(compared.y, p) for name, p in predicted.items() if name not in spoilt}
    scores, best = _compare(losses, compared, rarer)
    simplest = next(score for score in scores if score.difference <= score.standard_error)
    reason = _reason(simplest, best, scores) + _penalised(best, scores, few, label)
    if len(compared.y) < len(y):
        reason += f" It was compared on {len(compared.y):,} random rows and fitted on all {len(y):,} rows."
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
                hint=f"Make a {kind.__name__} with known settings",
            )
        if kind.uses_segments and not with_segments:
            raise ConfigError(f"'{name}' needs segments, and none are given", hint="Give `segments`")
    if methods:
        return [name for name in CALIBRATORS if name in methods]
    competing = (name for name, kind in CALIBRATORS.items() if kind.automatic)
    return [name for name in competing if with_segments or not CALIBRATORS[name].uses_segments]


def _counted(rows: _Rows, independent: float, label: str) -> str:
    """The number of rows of a label, and their effective number if it is lower."""
    held = int(np.count_nonzero(rows.y == (label == "positive")))
    return f"{held:,}" if independent > held - 0.5 else f"{held:,} that count as {independent:,.0f}"


def _sample(rows: _Rows, size: int, random: np.random.Generator) -> _Rows:
    """Whole groups at random with at most `size` rows together; all rows if there are no more."""
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
    """The fold of each row: groups go to folds in turn, by falling number of positives, ties at random."""
    positives = np.bincount(rows.codes, rows.w * rows.y, minlength=rows.number)
    dealt = np.lexsort((random.random(rows.number), -positives))
    fold_of_group = np.empty(rows.number, np.intp)
    fold_of_group[dealt] = np.arange(rows.number) % folds
    return fold_of_group[rows.codes]


def _fittable(y: Floats, fold: Indices, folds: int) -> bool:
    """Whether the rows outside each fold hold both classes."""
    outside = (y[fold != k] for k in range(folds) if (fold == k).any())
    return all(part.size and part.min() < part.max() for part in outside)


def spoils_pcoc(before: float, after: float) -> bool:
    """Whether a calibrator leaves PCOC outside 0.9 to 1.1, or moves it away from 1 by more than 5 %.

    Args:
        before: PCOC of the model's own probabilities.
        after: PCOC of the calibrated probabilities.
    """
    low, high = PCOC_RANGE
    return not low <= after <= high or abs(np.log(after)) > abs(np.log(before)) + np.log(1.05)


def _spoilt(predicted: dict[str, Floats], rows: _Rows) -> dict[str, str]:
    """The methods that make PCOC wrong as they do not set the mean probability -> why they are left out.

    The model's own probabilities stay in the comparison, and so does every method if none sets the mean.
    """
    if not any(CALIBRATORS[name].sets_mean for name in predicted):
        return {}
    positives = float(rows.w @ rows.y)
    own = float(rows.w @ Identity()(rows.z)) / positives
    found = {name: float(rows.w @ p) / positives for name, p in predicted.items()}
    return {
        name: f"cannot set the mean probability: its cross-validated PCOC is {pcoc:.3g}"
        for name, pcoc in found.items()
        if not CALIBRATORS[name].sets_mean and CALIBRATORS[name].learns and spoils_pcoc(own, pcoc)
    }


def _held_out(name: str, rows: _Rows, fold: Indices, folds: int) -> Floats:
    """The probability of each row by a calibrator fitted on the other folds, [N]."""
    probabilities = np.empty(len(rows.y))
    with warnings.catch_warnings():
        # The fit on all rows gives each warning once.
        warnings.simplefilter("ignore", CalibrationWarning)
        for k in range(folds):
            inside = np.flatnonzero(fold == k)
            if inside.size:
                calibrator = rows.take(np.flatnonzero(fold != k)).fitted(name)
                held_out = rows.take(inside)
                probabilities[inside] = calibrator(held_out.z, held_out.segments)
    return probabilities


def _compare(
    losses: dict[str, Floats], rows: _Rows, rarer: float
) -> tuple[tuple[MethodScore, ...], MethodScore]:
    """The scores of all methods, and the score with the smallest loss after penalties."""
    mass = float(rows.w.sum())
    means = {name: float(rows.w @ loss) / mass for name, loss in losses.items()}
    # The penalty per row of `minimum_positives` (see `choose`).
    share = entropy(rows.rate) / (2 * rarer * ROWS_A_NUMBER)
    penalties = {name: share * CALIBRATORS[name].minimum_positives for name in losses}
    totals = {name: means[name] + penalties[name] for name in losses}
    best = min(totals, key=lambda name: totals[name])
    present = np.bincount(rows.codes, minlength=rows.number) > 0
    groups = int(present.sum())
    scores = []
    for name, loss in losses.items():
        difference = loss - losses[best]
        residual = rows.w * (difference - float(rows.w @ difference) / mass)
        by_group = np.bincount(rows.codes, residual, minlength=rows.number)
        error = float(np.sqrt(by_group @ by_group * groups / (groups - 1))) / mass
        scores.append(MethodScore(name, means[name], penalties[name], totals[name] - totals[best], error))
    return tuple(scores), next(score for score in scores if score.method == best)


def _reason(chosen: MethodScore, best: MethodScore, scores: tuple[MethodScore, ...]) -> str:
    """Why this method was chosen, in words."""
    own = next((score for score in scores if score.method == "identity"), None)
    if chosen.method == "identity" and chosen == best:
        if min(score.log_loss for score in scores) < chosen.log_loss:
            return "Calibration does not help measurably: no calibrator gains more than its penalty."
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
    """A sentence on the method that would be best without its penalty, if it is not the best."""
    ahead = min(scores, key=lambda score: score.log_loss)
    if ahead == best:
        return ""
    return (
        f" {ahead.method.capitalize()} has the smallest loss, {ahead.log_loss:.5g}, but its penalty for "
        f"flexibility is {ahead.penalty:.2g}, with only {few} {label} rows "
        f"({best.method}: {best.penalty:.2g})."
    )
