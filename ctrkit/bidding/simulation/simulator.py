"""Drives bid strategies over a stream of auctions, tick by tick, all under the same luck."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from ctrkit.bidding.market.auctions import Auctions
from ctrkit.bidding.market.terms import CampaignTerms
from ctrkit.bidding.simulation.ledger import StrategyLedger, play_together, trajectory
from ctrkit.bidding.simulation.market_ledger import MarketLedger
from ctrkit.bidding.simulation.result import OptimumResult, SimulationResult, StrategyResult
from ctrkit.bidding.simulation.ticks import cut
from ctrkit.bidding.strategies import AuctionHistory, BidStrategy, StrategyLike, parse_strategy
from ctrkit.errors import ConfigError, CtrkitError, DataError, RunError, reason

TICKS_AN_EPISODE = 200
SHORTEST_TICK, LONGEST_TICK = 10, 1000
FEWEST_UPDATES = 20
# Auctions that are played and recorded at once, in whole ticks.
PIECE = 4096


def simulate(
    chunks: Auctions | Iterable[Auctions],
    strategies: Sequence[StrategyLike],
    terms: CampaignTerms | float,
    *,
    episode_length: int | Sequence[int] | None = None,
    tick: int | None = None,
    seed: int = 0,
    auctions_expected: int | None = None,
    history: Auctions | None = None,
    together: bool = False,
    progress: Callable[[int], None] | None = None,
) -> SimulationResult:
    """Replay auctions for each strategy.

    The bids of a tick are decided together, and its auctions are cleared exactly as if they came one by
    one. Every strategy meets the same prices, outcomes and random numbers, however the stream is chunked.
    Strategies do not see auctions that are worth nothing to the bidder. So nobody bids in them, and no
    schedule or search counts them: results are the same without them. Dual pacing by ticks of one auction,
    with one ad per auction, runs as a compiled loop (see `replay_paced`).

    Args:
        chunks: auctions in order of time, in one chunk or many; a chunk is freed after it was used.
        strategies: the strategies, each as `parse_strategy` reads it.
        terms: the terms on which they bid; a number is the budget of a plain second-price market.
        episode_length: number of auctions of every episode, or of each; pacing restarts in each, and what was
            learnt stays. By default all auctions are one episode.
        tick: number of auctions between two updates; by default a 200th of an episode, between 10 and 1000.
            The first tick of an episode is divided (see `ticks.edges`).
        seed: the seed of the strategies' own draws.
        auctions_expected: expected number of auctions that are worth bidding (`Auctions.worth_bidding`); by
            default their true number. Needed if `chunks` is an iterator.
        history: auctions of the past on which the strategies are tuned before the run, on the same terms and
            for the same episodes; a note names each strategy that cannot be tuned.
        together: whether the strategies bid against each other, each with its own budget, in one market with
            one slot and no frequency cap; else each has the market alone. The hindsight optimum is that of
            one bidder alone.
        progress: called from time to time with the number of auctions played since the last call.

    Raises:
        ConfigError: a budget, length or cap out of range, no strategy, or an unknown one.
        DataError: no auctions, or one with a value out of range.
    """
    terms = terms if isinstance(terms, CampaignTerms) else CampaignTerms(terms)
    lengths = [] if episode_length is None else np.atleast_1d(episode_length).tolist()
    for name, setting in (*(("episode_length", one) for one in lengths), ("tick", tick)):
        if setting is not None and not setting > 0:
            raise ConfigError(f"{name} is {setting:g} and must be above 0", hint=f"Give a {name} above 0")
    if not strategies:
        raise ConfigError("there is no strategy to simulate", hint="Give at least one, for example dual")
    stream = [chunks] if isinstance(chunks, Auctions) else chunks
    # The number of auctions worth bidding in each episode, where it is known.
    counted = _worth_bidding(stream, lengths) if isinstance(stream, Sequence) else None
    if auctions_expected is None:
        if counted is None:
            raise ConfigError("the number of auctions is unknown", hint="Give auctions_expected")
        auctions_expected = sum(counted)
    if together and terms.frequency_cap is not None:
        raise ConfigError(
            "strategies that bid against each other cannot have a frequency cap",
            hint="Leave out the cap, or together",
        )
    longest = max((lengths if counted is None else counted) if lengths else [auctions_expected, 1])
    size = tick or int(np.clip(longest // TICKS_AN_EPISODE, SHORTEST_TICK, LONGEST_TICK))

    market = MarketLedger(terms, size)
    parsed = [parse_strategy(one) for one in strategies]
    labels, untuned = _labels(parsed), list[str]()
    if history is not None:
        of_one = _typical(terms, lengths if counted is None else counted, auctions_expected)
        parsed, untuned = _tuned(parsed, labels, history, *of_one)
    ledgers = [
        StrategyLedger(label, one.expecting(auctions_expected), terms, seed, size, not together)
        for label, one in zip(labels, parsed, strict=True)
    ]
    for now in cut(stream, size * max(1, PIECE // size), episode_length):
        if now.opens_episode:
            left = max(auctions_expected - market.worth, 1)
            length = left
            if lengths:
                of = lengths if counted is None else counted
                length = of[now.episode if len(of) > 1 else 0]
                if len(lengths) == 1 and now.episode + 1 == len(of):  # more may be expected than there are
                    length = max(length, min(lengths[0], left))
            for ledger in ledgers:
                ledger.begin_episode(min(length, left), min(length, left) / left)
        if together:
            play_together(ledgers, now)
        else:
            for ledger in ledgers:
                ledger.play(now)
        market.record(now)
        if progress is not None:
            progress(len(now.auctions))
    if not market.auctions:
        raise DataError("there are no auctions", hint="Give a log with at least one row")

    total = terms.total(market.episodes)
    try:
        best = market.best()
    except RunError as error:  # what was bid and won is valid all the same
        best = market.bound()
        untuned.append(f"The hindsight optimum is an upper bound in closed form: {reason(error)}.")
    optimum, shared = market.optimum(best), market.frame()
    spoken = [note for ledger in ledgers for note in ledger.notes()]
    results = tuple(ledger.result(market, best) for ledger in ledgers)
    spoken += [
        note for one, ledger in zip(results, ledgers, strict=True) for note in _without(one, ledger, market)
    ]
    played = [ledger.events(shared) for ledger in ledgers]
    return SimulationResult(
        strategies=results,
        optimum=optimum,
        budget=total,
        episodes=market.episodes,
        notes=(*_notes(terms, optimum, market, longest, size, together), *untuned, *spoken),
        events=pl.concat(played, how="diagonal"),
        trajectory=pl.concat([trajectory(events) for events in played]),
    )


def _worth_bidding(stream: Sequence[Auctions], lengths: Sequence[int]) -> list[int]:
    """The number of auctions worth bidding in each episode; without episodes, in total."""
    for chunk in stream:
        if chunk.click_probability.shape != chunk.value_of_click.shape:
            chunk.check()
    worth = np.concatenate([np.zeros(0, np.bool_), *(chunk.worth_bidding for chunk in stream)])
    if not lengths:
        return [int(worth.sum())]
    ends = np.cumsum(lengths) if len(lengths) > 1 else np.arange(1, len(worth) // lengths[0] + 2) * lengths[0]
    before = np.append(0, np.cumsum(worth))[np.minimum(np.append(0, ends), len(worth))]
    return [int(count) for count in np.diff(before)]


def _labels(strategies: Sequence[BidStrategy[Any]]) -> list[str]:
    """The strategies' names, with their settings where two have the same name."""
    names = [one.name for one in strategies]
    labels = [one.name if names.count(one.name) == 1 else one.label for one in strategies]
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise ConfigError(f"strategy '{min(twice)}' is given twice", hint="Leave one out")
    return labels


def _typical(terms: CampaignTerms, lengths: Sequence[int], auctions: int) -> tuple[CampaignTerms, int]:
    """The terms, with the budget, and the number of auctions of the episode of an average auction.

    So a short last episode counts by its few auctions, and not as much as a whole one.

    Args:
        terms: the terms of the run.
        lengths: the auctions of each episode; one number for all episodes; or empty if all are one episode.
        auctions: expected auctions of all episodes.
    """
    if len(lengths) == 1:
        lengths = [lengths[0]] * max(auctions // max(lengths[0], 1), 1)
    each, spent, budgets = np.array(lengths or [max(auctions, 1)], np.float64), 0.0, []
    for place in range(len(each)):
        budgets.append(terms.budget_of(each[place] / max(each[place:].sum(), 1.0), spent))
        spent += budgets[-1]
    weight = each / each.sum() if each.any() else np.ones(len(each)) / len(each)
    budget = max(float(weight @ np.array(budgets)), min(terms.budget, terms.lifetime_budget or np.inf) * 1e-9)
    budget = max(budget, float(np.finfo(np.float64).tiny))
    return replace(terms, budget=budget, lifetime_budget=None), max(round(float(weight @ each)), 1)


def _tuned(
    strategies: Sequence[BidStrategy[Any]],
    labels: Sequence[str],
    history: Auctions,
    terms: CampaignTerms,
    auctions: int,
) -> tuple[list[BidStrategy[Any]], list[str]]:
    """The strategies tuned on a history, and notes on those that it cannot tune."""
    history.check()
    past, found, notes, same = (
        AuctionHistory.from_auctions(history),
        list[BidStrategy[Any]](),
        list[str](),
        list[str](),
    )
    for label, one in zip(labels, strategies, strict=True):
        try:
            found.append(one.tuned(past, terms, auctions))
        except (CtrkitError, ArithmeticError, ValueError) as error:
            found.append(one)
            notes.append(
                f"{label} could not be tuned on the history and runs with the given settings: "
                f"{reason(error)}."
            )
            continue
        if found[-1] is one:
            same.append(label)
    if same:
        notes.append(f"The history changed nothing for {', '.join(same)}.")
    return found, notes


def _without(result: StrategyResult, ledger: StrategyLedger, market: MarketLedger) -> tuple[str, ...]:
    """A note on a strategy that bid and won nothing although the market had something to sell."""
    cheapest = market.cheapest()
    if result.wins or not np.isfinite(cheapest):
        return ()
    if not result.bids and not ledger.terms.integer_bids:
        return ()
    if not result.bids:
        return (
            f"{result.name} never bid: all its bids are 0 after rounding down to whole units of money. Are "
            "values and prices in the same unit?",
        )
    return (
        f"{result.name} won nothing: its highest bid was {ledger.highest_bid:.4g}, and the cheapest "
        f"impression that is worth something cost {cheapest:.4g}. Are values and prices in the same unit, "
        "and is the budget above one price?",
    )


def _notes(
    terms: CampaignTerms,
    optimum: OptimumResult,
    market: MarketLedger,
    longest: int,
    size: int,
    together: bool,
) -> tuple[str, ...]:
    notes, updates = [], -(-longest // size)
    if worthless := market.auctions - market.worth:
        notes.append(
            f"{worthless:,} of {market.auctions:,} auctions have no ad with a value above 0: nobody bids in "
            "them, and schedules do not count them"
        )
    if market.within_reach < market.worth:
        dear = "all" if not market.within_reach else f"{market.worth - market.within_reach:,}"
        floor = " or the hard floor" if terms.rule.hard_floor else ""
        notes.append(
            f"The largest bid of {terms.largest_bid:g} cannot win {dear} of the {market.worth:,} auctions "
            f"with a value above 0, because it is below their price{floor}"
        )
    if optimum.value > 0 and not optimum.budget_binds:
        each = " of an episode" if market.episodes > 1 and terms.lifetime_budget is None else ""
        budget = terms.lifetime_budget or terms.budget
        what = "everything of value" if market.within_reach == market.worth else "everything that can be won"
        cost = f"{optimum.spend:g}" + (f" in all {market.episodes:,} of them" if each else "")
        notes.append(
            f"The budget of {budget:g}{each} does not bind: {what} costs {cost}, so a bidder who bids high "
            "enough wins all of it"
        )
    if together:
        notes.append(
            "The strategies bid against each other, so they raise prices and share the auctions; the "
            "hindsight optimum is that of one bidder alone"
        )
    if optimum.upper_bound:
        limit = "frequency cap or budget" if terms.frequency_cap is not None else "budget"
        notes.append(
            f"The hindsight optimum is an upper bound: a {limit} lasts over several episodes, and the best "
            "purchase of each episode would break it. True shares of the optimum are at least those shown"
        )
    if market.worth and updates < FEWEST_UPDATES:
        times = "once" if updates == 1 else f"{updates} times"
        auctions = "one auction" if longest == 1 else f"{longest} auctions"
        why = ". Give a smaller tick" if longest >= FEWEST_UPDATES else f": it has only {auctions}"
        notes.append(f"The strategies learn only {times} per episode, which is too few to pace well{why}")
    return tuple(f"{note}." for note in notes)
