"""Metrics of a network on the test rows, task by task."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from scipy.special import expit

from ctrkit.api.models.training_rows import TrainingRows
from ctrkit.api.models.value_rows import VALUE_METRICS, ValueRows
from ctrkit.errors import DataError
from ctrkit.metrics import auc, ece, gauc, log_loss, normalized_entropy, pcoc
from ctrkit.models import Scorer
from ctrkit.schema.features import VALUE
from ctrkit.training import predict


def task_metrics(network: Scorer, rows: TrainingRows) -> dict[str, dict[str, float | None]]:
    """Metrics of each task on the test rows where it can happen: conversions are judged on clicked rows, and
    the value on converted rows.

    Rows count by their weights; rows of weight 0 are ignored. `rows` and `positives` are plain counts. A
    metric that is undefined on the rows is None, such as GAUC where no user has both labels.
    """
    data, test = rows.encoded, rows.split.test
    outputs = predict(network, data, test, hidden=False)
    logits = outputs.logits
    labels, weight = data.labels[test], data.weight[test].astype(np.float64)
    found: dict[str, dict[str, float | None]] = {}
    for index, task in enumerate(rows.encoder.spec.tasks):
        possible = ~np.isnan(labels[:, index]) & (weight > 0)
        if index:
            possible &= labels[:, index - 1] == 1
        y, p, w = labels[possible, index], expit(logits[possible, index]), weight[possible]
        count, positives = int(possible.sum()), int(y.sum())
        values: dict[str, float | None] = {"rows": count, "positives": positives}
        if 0 < positives < count:
            values |= {"auc": auc(y, p, w)}
            if data.groups is not None and index == 0:
                try:
                    values |= {"gauc": gauc(y, p, data.groups[test][possible], w)}
                except DataError:
                    values |= {"gauc": None}
            values |= {
                "log_loss": log_loss(y, p, w),
                "normalized_entropy": normalized_entropy(y, p, w),
                "ece": ece(y, p, weight=w),
                "pcoc": pcoc(y, p, w),
            }
        found[task] = values
    if (expected := outputs.expected_value) is not None:
        found[VALUE] = _of_value(ValueRows.of(data, expected, test))
    return found


def _of_value(rows: ValueRows) -> dict[str, float | None]:
    """Metrics of the expected values; `positives` are the values above 0."""
    counts = {"rows": len(rows.values), "positives": int(np.count_nonzero(rows.values))}
    found: dict[str, float | None] = {}
    for name, metric in VALUE_METRICS.items():
        with suppress(DataError):  # undefined on these rows
            found[name] = metric(rows.values, rows.predictions, rows.weight)
    return {**counts, **found}
