"""What columns mean: `FeatureSpec` for training tables, `LogSchema` for bandit and auction logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import polars as pl
from pydantic import Field, model_validator

from ctrkit.config import Config
from ctrkit.errors import DataError, nearest

# Columns that hold a simulated market's truth; no feature may read one.
TRUTH_PREFIX = "true_"
# In a bandit or auction log, `candidate_<feature>` lists a feature's value for each candidate of the row.
CANDIDATE_PREFIX = "candidate_"


class NumericFeature(Config):
    """A number, standardised by mean and deviation of the training rows after its transform."""

    name: str
    transform: Literal["none", "log1p"] = "none"


class CategoricalFeature(Config):
    """An id. Values seen fewer than `min_count` times in the training rows become the unknown id."""

    name: str
    min_count: int = Field(default=1, ge=1)


class SequenceFeature(Config):
    """A list column, oldest event first; of longer lists the newest `max_length` events are kept.

    Sequences of one spec are aligned: position i of each describes the same event. `shares` names the
    categorical feature whose ids, and embedding, the sequence uses. In a text column, as in a CSV, the
    events stand with `separator` between them.
    """

    name: str
    shares: str | None = None
    max_length: int = Field(default=50, ge=1)
    min_count: int = Field(default=1, ge=1)
    separator: str = Field(default="|", min_length=1)


class CandidateSpec(Config):
    """What a policy chooses among: the column of the action's id, and the features that go with it."""

    id: str
    features: tuple[str, ...] = ()


class FeatureSpec(Config):
    """What the columns of a training table mean.

    Attributes:
        labels: task -> column, in funnel order: each label can be 1 only where the one before is.
        group: column by which GAUC and clustered intervals group rows, usually the user.
        timestamp: column to split by time with; unix seconds or a datetime.
        weight: column of row weights.
        target: features that query the behaviour sequence (the ad in question); by default those whose
            ids a sequence shares, else all.
        profile: features of the user, for the context gate; by default all that are not the target.
        candidate: the action of a policy, needed to score the candidates of a bandit or auction log.
    """

    numeric: tuple[NumericFeature, ...] = ()
    categorical: tuple[CategoricalFeature, ...] = ()
    sequences: tuple[SequenceFeature, ...] = ()
    labels: dict[str, str] = Field(default_factory=lambda: {"click": "click"}, min_length=1)
    group: str | None = None
    timestamp: str | None = None
    weight: str | None = None
    target: tuple[str, ...] = ()
    profile: tuple[str, ...] = ()
    candidate: CandidateSpec | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        """Task names in funnel order."""
        return tuple(self.labels)

    @property
    def static_features(self) -> tuple[str, ...]:
        """Names of the features with one value a row: categorical first, then numeric."""
        return (*(f.name for f in self.categorical), *(f.name for f in self.numeric))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of all feature columns."""
        return (*self.static_features, *(s.name for s in self.sequences))

    @model_validator(mode="after")
    def _consistent(self) -> FeatureSpec:
        names = self.features
        if not self.static_features:
            raise ValueError("a spec needs at least one numeric or categorical feature")
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"feature '{min(twice)}' is declared twice")
        if leaked := set(names) & set(self.labels.values()):
            raise ValueError(f"'{min(leaked)}' is a label and cannot be a feature as well")
        if self.weight in names:
            raise ValueError(f"'{self.weight}' is the row weight and cannot be a feature as well")
        if truth := [name for name in names if name.startswith(TRUTH_PREFIX)]:
            raise ValueError(f"'{truth[0]}' holds the truth of a simulated market and cannot be a feature")
        categorical = {f.name for f in self.categorical}
        for sequence in self.sequences:
            if sequence.shares is not None and sequence.shares not in categorical:
                raise ValueError(
                    f"sequence '{sequence.name}' shares '{sequence.shares}', which is no categorical feature"
                )
        chosen = self.candidate.features if self.candidate else ()
        for role, members in (
            ("target", self.target),
            ("profile", self.profile),
            ("candidate.features", chosen),
        ):
            for name in members:
                if name not in self.static_features:
                    raise ValueError(f"{role} '{name}' is no numeric or categorical feature of this spec")
        return self


Kind = Literal["id", "integer", "number", "binary", "probability", "time", "ids", "numbers", "probabilities"]


@dataclass(frozen=True)
class Column:
    """One column of a log: its name, what it may hold and what it is called elsewhere.

    Kinds: `id` any integer or text; `integer`; `number` finite; `binary` 0 or 1; `probability` in (0, 1];
    `time` unix seconds or datetime; `ids`, `numbers`, `probabilities` the same as lists a row (the
    probabilities of a list may be 0).
    """

    name: str
    kind: Kind
    meaning: str
    aliases: tuple[str, ...] = ()
    required: bool = False
    low: float | None = None


@dataclass(frozen=True)
class LogSchema:
    """The columns of one kind of log. Columns outside the schema pass through untouched."""

    name: str
    columns: tuple[Column, ...]

    def renames(self, names: Sequence[str]) -> dict[str, str]:
        """Of a table's columns, those that are an alias of a column that is not there: alias -> name."""
        found: dict[str, str] = {}
        for column in self.columns:
            alias = next((alias for alias in column.aliases if alias in names), None)
            if alias is not None and column.name not in names:
                found[alias] = column.name
        return found

    def apply(self, table: pl.DataFrame, file: str | None = None) -> pl.DataFrame:
        """The table with aliases renamed, types cast and every value checked.

        Raises:
            DataError: names the file, the column, the first faulty row and the mend.
        """
        renames = self.renames(table.columns)
        for column in self.columns:
            if column.required and column.name not in (*table.columns, *renames.values()):
                also = f" (or {', '.join(column.aliases)})" if column.aliases else ""
                close = nearest(column.name, table.columns) if table.columns else ""
                raise DataError(
                    f"a {self.name} needs this column{also}, which holds {column.meaning}",
                    file=file,
                    column=column.name,
                    mend=f"Add or rename it. {close}" if close.startswith("Did") else "Add or rename it",
                )
        table = table.rename(renames)
        source = {new: old for old, new in renames.items()}
        checked = [
            check_column(table[c.name], c, file, source.get(c.name, c.name))
            for c in self.columns
            if c.name in table.columns
        ]
        return table.with_columns(checked)


def check_column(
    values: pl.Series, column: Column, file: str | None = None, called: str | None = None
) -> pl.Series:
    """One column cast to the type of its kind, after checking every value.

    Args:
        called: the column's name in the file, where an alias was used.

    Raises:
        DataError: for a null, a wrong type, a NaN or a value out of range, naming the first such row.
    """
    name = called or column.name

    def refuse(problem: str, row: int | None, mend: str) -> DataError:
        return DataError(problem, file=file, column=name, row=row, mend=mend)

    if values.null_count():
        row = _first(values.is_null())
        raise refuse(
            "the value is missing", row, f"Fill in or drop such rows; the column holds {column.meaning}"
        )
    if column.kind in ("ids", "numbers", "probabilities"):
        return _check_list(values, column, refuse)
    if column.kind == "id":
        if values.dtype.is_integer() or values.dtype in (pl.String, pl.Categorical, pl.Enum):
            return values.cast(pl.String) if not values.dtype.is_integer() else values
        raise refuse(f"ids are integers or text, not {values.dtype}", None, "Cast the column")
    if column.kind == "time":
        if values.dtype.is_numeric():
            _check_numbers(values.cast(pl.Float64), column, refuse)
            return values.cast(pl.Float64)
        if isinstance(values.dtype, pl.Datetime):
            return values.dt.epoch("us").cast(pl.Float64) / 1e6
        if values.dtype == pl.String:
            return _parse_time(values, refuse)
        raise refuse(f"times are unix seconds or datetimes, not {values.dtype}", None, "Cast the column")
    if values.dtype == pl.Boolean:
        values = values.cast(pl.Int8)
    if not values.dtype.is_numeric():
        wrong = values.cast(pl.String).cast(pl.Float64, strict=False)
        row = _first(wrong.is_null())
        raise refuse(
            f"{values[row or 0]!r} is not a number (the column is {values.dtype})",
            row,
            "Cast the column to numbers",
        )
    numbers = values.cast(pl.Float64)
    _check_numbers(numbers, column, refuse)
    if column.kind == "integer":
        return numbers.cast(pl.Int64)
    return numbers


def _check_numbers(numbers: pl.Series, column: Column, refuse: _Refuse) -> None:
    """Range checks on a flat Float64 series."""
    if (row := _first(~numbers.is_finite())) is not None:
        raise refuse(f"{numbers[row]} is not a finite number", row, "Fill in or drop such rows")
    if column.kind == "binary" and (row := _first((numbers != 0) & (numbers != 1))) is not None:
        raise refuse(f"{numbers[row]:g} is neither 0 nor 1", row, f"The column holds {column.meaning}")
    if column.kind == "probability" and (row := _first((numbers <= 0) | (numbers > 1))) is not None:
        raise refuse(
            f"{numbers[row]:g} is not in (0, 1]", row, "Log the probability with which the action was chosen"
        )
    if column.kind == "integer" and (row := _first(numbers != numbers.round())) is not None:
        raise refuse(f"{numbers[row]:g} is not a whole number", row, f"The column holds {column.meaning}")
    if column.low is not None and (row := _first(numbers < column.low)) is not None:
        raise refuse(f"{numbers[row]:g} is below {column.low:g}", row, f"The column holds {column.meaning}")


def _check_list(values: pl.Series, column: Column, refuse: _Refuse) -> pl.Series:
    """List columns: types of the inner values, no empty list, ranges of probabilities."""
    dtype = values.dtype
    if not isinstance(dtype, (pl.List, pl.Array)):
        raise refuse(f"a list a row is needed, not {dtype}", None, "Store it as a parquet list column")
    lists = values.cast(pl.List(dtype.inner)) if isinstance(dtype, pl.Array) else values
    if (row := _first(lists.list.len() == 0)) is not None:
        raise refuse("the list is empty", row, "Drop such rows")
    rows = pl.int_range(lists.len(), eager=True).repeat_by(lists.list.len()).explode()
    inner = lists.explode()
    if inner.null_count():
        raise refuse("the list holds a missing value", int(rows[_first(inner.is_null()) or 0]), "Fill it in")
    if column.kind == "ids":
        if inner.dtype.is_integer():
            return lists
        if inner.dtype in (pl.String, pl.Categorical, pl.Enum):
            return lists.cast(pl.List(pl.String))
        raise refuse(f"ids are integers or text, not {inner.dtype}", None, "Cast the column")
    if not inner.dtype.is_numeric():
        raise refuse(f"numbers are needed, not {inner.dtype}", None, "Cast the column")
    numbers = inner.cast(pl.Float64)
    bad = ~numbers.is_finite()
    if column.kind == "probabilities":
        bad = bad | (numbers < 0) | (numbers > 1)
    if (at := _first(bad)) is not None:
        wanted = "a probability" if column.kind == "probabilities" else "a finite number"
        raise refuse(
            f"the list holds {numbers[at]:g}, which is not {wanted}", int(rows[at]), "Mend such rows"
        )
    return lists.cast(pl.List(pl.Float64))


def _parse_time(values: pl.Series, refuse: _Refuse) -> pl.Series:
    """ISO text to unix seconds."""
    try:
        parsed = values.str.to_datetime(strict=False, time_unit="us", time_zone="UTC")
    except pl.exceptions.PolarsError:
        parsed = pl.Series(values.name, [None] * values.len(), pl.Datetime("us", "UTC"))
    if (row := _first(parsed.is_null())) is not None:
        raise refuse(f"{values[row]!r} is not a time", row, "Use unix seconds or ISO 8601 text")
    return parsed.dt.epoch("us").cast(pl.Float64) / 1e6


def _first(mask: pl.Series) -> int | None:
    """Index of the first True, or None."""
    index = mask.arg_max() if mask.any() else None
    return int(index) if index is not None else None


class _Refuse(Protocol):
    """The callback that builds the error for one column."""

    def __call__(self, problem: str, row: int | None, mend: str) -> DataError: ...


BANDIT_LOG = LogSchema(
    "bandit log",
    (
        Column("event_id", "id", "the decision's unique id", ("EventId",)),
        Column("timestamp", "time", "the time of the decision", ("ts", "Timestamp")),
        Column("user_id", "id", "the user, by whom intervals are clustered", ("cluster_id",)),
        Column("action", "id", "the action that was taken", ("item_id", "a"), required=True),
        Column(
            "propensity",
            "probability",
            "the probability with which the logging policy chose the action",
            ("pscore", "propensity_score", "action_prob", "p", "_label_probability"),
            required=True,
        ),
        Column("reward", "number", "what the action earned", ("click", "r"), required=True),
        Column("candidates", "ids", "the actions that could have been taken"),
        Column(
            "logging_probabilities",
            "probabilities",
            "the logging policy's probability of each candidate",
            ("logging_probs",),
        ),
        Column(
            "target_probability",
            "number",
            "the new policy's probability of the action that was taken",
            ("target_prob",),
            low=0.0,
        ),
        Column("position", "id", "the slot of the action on the page", ("slot",)),
        Column("slate_id", "id", "the page or banner whose slots the rows are"),
        Column(
            "marginal_propensity",
            "probability",
            "the logging policy's probability of the slot's action, whatever stands in the slots above it",
        ),
        Column(
            "target_marginal_probability",
            "number",
            "the new policy's probability of the slot's action, whatever stands in the slots above it",
            low=0.0,
        ),
        Column("logger_id", "id", "which logging policy chose, where there were several"),
        Column(
            "logger_probabilities",
            "probabilities",
            "every logger's probability of the logged action, in the order of their sorted ids",
        ),
        Column("q_logged", "number", "a model's prediction of the reward of the logged action"),
        Column("q_policy", "number", "the mean of that model's predictions under the new policy"),
        Column(
            "p_drop",
            "number",
            "the probability with which such a row was dropped from the log",
            ("pdrop",),
            low=0.0,
        ),
    ),
)

BID_LOG = LogSchema(
    "bid log",
    (
        Column("event_id", "id", "the decision's unique id", ("EventId",)),
        Column("timestamp", "time", "the time of the bid", ("ts", "Timestamp")),
        Column("user_id", "id", "the user, by whom intervals are clustered", ("cluster_id",)),
        Column("bid", "number", "the bid that was made", ("action",), required=True),
        Column(
            "density",
            "number",
            "the logging policy's probability density at the bid, per unit of the bid",
            ("pdf_value", "propensity"),
            required=True,
        ),
        Column("reward", "number", "what the bid earned", ("r",), required=True),
        Column("target_bid", "number", "the bid of the new policy"),
        Column(
            "p_drop",
            "number",
            "the probability with which such a row was dropped from the log",
            ("pdrop",),
            low=0.0,
        ),
        Column("q_logged", "number", "a model's prediction of the reward of the logged bid"),
        Column("q_policy", "number", "its prediction of the reward of the new policy's bid"),
    ),
)

AUCTION_LOG = LogSchema(
    "auction log",
    (
        Column("timestamp", "time", "the time of the auction", ("ts", "time")),
        Column("episode", "integer", "the pacing episode of the auction"),
        Column(
            "market_price",
            "number",
            "the highest competing bid, in units of money an impression",
            ("payprice", "winning_price"),
            required=True,
            low=0.0,
        ),
        Column("click", "binary", "whether the impression was clicked", ("clicked",)),
        Column("conversion", "binary", "whether the click converted"),
        Column("value", "number", "the value of a conversion", low=0.0),
        Column("pctr", "number", "the predicted probability of a click", ("pCTR", "predicted_ctr"), low=0.0),
        Column("candidates", "ids", "the ads that could fill the slot"),
    ),
)
