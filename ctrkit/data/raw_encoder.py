"""Raw values as encoded rows, for models that have learnt from the values themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.data.encoder import Encoder
from ctrkit.data.feature_map import UNKNOWN_ID
from ctrkit.data.ids import unseen_ids
from ctrkit.data.scales import FeatureScale
from ctrkit.errors import ConfigError
from ctrkit.schema import FeatureSpec
from ctrkit.tables.cells import as_ids

# A server encodes new ids for as long as it runs. When a column has so many, older ones than the last so many
# are forgotten, before the next call.
_REMEMBERED = 1 << 20
# Numbers stay as they are, up to the largest of 32 bits.
_AS_IT_IS = FeatureScale(0.0, 1.0, float(np.finfo(np.float32).max))


class RawEncoder(Encoder):
    """An encoder that has learnt nothing: numbers stay as they are, in 32 bits, and every id has a negative
    number, from which `values` finds it again. A missing id is unknown.

    Args:
        spec: what the columns mean.

    Raises:
        ConfigError: the spec has sequences, bags, vectors or transforms.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        if kind := next((kind for kind in ("sequences", "bags", "vectors") if getattr(spec, kind)), None):
            raise ConfigError(
                f"key 'features.{kind}': a model of raw values reads one value of each column",
                hint="Remove them, and make columns of what the model reads of them",
            )
        for number in spec.numeric:
            if number.transform != "none" or number.scale != "standard":
                raise ConfigError(
                    f"key 'features.numeric': '{number.name}' has a transform or scale, but is read raw",
                    hint="Remove it, or name a column that holds what the model was trained on",
                )
        if hashed := spec.buckets:
            raise ConfigError(
                f"key 'features': '{min(hashed)}' has `buckets`, but a model of raw values reads the ids",
                hint="Remove its `buckets`",
            )
        # Nothing is known, and nothing is unusual.
        features = (*(one.name for one in spec.categorical), *(one.name for one in spec.numeric))
        vocabularies: dict[str, list[str]] = {one.name: [] for one in spec.categorical}
        usual = dict.fromkeys(features, 1.0)
        super().__init__(spec, vocabularies, {n.name: _AS_IT_IS for n in spec.numeric}, usual, usual)
        self._values: dict[str, dict[int, str]] = {name: {} for name in vocabularies}
        self._before: dict[str, dict[int, str]] = {name: {} for name in vocabularies}

    def state(self) -> dict[str, Any]:
        return {**super().state(), "raw": True}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        return cls(FeatureSpec.model_validate(state["spec"]))

    def ids(self, table: str, values: pl.Series, file: str | None = None) -> NDArray[np.int32]:
        text = as_ids(values, file)
        if len(self._values[table]) > _REMEMBERED:
            self._before[table], self._values[table] = self._values[table], {}
        distinct, known = text.unique().drop_nulls(), self._values[table]
        numbers = []
        for value, number in zip(distinct, unseen_ids(distinct).tolist(), strict=True):
            while known.setdefault(number, value) != value:  # two values with one number
                number = number + 1 if number < -1 else -(2**31)
            numbers.append(number)
        if not numbers:
            return np.full(text.len(), UNKNOWN_ID, dtype=np.int32)
        found = text.replace_strict(distinct, pl.Series(numbers, dtype=pl.Int32), default=None)
        return found.cast(pl.Int32).fill_null(UNKNOWN_ID).to_numpy()

    def values(self, table: str, ids: NDArray[np.int32]) -> pl.Series:
        """The ids as text, null where one is missing.

        Raises:
            KeyError: an id was encoded so long ago that it is forgotten.
        """
        distinct = np.unique(ids)
        new, old = self._values[table], self._before[table]
        texts = [
            None if number >= 0 else new[number] if number in new else old[number]
            for number in distinct.tolist()
        ]
        places = np.searchsorted(distinct, ids)
        return pl.Series(table, texts, dtype=pl.String).gather(places)


def encoder_of(state: Mapping[str, Any]) -> Encoder:
    """The encoder of a state, of either class.

    Raises:
        KeyError: the state is damaged; so are the causes of `Encoder.from_state`.
    """
    return (RawEncoder if state.get("raw") else Encoder).from_state(state)
