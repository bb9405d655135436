"""Where the market prices of simulated auctions come from: a distribution, fitted or given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self, cast

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from ctrkit.arrays import Floats
from ctrkit.bidding.landscapes import (
    LANDSCAPES,
    Gamma,
    Landscape,
    LogLogistic,
    LogNormal,
    PriceBounds,
    SmoothLandscape,
)
from ctrkit.errors import ConfigError, DataError, nearest
from ctrkit.schema import Column, LogSchema, near_misses
from ctrkit.settings import (
    Count,
    NotNegative,
    Number,
    Positive,
    Registry,
    check,
    checked,
    setting_fields,
    title,
)

# The largest number below 1; uniform draws are never above it.
_HIGHEST = np.nextafter(1.0, 0.0)


@dataclass(frozen=True)
class PriceModel:
    """Draws market prices from a bid landscape.

    Attributes:
        landscape: the distribution of the highest competing bid.
        unit: above 0, prices are rounded up to whole multiples of it: a smooth landscape that was fitted to
            whole prices (`PriceBounds.observed(..., unit=1)`) takes a price z for anything in (z - 1, z].

    Raises:
        ConfigError: a landscape that does not reach all prices, or a unit that is not at least 0.
    """

    landscape: Landscape
    unit: float = 0.0

    def __post_init__(self) -> None:
        check(NotNegative, self.unit, "price model: unit")
        if not np.isfinite(self.landscape.quantile(_HIGHEST)).all():
            raise ConfigError(
                f"this {self.landscape.name} landscape lacks the highest prices, so none can be drawn",
                hint="Fit it to known prices, or fit a smooth landscape",
            )

    @classmethod
    def fit(cls, kind: str, price: ArrayLike, count: ArrayLike | None = None, unit: float = 0.0) -> Self:
        """The price model of maximum likelihood for known market prices.

        Args:
            kind: one of `ctrkit.bidding.landscapes.LANDSCAPES`: histogram, log-normal, gamma, log-logistic.
            price: [n], at least 0.
            count: [n], how often each price occurred, 1 by default.
            unit: the unit of which all prices are whole multiples; 0 if there is none.

        Raises:
            ConfigError: an unknown kind.
            DataError: prices that the kind cannot be fitted to.
        """
        if kind not in LANDSCAPES:
            raise ConfigError(f"there is no price model '{kind}'", hint=nearest(kind, LANDSCAPES))
        smooth = issubclass(LANDSCAPES[kind], SmoothLandscape)
        bounds = PriceBounds.observed(price, count, unit if smooth else 0.0)
        return cls(LANDSCAPES[kind].fit(bounds), unit)

    def draw(self, rng: np.random.Generator, n: int, quality: Floats | None = None) -> Floats:
        """Draw market prices, [n].

        Args:
            rng: the source of random numbers.
            n: number of auctions.
            quality: [n], a factor on each price; with mean 1 it does not change the mean price.
        """
        return self._finish(self.landscape.sample(rng, n), quality)

    def draw_slots(
        self,
        rng: np.random.Generator,
        n: int,
        slots: int,
        competitors: int,
        quality: Floats | None = None,
    ) -> Floats:
        """The highest bids of m independent competitors in each auction, [n, slots], the highest first.

        Each competitor bids by F^(1/m), so that the highest bid has the landscape's distribution F. With U
        independent and uniform, the j-th highest of m uniform bids is V_j = V_(j-1) U_j^(1/(m - j + 1)), from
        V_0 = 1, and its price is at V_j^m of F. So column 0 has the distribution of `draw`.

        Args:
            rng: the source of random numbers.
            n: number of auctions.
            slots: number of slots of a page.
            competitors: m.
            quality: [n], a factor on the prices of each auction.

        Raises:
            ConfigError: fewer competitors than slots.
        """
        check(Count, slots, "slots of a page")
        if competitors < slots:
            raise ConfigError(
                f"{competitors} competitors cannot fill {slots} slots", hint="Give more competitors"
            )
        left = competitors - np.arange(slots)
        with np.errstate(divide="ignore"):  # a uniform of 0 is a price at the lowest end
            place = np.exp(competitors * np.cumsum(np.log(rng.random((n, slots))) / left, axis=1))
        price = self.landscape.quantile(np.minimum(place, _HIGHEST))
        return self._finish(price, None if quality is None else quality[:, None])

    def _finish(self, price: Floats, quality: Floats | None) -> Floats:
        if quality is not None:
            price = price * quality
        if self.unit:
            # A whole price of a histogram stays, though 0.07 / 0.01 is a little above 7.
            price = np.ceil(price / self.unit * (1 - 1e-12)) * self.unit
        return np.asarray(price)


TABLE: Final = LogSchema(
    "table of prices",
    (
        Column("market_price", "number", "the highest competing bid", required=True, low=0.0),
        Column("count", "number", "how often it occurred", low=0.0),
    ),
)


@checked
class Prices(ABC):
    """The distribution of prices: a landscape with given parameters, or one that is fitted to known prices.

    Raises:
        ConfigError: both parameters and a file, or neither.
    """

    what: ClassVar[str] = "price model"
    name: ClassVar[str]
    file: str | None = Field(
        default=None,
        kw_only=True,
        description="a table of prices, or an auction log, to which the distribution is fitted",
    )
    zero: float = Field(default=0.0, ge=0, lt=1, kw_only=True, description="the share of prices at 0")
    unit: NotNegative = Field(
        default=0.0,
        kw_only=True,
        description="the unit of which prices are whole multiples; 0 if there is none",
    )

    def __post_init__(self) -> None:
        own = [name for name in setting_fields(type(self)) if name not in ("file", "zero", "unit")]
        given = [name for name in (*own, "zero") if getattr(self, name)]
        if self.file is not None and given:
            raise ConfigError(
                f"{title(self)} is fitted to a file, but {given[0]} is given too", hint="Leave one out"
            )
        lacking = [name for name in own or ("file",) if getattr(self, name) is None]
        if self.file is None and lacking:
            raise ConfigError(f"{title(self)} lacks {lacking[0]}", hint=f"Write {self.name}:{lacking[0]}=...")

    @abstractmethod
    def landscape(self) -> Landscape:
        """The landscape with the given parameters."""

    def model(self) -> PriceModel:
        """The price model.

        Raises:
            DataError: a table of prices that cannot be read, or to which the landscape cannot be fitted.
        """
        if self.file is None:
            return PriceModel(self.landscape(), self.unit)
        table, _ = TABLE.read(self.file)
        for near, column in near_misses(TABLE, table.columns).items():
            raise DataError(
                f"this column is not read, but its name is close to '{column.name}', which is",
                file=self.file,
                column=near,
                hint=f"Call it {column.name} if it is {column.meaning}, else give it another name",
            )
        count = table["count"].to_numpy() if "count" in table.columns else None
        return PriceModel.fit(self.name, table["market_price"].to_numpy(), count, self.unit)


@checked
class HistogramPrices(Prices):
    """The known prices of a file, with their frequencies."""

    name = "histogram"

    def landscape(self) -> Landscape:
        raise NotImplementedError("a histogram has no parameters")


@checked
class LogNormalPrices(Prices):
    """The log of a price is normal."""

    name = "log-normal"
    mean: Number | None = Field(default=None, description="mean of the log price")
    deviation: Positive | None = Field(default=None, description="standard deviation of the log price")

    def landscape(self) -> Landscape:
        return LogNormal(cast(float, self.mean), _log(self.deviation), self.zero)


@checked
class LogLogisticPrices(Prices):
    """The log of a price is logistic."""

    name = "log-logistic"
    median: Positive | None = Field(default=None, description="median of the prices")
    scale: Positive | None = Field(default=None, description="scale of the log price")

    def landscape(self) -> Landscape:
        return LogLogistic(_log(self.median), _log(self.scale), self.zero)


@checked
class GammaPrices(Prices):
    """Prices are gamma distributed."""

    name = "gamma"
    mean: Positive | None = Field(default=None, description="mean of the prices")
    shape: Positive | None = Field(
        default=None, description="shape of the gamma distribution; 1 is exponential"
    )

    def landscape(self) -> Landscape:
        return Gamma(_log(self.mean), _log(self.shape), self.zero)


def _log(number: float | None) -> float:
    return float(np.log(cast(float, number)))


PRICES: Final = Registry[Prices](Prices, __name__)


def price_model(given: str | Mapping[str, Any] | Prices | PriceModel) -> PriceModel:
    """A price model from a line such as `gamma:mean=50,shape=2`.

    The distributions are `log-normal:mean=3.5,deviation=1` (of the log price), `gamma:mean=50,shape=2` and
    `log-logistic:median=50,scale=0.5`; each also takes `zero`, the share of prices at 0, and `unit`. With
    `file`, each of them and `histogram:file=auctions.parquet` is fitted to the market prices of a table or
    auction log. Inside another line, semicolons replace the commas.

    Args:
        given: a line, a mapping of `name` and settings, or a price model, which is returned unchanged.

    Raises:
        ConfigError: an unknown model or parameter (the error names the nearest), or a parameter that is
            missing or out of range.
        DataError: a table of prices that cannot be read, or to which the model cannot be fitted.
    """
    if isinstance(given, PriceModel):
        return given
    if isinstance(given, str):
        name, colon, rest = given.partition(":")
        # Both spellings, with and without hyphens, are common.
        plain = name.strip().lower().replace("-", "").replace("_", "")
        name = next((known for known in PRICES if known.replace("-", "") == plain), name)
        given = name + colon + rest.replace(";", ",")
    return PRICES.read(given).model()
