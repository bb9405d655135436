"""The predictions of a table of scores, for an evaluation."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from ctrkit.api.evaluation.funnel import funnel
from ctrkit.api.evaluation.judging import Predictions, clicks_and_money, gate_names
from ctrkit.api.evaluation.report import SCORES
from ctrkit.api.evaluation.result import EvaluateConfig
from ctrkit.api.scores.columns import ScoreColumns
from ctrkit.api.scores.table import USER, ScoreTable, read_scores
from ctrkit.errors import ConfigError, DataError, attempt
from ctrkit.evaluation.gates import need_known
from ctrkit.evaluation.profile import values_as_text
from ctrkit.evaluation.slices import Division, by_count, occurrences
from ctrkit.evaluation.task import Scored
from ctrkit.progress import OnStep
from ctrkit.tables import TableLike, name_of

_EVENT = "event_id"
_NO_SEGMENTS = "Calibration by column is not measured: no segments are named."
_SAME_ROWS = "Give the same rows in the same order"


def score_predictions(
    source: TableLike,
    against: TableLike | None,
    segments: Sequence[str],
    settings: EvaluateConfig,
    on_step: OnStep,
) -> Predictions:
    """The predictions of a table of scores, and those to compare with.

    Args:
        source: the table.
        against: a second table of scores of the same rows, or another column of predictions in the first.
        segments: columns by whose values calibration is shown.
        settings: how to evaluate, and the names of the columns.
        on_step: called with (steps done, number of steps, what is being done).

    Raises:
        ConfigError: unknown metrics in gates, or `seeds`, which need a model.
        DataError: a faulty table (see `read_scores`), or a second table with other rows.
    """
    if settings.seeds is not None:
        raise ConfigError("seeds train models again, and a table of scores has none", hint="Leave them out")
    on_step(0, 3, "reading")
    scores = read_scores(source, settings, segments)
    other = None if against is None else _other(scores, source, against, settings)
    need_known(settings.gates, gate_names(scores.tasks, other is not None))
    notes = [f"All of the table's {scores.table.height:,} rows are evaluated.", *scores.notes]
    notes += [] if segments else [_NO_SEGMENTS]
    money = attempt(
        "table of clicks and money",
        lambda: clicks_and_money(
            scores.table, {task: task for task in scores.tasks}, settings.columns, scores.weight
        ),
        notes.append,
    )
    divisions: dict[str, Division] = {}
    if USER in scores.table.columns:
        users = scores.table[USER]
        counts = occurrences(users, users, scores.weight)
        divisions = {"user activity": by_count(counts, settings.parts, scores.weight)}
        notes.append("User activity is counted in the evaluated rows.")
    values = {name: scores.segments(name).fill_null("missing").to_numpy() for name in segments}
    first, second = _scored(scores), None if other is None else [one[scores.kept] for one in _scored(other)]
    name = name_of(source) or "a table in memory"
    return Predictions(
        name,
        None if other is None else name_of(against) or "a table in memory",
        scores.file,
        scores.label_columns,
        funnel(scores.tasks, scores.labels, scores.weight, first, second, scores.groups, values, divisions),
        scores.columns,
        money or {},
        notes,
        words=SCORES,
    )


def _other(scores: ScoreTable, source: TableLike, against: TableLike, settings: EvaluateConfig) -> ScoreTable:
    """The predictions to compare with, on the same rows."""
    if isinstance(against, str) and against in scores.table.columns and not os.path.exists(against):
        if len(scores.tasks) > 1:
            raise ConfigError(
                f"'{against}' is one column of predictions, and the table has {len(scores.tasks)} tasks",
                hint="Give a second table of scores",
            )
        beside = settings.model_copy(update={"probability": against})
        return read_scores(source, beside, labelled=False, tasks=scores.tasks)
    alike = ScoreColumns(logits=settings.logits, map=settings.roles)
    other = read_scores(against, alike, labelled=False, tasks=scores.tasks)
    if other.rows != scores.rows:
        raise DataError(
            f"there are {other.rows:,} rows, and {scores.rows:,} in the table to compare with",
            file=other.file,
            hint=_SAME_ROWS,
        )
    for name in (_EVENT, *scores.tasks, USER):
        if {name} <= {*other.table.columns} & {*scores.table.columns}:
            ours, theirs = values_as_text(scores.table[name]), values_as_text(other.table[name][scores.kept])
            if (apart := ours.ne_missing(theirs)).any():
                row = int(apart.arg_max() or 0)
                raise DataError(
                    f"{theirs[row]!r} here is {ours[row]!r} in the table to compare with",
                    file=other.file,
                    column=name,
                    row=int(scores.kept[row]),
                    hint=_SAME_ROWS,
                )
    return other


def _scored(scores: ScoreTable) -> list[Scored]:
    """The predictions of each task and, if there are several, last of their product.

    Rows are ranked by the log-odds of a task: of logits, they tell apart what rounds to 1.
    """
    found = [
        Scored(np.ascontiguousarray(p), np.ascontiguousarray(z))
        for p, z in zip(scores.probabilities.T, scores.logits.T, strict=True)
    ]
    if len(found) > 1:
        product = scores.probabilities.prod(axis=1)
        found.append(Scored(product, product))
    return found
