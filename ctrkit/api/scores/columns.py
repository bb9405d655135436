"""Settings that say which columns of a table of scores hold what."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace

from ctrkit.api.log_columns import LogColumns
from ctrkit.errors import ConfigError, DataError
from ctrkit.schema import LogSchema
from ctrkit.schema.scores import FUNNEL, SCORES
from ctrkit.tables import TableLike, read_chunks

_LOGITS = "If these are logits, add `logits`; divide percentages by 100"


@contextmanager
def rows_not_scores(data: TableLike | None) -> Iterator[None]:
    """Say of a table that lacks a column that it is a table of scores, where it looks like one.

    Raises:
        DataError: it is, and how to give it.
    """
    try:
        yield
    except DataError as error:
        if data is None or error.column is None:
            raise
        names = next(read_chunks(data)).table.columns
        if error.column in names or not {*FUNNEL.values()} & {*SCORES.names(names)}:
            raise
        raise DataError(
            error.problem,
            file=error.file,
            column=error.column,
            hint="This looks like a table of scores: give it without a model, as `--scores`",
        ) from error


class ScoreColumns(LogColumns):
    """The columns of a table of scores.

    Attributes:
        label: the column of labels; by default `click`, or an alias such as `clicked`, `label` or `y`. The
            label `conversion` stands for the task of that name.
        probability: the column of predicted probabilities; by default `pctr`, or an alias such as `p_click`,
            `score` or `prediction`.
        weight: the column of row weights; by default `weight` or `sample_weight`, if there is one.
        logits: whether the predictions are logits, not probabilities.
    """

    label: str | None = None
    probability: str | None = None
    weight: str | None = None
    logits: bool = False

    @property
    def task(self) -> str:
        """The task that `label` and `probability` are of."""
        names = next((c.aliases for c in SCORES.columns if c.name == "conversion"), ())
        return "conversion" if self.label in ("conversion", *names) else "click"

    @property
    def roles(self) -> dict[str, str]:
        """Name in `SCORES` -> the table's name, where one is given.

        Raises:
            ConfigError: a column is given twice.
        """
        given = {self.task: self.label, FUNNEL[self.task]: self.probability, "weight": self.weight}
        found = dict(self.map)
        for role, name in given.items():
            if name is not None and found.setdefault(role, name) != name:
                raise ConfigError(
                    f"map: '{role}' is '{found[role]}' here, and '{name}' elsewhere", hint="Name one column"
                )
        return found

    @property
    def schema_of_scores(self) -> LogSchema:
        """`SCORES` with these names, and predictions that may be logits.

        Raises:
            ConfigError: there is no such role, or a role or a column is named twice.
        """
        changed = tuple(
            replace(column, kind="number" if self.logits else "prediction", outside=_LOGITS)
            if column.name in FUNNEL.values()
            else column
            for column in SCORES.columns
        )
        return replace(SCORES, columns=changed).called(self.roles)

    def predictions(self, names: Collection[str]) -> tuple[dict[str, str], frozenset[str]]:
        """Name in `SCORES` -> a table's own name, where they differ; and all names that it has there."""
        schema = self.schema_of_scores.within(names)
        return {new: old for old, new in schema.renames(names).items()}, schema.names(names)

    def need_scores(self) -> None:
        """Check that nothing is said of a table of scores where there is none.

        Raises:
            ConfigError: a column is named.
        """
        named = [name for name in ScoreColumns.model_fields if getattr(self, name)]
        if named:
            raise ConfigError(
                f"{named[0]} is for a table of scores, and none is given", hint="Give it as `scores`"
            )
