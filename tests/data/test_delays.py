"""Labels that come late, beside scipy's product-limit estimate, a reading row by row and enumeration."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import CensoredData, ecdf

from ctrkit.config import build
from ctrkit.data.delays import DelayConfig, LateLabels, settled
from ctrkit.data.encoder import Encoder
from ctrkit.data.seen_share import seen_share
from ctrkit.data.split import SplitConfig, split_rows
from ctrkit.errors import ConfigError, DataError
from ctrkit.schema import FeatureSpec
from ctrkit.training.losses import entire_space, known, pointwise_loss, task_losses, value_loss

DAY = 86_400.0
SPEC = FeatureSpec.model_validate(
    {
        "categorical": [{"name": "ad"}],
        "labels": {"click": "click", "conversion": "conversion"},
        "timestamp": "time",
    }
)


def late(**settings: Any) -> dict[str, DelayConfig]:
    return {"conversion": build(DelayConfig, {"window": "3d", "delay": "delay", **settings})}


def log(rows: int = 400, days: float = 20, mean: float = 1.5, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    click = rng.random(rows) < 0.6
    conversion = click & (rng.random(rows) < 0.5)
    delay = pl.Series(rng.exponential(mean * DAY, rows)).set(pl.Series(~conversion), None)
    time = 1.7e9 + np.sort(rng.uniform(0, days * DAY, rows))
    return pl.DataFrame(
        {
            "time": time,
            "ad": rng.integers(0, 3, rows),
            "click": click.astype(int),
            "conversion": conversion.astype(int),
            "delay": delay,
            "at": time + delay,
        }
    )


def test_the_share_seen_is_the_product_limit_estimate() -> None:
    rng = np.random.default_rng(0)
    delays, ages = np.ceil(rng.exponential(4, 60)), np.ceil(rng.uniform(0, 10, 60))
    happened, weight, window = (delays <= np.minimum(ages, 8)), rng.integers(0, 4, 60), 8.0
    found = seen_share(delays, happened, ages, weight.astype(float), window)
    copies = np.repeat(np.arange(60), weight)
    until = np.minimum(np.where(happened, delays, ages), window)[copies]
    of_events = happened[copies]
    sample = CensoredData(until[of_events], right=until[~of_events])
    come = 1 - ecdf(sample).sf.evaluate(np.arange(9.0))
    np.testing.assert_allclose(found.at(np.arange(9.0)), come / come[-1], rtol=1e-12)
    assert found.median == np.arange(9.0)[np.argmax(come / come[-1] >= 0.5)]


@pytest.mark.parametrize("by", ["time", "random"])
def test_labels_are_those_that_were_known(by: str) -> None:
    table, config = log(), late(end=1.7e9 + 19 * DAY)
    labels = LateLabels.read(config, SPEC, table, None)
    assert labels is not None
    split = split_rows(SPEC, SplitConfig(by=by), table, 0, None, labels.settled_until)
    found = labels.outcomes(split)
    training, one = set(split.train.tolist()), found.maturity[0]
    for row, (time, click, conversion, delay) in enumerate(
        table.select("time", "click", "conversion", "delay").iter_rows()
    ):
        as_of = split.boundaries[0] if row in training and split.boundaries else 1.7e9 + 19 * DAY
        expected = float(conversion == 1 and delay <= 3 * DAY) if as_of - time >= 3 * DAY else np.nan
        np.testing.assert_array_equal(found.labels[row], [click, expected], str(row))
    assert not found.left_out.any()
    assert one.left_out["train"] == np.isnan(found.labels[split.train, 1]).sum() > 20
    assert one.late == (table["delay"] > 3 * DAY).sum() > 10
    if by == "time":  # shares are of rows that mature, so that validation and test have some
        assert one.left_out["valid"] == 0 < one.left_out["test"] < one.rows["test"]
        assert split.later == one.left_out["test"]
        assert one.unseen > 0


def test_a_column_of_times_gives_the_same_labels_as_one_of_delays() -> None:
    table = log()
    both = [late(), late(delay=None, time="at", window=3 * DAY)]
    read = [LateLabels.read(config, SPEC, table, None) for config in both]
    first, second = (one.outcomes(None) for one in read if one is not None)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert first.maturity[0].end == second.maturity[0].end == pl.concat([table["time"], table["at"]]).max()


def test_weighted_labels_are_unbiased() -> None:
    """One by one, for any delays: E of the loss of s / F over s is the loss of the probability."""
    rng = np.random.default_rng(0)
    p, seen, logits = (torch.from_numpy(rng.uniform(0.1, 0.9, (50, 2))) for _ in range(3))
    logits = torch.logit(logits)
    losses = [
        pointwise_loss(entire_space(logits), label, focal_gamma=1.5, label_smoothing=0.1)
        for label in (torch.zeros_like(p), 1 / seen, p)
    ]
    mean = (1 - p * seen) * losses[0] + p * seen * losses[1]
    torch.testing.assert_close(mean, losses[2])


def test_weighted_labels_have_the_mean_of_matured_ones() -> None:
    table = log(60_000, days=8).with_columns(pl.col("time") - 1e-3)
    labels = LateLabels.read(late(end=float(table["time"].max()), immature="weight"), SPEC, table, None)  # type: ignore[arg-type]
    assert labels is not None
    split = split_rows(SPEC, SplitConfig(by="random", train=0.9, valid=0.05), table, 0)
    found, rows = labels.outcomes(split), split.train
    young = rows[(labels.late[0].end - labels.times[rows] < 3 * DAY) & ~np.isnan(found.labels[rows, 1])]
    truth = 0.6 * 0.5 * (1 - np.exp(-2))
    of_young = found.labels[young, 1]
    error = 4 * of_young.std() / np.sqrt(young.size)
    assert young.size == found.maturity[0].weighted > 15_000
    assert abs(of_young.mean() - truth) < error < 0.02
    assert (of_young > 0).mean() < truth - 0.05  # what taking them for negatives would give
    assert of_young.max() <= 10
    # Rows to choose and judge a model by have labels of 0 and 1 alone.
    assert {*np.unique(found.labels[split.valid, 1])} >= {0.0, 1.0}
    assert np.nanmax(found.labels[split.test]) == 1.0
    assert found.maturity[0].median_delay == pytest.approx(
        -1.5 * DAY * np.log(1 - 0.5 * (1 - np.exp(-2))), rel=0.05
    )


def test_losses_of_unknown_labels_are_those_of_the_known_rows() -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(40, 2))).requires_grad_()
    labels = torch.from_numpy(np.cumprod(rng.random((40, 2)) < 0.6, axis=1).astype(float))
    weight = torch.from_numpy(rng.integers(0, 3, 40).astype(float))
    matured = torch.arange(40) % 3 > 0
    partly = labels.clone()
    partly[~matured, 1] = torch.nan
    losses = task_losses(logits, *known(partly, weight))
    expected = [
        task_losses(logits, labels, weight)[0],
        task_losses(logits[matured], labels[matured], weight[matured])[1],
    ]
    torch.testing.assert_close(losses, torch.stack(expected))
    losses.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    nothing = torch.full_like(labels, torch.nan)
    assert task_losses(logits.detach(), *known(nothing, weight)).tolist() == [0.0, 0.0]
    distribution = torch.tensor([[0.3, 1.0, 0.5]]).double().expand(40, 3)
    of_value = value_loss(distribution, torch.ones(40).double(), *known(partly, weight))
    alone = value_loss(
        distribution[matured], torch.ones(40)[matured].double(), labels[matured], weight[matured]
    )
    torch.testing.assert_close(of_value, alone)


def test_a_row_whose_first_label_is_not_known_has_no_weight() -> None:
    spec = SPEC.model_copy(update={"labels": {"conversion": "conversion"}})
    table = log()
    labels = LateLabels.read(late(), spec, table, None)
    assert labels is not None
    found = labels.outcomes(split_rows(spec, SplitConfig(), table, 0, None, labels.settled_until))
    encoded = Encoder.fit(spec, table).encode(table)
    after = found.of(encoded)
    assert not np.isnan(after.labels).any()
    np.testing.assert_array_equal(after.weight == 0, found.left_out)
    assert 0 < found.left_out.sum() < table.height
    part = slice(30, 70)
    chunk = found.of(Encoder.fit(spec, table).encode(table[part]), part)
    np.testing.assert_array_equal(chunk.labels, after.labels[part])
    assert settled(late(), after, spec.tasks).labels.shape == (table.height, 0)


@pytest.mark.parametrize(
    ("column", "row", "value", "problem"),
    [
        ("delay", 5, None, "missing"),
        ("delay", 5, -1.0, "below 0"),
        ("delay", 5, float("nan"), "not a finite number"),
        ("at", 5, 1.69e9, "before its row"),
        ("at", 5, None, "missing"),
    ],
)
def test_faulty_delays_are_named(column: str, row: int, value: float | None, problem: str) -> None:
    table = log().with_columns(click=pl.lit(1), conversion=pl.lit(1))
    table = table.with_columns(pl.col("delay").fill_null(1.0), pl.col("at").fill_null(pl.col("time") + 1))
    at = pl.int_range(pl.len()) == row
    table = table.with_columns(pl.when(at).then(pl.lit(value)).otherwise(pl.col(column)).alias(column))
    config = late() if column == "delay" else late(delay=None, time="at")
    with pytest.raises(DataError, match=problem) as caught:
        LateLabels.read(config, SPEC, table, "log.csv")
    assert (caught.value.column, caught.value.row, caught.value.file) == (column, row, "log.csv")


def test_a_log_without_matured_rows_is_refused() -> None:
    for settings in ({"window": "40d"}, {"end": 5}):
        with pytest.raises(DataError, match="no row has matured"):
            LateLabels.read(late(**settings), SPEC, log(), None)
    labels = LateLabels.read(late(window="15d", end=1.7e9 + 20 * DAY), SPEC, log(), None)
    assert labels is not None
    with pytest.raises(DataError, match="no training row has matured"):
        labels.outcomes(split_rows(SPEC, SplitConfig(), log(), 0, None, labels.settled_until))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"window": "soon"}, "time span"),
        ({"window": 0}, "above 0"),
        ({"window": "inf"}, "finite"),
        ({"time": "at"}, "one of `delay`"),
        ({"delay": None}, "one of `delay`"),
        ({"end": "yesterday"}, "no time"),
        ({"immature": "drop"}, "there is no 'drop'"),
    ],
)
def test_faulty_settings_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        late(**settings)
    assert [late(window=given)["conversion"].window for given in ("36h", "90m", 5, "5")] == [
        129_600,
        5400,
        5,
        5,
    ]
