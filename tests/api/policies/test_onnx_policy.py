"""ONNX files as policies, against the libraries that the models are of and against graphs written by hand."""

from __future__ import annotations

import os
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ctrkit.api.evaluate_policy import evaluate_policy
from ctrkit.api.policies.onnx_policy import OnnxPolicy, OnnxScorer
from ctrkit.api.policies.specs import policy_specs
from ctrkit.errors import ArtifactError, ConfigError, CtrkitError, DataError, RunError
from ctrkit.onnx_graph import OnnxGraph
from ctrkit.policies import EpsilonGreedyPolicy, GreedyPolicy, Policy, SoftmaxPolicy, padded

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

ROWS, ACTIONS = 600, 4
FLOAT, INTEGER, TEXT = 1, 7, 8  # of onnx.TensorProto


def logged(seed: int = 0) -> pl.DataFrame:
    """A bandit log: rows have two to four candidates, each with a price and a kind that may be missing."""
    rng = np.random.default_rng(seed)
    candidates = [rng.permutation(ACTIONS)[: rng.integers(2, ACTIONS + 1)].tolist() for _ in range(ROWS)]
    sizes = [len(one) for one in candidates]
    places = [int(rng.integers(size)) for size in sizes]
    return pl.DataFrame(
        {
            "age": rng.normal(size=ROWS).round(2),
            "segment": rng.choice(["new", "loyal", "lapsed"], ROWS).tolist(),
            "visits": rng.integers(5, size=ROWS),
            "candidates": candidates,
            "candidate_price": [rng.uniform(size=size).tolist() for size in sizes],
            "candidate_kind": [rng.choice(["video", "text", None], size).tolist() for size in sizes],
            "action": [one[place] for one, place in zip(candidates, places, strict=True)],
            "propensity": [1 / size for size in sizes],
            "reward": rng.integers(2, size=ROWS),
        },
        schema_overrides={"candidate_kind": pl.List(pl.String)},
    )


LOG = logged()
FLAT = LOG.select(
    "age", "segment", "visits", pl.col("candidates").alias("action"), "candidate_price", "candidate_kind"
).explode("action", "candidate_price", "candidate_kind")
FLAT = FLAT.rename({"candidate_price": "price", "candidate_kind": "kind"}).with_columns(
    pl.col("kind").fill_null("")
)
NUMBERS = ["age", "visits", "action", "price"]
ODDS = np.exp((FLAT["age"] + FLAT["price"]).to_numpy())
CLICKS = (np.random.default_rng(1).random(FLAT.height) < ODDS / (1 + ODDS)).astype(int)


def lightgbm(path: Path, zipmap: bool) -> Any:
    lightgbm, tools = pytest.importorskip("lightgbm"), pytest.importorskip("onnxmltools")
    x = FLAT.select(NUMBERS).to_numpy().astype(np.float32)
    model = lightgbm.LGBMClassifier(n_estimators=20, num_leaves=7, verbose=-1).fit(x, CLICKS)
    kind = tools.convert.common.data_types.FloatTensorType([None, len(NUMBERS)])
    made = tools.convert_lightgbm(model, initial_types=[("input", kind)], zipmap=zipmap)
    path.write_bytes(made.SerializeToString())
    return model.booster_.predict(x)


def xgboost(path: Path, zipmap: bool) -> Any:
    xgboost, tools = pytest.importorskip("xgboost"), pytest.importorskip("onnxmltools")
    x = FLAT.select(NUMBERS).to_numpy().astype(np.float32)
    model = xgboost.XGBClassifier(n_estimators=20, max_depth=3).fit(x, CLICKS)
    kind = tools.convert.common.data_types.FloatTensorType([None, len(NUMBERS)])
    made = tools.convert_xgboost(model, initial_types=[("input", kind)])
    path.write_bytes(made.SerializeToString())
    return model.predict_proba(x)[:, 1]


def forest(path: Path, zipmap: bool) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier

    convert = pytest.importorskip("skl2onnx")
    x = FLAT.select(NUMBERS).to_numpy().astype(np.float32)
    model = GradientBoostingClassifier(n_estimators=10).fit(x, CLICKS)
    made = convert.to_onnx(model, x[:1], options={"zipmap": zipmap})
    path.write_bytes(made.SerializeToString())
    return model.predict_proba(x)[:, 1]


def pipeline(path: Path, zipmap: bool) -> Any:
    """Every column has an input of its own, text and missing text among them."""
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    convert = pytest.importorskip("skl2onnx")
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

    table = FLAT.to_pandas()
    columns = ColumnTransformer(
        [("ids", OneHotEncoder(handle_unknown="ignore"), ["segment", "kind", "action"]),
         ("numbers", StandardScaler(), ["age", "visits", "price"])]
    )  # fmt: skip
    table["action"] = table["action"].astype(str)
    model = make_pipeline(columns, LogisticRegression()).fit(table, CLICKS)
    kinds = {"age": FloatTensorType, "price": FloatTensorType, "visits": Int64TensorType}
    types = [(name, kinds.get(name, StringTensorType)([None, 1])) for name in table.columns]
    made = convert.convert_sklearn(model, initial_types=types, options={"zipmap": zipmap})
    path.write_bytes(made.SerializeToString())
    return model.predict_proba(table)[:, 1]


LIBRARIES = [(lightgbm, True), (lightgbm, False), (xgboost, False), (forest, True), (forest, False)]
LIBRARIES += [(pipeline, True), (pipeline, False)]


@pytest.fixture(params=LIBRARIES, ids=lambda one: f"{one[0].__name__}-{'maps' if one[1] else 'numbers'}")
def converted(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, np.ndarray]:
    """The text of a policy by a library's model, and the library's probabilities [B, K]."""
    library, zipmap = request.param
    path = tmp_path / "new.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries
        found = library(path, zipmap)
    wide = np.full((ROWS, ACTIONS), np.nan)
    wide[~np.isnan(padded(LOG["candidates"]))] = found
    text = str(path) if library is pipeline else f"{path}:features={'|'.join(NUMBERS)}"
    return text, wide


def scorer_of(policy: Policy | str) -> OnnxScorer:
    assert isinstance(policy, (SoftmaxPolicy, GreedyPolicy))
    assert isinstance(policy.scorer, OnnxScorer)
    return policy.scorer


def test_probabilities_are_those_of_the_library(converted: tuple[str, np.ndarray]) -> None:
    text, expected = converted
    (spec,) = policy_specs(text)
    assert isinstance(spec.policy, GreedyPolicy)
    found = scorer_of(spec.policy).probabilities(LOG, LOG["candidates"])
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    parts = [
        scorer_of(spec.policy).probabilities(LOG[a:b], LOG["candidates"][a:b]) for a, b in ((0, 7), (7, ROWS))
    ]
    np.testing.assert_allclose(np.concatenate(parts), found, atol=1e-7, rtol=0)


def test_the_value_is_that_of_the_same_policy_as_a_function(
    converted: tuple[str, np.ndarray], tmp_path: Path
) -> None:
    text, expected = converted
    sign = "," if "features=" in text else ":"

    def library(context: pl.DataFrame, candidates: pl.Series) -> np.ndarray:
        p = expected[context["number"].to_numpy()][:, : int(candidates.list.len().max() or 0)]  # type: ignore[call-overload]
        odds = np.nan_to_num(p / (1 - p)) ** (1 / 0.7)
        return odds / odds.sum(axis=1, keepdims=True)

    log = LOG.with_row_index("number")
    found = evaluate_policy(
        log,
        [f"{text}{sign}softmax,temperature=0.7", library],
        overrides=["estimators=[ips]"],
        out=tmp_path / "run",
    ).to_dict()
    ours, theirs = (policy["estimates"][0] for policy in found["policies"])
    assert ours["value"] == pytest.approx(theirs["value"], abs=1e-5)
    assert ours["low"] == pytest.approx(theirs["low"], abs=1e-4)


# Graphs written by hand.


def written(
    path: Path,
    nodes: list[Any],
    inputs: dict[str, tuple[int, list[Any]]],
    outputs: dict[str, tuple[int, list[Any]]],
    weights: dict[str, Any] | None = None,
    metadata: dict[str, str] | None = None,
    domain: str = "",
) -> str:
    h = onnx.helper
    graph = h.make_graph(
        nodes,
        "graph",
        [h.make_tensor_value_info(name, *of) for name, of in inputs.items()],
        [h.make_tensor_value_info(name, *of) for name, of in outputs.items()],
        [onnx.numpy_helper.from_array(np.asarray(w), name) for name, w in (weights or {}).items()],
    )
    opsets = [h.make_opsetid("", 17), *([h.make_opsetid(domain, 1)] if domain else [])]
    model = h.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="by hand")
    h.set_model_props(model, metadata or {})
    path.write_bytes(model.SerializeToString())
    return str(path)


WEIGHTS = np.random.default_rng(2).normal(size=(2, ACTIONS)).astype(np.float32)


def distribution(path: Path, inputs: list[Any] | None = None, **options: Any) -> str:
    """softmax([age, visits] @ WEIGHTS)."""
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["z"]),
        onnx.helper.make_node("Softmax", ["z"], ["p"]),
    ]
    weights = options.pop("weights", WEIGHTS)
    shape = ["rows", len(weights)] if inputs is None else inputs
    return written(
        path,
        nodes,
        {"x": (FLOAT, shape)},
        {"p": (FLOAT, ["rows", weights.shape[1]])},
        {"w": weights},
        **options,
    )


def by_hand(context: pl.DataFrame, candidates: pl.Series) -> np.ndarray:
    odds = np.exp(context.select("age", "visits").to_numpy() @ WEIGHTS)
    places = padded(candidates, fill=0).astype(int)
    chosen = np.where(np.isnan(padded(candidates)), 0, np.take_along_axis(odds, places, axis=1))
    return chosen / chosen.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("by_metadata", [True, False])
def test_a_model_of_all_actions(by_metadata: bool, tmp_path: Path) -> None:
    named = {"features": "age, visits", "actions": '["0", "1", "2", "3"]'}
    text = distribution(tmp_path / "new.onnx", metadata=named if by_metadata else {})
    if not by_metadata:
        text += ":features=age|visits,actions=0|1|2|3"
    (spec,) = policy_specs(text)
    assert spec.name == "new"
    assert isinstance(spec.policy, OnnxPolicy)
    found = spec.policy.probabilities(LOG, LOG["candidates"])
    np.testing.assert_allclose(found, by_hand(LOG, LOG["candidates"]), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    result = evaluate_policy(
        LOG, [text, by_hand], overrides=["estimators=[ips,snips]"], out=tmp_path / "run"
    ).to_dict()
    ours, theirs = ([one["value"] for one in policy["estimates"]] for policy in result["policies"])
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_a_classifier_of_actions_names_them_itself(tmp_path: Path) -> None:
    """scikit-learn's ZipMap gives a class with each number."""
    from sklearn.linear_model import LogisticRegression

    convert = pytest.importorskip("skl2onnx")
    x, path = LOG.select("age", "visits").to_numpy().astype(np.float32), tmp_path / "new.onnx"
    model = LogisticRegression().fit(x, LOG["action"].to_numpy())
    path.write_bytes(convert.to_onnx(model, x[:1]).SerializeToString())
    policy = policy_specs(f"{path}:features=age|visits")[0].policy
    assert isinstance(policy, OnnxPolicy)
    assert policy.actions == ("0", "1", "2", "3")
    every = pl.Series("candidates", [[3, 0, 1, 2]] * ROWS)
    np.testing.assert_allclose(
        policy.probabilities(LOG, every), model.predict_proba(x)[:, [3, 0, 1, 2]], atol=1e-5
    )


def test_a_candidate_that_the_model_does_not_know_is_never_chosen(tmp_path: Path) -> None:
    text = distribution(tmp_path / "new.onnx") + ":features=age|visits,actions=0|1|2|7"
    policy = policy_specs(text)[0].policy
    assert isinstance(policy, Policy)
    found = policy.probabilities(LOG[:1], pl.Series("candidates", [[3, 0, 1]]))
    assert found[0, 0] == 0
    assert found.sum() == pytest.approx(1)
    with pytest.raises(DataError, match=r"no candidate a probability; its actions are 0, 1, 2, 7"):
        policy.probabilities(LOG[:1], pl.Series("candidates", [[3]]))


def test_policies_of_one_file_score_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sigmoid(tmp_path / "new.onnx")
    text = f"{path}:features=age|price"
    specs = policy_specs([f"{text},softmax", f"{text},epsilon-greedy,epsilon=0.3", text])
    assert [spec.name for spec in specs] == ["new: softmax", "new: epsilon-greedy,epsilon=0.3", "new: greedy"]
    calls: list[int] = []
    run = OnnxGraph._run
    monkeypatch.setattr(
        OnnxGraph, "_run", lambda self, table, file: calls.append(table.height) or run(self, table, file)
    )
    for spec in specs:
        assert isinstance(spec.policy, Policy)
        spec.policy.probabilities(LOG, LOG["candidates"])
    assert calls == [FLAT.height]
    monkeypatch.setattr("ctrkit.onnx_graph.ROWS", 100)
    specs[0].policy.probabilities(LOG[1:], LOG["candidates"][1:])  # type: ignore[union-attr]
    assert max(calls[1:]) == 100


def sigmoid(path: Path, outputs: str = "Sigmoid", shape: list[Any] | None = None, **options: Any) -> str:
    """sigmoid(first - second)."""
    nodes = [onnx.helper.make_node("MatMul", ["x", "w"], ["z"]), onnx.helper.make_node(outputs, ["z"], ["p"])]
    weights = {"w": np.array([[1.0], [-1.0]], dtype=np.float32)}
    return written(
        path, nodes, {"x": (FLOAT, shape or ["rows", 2])}, {"p": (FLOAT, ["rows", 1])}, weights, **options
    )


def test_settings_of_the_run_are_for_scorers_that_name_no_policy(tmp_path: Path) -> None:
    from ctrkit.policies import SoftmaxConfig

    text = sigmoid(tmp_path / "new.onnx", metadata={"features": "age,price"})
    one, other = policy_specs([text, f"{text}:epsilon-greedy"], SoftmaxConfig(temperature=3.0))
    assert isinstance(one.policy, SoftmaxPolicy)
    assert one.policy.temperature == 3.0
    assert isinstance(other.policy, EpsilonGreedyPolicy)


def test_the_id_of_the_action_may_have_another_name(tmp_path: Path) -> None:
    text = sigmoid(tmp_path / "new.onnx", metadata={"features": "ad_id,price"})
    with pytest.raises(DataError, match=r"column 'ad_id'.*write .*new.onnx:candidate=ad_id"):
        policy_specs(text)[0].policy.probabilities(LOG, LOG["candidates"])  # type: ignore[union-attr]
    expected = 1 / (1 + np.exp(padded(LOG["candidate_price"]) - padded(LOG["candidates"])))
    by_metadata = sigmoid(tmp_path / "other.onnx", metadata={"features": "ad_id,price", "candidate": "ad_id"})
    for way in (f"{text}:candidate=ad_id", by_metadata):
        policy = policy_specs(way)[0].policy
        found = scorer_of(policy).probabilities(LOG, LOG["candidates"])
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_missing_numbers_are_nan_and_certain_probabilities_have_a_score(tmp_path: Path) -> None:
    text = sigmoid(tmp_path / "new.onnx", metadata={"features": "age,price"})
    log = LOG[:1].with_columns(pl.lit(None).alias("age"))
    policy = policy_specs(text)[0].policy
    with pytest.raises(RunError, match="holds nan, which is no probability"):
        policy.probabilities(log, log["candidates"])  # type: ignore[union-attr]
    log = LOG[:1].with_columns(pl.lit(1e9).alias("age"))
    assert np.isfinite(scorer_of(policy)(log, log["candidates"])).any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"input 'x' takes 2 columns, and the model does not say which.*new.onnx:features=a\|b\|c"),
        (":features=age", "input 'x' takes 2 columns, but 1 are named"),
        (
            ":features=age|pric",
            "column 'pric'.*reads it, and the log has no such column. Did you mean 'price'",
        ),
        (":features=age|reward", "column 'reward'.*not known when the policy decides"),
        (":features=age|true_rate", "column 'true_rate'.*not known when"),
        (":features=age|segment", "column 'segment': it is String, but input 'x' of the model takes numbers"),
        (":featurs=age|price", "no setting 'featurs' of an ONNX model. Did you mean 'features'"),
        (":features=age|price,output=q", "the outputs of numbers are p. Say which"),
        (":features=age|price,softmx", "Did you mean 'softmax'"),
        (":features=age|price,softmax,temprature=2", "unknown key 'temprature'. Did you mean 'temperature'"),
        (":features=age|price,features=age|price", "'features' needs one value"),
        (":features=age|price,candidate=ad", "the model reads no 'ad'"),
        (":features=age|price,positive=2", "positive"),
        (":features=age|price,positive=1", "has one number a row. Leave out `positive`"),
        (":features=age|price,actions=0|1", "has 1 numbers a row for 2 actions, 0, 1"),
        (":features=age|price,actions=0,greedy", "gives the probabilities of all actions itself. Leave out"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str, tmp_path: Path) -> None:
    path = sigmoid(tmp_path / "new.onnx")
    with pytest.raises(CtrkitError, match=message):
        policy_specs(path + text)[0].policy.probabilities(LOG, LOG["candidates"])  # type: ignore[union-attr]


def test_an_order_of_actions_is_asked_for(tmp_path: Path) -> None:
    path = distribution(tmp_path / "new.onnx", metadata={"features": "age,visits"})
    with pytest.raises(
        ConfigError, match=r"4 numbers a row, those of actions in an order.*new.onnx:actions=a\|b\|c"
    ):
        policy_specs(path)
    path = distribution(tmp_path / "two.onnx", metadata={"features": "age,visits"}, weights=WEIGHTS[:, :2])
    with pytest.raises(
        ConfigError, match="two numbers a row, those of two actions, or of a reward and of none"
    ):
        policy_specs(path)
    first, second = (
        scorer_of(policy_specs(f"{path}:positive={column}")[0].policy).probabilities(LOG, LOG["candidates"])
        for column in (0, 1)
    )
    np.testing.assert_allclose((first + second)[~np.isnan(first)], 1, atol=1e-6)
    assert isinstance(policy_specs(f"{path}:actions=0|1")[0].policy, OnnxPolicy)
    path = written(
        tmp_path / "raw.onnx",
        [onnx.helper.make_node("MatMul", ["x", "w"], ["p"])],
        {"x": (FLOAT, ["rows", 2])},
        {"p": (FLOAT, ["rows", ACTIONS])},
        {"w": WEIGHTS},
    )
    policy = policy_specs(f"{path}:features=age|visits,actions=0|1|2|3")[0].policy
    with pytest.raises(RunError, match="not in every row a distribution over 4 actions"):
        policy.probabilities(LOG, LOG["candidates"])  # type: ignore[union-attr]


def test_metadata_that_name_nothing(tmp_path: Path) -> None:
    for text, message in (("[age", "`features` of its metadata begins like"), ("age,age", "named twice")):
        with pytest.raises(CtrkitError, match=message):
            policy_specs(sigmoid(tmp_path / "new.onnx", metadata={"features": text}))


def test_scores_that_are_no_probabilities(tmp_path: Path) -> None:
    text = sigmoid(tmp_path / "new.onnx", outputs="Identity") + ":features=age|price"
    with pytest.raises(RunError, match=r"output 'p' holds -?[\d.]+, which is no probability"):
        policy_specs(text)[0].policy.probabilities(LOG, LOG["candidates"])  # type: ignore[union-attr]


def test_shapes_that_no_column_has(tmp_path: Path) -> None:
    for shape, message in (
        ([1, 2], "input 'x' takes exactly 1 rows"),
        (["rows", 2, 2], "input 'x' has the shape"),
    ):
        with pytest.raises(ArtifactError, match=message):
            policy_specs(sigmoid(tmp_path / "new.onnx", shape=shape) + ":features=age|price")
    two = written(
        tmp_path / "two.onnx",
        [onnx.helper.make_node("Concat", ["a", "b"], ["p"], axis=1)],
        {"a": (FLOAT, ["rows", 1]), "b": (FLOAT, ["rows", 2])},
        {"p": (FLOAT, ["rows", 3])},
    )
    with pytest.raises(ArtifactError, match="input 'b' takes several columns"):
        policy_specs(two)


def test_whole_numbers_take_no_missing_values(tmp_path: Path) -> None:
    path = written(
        tmp_path / "new.onnx",
        [
            onnx.helper.make_node("Cast", ["visits"], ["v"], to=FLOAT),
            onnx.helper.make_node("Sigmoid", ["v"], ["p"]),
        ],
        {"visits": (INTEGER, ["rows"])},
        {"p": (FLOAT, ["rows"])},
    )
    policy = policy_specs(path)[0].policy
    found = scorer_of(policy).probabilities(LOG, LOG["candidates"])
    np.testing.assert_allclose(found[:, 0], 1 / (1 + np.exp(-LOG["visits"].to_numpy())), rtol=1e-5)
    for value, message in ((None, "a value is missing"), (0.5, "does not fit input 'visits'")):
        log = LOG[:1].with_columns(pl.lit(value).alias("visits"))
        with pytest.raises(DataError, match=f"column 'visits'.*{message}"):
            scorer_of(policy).probabilities(log, log["candidates"])


def external(path: Path, location: str) -> str:
    """sigmoid(x @ w), with w in another file."""
    weight = onnx.TensorProto(name="w", data_type=FLOAT, dims=[2, 1], data_location=onnx.TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": "0", "length": "8"}.items():
        weight.external_data.add(key=key, value=value)
    model = onnx.load(sigmoid(path, metadata={"features": "age,price"}))
    model.graph.initializer[0].CopyFrom(weight)
    path.write_bytes(model.SerializeToString())
    return str(path)


def test_data_of_the_model_lies_in_its_own_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for where in (folder, tmp_path):
        np.array([1.0, -1.0], dtype=np.float32).tofile(where / "weights.bin")
    os.symlink(tmp_path / "weights.bin", folder / "link.bin")
    found = policy_specs(external(folder / "new.onnx", "weights.bin"))[0].policy
    expected = policy_specs(sigmoid(tmp_path / "new.onnx") + ":features=age|price")[0].policy
    np.testing.assert_array_equal(*(scorer_of(one)(LOG, LOG["candidates"]) for one in (found, expected)))
    for outside in ("../weights.bin", str(tmp_path / "weights.bin"), "link.bin"):
        with pytest.raises(ArtifactError, match="Keep the data of the model in its own folder"):
            policy_specs(external(folder / "new.onnx", outside))


def test_operations_that_onnx_runtime_does_not_know(tmp_path: Path) -> None:
    nodes = [onnx.helper.make_node("Price", ["x"], ["p"], domain="my.own")]
    sizes = (FLOAT, ["rows", 1])
    path = written(tmp_path / "new.onnx", nodes, {"x": sizes}, {"p": sizes}, domain="my.own")
    with pytest.raises(ArtifactError, match=r"my.own:Price.*Export it with ONNX operations only"):
        policy_specs(path)
    whole = Path(sigmoid(tmp_path / "new.onnx")).read_bytes()
    (tmp_path / "new.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match="ONNX Runtime cannot open it"):
        policy_specs(str(tmp_path / "new.onnx"))


def test_without_onnx_runtime_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sigmoid(tmp_path / "new.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r'Install it: pip install "ctrkit\[onnx\]"'):
        policy_specs(path)


def test_a_model_goes_to_another_process_by_its_file(tmp_path: Path) -> None:
    model = OnnxGraph(sigmoid(tmp_path / "new.onnx"), ["age", "price"])
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(model(FLAT), again(FLAT))


def test_ids_in_text_tables_are_text_where_the_model_reads_text(tmp_path: Path) -> None:
    path = written(
        tmp_path / "new.onnx",
        [
            onnx.helper.make_node(
                "LabelEncoder", ["zip"], ["p"], domain="ai.onnx.ml", keys_strings=["007"],
                values_floats=[0.9], default_float=0.1,
            )
        ],
        {"zip": (TEXT, ["rows"])},
        {"p": (FLOAT, ["rows"])},
    )  # fmt: skip
    model = onnx.load(path)
    model.opset_import.add(domain="ai.onnx.ml", version=3)
    Path(path).write_bytes(model.SerializeToString())
    log = tmp_path / "log.csv"
    log.write_text("zip,action,propensity,reward\n" + "007,a,0.5,1\n7,b,0.5,0\n007,b,0.5,1\n" * 20)
    found = evaluate_policy(
        str(log), f"{path}:greedy", overrides=["estimators=[ips]"], out=tmp_path / "run"
    ).to_dict()
    assert found["policies"][0]["name"] == "new: greedy"
    (spec,) = policy_specs(path)
    assert spec.is_text is not None
    assert spec.is_text("zip")
    assert spec.is_text("candidate_zip")
    table = pl.DataFrame({"zip": ["007", "7", None], "candidates": [["a"]] * 3})
    assert scorer_of(spec.policy).probabilities(table, table["candidates"]).ravel().tolist() == pytest.approx(
        [0.9, 0.1, 0.1]
    )
