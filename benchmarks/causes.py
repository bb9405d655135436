"""How much of each cause of a click a model has found, on a market that knows them.

The logit of the true click probability is a sum of parts (`ctrkit/data/market.py`). A model's logit is
regressed on these parts, with rows weighted by p (1 - p), the information that a row has about its logit. The
slope of a part is the share of it that the model has found: 1 for all of it, 0 for none.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from ctrkit.arrays import Floats
from ctrkit.data import market as truth
from ctrkit.data.market import DEVICES, NO_CLICK, PLACEMENTS, Population, Situation


def parts(population: Population, table: pl.DataFrame) -> dict[str, Floats]:
    """The parts of the true logit of impressions, `[n]` each, without the constant."""
    user, time = table["user_id"].cast(pl.Int64).to_numpy(), table["timestamp"].to_numpy()
    ad = table["ad_id"].cast(pl.Int64).to_numpy()
    device, placement = (
        table[column].replace_strict(names, range(len(names)), return_dtype=pl.Int64).to_numpy()
        for column, names in (("device", DEVICES), ("placement", PLACEMENTS))
    )
    at = Situation(user, time, device, placement, population.history(user, time))
    ads, category, last = population.ads, population.ads.category, at.history[:, -1]
    interest = np.einsum("nd,nd->n", population.users.interests[user], ads.latent[ad])
    by_daypart = population.category_by_daypart[category[ad], at.hour // 6]
    known = last != NO_CLICK
    return {
        "quality": truth.QUALITY * ads.quality[ad],
        "placement": truth.PLACEMENT[placement],
        "interest": truth.INTEREST * interest,
        "daypart × device × category": truth.DAYPART * by_daypart * truth.DEVICE_SIGN[device],
        "category counts": truth.AFFINITY * np.log1p(population.affinity(at, ad[:, None])[:, 0]),
        "last category → category": truth.COMPLEMENT
        * (known & (population.complement[category[last]] == category[ad])),
        "same advertiser as last": truth.FATIGUE * (known & (ads.advertiser[last] == ads.advertiser[ad])),
    }


def shares(causes: dict[str, Floats], logits: Floats, probabilities: Floats) -> dict[str, float]:
    """The share of each cause that logits `[n]` hold.

    Args:
        causes: from `parts`.
        logits: of the model.
        probabilities: the true ones, for the weights.
    """
    root = np.sqrt(probabilities * (1 - probabilities))
    design = np.column_stack([np.ones_like(root), *causes.values()])
    slopes, *_ = np.linalg.lstsq(design * root[:, None], logits * root, rcond=None)
    return dict(zip(causes, slopes[1:].tolist(), strict=True))
