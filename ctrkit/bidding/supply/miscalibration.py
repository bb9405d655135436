"""The same auctions as a worse, a perfect or a recalibrated model would show them to bidders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from scipy.special import expit, logit

from ctrkit.bidding.market.auctions import Auctions
from ctrkit.bidding.supply.outcomes import clicks_of
from ctrkit.calibration import PlattScaling
from ctrkit.settings import Number, Positive, check

# Up to here logit is finite; no model gives a pCTR of exactly 1.
_HIGHEST = 1.0 - 1e-12


def miscalibrated(chunks: Iterable[Auctions], scale: float = 1.0, shift: float = 0.0) -> Iterator[Auctions]:
    """Bidders see expit(scale · logit(pCTR) + shift), and nothing else changes; 0 and 1 stay the same.

    A shift alone multiplies all odds: bidding that learns its multiplier compensates for it, truthful bidding
    does not. A scale above 1 is overconfidence, below 1 underconfidence. Then the values of slots are wrong
    by different factors, which no multiplier can compensate.

    If neither the true click probability nor the true value is known, the undistorted pCTR becomes the truth,
    so that strategies are still judged by the best knowledge. A step that draws new clicks from the truth,
    such as `resampled`, must come before this one.

    Args:
        scale: above 0.
        shift: of the logit.

    Raises:
        ConfigError: numbers out of range.
    """
    check(Positive, scale, "miscalibration: scale")
    check(Number, shift, "miscalibration: shift")
    return (_seen_askew(chunk, scale, shift) for chunk in chunks)


def truthful_sight(chunks: Iterable[Auctions]) -> Iterator[Auctions]:
    """Bidders see the true click probabilities where they are known, as of a perfect model."""
    for chunk in chunks:
        truth = chunk.true_click_probability
        yield chunk if truth is None else replace(chunk, click_probability=truth)


def recalibrated_in_hindsight(auctions: Auctions) -> Auctions:
    """Bidders see expit(a · logit(pCTR) + b) with the a and b that fit the log's own potential clicks best.

    So it undoes `miscalibrated`. It is an optimistic bound on the value of calibrating the same model, since
    it is fitted to the same clicks that bidders then win. It keeps the order of all slots, which the steps of
    an isotonic curve would not. If the truth is unknown, strategies are judged by the recalibrated pCTR; then
    compare clicks with those of the original log, not values. A pCTR of 0 stays 0.

    Raises:
        DataError: a log without potential clicks, or one where nothing or everything was clicked.
    """
    pctr, click = auctions.click_probability, clicks_of(auctions)
    candidate = pctr > 0
    logits = np.asarray(logit(np.minimum(pctr[candidate], _HIGHEST)))
    seen = np.zeros_like(pctr)
    seen[candidate] = PlattScaling().fit(logits, click[candidate].astype(np.float64))(logits)
    return replace(auctions, click_probability=seen)


def _seen_askew(chunk: Auctions, scale: float, shift: float) -> Auctions:
    pctr = chunk.click_probability
    with np.errstate(divide="ignore"):  # -∞ at 0 and ∞ at 1 stay so
        seen = np.asarray(expit(scale * logit(pctr) + shift))
    unknown = chunk.true_click_probability is None and chunk.true_value is None
    truth = pctr if unknown else chunk.true_click_probability
    return replace(chunk, click_probability=seen, true_click_probability=truth)
