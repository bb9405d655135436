"""Online recalibration: new labelled rows update a fitted calibrator; a worse update is reported."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats
from ctrkit.calibration.base import (
    CalibrationWarning,
    Calibrator,
    CalibratorState,
    SegmentIds,
    nested_calibrator,
    nested_state,
    positive_scalar,
    sigmoid,
)
from ctrkit.calibration.logistic import LEAST_SLOPE, Design, newton, sums
from ctrkit.calibration.platt import PlattScaling
from ctrkit.errors import ConfigError
from ctrkit.metrics.checks import score_rows
from ctrkit.metrics.probability import log_losses

Outcome = Literal["kept", "reverted", "kept although worse"]

# An update learns in blocks, and scores each block before it learns from it. There are eight blocks of at
# least 100 rows; there are more if a block would weigh more than a quarter of the half-life, because the rows
# of a block are forgotten together.
BLOCKS = 8
BLOCK_ROWS = 100
# Evidence for and against the learnt line is forgotten this many times faster than rows are.
FASTER = 10


@dataclass(frozen=True)
class Update:
    """The result of one update.

    Attributes:
        rows: the number of new rows of weight above 0.
        positives: the number of positive rows among them.
        before: mean log loss of the new rows under the calibrator in use before the update, in nats.
        after: mean log loss of the same rows under the learnt calibrator; each block is scored before the
            calibrator learns from it.
        evidence: log loss of the learnt calibrator minus that of the one in use, in nats, summed since the
            two differ; below 0 the learnt one is better. Older rows are forgotten ten times as fast as in
            learning. It decides the outcome.
        monitored: mean log loss of all rows so far under the calibrator in use when they came; older rows are
            forgotten.
        outcome: "kept": the learnt calibrator is in use from now on. "reverted": the one in use stays, and
            the learnt one goes on learning. "kept although worse": it is in use because `on_worse` is "keep".
        slope: the slope of the line in use from now on.
        intercept: the intercept of the line in use from now on.
        reason: the reason for the outcome, in words.
    """

    rows: int
    positives: int
    before: float
    after: float
    evidence: float
    monitored: float
    outcome: Outcome
    slope: float
    intercept: float
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


class OnlineRecalibration(Calibrator):
    """A fitted calibrator with a line on its log-odds that new labelled rows update.

    p = σ(slope · logit(calibrator(z)) + intercept); at first p is that of the calibrator. The line is learnt
    as in dynamic logistic regression (McCormick, Raftery, Madigan & Burd 2012). Its posterior is a normal
    distribution, which each block of rows updates (Laplace approximation). The posterior's precision decays
    with the rows seen, so that old rows are forgotten; memory does not grow. At first the calibrator counts
    as learnt from as many rows as a half-life has.

    Two lines are kept: the line in use and the learnt line. Both score each block before the learnt line
    learns from it (prequentially, Dawid 1984), so neither has seen it. The learnt line comes into use only if
    its log loss has been lower since the two lines differ. Its loss long ago says little about it now, so in
    this evidence a row counts half after a tenth of the half-life.

    Rows are learnt in the given order: give them in the order of time.

    Args:
        calibrator: a calibrator, fitted or not; by default Platt scaling.
        half_life: number of later rows (by weight) after which a row counts half.
        on_worse: what to do with an update that is not better: "revert", or "keep" with a warning.

    Raises:
        ConfigError: a half-life not above 0, an unknown `on_worse`, or an online calibrator inside another.
    """

    name = "online"
    minimum_positives = 20
    automatic = False
    texts = frozenset({"name", "inner"})

    def __init__(
        self,
        calibrator: Calibrator | None = None,
        half_life: float = 100_000.0,
        on_worse: Literal["revert", "keep"] = "revert",
    ) -> None:
        if not 0 < half_life < np.inf:
            raise ConfigError(f"the half-life must be a number of rows above 0, and {half_life} was given")
        if on_worse not in ("revert", "keep"):
            raise ConfigError(f"on_worse must be 'revert' or 'keep', and '{on_worse}' was given")
        self.half_life, self.on_worse = float(half_life), on_worse
        self._hold(PlattScaling() if calibrator is None else calibrator)

    def _hold(self, calibrator: Calibrator) -> None:
        """Set the calibrator, and start with the line that does not change it."""
        if isinstance(calibrator, OnlineRecalibration):
            raise ConfigError("an online calibrator cannot hold another", hint="Update the one there is")
        self.calibrator, self._fitted = calibrator, calibrator._fitted
        self.uses_segments = calibrator.uses_segments
        self.line, self.learnt = np.array([1.0, 0.0]), np.array([1.0, 0.0])
        self.information, self.evidence, self.monitored = np.zeros((2, 2)), 0.0, np.zeros(2)

    def update(
        self,
        logits: ArrayLike,
        labels: ArrayLike,
        weight: ArrayLike | None = None,
        segments: ArrayLike | None = None,
    ) -> Update:
        """Score new rows, learn from them, and decide whether the learnt line comes into use.

        The new rows may have one class only.

        Args:
            logits: any finite numbers, [N].
            labels: 0 or 1, [N].
            weight: the weight of each row, [N]; a row of weight 2 counts as two.
            segments: the segment of each row, whole numbers, [N], for a calibrator that uses segments.

        Raises:
            RunError: the calibrator is not fitted.
            DataError: bad values, or segments are needed and not given.
        """
        self._need_fit()
        y, z, w = score_rows(labels, logits, weight, name="logits")
        x = _log_odds(self.calibrator(z, segments))
        x, y, w = x[w > 0], y[w > 0], w[w > 0]
        losses = log_losses(y, sigmoid(self.line[0] * x + self.line[1]))
        learning = np.empty_like(losses)
        blocks = min(BLOCKS, max(1, len(y) // BLOCK_ROWS))
        blocks = min(len(y), max(blocks, int(np.ceil(4 * w.sum() / self.half_life))))
        for rows in np.array_split(np.arange(len(y)), blocks):
            learning[rows] = log_losses(y[rows], sigmoid(self.learnt[0] * x[rows] + self.learnt[1]))
            self._learn(x[rows], y[rows], w[rows])
        seen = np.cumsum(w)
        # The weight left of each row by now, and the share left of all earlier rows.
        kept, left = w * np.exp2((seen - seen[-1]) / self.half_life), np.exp2(-seen[-1] / self.half_life)
        self.monitored = left * self.monitored + [float(kept @ losses), float(kept.sum())]
        counts = w * np.exp2((seen - seen[-1]) * FASTER / self.half_life)
        evidence = float(left**FASTER * self.evidence + counts @ (learning - losses))
        outcome, reason = self._decide(evidence)
        return Update(
            rows=len(y),
            positives=int(y.sum()),
            before=float(w @ losses / seen[-1]),
            after=float(w @ learning / seen[-1]),
            evidence=evidence,
            monitored=float(self.monitored[0] / self.monitored[1]),
            outcome=outcome,
            slope=float(self.line[0]),
            intercept=float(self.line[1]),
            reason=reason,
        )

    def _learn(self, x: Floats, y: Floats, w: Floats) -> None:
        """Forget a little, then move the learnt line to the mode of its posterior."""
        design = Design((x,), (1.0,), (0.0,))
        if not self.information.any():
            information = sums(design, y, w, self.learnt).hessian
            self.information = information * (self.half_life / float(w.sum()))
        prior = self.information * np.exp2(-float(w.sum()) / self.half_life)
        found = newton(design, y, w, self.learnt, (True, True), precision=prior)
        if found[0] < LEAST_SLOPE:
            # To keep the order, the slope stays just above 0, with the best intercept for this slope.
            least = np.array([LEAST_SLOPE, self.learnt[1]])
            found = newton(design, y, w, least, (False, True), precision=prior, centre=self.learnt)
        self.learnt = found
        self.information = prior + sums(design, y, w, found).hessian

    def _decide(self, evidence: float) -> tuple[Outcome, str]:
        """Decide whether the learnt line comes into use, and why."""
        if evidence < 0:
            self.line, self.evidence = self.learnt.copy(), 0.0
            gain = f"{-evidence:.3g} nats in total"
            return "kept", f"The update lowers the log loss on rows it had not seen by {gain}."
        raises = f"The update raises the log loss on rows it had not seen by {evidence:.3g} nats in total"
        if self.on_worse == "revert":
            self.evidence = evidence
            why = raises if evidence > 0 else "The update could not be judged yet"
            return "reverted", f"{why}: the calibrator in use stays."
        self.line, self.evidence = self.learnt.copy(), 0.0
        if evidence == 0:
            return "kept", "The update could not be judged yet; it is in use, as on_worse is 'keep'."
        reason = f"{raises}; it is in use, as on_worse is 'keep'."
        warnings.warn(f"{self.name}: the update is worse. {reason}", CalibrationWarning, stacklevel=3)
        return "kept although worse", reason

    def _fit(self, logits: Floats, labels: Floats, weight: Floats, segments: SegmentIds) -> None:
        with warnings.catch_warnings():
            # A warning about too few rows was given already, under this calibrator's own name.
            warnings.filterwarnings("ignore", ".* was fitted with only", CalibrationWarning)
            self._hold(self.calibrator.fit(logits, labels, weight, segments))

    def _probabilities(self, logits: Floats, segments: SegmentIds) -> Floats:
        return sigmoid(self.line[0] * _log_odds(self.calibrator(logits, segments)) + self.line[1])

    def _state(self) -> CalibratorState:
        numbers = {
            "half_life": self.half_life,
            "keep": float(self.on_worse == "keep"),
            "evidence": self.evidence,
        }
        arrays = {name: getattr(self, name) for name in ("line", "learnt", "information", "monitored")}
        return {**nested_state(self.calibrator), **numbers, **arrays}

    def _load(self, state: Mapping[str, Floats]) -> None:
        self._hold(nested_calibrator(state))
        self.half_life, keep = positive_scalar(state, "half_life"), float(state["keep"])
        if keep not in (0.0, 1.0):
            raise ValueError(f"keep = {keep}")
        self.on_worse = "keep" if keep else "revert"
        for name, shape in (("line", (2,)), ("learnt", (2,)), ("information", (2, 2)), ("monitored", (2,))):
            if state[name].shape != shape or not np.isfinite(state[name]).all():
                raise ValueError(f"{name} is not finite of the shape {shape}")
            setattr(self, name, state[name].copy())
        self.evidence = float(state["evidence"])
        if not (self.line[0] > 0 and self.learnt[0] > 0 and np.isfinite(self.evidence)):
            raise ValueError("a line does not rise, or the evidence is not finite")


def _log_odds(probabilities: Floats) -> Floats:
    return np.log(probabilities) - np.log1p(-probabilities)
