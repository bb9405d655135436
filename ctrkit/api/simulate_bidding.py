"""`ctrkit simulate-bidding`: compare strategies that bid under a budget, on a log or a simulated market."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ctrkit.api.bidding.campaign import days_in_part, episodes, spend_plan, strategies_of
from ctrkit.api.bidding.config import BiddingConfig, budgets
from ctrkit.api.bidding.logs import write_logs
from ctrkit.api.bidding.report import ModelRow, bidding_figures, bidding_report, sweep_report
from ctrkit.api.bidding.supply import AuctionStream, Supply, changed, length, open_supply, seen, worth_bidding
from ctrkit.api.bidding.worth import ValueBasis, value_basis
from ctrkit.api.keywords import takes_settings
from ctrkit.api.models.model import Model
from ctrkit.api.results import Result
from ctrkit.api.run_folder import run_folder
from ctrkit.api.scores.calibrator import ScoreCalibrator
from ctrkit.bidding import SimulationResult, SpendPlan, TruthfulBidding, simulate
from ctrkit.bidding.market.auctions import joined
from ctrkit.bidding.simulation.repeats import Repeats, over_seeds
from ctrkit.bidding.simulation.sweep import BudgetRun, sweep_table
from ctrkit.bidding.strategies import StrategyLike
from ctrkit.bidding.supply import recalibrated_in_hindsight, truthful_sight
from ctrkit.config import ConfigLike, settings_of
from ctrkit.errors import ConfigError, attempt
from ctrkit.progress import OnStep, silent
from ctrkit.reports import Drawings, Report
from ctrkit.reports.bidding_figures import value_by_budget_figure
from ctrkit.tables import TableLike, write_table

# With fewer clicks, or fewer impressions without one, a recalibration says nothing.
_FEWEST_CLICKS = 20
_RECALIBRATED = "the model, recalibrated in hindsight"


@dataclass(frozen=True)
class BiddingResult(Result):
    """What every strategy bought, beside the hindsight optimum.

    Attributes:
        simulation: the run on the auctions themselves.
        repeats: means, intervals and differences over seeds; None with one seed.
        models: what strategies would have bought with another model.
        plan: the plan of the spend; None for even pacing.
        notes: notes on the auctions; the report shows the simulation's own notes before them.
        basis: what the values rest on.
    """

    simulation: SimulationResult
    repeats: Repeats | None
    models: tuple[ModelRow, ...]
    plan: SpendPlan | None
    notes: tuple[str, ...]
    basis: ValueBasis

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.simulation.to_dict(),
            "budget": self.simulation.budget,
            "over_seeds": None if self.repeats is None else self.repeats.to_dict(),
            "models": [row.to_dict() for row in self.models],
            "value": self.basis.to_dict(),
            "notes": self._all_notes,
        }

    def report(self) -> Report:
        return bidding_report(self.simulation, self.repeats, self.models, self._all_notes, self.basis)

    def figures(self) -> Drawings:
        return bidding_figures(self.simulation, self.repeats, self.plan)

    @property
    def _all_notes(self) -> list[str]:
        return [*self.simulation.notes, *self.notes]


@dataclass(frozen=True)
class BudgetSweepResult(Result):
    """What every strategy bought with every budget.

    Attributes:
        table: a row per strategy and budget (see `ctrkit.bidding.simulation.sweep.sweep_table`).
        notes: notes on the auctions and the runs.
        basis: what the values rest on.
    """

    table: pl.DataFrame
    notes: tuple[str, ...]
    basis: ValueBasis

    def to_dict(self) -> dict[str, Any]:
        value = self.basis.to_dict()
        return {"budgets": self.table.to_dicts(), "value": value, "notes": list(self.notes)}

    def report(self) -> Report:
        return sweep_report(self.table, self.notes, self.basis)

    def figures(self) -> Drawings:
        return {"value_by_budget": partial(value_by_budget_figure, self.table)}


@takes_settings(BiddingConfig)
def simulate_bidding(
    auctions: TableLike | None = None,
    model: str | os.PathLike[str] | Model | None = None,
    budget: float | str = 1000.0,
    *,
    calibrator: str | os.PathLike[str] | ScoreCalibrator | None = None,
    market: str | None = None,
    config: ConfigLike = None,
    overrides: Sequence[str] = (),
    out: str | os.PathLike[str] | None = None,
    on_step: OnStep = silent,
    **keywords: Any,
) -> BiddingResult | BudgetSweepResult:
    """Simulate strategies that bid on auctions under a budget.

    The run folder holds every bid in `events.parquet`. Under `logs/` it holds what each strategy won, as
    training data for `ctrkit train`, and as a bandit log for `ctrkit ope` if the strategy draws its ads at
    random. A sweep writes `sweep.parquet` instead.

    Args:
        auctions: an auction log (see `ctrkit.schema.AUCTION_LOG`); None for the sample log.
        model: the artifact that scores the ads, or a path to it. With None the log's `pctr` column gives the
            scores; a log without that column is scored by `model.pt`.
        budget: above 0, in the unit of the market prices; with `episode_length`, the budget of each episode.
            A text `FROM:TO:COUNT` is a sweep of COUNT budgets.
        calibrator: a calibrator of a table of scores (see `ctrkit.calibrate`), or its file, through which the
            log's `pctr` and `pcvr` go.
        market: settings of a simulated market, such as `auctions=100000,ads=12`, in place of a log and a
            model (see `ctrkit.bidding.supply.SyntheticMarket`); an empty text takes all defaults.
        out: the run folder; with None nothing is written.
        on_step: called with (steps done, steps in all, what is going on).

    Raises:
        ConfigError: a setting out of range, or settings that contradict each other.
        DataError: a log that cannot be read, or that lacks what a setting needs.

    Example:
        >>> import ctrkit
        >>> result = ctrkit.simulate_bidding(budget=3, market="auctions=2000", strategies=["dual", "pid"])
        >>> [strategy.name for strategy in result.simulation.strategies]
        ['dual', 'pid']
    """
    settings = settings_of(BiddingConfig, config, overrides, keywords)
    amounts = budgets(budget)
    settings.terms(amounts[0])  # wrong ones are an error before the log is read
    if len(amounts) > 1 and settings.seeds > 1:
        raise ConfigError(
            "a sweep of budgets runs with one seed", hint="Leave out the seeds, or give one budget"
        )
    with run_folder(out, "simulate-bidding") as run:
        supply = open_supply(auctions, model, market, settings, on_step, calibrator)
        asked = _Simulations(supply, settings, on_step)
        result: BiddingResult | BudgetSweepResult
        if len(amounts) > 1:
            result = asked.sweep(amounts)
            if (home := run.begin()) is not None:
                write_table(result.table, home / "sweep.parquet")
        else:
            result = asked.whole(amounts[0])
            if (home := run.begin()) is not None:
                result = _with_events(result, supply, settings, home)
        run.write(settings, result, budget=budget, market=market)
    return result


def _with_events(result: BiddingResult, supply: Supply, settings: BiddingConfig, home: Path) -> BiddingResult:
    """Write every bid and what each strategy won; the result gains a note on what could not be written."""
    events = result.simulation.events
    write_table(events, home / "events.parquet")
    if supply.table is None or settings.shocks:
        return result
    names = [one.name for one in result.simulation.strategies]
    notes: list[str] = []
    write = partial(write_logs, supply.table, events, names, home / "logs", supply.ad_column)
    attempt("log of what was won", write, notes.append)
    return replace(result, notes=(*result.notes, *notes))


class _Simulations:
    """The simulations of one call: the auctions are scored once."""

    def __init__(self, supply: Supply, settings: BiddingConfig, on_step: OnStep) -> None:
        self.supply, self.settings, self.on_step = supply, settings, on_step
        self._history = None if settings.history is None else supply.history(settings.history)
        self._plain = supply.plain()
        self._expected = worth_bidding(self._plain)
        self._basis = value_basis(self._plain)
        self.plan = spend_plan(settings, self._plain)
        self.notes = days_in_part(self._plain, settings)

    def whole(self, budget: float) -> BiddingResult:
        """The whole result of one budget."""
        simulation = self.of(budget, seen(self._world, self.settings), self._expected)
        notes, repeats, models = [*self.notes, *self.supply.notes], None, None
        if self.settings.seeds > 1:
            repeats = attempt("interval over seeds", partial(self.repeats, budget), notes.append)
        if self.settings.compare_models:
            models = attempt("comparison of models", partial(self.models, budget), notes.append)
        models = models or ()
        if not self.supply.calibrated:
            notes += _cost(models)
        return BiddingResult(simulation, repeats, models, self.plan, tuple(notes), self._basis)

    def repeats(self, budget: float) -> Repeats:
        """The same simulation over seeds."""
        runs = []
        for seed in range(1, self.settings.seeds + 1):
            drawn = self.supply.drawn(seed)
            shocked = changed(drawn, self.settings, self.settings.seed + seed)
            found = self.of(budget, seen(shocked, self.settings), worth_bidding(drawn), seed)
            runs.append({one.name: one.kpis for one in found.strategies})
        return over_seeds(runs, None, self.supply.kind, self.settings.confidence)

    def sweep(self, amounts: Sequence[float]) -> BudgetSweepResult:
        """Every budget on the same auctions."""
        auctions, runs, told = seen(self._world, self.settings), [], []
        for budget in amounts:
            found = self.of(budget, auctions, self._expected)
            runs.append(
                BudgetRun(budget, {one.name: one.kpis for one in found.strategies}, found.optimum.value)
            )
            told.append(found.notes)
        always = [note for note in told[0] if all(note in notes for notes in told)]
        at_some = [
            f"At a budget of {budget:g}: {note}"
            for budget, notes in zip(amounts, told, strict=True)
            for note in notes
            if note not in always
        ]
        notes = (*self.notes, *self.supply.notes, *always, *at_some)
        return BudgetSweepResult(sweep_table(runs), notes, self._basis)

    def of(
        self,
        budget: float,
        stream: AuctionStream,
        expected: int,
        seed: int | None = None,
        strategies: Sequence[StrategyLike] | None = None,
    ) -> SimulationResult:
        """One simulation.

        Args:
            expected: the number of auctions that bidders expect; they are not told of shocks.
            seed: the seed of a resample or market; None for the plain auctions.
            strategies: by default the strategies of the settings.
        """
        settings, terms = self.settings, self.settings.terms(budget)
        posterior = self.supply.posterior(seed)
        chosen = settings
        if strategies is not None:
            chosen = settings.model_copy(update={"strategies": tuple(strategies), "bid_value": None})
        bidders = strategies_of(chosen, posterior, self.plan)
        n = length(stream)
        done = 0

        def progress(played: int) -> None:
            nonlocal done
            done += played
            self.on_step(done, n, "bidding")

        return simulate(
            stream,
            bidders,
            terms,
            episode_length=episodes(stream, settings),
            history=self._history,
            tick=settings.tick,
            seed=settings.seed + (seed or 0),
            auctions_expected=expected,
            together=settings.together and strategies is None,
            progress=progress,
        )

    def models(self, budget: float) -> tuple[ModelRow, ...]:
        """What the same auctions bring to bidders with other models."""
        stream = [replace(chunk, hidden=None) for chunk in self._world]
        asked: dict[str, AuctionStream] = {"the model": stream}
        if self.settings.miscalibration is not None:
            scale, shift = self.settings.miscalibration
            asked[f"the model, logits times {scale:g} plus {shift:g}"] = seen(stream, self.settings)
        world = joined(stream)
        # A pCTR of 0 stays 0, and so its clicks calibrate nothing.
        clicked = np.zeros(0) if world.click is None else world.click[world.click_probability > 0]
        if _FEWEST_CLICKS <= np.sum(clicked) <= len(clicked) - _FEWEST_CLICKS:
            asked[_RECALIBRATED] = [recalibrated_in_hindsight(world)]
        if world.true_click_probability is not None:
            asked["the true click probabilities"] = list(truthful_sight(stream))
        if len(asked) < 2:
            return ()
        # A strategy that paces, which a common bias cannot harm; and one that bids its value, if that is
        # money.
        truthful = [one for one in self.settings.strategies or () if one.name == TruthfulBidding.name]
        judges: list[StrategyLike] = ["dual", *truthful[:1]]
        if len(judges) < 2 and world.earned is not None:
            judges.append(TruthfulBidding())
        known = world.true_click_probability is not None
        return tuple(
            ModelRow(
                name,
                self.of(budget, found, self._expected, strategies=judges).strategies,
                ("clicks", "value") if known else ("clicks",),
            )
            for name, found in asked.items()
        )

    @cached_property
    def _world(self) -> AuctionStream:
        return changed(self._plain, self.settings, self.settings.seed)


def _cost(models: Sequence[ModelRow]) -> tuple[str, ...]:
    """What the missing calibration costs, where the log can tell."""
    better = next((row for row in models if row.seen == _RECALIBRATED), None)
    if better is None:
        return ()
    pairs = zip(models[0].strategies, better.strategies, strict=True)
    told = " and ".join(
        f"{now.name} wins {now.clicks:,.0f} clicks instead of {then.clicks:,.0f}" for now, then in pairs
    )
    return (f"Compared with the model recalibrated in hindsight, {told}.",)
