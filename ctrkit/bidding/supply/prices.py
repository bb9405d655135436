"""Where the market prices of made-up auctions come from: a distribution, fitted or given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats
from ctrkit.bidding.landscapes import (
    LANDSCAPES,
    Gamma,
    Histogram,
    Landscape,
    LogLogistic,
    LogNormal,
    PriceBounds,
    SmoothLandscape,
)
from ctrkit.bidding.supply.settings import need, need_above, read_number, read_settings
from ctrkit.errors import ConfigError, DataError, nearest
from ctrkit.schema import Column, LogSchema, near_misses

# The largest number below 1, above which no uniform lies.
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
        need("a price model", "unit", self.unit, 0.0)
        if not np.isfinite(self.landscape.quantile(_HIGHEST)).all():
            raise ConfigError(
                f"this {self.landscape.name} landscape leaves the highest prices open, so none can be drawn",
                mend="Fit one to known prices, or a smooth one",
            )

    @classmethod
    def fit(cls, kind: str, price: ArrayLike, count: ArrayLike | None = None, unit: float = 0.0) -> Self:
        """Fitted to known market prices by maximum likelihood.

        Args:
            kind: of `ctrkit.bidding.landscapes.LANDSCAPES`: histogram, log-normal, gamma, log-logistic.
            price: [n], at least 0; count: [n], how often each occurred, 1 by default.
            unit: of which all prices are whole multiples; 0 where they are not.

        Raises:
            ConfigError: an unknown kind.
            DataError: prices that the kind cannot be fitted to.
        """
        if kind not in LANDSCAPES:
            raise ConfigError(f"there is no price model '{kind}'", mend=nearest(kind, LANDSCAPES))
        smooth = issubclass(LANDSCAPES[kind], SmoothLandscape)
        bounds = PriceBounds.observed(price, count, unit if smooth else 0.0)
        return cls(LANDSCAPES[kind].fit(bounds), unit)

    def draw(self, rng: np.random.Generator, n: int, quality: Floats | None = None) -> Floats:
        """Market prices [n].

        Args:
            quality: [n], by which each price is multiplied; of mean 1 it leaves the mean price what it is.
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
        V_0 = 1, and its price is at V_j^m of F. So column 0 is distributed as what `draw` gives.

        Raises:
            ConfigError: fewer competitors than slots.
        """
        need("a page", "slots", slots, 1)
        if competitors < slots:
            raise ConfigError(
                f"{competitors} competitors cannot fill {slots} slots", mend="Give more competitors"
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


# name: (parameters that must be given, and the landscape of them)
_SMOOTH: Final[dict[str, tuple[str, str, type[SmoothLandscape]]]] = {
    "log-normal": ("mean", "deviation", LogNormal),
    "log-logistic": ("median", "scale", LogLogistic),
    "gamma": ("mean", "shape", Gamma),
}


PRICES: Final = LogSchema(
    "table of prices",
    (
        Column("market_price", "number", "the highest competing bid", required=True, low=0.0),
        Column("count", "number", "how often it occurred", low=0.0),
    ),
)


def parse_price_model(text: str) -> PriceModel:
    """A price model from a text.

    `log-normal:mean=3.5,deviation=1` (of the log price), `gamma:mean=50,shape=2`,
    `log-logistic:median=50,scale=0.5`; each also takes `zero`, the share of prices at 0, and `unit`. Or
    fitted to the market prices of a table or auction log, by each of these and a histogram:
    `histogram:file=auctions.parquet`. Semicolons may stand for commas, where the text is part of another.

    Raises:
        ConfigError: an unknown model or parameter (names the nearest), one that is missing or out of range.
        DataError: a table of prices that cannot be read, or to which the model cannot be fitted.
    """
    name, _, rest = text.partition(":")
    # Both spellings are common.
    by_plain = {known.replace("-", ""): known for known in (*_SMOOTH, Histogram.name)}
    plain = name.strip().lower().replace("-", "").replace("_", "")
    if plain not in by_plain:
        raise ConfigError(f"there is no price model '{name}'", mend=nearest(name, by_plain.values()))
    name = by_plain[plain]
    what = f"price model '{name}'"
    own = _SMOOTH[name][:2] if name in _SMOOTH else ()
    given = read_settings(what, rest.replace(";", ","), (*own, "zero", "unit", "file"))
    file = given.pop("file", None)
    number = {key: read_number(what, key, value) for key, value in given.items()}
    unit = number.pop("unit", 0.0)
    if file is not None:
        if number:
            raise ConfigError(
                f"{what} is fitted to a file, and {next(iter(number))} is given too", mend="Leave one out"
            )
        table, _ = PRICES.read(file)
        for near, column in near_misses(PRICES, table.columns).items():
            raise DataError(
                "this name is next to that of a column that is read, and is not read itself",
                file=file,
                column=near,
                mend=f"Call it {column.name} if it holds {column.meaning}, else something else",
            )
        count = table["count"].to_numpy() if "count" in table.columns else None
        return PriceModel.fit(name, table["market_price"].to_numpy(), count, unit)
    if missing := [key for key in own or ("file",) if key not in number]:
        raise ConfigError(f"{what} lacks {missing[0]}", mend=f"Write {name}:{missing[0]}=...")
    first, second, kind = _SMOOTH[name]
    need_above(what, second, number[second])
    if kind is not LogNormal:
        need_above(what, first, number[first])
    location = number[first] if kind is LogNormal else float(np.log(number[first]))
    return PriceModel(kind(location, float(np.log(number[second])), number.get("zero", 0.0)), unit)
