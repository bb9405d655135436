"""Auction logs as arrays, with the candidates scored by a model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.api.bidding.config import ValueSource
from ctrkit.api.bidding.seen import seen_note
from ctrkit.api.models.model import Model, load
from ctrkit.api.sample_logs import bundled
from ctrkit.api.scores.calibrator import ScoreCalibrator
from ctrkit.arrays import Floats
from ctrkit.bidding import Auctions, auctions_from_log, open_auction_log
from ctrkit.bidding.market.auctions import user_codes
from ctrkit.errors import ArtifactError, ConfigError, DataError, TableName
from ctrkit.policies import padded
from ctrkit.policies.candidates import candidate_mask
from ctrkit.progress import OnStep
from ctrkit.schema import AUCTION_LOG, CANDIDATE_PREFIX, TRUTH_PREFIX, near_misses, require_columns
from ctrkit.schema.scores import FUNNEL
from ctrkit.tables import TableLike

_CHUNK = 2048


def opened_auctions(
    auctions: TableLike | None,
    model: str | os.PathLike[str] | Model | None,
    time_zone: str | None = None,
    names: Mapping[str, str] | None = None,
    calibrator: ScoreCalibrator | None = None,
) -> tuple[pl.DataFrame, str | None, Model | None, tuple[str, ...]]:
    """The log of auctions and its name, the model that scores them, and notes on both.

    Args:
        auctions: an auction log; None for the sample log.
        model: an artifact or a path to one. With None the log's `pctr` column gives the scores; a log without
            that column is scored by `model.pt`.
        time_zone: as in `open_auction_log`.
        names: as in `open_auction_log`.
        calibrator: the calibrator of the log's own `pctr` and `pcvr`; None for none.

    Raises:
        ConfigError: a calibrator beside a model, which has its own.
    """
    if calibrator is not None and model is not None:
        raise ConfigError(
            "a model and a calibrator are both given, and the calibrator is for the log's own pctr",
            hint="Leave one of them out; `ctrkit calibrate MODEL` calibrates a model",
        )
    source = auctions if auctions is not None else bundled("logs_sample", "auctions.parquet")
    scorer = model if isinstance(model, Model) or model is None else load(model)
    table, file = open_auction_log(source, time_zone, None if scorer is None else scorer.spec.is_text, names)
    if scorer is None and "pctr" not in table.columns:
        if calibrator is not None or not Path("model.pt").is_file():
            raise ArtifactError(
                "the log has no click probabilities, and there is no model.pt to score its ads",
                file=file, column="pctr", hint="Add the column, or train a model with `ctrkit train`",
            )  # fmt: skip
        scorer = load("model.pt")
        table, file = open_auction_log(source, time_zone, scorer.spec.is_text, names)
    notes = tuple(
        f"The log has no column '{column.name}' ({column.meaning}). Its column '{name}' is not read as that; "
        "rename it if it is."
        for name, column in near_misses(AUCTION_LOG, table.columns).items()
    )
    if calibrator is not None:
        table, told = calibrated_log(table, calibrator, file)
        notes += told
    if auctions is None:
        notes += ("The auctions are the sample that ships with ctrkit.",)
    if scorer is None and "candidates" in table.columns:
        listed = [name for name in table.columns if name.startswith((CANDIDATE_PREFIX, TRUTH_PREFIX))]
        table = table.drop("candidates", *listed)
        notes += (
            "Without a model the candidates have no scores: only the ad of the log's pctr can be bid on.",
        )
    if scorer is not None:
        scorer.need_base_rate("bids")
    if scorer is not None and not scorer.calibrators:
        notes += ("The model is not calibrated, which makes bids worse: run `ctrkit calibrate`.",)
    if scorer is not None:
        notes += (*scorer.encoder.unlike(table), *seen_note(scorer, table))
    if time_zone is not None and "timestamp" in table.columns:
        notes += (f"Days and hours are those of {time_zone}.",)
    return table, file, scorer, notes


def calibrated_log(
    table: pl.DataFrame, calibrator: ScoreCalibrator, file: str | None
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """An auction log whose `pctr` and `pcvr` went through a calibrator, and notes on what this changed.

    Raises:
        DataError: the log lacks the column by which the calibrator corrects.
    """
    own = {task: name for task, name in FUNNEL.items() if name in table.columns}
    segments = None
    if calibrator.uses_segments and calibrator.field is not None:
        require_columns(table, (calibrator.field,), file)
        segments = table[calibrator.field]
    found = calibrator.of_tasks({task: table[name].to_numpy() for task, name in own.items()}, segments)
    notes = tuple(
        f"{name} went through the calibrator: its mean is {found[task].mean():.4g}, and was"
        f" {table[name].to_numpy().mean():.4g}."
        for task, name in own.items()
        if task in calibrator.calibrators
    )
    return table.with_columns(pl.Series(own[task], p) for task, p in found.items()), notes


def scored_auctions(
    table: pl.DataFrame,
    model: Model | None,
    value_per_click: float | None,
    file: str | None,
    on_step: OnStep,
    *,
    users: bool = False,
    conversion_value: ValueSource = "log",
) -> Iterator[Auctions]:
    """The log as auctions, scored chunk by chunk.

    Args:
        table: the auction log.
        model: the model that scores the ads; None for the log's `pctr`.
        value_per_click: value of a click. By default it is p(conversion | click), from the model or the
            log's `pcvr`, times the value of a conversion; where one of both is unknown, it is 1.
        file: the name of the log for messages.
        on_step: called after each chunk.
        users: whether the auctions hold the users.
        conversion_value: whose value of a conversion bids expect (see `expects_values`).

    Raises:
        DataError: users are needed, and the log has none.
    """
    if users and "user_id" not in table.columns:
        raise DataError(
            "a frequency cap counts impressions per user, but the log has no users",
            file=file, column="user_id", hint="Add the column, or leave the cap out",
        )  # fmt: skip
    codes = user_codes(table["user_id"]) if users else None
    slots = _slot_prices(table["slot_prices"], file) if "slot_prices" in table.columns else None
    # Every chunk has room for the same number of ads, however long its own lists are.
    expects = expects_values(table, model, value_per_click, conversion_value)
    places = int(table["candidates"].list.len().max() or 0) if "candidates" in table.columns else 1  # type: ignore[arg-type]
    for start in range(0, table.height, _CHUNK):
        rows = table[start : start + _CHUNK]
        own = file.after(start) if isinstance(file, TableName) else None
        try:
            if model is None:
                scored = auctions_from_log(rows, value_of_click=value_per_click)
            elif "candidates" in table.columns:
                scored = _of_candidates(rows, model, value_per_click, own, places, expects=expects)
            else:
                scored = _of_single_ads(rows, model, value_per_click, expects=expects)
        except DataError as error:
            if error.file is not None:
                raise
            row = None if error.row is None else error.row + start
            raise DataError(
                error.problem, file=file, column=error.column, row=row, hint=error.hint
            ) from error
        within = slice(start, start + _CHUNK)
        yield replace(
            scored,
            user=None if codes is None else codes[within],
            slot_price=None if slots is None else slots[within],
        )
        on_step(start + rows.height, table.height, "scoring")


def expects_values(
    table: pl.DataFrame, model: Model | None, value_per_click: float | None, source: ValueSource = "log"
) -> bool:
    """Whether bids expect the model's values, not the log's own.

    Args:
        table: the auction log.
        model: the model that scores the ads.
        value_per_click: the given value of a click, which needs no other.
        source: whose value counts where both know it: the log's own value of a conversion or the model's.
    """
    if model is None or model.spec.value is None or value_per_click is not None:
        return False
    return source == "model" or not _knows_values(table, model)


def value_notes(
    table: pl.DataFrame, model: Model | None, value_per_click: float | None, source: ValueSource = "log"
) -> tuple[str, ...]:
    """A note if bids expect the model's values; the arguments are those of `expects_values`."""
    if model is None or not expects_values(table, model, value_per_click, source):
        return ()
    if _knows_values(table, model):
        return ("Bids expect the model's values of conversions; earned money counts the log's own.",)
    what = f"the value of a {model.tasks[-1]}"
    return (f"The log does not tell {what}: bids and earned money count what the model expects.",)


def _knows_values(table: pl.DataFrame, model: Model) -> bool:
    """Whether the log tells the value of the conversions that the model predicts."""
    column = f"{CANDIDATE_PREFIX}value" if "candidates" in table.columns else "value"
    return len(model.tasks) > 1 and column in table.columns


def unused_columns(
    table: pl.DataFrame,
    model: Model | None,
    value_per_click: float | None,
    others: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """Notes on columns of an auction log that no result depends on, and why.

    Args:
        table: the auction log.
        model: the model that scores the ads; None for the log's `pctr`.
        value_per_click: the given value of a click; None where the log's columns give it.
        others: further columns that are not used -> why.
    """
    names = {*table.columns}
    # An alias is renamed unless the column is there under its own name too.
    why = {alias: f"{column.name} is read" for column in AUCTION_LOG.columns for alias in column.aliases}
    if model is not None:
        why["pctr"] = "the model scores"
    if model is not None and "candidates" in names:
        of_each = "each candidate has its own outcome"
        why |= {
            "click": of_each,
            "conversion": of_each,
            "value": f"{CANDIDATE_PREFIX}value has each ad's value",
        }
        why["pcvr"] = "the model scores"
    elif value_per_click is not None:
        why |= dict.fromkeys(("value", "pcvr"), "value_per_click gives the value of a click")
    elif model is not None and len(model.tasks) > 1:
        why["pcvr"] = "the model scores"
    else:
        why |= {} if "pcvr" in names else {"value": "without pcvr the rate of conversions is unknown"}
        why |= {} if "value" in names else {"pcvr": "without value the value of a conversion is unknown"}
    why |= others or {}
    if model is not None:
        why = {name: reason for name, reason in why.items() if name not in model.spec.feature_columns}
    notes: tuple[str, ...] = ()
    if {"conversion", "value"} <= names and "value" in why and "conversion" not in why:
        notes = (f"The log's value counts in earned money, but not in bids: {why.pop('value')}.",)
    if said := [f"{name} ({why[name]})" for name in table.columns if name in why]:
        notes = (f"Columns of the log that are not used: {', '.join(said)}.", *notes)
    return notes


def _slot_prices(prices: pl.Series, file: str | None) -> Floats:
    """The prices as an array [n, S]; every page has S slots."""
    lengths = prices.list.len()
    if (other := lengths != lengths[0]).any():
        row = int(other.arg_max() or 0)
        raise DataError(
            f"this page has {lengths[row]} slots, but the first has {lengths[0]}",
            file=file, column="slot_prices", row=row, hint="Give the same number of prices for every page",
        )  # fmt: skip
    return padded(prices)


def _of_single_ads(
    rows: pl.DataFrame, model: Model, value_per_click: float | None, *, expects: bool
) -> Auctions:
    """Auctions whose ad is given by the row's own feature columns."""
    encoded = model.encode(rows)
    outputs = model.outputs_of(encoded)
    probabilities = list(model.probabilities(outputs.logits, encoded).values())
    worth: float | Floats | None = value_per_click
    value = model.values(outputs)
    if expects and value is not None:
        worth = np.prod([*probabilities[1:], value], axis=0)
    elif value_per_click is None and len(model.tasks) > 1 and "value" in rows.columns:
        worth = probabilities[1] * rows["value"].to_numpy()
    hidden = outputs.hidden[:, None] if outputs.hidden.shape[1] else None
    scored = replace(auctions_from_log(rows, probabilities[0], worth), hidden=hidden)
    if not expects or value is None or _knows_values(rows, model):
        return scored
    outcome = scored.conversion if len(model.tasks) > 1 else scored.click
    return replace(scored, earned=None if outcome is None else outcome * value[:, None])


def _of_candidates(
    rows: pl.DataFrame,
    model: Model,
    value_per_click: float | None,
    file: str | None,
    places: int,
    *,
    expects: bool,
) -> Auctions:
    """Auctions in which the bidder also chooses the ad; outcomes that were not logged come from the truth.

    Args:
        places: K, the number of places for ads; a place without a candidate is worth 0.
        expects: whether bids expect the model's values.
    """
    scores = model.score_candidates(rows, rows["candidates"], hidden=True, file=file)
    lengths = rows["candidates"].list.len()
    there = candidate_mask(rows["candidates"])

    def wide(values: NDArray[Any]) -> NDArray[Any]:
        matrix = np.zeros((rows.height, places, *values.shape[2:]), values.dtype)
        matrix[:, : there.shape[1]][there] = values[there]
        return matrix

    def listed(name: str) -> Floats | None:
        if name not in rows.columns:
            return None
        if (other := rows[name].list.len() != lengths).any():
            raise DataError(
                "the list is not as long as the list of candidates",
                file=file,
                column=name,
                row=int(other.arg_max() or 0),
                hint="Give one value for each candidate",
            )
        return wide(padded(rows[name]))

    pctr = wide(scores.probabilities[model.tasks[0]])
    hidden = None if scores.hidden is None else wide(scores.hidden)
    click = listed("true_click")
    if click is None:
        raise DataError(
            "a log with several candidates per auction needs the outcome of each candidate",
            file=file,
            column="true_click",
            hint="To replay the ad that was shown, drop 'candidates' and give its features as columns",
        )
    conversion, value = listed("true_conversion"), listed(f"{CANDIDATE_PREFIX}value")
    expected = None if scores.value is None or not expects else wide(scores.value)
    true_click, true_conversion = listed("true_click_probability"), listed("true_conversion_probability")
    counts_conversions = value_per_click is None and len(model.tasks) > 1 and value is not None
    if expected is not None:
        worth = np.prod([*(wide(scores.probabilities[task]) for task in model.tasks[1:]), expected], axis=0)
    elif counts_conversions and value is not None:
        worth = wide(scores.probabilities[model.tasks[1]]) * value
    else:
        worth = np.full(pctr.shape, value_per_click or 1.0)
    if counts_conversions and value is not None:
        truth = (
            None if true_click is None or true_conversion is None else true_click * true_conversion * value
        )
        earned = None if conversion is None else conversion * value
    elif expected is not None:
        outcome, truth = conversion if len(model.tasks) > 1 else click, None
        earned = None if outcome is None else outcome * expected
    else:
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
