"""A simulated market of any size with known truth: slots, ads, users, competing bids and outcomes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Final

import numpy as np
from pydantic import BeforeValidator, Field, InstanceOf, WithJsonSchema
from scipy.linalg import eigh
from scipy.optimize import brentq
from scipy.special import expit, logit

from ctrkit.arrays import Floats
from ctrkit.bidding.market.auctions import DAY, Auctions
from ctrkit.bidding.supply.prices import PriceModel, price_model
from ctrkit.bidding.supply.rows import recut
from ctrkit.bidding.supply.traffic import TRAFFIC, TrafficShape
from ctrkit.errors import ConfigError, nearest
from ctrkit.policies.laplace import LastLayerPosterior, with_bias
from ctrkit.policies.logistic_bandit import CampaignPrior
from ctrkit.settings import (
    Count,
    NotNegative,
    Positive,
    UnitInterval,
    Whole,
    check,
    checked,
    made_of,
    read_settings,
)

# Auctions that are made at once, whatever the size of the chunks, so that rounding does not depend on it.
BLOCK = 8192
# Slots over which rates and prices are averaged to set their level.
SAMPLE = 4096
# 2024-03-04, a Monday, 00:00 UTC.
MONDAY = 1_709_510_400.0
# About the value of the better slots, if one click in a hundred impressions brings 1.
USUAL_PRICES: Final = price_model("log-normal:mean=-4,deviation=1")

# Streams of random numbers: what is drawn once, the slots behind averages, and the auctions of each phase.
_WORLD, _AVERAGES, _HISTORY, _AUCTIONS = range(4)


def _traffic(given: Any) -> Any:
    """The traffic shape of a name."""
    if isinstance(given, str) and given not in TRAFFIC:
        raise ConfigError(f"there is no traffic shape '{given}'", hint=nearest(given, TRAFFIC))
    return TRAFFIC[given] if isinstance(given, str) else given


@checked
class SyntheticMarket:
    """A stationary simulated market: slots, prices and truth have the same distribution at every moment; only
    the number of auctions per hour varies.

    A slot has a context u [D], and each of K ads has two vectors a and b [D], all standard normal. The
    model's last layer reads h = (u + a + u∘b) / √3, in single precision, as from a network. A click has the
    logit φ·w with φ = (h, 1).

    The model's knowledge is a posterior N(m, Λ⁻¹) of w: the prior of a `CampaignPrior`, updated with
    `training` impressions. The truth is w = m + model_error · (a draw from N(0, Λ⁻¹)). So with a model_error
    of 1 the truth is a draw from the bidder's belief. Both biases are then moved by the same number, so that
    the true click probability is `click_rate` on average over slots and ads. The pCTR is that of the
    posterior mean, as from a network, so it is lower after fewer training impressions.

    The seed determines everything; the result is the same however the stream is chunked.

    Raises:
        ConfigError: a number out of range.
    """

    what: ClassVar[str] = "the synthetic market"
    auctions: Count = Field(default=100_000, description="number of auctions")
    ads: Count = Field(default=12, description="K, the number of ads to choose from")
    dimensions: Count = Field(default=16, description="D, the number of inputs of the model's last layer")
    click_rate: float = Field(default=0.01, gt=0, lt=1, description="mean true click probability of an ad")
    signal: Positive = Field(
        default=0.8, description="standard deviation of the logit under the prior of the weights"
    )
    training: Whole = Field(
        default=100_000,
        ge=0,
        description="number of impressions that the model has learnt from; 0 is a cold start",
    )
    model_error: NotNegative = Field(
        default=1.0,
        description="distance of the truth from the model, in standard deviations of its posterior",
    )
    prices: Annotated[
        InstanceOf[PriceModel], BeforeValidator(price_model), WithJsonSchema({"type": "price model"})
    ] = Field(
        default=USUAL_PRICES,
        description="distribution of the highest competing bid, such as gamma:mean=50;shape=2",
    )
    price_elasticity: NotNegative = Field(
        default=0.5,
        le=10,
        description="prices are proportional to this power of the slot's best true value; the mean price "
        "stays that of `prices`",
    )
    value: Positive = Field(default=1.0, description="mean value of a click over ads")
    value_spread: NotNegative = Field(
        default=0.0,
        description="s; the value of a click on an ad is value · exp(s·z − s²/2) with z standard normal, "
        "drawn per ad; with 0 all ads have the same value",
    )
    conversion_rate: UnitInterval = Field(
        default=0.0,
        description="probability that a click converts; a conversion then brings the value of a click "
        "divided by this rate; with 0 there are no conversions, and the click brings its value",
    )
    users: Whole = Field(
        default=20_000,
        ge=0,
        description="number of users, 0 for unknown users; the k most active users have the share "
        "√(k / users) of the traffic, so that visits per user follow a power law",
    )
    slots: Count = Field(default=1, description="number of slots of a page")
    competitors: Count = Field(
        default=10,
        description="number of independent competitors whose highest bids are the prices of several slots",
    )
    traffic: Annotated[
        InstanceOf[TrafficShape], BeforeValidator(_traffic), WithJsonSchema({"enum": [*TRAFFIC]})
    ] = Field(
        default=TRAFFIC["day"], description="how traffic varies with the hour; auctions are a Poisson process"
    )
    days: Positive = Field(default=1.0, description="number of days over which the auctions come")
    start: NotNegative = Field(default=MONDAY, description="start of the first day, in unix seconds")
    seed: Whole = Field(default=0, ge=0, description="seed of all random draws")

    def __post_init__(self) -> None:
        if self.slots > 1:
            check(Annotated[int, Field(ge=self.slots)], self.competitors, f"{self.what}: competitors")

    def chunks(self, size: int = BLOCK) -> Iterator[Auctions]:
        """The auctions in order of time, in chunks of `size`; the last chunk may be shorter."""
        check(Count, size, f"{self.what}: size of a chunk")
        return recut(self._blocks(_AUCTIONS, self.auctions, self.start), size)

    def history(self, auctions: int) -> Auctions:
        """Auctions of the time before: the same market with other slots, prices and luck.

        They are spread over the same hours, earlier by the number of days of the market, rounded up.

        Args:
            auctions: number of auctions.
        """
        check(Count, auctions, f"{self.what}: auctions of the history")
        before = self.start - np.ceil(self.days) * DAY
        return next(recut(self._blocks(_HISTORY, auctions, before), auctions))

    @property
    def posterior(self) -> LastLayerPosterior:
        """What the bidder knows of the last-layer weights before its first impression."""
        return self._world.posterior

    @property
    def true_weights(self) -> Floats:
        """[D + 1], the weights of the true logit, the bias last."""
        return self._world.true_weights

    @cached_property
    def _world(self) -> _World:
        return _World.of(self)

    def _blocks(self, stream: int, auctions: int, start: float) -> Iterator[Auctions]:
        world, gone = self._world, 0.0
        for block, first in enumerate(range(0, auctions, BLOCK)):
            n = min(BLOCK, auctions - first)
            rng = np.random.default_rng([self.seed, stream, block])
            # Rényi's form of the order statistics of uniforms: -log(1 - U_(i)) grows by exponentials.
            passed = gone + np.cumsum(rng.standard_exponential(n) / (auctions - first - np.arange(n)))
            gone = float(passed[-1])
            timestamp = self.traffic.moments(-np.expm1(-passed), start, self.days)
            yield self._auctions(world, rng, timestamp)

    def _auctions(self, world: _World, rng: np.random.Generator, timestamp: Floats) -> Auctions:
        n = len(timestamp)
        hidden = world.hidden(rng, n)
        flat = hidden.reshape(-1, self.dimensions)
        weights = np.stack([world.posterior.mean, world.true_weights], axis=1)
        chances = expit(flat @ weights[:-1] + weights[-1]).reshape(n, self.ads, 2)
        believed, true = (np.ascontiguousarray(chances[..., i]) for i in range(2))
        click = rng.random(true.shape) < true
        brings, happens = world.value_of_click, click
        if self.conversion_rate:
            happens = click & (rng.random(true.shape) < self.conversion_rate)
            brings = brings / self.conversion_rate
        quality = (true * world.value_of_click).max(axis=1) ** self.price_elasticity / world.usual_quality
        user = np.minimum((self.users * rng.random(n) ** 2).astype(np.int64), self.users - 1)
        slot_price = None
        if self.slots > 1:
            slot_price = self.prices.draw_slots(rng, n, self.slots, self.competitors, quality)
        return Auctions(
            market_price=self.prices.draw(rng, n, quality) if slot_price is None else slot_price[:, 0],
            click_probability=believed,
            value_of_click=np.broadcast_to(world.value_of_click, true.shape),
            hidden=hidden.astype(np.float32),
            timestamp=timestamp,
            click=click.astype(np.float64),
            conversion=happens.astype(np.float64) if self.conversion_rate else None,
            earned=happens * brings,
            true_click_probability=true,
            true_value=true * world.value_of_click,
            user=user if self.users else None,
            slot_price=slot_price,
        )


@dataclass(frozen=True)
class _World:
    """What is drawn once for a market: ads, truth and belief.

    Attributes:
        shift: [K, D], of h = (shift + u ∘ stretch) / √3.
        stretch: [K, D].
        value_of_click: [K], the mean value of a click on each ad.
        usual_quality: mean of the slots' best true value to the power of the elasticity.
    """

    shift: Floats
    stretch: Floats
    value_of_click: Floats
    posterior: LastLayerPosterior
    true_weights: Floats
    usual_quality: float = 1.0

    @classmethod
    def of(cls, market: SyntheticMarket) -> _World:
        rng = np.random.default_rng([market.seed, _WORLD])
        shape, rate = (market.ads, market.dimensions), market.click_rate
        shift, stretch = rng.standard_normal(shape), 1.0 + rng.standard_normal(shape)
        spread = market.value_spread
        value = market.value * np.exp(spread * rng.standard_normal(market.ads) - spread**2 / 2)
        prior = CampaignPrior(rate, market.dimensions / market.signal**2).prior(market.dimensions)

        sample = np.random.default_rng([market.seed, _AVERAGES])
        hidden = _hidden(shift, stretch, sample, SAMPLE)
        features = with_bias(hidden.reshape(-1, market.dimensions))

        # The model's weights are drawn with the covariance that training takes from the prior, and its error
        # with the covariance that training leaves. Together they have the prior's covariance: a cold model
        # knows nothing, and a well trained one varies over ads and slots as much as the truth.
        learnt = market.training * rate * (1 - rate) / len(features) * (features.T @ features)
        closed = np.linalg.inv(prior.precision) - np.linalg.inv(prior.precision + learnt)
        size, direction = eigh(closed)
        mean = prior.mean + direction @ (np.sqrt(np.maximum(size, 0)) * rng.standard_normal(len(size)))
        mean = _with_rate(mean, features, rate)
        p = expit(features @ mean)
        learnt = market.training / len(features) * ((features * (p * (1 - p))[:, None]).T @ features)
        posterior = LastLayerPosterior(mean, prior.precision + learnt)

        true = mean + market.model_error * posterior.centred().sample(rng, 1)[0]
        right = _with_rate(true, features, rate)
        posterior = LastLayerPosterior(mean + right - true, posterior.precision)
        best = (expit(features @ right).reshape(hidden.shape[:2]) * value).max(axis=1)
        usual = float((best**market.price_elasticity).mean())
        return cls(shift, stretch, value, posterior, right, usual)

    def hidden(self, rng: np.random.Generator, n: int) -> Floats:
        """The inputs of the last layer for n slots, [n, K, D]."""
        return _hidden(self.shift, self.stretch, rng, n)


def _hidden(shift: Floats, stretch: Floats, rng: np.random.Generator, n: int) -> Floats:
    context = rng.standard_normal((n, 1, shift.shape[1]))
    hidden = context * (stretch / np.sqrt(3.0))
    hidden += shift / np.sqrt(3.0)
    return np.asarray(hidden)


def _with_rate(weights: Floats, features: Floats, rate: float) -> Floats:
    """The weights with the bias at which the mean click probability is the rate."""
    part, usual = features[:, :-1] @ weights[:-1], float(logit(rate))

    def excess(bias: float) -> float:
        return float(expit(part + bias).mean()) - rate

    bias = brentq(excess, usual - float(part.max()) - 1e-6, usual - float(part.min()) + 1e-6, xtol=1e-12)
    return np.append(weights[:-1], bias)


def parse_market(text: str) -> SyntheticMarket:
    """A market from a text such as `auctions=100000,ads=12,traffic=week,days=7`.

    Semicolons separate the settings of a price model: `prices=gamma:mean=50;shape=2,slots=3`.

    Raises:
        ConfigError: an unknown setting (the error names the nearest), or a value out of range.
    """
    return made_of(SyntheticMarket, read_settings(text, SyntheticMarket.what))
