"""Auction logs as arrays, with the candidates scored by a model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl

from ctrkit.api.model import Model, load
from ctrkit.api.sample_logs import bundled
from ctrkit.bidding import Auctions, auctions_from_log, read_auction_log
from ctrkit.bidding.auctions import user_codes
from ctrkit.errors import DataError
from ctrkit.policies import padded
from ctrkit.policies.candidates import Floats
from ctrkit.schema import CANDIDATE_PREFIX, TRUTH_PREFIX
from ctrkit.tables import TableLike, name_of
from ctrkit.training import predict
from ctrkit.training.loop import OnStep

_CHUNK = 2048


def opened_auctions(
    auctions: TableLike | None, model: str | os.PathLike[str] | Model | None
) -> tuple[pl.DataFrame, str | None, Model | None, tuple[str, ...]]:
    """The log of auctions and its name, the model that scores them, and what is to be said of both.

    Args:
        auctions: an auction log; None for the sample log.
        model: an artifact or a path to one. With None the log's `pctr` column scores, and where the log has
            none, `model.pt`.
    """
    source = auctions if auctions is not None else bundled("logs_sample", "auctions.parquet")
    table = read_auction_log(source)
    notes: tuple[str, ...] = ()
    if auctions is None:
        notes += ("The auctions are the sample that ships with ctrkit.",)
    if model is None and "pctr" not in table.columns:
        model = "model.pt"
    scorer = model if isinstance(model, Model) or model is None else load(model)
    if scorer is None and "candidates" in table.columns:
        listed = [name for name in table.columns if name.startswith((CANDIDATE_PREFIX, TRUTH_PREFIX))]
        table = table.drop("candidates", *listed)
        notes += ("Without a model the candidates have no scores: only the ad of the log's pctr is bid on.",)
    if scorer is not None and not scorer.calibrators:
        notes += ("The model is not calibrated, and bids are only as good as it is: run `ctrkit calibrate`.",)
    return table, name_of(source), scorer, notes


def scored_auctions(
    table: pl.DataFrame,
    model: Model | None,
    value_per_click: float | None,
    file: str | None,
    on_step: OnStep,
    *,
    users: bool = False,
) -> Iterator[Auctions]:
    """The log as auctions, scored chunk by chunk.

    Args:
        value_per_click: worth of a click. By default a click is worth p(conversion | click) times the value
            of a conversion where model and log know both, else it counts 1.
        users: whether the auctions are to know who sees them.

    Raises:
        DataError: users are asked for, and the log does not have them.
    """
    if users and "user_id" not in table.columns:
        raise DataError(
            "a frequency cap counts by user, and the log does not know them",
            file=file, column="user_id", mend="Add the column, or leave the cap out",
        )  # fmt: skip
    codes = user_codes(table["user_id"]) if users else None
    slots = _slot_prices(table["slot_prices"], file) if "slot_prices" in table.columns else None
    for start in range(0, table.height, _CHUNK):
        rows = table[start : start + _CHUNK]
        if model is None:
            scored = auctions_from_log(rows, value_of_click=value_per_click or 1.0)
        elif "candidates" in table.columns:
            scored = _of_candidates(rows, model, value_per_click, file)
        else:
            scored = _of_single_ads(rows, model, value_per_click)
        within = slice(start, start + _CHUNK)
        yield replace(
            scored,
            user=None if codes is None else codes[within],
            slot_price=None if slots is None else slots[within],
        )
        on_step(start + rows.height, table.height, "scoring")


def _slot_prices(prices: pl.Series, file: str | None) -> Floats:
    """[n, S], where every page has S slots."""
    lengths = prices.list.len()
    if (other := lengths != lengths[0]).any():
        row = int(other.arg_max() or 0)
        raise DataError(
            f"a page has {lengths[row]} slots, and the first has {lengths[0]}",
            file=file, column="slot_prices", row=row, mend="Give as many prices for every page",
        )  # fmt: skip
    return padded(prices)


def _of_single_ads(rows: pl.DataFrame, model: Model, value_per_click: float | None) -> Auctions:
    """Auctions whose ad is given by the row's own feature columns."""
    encoded = model.encode(rows)
    logits, hidden = predict(model.network, encoded)
    probabilities = list(model.probabilities(logits, encoded).values())
    worth: float | Floats = value_per_click or 1.0
    if value_per_click is None and len(model.tasks) > 1 and "value" in rows.columns:
        worth = probabilities[1] * rows["value"].to_numpy()
    return replace(auctions_from_log(rows, probabilities[0], worth), hidden=hidden[:, None])


def _of_candidates(
    rows: pl.DataFrame, model: Model, value_per_click: float | None, file: str | None
) -> Auctions:
    """Auctions in which the bidder also chooses the ad; what was not logged of an ad comes from the truth."""
    scores = model.score_candidates(rows, rows["candidates"], hidden=True, file=file)
    pctr = np.nan_to_num(scores.probabilities[model.tasks[0]])
    hidden = np.nan_to_num(scores.hidden) if scores.hidden is not None else None

    def listed(name: str) -> Floats | None:
        return padded(rows[name], fill=0.0) if name in rows.columns else None

    click = listed("true_click")
    if click is None:
        raise DataError(
            "a log with several candidates an auction needs the outcome of each",
            file=file,
            column="true_click",
            mend="To replay the ad that was shown, drop 'candidates' and give its features as columns",
        )
    conversion, value = listed("true_conversion"), listed("candidate_value")
    true_click, true_conversion = listed("true_click_probability"), listed("true_conversion_probability")
    counts_conversions = value_per_click is None and len(model.tasks) > 1 and value is not None
    if counts_conversions and value is not None:
        worth = np.nan_to_num(scores.probabilities[model.tasks[1]]) * value
        truth = (
            None if true_click is None or true_conversion is None else true_click * true_conversion * value
        )
        earned = None if conversion is None else conversion * value
    else:
        worth = np.full(pctr.shape, value_per_click or 1.0)
        truth = None if true_click is None else true_click * worth
        earned = click * worth
    return Auctions(
        market_price=rows["market_price"].to_numpy(),
        click_probability=pctr,
        value_of_click=worth,
        hidden=hidden,
        timestamp=rows["timestamp"].to_numpy() if "timestamp" in rows.columns else None,
        click=click,
        conversion=conversion,
        earned=earned,
        true_click_probability=true_click,
        true_value=truth,
    )
