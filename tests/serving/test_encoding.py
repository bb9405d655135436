"""Requests are encoded as the encoder encodes the same rows in a table, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrkit.data.encoder import Encoder
from ctrkit.data.raw_encoder import RawEncoder
from ctrkit.schema import FeatureSpec
from ctrkit.serving.bundle import arrays_of
from ctrkit.serving.requests import encoding
from ctrkit.serving.requests.encoding import FieldError, RequestEncoder

SPEC = FeatureSpec.model_validate(
    {
        "labels": {"click": "click"},
        "categorical": [{"name": "ad"}, {"name": "place", "buckets": 7}, {"name": "user", "min_count": 1}],
        "numeric": [
            {"name": "price", "transform": "log1p"},
            {"name": "change", "transform": "signed_log1p"},
            {"name": "age", "scale": "min_max"},
        ],
        "sequences": [
            {"name": "seen", "shares": "ad", "max_length": 5},
            {"name": "seen_in", "max_length": 5},
            {"name": "asked", "domain": "searches", "max_length": 3},
        ],
        "bags": [{"name": "tags", "max_length": 3}, {"name": "kinds", "weights": "sizes", "shares": "place"}],
        "vectors": [{"name": "image"}],
    }
)
ROWS = 60


def training_rows() -> pl.DataFrame:
    rng = np.random.default_rng(0)

    def lists(values: Any, lengths: Any) -> pl.Series:
        return pl.Series([rng.choice(values, n).tolist() for n in lengths])

    seen, kinds = rng.integers(0, 6, ROWS), rng.integers(0, 4, ROWS)
    return pl.DataFrame(
        {
            "ad": rng.choice(["7", "007", "é", "shoes ", "true"], ROWS),
            "place": rng.integers(0, 30, ROWS).astype(str),
            "user": rng.integers(0, 9, ROWS).astype(str),
            "price": rng.lognormal(size=ROWS),
            "change": rng.normal(size=ROWS) * 10,
            "age": rng.integers(18, 80, ROWS).astype(float),
            "seen": lists(["7", "007", "é", "shoes"], seen),
            "seen_in": lists(["a", "b"], seen),
            "asked": lists(["x", "y", "z"], rng.integers(0, 4, ROWS)),
            "tags": lists(["t1", "t2", "t3"], rng.integers(0, 5, ROWS)),
            "kinds": lists(["1", "2", "3"], kinds),
            "sizes": pl.Series([rng.random(n).tolist() for n in kinds]),
            "image": pl.Series(rng.normal(size=(ROWS, 2)).tolist()),
            "click": rng.integers(0, 2, ROWS),
        }
    )


ENCODER = Encoder.fit(SPEC, training_rows())
IDS = st.one_of(
    st.none(),
    st.sampled_from(
        ["7", "007", "7.0", " 7", "é", "é", "shoes", "true", "false", "", "nan", "new", "\u200b"]
    ),
    st.integers(-5, 40),
    st.sampled_from([7.0, -0.0, 2.0**40]),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
)
NUMBERS = st.one_of(st.none(), st.floats(0, 1e9), st.integers(0, 10**6), st.booleans())


def bag() -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), st.lists(IDS, max_size=5))


@st.composite
def requests(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any], int]:
    """A context and columns of candidates, with a share of the features in each."""
    rows = draw(st.integers(1, 4))
    seen = draw(st.integers(0, 5))
    context: dict[str, Any] = {
        "seen": draw(st.lists(IDS, min_size=seen, max_size=seen)),
        "seen_in": draw(st.lists(IDS, min_size=seen, max_size=seen)),
        "asked": draw(st.one_of(st.none(), st.lists(IDS, max_size=3))),
    }
    kinds = draw(st.lists(st.lists(IDS, max_size=4), min_size=rows, max_size=rows))
    each: dict[str, Any] = {
        "kinds": kinds,
        "sizes": [draw(st.lists(st.floats(0, 9), min_size=len(one), max_size=len(one))) for one in kinds],
    }
    vectors = st.one_of(st.none(), st.lists(st.floats(-9, 9), min_size=2, max_size=2))
    singles = dict.fromkeys(("ad", "place", "user"), IDS)
    singles |= dict.fromkeys(("price", "change", "age"), NUMBERS)
    for name, cells in {**singles, "tags": bag(), "image": vectors}.items():
        where = draw(st.sampled_from(["context", "candidates", "nowhere"]))
        if where == "context":
            context[name] = draw(cells)
        elif where == "candidates":
            each[name] = draw(st.lists(cells, min_size=rows, max_size=rows))
    return context, each, rows


def as_text(cell: Any) -> Any:
    """A JSON value as a text file would hold it, so that a column has one type."""
    if isinstance(cell, list):
        return [as_text(one) for one in cell]
    if isinstance(cell, bool) or cell is None:
        return None if cell is None else str(int(cell))
    return str(int(cell)) if isinstance(cell, float) else str(cell)


def frame(context: dict[str, Any], each: dict[str, Any], rows: int) -> pl.DataFrame:
    columns = {}
    for name in SPEC.feature_columns:
        cells = each.get(name, [context.get(name)] * rows)
        if name in ("price", "change", "age"):
            cells = [None if one is None else float(one) for one in cells]
            columns[name] = pl.Series(cells, dtype=pl.Float64)
        elif name in ("sizes", "image"):
            columns[name] = pl.Series(cells, dtype=pl.List(pl.Float64))
        else:
            lists = name in ("seen", "seen_in", "asked", "tags", "kinds")
            dtype = pl.List(pl.String) if lists else pl.String
            columns[name] = pl.Series([as_text(one) for one in cells], dtype=dtype)
    return pl.DataFrame(columns)


@pytest.mark.parametrize("looked_up", [0, 1 << 20])
@given(request_=requests())
def test_the_arrays_are_those_of_a_table(
    looked_up: int, request_: tuple[dict[str, Any], dict[str, Any], int]
) -> None:
    context, each, rows = request_
    wanted = arrays_of(ENCODER.encode(frame(context, each, rows), labels=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_LOOKED_UP", looked_up)
        fresh = RequestEncoder(ENCODER)
    for encoder in (fresh, REMEMBERING):
        found = encoder.encode(context, each, rows)
        assert {*found.static, *found.history} == {*wanted} - {"labels", "weight", "groups"}
        for name, array in found.static.items():
            assert array.dtype == wanted[name].dtype
            np.testing.assert_array_equal(array, wanted[name], err_msg=name)
        for name, array in found.history.items():
            np.testing.assert_array_equal(np.repeat(array, rows, axis=0), wanted[name], err_msg=name)
    for name in ("ad", "price", "tags"):
        cells = each.get(name, [context.get(name)] * rows)
        assert found.missing.get(name, 0) == sum(cell in (None, []) for cell in cells)


REMEMBERING = RequestEncoder(ENCODER)


def test_ids_that_training_did_not_know_are_counted() -> None:
    found = REMEMBERING.encode(
        {"user": "nobody"}, {"ad": ["7", "new", None], "tags": [["t1"], ["no"], []]}, 3
    )
    assert found.unknown == {"ad": 1, "user": 3, "tags": 1}
    assert found.missing["ad"] == 1
    assert found.missing["seen"] == 3


def test_what_is_remembered_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_REMEMBERED", 3)
    encoder = RequestEncoder(ENCODER)
    ads = [f"new {n}" for n in range(9)] + ["7"] * 2
    for cells in (ads, ads[::-1], ads[-4:]):
        wanted = ENCODER.ids("ad", pl.Series(cells))
        np.testing.assert_array_equal(
            encoder.encode({}, {"ad": cells}, len(cells)).static["categorical"][:, 0], wanted
        )
    assert max(len(one._known) for one in encoder._ids.values()) <= 4


def test_raw_values_are_read_again_each_time() -> None:
    raw = RawEncoder(
        FeatureSpec.model_validate({"categorical": [{"name": "ad"}], "numeric": [{"name": "price"}]})
    )
    encoder = RequestEncoder(raw)
    for cells in (["a", "b", "a"], ["b", None, "c"]):
        ids = encoder.encode({"price": 2}, {"ad": cells}, 3).static["categorical"][:, 0]
        assert raw.values("ad", ids).to_list() == cells


FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "unknown": ({"usr": 1}, {"ad": ["7"]}, "context.usr"),
    "unknown of a candidate": ({}, {"add": ["7"]}, "candidates[0].add"),
    "in both places": ({"ad": "7"}, {"ad": ["7"]}, "context.ad"),
    "history of a candidate": ({}, {"seen": [["7"]]}, "candidates[0].seen"),
    "list for one value": ({}, {"ad": ["7", ["7"]]}, "candidates[1].ad"),
    "list for a number": ({}, {"price": [1, 2, [3]]}, "candidates[2].price"),
    "text for a number": ({}, {"price": [1, "2"]}, "candidates[1].price"),
    "negative logarithm": ({}, {"price": [0, -1]}, "candidates[1].price"),
    "not finite": ({"age": float("nan")}, {"ad": ["7"]}, "context.age"),
    "infinite": ({}, {"age": [1, float("inf")]}, "candidates[1].age"),
    "too large": ({}, {"age": [10**400]}, "candidates[0].age"),
    "no whole number": ({}, {"ad": ["7", 7.5]}, "candidates[1].ad"),
    "rounded": ({}, {"ad": [1e20]}, "candidates[0].ad"),
    "rounded text": ({}, {"ad": ["7", "1.5e+20"]}, "candidates[1].ad"),
    "beyond 64 bits": ({}, {"ad": [1, 2**64]}, "candidates[1].ad"),
    "value for a list": ({}, {"tags": [["t1"], "t1"]}, "candidates[1].tags"),
    "list in a list": ({"seen": ["7", ["7"]]}, {"ad": ["7"]}, "context.seen"),
    "long history": ({"seen": ["7"] * 6, "seen_in": ["a"] * 6}, {"ad": ["7"]}, "context.seen"),
    "other length": ({"seen": ["7"], "seen_in": ["a", "b"]}, {"ad": ["7"]}, "context.seen_in"),
    "other weights": ({}, {"kinds": [["1"], ["1"]], "sizes": [[1], []]}, "candidates[1].sizes"),
    "negative weight": ({}, {"kinds": [["1"]], "sizes": [[-1]]}, "candidates[0].sizes"),
    "short vector": ({}, {"image": [[1, 2], [1]]}, "candidates[1].image"),
    "short column": ({}, {"ad": ["7", "7"], "place": ["1"]}, "candidates.place"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_told_with_their_path(fault: str) -> None:
    context, each, path = FAULTS[fault]
    with pytest.raises(FieldError) as found:
        RequestEncoder(ENCODER).encode(context, each, max(map(len, each.values())))
    assert found.value.path == path
