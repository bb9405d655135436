"""Simulate, log, train, evaluate offline, simulate again: the loop closes, with the market's own values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.api.bidding.logs import write_logs
from ctrkit.api.bidding.scored_auctions import opened_auctions, scored_auctions
from ctrkit.api.models.model import Model
from ctrkit.bidding import CampaignTerms, SimulationResult, parse_strategy, simulate
from ctrkit.policies import padded

# Policies are evaluated with the model that the bidder had, and no model is fitted for it.
QUICK = ("estimators=[ips, snips, dr]", "reward_model=artifact")


@dataclass(frozen=True)
class Run:
    """A simulation, and the folder of its logs."""

    result: SimulationResult
    logs: Path

    def value(self, strategy: str) -> float:
        return next(one.value for one in self.result.strategies if one.name == strategy)


def bid(auctions: Path, model: Model | Path, strategies: Sequence[str], folder: Path) -> Run:
    """Bid for clicks with half of what all auctions cost, and write the logs."""
    table, file, scorer, _ = opened_auctions(auctions, model)
    assert scorer is not None
    names = [parse_strategy(name, scorer.posterior) for name in strategies]
    scored = scored_auctions(table, scorer, 1.0, file, lambda done, total, what: None)
    budget = 0.5 * float(table["market_price"].sum())
    result = simulate(scored, names, CampaignTerms(budget), auctions_expected=table.height, seed=1)
    write_logs(table, result.events, [one.name for one in result.strategies], folder)
    return Run(result, folder)


@pytest.fixture(scope="module")
def first(trained: Path, logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("loop") / "logs"
    return bid(logs / "auctions.parquet", trained, ["thompson", "epsilon-greedy:epsilon=0.5"], folder)


def truth_of_greedy(model: Path, log: pl.DataFrame) -> float:
    """What the model's favourite ads are truly worth on the auctions won, by the market's own numbers."""
    scores = ctrkit.load(model).score_candidates(log, log["candidates"]).probabilities["click"]
    truth = padded(log["true_click_probability"])
    return float(truth[np.arange(len(truth)), scores.argmax(axis=1)].mean())


@pytest.mark.parametrize("strategy", ["thompson", "epsilon-greedy"])
def test_the_offline_value_of_another_policy_is_the_simulated_truth(
    first: Run, trained: Path, strategy: str
) -> None:
    file = first.logs / strategy / "bandit.parquet"
    given = [f"{trained}:greedy", f"{trained}:softmax,temperature=0.2", "logging"]
    found = ctrkit.evaluate_policy(file, given, overrides=QUICK)
    log = pl.read_parquet(file)
    own, _, logging = found.evaluation.policies
    assert own.truth == pytest.approx(truth_of_greedy(trained, log), rel=1e-6)
    assert logging.truth == pytest.approx(
        (padded(log["logging_probabilities"]) * padded(log["true_click_probability"])).sum(axis=1).mean()
    )
    for policy, judged in zip(found.to_dict()["policies"], found.evaluation.policies, strict=True):
        assert judged.truth is not None
        for estimate in policy["estimates"]:
            assert estimate["low"] <= judged.truth <= estimate["high"], (policy["name"], estimate)
        # Intervals are those of a log that tells something.
        assert policy["estimates"][0]["high"] < 5 * judged.truth
        assert policy["diagnostics"]["effective_sample_size"] > 100


def test_the_log_of_a_bidder_that_explores_little_does_not_pass_for_one_that_tells_all(first: Run) -> None:
    file = first.logs / "thompson" / "bandit.parquet"
    found = ctrkit.evaluate_policy(file, "uniform", overrides=["estimators=[ips]"])
    uniform = found.to_dict()["policies"][0]
    assert uniform["diagnostics"]["mean_weight"] < 0.9  # ads that were never a draw's best
    assert uniform["verdict"] == "do not trust"


@pytest.mark.slow
def test_a_model_trained_on_what_was_won_bids_again(
    first: Run, logs: Path, tmp_path: Path, small: tuple[str, ...]
) -> None:
    new = first.logs / "epsilon-greedy" / "impressions.parquet"
    old = pl.read_parquet(logs / "impressions.parquet").drop("conversion_delay")
    both = [tmp_path / "old.parquet", new]
    old.write_parquet(both[0])
    model = tmp_path / "model.pt"
    trained = ctrkit.train(
        data=both, model=model, out=tmp_path / "train",
        overrides=[*small, "training.epochs=1", "split.valid=0.05", "split.train=0.9"],
    )  # fmt: skip
    won = int(first.result.events.filter(pl.col("strategy") == "epsilon-greedy")["won"].sum())
    assert won > 1000
    assert sum(trained.rows[part] for part in ("train", "valid", "test")) == old.height + won
    again = bid(logs / "auctions.parquet", model, ["thompson"], tmp_path / "logs")
    assert again.value("thompson") > 0.5 * first.value("thompson")
    assert pl.read_parquet(again.logs / "thompson" / "bandit.parquet").height > 1000
