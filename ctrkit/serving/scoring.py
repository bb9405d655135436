"""Scores the candidates of a request."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from threading import RLock
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.schema.features import IMPRESSION_VALUE, VALUE
from ctrkit.serving.bundle import Bundle
from ctrkit.serving.requests.body import ScoreBody, Value
from ctrkit.serving.requests.encoding import EncodedRequest, RequestEncoder
from ctrkit.serving.requests.features import Joined, OnlineFeatures
from ctrkit.serving.rows import columns_of_outputs, outputs_of, read_rows


@dataclass(frozen=True)
class Scores:
    """The scores of K candidates.

    Attributes:
        outputs: the columns of `Model.predict`, [K] each.
        version: version of the model.
        name: name of the model.
        missing: feature -> number of rows without it, for which a default was used.
        unknown: feature -> number of rows with an id that training did not know.
        cold: keys that the online store does not know, such as `user_id`; defaults were used.
        stages: stage -> seconds.
        numbers: the scaled numbers of the rows, [K, N], NaN where one is missing; None without numbers.
        unread: keys whose features could not be read, as the online store has failed; defaults were used.
        tasks: the model's tasks, in funnel order.
        id: column of the candidates' ids; None where the model's spec names none.
        arm: `live`, or `candidate` if the user's share is that of another version.
        context: what all candidates share, with features of the online store; empty for whole rows.
        columns: column -> its values for the candidates, with features of the online store, [K]; empty for
            whole rows.
    """

    outputs: dict[str, NDArray[np.float64]]
    version: str
    name: str
    missing: dict[str, int]
    unknown: dict[str, int]
    cold: tuple[str, ...]
    stages: dict[str, float]
    numbers: NDArray[np.float32] | None = None
    unread: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    id: str | None = None
    arm: Literal["live", "candidate"] = "live"
    context: Mapping[str, Value] = field(default_factory=dict)
    columns: Mapping[str, Sequence[Value]] = field(default_factory=dict)

    def part(self, of: slice) -> Scores:
        """The outputs and the columns of some candidates; counts stay those of all."""
        outputs = {name: values[of] for name, values in self.outputs.items()}
        return replace(self, outputs=outputs, columns={name: one[of] for name, one in self.columns.items()})


class RequestScorer:
    """One loaded model. Threads that score at once encode one after another, and compute graphs together.

    Args:
        bundle: the exported model.
        online: features of users and candidates by their keys; None: requests hold all features.
    """

    def __init__(self, bundle: Bundle, online: OnlineFeatures | None = None) -> None:
        self.bundle, self._online = bundle, online
        self.name, self.version = bundle.known["name"], bundle.known["version"]
        self.tasks, chosen = bundle.encoder.spec.tasks, bundle.encoder.spec.candidate
        self._id = None if chosen is None else chosen.id
        of_value = (VALUE, IMPRESSION_VALUE) if VALUE in bundle.graphs.interface.outputs else ()
        self.outputs = (*self.tasks, *of_value)
        self._encoder, self._turn = RequestEncoder(bundle.encoder), RLock()
        self._computing = nullcontext() if bundle.graphs.parallel else self._turn

    def score(self, body: ScoreBody) -> Scores:
        """The scores of the candidates of a request: its history is encoded once.

        Raises:
            FieldError: a feature is wrong.
        """
        with self._computing:
            with self._turn:
                joined, request, stages = self._encoded(body)
            graphs = self.bundle.graphs
            if graphs.interface.sequences:
                started = time.perf_counter()
                history = graphs.encode(request.history)
                stages["history"] = time.perf_counter() - started
                started = time.perf_counter()
                found = graphs.score_candidates(request.static, history)
            else:
                started = time.perf_counter()
                found = graphs.score(request.static)
            stages["score"] = time.perf_counter() - started
        return Scores(
            outputs=columns_of_outputs(self.tasks, found),
            version=self.version,
            name=self.name,
            missing=request.missing,
            unknown=request.unknown,
            cold=joined.cold,
            stages=stages,
            numbers=request.static.get("numeric"),
            unread=joined.unread,
            tasks=self.tasks,
            context=joined.context,
            columns=joined.columns,
            id=self._id,
        )

    def _encoded(self, body: ScoreBody) -> tuple[Joined, EncodedRequest, dict[str, float]]:
        """The features of a request, with keys that are no features too; the same as arrays; and seconds."""
        started, stages = time.perf_counter(), dict[str, float]()
        # The key of the candidates need not be a feature.
        columns, rows = columns_of(body, len(self._encoder.columns) + (self._online is not None))
        joined = Joined(body.context, columns, (), ())
        if self._online is not None:
            asked = time.perf_counter()
            joined = self._online.join(body.user, body.context, columns, rows)
            stages["features"] = time.perf_counter() - asked
        request = self._encoder.encode(joined.context, joined.columns, rows)
        stages["encode"] = time.perf_counter() - started - sum(stages.values())
        whole = {**body.context, **joined.context}, {**columns, **joined.columns}
        return Joined(*whole, joined.cold, joined.unread), request, stages

    def score_rows(self, given: Mapping[str, pl.Series], rows: int) -> Scores:
        """The scores of whole rows, each with its own history.

        Args:
            given: column -> its cells; a column of the model that is not given is empty in all rows.
            rows: number of rows.

        Raises:
            DataError: a column is none of the model's, a value is wrong, or a history is too long.
        """
        started = time.perf_counter()
        with self._computing:
            with self._turn:
                read = read_rows(self.bundle.encoder, given, rows)
            encoded = time.perf_counter()
            outputs = columns_of_outputs(self.tasks, outputs_of(self.bundle, read.arrays))
        stages = {"encode": encoded - started, "score": time.perf_counter() - encoded}
        return Scores(
            outputs=outputs,
            version=self.version,
            name=self.name,
            missing=read.missing,
            unknown=read.unknown,
            cold=(),
            stages=stages,
            numbers=read.arrays.get("numeric"),
        )


def columns_of(body: ScoreBody, most: int) -> tuple[Mapping[str, Sequence[Value]], int]:
    """The columns of the candidates, and their number.

    Args:
        body: the request.
        most: number of columns that are known. One more is unknown for sure, and further ones are left out:
            rows that each bring a column of their own would fill the memory.
    """
    if isinstance(body.candidates, dict):
        return body.candidates, body.rows
    names = islice(dict.fromkeys(name for one in body.candidates for name in one), most + 1)
    return {name: [one.get(name) for one in body.candidates] for name in names}, body.rows
