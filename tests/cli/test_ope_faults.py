"""What `ctrkit ope` says of logs and settings that give no answer, and of what it takes for granted."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from ctrkit.cli import app
from ctrkit.ope.estimators.interval_methods import INTERVALS

ROWS, ACTIONS = 2000, 4
# Where the reward model's part is not what is asked about.
IPS = ("--estimator", "ips")


def table(click_rate: float = 0.1, seed: int = 0) -> pl.DataFrame:
    """Decisions among four ads, of which the first is shown most; `shop` and users beside them."""
    rng = np.random.default_rng(seed)
    logging = np.tile([0.4, 0.3, 0.2, 0.1], (ROWS, 1))
    action = rng.choice(ACTIONS, ROWS, p=logging[0])
    return pl.DataFrame(
        {
            "user_id": rng.integers(0, 600, ROWS),
            "shop": rng.choice(["north", "south"], ROWS),
            "action": action,
            "propensity": logging[np.arange(ROWS), action],
            "reward": (rng.random(ROWS) < click_rate * (1 + action) / 2).astype(int),
            "candidates": [list(range(ACTIONS))] * ROWS,
            "logging_probabilities": logging.tolist(),
        }
    )


def put(row: int, name: str, value: Any, into: pl.DataFrame) -> pl.DataFrame:
    """The table with another value in one row of a column."""
    values = into[name].to_list()
    values[row] = value
    return into.with_columns(pl.Series(name, values, dtype=into.schema[name]))


@dataclass(frozen=True)
class Said:
    """What a call ended with.

    Attributes:
        content: of standard output, where it is JSON.
    """

    code: int
    content: dict[str, Any]
    told: str


def ope(folder: Path, log: pl.DataFrame, *arguments: str, policy: str | None = "uniform") -> Said:
    """`ctrkit ope` with a log, in a folder."""
    log.write_parquet(folder / "log.parquet")
    before = Path.cwd()
    os.chdir(folder)
    try:
        given = ["--logs", "log.parquet", *(() if policy is None else ("--policy", policy)), *arguments]
        result = CliRunner().invoke(app, ["ope", *given, "--json"], env={"COLUMNS": "200"})
    finally:
        os.chdir(before)
    return Said(result.exit_code, json.loads(result.stdout) if result.stdout else {}, result.stderr)


def complaint(said: Said, folder: Path) -> str:
    """The one message of a refused input, after checking that nothing was written."""
    assert said.code == 2, said.told
    assert "Traceback" not in said.told
    (line,) = (line for line in said.told.splitlines() if line.startswith("error: "))
    assert said.content["error"] == line.removeprefix("error: ")
    assert re.search(r"\. [A-Z].*[.?]$", line), f"no hint: {line}"
    assert [path.name for path in folder.iterdir()] == ["log.parquet"]
    return line


def verdict(said: Said) -> dict[str, Any]:
    """Of the first policy."""
    assert said.code == 0, said.told
    found: dict[str, Any] = said.content["policies"][0]
    assert f"Verdict on {found['name']}: {found['verdict']} ({found['reason']})" in " ".join(
        said.told.split()
    )
    return found


def test_a_policy_that_wants_what_was_never_logged_is_told_how_much(tmp_path: Path) -> None:
    log = table().with_columns(
        candidates=pl.Series([[*range(ACTIONS), 9]] * ROWS),
        logging_probabilities=pl.col("logging_probabilities").list.concat(pl.lit(0.0)),
    )
    found = verdict(ope(tmp_path, log, *IPS))
    assert found["verdict"] == "do not trust"
    assert (
        "20.0% of the policy's choices are actions that the logging policy never chooses" in found["reason"]
    )
    assert found["diagnostics"]["unsupported_share"] == pytest.approx(0.2)
    whole = verdict(ope(tmp_path, log, *IPS, policy="action:9"))
    assert whole["reason"].startswith("100.0% of the policy's choices")
    assert whole["verdict"] == "do not trust"


def test_a_policy_outside_the_support_shows_without_logged_probabilities_too(tmp_path: Path) -> None:
    """Where the log tells no probabilities of candidates, the mean weight gives it away."""
    log = table().drop("logging_probabilities").with_columns(candidates=pl.Series([[*range(8)]] * ROWS))
    found = verdict(ope(tmp_path, log, *IPS))
    assert found["verdict"] == "do not trust"
    assert re.search(
        r"the mean weight is 0\.\d+, .* the log lacks actions that the policy chooses", found["reason"]
    )


@pytest.mark.parametrize(
    ("row", "name", "value", "said"),
    [
        (7, "action", 12, "column 'action', row index 7: action 12 is not one of"),
        (3, "logging_probabilities", [0.4, 0.3, 0.2, 0.2], "the probabilities sum to 1.1, not to 1"),
        (3, "logging_probabilities", [0.4, 0.6], "row index 3: the list has 2 values for 4"),
        (5, "candidates", [0, 1, 2, 2], "row index 5: the list names a candidate twice"),
        (5, "propensity", 0.15, "row index 5: the propensity is 0.15, but logging_prob"),
        (2, "propensity", float("nan"), "column 'propensity', row index 2"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_is_named(row: int, name: str, value: Any, said: str, tmp_path: Path) -> None:
    message = complaint(ope(tmp_path, put(row, name, value, table())), tmp_path)
    assert message.startswith("error: log.parquet, ")
    assert said in message


def test_a_policys_own_probabilities_are_checked(tmp_path: Path) -> None:
    log = table().with_columns(new=pl.lit(0.3))
    assert "column 'new', row index 8" in complaint(
        ope(tmp_path, put(8, "new", 1.3, log), "--target-column", "new", policy=None), tmp_path
    )
    near = complaint(ope(tmp_path, log.rename({"new": "newer"}), policy="column:never"), tmp_path)
    assert "column 'never'" in near
    assert "Did you mean 'newer'" in near
    assert "row index 0" in complaint(ope(tmp_path, log, policy="action:17"), tmp_path)
    both = complaint(ope(tmp_path, log, "--target-column", "new"), tmp_path)
    assert "Give one of --policy and --target-column" in both


def test_a_deterministic_logger_leaves_replay_or_a_model(tmp_path: Path) -> None:
    log = table().with_columns(propensity=pl.lit(1.0)).drop("logging_probabilities")
    found = verdict(ope(tmp_path, log, *IPS))
    assert found["verdict"] == "do not trust"
    assert "every propensity is 1" in found["reason"]
    assert "only by replay or by a reward model" in found["reason"]
    # Replay needs no propensity, and is there for who asks.
    replayed = verdict(ope(tmp_path, log, "--estimator", "replay", policy="action:2"))
    (estimate,) = replayed["estimates"]
    shown = log.filter(pl.col("action") == 2)["reward"].mean()
    assert estimate["value"] == pytest.approx(shown)
    # The logging policy itself can be told from such a log.
    same = ope(tmp_path, log.with_columns(new=pl.lit(1.0)), "--target-column", "new", policy=None)
    assert verdict(same)["verdict"] == "cannot tell"


def test_rewards_outside_the_stated_range(tmp_path: Path) -> None:
    log = put(11, "reward", 7.0, table().with_columns(pl.col("reward").cast(float)))
    for name in ("column 'reward', row index 11", "7 is outside the reward range from 0 to 5"):
        assert name in complaint(ope(tmp_path, log, "--set", "reward_range=[0,5]"), tmp_path)
    assert "is empty" in complaint(ope(tmp_path, log, "--set", "reward_range=[1,0]"), tmp_path)
    said = ope(tmp_path, log, "--set", "reward_range=[0,7]", *IPS)
    verdict(said)
    assert any("because rewards are between 0 and 7" in note for note in said.content["notes"])


@pytest.mark.parametrize("positives", [0, 9])
def test_few_rewards_are_no_ground_for_a_verdict(positives: int, tmp_path: Path) -> None:
    reward = np.zeros(ROWS, dtype=int)
    reward[:positives] = 1
    found = verdict(ope(tmp_path, table().with_columns(reward=pl.Series(reward))))
    assert found["verdict"] == "do not trust"
    assert f"only {positives} rows have a reward (at least 10 are needed)" in found["reason"]
    # What is not known is not claimed to be.
    assert [estimate["estimator"] for estimate in found["estimates"]] == ["ips", "snips", "dm", "dr"]
    for estimate in found["estimates"][:2]:
        assert estimate["high"] > estimate["value"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--interval", "cresie-read"), "there is no interval 'cresie-read'. Did you mean 'cressie-read'"),
        (("--estimator", "snip"), "there is no estimator 'snip'. Did you mean 'snips'"),
        (("--estimator", "dr-os:lamda=3"), "unknown key 'lamda'. Did you mean 'lambda'"),
        (("--engine", "rai"), "Did you mean 'ray'"),
        (("--segment", "shops"), "no such column for segments. Did you mean 'shop'"),
        (("--segment", "candidates"), "the values are lists, which cannot be segments"),
        (("--cluster-by", "user"), "column 'user': no such column to cluster by. Did you mean 'user_id'"),
        (("--outcome", "rewards"), "Did you mean 'reward'"),
        (("--action-feature", "brand"), "candidate_brand"),
        (("--policy", "unifrom"), "Did you mean 'uniform'"),
        (("--set", "reward_model=tree"), "trees"),
        (("--set", "context_columns=[shops]"), "Did you mean 'shop'"),
        (("--set", "estimator=[dr]"), "Did you mean 'estimators'"),
    ],
)  # fmt: skip
def test_what_there_is_not_is_named_with_what_is_near(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    assert said in complaint(ope(tmp_path, table(), *arguments), tmp_path)


def test_a_confidence_is_a_share(tmp_path: Path) -> None:
    said = ope(tmp_path, table(), "--confidence", "95")
    assert said.code == 2
    assert (
        "key 'confidence' is 95.0 and must be below 1. Give another value, or leave it out for 0.95."
        in said.told
    )
    assert [path.name for path in tmp_path.iterdir()] == ["log.parquet"]


def test_a_refusal_leaves_an_earlier_run_as_it_was(tmp_path: Path) -> None:
    assert ope(tmp_path, table(), *IPS).code == 0
    files = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    assert ope(tmp_path, table(), "--interval", "norml").code == 2
    assert ope(tmp_path, put(7, "action", 12, table())).code == 2
    assert files == {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()}


def test_a_log_without_propensities_is_said_aloud(tmp_path: Path) -> None:
    said = ope(tmp_path, table().drop("propensity", "logging_probabilities"), *IPS)
    verdict(said)
    (loud,) = (note for note in said.content["notes"] if note.startswith("THE LOG HAS NO PROPENSITIES"))
    assert "they were estimated from the log itself" in loud
    assert "THE LOG HAS NO PROPENSITIES" in said.told
    assert said.content["balance"]
    assert {"action", "column", "before", "after", "noise"} <= said.content["balance"][0].keys()
    page = (tmp_path / "runs" / "ope" / "report.html").read_text()
    assert "THE LOG HAS NO PROPENSITIES" in page
    assert "Balance under the estimated propensities" in page


WHY = {
    "cressie-read": ("cressie-read", "as asked for"),
    "normal": ("normal", "as asked for. They are too short where clicks are few"),
    "clopper-pearson": ("clopper-pearson", "They hold where clicks are few"),
    "empirical-bernstein": ("empirical Bernstein", "They hold for every length of the log"),
    "betting": ("betting, valid at any time", "They hold however often"),
    "bootstrap": ("bootstrap", "Poisson bootstrap by user"),
    "log-smoothing": ("log smoothing", "guaranteed bound for every length of the log"),
}


@pytest.mark.parametrize("interval", INTERVALS)
def test_each_interval_says_which_it_is_and_why(interval: str, tmp_path: Path) -> None:
    called, why = WHY[interval]
    log = table().drop("user_id")
    said = ope(tmp_path, log, "--interval", interval, *IPS, "--confidence", "0.9")
    (estimate,) = verdict(said)["estimates"]
    assert called.lower() in estimate["interval"].lower()
    assert estimate["low"] < estimate["value"] < estimate["high"]
    assert sum(why in note for note in said.content["notes"]) == 1


def test_rows_may_be_taken_one_by_one(tmp_path: Path) -> None:
    """As many rows of each user as there are, all alike: by user the interval is wider, by row it is not."""
    one = table().head(600).with_columns(user_id=pl.Series(range(600)))
    log = pl.concat([one] * 5)
    widths = {}
    for given, clustered in ((), True), (("--cluster-by", "row"), False), (("--cluster-by", "shop"), True):
        said = ope(tmp_path, log, *IPS, *given)
        (estimate,) = verdict(said)["estimates"]
        assert ("clustered" in estimate["interval"]) == clustered
        assert any("Intervals are clustered" in note for note in said.content["notes"]) == clustered
        widths[given] = estimate["high"] - estimate["low"]
    assert widths[()] / widths["--cluster-by", "row"] == pytest.approx(np.sqrt(5), rel=0.15)
