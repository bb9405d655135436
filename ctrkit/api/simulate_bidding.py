"""`ctrkit simulate-bidding`: replay an auction log under a budget, strategies side by side."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field

from ctrkit.api.model import Model, load
from ctrkit.api.results import Result, write_run
from ctrkit.api.sample_logs import bundled
from ctrkit.bidding import (
    AuctionRule,
    Auctions,
    SimulationResult,
    auctions_from_log,
    parse_strategy,
    read_auction_log,
    simulate,
)
from ctrkit.config import Config, load_config
from ctrkit.errors import ConfigError, DataError
from ctrkit.policies import padded
from ctrkit.policies.candidates import Floats
from ctrkit.reports import Figure, Report, Table
from ctrkit.reports.figures import multiplier_paths, spend_curves
from ctrkit.tables import TableLike, name_of, write_table
from ctrkit.training import predict
from ctrkit.training.loop import OnStep

_CHUNK = 2048
_WITH_MODEL = ("truthful", "linear", "dual", "thompson")
_WITHOUT_MODEL = ("truthful", "linear", "dual")


class AuctionConfig(Config):
    """The rule of the exchange, see `ctrkit.bidding.AuctionRule`."""

    price: Literal["second", "first"] = "second"
    hard_floor: float = 0.0
    soft_floor: float = 0.0
    wins_ties: bool = True


class BiddingConfig(Config):
    """How to bid.

    Attributes:
        strategies: `NAME` or `NAME:key=value,...`; by default the baselines, dual pacing and, with a model,
            Thompson sampling.
        value_per_click: worth of a click. By default a click is worth p(conversion | click) times the value
            of a conversion where model and log know both, else it counts 1.
        episode_length: auctions an episode; the budget is then each episode's.
        tick: auctions between two updates of the strategies.
        auction: the rule of the exchange.
    """

    strategies: tuple[str, ...] | None = None
    value_per_click: float | None = Field(default=None, gt=0.0)
    episode_length: int | None = Field(default=None, ge=1)
    max_bid: float | None = Field(default=None, gt=0.0)
    integer_bids: bool = False
    tick: int | None = Field(default=None, ge=1)
    auction: AuctionConfig = AuctionConfig()
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class BiddingResult(Result):
    """What every strategy bought, beside the hindsight optimum."""

    simulation: SimulationResult
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        content = self.simulation.to_dict()
        return {**content, "budget": self.simulation.budget, "notes": [*self.simulation.notes, *self.notes]}

    def report(self) -> Report:
        content = self.to_dict()
        optimum = {
            "name": "hindsight optimum",
            "auctions": None,
            "share_of_optimum": 1.0,
            **content["optimum"],
        }
        columns = ("wins", "clicks", "conversions", "spend", "value", "share_of_optimum")
        rows = tuple(
            (one["name"], *(_number(one.get(name)) for name in columns))
            for one in (*content["strategies"], optimum)
        )
        best = max(content["strategies"], key=lambda one: one["value"])
        answer = f"{best['name']} bought the most value: {best['value']:,.1f}"
        if best["share_of_optimum"] is not None:
            answer += f", {best['share_of_optimum']:.1%} of what a bidder who knew all prices could have had"
        return Report(
            f"Bidding with a budget of {self.simulation.budget:,g}",
            f"{answer}.",
            (Table("Strategies", ("strategy", *(c.replace("_", " ") for c in columns)), rows),),
            self._figures(),
            tuple(content["notes"]),
        )

    def _figures(self) -> tuple[Figure, ...]:
        path = self.simulation.trajectory
        if self.simulation.episodes > 1:  # a curve an episode says nothing
            return ()
        runs = {name: path.filter(strategy=name) for name in path["strategy"].unique(maintain_order=True)}
        curves = {name: run["spend"].to_numpy() for name, run in runs.items()}
        paths = {name: run["multiplier"].drop_nulls().to_numpy() for name, run in runs.items()}
        paced = any(one.size for one in paths.values())
        optimum = self.simulation.optimum.multiplier
        drawn = (multiplier_paths(paths, optimum or None),) if paced else ()
        return (spend_curves(curves, self.simulation.budget), *drawn)


def simulate_bidding(
    auctions: TableLike | None,
    model: str | os.PathLike[str] | Model | None,
    budget: float,
    *,
    config: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    out: str | os.PathLike[str] = "runs/simulate-bidding",
    on_step: OnStep = lambda done, total, what: None,
) -> BiddingResult:
    """Replay auctions under a budget, and write a run folder with every bid in `events.parquet`.

    Args:
        auctions: an auction log (see `ctrkit.schema.AUCTION_LOG`); None for the sample log.
        model: an artifact or a path to one, which scores the ads. With None the log's `pctr` column does,
            and where the log has none, `model.pt`.
        budget: above 0, in the unit of the market prices; with `episode_length` that of each episode.
        out: the run folder. on_step: called with the auctions done.
    """
    settings = load_config(BiddingConfig, config, overrides)
    if not (np.isfinite(budget) and budget > 0):
        raise ConfigError(
            f"the budget is {budget:g} and must be above 0", mend="Give for example --budget 1000"
        )
    table, file, scorer, notes = opened_auctions(auctions, model)
    names = settings.strategies or (_WITHOUT_MODEL if scorer is None else _WITH_MODEL)
    posterior = scorer.posterior if scorer is not None else None
    simulation = simulate(
        scored_auctions(table, scorer, settings, file, on_step),
        [parse_strategy(name, posterior) for name in names],
        budget,
        episode_length=settings.episode_length,
        max_bid=settings.max_bid,
        integer_bids=settings.integer_bids,
        tick=settings.tick,
        rule=AuctionRule(**settings.auction.model_dump()),
        seed=settings.seed,
        auctions_expected=table.height,
    )
    result = BiddingResult(simulation, notes)
    write_table(simulation.events, Path(out) / "events.parquet")
    write_run(out, "simulate-bidding", {"budget": budget, **settings.model_dump(mode="json")}, result)
    return result


def opened_auctions(
    auctions: TableLike | None, model: str | os.PathLike[str] | Model | None
) -> tuple[pl.DataFrame, str | None, Model | None, tuple[str, ...]]:
    """The log of auctions and its name, the model that scores them, and what is to be said of both.

    Args:
        auctions: an auction log; None for the sample log.
        model: an artifact or a path to one. With None the log's `pctr` column scores, and where the log has
            none, `model.pt`.
    """
    source = auctions if auctions is not None else bundled("logs_sample", "auctions.parquet")
    table = read_auction_log(source)
    notes: tuple[str, ...] = ()
    if auctions is None:
        notes += ("The auctions are the sample that ships with ctrkit.",)
    if model is None and "pctr" not in table.columns:
        model = "model.pt"
    scorer = model if isinstance(model, Model) or model is None else load(model)
    if scorer is not None and not scorer.calibrators:
        notes += ("The model is not calibrated, and bids are only as good as it is: run `ctrkit calibrate`.",)
    return table, name_of(source), scorer, notes


def scored_auctions(
    table: pl.DataFrame, model: Model | None, settings: BiddingConfig, file: str | None, on_step: OnStep
) -> Iterator[Auctions]:
    """The log as auctions, scored chunk by chunk."""
    for start in range(0, table.height, _CHUNK):
        rows = table[start : start + _CHUNK]
        if model is None:
            yield auctions_from_log(rows, value_of_click=settings.value_per_click or 1.0)
        elif "candidates" in table.columns:
            yield _of_candidates(rows, model, settings, file)
        else:
            yield _of_single_ads(rows, model, settings)
        on_step(start + rows.height, table.height, "bidding")


def _of_single_ads(rows: pl.DataFrame, model: Model, settings: BiddingConfig) -> Auctions:
    """Auctions whose ad is given by the row's own feature columns."""
    encoded = model.encode(rows)
    logits, hidden = predict(model.network, encoded)
    probabilities = list(model.probabilities(logits, encoded).values())
    worth: float | Floats = settings.value_per_click or 1.0
    if settings.value_per_click is None and len(model.tasks) > 1 and "value" in rows.columns:
        worth = probabilities[1] * rows["value"].to_numpy()
    return replace(auctions_from_log(rows, probabilities[0], worth), hidden=hidden[:, None])


def _of_candidates(rows: pl.DataFrame, model: Model, settings: BiddingConfig, file: str | None) -> Auctions:
    """Auctions in which the bidder also chooses the ad; what was not logged of an ad comes from the truth."""
    scores = model.score_candidates(rows, rows["candidates"], hidden=True, file=file)
    pctr = np.nan_to_num(scores.probabilities[model.tasks[0]])
    hidden = np.nan_to_num(scores.hidden) if scores.hidden is not None else None

    def listed(name: str) -> Floats | None:
        return padded(rows[name], fill=0.0) if name in rows.columns else None

    click = listed("true_click")
    if click is None:
        raise DataError(
            "a log with several candidates an auction needs the outcome of each",
            file=file,
            column="true_click",
            mend="To replay the ad that was shown, drop 'candidates' and give its features as columns",
        )
    conversion, value = listed("true_conversion"), listed("candidate_value")
    true_click, true_conversion = listed("true_click_probability"), listed("true_conversion_probability")
    counts_conversions = settings.value_per_click is None and len(model.tasks) > 1 and value is not None
    if counts_conversions and value is not None:
        worth = np.nan_to_num(scores.probabilities[model.tasks[1]]) * value
        truth = (
            None if true_click is None or true_conversion is None else true_click * true_conversion * value
        )
        earned = None if conversion is None else conversion * value
    else:
        worth = np.full(pctr.shape, settings.value_per_click or 1.0)
        truth = None if true_click is None else true_click * worth
        earned = click * worth
    return Auctions(
        market_price=rows["market_price"].to_numpy(),
        click_probability=pctr,
        value_of_click=worth,
        hidden=hidden,
        timestamp=rows["timestamp"].to_numpy() if "timestamp" in rows.columns else None,
        click=click,
        conversion=conversion,
        earned=earned,
        true_click_probability=true_click,
        true_value=truth,
    )


def _number(value: float | int | None) -> str:
    if value is None:
        return "–"
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    )
