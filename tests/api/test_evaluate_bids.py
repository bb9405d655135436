"""`ctrkit ope` on logs of bids: told by their columns, the truth found, JSON as of other logs."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ctrkit.api.evaluate_bids import BidsValue, evaluate_bids
from ctrkit.api.evaluate_policy import evaluate_policy
from ctrkit.errors import ConfigError, DataError
from ctrkit.ope import read_bandit_log
from ctrkit.ope.bids.bid_log import is_bid_log
from ctrkit.ope.bids.evaluation import MEANING

ENDS = ["bid_range=[0,2]"]


def draw(seed: int, rows: int = 6000, high: float = 1.4) -> pl.DataFrame:
    """Bids from a density that rises from 0 to 2; a reward with a chance of 0.1 + 0.3 bid · context.

    The new bidder bids `high` on contexts above a half, where a bid is worth most, else 0.6.
    """
    rng = np.random.default_rng(seed)
    context = rng.random(rows)
    bid = -1 + np.sqrt(1 + 8 * rng.random(rows))
    new = np.where(context > 0.5, high, 0.6)
    return pl.DataFrame(
        {
            "context": context,
            "bid": bid,
            "density": 0.25 * (1 + bid),
            "reward": (rng.random(rows) < 0.1 + 0.3 * bid * context).astype(float),
            "target_bid": new,
        }
    )


def truth(table: pl.DataFrame) -> float:
    """Straight in the bid, so that smoothing over bids does no harm."""
    return float((0.1 + 0.3 * table["target_bid"] * table["context"]).mean())  # type: ignore[arg-type]


def lines(table: pl.DataFrame) -> str:
    events = [
        {
            "_label_ca": {"action": row["bid"], "pdf_value": row["density"], "cost": -row["reward"]},
            "EventId": f"e{number}",
            "c": {"target_bid": row["target_bid"], "context": row["context"]},
        }
        for number, row in enumerate(table.iter_rows(named=True))
    ]
    return "\n".join(["[checkpoint]", '{"RewardValue": 1}', *map(json.dumps, events)]) + "\n"


def write_lines(table: pl.DataFrame, path: Path) -> None:
    path.write_text(lines(table))


def write_packed(table: pl.DataFrame, path: Path) -> None:
    path.write_bytes(gzip.compress(lines(table).encode()))


WRITERS: dict[str, Callable[[Any, Path], object]] = {
    "parquet": lambda table, path: table.write_parquet(path),
    "csv": lambda table, path: table.write_csv(path),
    "jsonl": lambda table, path: table.write_ndjson(path),
    "json": write_lines,
    "dsjson": write_lines,
    "json.gz": write_packed,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_file_gives_what_the_table_gives(tmp_path: Path, kind: str) -> None:
    table = draw(0, 1000)
    path = tmp_path / f"bids.{kind}"
    WRITERS[kind](table, path)
    settings = [*ENDS, "bandwidth=0.2"]
    assert is_bid_log(path)
    found = evaluate_policy(str(path), overrides=settings)
    memory = evaluate_policy(table, overrides=settings)
    assert isinstance(found, BidsValue)
    for one, two in zip(found.evaluation.estimates, memory.evaluation.estimates, strict=True):  # type: ignore[attr-defined]
        assert (one.value, one.interval.low, one.difference) == pytest.approx(
            (two.value, two.interval.low, two.difference), rel=1e-9
        )


def test_columns_tell(tmp_path: Path) -> None:
    table = draw(0, 20)
    for names, bids in (
        ({}, True),
        ({"density": "pdf_value"}, True),
        ({"bid": "action", "density": "pdf_value"}, True),
        ({"bid": "action", "density": "pdf_value", "target_bid": "mine"}, True),
        ({"target_bid": "mine"}, True),
        # With a new bid even these names, which discrete logs have, mean bids.
        ({"bid": "action", "density": "propensity"}, True),
        ({"density": "gone"}, True),  # it is refused with the reason why
        ({"density": "gone", "target_bid": "mine"}, False),
        ({"bid": "gone"}, False),
        ({"bid": "action", "density": "propensity", "target_bid": "mine"}, False),
    ):
        renamed = table.rename(names)
        assert is_bid_log(renamed) is bids, names
        assert is_bid_log(renamed.to_pandas()) is bids
        assert is_bid_log(renamed.to_arrow()) is bids
        assert is_bid_log(renamed.lazy()) is bids
        assert is_bid_log(renamed.to_dict(as_series=False)) is bids
    discrete = table.with_columns(action=pl.lit(3), propensity=pl.lit(0.5)).drop("target_bid")
    assert not is_bid_log(discrete)  # a bid and a density are features of the context there
    read_bandit_log(discrete)
    for other in (None, 3, [], "", tmp_path / "absent.parquet", tmp_path):
        assert not is_bid_log(other)
    for name, text in (
        ("damaged.parquet", "bid,density"),
        ("damaged.jsonl", "{bid"),
        ("empty.csv", ""),
        ("discrete.json", '{"_label_cost": 1, "_label_probability": 0.5, "_label_Action": 1}\n'),
    ):
        path = tmp_path / name
        path.write_text(text)
        assert not is_bid_log(path)


def test_only_the_head_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "bids.csv"
    path.write_bytes(b"bid,density,target_bid\n1,1,1\n" * 100_000 + b"\xff\xfe")
    assert is_bid_log(path)


@pytest.mark.parametrize(("high", "verdict"), [(1.8, "better"), (0.3, "worse"), (1.356, "cannot tell")])
def test_truth_and_verdict(high: float, verdict: str) -> None:
    table = draw(1, 12_000, high)
    found = evaluate_policy(table, overrides=[*ENDS, "bandwidth=0.2"])
    policy = found.to_dict()["policies"][0]
    assert policy["verdict"] == verdict
    assert "local-dr: the difference" in policy["reason"]
    assert f"bandwidth of {policy['estimates'][2]['bandwidth']:.4g}" in policy["reason"]
    for estimate in policy["estimates"]:
        assert estimate["value"] == pytest.approx(truth(table), abs=0.03)
    assert policy["estimates"][2]["low"] < truth(table) < policy["estimates"][2]["high"]
    if verdict == "cannot tell":
        assert policy["sample_size"]["rows"] == 12_000
        assert "rows" in policy["reason"]


@pytest.mark.parametrize(
    ("change", "settings", "reason"),
    [
        ({"q_logged": pl.lit(0.0), "q_policy": pl.lit(1.5)}, ENDS, "the estimate of local-dr, 1."),
        ({"density": pl.col("density") * 1.5}, ENDS, "the mean weight is 0.6"),
        ({"reward": (pl.int_range(pl.len()) < 5).cast(float)}, ENDS, "only 5 rows have a reward"),
        ({}, [*ENDS, "bandwidth=0.001"], "effective sample size"),
        ({"target_bid": pl.lit(7.0)}, ENDS, "effective sample size is 0 of"),
    ],
)
def test_doubts(change: dict[str, pl.Expr], settings: list[str], reason: str) -> None:
    found = evaluate_policy(draw(2).with_columns(**change), overrides=settings)
    policy = found.to_dict()["policies"][0]
    assert policy["verdict"] == "do not trust"
    assert reason in policy["reason"]


def test_mass_lost_at_unknown_ends_is_no_doubt() -> None:
    # Half of the kernel of a bid of 0 lies below all logged bids.
    table = draw(3).with_columns(target_bid=pl.lit(0.0))
    found = evaluate_policy(table, overrides=["bandwidth=0.5"]).to_dict()
    assert found["policies"][0]["diagnostics"]["mean_weight"] == pytest.approx(0.5, abs=0.05)
    assert found["policies"][0]["verdict"] != "do not trust"
    assert any("bid_range, the smallest and the largest bid" in note for note in found["notes"])


def test_json_is_that_of_other_logs(tmp_path: Path) -> None:
    discrete = pl.DataFrame(
        {
            "action": [0, 1] * 200,
            "propensity": [0.5] * 400,
            "reward": [1.0, 0.0, 0.0, 0.0] * 100,
            "target_probability": [0.8, 0.2] * 200,
        }
    )
    other = evaluate_policy(discrete, out=tmp_path / "other", overrides=["estimators=[ips]"]).to_dict()
    found = evaluate_policy(draw(4), out=tmp_path / "bids", overrides=["bid_range=[-.inf, .inf]"]).to_dict()
    assert found.keys() == other.keys()
    assert found["logging"].keys() == other["logging"].keys()
    (mine,), (theirs,) = found["policies"], other["policies"]
    assert mine.keys() == theirs.keys()
    assert mine["diagnostics"].keys() == theirs["diagnostics"].keys()
    extra = {"bandwidth", "effective_sample_size", "meaning"}
    assert mine["estimates"][0].keys() == theirs["estimates"][0].keys() | extra
    assert [one["estimator"] for one in mine["estimates"]] == list(MEANING)
    # The kernel's weights are the diagnostics'.
    assert mine["estimates"][2]["effective_sample_size"] == mine["diagnostics"]["effective_sample_size"]
    run = json.loads((tmp_path / "bids" / "metrics.json").read_text())
    assert run == {"command": "ope", **found}
    assert {one.name for one in (tmp_path / "bids" / "figures").iterdir()} == {"estimates.svg", "weights.svg"}
    page = (tmp_path / "bids" / "report.html").read_text()
    for told in ("kernel-snips", "bandwidth", "effective rows", *MEANING.values(), "Verdict on target_bid"):
        assert told.replace("'", "&#x27;") in page, told
    assert ".inf" in (tmp_path / "bids" / "config.yaml").read_text()


def test_dropped_rows_count_as_many() -> None:
    table = draw(5, 3000)
    again = table["bid"] > 1
    thinned = table.with_columns(p_drop=0.5 * again.cast(pl.Float64))
    settings = [*ENDS, "bandwidth=0.2", "context_columns=[context]"]
    models = {"q_logged": 0.2 * pl.col("bid"), "q_policy": 0.2 * pl.col("target_bid")}
    found = evaluate_policy(thinned.with_columns(**models), overrides=settings)
    twice = pl.concat([table, table.filter(again)]).with_columns(**models)
    should = evaluate_policy(twice, overrides=settings)
    for one, two in zip(found.evaluation.estimates, should.evaluation.estimates, strict=True):  # type: ignore[attr-defined]
        assert (one.value, one.difference) == pytest.approx((two.value, two.difference), rel=1e-9)
    mine, theirs = (each.to_dict()["policies"][0]["diagnostics"] for each in (found, should))
    assert mine["rows"] == theirs["rows"] == twice.height
    assert mine["mean_weight"] == pytest.approx(theirs["mean_weight"])
    # Two copies say less than two rows.
    assert mine["effective_sample_size"] < theirs["effective_sample_size"]


def test_target_column_and_clusters() -> None:
    table = draw(6, 3000).rename({"target_bid": "mine"}).with_columns(place=pl.int_range(pl.len()) // 6)
    copies = pl.concat([table] * 3).with_columns(place=pl.col("place"), user_id=pl.int_range(pl.len()))
    models = {"q_logged": pl.lit(0.2), "q_policy": pl.lit(0.2)}
    settings = [*ENDS, "bandwidth=0.2"]

    def width(log: pl.DataFrame, *more: str) -> float:
        found = evaluate_policy(
            log.with_columns(**models), target_column="mine", overrides=[*settings, *more]
        )
        one = found.to_dict()["policies"][0]["estimates"][2]
        assert found.to_dict()["policies"][0]["name"] == "mine"
        assert ("clustered" in one["interval"]) is bool(more)
        return float(one["high"] - one["low"])

    # Three copies of every row look like three times the rows, unless what goes together is taken together.
    assert width(copies) < 0.7 * width(table)
    by_row = table.with_columns(copy=pl.int_range(pl.len()))
    copied = pl.concat([by_row] * 3)
    assert width(copied, "cluster_by=copy") == pytest.approx(width(table), rel=0.05)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"policy": "uniform"}, "chooses among candidates"),
        ({"policy": ["column:target_bid"]}, "chooses among candidates"),
        ({"overrides": ["estimators=[dr]"]}, "'estimators' does not apply to a log of bids"),
        ({"overrides": ["segments=[context]"]}, "'segments' does not apply"),
        ({"overrides": ["policy.name=greedy"]}, "'policy' does not apply"),
        ({"overrides": ["bandwith=1"]}, "Did you mean 'bandwidth'"),
        ({"overrides": ["bandwidth=0"]}, "bandwidth"),
        ({"overrides": ["kernel=box"]}, "no kernel"),
        ({"overrides": ["bid_range=[2,0]"]}, "is empty"),
    ],
)
def test_what_does_not_apply_is_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        evaluate_policy(draw(7, 200), **options, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_bad_logs_are_refused(tmp_path: Path) -> None:
    table = draw(8, 200)
    with pytest.raises(DataError, match="only a model of the market"):
        evaluate_policy(table.drop("density"), out=tmp_path)
    with pytest.raises(DataError, match="no such column") as caught:
        evaluate_bids(table.drop("target_bid"), out=tmp_path)
    assert caught.value.column == "target_bid"
    with pytest.raises(DataError, match="outside the range"):
        evaluate_policy(table, out=tmp_path, overrides=["bid_range=[0,1]"])


def test_settings_from_a_file(tmp_path: Path) -> None:
    config = tmp_path / "ope.yaml"
    config.write_text("bandwidth: 0.3\nbid_range: [0, 2]\n")
    found = evaluate_policy(draw(9, 500), config=config, out=tmp_path / "run", overrides=["kernel=gaussian"])
    assert "(as given): kernel-ips 0.3" in " ".join(found.to_dict()["notes"])
    config.write_text("interval: normal\n")
    with pytest.raises(ConfigError, match="'interval' does not apply"):
        evaluate_policy(draw(9, 500), config=config, out=tmp_path / "run")
