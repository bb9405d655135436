"""A market with known truth: its users, its ads, and their true probabilities of click and conversion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrkit.arrays import Floats, Integers

CATEGORIES = (
    "travel", "insurance", "electronics", "gaming", "fashion", "beauty",
    "sports", "nutrition", "furniture", "garden", "cars", "finance",
)  # fmt: skip
SEGMENTS = ("students", "starters", "families", "commuters", "homeowners", "retirees")
DEVICES = ("mobile", "desktop", "tablet")
PLACEMENTS = ("feed", "banner", "sidebar")

DAY = 86_400
# 2024-03-04, a Monday, 00:00 UTC. The logs cover ten days from here.
START = 1_709_510_400
WARM_UP_DAYS, LOGGED_DAYS = 20, 10
HISTORY_LENGTH = 20
LATENT_WIDTH = 4
NO_CLICK = -1
# Probabilities of the old ad server are multiples of 1 over this number.
POLICY_STEPS = 200

# Effect of each cause on the logit of a click.
BASE_CLICK = -4.6
QUALITY = 0.30
INTEREST = 0.42
DAYPART = 0.38
AFFINITY = 1.2
COMPLEMENT = 1.2
FATIGUE = -1.5
DECAY = 0.8
PLACEMENT = np.array([0.30, -0.35, 0.0])
# Mobile and desktop users like a category at opposite times of the day: only the combination shows it.
DEVICE_SIGN = np.array([1.0, -1.0, 0.0])

# Effect of each cause on the logit of a conversion after a click.
BASE_CONVERSION = -1.95
APPEAL = 0.35
FIT = 0.35
CONVERTING_DEVICE = np.array([-0.3, 0.45, 0.0])


@dataclass(frozen=True)
class Users:
    """The users, as arrays by user. No log contains their interests [U, D] and activity."""

    segment: Integers
    age: Integers
    device_habit: Floats
    interests: Floats
    activity: Floats


@dataclass(frozen=True)
class Ads:
    """The ads, as arrays by ad. No log contains their latent vectors [A, D], quality and appeal."""

    category: Integers
    advertiser: Integers
    price: Floats
    conversion_value: Floats
    latent: Floats
    quality: Floats
    appeal: Floats


@dataclass(frozen=True)
class Clicks:
    """The users' clicks in the feed outside these logs, sorted by user, then time. Histories come from them.

    They do not depend on any logged policy, so no policy changes the context of a later row.
    """

    user: Integers
    time: Integers
    ad: Integers


@dataclass(frozen=True)
class Situation:
    """n moments at which an ad can be shown. `history` [n, 20] holds ads or -1, the newest click last."""

    user: Integers
    time: Integers
    device: Integers
    placement: Integers
    history: Integers

    @property
    def hour(self) -> Integers:
        """Hour of the day, UTC."""
        return self.time % DAY // 3600

    def __len__(self) -> int:
        return len(self.user)


class Population:
    """Users, ads and the laws of clicks and conversions. Everything depends only on the seed.

    The logit of a click is a sum. Its parts are the ad's quality and the placement (which a linear model
    finds), the match of interests and ad, category by time of day by device, and the history: recent clicks
    on the category (the newest count most), a last click on the category that this one complements, and
    fatigue when the last click was on the same advertiser.

    Args:
        seed: any integer.
        users: number of users.
        ads: number of ads.
        advertisers: number of advertisers.
    """

    def __init__(self, seed: int, users: int = 2000, ads: int = 200, advertisers: int = 30) -> None:
        rng = np.random.default_rng([seed, 0])
        centres = rng.normal(size=(len(CATEGORIES), LATENT_WIDTH))
        tastes = rng.normal(size=(len(SEGMENTS), LATENT_WIDTH))
        self.category_by_daypart = rng.choice([-1.0, 1.0], size=(len(CATEGORIES), 4))
        self.segment_by_category = rng.normal(size=(len(SEGMENTS), len(CATEGORIES)))
        # One cycle through all categories: each complements the one before it.
        cycle = rng.permutation(len(CATEGORIES))
        self.complement = np.empty_like(cycle)
        self.complement[cycle] = np.roll(cycle, -1)
        self.users = _draw_users(rng, users, tastes)
        self.ads = _draw_ads(rng, ads, advertisers, centres)
        # The old ad server knows only the mean taste of a segment, with noise for each ad.
        blur = rng.normal(size=(len(SEGMENTS), ads))
        self.old_score = self.ads.quality * QUALITY + INTEREST * tastes @ self.ads.latent.T + 0.4 * blur
        self.clicks = self._draw_clicks(rng)

    def situations(self, rng: np.random.Generator, rows: int, first_day: int, days: int) -> Situation:
        """Moments of a span of days, in time order. Evenings have more moments than nights."""
        users = self.users
        user = rng.choice(len(users.age), size=rows, p=users.activity / users.activity.sum())
        hours = np.arange(24)
        busy = 1.0 + 0.7 * np.sin((hours - 13) * np.pi / 12) + 0.25 * np.sin((hours - 9) * np.pi / 6)
        hour = rng.choice(hours, size=rows, p=busy / busy.sum())
        day = rng.integers(first_day, first_day + days, size=rows)
        time = START + day * DAY + hour * 3600 + rng.integers(0, 3600, size=rows)
        order = np.argsort(time, kind="stable")
        user, time = user[order], time[order]
        device = _choose(rng, users.device_habit[user])
        placement = rng.choice(len(PLACEMENTS), size=rows, p=[0.5, 0.3, 0.2])
        return Situation(user, time, device, placement, self.history(user, time))

    def history(self, user: Integers, time: Integers) -> Integers:
        """The last clicks strictly before a time: [n, 20] ads, the newest last, -1 where there is none."""
        span = START + (LOGGED_DAYS + 1) * DAY
        key = self.clicks.user * span + self.clicks.time
        end = np.searchsorted(key, user * span + time, side="left")
        first = np.searchsorted(self.clicks.user, user, side="left")
        at = end[:, None] - np.arange(HISTORY_LENGTH, 0, -1)
        return np.where(at >= first[:, None], self.clicks.ad[np.maximum(at, 0)], NO_CLICK)

    def click_probability(self, at: Situation, ad: Integers) -> Floats:
        """True p(click) of ads [n, K] in n situations, rounded to four decimals."""
        ads, category = self.ads, self.ads.category[ad]
        interest = np.einsum("nd,nkd->nk", self.users.interests[at.user], ads.latent[ad])
        by_daypart = self.category_by_daypart[category, at.hour[:, None] // 6]
        last = at.history[:, -1:]
        known = last != NO_CLICK
        complements = known & (self.complement[ads.category[last]] == category)
        tired = known & (ads.advertiser[last] == ads.advertiser[ad])
        logit = (
            BASE_CLICK
            + QUALITY * ads.quality[ad]
            + PLACEMENT[at.placement][:, None]
            + INTEREST * interest
            + DAYPART * by_daypart * DEVICE_SIGN[at.device][:, None]
            + AFFINITY * np.log1p(self.affinity(at, ad))
            + COMPLEMENT * complements
            + FATIGUE * tired
        )
        return _probability(logit, 0.001, 0.5, decimals=4)

    def affinity(self, at: Situation, ad: Integers) -> Floats:
        """Number of history clicks on the ad's category, the k-th newest weighted by 0.8 to the k: [n, K]."""
        weight = DECAY ** np.arange(HISTORY_LENGTH - 1, -1, -1.0)
        category = self.ads.category[ad]
        clicked = np.where(at.history == NO_CLICK, NO_CLICK, self.ads.category[at.history])
        return np.stack([(clicked == column[:, None]) @ weight for column in category.T], axis=1)

    def conversion_probability(self, at: Situation, ad: Integers) -> Floats:
        """True p(conversion | click) of ads [n, K] in n situations, rounded to three decimals."""
        ads = self.ads
        fit = self.segment_by_category[self.users.segment[at.user][:, None], ads.category[ad]]
        logit = (
            BASE_CONVERSION
            + APPEAL * ads.appeal[ad]
            + FIT * fit
            + CONVERTING_DEVICE[at.device][:, None]
            - 0.3 * np.log(ads.price[ad] / 50.0)
        )
        return _probability(logit, 0.005, 0.6, decimals=3)

    def old_policy(self, at: Situation, ad: Integers, floor: float, temperature: float) -> Floats:
        """The old server's probabilities of candidates [n, K]: a softmax above a floor, in steps of 1/200."""
        score = self.old_score[self.users.segment[at.user][:, None], ad] / temperature
        softmax = np.exp(score - score.max(axis=1, keepdims=True))
        softmax /= softmax.sum(axis=1, keepdims=True)
        exact = POLICY_STEPS * (floor + (1 - floor * ad.shape[1]) * softmax)
        whole = np.floor(exact + 1e-9)
        # The remainder of rounding down goes to the largest fractions.
        left_over = POLICY_STEPS - whole.sum(axis=1, keepdims=True)
        rank = np.argsort(np.argsort(-(exact - whole), axis=1, kind="stable"), axis=1, kind="stable")
        probabilities: Floats = (whole + (rank < left_over)) / POLICY_STEPS
        return probabilities

    def _draw_clicks(self, rng: np.random.Generator) -> Clicks:
        """Each user's clicks over the whole span: runs of one category, complements, and plain interest."""
        users, ads = self.users, self.ads
        number = rng.poisson(users.activity * 10)
        taste = np.exp(1.1 * users.interests @ ads.latent.T)
        in_category = np.arange(len(CATEGORIES))[:, None] == ads.category
        chosen = np.full((len(number), number.max(initial=1)), NO_CLICK)
        for k in range(chosen.shape[1]):
            weight = taste
            if k:
                last = ads.category[chosen[:, k - 1]]
                mode = rng.random(len(number))[:, None]
                run = np.where(mode < 0.35, in_category[last], in_category[self.complement[last]])
                weight = np.where((mode < 0.45) & run.any(axis=1, keepdims=True), taste * run, taste)
            chosen[:, k] = _choose(rng, weight)
        real = np.arange(chosen.shape[1]) < number[:, None]
        user = np.nonzero(real)[0]
        time = rng.integers(START - WARM_UP_DAYS * DAY, START + LOGGED_DAYS * DAY, size=len(user))
        # Times are independent of the ads, so sorting them within a user keeps the order of the clicks.
        return Clicks(user, time[np.lexsort((time, user))], chosen[real])


def _draw_users(rng: np.random.Generator, users: int, tastes: Floats) -> Users:
    segment = rng.choice(len(SEGMENTS), size=users, p=[0.15, 0.2, 0.2, 0.2, 0.15, 0.1])
    age = np.clip(np.array([22, 29, 38, 42, 51, 68])[segment] + rng.normal(0, 4, users), 18, 90)
    return Users(
        segment=segment,
        age=age.astype(np.int64),
        device_habit=rng.dirichlet([2.2, 1.6, 0.5], size=users),
        interests=0.8 * tastes[segment] + 0.6 * rng.normal(size=(users, LATENT_WIDTH)),
        activity=rng.gamma(2.0, 0.5, size=users),
    )


def _draw_ads(rng: np.random.Generator, ads: int, advertisers: int, centres: Floats) -> Ads:
    # An advertiser keeps to two categories, so advertiser and category are not the same thing.
    lines = rng.integers(0, len(CATEGORIES), size=(advertisers, 2))
    advertiser = rng.integers(0, advertisers, size=ads)
    category = lines[advertiser, rng.integers(0, 2, size=ads)]
    price = np.maximum(5.0, 5 * np.round(np.exp(rng.normal(np.log(50), 0.6, size=ads)) / 5))
    return Ads(
        category=category,
        advertiser=advertiser,
        price=price,
        conversion_value=np.round(price * rng.uniform(0.3, 1.0, size=ads)),
        latent=(centres[category] + 0.4 * rng.normal(size=(ads, LATENT_WIDTH))) / np.sqrt(LATENT_WIDTH),
        quality=rng.normal(size=ads),
        appeal=rng.normal(size=ads),
    )


def _choose(rng: np.random.Generator, weight: Floats) -> Integers:
    """One column for each row, drawn in proportion to the row's weights."""
    cumulative = np.cumsum(weight, axis=1)
    point = rng.random(len(weight))[:, None] * cumulative[:, -1:]
    chosen: Integers = np.minimum((cumulative <= point).sum(axis=1), weight.shape[1] - 1)
    return chosen


def _probability(logit: Floats, low: float, high: float, decimals: int) -> Floats:
    """The rounded sigmoid: outcomes are drawn from the same rounded truth that the file holds."""
    probability: Floats = np.clip(1 / (1 + np.exp(-logit)), low, high)
    return np.round(probability, decimals)
