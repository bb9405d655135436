"""Raw values as encoded rows, and back."""

from __future__ import annotations

import polars as pl
import pytest

from ctrkit.data import raw_encoder
from ctrkit.data.raw_encoder import RawEncoder
from ctrkit.schema import FeatureSpec

SPEC = FeatureSpec.model_validate({"labels": {"click": "click"}, "categorical": [{"name": "user"}]})


def test_values_are_found_again_until_many_newer_ones_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_encoder, "_REMEMBERED", 10)
    encoder = RawEncoder(SPEC)
    first = pl.Series("user", ["a", None, "ü", *map(str, range(40))])
    ids = encoder.ids("user", first)
    newer = encoder.ids("user", pl.Series("user", [f"new {number}" for number in range(10)]))
    assert encoder.values("user", ids).to_list() == first.to_list()
    for batch in range(20):
        encoder.ids("user", pl.Series("user", [f"{batch} {number}" for number in range(10)]))
    assert sum(len(of["user"]) for of in (encoder._values, encoder._before)) <= 40
    with pytest.raises(KeyError):
        encoder.values("user", newer)
