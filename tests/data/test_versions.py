from __future__ import annotations

import json

import polars as pl
import pytest

from ctrkit.data.encoder import Encoder
from ctrkit.data.versions import differences, version_of
from ctrkit.schema import FeatureSpec

SPEC = FeatureSpec.model_validate(
    {
        "numeric": [{"name": "price"}],
        "categorical": [{"name": "ad", "min_count": 1}, {"name": "device", "min_count": 1}],
    }
)
TABLE = pl.DataFrame({"price": [1.0, 2.0, 4.0], "ad": [7, 7, 9], "device": ["tv", "pc", "pc"]})
ENCODER = Encoder.fit(SPEC, TABLE)


def changed(**parts: object) -> Encoder:
    """The encoder with parts of its state replaced."""
    return Encoder.from_state({**json.loads(json.dumps(ENCODER.state())), **parts})


def test_an_encoder_keeps_its_version_through_its_plain_data() -> None:
    assert version_of(changed()) == version_of(ENCODER)
    assert differences(changed(), ENCODER) == ()


CHANGES = [
    (
        changed(vocabularies={"ad": ["7"], "device": ["pc", "tv"]}),
        "the ids of 'ad' differ: 1 only in the model",
    ),
    (
        changed(vocabularies={"ad": ["7", "9"], "device": ["tv", "pc"]}),
        "the ids of 'device' differ: the same ones in another order",
    ),
    (changed(scales={"price": [3.0, *ENCODER.state()["scales"]["price"][1:]]}), "scales.price is ["),
    (
        Encoder.fit(SPEC.model_copy(update={"categorical": (SPEC.categorical[0],)}), TABLE.drop("device")),
        "spec.categorical.device is only in the model",
    ),
    (
        Encoder.fit(SPEC.model_copy(update={"categorical": SPEC.categorical[::-1]}), TABLE),
        "spec.categorical stand in another order",
    ),
]


@pytest.mark.parametrize(("other", "said"), CHANGES, ids=[said for _, said in CHANGES])
def test_every_change_gives_another_version_and_is_named(other: Encoder, said: str) -> None:
    assert version_of(other) != version_of(ENCODER)
    found = differences(ENCODER, other, ("the model", "the data"))
    assert any(one.startswith(said) for one in found), found
