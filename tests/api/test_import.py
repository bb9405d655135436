"""Models of other libraries, imported from ONNX: their own predictions, in every command."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import ctrkit
from ctrkit.cli import app
from ctrkit.errors import ArtifactError, ConfigError, DataError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = [
    pytest.mark.filterwarnings("ignore::ctrkit.calibration.CalibrationWarning"),
    pytest.mark.filterwarnings("ignore::ctrkit.evaluation.measures.EvaluationWarning"),
]
COLUMNS = ["user_age", "ad_price", "ad_id", "hour"]
SPEC: dict[str, Any] = {
    "labels": {"click": "click"},
    "numeric": [{"name": "user_age"}, {"name": "ad_price"}],
    "categorical": [{"name": "ad_id"}, {"name": "hour"}],
    "candidate": {"id": "ad_id", "features": ["ad_price"]},
}
TEXT = {
    "numeric": [{"name": "user_age"}],
    "categorical": [{"name": "device"}, {"name": "ad_id"}],
}


@pytest.fixture(scope="module")
def rows(logs: Path) -> pl.DataFrame:
    return pl.read_parquet(logs / "impressions.parquet")[:3000].with_columns(
        # Missing values of each kind, and the words that other parts of ctrkit read as 1 and 0.
        ad_price=pl.when(pl.int_range(pl.len()) % 11 == 0).then(None).otherwise("ad_price"),
        device=pl.when(pl.int_range(pl.len()) % 7 == 0).then(pl.lit("true")).otherwise("device"),
    )


def matrix(rows: pl.DataFrame) -> np.ndarray:
    return rows.select(pl.col(COLUMNS).cast(pl.Float32)).to_numpy()


def trees(path: Path, rows: pl.DataFrame) -> Any:
    lightgbm, tools = pytest.importorskip("lightgbm"), pytest.importorskip("onnxmltools")
    x = matrix(rows)
    model = lightgbm.LGBMClassifier(n_estimators=20, num_leaves=7, n_jobs=1, verbose=-1)
    model.fit(x, rows["click"].to_numpy())
    kind = tools.convert.common.data_types.FloatTensorType([None, len(COLUMNS)])
    made = tools.convert_lightgbm(model, initial_types=[("input", kind)], zipmap=False)
    path.write_bytes(made.SerializeToString())
    return model.booster_.predict(x)


def boosted(path: Path, rows: pl.DataFrame) -> Any:
    xgboost, tools = pytest.importorskip("xgboost"), pytest.importorskip("onnxmltools")
    x = matrix(rows)
    model = xgboost.XGBClassifier(n_estimators=20, max_depth=3, n_jobs=1).fit(x, rows["click"].to_numpy())
    kind = tools.convert.common.data_types.FloatTensorType([None, len(COLUMNS)])
    made = tools.convert_xgboost(model, initial_types=[("input", kind)])
    path.write_bytes(made.SerializeToString())
    return model.predict_proba(x)[:, 1]


def pipeline(path: Path, rows: pl.DataFrame) -> Any:
    """An input for each column: text, a number, and an id as text."""
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    convert = pytest.importorskip("skl2onnx")
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    table = rows.select(pl.col("user_age").cast(pl.Float32), "device", pl.col("ad_id").cast(pl.String))
    frame = table.to_pandas()
    half = frame[:1500]  # so that some ids are new to it
    columns = ColumnTransformer(
        [("ids", OneHotEncoder(handle_unknown="ignore"), ["device", "ad_id"]),
         ("numbers", StandardScaler(), ["user_age"])]
    )  # fmt: skip
    model = make_pipeline(columns, LogisticRegression(max_iter=300)).fit(
        half, rows["click"][:1500].to_numpy()
    )
    kinds = {"user_age": FloatTensorType}
    types = [(name, kinds.get(name, StringTensorType)([None, 1])) for name in frame.columns]
    made = convert.convert_sklearn(model, initial_types=types, options={"zipmap": False})
    path.write_bytes(made.SerializeToString())
    return model.predict_proba(frame)[:, 1]


@pytest.mark.parametrize(
    ("library", "spec", "features"),
    [(trees, SPEC, COLUMNS), (boosted, SPEC, COLUMNS), (pipeline, TEXT, None)],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_predictions_are_those_of_the_library(
    library: Any, spec: dict[str, Any], features: list[str] | None, rows: pl.DataFrame, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries
        expected = library(tmp_path / "m.onnx", rows)
    result = ctrkit.import_model(
        tmp_path / "m.onnx", {"features": spec}, features=features, model=tmp_path / "m.pt"
    )
    model = ctrkit.load(tmp_path / "m.pt")
    np.testing.assert_allclose(model.predict(rows)["click"].to_numpy(), expected, atol=1e-5)
    again = model.predict(rows[::-1])["click"].to_numpy()[::-1]
    np.testing.assert_array_equal(again, result.imported.predict(rows)["click"].to_numpy())
    assert result.outputs == {"click": "probabilities, the second of two numbers: the probability of click"}


@pytest.fixture(scope="module")
def imported(rows: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("import")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trees(folder / "m.onnx", rows)
    (folder / "spec.yaml").write_text(json.dumps({"features": SPEC}))
    arguments = ["import", "m.onnx", "--config", "spec.yaml", "--model", "m.pt", "--json"]
    arguments[1:5:2] = [str(folder / "m.onnx"), str(folder / "spec.yaml")]
    arguments[5] = str(folder / "m.pt")
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 2
    assert "--features a,b,c" in json.loads(told.stdout)["hint"]
    told = CliRunner().invoke(app, [*arguments, "--features", ",".join(COLUMNS)])
    assert told.exit_code == 0, told.stderr
    kinds = ["a number", "a number", "an id as a number", "an id as a number"]
    assert json.loads(told.stdout)["inputs"] == dict(zip(COLUMNS, kinds, strict=True))
    return folder


@pytest.mark.slow
def test_every_command_takes_it(imported: Path, logs: Path, rows: pl.DataFrame) -> None:
    model = ctrkit.load(imported / "m.pt")
    before = model.predict(rows)["click"].mean()
    ctrkit.calibrate(model, rows, method="platt")
    assert ctrkit.predict(model, rows[:100]).rows == 100
    assert model.predict(rows)["click"].mean() != before
    found = ctrkit.evaluate(model, rows, draws=20, figures=False)
    assert found.tasks["click"].labels if hasattr(found.tasks["click"], "labels") else found.tasks["click"]
    assert ctrkit.evaluate_policy(pl.read_parquet(logs / "bandit.parquet")[:300], model).truth is not None
    auctions = pl.read_parquet(logs / "auctions.parquet")[:300]
    assert ctrkit.simulate_bidding(auctions, model, budget=10, strategies=["dual"]).to_dict()["strategies"]
    told = ctrkit.explain(model, rows, repeats=2, most_rows=300, dependence_rows=5, features=["hour"])
    assert {one.feature for one in told.importance} == set(COLUMNS)
    assert set(told.dependence[0].values) <= {str(hour) for hour in range(24)}
    told = ctrkit.evaluate(model, rows, against=ctrkit.load(imported / "m.pt"), draws=20, figures=False)
    assert not any("add `--seeds" in note for note in told.notes)
    assert any("trained elsewhere, so its training rows are not known" in note for note in told.notes)
    with pytest.raises(ConfigError, match=r"was trained elsewhere and imported.* Leave out the seeds"):
        ctrkit.evaluate(model, rows, against=model, seeds=2)
    with pytest.raises(DataError, match=r"was trained elsewhere, and was imported\. Give a table as DATA"):
        ctrkit.calibrate(model)
    scores = pl.DataFrame({"clicked": [0, 1] * 20, "score": [0.1, 0.2] * 20})
    for command in (ctrkit.evaluate, ctrkit.calibrate):
        with pytest.raises(DataError, match="table of scores: give it without a model, as `--scores`"):
            command(model, scores)
        with pytest.raises(DataError, match=r"Known names|Did you mean"):
            command(model, scores.rename({"score": "other"}))
    with pytest.raises(ConfigError, match="'onnx' is no network"):
        ctrkit.learn_policy(logs / "bandit.parquet", policy=model)


def test_values_that_the_model_cannot_read(imported: Path, rows: pl.DataFrame) -> None:
    model = ctrkit.load(imported / "m.pt")
    wrong = rows[:5].with_columns(ad_id=pl.Series(["3", "4", "blue", None, "7"]))
    with pytest.raises(DataError, match="column 'ad_id': the model reads numbers, and 'blue' is none"):
        model.predict(wrong)


def graph_of(path: Path, outputs: dict[str, list[Any]], **options: Any) -> Path:
    """A graph that gives its input x [N, 1] under each name, in these shapes."""
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 1])
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    nodes = [
        helper.make_node("Identity", ["x"], [name])
        if shape[1] == 1
        else helper.make_node("Concat", ["x"] * shape[1], [name], axis=1)
        for name, shape in outputs.items()
    ]
    made = helper.make_model(
        helper.make_graph(nodes, "g", [x], given), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(made, path, **options)
    return path


def test_what_is_not_said_is_asked_for(tmp_path: Path) -> None:
    spec = {"features": {"labels": {"click": "c", "sale": "s"}, "numeric": [{"name": "x"}]}}
    two = graph_of(tmp_path / "two.onnx", {"a": ["rows", 1], "b": ["rows", 1]})
    with pytest.raises(ConfigError, match="the outputs of numbers are a, b"):
        ctrkit.import_model(two, spec)
    with pytest.raises(ConfigError, match="the tasks click, sale, and each needs an output"):
        ctrkit.import_model(two, spec, outputs=["a"])
    result = ctrkit.import_model(two, spec, outputs=["b", "a"], scale="logit")
    assert result.outputs == {"click": "b: the logit of click", "sale": "a: the logit of sale given click"}
    found = result.imported.predict(pl.DataFrame({"x": [0.0, 2.0]}))
    np.testing.assert_allclose(found["sale"], 1 / (1 + np.exp([0.0, -2.0])))
    one = {"features": {"labels": {"click": "c"}, "numeric": [{"name": "x"}]}}
    wide = graph_of(tmp_path / "wide.onnx", {"p": ["rows", 2]})
    with pytest.raises(ConfigError, match=r"two numbers a row\. Say which is that of the event"):
        ctrkit.import_model(wide, one)
    assert ctrkit.import_model(wide, one, positive=0).outputs["click"].startswith("p, the first of two")
    other = {"features": {"labels": {"click": "c"}, "numeric": [{"name": "y"}]}}
    with pytest.raises(ConfigError, match="reads 'x', which is no feature of the spec"):
        ctrkit.import_model(two, other, outputs=["a"])
    with pytest.raises(ConfigError, match="'x' has a transform or scale, but is read raw"):
        ctrkit.import_model(
            two, {"features": {"labels": {"c": "c"}, "numeric": [{"name": "x", "transform": "log1p"}]}},
            outputs=["a"],
        )  # fmt: skip


def test_a_policy_of_a_posterior_is_refused(tmp_path: Path) -> None:
    one = graph_of(tmp_path / "one.onnx", {"p": ["rows", 1]})
    spec = {"features": {"labels": {"click": "c"}, "numeric": [{"name": "x"}]}, "policy": "thompson"}
    with pytest.raises(ConfigError, match="the model 'onnx' has no such layer"):
        ctrkit.import_model(one, spec)


def test_a_file_must_hold_the_whole_model(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 1]) for name in "xy")
    weight = numpy_helper.from_array(np.ones((1, 1), dtype=np.float32).repeat(300, axis=1), "w")
    total = numpy_helper.from_array(np.ones((300, 1), dtype=np.float32), "v")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["y"])]
    graph = helper.make_graph(nodes, "g", [x], [y], [weight, total])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "m.onnx"
    onnx.save(made, path, save_as_external_data=True, location="m.data", size_threshold=0)
    spec = {"features": {"labels": {"click": "c"}, "numeric": [{"name": "x"}]}}
    with pytest.raises(ArtifactError, match="Save it as one file"):
        ctrkit.import_model(path, spec)
    (tmp_path / "m.txt").write_text("tree\n")
    with pytest.raises(ConfigError, match="not an ONNX model"):
        ctrkit.import_model(tmp_path / "m.txt", spec)


def test_training_refuses_it(rows: pl.DataFrame) -> None:
    with pytest.raises(ConfigError, match=r"'onnx' is not trained here\. Use `ctrkit import`"):
        ctrkit.train({"features": SPEC}, rows, network="onnx")
