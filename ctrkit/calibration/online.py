"""Online recalibration: new labelled rows move a fitted calibrator, and nothing gets worse unsaid."""

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

# An update is learnt in blocks, each scored before it is learnt: eight, but not of fewer than 100 rows, and
# more where a block would outweigh a quarter of the half-life, as its rows are forgotten together.
BLOCKS = 8
BLOCK_ROWS = 100
# How much faster evidence for and against the learner is forgotten than what it learns from.
FASTER = 10


@dataclass(frozen=True)
class Update:
    """What one update found and did.

    Attributes:
        rows, positives: of weight above 0.
        before: mean log loss of the new rows under the map in use until now, in nats.
        after: of the same rows under the map as it learns, block by block, each scored before it is learnt.
        evidence: by how many nats the learnt map has done worse (better, below 0) than the map in use since
            they parted, older rows forgotten ten times as fast as in learning. It decides.
        monitored: mean log loss of all rows so far under what was in use when they came, older rows
            forgotten.
        outcome: "kept": the learnt map is in use from now on. "reverted": the map in use stays, and what was
            learnt waits until it is better. "kept although worse": as was asked for.
        slope, intercept: of the line in use from now on.
        reason: in words.
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
    """A fitted calibrator with a line on its log-odds that follows new labelled rows.

    p = σ(slope · logit(calibrator(z)) + intercept), which begins as the calibrator itself. The line is learnt
    as in dynamic logistic regression (McCormick, Raftery, Madigan & Burd 2012): what is known of it is a
    normal distribution, which each block of rows updates (Laplace approximation), and whose precision
    decays with the rows seen, so that old rows are forgotten. Memory does not grow with them. At first, the
    calibrator counts as known from as many rows as a half-life has.

    Two lines are kept: the one in use, and the one that learns. Each block is scored by both before it is
    learnt (prequentially, Dawid 1984), so neither has seen it. The learner comes into use when it has done
    better since they parted, and not otherwise. What it was like long ago tells little of what it has become:
    of that evidence a row counts half after a tenth of the half-life.

    Rows are taken in the order in which they are given: give them in the order of time.

    Args:
        calibrator: fitted, or to be fitted by `fit`; Platt scaling by default.
        half_life: after so many rows (their weight) a row counts half.
        on_worse: what to do with an update that does not do better: "revert", or "keep" with a warning.

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
            raise ConfigError(f"the half-life is a number of rows above 0, and {half_life} was given")
        if on_worse not in ("revert", "keep"):
            raise ConfigError(f"on_worse is 'revert' or 'keep', and '{on_worse}' was given")
        self.half_life, self.on_worse = float(half_life), on_worse
        self._hold(PlattScaling() if calibrator is None else calibrator)

    def _hold(self, calibrator: Calibrator) -> None:
        """Take a calibrator and begin with it as it is."""
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
        """Score new rows, learn them, and decide whether what was learnt comes into use.

        Rows of one class alone are welcome: they are news as well.

        Raises:
            RunError: before `fit`. DataError: bad values, or segments are needed and not given.
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
        # What is left of each row's weight by now, and of all that came before these rows.
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
        """Forget a little, then move the learner to the mode of its posterior."""
        design = Design((x,), (1.0,), (0.0,))
        if not self.information.any():
            told = sums(design, y, w, self.learnt).hessian
            self.information = told * (self.half_life / float(w.sum()))
        prior = self.information * np.exp2(-float(w.sum()) / self.half_life)
        found = newton(design, y, w, self.learnt, (True, True), precision=prior)
        if found[0] < LEAST_SLOPE:
            # The order is kept: the slope stays just above 0, and the intercept is the best for it.
            least = np.array([LEAST_SLOPE, self.learnt[1]])
            found = newton(design, y, w, least, (False, True), precision=prior, centre=self.learnt)
        self.learnt = found
        self.information = prior + sums(design, y, w, found).hessian

    def _decide(self, evidence: float) -> tuple[Outcome, str]:
        """Bring the learner into use, or not; and why."""
        if evidence < 0:
            self.line, self.evidence = self.learnt.copy(), 0.0
            gain = f"{-evidence:.3g} nats in all"
            return "kept", f"On rows it had not seen, what was learnt lowers the log loss by {gain}."
        if self.on_worse == "revert":
            self.evidence = evidence
            lost = f"costs {evidence:.3g} nats in all" if evidence > 0 else "could not be judged yet"
            return "reverted", f"On rows it had not seen, what was learnt {lost}: the map in use stays."
        self.line, self.evidence = self.learnt.copy(), 0.0
        if evidence == 0:
            return "kept", "What was learnt could not be judged yet, and is in use as was asked for."
        loss = f"{evidence:.3g} nats in all"
        reason = f"On rows it had not seen, what was learnt costs {loss}; it was kept as asked for."
        warnings.warn(f"{self.name}: the update is worse. {reason}", CalibrationWarning, stacklevel=3)
        return "kept although worse", reason

    def _fit(self, logits: Floats, labels: Floats, weight: Floats, segments: SegmentIds) -> None:
        with warnings.catch_warnings():
            # Too few rows were warned of already, under this calibrator's own name.
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
