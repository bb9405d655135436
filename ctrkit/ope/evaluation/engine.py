"""Where the parts of a log are worked on: in this process, or over the machines of a Ray cluster.

The same work is done on the same parts and their results are joined in the order of the parts, so that
both give the same sums.
"""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar

from ctrkit.errors import ConfigError, CtrkitError, RunError, nearest
from ctrkit.ope.evaluation.parts import LogPart

Found = TypeVar("Found")
# Told the rows done of the part in work.
OnRows = Callable[[int], None]
Work = Callable[[LogPart, OnRows], Found]

# How often a part is begun again whose worker died.
RETRIES = 5
# Of a cluster on this machine, whose parts then talk to one another within it; Ray takes 127.0.0.1 for a
# mistake and puts the machine's address in the network in its place.
LOOPBACK = "127.0.0.2"
# Parts in flight for each core: enough that none waits, few enough that results do not pile up.
AHEAD = 2


class Engine(ABC):
    """Does work on parts."""

    name: ClassVar[str]

    @abstractmethod
    def map(self, work: Work[Found], parts: Sequence[LogPart], on_rows: OnRows) -> Iterator[Found]:
        """The results in the order of the parts. `on_rows` is told how many rows of all parts are done."""


class LocalEngine(Engine):
    """One part after another, in this process."""

    name = "local"

    def map(self, work: Work[Found], parts: Sequence[LogPart], on_rows: OnRows) -> Iterator[Found]:
        before = 0
        for part in parts:
            start = before
            yield work(part, lambda rows, start=start: on_rows(start + rows))  # type: ignore[misc]
            before += part.rows
            on_rows(before)


class RayEngine(Engine):
    """Parts over the workers of a Ray cluster: that of RAY_ADDRESS, or one on this machine.

    A part whose worker dies is begun again, up to `RETRIES` times; what others found is kept.

    Args:
        workers: cores of a cluster on this machine; by default all.

    Raises:
        ConfigError: Ray is not installed.
    """

    name = "ray"

    def __init__(self, workers: int | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            raise ConfigError(
                "the engine 'ray' needs Ray, which is not installed", hint='Run pip install "ctrkit[scale]"'
            ) from error
        self._ray: Any = ray
        if not ray.is_initialized():
            # The first error of a part is raised; those of parts after it are not worth a word.
            os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
            own = "RAY_ADDRESS" not in os.environ
            local = {"num_cpus": workers, "include_dashboard": False, "_node_ip_address": LOOPBACK}
            self._ray.init(log_to_driver=False, logging_level=logging.ERROR, **(local if own else {}))

    def map(self, work: Work[Found], parts: Sequence[LogPart], on_rows: OnRows) -> Iterator[Found]:
        ray = self._ray
        run = ray.remote(max_retries=RETRIES, num_cpus=1)(_run)
        # As bytes: arrays in Ray's store cannot be written to, which makes them others to compiled code.
        shared = ray.put(ray.cloudpickle.dumps(work))
        ahead = AHEAD * max(int(ray.cluster_resources().get("CPU", 1)), 1)
        waiting = [run.remote(shared, part) for part in parts[:ahead]]
        done = 0
        for place, part in enumerate(parts):
            try:
                # As bytes too: others are added to the first that is found.
                found = ray.cloudpickle.loads(ray.get(waiting.pop(0)))
            except ray.exceptions.RayTaskError as error:
                cause = error.cause
                raise cause if isinstance(cause, CtrkitError) else error from None
            except ray.exceptions.RayError as error:
                raise RunError(f"a worker died {RETRIES + 1} times over part {place} of the log") from error
            if place + ahead < len(parts):
                waiting.append(run.remote(shared, parts[place + ahead]))
            done += part.rows
            on_rows(done)
            yield found


def _run(work: bytes, part: LogPart) -> Any:
    from ray import cloudpickle

    return cloudpickle.dumps(cloudpickle.loads(work)(part, lambda rows: None))  # type: ignore[no-untyped-call]


ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (LocalEngine, RayEngine)}


def make_engine(name: str) -> Engine:
    """The engine of a name from `ENGINES`.

    Raises:
        ConfigError: for an unknown name, or an engine that is not installed.
    """
    if name not in ENGINES:
        raise ConfigError(f"there is no engine '{name}'", hint=nearest(name, ENGINES))
    return ENGINES[name]()
