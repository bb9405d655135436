"""The bootstrap: metrics on rows drawn with replacement, whole groups at a time.

If a metric takes a weight, the number of times a row was drawn becomes its weight: nothing is copied, and
rows sorted once stay sorted. For a metric that takes groups, rows are copied, and a group that was drawn
twice becomes two groups. Every column of values gets the same draws, so that differences are paired.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ctrkit.arrays import Floats, Indices
from ctrkit.errors import ConfigError, DataError
from ctrkit.metrics.checks import group_codes, held_rows, score_rows
from ctrkit.metrics.influence import Metric, need_units


@dataclass(frozen=True)
class Call:
    """How to call a metric.

    Attributes:
        metric: the function, (labels, values, ...) -> float.
        weight: the name of its argument for weights of rows; None if it takes none.
        groups: the name of its argument for each row's group; None if it takes none.
        needs_groups: whether it requires groups.
        ours: whether it is one of ctrkit's metrics, which do not depend on the order of rows.
    """

    metric: Metric
    weight: str | None
    groups: str | None
    needs_groups: bool
    ours: bool

    @staticmethod
    def of(metric: Metric, rows: int, columns: Collection[str] = ()) -> Call:
        """Read a metric's signature; `functools.partial` may set options, but no columns.

        Args:
            metric: the function.
            rows: the number of rows.
            columns: names of arguments that are passed as `columns`.

        Raises:
            ConfigError: a partial holds a column, which would not be resampled with the rows.
        """
        function, keywords = unwrap(metric)
        for name, held in keywords.items():
            if np.shape(held)[:1] == (rows,) and rows > 1:
                raise ConfigError(
                    f"the metric holds '{name}', one value per row",
                    hint=f"Pass it in `columns` by the name '{name}'",
                )
        try:
            parameters = dict(inspect.signature(metric).parameters)
        except (TypeError, ValueError):
            parameters = {}
        weight = next((name for name in ("weight", "sample_weight") if name in parameters), None)
        required = [name for name, each in parameters.items() if each.default is each.empty]
        third = next((name for name in required[2:] if name not in (*columns, weight)), None)
        groups = "groups" if "groups" in parameters else third
        needed = groups is not None and groups in required
        ours = str(getattr(function, "__module__", "")).startswith("ctrkit.")
        return Call(metric, weight, groups, needed, ours)


@dataclass(frozen=True)
class _Rows:
    """The rows to draw from, in the order in which they are kept."""

    y: Floats
    values: Floats
    codes: Indices
    weight: Floats | None
    columns: Mapping[str, NDArray[Any]]

    def take(self, order: Indices) -> _Rows:
        weight = None if self.weight is None else self.weight[order]
        columns = {name: column[order] for name, column in self.columns.items()}
        return _Rows(self.y[order], self.values[order], self.codes[order], weight, columns)


class Resampler:
    """A metric of one or more columns of values, on the given rows and on bootstrap draws of them.

    Args:
        metric: (labels, values) or (labels, values, groups=...) -> float, with or without `weight`.
        labels: 0 or 1, [N].
        values: one or more columns [N]; the metric is computed for each.
        groups: the group of each row, [N]; rows of one group are drawn together.
        weight: the weight of each row, [N], for metrics that take it.
        columns: further columns [N], by the metric's names for them.
        names: the names of the columns of values in errors.

    Raises:
        DataError: bad values, or no groups for a metric of groups.
        ConfigError: the metric takes no weight, or holds a column of its own.
    """

    def __init__(
        self,
        metric: Metric,
        labels: ArrayLike,
        values: Sequence[ArrayLike],
        groups: ArrayLike | None = None,
        weight: ArrayLike | None = None,
        columns: Mapping[str, ArrayLike] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        names = names or ["probabilities"] * len(values)
        checked = [
            score_rows(labels, each, weight, name=name) for name, each in zip(names, values, strict=True)
        ]
        rows = len(checked[0].labels)
        self.call = Call.of(metric, rows, columns or ())
        if groups is None and self.call.needs_groups:
            raise DataError("the metric needs groups", argument="groups", hint="Name the group of each row")
        if weight is not None and self.call.weight is None:
            raise ConfigError("the metric takes no weight of rows")
        held = held_rows(checked[0], groups)
        codes, self.number, self.independent = held.unit, held.units, held.independent
        need_units(self.independent, self.number)
        self.grouped = groups is not None and self.call.groups is not None
        self.by_weight = self.call.weight is not None and not self.grouped
        extra = {name: _column(column, name, rows)[held.kept] for name, column in (columns or {}).items()}
        mass = None if weight is None else held.weight
        kept = [_Rows(held.labels, each.values[held.kept], codes, mass, extra) for each in checked]
        self.point = []
        for name, each in zip(names, kept, strict=True):
            with faults_named(name):
                self.point.append(self._value(each, each.weight))
        if self.call.ours and extra:
            # The columns are checked. ctrkit's metrics need only know which rows share a value, and numbers
            # are faster.
            extra = {name: group_codes(column, len(codes))[0] for name, column in extra.items()}
            kept = [replace(each, columns=extra) for each in kept]
        if self.by_weight and self.call.ours:
            # Sorted once, so that metrics which sort find it done at every draw.
            kept = [each.take(np.argsort(each.values, kind="stable")) for each in kept]
        elif not self.by_weight and groups is not None:
            order = np.argsort(codes, kind="stable")  # groups in one piece, to be copied whole
            kept = [each.take(order) for each in kept]
        self.kept = kept

    def draws(self, number: int, seed: int) -> Floats:
        """The metric of each column of values on each draw, [draws, columns].

        Draws on which the metric is undefined (one class only) are left out.

        Raises:
            DataError: the metric is undefined on over half of the draws.
        """
        random = np.random.default_rng(seed)
        found = []
        for _ in range(number):
            times = np.bincount(random.integers(self.number, size=self.number), minlength=self.number)
            try:
                found.append(list(self._on(times)))
            except DataError:
                continue
        defined = np.array(found, np.float64).reshape(len(found), len(self.kept))
        defined = defined[np.isfinite(defined).all(axis=1)]
        if len(defined) < number / 2:
            raise DataError("the metric is undefined on most resamples of the rows", hint="Give more rows")
        return defined

    def _on(self, times: Indices) -> Iterator[float]:
        """The metric of each column, with each group of rows repeated so many times."""
        if self.by_weight:
            for each in self.kept:
                drawn = times[each.codes]
                yield self._value(each, drawn if each.weight is None else drawn * each.weight)
            return
        rows, copies = self._copies(times)
        for each in self.kept:
            taken = each.take(rows)
            yield self._value(_Rows(taken.y, taken.values, copies, taken.weight, taken.columns), taken.weight)

    def _copies(self, times: Indices) -> tuple[Indices, Indices]:
        """The rows of a draw, and the number of the group's copy that each row is in, both [rows drawn]."""
        codes = self.kept[0].codes
        size = np.bincount(codes, minlength=self.number)
        first = np.cumsum(size) - size
        drawn = np.repeat(np.arange(self.number), times)
        length = size[drawn]
        copies = np.repeat(np.arange(len(drawn)), length)
        within = np.arange(len(copies)) - (np.cumsum(length) - length)[copies]
        return first[drawn][copies] + within, copies

    def _value(self, rows: _Rows, weight: NDArray[Any] | None) -> float:
        named: dict[str, Any] = dict(rows.columns)
        if self.call.weight is not None and weight is not None:
            named[self.call.weight] = weight
        if self.grouped and self.call.groups is not None:
            named[self.call.groups] = rows.codes
        return float(self.call.metric(rows.y, rows.values, **named))


@contextmanager
def faults_named(name: str) -> Iterator[None]:
    """Name the caller's column in errors, where a metric would say `probabilities` or `scores`."""
    try:
        yield
    except DataError as error:
        if error.argument not in ("probabilities", "scores"):
            raise
        problem = error.problem.replace(error.argument, name)
        raise DataError(problem, argument=name, row=error.row, hint=error.hint) from error


def unwrap(metric: Metric) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function inside partials and their options; a partial with positional arguments stays as it is."""
    keywords: dict[str, Any] = {}
    while isinstance(metric, partial) and not metric.args:
        keywords = {**metric.keywords, **keywords}
        metric = metric.func
    return metric, keywords


def _column(values: ArrayLike, name: str, rows: int) -> NDArray[Any]:
    column = np.asarray(values)
    if column.shape[:1] != (rows,):
        raise DataError(f"labels has {rows} rows and {name} has the shape {column.shape}", argument=name)
    return column
