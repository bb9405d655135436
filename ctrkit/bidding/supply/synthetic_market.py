"""A made-up market of any size, whose truth is known: slots, ads, users, competing bids and outcomes."""

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

# Auctions that are made at once, whatever the size of the chunks, so that no rounding hangs on that size.
BLOCK = 8192
# Slots by whose average rates and prices are set.
SAMPLE = 4096
# 2024-03-04, a Monday, 00:00 UTC.
MONDAY = 1_709_510_400.0
# About what the better slots are worth where a click in a hundred impressions brings 1.
USUAL_PRICES: Final = price_model("log-normal:mean=-4,deviation=1")

# Streams of random numbers: what is drawn once, the slots behind averages, and the auctions of each phase.
_WORLD, _AVERAGES, _HISTORY, _AUCTIONS = range(4)


def _traffic(given: Any) -> Any:
    """The shape of a name."""
    if isinstance(given, str) and given not in TRAFFIC:
        raise ConfigError(f"there is no traffic '{given}'", hint=nearest(given, TRAFFIC))
    return TRAFFIC[given] if isinstance(given, str) else given


@checked
class SyntheticMarket:
    """A stationary market: the same slots, prices and truth in law at every moment, more or fewer an hour.

    A slot has a context u [D], each of K ads two vectors a and b [D], all standard normal, and the model's
    last layer reads h = (u + a + u∘b) / √3, told in single precision, as by a network. A click has the logit
    φ·w with φ = (h, 1).

    What the model knows is a posterior N(m, Λ⁻¹) of w, that of `training` impressions after the prior of
    a `CampaignPrior`; the truth is w = m + model_error · (a draw from N(0, Λ⁻¹)). So for a model_error of 1
    the truth is a draw from what the bidder believes. Both biases are then moved by one and the same number,
    so that the true click probability is `click_rate` on average over slots and ads. The pCTR is that of the
    posterior mean, as of a network, so the fewer impressions it has learnt from the lower it lies.

    Everything follows from the seed, and nothing from how the stream is chunked.

    Raises:
        ConfigError: a number out of range.
    """

    what: ClassVar[str] = "the synthetic market"
    auctions: Count = Field(default=100_000, description="how many")
    ads: Count = Field(default=12, description="K, how many there are to choose from")
    dimensions: Count = Field(default=16, description="D, of what the last layer reads")
    click_rate: float = Field(default=0.01, gt=0, lt=1, description="mean true click probability of an ad")
    signal: Positive = Field(
        default=0.8, description="deviation of the logit that the prior expects of the weights"
    )
    training: Whole = Field(
        default=100_000, ge=0, description="impressions that the model has learnt from; 0 is a cold start"
    )
    model_error: NotNegative = Field(
        default=1.0, description="how far the truth is from the model, in deviations of its posterior"
    )
    prices: Annotated[
        InstanceOf[PriceModel], BeforeValidator(price_model), WithJsonSchema({"type": "price model"})
    ] = Field(default=USUAL_PRICES, description="of the highest competing bid, such as gamma:mean=50;shape=2")
    price_elasticity: NotNegative = Field(
        default=0.5,
        le=10,
        description="prices go with this power of the slot's best true value, scaled so that the mean price "
        "stays that of `prices`",
    )
    value: Positive = Field(default=1.0, description="what a click brings in the mean, by ad")
    value_spread: NotNegative = Field(
        default=0.0,
        description="s: a click brings value · exp(s·z − s²/2), z standard normal by ad; 0 for all alike",
    )
    conversion_rate: UnitInterval = Field(
        default=0.0,
        description="chance that a click converts, which then brings the value of a click divided by this "
        "rate; 0 leaves conversions away, and the click brings its value",
    )
    users: Whole = Field(
        default=20_000,
        ge=0,
        description="how many there are, 0 leaves them away; the most active k of them have √(k / users) of "
        "the traffic, so that visits by user have the tail of a power law",
    )
    slots: Count = Field(default=1, description="to be won in an auction")
    competitors: Count = Field(
        default=10,
        description="with more than one slot, prices are the highest bids of so many independent ones",
    )
    traffic: Annotated[
        InstanceOf[TrafficShape], BeforeValidator(_traffic), WithJsonSchema({"enum": [*TRAFFIC]})
    ] = Field(default=TRAFFIC["day"], description="the shape of the Poisson process by which auctions come")
    days: Positive = Field(default=1.0, description="over how many they come")
    start: NotNegative = Field(default=MONDAY, description="of the first day, in unix seconds")
    seed: Whole = Field(default=0, ge=0, description="of all that is drawn")

    def __post_init__(self) -> None:
        if self.slots > 1:
            check(Annotated[int, Field(ge=self.slots)], self.competitors, f"{self.what}: competitors")

    def chunks(self, size: int = BLOCK) -> Iterator[Auctions]:
        """The auctions in order of time, in chunks of `size`, the last one shorter where it must be."""
        check(Count, size, f"{self.what}: size of a chunk")
        return recut(self._blocks(_AUCTIONS, self.auctions, self.start), size)

    def history(self, auctions: int) -> Auctions:
        """As many auctions of the time before: same market, other slots, prices and luck.

        They come at the same hours as the auctions do, as many whole days earlier as those take, rounded up.
        """
        check(Count, auctions, f"{self.what}: auctions of the history")
        before = self.start - np.ceil(self.days) * DAY
        return next(recut(self._blocks(_HISTORY, auctions, before), auctions))

    @property
    def posterior(self) -> LastLayerPosterior:
        """What the bidder knows of the last layer before its first impression."""
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
    """What is drawn once: ads, truth and belief.

    Attributes:
        shift, stretch: [K, D], of h = (shift + u ∘ stretch) / √3.
        value_of_click: [K].
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

        # The model is drawn with what training takes away of the prior's covariance, and its error with what
        # training leaves, so that together they have the prior's: a cold model knows nothing, and a well
        # trained one differs from ad to ad and slot to slot as much as the truth.
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
        """What the last layer reads for n slots, [n, K, D]."""
        return _hidden(self.shift, self.stretch, rng, n)


def _hidden(shift: Floats, stretch: Floats, rng: np.random.Generator, n: int) -> Floats:
    context = rng.standard_normal((n, 1, shift.shape[1]))
    hidden = context * (stretch / np.sqrt(3.0))
    hidden += shift / np.sqrt(3.0)
    return np.asarray(hidden)


def _with_rate(weights: Floats, features: Floats, rate: float) -> Floats:
    """The weights with the bias for which the mean click probability is the rate."""
    part, usual = features[:, :-1] @ weights[:-1], float(logit(rate))

    def excess(bias: float) -> float:
        return float(expit(part + bias).mean()) - rate

    bias = brentq(excess, usual - float(part.max()) - 1e-6, usual - float(part.min()) + 1e-6, xtol=1e-12)
    return np.append(weights[:-1], bias)


def parse_market(text: str) -> SyntheticMarket:
    """A market from a text such as `auctions=100000,ads=12,traffic=week,days=7`.

    Within a price model the settings are parted by semicolons: `prices=gamma:mean=50;shape=2,slots=3`.

    Raises:
        ConfigError: an unknown setting (the nearest is named), or a value out of range.
    """
    return made_of(SyntheticMarket, read_settings(text, SyntheticMarket.what))
