"""The loop of the sample market: bid, log, evaluate offline beside the truth, train anew, bid again.

    python benchmarks/closed_loop.py offline | again [--auctions 30000] [--seeds 20] [--trainings 3]

A small model is trained on the sample's impressions. It bids for clicks on the auctions of the last day, with
half of what all of them cost, and what is won is kept as logs.

`offline`: other policies are evaluated on the bandit logs. Clicks are drawn anew for each seed, and so are
the bidder's choices. The truth is the market's: what the policy's ads are worth, by their true probabilities
of a click, on average over the very impressions that were won. Shown are how often the 95 % interval holds it
(the line is 90 % of the seeds where the verdict trusts the log), and the bias: as a part of the truth, and
over its standard error, both over the seeds.

`again`: the model is trained on the old impressions, and on those together with what was won in the first
half of the day. All bid on the second half, each model trained several times. Shown is the value over the
hindsight optimum; there is no line.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import ctrkit
from ctrkit.api.bidding.logs import write_logs
from ctrkit.api.bidding.scored_auctions import scored_auctions
from ctrkit.api.models.model import Model
from ctrkit.api.sample_logs import bundled
from ctrkit.bidding import (
    Auctions,
    CampaignTerms,
    SimulationResult,
    parse_strategy,
    read_auction_log,
    simulate,
)
from ctrkit.bidding.market.auctions import joined
from ctrkit.calibration import CalibrationWarning
from ctrkit.data.synthetic import Market
from ctrkit.policies import padded
from ctrkit.progress import silent

SMALL = (
    "model.embedding=8", "model.width=16", "model.heads.towers=[16]", "training.epochs=2",
)  # fmt: skip
LOGGERS = ("thompson", "epsilon-greedy:epsilon=0.2")
POLICIES = ("greedy", "softmax,temperature=0.2")
ESTIMATORS = ("ips", "snips", "dr")
BIDDERS = ("dual", "greedy", "thompson")
# Of the seeds whose logs can be trusted.
COVERED = 0.9


def trained(impressions: pl.DataFrame, folder: Path, name: str, seed: int) -> Model:
    """A small calibrated model."""
    path = folder / f"{name}.pt"
    ctrkit.train(data=impressions, model=path, out=folder / name, overrides=[*SMALL, f"seed={seed}"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)  # of conversions, which nobody bids for here
        ctrkit.calibrate(path, impressions, out=folder / f"{name}-calibration")
    return ctrkit.load(path)


def scored(table: pl.DataFrame, model: Model) -> Auctions:
    """All auctions, a click being worth 1."""
    return joined(list(scored_auctions(table, model, 1.0, None, silent)))


def played(auctions: Auctions, model: Model, strategies: Sequence[str], seed: int) -> SimulationResult:
    """Bids with half of what all auctions cost."""
    terms = CampaignTerms(0.5 * float(auctions.market_price.sum()))
    return simulate(auctions, [parse_strategy(one, model.posterior) for one in strategies], terms, seed=seed)


def redrawn(auctions: Auctions, table: pl.DataFrame, seed: int) -> Auctions:
    """The same auctions with other luck."""
    rng = np.random.default_rng([seed, 1])

    def drawn(name: str) -> NDArray[np.float64]:
        chance = padded(table[name], fill=0.0)
        return (rng.random(chance.shape) < chance).astype(np.float64)

    click = drawn("true_click_probability")
    conversion = click * drawn("true_conversion_probability")
    return replace(auctions, click=click, conversion=conversion, earned=click)


def offline(model_file: Path, rows: int, seeds: int, folder: Path) -> Table:
    """How far offline values are from the truth, by logger, policy and estimator."""
    model = ctrkit.load(model_file)
    table = read_auction_log(Market(seed=0).auction_log(rows))
    plain = scored(table, model)
    policies = [*(f"{model_file}:{name}" for name in POLICIES), "uniform"]
    found: defaultdict[tuple[str, str, str], list[tuple[float, float, float, float]]] = defaultdict(list)
    trusted: defaultdict[tuple[str, str, str], list[bool]] = defaultdict(list)
    for seed in range(seeds):
        result = played(redrawn(plain, table, seed), model, LOGGERS, seed)
        paths = write_logs(table, result.events, [one.name for one in result.strategies], folder / "logs")
        for path in paths:
            if path.name != "bandit.parquet":
                continue
            judged = ctrkit.evaluate_policy(
                path, policies, out=folder / "ope",
                overrides=[f"estimators=[{', '.join(ESTIMATORS)}]", "reward_model=artifact"],
            )  # fmt: skip
            shown = judged.to_dict()["policies"]
            for name, said, own in zip(
                (*POLICIES, "uniform"), shown, judged.evaluation.policies, strict=True
            ):
                for one in said["estimates"]:
                    assert own.truth is not None
                    key = path.parent.name, name, one["estimator"]
                    found[key].append((one["value"], one["low"], one["high"], own.truth))
                    trusted[key].append(said["verdict"] != "do not trust")
    columns = (
        "logger",
        "policy",
        "estimator",
        "truth",
        "half width",
        "trusted",
        "held",
        "bias",
        "bias / s.e.",
        "",
    )
    shown_table = Table(*columns, title=f"{rows:,} auctions, {seeds} seeds")
    for key, values in found.items():
        value, low, high, truth = np.array(values).T
        error = value - truth
        deviation = error.std(ddof=1) / np.sqrt(seeds)
        held, sure = (low <= truth) & (truth <= high), np.array(trusted[key])
        met = held[sure].mean() >= COVERED if sure.any() else None
        shown_table.add_row(
            *key, f"{truth.mean():.5f}", f"{((high - low) / 2 / truth).mean():.0%}", f"{sure.mean():.0%}",
            f"{held.mean():.0%}", f"{error.mean() / truth.mean():+.1%}", f"{error.mean() / deviation:+.1f}",
            "" if met is None else "[green]met[/]" if met else "[red]missed[/]",
        )  # fmt: skip
    return shown_table


def again(impressions: pl.DataFrame, rows: int, trainings: int, folder: Path) -> Table:
    """The value that models bid for which saw the first half of a day, and that of one which did not."""
    table = read_auction_log(Market(seed=0).auction_log(rows))
    day = table[: rows // 2], table[rows // 2 :]
    shares: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    wins: defaultdict[str, list[int]] = defaultdict(list)
    for seed in range(trainings):
        before = trained(impressions, folder, f"before-{seed}", seed)
        result = played(scored(day[0], before), before, LOGGERS, seed)
        names = [one.name for one in result.strategies]
        write_logs(day[0], result.events, names, folder / f"logs-{seed}")
        models = {"the old impressions": before}
        for name in names:
            new = pl.read_parquet(folder / f"logs-{seed}" / name / "impressions.parquet")
            both = pl.concat([impressions.select(new.columns), new], how="vertical_relaxed")
            models[f"and what {name} won"] = trained(both, folder, f"{name}-{seed}", seed)
            wins[f"and what {name} won"].append(new.height)
        for name, model in models.items():
            for one in played(scored(day[1], model), model, BIDDERS, seed).strategies:
                shares[name, one.name].append(one.share_of_optimum or 0.0)
    shown = Table("trained on", "rows more", *BIDDERS, title=f"Value over the optimum, {trainings} trainings")
    for name in dict.fromkeys(name for name, _ in shares):
        cells = (np.array(shares[name, bidder]) for bidder in BIDDERS)
        more = f"{np.mean(wins[name]):,.0f}" if name in wins else ""
        spread = (
            f"{one.mean():.4f}" + (f" ± {one.std(ddof=1):.4f}" if trainings > 1 else "") for one in cells
        )
        shown.add_row(name, more, *spread)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description="bid, log, evaluate offline, train, bid again")
    parser.add_argument("mode", choices=("offline", "again"))
    parser.add_argument("--auctions", type=int, default=30_000)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trainings", type=int, default=3)
    options = parser.parse_args()
    impressions = pl.read_parquet(bundled("logs_sample", "impressions.parquet"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if options.mode == "offline":
            trained(impressions, folder, "model", 0)
            shown = offline(folder / "model.pt", options.auctions, options.seeds, folder)
        else:
            shown = again(impressions, options.auctions, options.trainings, folder)
    Console().print(shown)


if __name__ == "__main__":
    main()
