"""The live state of a server in a few numbers, from its metrics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TypeAlias

import msgspec
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

# Name of a label -> its value.
Labels: TypeAlias = dict[str, str]
_MOST = 12  # features whose drift is told


class RouteState(msgspec.Struct):
    """The requests of a route.

    Attributes:
        route: the route.
        requests: their number.
        refused: how many were refused as the caller's fault.
        failed: how many failed, with 5xx.
        p50: median of their seconds.
        p95: 95th percentile of their seconds.
        p99: 99th percentile of their seconds.
    """

    route: str
    requests: int
    refused: int
    failed: int
    p50: float | None
    p95: float | None
    p99: float | None


class TaskState(msgspec.Struct):
    """The predictions of a task.

    Attributes:
        task: the task.
        predictions: their number.
        mean: their mean; null without any.
        pcoc: by version of the model, predictions over outcomes of the window, where outcomes are known.
    """

    task: str
    predictions: int
    mean: float | None
    pcoc: dict[str, float]


class Drift(msgspec.Struct):
    """A feature that differs from training.

    Attributes:
        feature: the feature.
        kind: "missing" or "unknown", for the share of such rows, or "mean", for that of the numbers, in units
            of their scale.
        version: version of the model.
        difference: that of the window, minus that of training.
    """

    feature: str
    kind: str
    version: str
    difference: float


class State(msgspec.Struct):
    """The live state of all workers.

    Attributes:
        routes: requests by route.
        tasks: predictions by task.
        drift: the features that differ most from training.
        rows: version of the model -> rows that it has scored.
    """

    routes: list[RouteState]
    tasks: list[TaskState]
    drift: list[Drift]
    rows: dict[str, int]


def state_of(families: Iterable[Metric]) -> State:
    """The state that metrics tell."""
    samples = [sample for family in families for sample in family.samples]
    tasks = [one.labels["task"] for one in _named(samples, "ctrkit_probability_count")]
    drift = [
        Drift(one.labels["feature"], one.labels["kind"], one.labels["version"], one.value)
        for one in _named(samples, "ctrkit_drift")
    ]
    return State(
        routes=[
            _route(samples, one.labels["route"]) for one in _named(samples, "ctrkit_request_seconds_count")
        ],
        tasks=[_task(samples, task) for task in tasks],
        drift=sorted(drift, key=lambda one: -abs(one.difference))[:_MOST],
        rows={one.labels["version"]: int(one.value) for one in _named(samples, "ctrkit_rows_total")},
    )


def _named(samples: Iterable[Sample], name: str, **labels: str) -> list[Sample]:
    return [one for one in samples if one.name == name and labels.items() <= one.labels.items()]


def _route(samples: Sequence[Sample], route: str) -> RouteState:
    by_status = {
        one.labels["status"]: int(one.value) for one in _named(samples, "ctrkit_requests_total", route=route)
    }
    bounds = [
        (float(one.labels["le"]), one.value)
        for one in _named(samples, "ctrkit_request_seconds_bucket", route=route)
    ]
    return RouteState(
        route,
        sum(by_status.values()),
        sum(count for status, count in by_status.items() if status.startswith("4")),
        sum(count for status, count in by_status.items() if status.startswith("5")),
        *(quantile(bounds, share) for share in (0.5, 0.95, 0.99)),
    )


def _task(samples: Sequence[Sample], task: str) -> TaskState:
    [count] = _named(samples, "ctrkit_probability_count", task=task)
    [total] = _named(samples, "ctrkit_probability_sum", task=task)
    pcoc = {one.labels["version"]: one.value for one in _named(samples, "ctrkit_pcoc", task=task)}
    return TaskState(task, int(count.value), total.value / count.value if count.value else None, pcoc)


def quantile(bounds: Sequence[tuple[float, float]], share: float) -> float | None:
    """A quantile from the buckets of a histogram, by a straight line within a bucket.

    Args:
        bounds: (upper bound, number of values up to it), ascending; the last bound is infinite.
        share: between 0 and 1.

    Returns:
        The quantile; the last finite bound where it is above it, and None without values.
    """
    if not bounds or not bounds[-1][1]:
        return None
    rank = share * bounds[-1][1]
    for (low, below), (high, up_to) in pairwise([(0.0, 0.0), *bounds[:-1]]):
        if up_to >= rank:
            return low + (high - low) * (rank - below) / (up_to - below)
    return bounds[-2][0]
