"""What every registered model must do, in every setting that changes its shape."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from ctrkit.data.bins import Bins
from ctrkit.data.feature_map import FIRST_ID, FeatureMap
from ctrkit.models import MODELS, CtrModel, Output, build_model, model_config
from ctrkit.nn.batches import Batch
from tests.models.settings import GATED, SETTINGS

FULL = FeatureMap(
    tables={"user": 30, "item": 40, "category": 9, "hour": 26},
    categorical={"user": "user", "item": "item", "category": "category", "hour": "hour"},
    numeric=("price", "age"),
    bins={"price": Bins((-1.5, -0.5, 0.0, 1.5), (0.8, 0.6, 0.2)), "age": Bins()},
    sequences={"seen_items": "item", "seen_categories": "category"},
    max_length=6,
    target=("item", "category"),
    profile=("user", "age"),
    tasks=("click", "conversion"),
)
MAPS = {
    "full": replace(FULL, value=True),
    "one task": replace(FULL, tasks=("click",)),
    "no history": replace(FULL, sequences={}, max_length=0, target=(), profile=()),
    "no numeric": replace(FULL, numeric=(), profile=()),
    "no categorical": replace(
        FULL, categorical={}, tables={"item": 40, "category": 9}, target=(), profile=("age",)
    ),
    "one sequence, of no field": replace(
        FULL, tables={**FULL.tables, "query": 12}, sequences={"queries": "query"}, target=()
    ),
}
# A model as it comes meets every map; its other settings meet those that change what it is made of most.
FEW = ("full", "one task", "no history")
CASES = [
    pytest.param({"name": name, **setting}, feature_map, id=f"{name}-{number}-{kind}")
    for name, model in sorted(MODELS.items())
    for number, setting in enumerate(SETTINGS.get(name, [{}]))
    for kind, feature_map in MAPS.items()
    if (number == 0 or kind in FEW) and (feature_map.sequences or not model.needs_history)
]
READERS = [
    case for case in CASES if case.values[1].sequences and model_config(dict(case.values[0])).reads_history
]
SLOW = (pytest.mark.slow,)
every_model = pytest.mark.parametrize(("content", "feature_map"), CASES)
every_reader_of_histories = pytest.mark.parametrize(("content", "feature_map"), READERS)


# A model without linear terms, whose last layer reads the backbone alone.
PLAIN = {"history": {"match_terms": False, "pair_terms": False}}


def make(content: dict[str, Any], feature_map: FeatureMap, seed: int = 0) -> CtrModel:
    torch.manual_seed(seed)
    return build_model(model_config(content), feature_map)


def make_batch(feature_map: FeatureMap, rows: int, length: int | None = None, seed: int = 1) -> Batch:
    """Random rows with histories of every length from none to all of it."""
    generator = torch.Generator().manual_seed(seed)
    length = feature_map.max_length if length is None else length
    ages = torch.arange(length - 1, -1, -1)
    present = ages < (torch.arange(rows) % (length + 1))[:, None]

    def draw(size: int, *shape: int) -> torch.Tensor:
        return torch.randint(1, size, shape, generator=generator, dtype=torch.int32)

    tables = feature_map.tables
    columns = [draw(tables[table], rows) for table in feature_map.categorical.values()]
    return Batch(
        torch.stack(columns, dim=1) if columns else torch.zeros(rows, 0, dtype=torch.int32),
        torch.randn(rows, len(feature_map.numeric), generator=generator),
        {name: draw(tables[t], rows, length) * present for name, t in feature_map.sequences.items()},
        torch.randint(0, 2, (rows, len(feature_map.tasks)), generator=generator).float(),
        torch.ones(rows),
    )


def select(batch: Batch, rows: slice) -> Batch:
    sequences = {name: ids[rows] for name, ids in batch.sequences.items()}
    return Batch(
        batch.categorical[rows], batch.numeric[rows], sequences, batch.labels[rows], batch.weight[rows]
    )


def with_padding(batch: Batch, padding: int) -> Batch:
    """The same rows with `padding` more empty places, or fewer, to the left of their histories."""
    padded = {name: torch.nn.functional.pad(ids, (padding, 0)) for name, ids in batch.sequences.items()}
    return replace(batch, sequences=padded)


def assert_same(ours: Output, theirs: Output) -> None:
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.hidden, theirs.hidden, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.value, theirs.value, rtol=1e-4, atol=1e-5)


@every_model
def test_shapes_types_and_the_last_layer(content: dict[str, Any], feature_map: FeatureMap) -> None:
    model = make(content, feature_map).eval()
    for rows in (9, 1):
        output = model(make_batch(feature_map, rows))
        assert output.logits.shape == (rows, len(feature_map.tasks))
        assert output.hidden.shape == (rows, model.last_layer.in_features)
        assert output.logits.dtype == output.hidden.dtype == torch.float32
        assert all(extra.shape == (rows,) for extra in output.auxiliary.values())
        assert output.value.shape == (rows, 3) if feature_map.value else output.value is None
        torch.testing.assert_close(model.last_layer(output.hidden)[:, 0], output.logits[:, 0])
    assert len(model.task_layers) == len(feature_map.tasks)


def without_events(batch: Batch) -> Batch:
    """The same rows with histories of length 0."""
    return replace(batch, sequences={name: ids[:, :0] for name, ids in batch.sequences.items()})


@every_model
def test_no_rows_and_no_events(content: dict[str, Any], feature_map: FeatureMap) -> None:
    model = make(content, feature_map).eval()
    nobody, few = make_batch(feature_map, 0), make_batch(feature_map, 4)
    newcomers = replace(few, sequences={n: torch.zeros_like(s) for n, s in few.sequences.items()})
    with torch.no_grad():
        for batch, rows in ((nobody, 0), (without_events(nobody), 0), (without_events(few), 4)):
            output = model(batch)
            assert output.logits.shape == (rows, len(feature_map.tasks))
            assert output.hidden.shape == (rows, model.last_layer.in_features)
        assert_same(output, model(newcomers))


@every_reader_of_histories
def test_no_candidates_and_first_events(content: dict[str, Any], feature_map: FeatureMap) -> None:
    model = make(content, feature_map).eval()
    nobody, few = make_batch(feature_map, 0), make_batch(feature_map, 4)
    with torch.no_grad():
        for histories in (nobody, few, without_events(few)):
            assert model(nobody, model.encode_history(histories)).logits.shape == (0, len(feature_map.tasks))
        newest = replace(few, sequences={n: ids[:, -1:].clamp(min=1) for n, ids in few.sequences.items()})
        first = model.append_event(model.encode_history(without_events(few)), newest)
        assert_same(model(few, first), model(newest))
        assert len(model.append_event(model.encode_history(nobody), select(newest, slice(0)))) == 0


@every_model
def test_rows_do_not_touch_one_another(content: dict[str, Any], feature_map: FeatureMap) -> None:
    model, batch = make(content, feature_map).eval(), make_batch(feature_map, 9)
    whole = model(batch)
    for row in range(9):
        alone = model(select(batch, slice(row, row + 1)))
        torch.testing.assert_close(alone.logits, whole.logits[row : row + 1], rtol=1e-4, atol=1e-5)


@every_model
def test_left_padding_changes_nothing(content: dict[str, Any], feature_map: FeatureMap) -> None:
    model, batch = make(content, feature_map).eval(), make_batch(feature_map, 9)
    for padding in (1, 5):
        assert_same(model(with_padding(batch, padding)), model(batch))
    newcomers = replace(batch, sequences={n: torch.zeros_like(s) for n, s in batch.sequences.items()})
    assert_same(model(with_padding(newcomers, 1 - feature_map.max_length)), model(newcomers))
    assert bool(model(newcomers).logits.isfinite().all())


@every_reader_of_histories
def test_candidates_may_share_a_history(content: dict[str, Any], feature_map: FeatureMap) -> None:
    model = make(content, feature_map).eval()
    users, batch = make_batch(feature_map, 4), make_batch(feature_map, 12, seed=2)
    own = {name: ids.repeat_interleave(3, dim=0) for name, ids in users.sequences.items()}
    history = model.encode_history(users)
    assert_same(model(batch, history), model(replace(batch, sequences=own)))


@every_reader_of_histories
def test_an_event_may_be_appended_to_an_encoded_history(
    content: dict[str, Any], feature_map: FeatureMap
) -> None:
    model, batch = make(content, feature_map).eval(), make_batch(feature_map, 9, seed=2)
    newest = {name: ids[:, -1:].clamp(min=1) for name, ids in batch.sequences.items()}
    before = replace(batch, sequences={name: ids[:, :-1] for name, ids in batch.sequences.items()})
    whole = {name: torch.cat([before.sequences[name], newest[name]], dim=1) for name in newest}
    history = model.append_event(model.encode_history(before), replace(batch, sequences=newest))
    assert_same(model(batch, history), model(replace(batch, sequences=whole)))


@every_model
def test_gradient_reaches_every_parameter(content: dict[str, Any], feature_map: FeatureMap) -> None:
    model, batch = make(content, feature_map), make_batch(feature_map, 64)
    batch.numeric[:8] = torch.nan  # missing numbers
    if model.linear is not None:  # the slopes are 0 until they are fitted
        torch.nn.init.normal_(model.linear.slopes)
    output = model(batch)
    others = [*output.auxiliary.values(), *([] if output.value is None else [output.value])]
    sum(x.square().sum() for x in (output.logits, *others)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert bool((parameter.grad != 0).any()), name


@every_model
def test_gradients_are_finite_without_history(content: dict[str, Any], feature_map: FeatureMap) -> None:
    model, batch = make(content, feature_map), make_batch(feature_map, 8)
    model(
        replace(batch, sequences={n: torch.zeros_like(s) for n, s in batch.sequences.items()})
    ).logits.sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


@every_model
def test_every_input_is_read(content: dict[str, Any], feature_map: FeatureMap) -> None:
    model, batch = make(content, feature_map).eval(), make_batch(feature_map, 9)
    logits = model(batch).logits
    for column, table in enumerate(feature_map.categorical.values()):
        categorical = batch.categorical.clone()
        categorical[:, column] = categorical[:, column] % (feature_map.tables[table] - 1) + 1
        assert not torch.equal(model(replace(batch, categorical=categorical)).logits, logits)
    for column in range(len(feature_map.numeric)):
        numeric = batch.numeric.clone()
        numeric[:, column] += 1.0
        assert not torch.equal(model(replace(batch, numeric=numeric)).logits, logits)
    for name, table in feature_map.sequences.items():
        ids = batch.sequences[name]
        changed = torch.where(ids > 0, ids % (feature_map.tables[table] - 1) + 1, 0)
        sequences = {**batch.sequences, name: changed.int()}
        assert not torch.equal(model(replace(batch, sequences=sequences)).logits, logits)


@every_model
def test_same_seed_same_model_and_weights_load(content: dict[str, Any], feature_map: FeatureMap) -> None:
    batch = make_batch(feature_map, 9)
    first, again, other = (make(content, feature_map, seed).eval() for seed in (0, 0, 1))
    assert torch.equal(first(batch).logits, again(batch).logits)
    assert not torch.equal(first(batch).logits, other(batch).logits)
    other.load_state_dict(first.state_dict(), strict=True)
    assert torch.equal(first(batch).logits, other(batch).logits)


@every_model
def test_starts_near_the_base_rates_where_told(content: dict[str, Any], feature_map: FeatureMap) -> None:
    model, rates = make(content, feature_map), [0.02, 0.1][: len(feature_map.tasks)]
    model.set_base_rates(rates)
    output = model.eval()(make_batch(feature_map, 200))
    ratios = output.logits.sigmoid().mean(dim=0) / torch.tensor(rates)
    assert bool(((ratios > 1 / 3) & (ratios < 3)).all()), ratios  # one half would be 25 times too much


@pytest.mark.parametrize(
    "content", [{"name": name, **s} for name in sorted(MODELS) for s in SETTINGS.get(name, [{}])], ids=str
)
def test_learns_256_rows_by_heart(content: dict[str, Any]) -> None:
    """Each row has a user of its own, so that even a linear model can."""
    feature_map = replace(FULL, tables={**FULL.tables, "user": 258})
    model, batch = make(content, feature_map), make_batch(feature_map, 256)
    batch.categorical[:, 0] = torch.arange(256) + FIRST_ID
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(200):
        optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(model.train()(batch).logits, batch.labels)
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            with torch.no_grad():
                loss = binary_cross_entropy_with_logits(model.eval()(batch).logits, batch.labels)
            if float(loss) < 0.2:  # guessing gives 0.69
                return
    pytest.fail(f"the loss is still {float(loss):.3f}")


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs onnx, onnxscript and onnxruntime",
)
# torch.export trips over its own deprecation when it copies the graph (torch 2.13).
@pytest.mark.filterwarnings(r"ignore:.isinstance\(treespec, LeafSpec\). is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:_check_is_size will be removed:FutureWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(
            {"name": name, **heads}, id="-".join([name, *heads]), marks=() if name == "mdaf" else SLOW
        )
        for name, heads in [*((name, {}) for name in sorted(MODELS)), ("dnn", {"heads": GATED})]
    ],
)
def test_exports_to_onnx_with_a_free_batch_size(content: dict[str, Any], tmp_path: Path) -> None:
    import onnxruntime

    feature_map = replace(FULL, max_length=3, value=True)  # the scan is unrolled: shorter is quicker

    class Tensors(torch.nn.Module):
        """A model of plain tensors, as ONNX knows no dataclass."""

        def __init__(self, model: CtrModel) -> None:
            super().__init__()
            self.model = model

        def forward(
            self, categorical: torch.Tensor, numeric: torch.Tensor, sequences: dict[str, torch.Tensor]
        ) -> tuple[torch.Tensor, torch.Tensor]:
            empty = numeric.new_zeros(0)
            output: Output = self.model(Batch(categorical, numeric, sequences, empty, empty))
            assert output.value is not None
            return output.logits, output.value

    model = make(content, feature_map).eval()
    batch, path = make_batch(feature_map, 4), tmp_path / "model.onnx"
    rows = torch.export.Dim.DYNAMIC
    torch.onnx.export(
        Tensors(model).eval(),
        (batch.categorical, batch.numeric),
        path,
        kwargs={"sequences": dict(batch.sequences)},
        dynamo=True,
        verbose=False,
        dynamic_shapes={
            "categorical": {0: rows},
            "numeric": {0: rows},
            "sequences": {key: {0: rows} for key in batch.sequences},
        },
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    for size in (1, 11):
        batch = make_batch(feature_map, size, seed=size)
        batch.numeric[0] = torch.nan  # missing numbers
        values = [batch.categorical, batch.numeric, *batch.sequences.values()]
        found = session.run(None, {n: v.numpy() for n, v in zip(names, values, strict=True)})
        output = model(batch)
        for ours, theirs in zip(found, (output.logits, output.value), strict=True):
            torch.testing.assert_close(torch.from_numpy(ours), theirs, rtol=1e-4, atol=1e-5)
