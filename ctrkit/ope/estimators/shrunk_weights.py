"""The base of estimators with shrunk weights: less variance in exchange for a bias, which is bounded."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import ClassVar, Self, cast

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError, nearest
from ctrkit.ope.estimators.base import Estimate, LoggedRows, WeightedEstimator
from ctrkit.ope.estimators.doubly_robust import DoublyRobust
from ctrkit.ope.estimators.importance import InversePropensityScoring
from ctrkit.ope.estimators.shrinkage import Shrinkage
from ctrkit.ope.estimators.tuning import RULES, Candidate, Rule, mean_squared_errors, slope
from ctrkit.ope.intervals.interval import ConfidenceInterval, Unseen, cressie_read, normal
from ctrkit.ope.intervals.moments import REWARD, TERM, WEIGHT, MomentColumns, Moments
from ctrkit.settings import Setting, check, values_of


@dataclass
class Trial:
    """The statistics of one strength of shrinkage.

    Attributes:
        moments: of the estimator's terms.
        kept: of min(h(w), w), in the place of the term, and of the excess max(h(w) - w, 0), in the reward's.
    """

    shrinkage: Shrinkage
    moments: Moments = field(default_factory=Moments)
    kept: Moments = field(default_factory=Moments)

    def observe(self, rows: LoggedRows, terms: Floats) -> Sequence[MomentColumns]:
        """What goes into both sums."""
        shrunk = self.shrinkage(rows.weights)
        kept = np.minimum(shrunk, rows.weights)
        return (rows.weights, terms, rows.rewards), (rows.weights, kept, shrunk - kept)

    @property
    def candidate(self) -> Candidate:
        """What a rule sees of it."""
        return Candidate(float(self.moments.mean @ TERM), self.moments.standard_error(TERM))


class ShrunkWeights(WeightedEstimator):
    """An estimator with h(w), see `Shrinkage`, in the place of the weights w.

    Its interval is one for the mean of its terms: it leaves out the bias, which `bias` bounds, and that a
    rule chose the strength by the same rows. Rules compare all strengths of a grid; their statistics stand
    side by side, so that memory does not grow and parts of a log merge.

    Args:
        reward_range: see `Estimator`.
        strength: of the shrinkage, by default `default`; or `slope` or `mse` for the rule of
            `ctrkit.ope.estimators.tuning` that chooses it.

    Raises:
        ConfigError: for a strength out of range, an unknown rule, and `mse` without a range of rewards.
    """

    shrinkage: ClassVar[type[Shrinkage]]
    # What the strength is called on the command line, and its default.
    parameter: ClassVar[str] = "lambda"
    default: ClassVar[float]

    def __init__(
        self, reward_range: tuple[float, float] | None = None, strength: float | str | None = None
    ) -> None:
        super().__init__(reward_range)
        strength = self.default if strength is None else strength
        self.rule: Rule | None = None
        if isinstance(strength, str):
            self.rule = _known(strength, self.parameter)
            if self.rule == "mse" and reward_range is None:
                raise ConfigError(
                    f"{self.parameter}=mse needs the range of rewards to bound the bias",
                    hint=f"Give the range, or {self.parameter} as a number",
                )
        else:
            check(self.shrinkage.bounds, strength, f"estimator '{self.name}': {self.parameter}")
        strengths = self.shrinkage.grid if isinstance(strength, str) else (float(strength),)
        self.plain = self.unshrunk()
        self.trials = [Trial(self.shrinkage(each)) for each in strengths]
        self.max_weight = 0.0
        self.settle()

    @classmethod
    def setting(cls) -> Setting:
        """What help pages say of the strength."""
        values = values_of(cls.shrinkage.bounds | Rule)
        meaning = "how much of large weights is kept, or the rule that chooses it"
        return Setting(cls.parameter, values, f"{cls.default:g}", meaning)

    @abstractmethod
    def unshrunk(self) -> WeightedEstimator:
        """The same estimator with the weights as they are."""

    @abstractmethod
    def residual_range(self, rewards: tuple[float, float]) -> tuple[float, float]:
        """The least and the largest number that a weight is multiplied with."""

    def mean_range(self, rewards: tuple[float, float]) -> tuple[float, float]:
        """The least and the largest expected estimate."""
        return rewards

    @property
    def label(self) -> str:
        """The name, with the strength where it is not the default."""
        if self.rule is not None:
            return f"{self.name}:{self.parameter}={self.rule}"
        return self.name if self.chosen.shrinkage.strength == self.default else f"{self.name}:{self.strength}"

    @property
    def strength(self) -> str:
        """Parameter and strength in use, such as `lambda=10`."""
        return f"{self.parameter}={self.chosen.shrinkage.strength:.12g}"

    def terms(self, rows: LoggedRows) -> Floats:
        return self._terms(rows, self.chosen.shrinkage)

    def unseen_terms(self, weight: float, reward: float) -> tuple[float, float]:
        return self.plain.unseen_terms(float(self.chosen.shrinkage(np.asarray(weight))), reward)

    @property
    def sums(self) -> Sequence[Moments]:
        return (*self.plain.sums, *(each for trial in self.trials for each in (trial.moments, trial.kept)))

    def observe(self, rows: LoggedRows) -> Sequence[MomentColumns]:
        self.largest_weight = max(self.largest_weight, rows.largest_weight)
        self.max_weight = max(self.max_weight, float(rows.weights.max(initial=0.0)))
        trials = (trial.observe(rows, self._terms(rows, trial.shrinkage)) for trial in self.trials)
        return (*self.plain.observe(rows), *chain.from_iterable(trials))

    def join(self, other: Self) -> None:
        """Merge all state besides the sums.

        Raises:
            ValueError: for another strength.
        """
        if [trial.shrinkage for trial in self.trials] != [trial.shrinkage for trial in other.trials]:
            raise ValueError("estimators of different strengths do not merge")
        super().join(other)
        self.plain.join(other.plain)
        self.max_weight = max(self.max_weight, other.max_weight)

    def result(self, confidence: float = 0.95) -> Estimate:
        return replace(super().result(confidence), estimator=self.label)

    def interval(self, value: float, of_difference: bool, confidence: float) -> ConfidenceInterval:
        """The estimator's own interval, without the bias."""
        direction = TERM - of_difference * REWARD
        if self.reward_range is None:
            found = normal(value, self.moments, direction, confidence)
            low, high = found.low, found.high
        else:
            unseen = [self.unseen(weight, of_difference, self.reward_range) for weight in self.corners()]
            found = cressie_read(self.moments, direction, unseen, confidence)
            least, most = self.reward_range
            lowest, highest = self.mean_range(self.reward_range)
            low, high = np.clip(
                [found.low, found.high], lowest - of_difference * most, highest - of_difference * least
            )
        method = found.method
        if self.chosen.shrinkage.shrinks:
            method += f", without the bias of {self.strength}"
        return ConfidenceInterval(float(low), float(high), method)

    def bias(self, confidence: float = 0.95) -> ConfidenceInterval | None:
        """Bounds of the bias, expected estimate less policy's value; None without a range of rewards, and for
        rows that all go together.

        The bias is E[(h(w) - w) e], with e the reward, or its residual under the model. What h takes away,
        E[w - min(h(w), w)], is 1 - E[min(h(w), w)], as weights have mean 1: a mean of small terms even where
        the weights lost are too large and rare to have been seen. Cressie-Read's interval bounds it, and a
        normal one what h adds to small weights; a weight of either kind meets at worst the range of e.
        """
        kept = self.chosen.kept
        if self.reward_range is None or not kept.degrees:
            return None
        weights = np.array(self.corners())
        least_kept = np.minimum(self.chosen.shrinkage(weights), weights)
        unseen = [Unseen(w, k, k) for w, k in zip(weights.tolist(), least_kept.tolist(), strict=True)]
        found = cressie_read(kept, TERM, unseen, confidence)
        lost = 1 - np.clip([found.high, found.low], 0, 1)
        added = normal(float(kept.mean @ REWARD), kept, REWARD, confidence)
        gained = np.maximum([added.low, added.high], 0)
        least, most = self.residual_range(self.reward_range)
        return ConfidenceInterval(
            float((gained * least).min() - (lost * most).max()),
            float((gained * most).max() - (lost * least).min()),
            "cressie-read of the weights",
        )

    def notes(self, confidence: float = 0.95) -> tuple[str, ...]:
        """Sentences on what the interval does not hold."""
        notes = []
        if self.chosen.shrinkage.shrinks:
            bias = self.bias(confidence)
            size = (
                f"between {bias.low:+.3g} and {bias.high:+.3g} per row"
                if bias is not None
                else "which nothing bounds without a range of rewards or from a single unit"
            )
            notes.append(f"{self.label}: the interval leaves out the bias of {self.strength}, {size}.")
        if self.rule is not None:
            notes.append(
                f"{self.label}: {self.strength} was chosen from the same rows that it is applied to."
            )
        if self.rule == "slope":
            notes.append(
                f"{self.label}: where clicks are few all estimates seem to agree, and SLOPE chooses the most "
                "biased one. Do not decide by it at the click rates of ads."
            )
        return tuple(notes)

    def mean_squared_errors(self) -> dict[float, float]:
        """The bound that `mse` minimises, by strength.

        Raises:
            ConfigError: without a range of rewards.
        """
        if self.reward_range is None:
            raise ConfigError("the bias is unbounded without a range of rewards", hint="Give the range")
        moments = self.plain.moments
        least, most = self.reward_range
        errors = mean_squared_errors(
            [trial.candidate for trial in self.trials],
            float(moments.mean @ TERM),
            rows=moments.count,
            # What is independent are users, or rows that each stand for several decisions.
            mean_square_weight=float(WEIGHT @ moments.users @ WEIGHT) / moments.count,
            max_weight=self.max_weight * moments.largest,
            # A model's predictions lie in the range of rewards.
            scale=most - least if self.needs_reward_model else max(abs(least), abs(most)),
        )
        return {trial.shrinkage.strength: error for trial, error in zip(self.trials, errors, strict=True)}

    def _terms(self, rows: LoggedRows, shrinkage: Shrinkage) -> Floats:
        return self.plain.terms(replace(rows, weights=shrinkage(rows.weights)))

    def corners(self) -> list[float]:
        """The weights, seen or not, between which all pairs of weight and shrunk weight lie."""
        return sorted({0.0, 1.0, min(self.chosen.shrinkage.peak, self.largest_weight), self.largest_weight})

    def settle(self) -> None:
        """Choose the strength from all rows so far; the first one before there are two rows."""
        place = 0
        rows = self.trials[0].moments.count
        if self.rule is not None and rows > 1:
            if self.rule == "slope":
                place = slope([trial.candidate for trial in self.trials], rows)
            else:
                place = int(np.argmin(list(self.mean_squared_errors().values())))
        self.chosen = self.trials[place]
        self.moments = self.chosen.moments


def _known(rule: str, parameter: str) -> Rule:
    if rule not in RULES:
        raise ConfigError(
            f"{parameter}={rule} is no number and no rule", hint=f"{nearest(rule, RULES)}, or give a number"
        )
    return rule


class ShrunkInversePropensityScoring(ShrunkWeights):
    """mean(h(w) r)."""

    def unshrunk(self) -> WeightedEstimator:
        return InversePropensityScoring(self.reward_range)

    def residual_range(self, rewards: tuple[float, float]) -> tuple[float, float]:
        return rewards

    def mean_range(self, rewards: tuple[float, float]) -> tuple[float, float]:
        """The reward range with 0, because the estimate shrinks towards 0 with the weights."""
        return min(rewards[0], 0.0), max(rewards[1], 0.0)


class ShrunkDoublyRobust(ShrunkWeights):
    """mean(Σ π(a) q(a) + h(w) (r - q(a_logged))): biased only as far as the reward model is."""

    needs_reward_model: ClassVar[bool] = True

    def unshrunk(self) -> WeightedEstimator:
        return DoublyRobust(self.reward_range)

    def residual_range(self, rewards: tuple[float, float]) -> tuple[float, float]:
        """The range of r - q over all pairs of reward and prediction."""
        model = cast("DoublyRobust", self.plain)
        return rewards[0] - float(model.largest_q[0]), rewards[1] - float(model.least_q[0])
