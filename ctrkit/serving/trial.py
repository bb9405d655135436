"""A model's graphs on trial: written without calibrators, to see what they give and cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.data.encoded import EncodedTable
from ctrkit.models.model import CtrModel
from ctrkit.serving.bundle import CANDIDATES, LOGITS, ROWS, arrays_of
from ctrkit.serving.export import examples_of
from ctrkit.serving.graphs import GRAPHS, CalibratedModel
from ctrkit.serving.parity import random_rows
from ctrkit.serving.reductions import Reduction, reduce_files
from ctrkit.serving.sessions import Arrays, Session, session_of
from ctrkit.serving.writing import writer_of

# Rows of a request; rows whose logits are computed together.
REQUEST, _AT_ONCE = 200, 4096
# How often two graphs are computed in turn.
_TIMES = 30


class TrialGraphs:
    """The graphs of a network that score whole rows, and the candidates of a request. Each is written when it
    is first needed.

    Args:
        network: the network.
        kind: the format.
        reductions: those that have changed the network, and change its graphs.
        folder: a folder for the files, which is not there yet.
    """

    def __init__(self, network: CtrModel, kind: str, reductions: Sequence[Reduction], folder: Path) -> None:
        folder.mkdir()
        self._model, self._kind, self._reductions, self._folder = (
            CalibratedModel(network, {}, {}), kind, reductions, folder,
        )  # fmt: skip
        self._examples = examples_of(self._model, arrays_of(random_rows(network.feature_map)))
        self._requested = CANDIDATES if CANDIDATES in self._examples else ROWS

    def logits(self, rows: EncodedTable) -> Floats:
        """The logits of rows, [n, T]."""
        arrays, session = arrays_of(rows), self._opened(ROWS)
        parts = (slice(start, start + _AT_ONCE) for start in range(0, len(rows), _AT_ONCE))
        found = [session({name: arrays[name][part] for name in session.inputs})[LOGITS] for part in parts]
        return np.concatenate(found).astype(np.float64)

    @cached_property
    def request(self) -> Session:
        """The graph that scores the rows of a request."""
        return self._opened(self._requested)

    @property
    def megabytes(self) -> float:
        """The size of that graph."""
        assert self.request
        return sum(path.stat().st_size for path in self._folder.glob(f"{self._requested}.*")) / 1e6

    def request_of(self, rows: EncodedTable) -> Arrays:
        """The first rows as a request: where there are histories, as the candidates of a random one."""
        arrays, places = arrays_of(rows), np.resize(np.arange(len(rows)), REQUEST)
        shared = self._model.interface.sequences if self._requested == CANDIDATES else ()
        given = {name: one.numpy() for name, one in self._examples[self._requested].items()}
        own = {name: arrays[name][places] for name in given if name in arrays and name not in shared}
        return {**given, **own}

    def _opened(self, name: str) -> Session:
        path = self._folder / f"{name}{session_of(self._kind).suffix}"
        write = writer_of(self._model.network, self._kind)
        write(GRAPHS[name](self._model), self._examples[name], path)
        kind = reduce_files(self._reductions, self._kind, [path])
        return session_of(kind)(path, *self._model.interface.graphs[name])


def milliseconds_of(graphs: Sequence[TrialGraphs], rows: EncodedTable) -> list[float]:
    """Median processor time in which each of some graphs scores a request; they are computed in turn."""
    work = [(one.request, one.request_of(rows)) for one in graphs]
    times = np.empty((_TIMES + 1, len(work)))
    for turn in times:
        for place, (session, arrays) in enumerate(work):
            start = time.process_time_ns()
            session(arrays)
            turn[place] = (time.process_time_ns() - start) / 1e6
    found: list[float] = np.median(times[1:], axis=0).tolist()  # the first one warms up
    return found
