"""AUC and calibration of logs that no memory holds: sketches of constant size that merge.

Rows are counted by label in a fine histogram over the logit of their probability, in which a rate of 0.1 % is
as finely resolved as one of 50 %. Two sketches merge by addition. All sums are of whole numbers or of
multiples of a power of 2, so for rows without weight (or with whole ones) a merge is exact: any parts of a
log, in any order, give the very same result, up to 2^33 rows. Other weights are subject to the rounding of a
float sum, and to nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats, Indices
from ctrkit.errors import ArtifactError, ConfigError, DataError
from ctrkit.metrics.calibration import bin_index
from ctrkit.metrics.checks import need_both_classes, probability_rows
from ctrkit.metrics.probability import entropy, log_losses

# Plain data: an artifact or a file of arrays holds it as it is.
State: TypeAlias = dict[str, Floats]

# Probabilities below σ(-16) = 1.1e-7, or above σ(16), share the outermost bins.
_WIDEST = 16.0
# Steps of 1.2e-4 in the logit: a relative step of 1.2e-4 in a small probability.
BINS = 1 << 18
# Parts of a sum, each a whole number of these: exact while a sum is below 2^53 of them.
_COARSE, _FINE = 2.0**-20, 2.0**-40


class _Sketch:
    """What both sketches share: weights by label and bin of the logit, which add up.

    Args:
        bins: of the histogram, over logits in [-16, 16].
    """

    def __init__(self, bins: int = BINS) -> None:
        if bins < 2:
            raise ConfigError(f"bins must be at least 2, and {bins} was given")
        self._sums: State = {"rows": np.zeros(1), "negatives": np.zeros(bins), "positives": np.zeros(bins)}

    def merge(self, other: Self) -> None:
        """Take in what another sketch of this kind has seen; the other stays as it is.

        Raises:
            ConfigError: the two differ in kind or in their numbers of bins.
        """
        if type(other) is not type(self) or _shapes(other._sums) != _shapes(self._sums):
            raise ConfigError(
                "the sketches differ in kind or number of bins", mend="Make both with the same arguments"
            )
        for name, sums in other._sums.items():
            self._sums[name] = self._sums[name] + sums

    def state(self) -> State:
        """Everything that `from_state` needs, as arrays."""
        return {name: sums.copy() for name, sums in self._sums.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, ArrayLike]) -> Self:
        """The sketch that `state` describes; it gives the very same results.

        Raises:
            ArtifactError: the state is of another kind of sketch, lacks a part, or holds an impossible value.
        """
        try:
            sums = {name: np.array(values, np.float64) for name, values in state.items()}
            sketch = cls._like(sums)
            if _shapes(sums) != _shapes(sketch._sums):
                raise ValueError("its arrays have other shapes")
            if not all(np.isfinite(values).all() and (values >= 0).all() for values in sums.values()):
                raise ValueError("a sum is negative or not finite")
        except (KeyError, IndexError, TypeError, ValueError, ConfigError) as error:
            raise ArtifactError(f"the state of a {cls.__name__} is damaged ({error})") from error
        sketch._sums = sums
        return sketch

    @classmethod
    def _like(cls, sums: State) -> Self:
        """An empty sketch with the numbers of bins of these sums."""
        return cls(sums["positives"].size)

    def _count(self, y: Floats, p: Floats, w: Floats) -> None:
        bins = self._sums["positives"].size
        with np.errstate(divide="ignore"):
            index = np.log(p)
            index -= np.log1p(-p)
        index += _WIDEST
        index *= bins / (2 * _WIDEST)
        at = np.clip(index, 0, bins - 1, out=index).astype(np.intp)
        positives = w * y
        self._sums["rows"] = self._sums["rows"] + len(y)
        self._sums["positives"] = self._sums["positives"] + np.bincount(at, positives, minlength=bins)
        self._sums["negatives"] = self._sums["negatives"] + np.bincount(at, w - positives, minlength=bins)


@dataclass(frozen=True)
class AucEstimate:
    """AUC from a histogram.

    Attributes:
        value: pairs of one bin count half. error_bound: the exact AUC is at most this far away: half the
            share of pairs of a positive and a negative row that share a bin. The error is far smaller
            as a rule, for such pairs are in order nearly as often as not.
        rows: seen. positives, negatives: their weight.
    """

    value: float
    error_bound: float
    rows: int
    positives: float
    negatives: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


class StreamingAuc(_Sketch):
    """`ctrkit.metrics.auc` of a log that comes in parts, in 4 MiB at the default number of bins."""

    def update(self, labels: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None = None) -> None:
        """Take in some rows.

        Args:
            labels: 0 or 1, [N]. probabilities: [N]. weight: a row of weight 2 counts as two, [N].

        Raises:
            DataError: bad values, of which nothing is taken in.
        """
        self._count(*probability_rows(labels, probabilities, weight))

    def result(self) -> AucEstimate:
        """The AUC of all rows so far.

        Raises:
            DataError: only one class has weight.
        """
        positives, negatives = self._sums["positives"], self._sums["negatives"]
        need_both_classes(positives.sum(), negatives.sum(), "AUC")
        pairs = positives.sum() * negatives.sum()
        below = np.cumsum(negatives) - negatives
        return AucEstimate(
            float(positives @ (below + negatives / 2) / pairs),
            float(positives @ negatives / 2 / pairs),
            int(self._sums["rows"][0]),
            float(positives.sum()),
            float(negatives.sum()),
        )


@dataclass(frozen=True)
class CalibrationEstimate:
    """Calibration and loss of all rows seen, as the functions of `ctrkit.metrics` define them.

    Attributes:
        ece_mass, ece_width: expected calibration error with bins of equal mass and of equal width.
        log_loss: in nats. brier: mean squared error.
        pcoc: predicted over observed; None without a positive row.
        normalized_entropy: log loss over that of the base rate; None where one class has no weight.
        rows: seen. positives: their weight.
    """

    ece_mass: float
    ece_width: float
    log_loss: float
    brier: float
    pcoc: float | None
    normalized_entropy: float | None
    rows: int
    positives: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


class StreamingCalibration(_Sketch):
    """ECE, PCOC, log loss, Brier score and NE of a log that comes in parts, in constant memory.

    All but `ece_mass` are exact to 1e-12 of each row's term. The bins of equal mass are made of those of
    the histogram, whose rows are taken to be in its middle: off by at most 1.6e-5 in a bin's mean
    probability, and by the rows of the one bin of the histogram at each edge.

    Args:
        bins: of ECE. histogram_bins: of the histogram, over logits in [-16, 16].
    """

    def __init__(self, bins: int = 15, histogram_bins: int = BINS) -> None:
        super().__init__(histogram_bins)
        if bins < 1:
            raise ConfigError(f"bins must be at least 1, and {bins} was given")
        self._sums |= {
            name: np.zeros((2, bins)) for name in ("mass", "positive_mass", "predicted", "loss", "square")
        }

    def update(self, labels: ArrayLike, probabilities: ArrayLike, weight: ArrayLike | None = None) -> None:
        """Take in some rows.

        Args:
            labels: 0 or 1, [N]. probabilities: [N]. weight: a row of weight 2 counts as two, [N].

        Raises:
            DataError: bad values, of which nothing is taken in.
        """
        y, p, w = probability_rows(labels, probabilities, weight)
        bins = self._sums["mass"].shape[1]
        index = bin_index(p, w, bins, "width")
        terms = {
            "mass": np.ones(len(y)), "positive_mass": y, "predicted": p,
            "loss": log_losses(y, p), "square": np.square(p - y),
        }  # fmt: skip
        for name, term in terms.items():
            self._sums[name] = self._sums[name] + _exact_sums(index, term, w, bins)
        self._count(y, p, w)

    def result(self) -> CalibrationEstimate:
        """The metrics of all rows so far.

        Raises:
            DataError: no row was seen.
        """
        sums = {name: self._sums[name].sum(0) for name in self._sums if name not in ("rows", *_HISTOGRAM)}
        mass, positives, predicted = sums["mass"], sums["positive_mass"], sums["predicted"]
        total, positive, negative = mass.sum(), positives.sum(), mass.sum() - positives.sum()
        if not total:
            raise DataError("no row was seen", mend="Call `update` first")
        log_loss = float(sums["loss"].sum() / total)
        return CalibrationEstimate(
            ece_mass=self._ece_mass(),
            ece_width=float(np.abs(predicted - positives).sum() / total),
            log_loss=log_loss,
            brier=float(sums["square"].sum() / total),
            pcoc=float(predicted.sum() / positive) if positive > 0 else None,
            normalized_entropy=(
                log_loss / entropy(float(positive / total)) if positive > 0 and negative > 0 else None
            ),
            rows=int(self._sums["rows"][0]),
            positives=float(positive),
        )

    @classmethod
    def _like(cls, sums: State) -> Self:
        return cls(sums["mass"].shape[1], sums["positives"].size)

    def _ece_mass(self) -> float:
        positives, negatives = self._sums["positives"], self._sums["negatives"]
        held = np.flatnonzero(positives + negatives)
        middle = 1 / (1 + np.exp(_WIDEST - (held + 0.5) * (2 * _WIDEST / positives.size)))
        mass, bins = (positives + negatives)[held], self._sums["mass"].shape[1]
        gap = np.bincount(bin_index(middle, mass, bins, "mass"), mass * middle - positives[held])
        return float(np.abs(gap).sum() / mass.sum())


_HISTOGRAM = ("positives", "negatives")


def _exact_sums(index: Indices, term: Floats, weight: Floats, bins: int) -> Floats:
    """Weighted sums of a term by bin, in two parts that add up without rounding, [2, bins]."""
    coarse = np.floor(term / _COARSE) * _COARSE
    fine = np.rint((term - coarse) / _FINE) * _FINE
    return np.stack([np.bincount(index, weight * part, minlength=bins) for part in (coarse, fine)])


def _shapes(sums: State) -> dict[str, tuple[int, ...]]:
    return {name: values.shape for name, values in sums.items()}
