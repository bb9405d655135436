"""The kinds of features: what a column, or a list in it, means to a model."""

from __future__ import annotations

from typing import Literal, Self, TypeAlias, TypeVar

from pydantic import Field, model_validator

from ctrkit.config import Config

_ROWS_FOR_A_COUNT, _MOST_COUNTS = 10_000, 10


class NumericFeature(Config):
    """A number, scaled after its transform as the training rows tell.

    Attributes:
        name: name of the column.
        transform: `log1p` is log(1 + x), and refuses negative numbers; `signed_log1p` is
            sign(x) · log(1 + |x|).
        scale: `standard` gives the training rows mean 0 and deviation 1; `min_max` puts them between 0 and 1.
    """

    name: str
    transform: Literal["none", "log1p", "signed_log1p"] = "none"
    scale: Literal["standard", "min_max"] = "standard"


class _IdFeature(Config):
    """A column of ids, or of lists of ids.

    Attributes:
        name: name of the column.
        buckets: ids are hashed into so many buckets; all values of a bucket have one id, and one vector. No
            value is unknown, and `min_count` is not read.
        hash: whether `hash_above` of the spec counts for this feature; by default it does, unless its ids are
            needed (see `FeatureSpec`).
    """

    name: str
    buckets: int | None = Field(default=None, ge=2, le=1 << 30)
    hash: bool | None = None

    @model_validator(mode="after")
    def _hashed_or_not(self) -> Self:
        if self.buckets is not None and self.hash is False:
            raise ValueError(f"'{self.name}' has `buckets` and `hash: false`; leave one of them out")
        return self


class CategoricalFeature(_IdFeature):
    """An id. Values seen fewer than `min_count` times in the training rows become the unknown id.

    Sequences that share the ids count as well. By default the number follows from the training rows: one for
    each 10,000, at most 10, because the vector of a rarer id is noise that a large model learns by heart.
    """

    min_count: int | None = Field(default=None, ge=1)

    def counted(self, rows: int) -> CategoricalFeature:
        """The same feature with its `min_count`, which may follow from the number of training rows."""
        least = self.min_count or min(max(rows // _ROWS_FOR_A_COUNT, 1), _MOST_COUNTS)
        return self.model_copy(update={"min_count": least})


class SequenceFeature(_IdFeature):
    """A list column of events, oldest first; only the newest `max_length` events are used.

    Attributes:
        name: name of the column.
        shares: the categorical feature whose ids, and embedding, the sequence uses; by default its own.
        domain: the kind of events. Sequences of one domain are aligned: position i of each describes the same
            event. Each domain is read apart, such as purchases beside clicks. By default all have the same.
        max_length: only so many events of a row are used, the newest.
        min_count: ids seen fewer times in the training rows are unknown, if the sequence has ids of its own.
        separator: separates the events of a text cell, as in a CSV; they may be in brackets instead (see
            `ctrkit.tables.cells.lists_of`).
    """

    shares: str | None = None
    domain: str | None = Field(default=None, min_length=1, exclude_if=lambda name: name is None)
    max_length: int = Field(default=50, ge=1)
    min_count: int = Field(default=1, ge=1)
    separator: str = Field(default="|", min_length=1)


class BagFeature(_IdFeature):
    """A list column of ids without order, such as the tags of an item, pooled to one vector a row.

    An empty or missing list has the vector 0. Text cells are read as those of a `SequenceFeature`.

    Attributes:
        name: name of the column.
        shares: the categorical feature whose ids, and embedding, the bag uses; by default it has its own.
        weights: list column of the weights of the ids, in the same order, each at least 0.
        pooling: `sum`, `mean` (by weight, if there are weights) or `max` of the ids' vectors.
        max_length: only so many ids of a row are used, the first.
        min_count: ids seen fewer times in the training rows are unknown, if the bag has ids of its own.
        separator: separates the ids of a text cell.
    """

    shares: str | None = None
    weights: str | None = None
    pooling: Literal["mean", "sum", "max"] = "mean"
    max_length: int = Field(default=50, ge=1)
    min_count: int = Field(default=1, ge=1)
    separator: str = Field(default="|", min_length=1)

    @model_validator(mode="after")
    def _no_weighted_maximum(self) -> BagFeature:
        if self.weights is not None and self.pooling == "max":
            raise ValueError(
                "a maximum has no weights; choose the pooling mean or sum, or remove the weights"
            )
        return self


class VectorFeature(Config):
    """A pretrained vector a row, such as the embedding of a text or an image.

    A missing vector, null or an empty list, is read as the mean of the training rows, and so is that of an id
    that the file does not hold. Text cells are read as those of a `SequenceFeature`.

    Attributes:
        name: column of the vectors, lists of numbers of one width; with `table`, only the feature's name.
        table: file that holds a vector for each id: a table, or arrays in an npz or safetensors file. The
            artifact keeps its vectors, so that predictions need no file.
        id: with `table`, the column of the rows whose ids are looked up.
        table_id: the file's column of ids; by default it has the name of `id`.
        table_vector: the file's column of vectors; by default its only list column or, without one, all other
            columns, if they are numbers.
        trained: whether training changes the file's vectors; otherwise they stay as they are.
        separator: separates the numbers of a text cell.
    """

    name: str
    table: str | None = None
    id: str | None = None
    table_id: str | None = None
    table_vector: str | None = None
    trained: bool = False
    separator: str = Field(default="|", min_length=1)

    @property
    def column(self) -> str:
        """The column of the rows that is read."""
        return self.id or self.name

    @property
    def place(self) -> tuple[str | None, ...]:
        """Where the vectors stand; features with the same place share them."""
        if self.table is None:
            return (self.name,)
        return (self.table, self.table_id or self.id, self.table_vector)

    @model_validator(mode="after")
    def _looked_up_or_not(self) -> VectorFeature:
        if self.table is not None and self.id is None:
            raise ValueError(f"vector '{self.name}' has a `table`, and no `id` to look up in it")
        of_tables = ("id", "table_id", "table_vector", "trained")
        if self.table is None and (given := [key for key in of_tables if getattr(self, key)]):
            raise ValueError(f"vector '{self.name}' has no `table`, so `{given[0]}` has no meaning")
        return self


ListFeature: TypeAlias = SequenceFeature | BagFeature
Ids = TypeVar("Ids", CategoricalFeature, SequenceFeature, BagFeature)
