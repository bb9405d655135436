"""The verdict: whether and where a model is fit to bid on, the rules behind it and their sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pydantic import Field, field_validator

from ctrkit.config import Config
from ctrkit.evaluation.drift import DRIFTED, Drift
from ctrkit.evaluation.leaks import Leak
from ctrkit.evaluation.unknown import UnknownShare
from ctrkit.metrics import MetricInterval

Decision: TypeAlias = Literal["fit", "fit with limits", "cannot tell", "not fit"]
Outcome: TypeAlias = Literal["passed", "limit", "cannot tell", "failed"]

SEEN_ROWS, SAMPLED = "training rows", "sampled negatives"
# The worst outcome of all rules decides.
_DECISIONS: dict[Outcome, Decision] = {
    "failed": "not fit",
    "cannot tell": "cannot tell",
    "limit": "fit with limits",
    "passed": "fit",
}


class FitRules(Config):
    """The thresholds of the verdict. A bid that is linear in p is too high by the factor PCOC.

    Attributes:
        pcoc: the range that the whole interval of PCOC must lie in. If the interval lies outside, the model
            is not fit; if it crosses an end of the range, the rows cannot tell.
        minimum_positives: with fewer positive rows (by weight) the rows cannot tell.
        segment_pcoc: the range of PCOC of a segment. If it lies outside beyond noise, do not bid there.
        large_segment: smaller segments (as a share of the rows) do not count.
        drift: the population stability index from which on a column limits the verdict.
        auc: an AUC above this, beyond noise, is too good to be true: some features are known only after the
            ad is shown, and the rows cannot tell what the model is worth without them.
        unknown_items: from this share of unknown item ids on (if training had far fewer), the rows cannot
            tell what the model is worth on items that it knows. At 0.8, one row in five is of such an item:
            its probabilities may be 50 % too high while the PCOC of all rows is still 1.1.

    The normalised entropy must also be below 1 beyond noise: otherwise the model is no better than the base
    rate.
    """

    pcoc: tuple[float, float] = (0.9, 1.1)
    minimum_positives: int = Field(default=20, ge=2)
    segment_pcoc: tuple[float, float] = (0.9, 1.1)
    large_segment: float = Field(default=0.05, gt=0, le=1)
    drift: float = Field(default=DRIFTED, gt=0)
    auc: float = Field(default=0.99, gt=0.5, le=1)
    unknown_items: float = Field(default=0.8, gt=0, le=1)

    @field_validator("pcoc", "segment_pcoc")
    @classmethod
    def _around_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] < 1 < value[1]:
            raise ValueError("PCOC is 1 if predictions are right: give an end below 1 and one above 1")
        return value


@dataclass(frozen=True)
class FieldSegment:
    """The rows with one value of a field, and their PCOC.

    Attributes:
        field: the field's name.
        value: the field's value, as text.
        share: the segment's share of the weight of all rows.
        pcoc: the segment's PCOC with its interval.
        beyond_noise: whether PCOC differs from 1 beyond noise, after a correction for the number of segments.
    """

    field: str
    value: str
    share: float
    pcoc: MetricInterval
    beyond_noise: bool


@dataclass(frozen=True)
class VerdictReason:
    """The outcome of one rule, and the sentence that states it."""

    rule: str
    outcome: Outcome
    sentence: str


@dataclass(frozen=True)
class TaskVerdict:
    """Whether one task's probabilities can be bid on, and why."""

    task: str
    decision: Decision
    findings: tuple[VerdictReason, ...]

    @property
    def sentence(self) -> str:
        """The decision, and the findings that led to it."""
        return " ".join([self.said, *(one.sentence for one in self.reasons)])

    @property
    def said(self) -> str:
        """The decision alone."""
        return f"{self.task}: {_SAID[self.decision]}."

    @property
    def reasons(self) -> tuple[VerdictReason, ...]:
        """The findings against the model or, if there are none, all findings."""
        against = tuple(one for one in self.findings if one.outcome != "passed")
        return against or self.findings

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        findings = [dict(vars(one)) for one in self.findings]
        said = {"decision": self.decision, "sentence": self.sentence}
        return {"task": self.task, **said, "findings": findings}


_SAID: dict[Decision, str] = {
    "fit": "fit to bid on",
    "fit with limits": "fit to bid on, with limits",
    "cannot tell": "these rows cannot tell whether the model is fit to bid on",
    "not fit": "not fit to bid on",
}


def judge(
    task: str,
    positives: int,
    pcoc: MetricInterval | None,
    normalized_entropy: MetricInterval | None,
    segments: Sequence[FieldSegment],
    drifts: Sequence[Drift] | None,
    rules: FitRules,
    auc: MetricInterval | None = None,
    leaks: Sequence[Leak] = (),
    effective: float | None = None,
    unknown: Sequence[UnknownShare] = (),
    seen: float | None = None,
) -> TaskVerdict:
    """Apply the rules of the verdict to the metrics of one task.

    Args:
        task: the task's name.
        positives: the number of positive rows.
        pcoc: PCOC with its interval; None if it is undefined.
        normalized_entropy: the normalised entropy with its interval; None if it is undefined.
        segments: all segments tested, of any size.
        drifts: the drift of each column; None if the training rows are not known.
        rules: the thresholds.
        auc: AUC with its interval.
        leaks: features that give the label away.
        effective: the effective number of positive rows; by default their number.
        unknown: the share of unknown ids of each column.
        seen: the share of rows that the model was trained on; None where it does not matter.
    """
    count = positives if effective is None else effective
    findings = [_positives(positives, count, rules), _whole(pcoc, rules), _entropy(normalized_entropy)]
    findings += _segments(segments, rules)
    findings += _drift(drifts, rules)
    findings += _too_good(auc, leaks, rules)
    hidden = [one for one in unknown if one.hides(rules.unknown_items)]
    findings += [VerdictReason("unknown items", "cannot tell", one.sentence) for one in hidden]
    if seen is not None:
        text = f"The model was trained on about {seen:.0%} of these rows, and looks better here than it is."
        findings.append(VerdictReason(SEEN_ROWS, "cannot tell", text))
    found = {finding.outcome for finding in findings}
    decision: Decision = next(said for outcome, said in _DECISIONS.items() if outcome in found)
    if count < rules.minimum_positives:
        decision = "cannot tell"
    return TaskVerdict(task, decision, tuple(findings))


def of_sampled_rows(verdict: TaskVerdict) -> TaskVerdict:
    """The verdict of rows whose negatives are sampled: they have no base rate that bids could rest on."""
    text = "The negatives of these rows are sampled, so that nothing tells how frequent positives are."
    reason = VerdictReason(SAMPLED, "failed", text)
    return TaskVerdict(verdict.task, "not fit", (reason, *verdict.findings))


def _positives(positives: int, count: float, rules: FitRules) -> VerdictReason:
    if count < rules.minimum_positives:
        few = f"{positives:,} positive rows"
        if count < positives - 0.5:
            few += f", which by weight count as {count:,.1f},"
        text = f"{few} are too few: at least {rules.minimum_positives} are needed."
        return VerdictReason("positives", "cannot tell", text)
    return VerdictReason("positives", "passed", f"The rows hold {positives:,} positives.")


def _whole(pcoc: MetricInterval | None, rules: FitRules) -> VerdictReason:
    low, high = rules.pcoc
    bounds = f"{low:g} to {high:g}"
    if pcoc is None:
        return VerdictReason("pcoc", "cannot tell", "PCOC could not be measured.")
    if pcoc.low > high or pcoc.high < low:
        text = f"Bids would be {_too(pcoc.value)}: PCOC {_text(pcoc)} lies outside {bounds} beyond noise."
        return VerdictReason("pcoc", "failed", text)
    if pcoc.low < low or pcoc.high > high:
        text = f"PCOC {_text(pcoc)} may lie outside {bounds}: more rows are needed to tell."
        return VerdictReason("pcoc", "cannot tell", text)
    return VerdictReason("pcoc", "passed", f"Predictions are right on average: PCOC {_text(pcoc)}.")


def _entropy(entropy: MetricInterval | None) -> VerdictReason:
    if entropy is None:
        return VerdictReason("base rate", "cannot tell", "Normalised entropy could not be measured.")
    if entropy.low > 1:
        text = f"The model is worse than the base rate: normalised entropy {_text(entropy)} is above 1."
        return VerdictReason("base rate", "failed", text)
    if entropy.high >= 1:
        text = (
            f"The model is not better than the base rate beyond noise: normalised entropy {_text(entropy)}."
        )
        return VerdictReason("base rate", "cannot tell", text)
    text = f"The model is better than the base rate: normalised entropy {_text(entropy)}."
    return VerdictReason("base rate", "passed", text)


def _segments(segments: Sequence[FieldSegment], rules: FitRules) -> list[VerdictReason]:
    low, high = rules.segment_pcoc
    large = [one for one in segments if one.share >= rules.large_segment]
    wrong = [one for one in large if one.beyond_noise and not low <= one.pcoc.value <= high]
    if not wrong:
        what = f"None of the {len(large)} large segments is miscalibrated beyond noise."
        return [VerdictReason("segments", "passed", what)] if large else []
    wrong.sort(key=lambda one: -one.share)
    return [
        VerdictReason(
            "segments",
            "limit",
            f"Do not bid where {one.field} is {one.value} ({one.share:.1%} of rows): bids would be"
            f" {_too(one.pcoc.value)}, PCOC {_text(one.pcoc)}.",
        )
        for one in wrong
    ]


def _drift(drifts: Sequence[Drift] | None, rules: FitRules) -> list[VerdictReason]:
    if drifts is None:
        return []
    far = [one for one in drifts if one.psi >= rules.drift and one.psi > one.noise]
    if not far:
        return [VerdictReason("drift", "passed", "No column has drifted since training.")]
    return [
        VerdictReason(
            "drift",
            "limit",
            f"{one.column} has drifted since training (PSI {one.psi:.2f}): '{one.largest}' went from"
            f" {one.training:.1%} to {one.evaluated:.1%} of rows.",
        )
        for one in far
    ]


def _too_good(auc: MetricInterval | None, leaks: Sequence[Leak], rules: FitRules) -> list[VerdictReason]:
    if leaks:
        return [VerdictReason("leak", "cannot tell", leak.sentence) for leak in leaks]
    if auc is None or auc.low <= rules.auc:
        return []
    text = f"An AUC of {_text(auc)} is too good to be true: some features are known only after the click."
    return [VerdictReason("leak", "cannot tell", text)]


def _too(pcoc: float) -> str:
    return f"{pcoc - 1:.0%} too high" if pcoc > 1 else f"{1 - pcoc:.0%} too low"


def _text(found: MetricInterval) -> str:
    return f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"
