"""Every command on a log takes the names that the log has of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import ctrkit
from ctrkit.api.sample_logs import bundled
from ctrkit.errors import ConfigError, DataError
from ctrkit.ope import log_parts, read_bandit_log
from ctrkit.ope.evaluation import parts
from ctrkit.schema import BANDIT_LOG

OWN = {"action": "ad", "propensity": "p_show", "reward": "won", "candidates": "ads"}
AUCTIONS = {"market_price": "price_to_beat", "pctr": "guess"}
BIDS = {"bid": "offer", "density": "likelihood"}


@pytest.fixture(scope="module")
def bandit() -> pl.DataFrame:
    return pl.read_parquet(bundled("logs_sample", "bandit.parquet")).head(1500)


@pytest.fixture(scope="module")
def auctions() -> pl.DataFrame:
    log = pl.read_parquet(bundled("logs_sample", "auctions.parquet")).head(500)
    return log.select("timestamp", "market_price", "user_id", pctr=0.02, click=pl.int_range(500) % 40 == 0)


@pytest.fixture(scope="module")
def bids() -> pl.DataFrame:
    number = pl.int_range(400, eager=True)
    return pl.DataFrame(
        {"bid": number % 20 + 0.5, "density": [0.05] * 400, "reward": number % 7 < 2}
    ).with_columns(target_bid=pl.col("bid") * 0.9, reward=pl.col("reward").cast(pl.Int8))


COMMANDS: list[tuple[str, dict[str, str], Callable[..., Any]]] = [
    ("bandit", OWN, partial(ctrkit.evaluate_policy, policy="uniform", estimators=["ips"])),
    ("bandit", OWN, ctrkit.check_log),
    ("bandit", OWN, ctrkit.learn_policy),
    ("bids", BIDS, partial(ctrkit.evaluate_policy, bid_range=(0, 20))),
    ("auctions", AUCTIONS, partial(ctrkit.simulate_bidding, budget=5, strategies=["dual"])),
    ("auctions", AUCTIONS, lambda log, **keywords: ctrkit.plan_budget(5, auctions=log, **keywords)),
]


@pytest.mark.parametrize(("kind", "names", "command"), COMMANDS)
def test_a_command_reads_a_log_with_names_of_its_own_like_any_other(
    kind: str, names: dict[str, str], command: Callable[..., Any], request: pytest.FixtureRequest
) -> None:
    log: pl.DataFrame = request.getfixturevalue(kind)
    if command is not ctrkit.learn_policy:  # which takes seconds
        own, plain = command(log.rename(names), map=names).report(), command(log).report()
        assert (own.answer, own.notes) == (plain.answer, plain.notes)
    with pytest.raises(ConfigError, match="has no column 'acion'"):
        command(log, map={"acion": "ad"})
    first = next(iter(names))
    with pytest.raises(DataError, match=f"column 'lost': no such column, and `map` names it for '{first}'"):
        command(log, map=f"{first}=lost")


def test_a_long_file_is_read_part_by_part_with_its_own_names(
    bandit: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "BATCH", 400)
    file = tmp_path / "own.parquet"
    # An `action` that is none stands beside the one that is named.
    bandit.rename(OWN).with_columns(action=pl.lit("shown")).write_parquet(file, row_group_size=500)
    schema = BANDIT_LOG.called(OWN)
    (whole, *more) = log_parts(str(file), schema=schema)
    assert not more
    assert whole.names == {*bandit.columns}
    found = pl.concat([log.table for log in whole.batches()])
    assert found.select(bandit.columns).equals(read_bandit_log(bandit).table)
    some = [log.table for log in whole.batches({"candidates"})]
    assert {"action", "propensity", "reward", "candidates"} <= {*some[0].columns}
    assert some[0]["action"].equals(found["action"][:400])
    with pytest.raises(DataError, match=r"own\.parquet, column 'lost'"):
        log_parts(str(file), schema=BANDIT_LOG.called({"reward": "lost"}))


def test_a_propensity_for_all_rows_is_that_of_the_log(bandit: pl.DataFrame) -> None:
    log = bandit.drop("propensity", "logging_probabilities")
    asked = {"policy": "uniform", "estimators": ["ips", "snips"]}
    given = ctrkit.evaluate_policy(log, **asked, propensity=0.125)
    column = ctrkit.evaluate_policy(log.with_columns(propensity=0.125), **asked)
    assert given.report().answer == column.report().answer
    with pytest.raises(DataError, match="column 'propensity': the bandit log has this column"):
        ctrkit.check_log(bandit, propensity=0.5)
