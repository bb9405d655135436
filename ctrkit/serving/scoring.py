"""Scores the candidates of a request."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.errors import InputError
from ctrkit.serving.bundle import LOGITS, Bundle, arrays_of
from ctrkit.serving.requests.body import ScoreBody
from ctrkit.serving.requests.encoding import FieldError


@dataclass(frozen=True)
class Scores:
    """The scores of K candidates.

    Attributes:
        outputs: the columns of `Model.predict`, [K] each.
        version: version of the model.
        name: name of the model.
        missing: feature -> number of rows without it, for which a default was used.
        unknown: feature -> number of rows with an id that training did not know.
        cold: keys that the online store did not know, such as `user`.
        stages: stage -> seconds.
    """

    outputs: dict[str, NDArray[np.float64]]
    version: str
    name: str
    missing: dict[str, int]
    unknown: dict[str, int]
    cold: tuple[str, ...]
    stages: dict[str, float]


class RequestScorer:
    """One loaded model.

    Args:
        bundle: the exported model.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.name, self.version = bundle.known["name"], bundle.known["version"]
        self.tasks = bundle.encoder.spec.tasks
        self.outputs = tuple(name for name in bundle.graphs.interface.outputs if name != LOGITS)

    def score(self, body: ScoreBody) -> Scores:
        """The scores of the candidates of a request.

        Raises:
            FieldError: a feature is wrong.
        """
        started = time.perf_counter()
        encoder, graphs = self.bundle.encoder, self.bundle.graphs
        table = _table(body, encoder.spec.feature_columns)
        try:
            rows = arrays_of(encoder.encode(encoder.spec.typed(table, None), labels=False))
        except InputError as error:
            raise FieldError(f"candidates[{error.row or 0}].{error.column}", error.problem) from None
        encoded = time.perf_counter()
        found = graphs.score(rows)
        return Scores(
            outputs={name: found[name].astype(np.float64) for name in self.outputs},
            version=self.version,
            name=self.name,
            missing={column.name: count for column in table if (count := column.null_count())},
            unknown={},
            cold=(),
            stages={"encode": encoded - started, "score": time.perf_counter() - encoded},
        )


def _table(body: ScoreBody, columns: tuple[str, ...]) -> pl.DataFrame:
    """The candidates as rows with all columns of the model."""
    rows: list[dict[str, Any]]
    if isinstance(body.candidates, list):
        rows = [{**body.context, **one} for one in body.candidates]
    else:
        sizes = {len(cells) for cells in body.candidates.values()}
        if len(sizes) > 1:
            raise FieldError(f"candidates.{[*body.candidates][-1]}", "columns have different lengths")
        cells = zip(*body.candidates.values(), strict=True)
        rows = [{**body.context, **dict(zip(body.candidates, one, strict=True))} for one in cells]
    for place, row in enumerate(rows):
        for name in row:
            if name not in columns:
                where = "context" if name in body.context else f"candidates[{place}]"
                raise FieldError(f"{where}.{name}", "the model reads no such feature")
    try:
        return pl.DataFrame(
            {name: pl.Series(name, [row.get(name) for row in rows], strict=True) for name in columns}
        )
    except (TypeError, OverflowError) as error:
        raise FieldError("candidates", "values of a feature have different types") from error
