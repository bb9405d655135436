"""Which calibrator to use: the simplest that cross-validated log loss cannot tell from the best."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.calibration.base import CALIBRATORS, CalibrationWarning, Calibrator
from ctrkit.errors import ConfigError, nearest
from ctrkit.metrics.checks import Floats, Indices, group_codes, score_rows
from ctrkit.metrics.probability import log_losses


@dataclass(frozen=True)
class MethodScore:
    """One method's row in the table of the choice.

    Attributes:
        method: the calibrator's name.
        log_loss: cross-validated mean, in nats.
        difference: log_loss less that of the best method.
        standard_error: of the difference; rows of one group are summed first. 0 for the best itself.
    """

    method: str
    log_loss: float
    difference: float
    standard_error: float


@dataclass(frozen=True)
class Choice:
    """The calibrator chosen, fitted on all rows, and why.

    Attributes:
        calibrator: fitted. method: its name. reason: one or two sentences.
        scores: of the methods compared, simplest first; empty where there was nothing to compare.
        left_out: method -> which rows it lacks to be compared.
        rows, positives: what it was fitted on. folds: of the cross-validation, 0 for none.
    """

    calibrator: Calibrator
    method: str
    reason: str
    scores: tuple[MethodScore, ...]
    left_out: dict[str, str]
    rows: int
    positives: int
    folds: int

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
        }


def choose(
    logits: ArrayLike,
    labels: ArrayLike,
    methods: Sequence[str] | None = None,
    folds: int = 5,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> Choice:
    """Compare calibrators by cross-validated log loss and fit the one chosen on all rows.

    Of the methods whose loss is within one standard error of the best one's (Hastie, Tibshirani &
    Friedman 2009, section 7.10; here the error of the paired difference) the simplest is taken: identity,
    temperature, Platt, isotonic. Methods that need more rows of the rarer label than there are
    (`minimum_positives`) are left out; below 20 only identity stays, with a `CalibrationWarning`.

    Args:
        logits: of rows that the model was not trained on, [N]. labels: 0 or 1, [N].
        methods: names to compare, all by default; a single name is fitted without comparison.
        groups: rows of one group (a user's) stay in one fold.

    Raises:
        DataError: bad values. ConfigError: an unknown method, or fewer than 2 folds.
    """
    y, z, _ = score_rows(labels, logits, column="logits")
    codes, number = (np.arange(len(y)), len(y)) if groups is None else group_codes(groups, len(y))
    names = _known(methods)
    if folds < 2:
        raise ConfigError(f"folds must be at least 2, and {folds} was given")
    positives = int(y.sum())
    rarer, label = min((positives, "positive"), (len(y) - positives, "negative"))
    left_out = {
        name: f"needs {CALIBRATORS[name].minimum_positives} {label} rows, and there are {rarer}"
        for name in names
        if rarer < CALIBRATORS[name].minimum_positives
    }

    def chosen(name: str, reason: str, scores: tuple[MethodScore, ...] = ()) -> Choice:
        calibrator = CALIBRATORS[name]()
        if name != "identity":  # which has nothing to fit, so it takes rows of a single class as well
            calibrator.fit(z, y)
        used = folds if scores else 0
        return Choice(calibrator, name, reason, scores, left_out, len(y), positives, used)

    if len(names) == 1:
        if left_out:
            warnings.warn(f"{names[0]} {left_out[names[0]]}", CalibrationWarning, stacklevel=2)
        return chosen(names[0], f"{names[0].capitalize()} was asked for.")
    names = [name for name in names if name not in left_out]
    fold = _folds(y, codes, number, folds, np.random.default_rng(seed))
    too_few = names in ([], ["identity"])
    if too_few or not _fittable(y, fold, folds):
        why = f"only {rarer} {label} rows" if too_few else f"all {label} rows in one fold's groups"
        reason = f"With {why} no calibrator can be judged: the model's own probabilities stay."
        warnings.warn(reason, CalibrationWarning, stacklevel=2)
        return chosen("identity", reason)
    losses = {name: _held_out_losses(name, z, y, fold, folds) for name in names}
    scores, best = _compare(losses, codes, number)
    simplest = next(score for score in scores if score.difference <= score.standard_error)
    return chosen(simplest.method, _reason(simplest, best, scores), scores)


def _known(methods: Sequence[str] | None) -> list[str]:
    """The methods asked for, simplest first."""
    for name in methods or ():
        if name not in CALIBRATORS:
            raise ConfigError(f"unknown calibrator '{name}'", mend=nearest(name, CALIBRATORS))
    return [name for name in CALIBRATORS if not methods or name in methods]


def _folds(y: Floats, codes: Indices, number: int, folds: int, random: np.random.Generator) -> Indices:
    """The fold of each row: groups dealt out in turn, those with most positives first, else at random."""
    positives = np.bincount(codes, y, minlength=number)
    dealt = np.lexsort((random.random(number), -positives))
    fold_of_group = np.empty(number, np.intp)
    fold_of_group[dealt] = np.arange(number) % folds
    return fold_of_group[codes]


def _fittable(y: Floats, fold: Indices, folds: int) -> bool:
    """Whether the rows outside each fold hold both classes."""
    outside = (y[fold != k] for k in range(folds) if (fold == k).any())
    return all(part.size and part.min() < part.max() for part in outside)


def _held_out_losses(name: str, z: Floats, y: Floats, fold: Indices, folds: int) -> Floats:
    """The log loss of each row under a calibrator fitted on the other folds, [N]."""
    losses = np.empty(len(y))
    with warnings.catch_warnings():
        # What is wrong with the rows is said once, by the fit on all of them.
        warnings.simplefilter("ignore", CalibrationWarning)
        for k in range(folds):
            inside = fold == k
            if inside.any():
                calibrator = CALIBRATORS[name]().fit(z[~inside], y[~inside])
                losses[inside] = log_losses(y[inside], calibrator(z[inside]))
    return losses


def _compare(
    losses: dict[str, Floats], codes: Indices, number: int
) -> tuple[tuple[MethodScore, ...], MethodScore]:
    """The table of scores and the row of it with the smallest loss."""
    means = {name: float(loss.mean()) for name, loss in losses.items()}
    best = min(means, key=lambda name: means[name])
    scores = []
    for name, loss in losses.items():
        difference = loss - losses[best]
        by_group = np.bincount(codes, difference - difference.mean(), minlength=number)
        error = float(np.sqrt(by_group @ by_group * number / (number - 1))) / len(loss)
        scores.append(MethodScore(name, means[name], means[name] - means[best], error))
    return tuple(scores), next(score for score in scores if score.method == best)


def _reason(chosen: MethodScore, best: MethodScore, scores: tuple[MethodScore, ...]) -> str:
    """Why the chosen method, in words."""
    own = next((score for score in scores if score.method == "identity"), None)
    if chosen.method == "identity" and chosen == best:
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
