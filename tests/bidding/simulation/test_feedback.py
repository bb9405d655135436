from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrkit.bidding import Auctions, Slots, parse_strategy, simulate
from ctrkit.bidding.market.terms import CampaignTerms
from ctrkit.bidding.simulation.feedback import FeedbackQueue
from ctrkit.bidding.strategies import ImpressionOutcomes
from ctrkit.errors import ConfigError
from ctrkit.policies.laplace import LastLayerPosterior


def outcomes(ids: np.ndarray) -> ImpressionOutcomes:
    """Impressions that are known by the value of a click."""
    one = np.full((len(ids), 1), 0.5)
    slots = Slots(one, ids[:, None].astype(float), one[:, :, None])
    return ImpressionOutcomes(slots, np.zeros(len(ids), np.intp), np.zeros(len(ids)))


@given(
    gaps=st.lists(st.floats(0.0, 5.0), min_size=1, max_size=60),
    ticks=st.lists(st.integers(0, 20), max_size=8),
    delay=st.floats(0.0, 30.0),
)
def test_each_outcome_comes_once_at_the_first_tick_after_its_delay(
    gaps: list[float], ticks: list[int], delay: float
) -> None:
    moments, queue, start = np.cumsum(gaps), FeedbackQueue(delay), 0
    came: dict[int, float] = {}
    ends = [min(end, len(moments)) for end in np.cumsum([*ticks, len(moments)]).tolist()]
    nows: list[tuple[int, float]] = []
    for end in ends:
        rows = np.arange(start, end)
        queue.add(moments[rows], outcomes(rows))
        start = end
        if end:
            nows.append((end, float(moments[end - 1])))
            if (known := queue.known(nows[-1][1])) is not None:
                for one in known.slots.value_of_click[:, 0]:
                    assert int(one) not in came
                    came[int(one)] = nows[-1][1]
    for row, moment in enumerate(moments):
        first = next((now for end, now in nows if row < end and now >= moment + delay), None)
        assert came.get(row) == first


def test_a_delay_beyond_the_end_is_never_learning(
    model_market: Callable[..., tuple[Auctions, LastLayerPosterior]],
) -> None:
    """Clicks that come too late leave the bidder what it was: greedy bids are those of dual pacing."""
    auctions, posterior = model_market(3000)
    greedy = parse_strategy("greedy", posterior)
    late = simulate(auctions, [greedy, "dual"], CampaignTerms(300.0, feedback_delay=1e6))
    never, dual = (late.events.filter(strategy=name)["bid"] for name in ("greedy", "dual"))
    np.testing.assert_allclose(never, dual, rtol=1e-9)
    at_once = simulate(auctions, [greedy], CampaignTerms(300.0))
    assert not at_once.events["bid"].equals(never)


def test_seconds_where_there_are_timestamps_else_auctions(
    model_market: Callable[..., tuple[Auctions, LastLayerPosterior]],
) -> None:
    auctions, posterior = model_market(2000)
    strategy = parse_strategy("thompson", posterior)
    timed = Auctions(**{**vars(auctions), "timestamp": 10.0 * np.arange(2000)})
    by_auction = simulate(auctions, [strategy], CampaignTerms(300.0, feedback_delay=150)).events
    by_second = simulate(timed, [strategy], CampaignTerms(300.0, feedback_delay=1500)).events.drop(
        "timestamp"
    )
    assert by_auction.equals(by_second)


def test_a_delay_below_zero(market: Callable[..., Auctions]) -> None:
    with pytest.raises(ConfigError, match="feedback_delay is -1"):
        simulate(market(10), ["dual"], CampaignTerms(1.0, feedback_delay=-1))
