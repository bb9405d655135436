"""What `ctrkit.train` says before, during and after, on small made-up tables."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.api import train as api_train
from ctrkit.api.models import training_rows
from ctrkit.api.models.trained_network import NetworkTraining, base_rates
from ctrkit.errors import ConfigError, DataError
from ctrkit.training import TrainingWarning

pytestmark = [
    pytest.mark.filterwarnings("ignore::ctrkit.evaluation.EvaluationWarning"),
    pytest.mark.filterwarnings("ignore::ctrkit.calibration.CalibrationWarning"),
]
CONFIG: dict[str, Any] = {
    "features": {
        "labels": {"click": "click"},
        "group": "user",
        "timestamp": "time",
        "categorical": [{"name": "ad"}],
        "numeric": [{"name": "price"}],
    },
    "split": {"train": 0.6, "valid": 0.2},
    "model": {"name": "dnn", "embedding": 4, "heads": {"towers": [8]}},
    "training": {"epochs": 1, "batch_size": 256, "optimizer": {"learning_rate": 0.01}},
}
FAST = ("draws=20", "parts=2", "figures=false")


def made(rows: int = 3000, seed: int = 0) -> pl.DataFrame:
    """Clicks that depend on the ad and the price; a row a second."""
    rng = np.random.default_rng(seed)
    ad, price = rng.integers(0, 12, rows), rng.lognormal(size=rows)
    rate = 1.0 / (1.0 + np.exp(1.0 + 0.5 * np.log(price) - np.linspace(-1, 1, 12)[ad]))
    return pl.DataFrame(
        {
            "time": np.arange(rows) + 1_700_000_000 + seed * rows,
            "user": [f"u{one}" for one in rng.integers(0, 200, rows)],
            "ad": ad,
            "price": price,
            "click": (rng.random(rows) < rate).astype(np.int8),
        }
    )


def train(table: pl.DataFrame, folder: Path, config: dict[str, Any] | None = None, **features: Any) -> Any:
    chosen = config or {**CONFIG, "features": {**CONFIG["features"], **features}}
    return ctrkit.train(chosen, table, model=folder / "model.pt", out=folder / "train")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on `made()`."""
    folder = tmp_path_factory.mktemp("model")
    train(made(), folder)
    return folder / "model.pt"


SAME_ROWS = {
    "later": pl.col("time") + 86_400,
    "at other times": pl.col("time").shuffle(seed=1),
    "all at once": pl.lit(1_700_000_000).alias("time"),
    "with users named anew": "x" + pl.col("user"),
    "with rounded prices": pl.col("price").round(1),
    "with prices of another type": pl.col("price").cast(pl.Float32),
    "with ads as text": pl.col("ad").cast(pl.String),
    "with times as text": pl.from_epoch("time").dt.strftime("%Y-%m-%dT%H:%M:%S"),
}


@pytest.mark.parametrize("change", SAME_ROWS)
def test_training_rows_are_known_again_whatever_was_done_to_them(
    model: Path, tmp_path: Path, change: str
) -> None:
    """Of them, or of some of them in another order, no evaluation is said to be on rows never seen."""
    table = made().with_columns(SAME_ROWS[change])
    whole = ctrkit.evaluate(model, table, out=tmp_path / "e", overrides=FAST)
    if "of the table that the model was trained on" not in whole.notes[0]:
        # Training has seen three of five.
        assert any("trained on about 6" in note for note in whole.notes), whole.notes
    some = table.filter(pl.int_range(pl.len()) < 1800).sample(fraction=1.0, shuffle=True, seed=0)
    found = ctrkit.evaluate(model, some, out=tmp_path / "f", overrides=FAST)
    assert any("trained on about" in note for note in found.notes), found.notes


def test_test_rows_are_those_of_the_training_tables_own_times(model: Path, tmp_path: Path) -> None:
    shuffled = ctrkit.evaluate(
        model, made().with_columns(SAME_ROWS["at other times"]), out=tmp_path / "e", overrides=FAST
    )
    assert "not the training table" in shuffled.notes[0]
    own = ctrkit.evaluate(model, made(), out=tmp_path / "f", overrides=FAST)
    assert "600 test rows of the table that the model was trained on" in own.notes[0]


def test_other_rows_are_not_taken_for_those_of_training(model: Path, tmp_path: Path) -> None:
    found = ctrkit.evaluate(model, made(seed=1), out=tmp_path / "e", overrides=FAST)
    assert not any("trained on about" in note for note in found.notes), found.notes


def test_rows_that_are_mostly_alike_are_told_apart_only_beyond_chance(tmp_path: Path) -> None:
    """One feature of four values and no time: nearly every row looks like one of training."""
    features = {"labels": {"click": "click"}, "categorical": [{"name": "ad"}]}
    config = {**CONFIG, "features": features}
    few = [made(seed=seed).with_columns(pl.col("ad") % 4) for seed in (0, 1)]
    train(few[0], tmp_path, config)
    found = ctrkit.evaluate(tmp_path / "model.pt", few[1], out=tmp_path / "e", overrides=FAST)
    assert not any("trained on about" in note for note in found.notes), found.notes


def test_an_artifact_without_times_still_knows_its_table(model: Path, tmp_path: Path) -> None:
    loaded = ctrkit.load(model)
    del loaded.artifact.data["times"], loaded.artifact.data["seen"]["event"]
    own = ctrkit.evaluate(loaded, made(), out=tmp_path / "e", overrides=FAST)
    assert "test rows of the table that the model was trained on" in own.notes[0]


def test_what_does_not_decide_the_weights_lets_a_run_go_on(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, total: int, what: str) -> None:
        if done == 5:
            raise Stop

    for name in ("one.parquet", "two.parquet"):
        made().write_parquet(tmp_path / name)
    base = {**CONFIG, "training": {**CONFIG["training"], "checkpoint_steps": 2}}
    with pytest.raises(Stop):
        ctrkit.train(
            base, tmp_path / "one.parquet", model=tmp_path / "m.pt", out=tmp_path / "run", on_step=stop
        )
    changed = {**base, "policy": {"name": "softmax", "temperature": 2.0}}
    changed["training"] = {**base["training"], "epochs": 2, "patience": 3, "checkpoint_steps": 50}
    result = ctrkit.train(changed, tmp_path / "two.parquet", model=tmp_path / "m.pt", out=tmp_path / "run")
    assert result.history.resumed
    assert not result.notes


@pytest.mark.parametrize(
    ("home", "part"),
    [
        (api_train, "task_metrics"),
        (NetworkTraining, "posterior"),
        (training_rows, "seen_state"),
        (training_rows, "training_profile"),
    ],
)
def test_what_fails_after_training_costs_no_trained_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: ModuleType | type, part: str
) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        raise DataError("it cannot be told")

    monkeypatch.setattr(home, part, broken)
    with pytest.warns(TrainingWarning, match=r"There is no .*: it cannot be told"):
        result = train(made(), tmp_path)
    assert any("it cannot be told" in note for note in result.notes)
    assert result.notes[0] in (tmp_path / "train" / "report.html").read_text()
    assert set(ctrkit.load(tmp_path / "model.pt").predict(made())["click"].is_finite()) == {True}
    assert not (tmp_path / "train" / "checkpoint.pt").exists()
    ctrkit.evaluate(tmp_path / "model.pt", made(), out=tmp_path / "e", overrides=FAST)


@pytest.mark.parametrize(("label", "said"), [(0, "none of the 1,800"), (1, "every one of the 1,800")])
def test_labels_of_one_class_are_told_before_training(tmp_path: Path, label: int, said: str) -> None:
    with pytest.raises(DataError, match=f"column 'click': {said} training rows has a click"):
        train(made().with_columns(click=pl.lit(label)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_later_task_without_positives_is_told_and_trained(tmp_path: Path) -> None:
    with pytest.warns(TrainingWarning, match="bought: none of the .* training rows with click has a buy"):
        train(made().with_columns(bought=pl.lit(0)), tmp_path, labels={"click": "click", "buy": "bought"})
    assert ctrkit.load(tmp_path / "model.pt").tasks == ("click", "buy")


def test_a_column_is_the_label_of_one_task(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'click' is the label of two tasks"):
        train(made(), tmp_path, labels={"click": "click", "conversion": "click"})
    with pytest.raises(ConfigError, match="'click' is a label and cannot be the row weight"):
        train(made(), tmp_path, weight="click")


NOISE = pl.int_range(pl.len()).hash(seed=3) % 1000
LEAKS = {
    "a copy as a number": ("numeric", pl.col("click").cast(pl.Float64)),
    "its opposite as a number": ("numeric", 5.0 - pl.col("click")),
    "a copy as an id": (
        "categorical",
        pl.when(pl.col("click") == 1).then(pl.lit("yes")).otherwise(pl.lit("no")),
    ),
    "a copy with faults": ("categorical", pl.when(NOISE < 10).then(1 - pl.col("click")).otherwise("click")),
    "seconds on the page": ("numeric", pl.col("click") * (1.0 + NOISE / 10)),
    "not monotone": ("numeric", pl.when(pl.col("click") == 1).then(0.0).otherwise(1.0 - 2.0 * (NOISE % 2))),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_feature_that_gives_the_label_away_is_named(tmp_path: Path, leak: str) -> None:
    kind, column = LEAKS[leak]
    table = made().with_columns(column.alias("later"))
    more = {kind: [*CONFIG["features"][kind], {"name": "later"}]}
    with pytest.warns(TrainingWarning, match="'later' alone predicts click"):
        result = train(table, tmp_path, **more)
    assert len(result.notes) == 1
    found = ctrkit.evaluate(tmp_path / "model.pt", table, out=tmp_path / "e", overrides=FAST)
    verdict = found.tasks["click"].verdict
    assert verdict.decision == "cannot tell" or verdict.decision == "not fit"
    assert "'later' alone predicts click" in verdict.sentence


def test_sound_features_give_nothing_away(model: Path, tmp_path: Path) -> None:
    found = ctrkit.evaluate(model, made(), out=tmp_path / "e", overrides=FAST)
    assert not [one for one in found.tasks["click"].verdict.findings if one.rule == "leak"]


def test_a_table_with_the_columns_of_the_sample_logs_is_read_as_these(
    logs: Path, tmp_path: Path, small: tuple[str, ...]
) -> None:
    with pytest.raises(DataError, match=r"no config says what the columns of this table mean.*--config"):
        ctrkit.train(data=made(), overrides=("features.group=user",))
    table = pl.read_parquet(logs / "impressions.parquet").head(2000).with_columns(mine=pl.lit(1))
    result = ctrkit.train(
        data=table, model=tmp_path / "m.pt", out=tmp_path / "r", overrides=(*small, "training.epochs=1")
    )
    assert "No config was given: the columns are read as those of the sample logs." in result.notes[0]
    assert "mine" in result.notes[0]


@pytest.mark.filterwarnings("ignore::ctrkit.errors.DataWarning")  # a column of new ads alone is told of
def test_an_ad_that_training_has_not_seen_is_read_as_the_mean_of_those_it_has(model: Path) -> None:
    """The click rate that the model gives to a new ad lies among those of the ads it knows."""
    table = made()[:200]
    loaded = ctrkit.load(model)
    embedding = loaded.network.embedding
    assert embedding is not None
    (kind,) = embedding.kinds
    weight, known = kind.matrix.weight.detach().numpy(), loaded.encoder.vocabularies["ad"]
    seen = dict(made()[:1800].group_by("ad").len().iter_rows())
    counts = np.array([seen[int(ad)] for ad in known])
    np.testing.assert_allclose(weight[1], counts @ weight[2:] / counts.sum(), rtol=1e-4, atol=1e-6)
    rates = [loaded.predict(table.with_columns(ad=pl.lit(ad)))["click"].mean() for ad in (*range(12), 99)]
    assert min(rates[:-1]) < rates[-1] < max(rates[:-1])


def test_rows_without_any_weight_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column 'w': all 1,800 training rows have the weight 0"):
        train(made().with_columns(w=pl.lit(0.0)), tmp_path, weight="w")
    with pytest.raises(DataError, match=r"none of the .* training rows with a weight above 0 has a click"):
        train(made().with_columns(w=1 - pl.col("click")), tmp_path, weight="w")


def test_a_row_of_weight_zero_teaches_no_id_and_no_scale(tmp_path: Path) -> None:
    table = made().with_columns(w=pl.lit(1.0))
    strange = table[:600].with_columns(ad=pl.lit(77, pl.Int64), price=pl.lit(1e6), w=pl.lit(0.0))
    features = {**CONFIG["features"], "weight": "w", "timestamp": None}
    config = {**CONFIG, "features": features, "split": {"by": "random"}}
    encoders = []
    for rows in (table, pl.concat([table, strange])):
        train(rows, tmp_path, config)
        encoders.append(ctrkit.load(tmp_path / "model.pt").encoder)
    assert "77" not in encoders[1].vocabularies["ad"]
    of_all, of_counted = (encoder.scales["price"] for encoder in encoders)
    assert of_counted.zero == pytest.approx(of_all.zero, rel=0.1)


def test_too_few_rows_are_told(tmp_path: Path) -> None:
    for rows in (1, 2):
        with pytest.raises(DataError, match="distinct time stamp"):
            train(made()[:rows], tmp_path)


def test_columns_hold_what_the_spec_says_whatever_they_were_stored_as(tmp_path: Path) -> None:
    train(made(), tmp_path)
    later = made(seed=1).with_columns(time=pl.col("time").cast(pl.Int64))

    def found(table: pl.DataFrame) -> dict[str, Any]:
        told: dict[str, Any] = ctrkit.evaluate(
            tmp_path / "model.pt", table, out=tmp_path / "evaluated", overrides=FAST
        ).to_dict()
        return told

    stored = later.with_columns(
        ad=pl.col("ad").cast(pl.Float64),
        price=pl.col("price").cast(pl.String),
        click=pl.Series(["True" if one else "False" for one in later["click"]]),
        user=pl.col("user") + " ",
        time=pl.col("time").cast(pl.String),
    )
    assert found(stored) == found(later)


@pytest.mark.parametrize("unknown", ["", "nan", None, "anonymous"])
def test_rows_without_a_user_are_told_of_whatever_stands_there(tmp_path: Path, unknown: str | None) -> None:
    user = pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit(unknown)).otherwise("user")
    notes = train(made().with_columns(user=user.cast(pl.String)), tmp_path).notes
    said = "1,000 of 3,000 rows have no 'user'"
    assert (said if unknown != "anonymous" else "'anonymous' is the 'user' of 33% of the rows") in notes[-1]
    assert not train(made(), tmp_path).notes


def test_a_missing_label_is_a_0_before_it_is_a_row_to_drop(tmp_path: Path) -> None:
    shown = made().with_columns(click=pl.when(pl.col("click") == 1).then(1))
    with pytest.raises(DataError, match="Write 0 where it did not happen"):
        train(shown, tmp_path)
    funnel = made().with_columns(buy=pl.when(pl.col("click") == 1).then(0))
    tasks = {**CONFIG, "features": {**CONFIG["features"], "labels": {"click": "click", "buy": "buy"}}}
    with pytest.raises(DataError, match="Write 0 where 'click' is 0"):
        ctrkit.train(tasks, funnel, model=tmp_path / "model.pt", out=tmp_path / "run")


def test_weights_that_sum_to_one_start_from_the_same_base_rate() -> None:
    labels = np.repeat([[1.0], [0.0]], [20, 80], axis=0).astype(np.float32)
    ones = np.ones(100, dtype=np.float32)
    assert base_rates(labels, ones / 100) == pytest.approx(base_rates(labels, ones))
    twice = np.concatenate([labels, labels]), np.concatenate([ones, ones])
    assert base_rates(labels, 2 * ones) == pytest.approx(base_rates(*twice))


def test_numbers_far_outside_training_among_the_held_out_rows_are_told(tmp_path: Path) -> None:
    rows = made().with_columns(
        price=pl.when(pl.col("time") == pl.col("time").max()).then(1e9).otherwise("price")
    )
    (note,) = train(rows, tmp_path).notes
    assert "Validation and test rows: Column 'price'" in note


@pytest.mark.parametrize("role", ["group", "timestamp"])
def test_a_label_is_no_group_and_no_time(tmp_path: Path, role: str) -> None:
    features = {**CONFIG["features"], role: "click"}
    with pytest.raises(ConfigError, match=f"'click' is a label and cannot be the {role} as well"):
        ctrkit.train({**CONFIG, "features": features}, made(), out=tmp_path / "run")


def test_what_stands_mostly_with_a_click_is_no_leak_where_all_rows_are_looked_at(tmp_path: Path) -> None:
    rows = made(60_000)
    rng = np.random.default_rng(0)
    click = (rng.random(rows.height) < 0.02).astype(np.int8)
    bought = (click == 1) & (rng.random(rows.height) < 0.3)
    # Three rows without a click, none of which is among the sixth of such that is looked at first.
    often = bought | ((click == 0) & (np.cumsum(click == 0) % 15_000 == 1))
    table = rows.with_columns(click=click, bought=bought.astype(np.int8), often=often.astype(np.int8))
    with pytest.warns(TrainingWarning, match="'bought'"):
        notes = train(
            table, tmp_path, categorical=[{"name": "ad"}, {"name": "bought"}, {"name": "often"}]
        ).notes
    assert "value or range of 'bought' have a click" in notes[0]
    assert len(notes) == 1
