from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ctrkit.data.bins import Bins
from ctrkit.data.feature_map import FeatureMap
from ctrkit.errors import ConfigError
from ctrkit.models import build_model, model_config
from ctrkit.nn.batches import Batch
from ctrkit.nn.linear_terms import MOST_CELLS, LinearTerms

EDGES = (-1.0, 0.0, 0.75)
MAP = FeatureMap(
    tables={"user": 8, "item": 7, "kind": 5, "word": 6},
    categorical={"user": "user", "item": "item", "kind": "kind"},
    numeric=("age", "price"),
    bins={"age": Bins(), "price": Bins(EDGES, (0.7, 0.4))},
    sequences={"items": "item", "words": "word"},
    max_length=4,
    target=("item", "kind"),
    tasks=("click", "conversion"),
)
CROSSES = (("user", "item"), ("price", "user"), ("kind", "price", "item"))
HISTORIES, CANDIDATES = 6, 2
ROWS = HISTORIES * CANDIDATES


def made(feature_map: FeatureMap = MAP, length: int = 4) -> tuple[Batch, dict[str, torch.Tensor]]:
    """Rows with unseen and missing values, and histories of every length, two candidates for each."""
    rng = np.random.default_rng(1)
    present = np.arange(length - 1, -1, -1) < (np.arange(HISTORIES) % (length + 1))[:, None]

    def draw(size: int, *shape: int) -> np.ndarray:
        ids = rng.integers(1, size, shape)
        return np.where(rng.random(shape) < 0.2, -3, ids).astype(np.int32)

    columns = [draw(feature_map.tables[table], ROWS) for table in feature_map.categorical.values()]
    numeric = rng.normal(size=(ROWS, len(feature_map.numeric))).astype(np.float32)
    numeric[rng.random(numeric.shape) < 0.2] = np.nan
    if numeric.shape[1] == 2:
        numeric[:4, 1] = (*EDGES, np.nan)  # an edge belongs to the bin above it
    sequences = {
        name: torch.from_numpy(draw(feature_map.tables[table], HISTORIES, length) * present).int()
        for name, table in feature_map.sequences.items()
    }
    categorical = np.stack(columns, axis=1) if columns else np.zeros((ROWS, 0), dtype=np.int32)
    batch = Batch(
        torch.from_numpy(categorical), torch.from_numpy(numeric), {}, torch.zeros(ROWS, 0), torch.ones(ROWS)
    )
    return batch, sequences


def filled(terms: LinearTerms) -> LinearTerms:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weights in (terms.cells, terms.slopes, terms.bias):
            weights.copy_(torch.randn(weights.shape, generator=generator))
    return terms


def id_of(name: str, row: int, batch: Batch, sequences: dict[str, torch.Tensor], each: int) -> int:
    """The id of a field, the bin of a number, or the id of the newest event, by the feature map alone."""
    if name in MAP.categorical:
        one = int(batch.categorical[row, list(MAP.categorical).index(name)])
        return 1 if one < 0 else one
    if name in MAP.numeric:
        number = float(batch.numeric[row, MAP.numeric.index(name)])
        return 0 if np.isnan(number) else 1 + sum(number >= edge for edge in EDGES)
    events = sequences[name][row // each]
    one = int(events[-1]) if len(events) else 0
    return 1 if one < 0 else one


SIZES = {"user": 8, "item": 7, "kind": 5, "price": 5, "items": 7, "words": 6}
COLUMNS = (
    *((name,) for name in ("user", "item", "kind", "price", "items", "words")), *CROSSES, ("items", "item")
)  # fmt: skip


@pytest.mark.parametrize("length", [4, 0])
def test_logits_are_those_of_loops_over_columns(length: int) -> None:
    batch, sequences = made(length=length)
    terms = filled(LinearTerms(MAP, CROSSES))
    assert terms.names == tuple(" x ".join(column) for column in COLUMNS)
    assert terms.sizes == tuple(int(np.prod([SIZES[name] for name in column])) for column in COLUMNS)
    assert terms.number_groups == (2, 4)
    cells, slopes = terms.cells.numpy(), terms.slopes.detach().numpy()
    starts = np.cumsum([0, *terms.sizes])
    found = terms(batch, sequences).detach().numpy()
    assert terms.matches is not None
    decays = terms.matches.decays.detach().numpy()[0]
    for row in range(ROWS):
        expected = terms.bias.numpy().astype(np.float64)
        for start, column in zip(starts[:-1], COLUMNS, strict=True):
            cell, stride = 0, 1
            for name in column:
                cell += stride * id_of(name, row, batch, sequences, CANDIDATES)
                stride *= SIZES[name]
            expected += cells[start + cell]
        for number in range(2):
            value = float(batch.numeric[row, number])
            expected += (0.0 if np.isnan(value) else value) * slopes[number]
        target = int(batch.categorical[row, 1])
        for place, decay in enumerate(decays):
            count = sum(
                np.exp(-decay * age)
                for age, event in enumerate(reversed(sequences["items"][row // CANDIDATES].tolist()))
                if event == target != 1
            )
            expected += np.log1p(count) * slopes[2 + place]
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-5)


def test_every_combination_has_a_cell_of_its_own() -> None:
    terms = LinearTerms(MAP, [("kind", "price", "item")])
    kind, price, item = (one.ravel() for one in np.meshgrid(range(5), range(5), range(7)))
    numbers = np.array([np.nan, -2.0, -0.5, 0.3, 2.0])[price]
    batch = Batch(
        torch.from_numpy(np.stack([np.zeros_like(item), item, kind], axis=1)).int(),
        torch.from_numpy(np.stack([numbers, numbers], axis=1)).float(),
        {},
        torch.zeros(175, 0),
        torch.ones(175),
    )
    sequences = {name: torch.zeros(175, 0, dtype=torch.int32) for name in MAP.sequences}
    cells = terms.positions(batch, sequences)[:, terms.names.index("kind x price x item")]
    assert np.unique(cells).size == 175
    start = sum(terms.sizes[: terms.names.index("kind x price x item")])
    assert (cells.min(), cells.max()) == (start, start + 174)


@pytest.mark.parametrize("sizes", [(1000, 700), (1 << 18, 50), (1 << 16, 1 << 16)], ids=str)
def test_a_cross_of_many_cells_shares_them_evenly(sizes: tuple[int, int]) -> None:
    """Random pairs fall on the number of cells that a random function would give, and both fields count."""
    large = FeatureMap(tables={"a": sizes[0], "b": sizes[1]}, categorical={"a": "a", "b": "b"})
    terms = LinearTerms(large, [("a", "b")])
    assert terms.sizes[2] == MOST_CELLS < sizes[0] * sizes[1]
    rng = np.random.default_rng(0)
    draws = np.unique(np.stack([rng.integers(2, size, 100_000) for size in sizes], axis=1), axis=0)

    def cells_of(ids: np.ndarray) -> np.ndarray:
        count = len(ids)
        batch = Batch(
            torch.from_numpy(ids).int(), torch.zeros(count, 0), {}, torch.zeros(count, 0), torch.ones(count)
        )
        return terms.positions(batch, {})[:, 2].numpy() - sum(terms.sizes[:2])

    cells = cells_of(draws)
    assert 0 <= cells.min() <= cells.max() < MOST_CELLS
    expected = MOST_CELLS * (1.0 - (1.0 - 1.0 / MOST_CELLS) ** len(draws))
    assert np.unique(cells).size > 0.9 * expected
    of_one = cells_of(np.stack([np.full(40, 7), np.arange(2, 42)], axis=1))
    assert np.unique(of_one).size > 30


def test_a_cross_of_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"model.crosses: 'itm' is no categorical.*Did you mean 'item'"):
        LinearTerms(MAP, [("user", "itm")])
    with pytest.raises(ConfigError, match="'age' is no categorical feature, and no number with bins"):
        LinearTerms(MAP, [("user", "age")])  # it has no bins
    with pytest.raises(ConfigError, match="'itm'"):
        build_model(model_config({"name": "dnn", "crosses": [["user", "itm"]]}), MAP)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"sequences": {}, "max_length": 0}, ("user", "item", "kind", "price", "user x kind")),
        (
            {"categorical": {}, "target": ()},
            ("price", "items", "words", "price x price"),
        ),
        (
            {"numeric": (), "bins": {}},
            ("user", "item", "kind", "items", "words", "user x kind", "items x item"),
        ),
        ({"numeric": ("age",), "bins": {}, "categorical": {}, "sequences": {}, "target": ()}, ()),
    ],
)  # fmt: skip
def test_maps_without_some_kinds_of_features(change: dict[str, Any], names: tuple[str, ...]) -> None:
    feature_map = replace(MAP, **change)
    crosses = [tuple(name.split(" x ")) for name in names if name in ("user x kind", "price x price")]
    terms = filled(LinearTerms(feature_map, crosses))
    assert terms.names == names
    batch, sequences = made(feature_map)
    cells, numbers = terms.positions(batch, sequences), terms.number_columns(batch, sequences)
    assert cells.shape == (ROWS, len(names))
    assert numbers.shape == (ROWS, terms.numbers)
    expected = np.tile(terms.bias.numpy(), (ROWS, 1)).astype(np.float64)
    for row in range(ROWS):
        expected[row] += terms.cells.numpy()[cells[row]].sum(axis=0)
        expected[row] += numbers[row].detach().numpy() @ terms.slopes.detach().numpy()
    np.testing.assert_allclose(terms(batch, sequences).detach(), expected, rtol=1e-4, atol=1e-5)


def test_terms_can_be_left_out() -> None:
    bare = LinearTerms(MAP, match_terms=False, pair_terms=False, co_occurrence_terms=False)
    assert bare.names == ("user", "item", "kind", "price", "items", "words")
    assert bare.number_groups == (2,)
    assert LinearTerms(MAP, pair_terms=False).number_groups == (2, 4)
    assert LinearTerms(MAP, match_terms=False).names[-1] == "items x item"
    off = {"match_terms": False, "pair_terms": False, "co_occurrence_terms": False}
    other = {"name": "dnn", "history": off}
    assert build_model(model_config(other), MAP).linear is None
    crossed = build_model(model_config({**other, "crosses": []}), MAP).linear
    assert crossed is not None
    assert crossed.names == bare.names
    assert build_model(model_config("dnn"), replace(MAP, sequences={})).linear is None


def test_weights_of_cells_take_no_gradient_steps() -> None:
    model = build_model(model_config({"name": "dnn", "crosses": CROSSES}), MAP)
    assert model.linear is not None
    assert "linear.cells" not in dict(model.named_parameters())
    assert "linear.cells" in model.state_dict()


def test_a_missing_number_without_bins_has_a_weight_of_its_own_and_is_else_the_mean() -> None:
    holed = FeatureMap(
        tables={},
        categorical={},
        numeric=("age",),
        bins={"age": Bins()},
        missing=("age",),
        centres={"age": 2.0},
    )
    terms = filled(LinearTerms(holed))
    assert (terms.names, terms.sizes) == (("age",), (2,))
    numbers = torch.tensor([[-1.0], [torch.nan], [3.0]])
    batch = Batch(torch.zeros(3, 0, dtype=torch.int32), numbers, {}, torch.zeros(3, 0), torch.ones(3))
    absent, there = terms.cells
    expected = torch.stack([there, absent, there]) + torch.tensor([[-1.0], [2.0], [3.0]]) * terms.slopes
    torch.testing.assert_close(terms(batch, {}), expected + terms.bias)


def test_each_term_is_shared_among_the_parts_that_it_reads() -> None:
    """Rows of shares sum to 1, and terms belong to no other part: changing that part changes no term."""
    terms = filled(LinearTerms(MAP, CROSSES))
    shares = terms.terms.shares.numpy()
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-6)
    parts = (*MAP.fields, *MAP.sequences)
    of_terms = [*COLUMNS, ("age",), ("price",), *[("item",)] * 4]
    for term, owners in enumerate(of_terms):
        expected = [1.0 / len(owners) if part in owners else 0.0 for part in parts]
        np.testing.assert_allclose(shares[term], expected, rtol=1e-6, err_msg=str(owners))
