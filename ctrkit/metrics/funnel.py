"""The funnel impression → click → conversion: each probability is measured on the rows where it applies."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats
from ctrkit.errors import DataError
from ctrkit.metrics.calibration import pcoc
from ctrkit.metrics.checks import probability_rows
from ctrkit.metrics.probability import log_loss
from ctrkit.metrics.ranking import auc


@dataclass(frozen=True)
class TaskQuality:
    """How good the probabilities of one task are, on the rows where it can happen.

    Attributes:
        auc: the AUC; None if the rows hold one class only.
        log_loss: the log loss in nats; None if there are no rows.
        pcoc: predicted over observed; None if there is no positive row.
        rows: the number of rows of weight above 0.
        positives: the number of positive rows of weight above 0.
    """

    auc: float | None
    log_loss: float | None
    pcoc: float | None
    rows: int
    positives: int


@dataclass(frozen=True)
class Funnel:
    """Quality of p(click), p(conversion | click) and their product.

    Attributes:
        ctr: p(click) on all impressions.
        cvr: p(conversion | click) on clicked impressions, the only rows where it can be checked.
        ctcvr: p(click) · p(conversion | click) on all impressions, against the label of the conversion.
    """

    ctr: TaskQuality
    cvr: TaskQuality
    ctcvr: TaskQuality

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def funnel(
    click_labels: ArrayLike,
    click_probabilities: ArrayLike,
    conversion_labels: ArrayLike,
    conversion_probabilities: ArrayLike,
    weight: ArrayLike | None = None,
) -> Funnel:
    """Measure a funnel's CTR, CVR and CTCVR (Ma et al. 2018, "Entire Space Multi-Task Model").

    CVR measured on clicked rows says nothing about rows that are not yet clicked, where a bidder uses it
    (sample selection bias). CTCVR is measured on all rows, and bids on conversions depend on it.

    Args:
        click_labels: 0 or 1, [N].
        click_probabilities: p(click | impression), [N].
        conversion_labels: 0 or 1, [N]; a conversion needs a click.
        conversion_probabilities: p(conversion | click), for every impression, [N].
        weight: the weight of each row, [N]; a row of weight 2 counts as two.

    Raises:
        DataError: bad values, or a conversion without a click.
    """
    click, p_click, w = probability_rows(click_labels, click_probabilities, weight)
    conversion, p_conversion, _ = probability_rows(conversion_labels, conversion_probabilities)
    if len(conversion) != len(click):
        raise DataError(
            f"there are {len(click)} rows of clicks and {len(conversion)} of conversions",
            argument="conversion",
        )
    if (conversion > click).any():
        raise DataError(
            "there is a conversion without a click",
            argument="conversion",
            row=int(np.argmax(conversion > click)),
            hint="Count a conversion only where its impression was clicked",
        )
    clicked = click == 1
    return Funnel(
        _quality(click, p_click, w),
        _quality(conversion[clicked], p_conversion[clicked], w[clicked]),
        _quality(conversion, p_click * p_conversion, w),
    )


def _quality(y: Floats, p: Floats, w: Floats) -> TaskQuality:
    held = w > 0
    if not held.all():
        y, p, w = y[held], p[held], w[held]
    rows, positives = len(y), int(y.sum())
    return TaskQuality(
        auc(y, p, w) if 0 < positives < rows else None,
        log_loss(y, p, w) if rows else None,
        pcoc(y, p, w) if positives else None,
        rows,
        positives,
    )
