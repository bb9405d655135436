"""Pretrained vectors as the encoder reads them, from columns and from files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from ctrkit.array_files import read_arrays, write_arrays
from ctrkit.data.encoder import Encoder
from ctrkit.data.feature_map import FeatureMap, VectorField
from ctrkit.data.fingerprints import row_hashes
from ctrkit.data.learning import Learning
from ctrkit.data.versions import differences, version_of
from ctrkit.errors import DataError
from ctrkit.nn.batches import Batch
from ctrkit.schema import FeatureSpec

RNG = np.random.default_rng(0)
IDS = np.arange(100, 140)
EMBEDDING = RNG.normal(2.0, [0.1, 1.0, 30.0], (40, 3)).astype(np.float32)
# One id without a vector, and one that is missing.
ITEMS = [*RNG.choice(IDS, 500).tolist(), 999, None]


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "embedding.parquet"
    pl.DataFrame({"item": IDS, "embedding": EMBEDDING.tolist()}).write_parquet(path)
    return str(path)


def spec_of(*vectors: dict[str, Any], **others: Any) -> FeatureSpec:
    return FeatureSpec.model_validate({"vectors": vectors, **others})


def looked_up(file: str, **more: Any) -> dict[str, Any]:
    return {"name": "image", "table": file, "id": "item", **more}


def rows(items: list[int | None] = ITEMS) -> pl.DataFrame:
    """Rows with ids as text, and the vectors of these joined by hand."""
    place = {int(one): at for at, one in enumerate(IDS)}
    own = [EMBEDDING[place[one]].tolist() if one in place else None for one in items]
    return pl.DataFrame(
        {
            "item": [None if one is None else str(one) for one in items],
            "own": pl.Series(own, dtype=pl.List(pl.Float32)),
            "click": (np.arange(len(items)) % 2),
        }
    )


def dense(encoder: Encoder, table: pl.DataFrame) -> dict[str, np.ndarray]:
    batch = Batch.of(encoder.encode(table), slice(None))
    return {name: vectors.numpy() for name, vectors in batch.vectors.items()}


def test_a_vector_that_is_looked_up_is_the_one_joined_by_hand_to_the_last_bit(file: str) -> None:
    table = rows()
    found = dense(Encoder.fit(spec_of(looked_up(file), {"name": "own"}), table), table)
    np.testing.assert_array_equal(found["image"], found["own"])
    assert np.isnan(found["image"]).all(axis=1).tolist() == [False] * 500 + [True] * 2


def test_a_vector_is_scaled_as_its_numbers_are(file: str) -> None:
    table = rows(ITEMS[:500])
    numbers = [pl.Series(f"x{at}", table["own"].list.get(at)) for at in range(3)]
    spec = spec_of({"name": "own"}, numeric=[{"name": one.name} for one in numbers])
    encoder = Encoder.fit(spec, table.with_columns(numbers))
    data = encoder.encode(table.with_columns(numbers))
    vectors = data.vectors["own"].values
    np.testing.assert_allclose(vectors, data.numeric, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(vectors.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(vectors.std(axis=0), 1.0, rtol=1e-5)
    far = table[:1].with_columns(own=pl.Series([[1e9, 2.0, -3e38]]))
    clipped = encoder.encode(far.with_columns(pl.lit(0.0).alias(one.name) for one in numbers))
    assert clipped.vectors["own"].values[0, [0, 2]].tolist() == [100.0, -100.0]


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_what_is_learnt_does_not_depend_on_chunks(
    file: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctrkit.data.vector_learning.BLOCK", 64)
    table, spec = rows(), spec_of(looked_up(file), looked_up(file, name="again"), {"name": "own"})
    whole, parts = Learning(spec, table.height), Learning(spec, table.height)
    whole.add(table, np.arange(table.height), None)
    for first in range(0, table.height, chunk):
        part = table[first : first + chunk]
        parts.add(part, np.arange(part.height), None)
    one, other = (
        Encoder(spec, learning.vocabularies(), {}, stocks=learning.vectors()) for learning in (whole, parts)
    )
    assert version_of(one) == version_of(other)


def test_constant_numbers_and_those_of_other_rows(file: str) -> None:
    table = pl.DataFrame({"own": [[1.0, 5.0], [3.0, 5.0], [2.0, 7.0]], "click": [0, 1, 0]})
    encoder = Encoder.fit(spec_of({"name": "own"}), table, rows=np.array([0, 1]))
    # The third row is no training row: mean 2 and deviation 1; what never changed says nothing.
    np.testing.assert_array_equal(dense(encoder, table)["own"], [[-1, 0], [1, 0], [0, 0]])


def test_features_that_share_a_file_hold_it_once_and_a_state_brings_them_back(
    file: str, tmp_path: Path
) -> None:
    seen = looked_up(file, name="seen", id="before", table_id="item")
    spec = spec_of(looked_up(file, trained=True), seen, {"name": "own"})
    table = rows().with_columns(before=pl.lit(100))
    encoder = Encoder.fit(spec, table)
    data = encoder.encode(table)
    assert data.vectors["image"].values is data.vectors["seen"].values
    assert set(encoder.state()["vectors"]) == {"image", "own"}
    path = write_arrays(encoder.state(), tmp_path / "state.zip")
    assert path.read_bytes().count(data.vectors["image"].values[1:].tobytes()) == 1
    again = Encoder.from_state(read_arrays(path))
    assert version_of(again) == version_of(encoder)
    assert again.encode(table).fingerprint() == data.fingerprint()
    features = encoder.feature_map()
    assert features.fields == ("image", "seen", "own")
    assert features.vectors == {
        "image": VectorField(3, "image", 41), "seen": VectorField(3), "own": VectorField(3)
    }  # fmt: skip
    assert FeatureMap.from_dict(json.loads(json.dumps(features.to_dict()))) == features


def test_rows_of_a_batch_and_the_rows_that_are_taken(file: str) -> None:
    encoder, table = Encoder.fit(spec_of(looked_up(file), {"name": "own"}), rows()), rows()
    data, chosen = encoder.encode(table), np.array([501, 3, 3, 0])
    batch, expected = Batch.of(data, chosen), dense(encoder, table)
    assert batch.vector_rows["image"].tolist() == [0, *(int(table["item"][at]) - 99 for at in (3, 3, 0))]
    assert set(batch.vector_rows) == {"image"}
    for name in ("image", "own"):
        np.testing.assert_array_equal(batch.vectors[name].numpy(), expected[name][chosen])
        taken = data.vectors[name].of_rows(chosen)
        both = taken.followed_by(data.vectors[name])
        assert (len(taken.by_row), len(both.by_row)) == (4, 506)
        np.testing.assert_array_equal(both.by_row[:4], taken.by_row)
        np.testing.assert_array_equal(both.by_row[4:], data.vectors[name].by_row)


def test_vectors_in_text_are_those_in_lists(tmp_path: Path) -> None:
    table = rows()
    cells = [None if one is None else "|".join(map(str, one)) for one in table["own"].to_list()]
    table.with_columns(own=pl.Series(cells)).write_csv(tmp_path / "t.csv")
    spec = spec_of({"name": "own"})
    found, name = spec.read(tmp_path / "t.csv")
    fixed = table[:500].with_columns(pl.col("own").list.to_array(3))
    for one, other in ((table, found), (table[:500], fixed)):
        assert version_of(Encoder.fit(spec, one)) == version_of(Encoder.fit(spec, other, name))
    width_one = pl.DataFrame({"own": ["0.5", "1.5"], "click": [0, 1]})
    width_one.write_csv(tmp_path / "one.csv")
    found, name = spec.read(tmp_path / "one.csv")
    assert dense(Encoder.fit(spec, found, name), found)["own"].tolist() == [[-1.0], [1.0]]


@pytest.mark.parametrize(
    "kind", ["wide.csv", "text.csv", "lines.jsonl", "a.npz", "a.safetensors", "wide.parquet"]
)
def test_files_of_each_kind_hold_the_same_vectors(kind: str, file: str, tmp_path: Path) -> None:
    lists, path = pl.read_parquet(file), tmp_path / kind
    wide = lists.select("item", *(pl.col("embedding").list.get(at).alias(f"d{at}") for at in range(3)))
    if kind == "wide.csv":
        wide.write_csv(path)
    elif kind == "wide.parquet":
        # Rows without any number are ids without a vector.
        more = pl.DataFrame({"item": [7], "d0": [None], "d1": [None], "d2": [None]}, schema=wide.schema)
        pl.concat([wide, more]).write_parquet(path)
    elif kind == "text.csv":
        text = pl.Series("embedding", [json.dumps(one) for one in lists["embedding"].to_list()])
        lists.with_columns(text).write_csv(path)
    elif kind == "lines.jsonl":
        lists.write_ndjson(path)
    elif kind == "a.npz":
        np.savez(path, item=IDS.astype("U"), values=EMBEDDING)
    else:
        save_file({"item": IDS, "values": EMBEDDING}, path)
    table = rows()
    one, other = (dense(Encoder.fit(spec_of(looked_up(str(of))), table), table) for of in (file, path))
    np.testing.assert_array_equal(one["image"], other["image"])


def test_arrays_of_16_bits_and_columns_of_other_names(tmp_path: Path, file: str) -> None:
    np.savez(tmp_path / "h.npz", ad=IDS, e=EMBEDDING.astype(np.float16), other=EMBEDDING)
    vector = looked_up(str(tmp_path / "h.npz"), table_id="ad", table_vector="e")
    table = rows()
    found = dense(Encoder.fit(spec_of(vector), table), table)
    near = dense(Encoder.fit(spec_of(looked_up(file)), table), table)
    np.testing.assert_allclose(found["image"], near["image"], atol=0.03)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ([1.0, 2.0], "the vector has 2 numbers, not 3 as the others"),
        ([1.0, float("nan"), 2.0], "the vector holds nan, which is no finite number"),
        ([1.0, None, 2.0], "the vector holds None, which"),
        ([1.0, float("inf"), 2.0], "the vector holds inf, which"),
        ([1.0, 1e300, 2.0], r"the vector holds 1e\+300, which is no finite number of 32 bits"),
        (["1", "x", "2"], "the vector holds 'x', which"),
    ],
)
@pytest.mark.parametrize("learns", [False, True])
def test_bad_vectors_are_named(cell: list[Any], said: str, learns: bool) -> None:
    spec, good = spec_of({"name": "own"}), [[1.0, 2.0, 3.0], None, [2.0, 2.0, 2.0]]
    table = pl.DataFrame({"own": good, "click": [0, 1, 0]})
    encoder = Encoder.fit(spec, table)
    cells = [[str(v) for v in one] if one and isinstance(cell[0], str) else one for one in [*good, cell]]
    bad = pl.DataFrame({"own": pl.Series(cells), "click": [0, 1, 0, 0]})
    with pytest.raises(DataError, match=said) as caught:
        _ = Encoder.fit(spec, bad, "t.parquet") if learns else encoder.encode(bad, "t.parquet")
    assert (caught.value.file, caught.value.column, caught.value.row) == ("t.parquet", "own", 3)


def test_columns_that_hold_no_vectors_are_named() -> None:
    spec = spec_of({"name": "own"})
    for cells, said in (
        ([0.5, 1.5], "one list for each row, not Float64"),
        ([None, None], "the training rows have no vector in this column"),
        (pl.Series([[], []], dtype=pl.List(pl.Float32)), "the training rows have no vector in this column"),
    ):
        with pytest.raises(DataError, match=said) as caught:
            Encoder.fit(spec, pl.DataFrame({"own": cells, "click": [0, 1]}))
        assert caught.value.column == "own"
    with pytest.raises(DataError, match="column is missing"):
        Encoder.fit(spec, pl.DataFrame({"click": [0, 1]}))


@pytest.mark.parametrize(
    ("content", "said", "row"),
    [
        ({"ite": [1], "e": [[1.0]]}, "the file of vectors has no such column.*Did you mean 'ite'", None),
        ({"item": ["1", "2", "2.0"], "e": [[1.0], [2.0], [3.0]]}, "'2' has a second vector here", 2),
        ({"item": [1, None], "e": [[1.0], [2.0]]}, "the vector has no id", 1),
        ({"item": [1, 2], "e": [[1.0], [2.0, 3.0]]}, "2 numbers, not 1 as the others", 1),
        ({"item": [1, 2], "e": [[1.0], [float("nan")]]}, "holds nan", 1),
        ({"item": [1, 2], "e": [[1.0], [2.0]], "f": [[1.0], [2.0]]}, "does not say which column holds", None),
        ({"item": [1, 2], "e": [1.0, 2.0], "name": ["a", "b"]}, "does not say which column holds", None),
        ({"item": [1, 2]}, "does not say which column holds vectors .it has no other column", None),
        ({"item": [1], "e": pl.Series([None], dtype=pl.List(pl.Float32))}, "the file holds no vector", None),
        ({"item": [1.5], "e": [[1.0]]}, "ids are integers or text, not Float64", None),
        (
            {"item": ["a", "b"], "e": [[1.0], [2.0]]},
            "no id of the training rows is in .*'100'|rows have",
            None,
        ),
    ],
)
def test_bad_files_are_named(content: dict[str, Any], said: str, row: int | None, tmp_path: Path) -> None:
    path = tmp_path / "e.parquet"
    pl.DataFrame(content).write_parquet(path)
    with pytest.raises(DataError) as caught:
        Encoder.fit(spec_of(looked_up(str(path))), rows(), "t.parquet")
    assert re.search(said, str(caught.value))
    if row is not None:
        assert (caught.value.file, caught.value.row) == (str(path), row)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    table = rows()
    np.savez(tmp_path / "objects.npz", item=np.array([{}], dtype=object))
    np.savez(tmp_path / "lengths.npz", item=IDS[:3], e=EMBEDDING)
    (tmp_path / "bad.safetensors").write_bytes(b"no arrays")
    for name, said in (
        ("objects.npz", "the arrays of this file cannot be read"),
        ("lengths.npz", "the arrays of this file cannot be read"),
        ("bad.safetensors", "the arrays of this file cannot be read"),
        ("none.npz", "no such file of vectors. Correct the path `table`"),
        ("none.parquet", "no such file of vectors. Correct the path `table`"),
    ):
        with pytest.raises(DataError, match=said) as caught:
            Encoder.fit(spec_of(looked_up(str(tmp_path / name))), table)
        assert caught.value.file == str(tmp_path / name)


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        ({"name": "v", "table": "e.parquet"}, "has a `table`, and no `id` to look up"),
        ({"name": "v", "id": "item"}, "has no `table`, so `id` has no meaning"),
        ({"name": "v", "trained": True}, "has no `table`, so `trained` has no meaning"),
        ({"name": "v", "table": "e.parquet", "id": "click"}, "'click' is a label"),
        ({"name": "v", "table": "e.parquet", "id": "true_item"}, "'true_item' holds the truth"),
        ({"name": "price"}, "feature 'price' is declared twice"),
        ({"name": "v", "width": 3}, "Extra inputs|width"),
    ],
)
def test_vectors_without_meaning_are_refused(vector: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        spec_of(vector, numeric=[{"name": "price"}])


def test_another_file_is_another_version_and_other_rows(file: str) -> None:
    spec, table = spec_of(looked_up(file)), rows()
    one = Encoder.fit(spec, table)
    pl.DataFrame(
        {"item": IDS, "embedding": (EMBEDDING + 1e-3 * RNG.normal(size=(40, 3))).tolist()}
    ).write_parquet(file)
    other = Encoder.fit(spec, table)
    assert version_of(one) != version_of(other)
    assert differences(one, other) == ("the vectors of 'image' differ",)
    assert one.encode(table).fingerprint() != other.encode(table).fingerprint()
    # A row is known again by its id, or by the numbers of its own vector.
    assert (row_hashes(one.encode(table)) == row_hashes(other.encode(table))).all()
    own = Encoder.fit(spec_of({"name": "own"}), table)
    changed = table.with_columns(own=pl.Series([[1.0, 2.0, 3.0], *table["own"].to_list()[1:]]))
    same = row_hashes(own.encode(table)) == row_hashes(own.encode(changed))
    assert same.tolist() == [False, *[True] * (table.height - 1)]


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("unit", [0.0, 1.0, 1.0]),
        ("zero", [0.0]),
        ("bound", [1.0, float("nan"), 1.0]),
        ("ids", ["1"]),
        ("values", np.zeros((40, 2), dtype=np.float32)),
    ],
)
def test_damaged_states_are_refused(file: str, part: str, value: Any) -> None:
    state = Encoder.fit(spec_of(looked_up(file)), rows()).state()
    state["vectors"]["image"][part] = value
    with pytest.raises(ValueError, match="vectors"):
        Encoder.from_state(state)
    del state["vectors"]["image"]["ids"]
    with pytest.raises((ValueError, KeyError)):
        Encoder.from_state(state)


def test_rows_without_vectors_and_far_ones_are_told(file: str) -> None:
    table = rows(ITEMS[:500])
    encoder = Encoder.fit(spec_of(looked_up(file), {"name": "own"}), table)
    assert encoder.unlike(table) == ()
    new = table.with_columns(item=pl.lit("5"), own=pl.Series([[9e5] * 3] * 500))
    unknown, far = encoder.unlike(new)
    assert "Feature 'image': 100% of the ids have no vector (in training 0%), such as '5'" in unknown
    assert "Column 'own': 100.0% of the vectors have numbers far outside" in far
    empty = table.with_columns(
        item=pl.lit(None, dtype=pl.String), own=pl.lit(None, dtype=pl.List(pl.Float32))
    )
    notes = encoder.unlike(empty)
    assert [note.partition(":")[0] for note in notes] == ["Column 'image'", "Column 'own'"]
    assert all("100% of the rows have no value" in note for note in notes)
    log = pl.DataFrame({"candidate_own": [[[1.0, 2.0, 3.0]] * 2] * 10, "candidate_item": [["5", "6"]] * 10})
    spec = spec_of(looked_up(file), {"name": "own"}, candidate={"id": "ad", "features": ["image", "own"]})
    (note,) = Encoder.fit(spec, table.with_columns(ad=pl.lit(1))).unlike(log)
    assert "100% of the ids have no vector" in note
