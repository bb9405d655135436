"""What a server counts, for Prometheus: of one process, or of all workers together."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from ctrkit.data.encoder import Encoder
from ctrkit.data.raw_encoder import RawEncoder
from ctrkit.serving.http.window import Window
from ctrkit.serving.scoring import Scores

# Of every counter its time of birth would be told too, by a single process alone.
disable_created_metrics()  # type: ignore[no-untyped-call]
# The folder in which workers share their numbers.
SHARED = "PROMETHEUS_MULTIPROC_DIR"
# Seconds, from a tenth of a millisecond; bins of probabilities.
_SECONDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_PROBABILITIES = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)


# Of labels, which workers write in the order of the alphabet.
_ORDER = ("version", "task", "feature", "kind")


class _Sum(NamedTuple):
    """A sum over the window: of which gauge, and its further label."""

    gauge: str
    version: str
    label: str = ""


class Metrics:
    """The numbers of a server.

    Args:
        seconds: length of the sliding window of calibration and drift.
    """

    def __init__(self, seconds: float) -> None:
        own = CollectorRegistry()
        self.registry, self._window = own, Window[_Sum](seconds)
        self.requests = Counter(
            "ctrkit_requests", "Requests by route and status.", ("route", "status"), registry=own
        )
        self.seconds = Histogram(
            "ctrkit_request_seconds", "Seconds of a request.", ("route",), buckets=_SECONDS, registry=own
        )
        self.stages = Histogram(
            "ctrkit_stage_seconds",
            "Seconds of a stage of a request.",
            ("stage",),
            buckets=_SECONDS,
            registry=own,
        )
        self.rows = Counter("ctrkit_rows", "Rows that were scored.", ("name", "version"), registry=own)
        self.probabilities = Histogram(
            "ctrkit_probability",
            "Predicted probabilities, each given the task before it.",
            ("task",),
            buckets=_PROBABILITIES,
            registry=own,
        )
        self.missing = Counter(
            "ctrkit_missing_rows", "Rows where a feature was absent.", ("feature",), registry=own
        )
        self.unknown = Counter(
            "ctrkit_unknown_rows", "Rows with an id that training did not know.", ("feature",), registry=own
        )
        self.cold = Counter(
            "ctrkit_cold_requests", "Requests with a key that the online store does not know.", ("key",),
            registry=own,
        )  # fmt: skip
        self.unread = Counter(
            "ctrkit_unread_requests",
            "Requests for which the online store has failed.",
            ("key",),
            registry=own,
        )
        self.unfollowed = Counter(
            "ctrkit_unfollowed_decisions",
            "Decisions that are not compared with their outcome, for lack of memory.",
            registry=own,
        )
        self.journal = Counter(
            "ctrkit_journal_entries",
            "Decisions and events by what became of them: written or dropped.",
            ("result",),
            registry=own,
        )
        self.loads = Counter(
            "ctrkit_model_loads",
            "Versions of a registry that were loaded or refused, and failed looks at it.",
            ("result",),
            registry=own,
        )
        self.shadow_requests = Counter(
            "ctrkit_shadow_requests",
            "Requests by what a model in the shadow did: scored or failed, or dropped for lack of time.",
            ("version", "result"),
            registry=own,
        )
        self.shadow_difference = Histogram(
            "ctrkit_shadow_difference",
            "Differences of its probabilities from those that decided, without sign.",
            ("version", "task"),
            buckets=_PROBABILITIES,
            registry=own,
        )
        self.models = self._gauge("ctrkit_model", "Models that have scored.", ("name", "version"), "livemax")
        self.usual = self._gauge(
            "ctrkit_usual_share", "Share of such rows in training.", ("version", "feature", "kind"), "livemax"
        )
        of_feature, of_task = ("version", "feature"), ("version", "task")
        self._sums = {
            name: self._gauge(f"ctrkit_window_{name}", told, labels, "livesum")
            for name, told, labels in (
                ("rows", "Rows of the window.", ("version",)),
                ("missing", "Rows of the window where a feature was absent.", of_feature),
                ("unknown", "Rows of the window with an unknown id.", of_feature),
                ("numbers", "Rows of the window with a number.", of_feature),
                ("shift", "Sum of their scaled numbers, minus the mean of training.", of_feature),
                ("predicted", "Sum of the predictions of the window whose outcome is known.", of_task),
                ("observed", "Sum of the outcomes of the window.", of_task),
            )
        }
        self._told: set[_Sum] = set()
        self._usual: dict[str, dict[tuple[str, str], float]] = {}

    def _gauge(self, name: str, told: str, labels: tuple[str, ...], mode: Any) -> Gauge:
        return Gauge(name, told, labels, registry=self.registry, multiprocess_mode=mode)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage of a request."""
        started = time.perf_counter()
        yield
        self.stages.labels(name).observe(time.perf_counter() - started)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            route: its route, with names for the parts that vary.
            status: the HTTP status of the reply.
            seconds: how long it took.
        """
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def journalled(self, result: str, count: int) -> None:
        """Count entries of the journal.

        Args:
            result: what became of them, `written` or `dropped`.
            count: their number.
        """
        self.journal.labels(result).inc(count)

    def model_load(self, result: str) -> None:
        """Count a version of a registry, or a look at it.

        Args:
            result: `loaded`, `refused` or `unreadable`.
        """
        self.loads.labels(result).inc()

    def compared(self, shadow: Scores, decided: Scores) -> None:
        """Count the scores of a model in the shadow.

        Args:
            shadow: its scores.
            decided: those of the model that decided, for the same candidates.
        """
        self.shadow_requests.labels(shadow.version, "scored").inc()
        for task in {*shadow.tasks} & {*decided.tasks}:
            apart = np.abs(shadow.outputs[task] - decided.outputs[task])
            _observe(self.shadow_difference.labels(shadow.version, task), apart)

    def scored(self, scores: Scores, encoder: Encoder) -> None:
        """Count the scores of a request.

        Args:
            scores: the scores.
            encoder: the encoder of their model, which knows the usual shares.
        """
        version = scores.version
        if version not in self._usual:
            self._usual[version] = _usual(encoder)
            self.models.labels(scores.name, version).set(1)
            for one, share in self._usual[version].items():
                self.usual.labels(version, *one).set(share)
        for stage, seconds in scores.stages.items():
            self.stages.labels(stage).observe(seconds)
        for task in encoder.spec.tasks:
            _observe(self.probabilities.labels(task), scores.outputs[task])
        rows = next(iter(scores.outputs.values())).size
        self.rows.labels(scores.name, version).inc(rows)
        sums = {_Sum("rows", version): float(rows)}
        sums |= {_Sum(kind, version, feature): 0.0 for feature, kind in self._usual[version]}
        for kind, counter, found in (
            ("missing", self.missing, scores.missing),
            ("unknown", self.unknown, scores.unknown),
        ):
            for feature, count in found.items():
                counter.labels(feature).inc(count)
                if kind == "missing" or (feature, kind) in self._usual[version]:
                    sums[_Sum(kind, version, feature)] = float(count)
        if scores.numbers is not None and not isinstance(encoder, RawEncoder):
            counts = (~np.isnan(scores.numbers)).sum(axis=0)
            centres = np.array([encoder.scales[one.name].centre for one in encoder.spec.numeric])
            shifts = np.nansum(scores.numbers, axis=0, dtype=np.float64) - counts * centres
            for place, number in enumerate(encoder.spec.numeric):
                sums[_Sum("numbers", version, number.name)] = float(counts[place])
                sums[_Sum("shift", version, number.name)] = float(shifts[place])
        for key in scores.cold:
            self.cold.labels(key).inc()
        for key in scores.unread:
            self.unread.labels(key).inc()
        self._window.add(sums)

    def outcome(self, version: str, task: str, predicted: float, observed: float) -> None:
        """Count a prediction whose outcome is known.

        Args:
            version: version of the model that predicted.
            task: the task.
            predicted: the probability.
            observed: 1 if it happened, else 0.
        """
        self._window.add(
            {
                _Sum("predicted", version, task): predicted,
                _Sum("observed", version, task): observed,
            }
        )

    def refresh(self) -> None:
        """Bring the sums of the window up to date."""
        sums = self._window.sums()
        for one in self._told - {*sums}:
            sums[one] = 0.0
        for one, value in sums.items():
            labels = (one.version, one.label) if one.label else (one.version,)
            self._sums[one.gauge].labels(*labels).set(value)
        self._told = {*sums}

    def families(self) -> list[Metric]:
        """All numbers, of all workers: with drift and calibration, which are ratios of sums."""
        self.refresh()
        folder = os.environ.get(SHARED)
        inner: Collector = self.registry
        if folder is not None:
            _forget_dead(Path(folder))
            inner = MultiProcessCollector(CollectorRegistry(), folder)  # type: ignore[no-untyped-call]
        found = list(inner.collect())
        return [*found, *_ratios(found)]

    def text(self) -> bytes:
        """All numbers in the text format of Prometheus."""
        return generate_latest(_Families(self.families()))


class _Families(CollectorRegistry):
    """A registry of what was collected already."""

    def __init__(self, families: list[Metric]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def _usual(encoder: Encoder) -> dict[tuple[str, str], float]:
    """(Feature, kind) -> the share of rows with a missing or an unknown value in training.

    Of lists the encoder knows the share of unknown ids, and not that of rows with one.
    """
    lists = {one.name for one in encoder.spec.listed}
    found = {(feature, "missing"): share for feature, share in encoder.usual_missing.items()}
    unknown = encoder.usual_unknown.items()
    return found | {(feature, "unknown"): share for feature, share in unknown if feature not in lists}


def _observe(histogram: Any, values: NDArray[np.float64]) -> None:
    """Count many values at once, as `observe` would one by one, which takes longer than to score them."""
    bounds = np.array(histogram._upper_bounds)
    places, counts = np.unique(np.searchsorted(bounds, values), return_counts=True)
    for place, count in zip(places.tolist(), counts.tolist(), strict=True):
        histogram._buckets[place].inc(count)
    histogram._sum.inc(float(values.sum()))


def _ratios(families: list[Metric]) -> Iterator[Metric]:
    """What follows from the sums of the window: calibration by task, and drift by feature."""
    sums = {
        (
            sample.name.removeprefix("ctrkit_"),
            *(sample.labels[one] for one in _ORDER if one in sample.labels),
        ): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith(("ctrkit_window_", "ctrkit_usual_"))
    }
    pcoc = GaugeMetricFamily(
        "ctrkit_pcoc", "Sum of predictions over sum of outcomes, of the window.", labels=("version", "task")
    )
    drift = GaugeMetricFamily(
        "ctrkit_drift",
        "Of the window, beyond training: share of rows with a missing or unknown value; mean of the numbers, "
        "in units of their scale.",
        labels=("version", "feature", "kind"),
    )
    for (name, *labels), value in sums.items():
        kind = name.removeprefix("window_")
        if kind == "observed" and value:
            pcoc.add_metric(labels, sums["window_predicted", *labels] / value)
        elif kind == "shift" and (numbers := sums["window_numbers", *labels]):
            drift.add_metric((*labels, "mean"), value / numbers)
        elif kind in ("missing", "unknown") and (rows := sums["window_rows", labels[0]]):
            usual = sums.get(("usual_share", *labels, kind), 0.0)
            drift.add_metric((*labels, kind), value / rows - usual)
    return iter((pcoc, drift))


def _forget_dead(folder: Path) -> None:
    """Leave out the gauges of workers that have ended."""
    for file in folder.glob("gauge_live*_*.db"):
        process = int(file.stem.rpartition("_")[2])
        try:
            os.kill(process, 0)  # sends nothing
        except ProcessLookupError:
            mark_process_dead(process, str(folder))  # type: ignore[no-untyped-call]
