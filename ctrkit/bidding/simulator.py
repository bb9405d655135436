"""Drives bid strategies over a stream of auctions, tick by tick, all under the same luck."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl

from ctrkit.bidding.auctions import Auctions
from ctrkit.bidding.clearing import SECOND_PRICE
from ctrkit.bidding.ledger import MarketLedger, StrategyLedger, trajectory
from ctrkit.bidding.result import OptimumResult, SimulationResult
from ctrkit.bidding.rules import AuctionRule
from ctrkit.bidding.strategies import BidStrategy, parse_strategy
from ctrkit.bidding.ticks import cut
from ctrkit.errors import ConfigError, DataError

TICKS_AN_EPISODE = 200
SHORTEST_TICK, LONGEST_TICK = 10, 1000
FEWEST_UPDATES = 20
# Auctions that are played and written down at once, in whole ticks.
PIECE = 4096


def simulate(
    chunks: Auctions | Iterable[Auctions],
    strategies: Sequence[BidStrategy[Any] | str],
    budget: float,
    *,
    episode_length: int | None = None,
    max_bid: float | None = None,
    integer_bids: bool = False,
    tick: int | None = None,
    rule: AuctionRule = SECOND_PRICE,
    seed: int = 0,
    auctions_expected: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> SimulationResult:
    """Replay auctions for each strategy by itself.

    The bids of a tick are decided together, and its auctions are cleared exactly as if they came one by
    one. Every strategy meets the same prices, outcomes and random numbers, however the stream is chunked.
    Dual pacing by ticks of one auction, with one ad an auction, runs as a compiled loop, see `replay_paced`.

    Args:
        chunks: auctions in order of time, in one piece or many; a chunk is let go after it was used.
        strategies: strategies, or texts that `parse_strategy` understands.
        budget: above 0, in units of money; of all auctions or, with `episode_length`, of each episode.
        episode_length: auctions an episode; pacing starts afresh with each, what was learnt stays.
        max_bid: the largest bid, in units of money.
        integer_bids: round bids down to whole units of money.
        tick: auctions between two updates; by default a 200th of an episode, within 10 and 1000.
        rule: who wins and what is paid; by default second price, won at or above the market price.
        seed: of the strategies' own draws.
        auctions_expected: of the whole stream; needed where `chunks` is an iterator of unknown length.
        progress: called now and then with the number of auctions played since.

    Raises:
        ConfigError: a budget, length or cap out of range, no strategy, or an unknown one.
        DataError: no auctions, or one with a value out of range.
    """
    for name, setting in (
        ("budget", budget), ("episode_length", episode_length), ("max_bid", max_bid), ("tick", tick),
    ):  # fmt: skip
        if setting is not None and not (np.isfinite(setting) and setting > 0):
            raise ConfigError(f"{name} is {setting:g} and must be above 0", mend=f"Give a {name} above 0")
    if not strategies:
        raise ConfigError("there is no strategy to simulate", mend="Name at least one, for example dual")
    stream = [chunks] if isinstance(chunks, Auctions) else chunks
    if auctions_expected is None:
        if not isinstance(stream, Sequence):
            raise ConfigError("the number of auctions is unknown", mend="Give auctions_expected")
        auctions_expected = sum(len(chunk) for chunk in stream)
    length = episode_length or max(auctions_expected, 1)
    size = tick or int(np.clip(length // TICKS_AN_EPISODE, SHORTEST_TICK, LONGEST_TICK))

    cap = np.inf if max_bid is None else max_bid
    market, ledgers = MarketLedger(cap, rule, size), _ledgers(strategies, seed, size)
    for now in cut(stream, size * max(1, PIECE // size), episode_length):
        for ledger in ledgers:
            if now.opens_episode:
                to_come = max(min(length, auctions_expected - market.auctions), 1)
                ledger.begin_episode(budget, to_come, first=now.episode == 0)
            ledger.play(now.auctions, budget, cap, integer_bids, rule)
        market.record(now)
        if progress is not None:
            progress(len(now.auctions))
    if not market.auctions:
        raise DataError("there are no auctions", mend="Give a log with at least one row")

    total, optimum, shared = budget * market.episodes, market.optimum(budget), market.frame()
    events = pl.concat([ledger.events(shared) for ledger in ledgers])
    return SimulationResult(
        strategies=tuple(ledger.result(total, optimum.value) for ledger in ledgers),
        optimum=optimum,
        budget=total,
        episodes=market.episodes,
        notes=_notes(budget, optimum, market.episodes, -(-length // size)),
        events=events,
        trajectory=trajectory(events),
    )


def _ledgers(strategies: Sequence[BidStrategy[Any] | str], seed: int, tick: int) -> list[StrategyLedger]:
    """A ledger a strategy, under its name alone where that tells it from the others."""
    parsed = [parse_strategy(one) if isinstance(one, str) else one for one in strategies]
    names = [one.name for one in parsed]
    labels = [one.name if names.count(one.name) == 1 else one.label for one in parsed]
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise ConfigError(f"strategy '{min(twice)}' is given twice", mend="Leave one out")
    return [StrategyLedger(label, one, seed, tick) for label, one in zip(labels, parsed, strict=True)]


def _notes(budget: float, optimum: OptimumResult, episodes: int, updates: int) -> tuple[str, ...]:
    notes = []
    if not optimum.budget_binds:
        each = " of an episode" if episodes > 1 else ""
        notes.append(
            f"The budget of {budget:g}{each} does not bind: all that is of value costs {optimum.spend:g}, "
            "so whoever bids high enough wins it all"
        )
    if updates < FEWEST_UPDATES:
        notes.append(
            f"The strategies learn only {updates} times an episode, too few to pace well; give a smaller tick"
        )
    return tuple(f"{note}." for note in notes)
