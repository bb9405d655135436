"""Metrics of a network on the test rows, task by task."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from ctrkit.api.models.training_rows import TrainingRows
from ctrkit.errors import DataError
from ctrkit.metrics import auc, ece, gauc, log_loss, normalized_entropy, pcoc
from ctrkit.models import CtrModel
from ctrkit.training import predict


def task_metrics(network: CtrModel, rows: TrainingRows) -> dict[str, dict[str, float | None]]:
    """Metrics of each task on the test rows where it can happen: conversions are judged on clicked rows.

    Rows count by their weights; rows of weight 0 are ignored. `rows` and `positives` are plain counts. A
    metric that is undefined on the rows is None, such as GAUC where no user has both labels.
    """
    data, test = rows.encoded, rows.split.test
    logits, _ = predict(network, data, test)
    labels, weight = data.labels[test], data.weight[test].astype(np.float64)
    found: dict[str, dict[str, float | None]] = {}
    for index, task in enumerate(rows.encoder.spec.tasks):
        possible = (labels[:, index - 1] == 1 if index else np.ones(test.size, dtype=bool)) & (weight > 0)
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
    return found
