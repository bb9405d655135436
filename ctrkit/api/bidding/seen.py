"""Whether a model was trained on the auctions that its bids are simulated on."""

from __future__ import annotations

import polars as pl

from ctrkit.api.models.labelled import seen_in_training
from ctrkit.api.models.model import Model
from ctrkit.data.fingerprints import SEEN
from ctrkit.errors import InputError

# Auctions, from all over the log, that are looked up.
LOOKED_UP = 5000


def seen_note(model: Model, table: pl.DataFrame) -> tuple[str, ...]:
    """A sentence where the model was trained on the auctions of a log; none where that is not known.

    Args:
        model: the model that scores the ads.
        table: the auction log; of several candidates each is looked up, with its own outcome.
    """
    rows = auctions = table.gather_every(max(table.height // LOOKED_UP, 1))
    try:
        if "candidates" in rows.columns:
            rows = _by_candidate(model, rows)
        if not rows.height or not {*model.spec.labels.values()} <= {*rows.columns}:
            return ()
        # Of an auction's candidates training has seen the one that was shown.
        ads = rows.height / auctions.height
        found = model.artifact.data.get("seen") and seen_in_training(
            model, rows, model.encoder.encode(rows), least=SEEN / ads
        )
    except InputError:  # what the model lacks in the log, its scores say
        return ()
    if not found:
        return ()
    return (
        f"IN-SAMPLE: the model was trained on about {min(found * ads, 1.0):.0%} of these auctions, which it "
        "predicts better than new ones. Strategies look better than they are: give auctions that it has not "
        "seen.",
    )


def _by_candidate(model: Model, rows: pl.DataFrame) -> pl.DataFrame:
    """A row for each candidate of each auction, with the columns of training rows."""
    chosen = model.spec.candidate
    if chosen is None:
        return rows.clear()
    lists = {"candidates": chosen.id}
    lists |= {column: name for name, column in model.spec.candidate_lists(rows.columns).items()}
    outcomes = {f"true_{name}": name for name in model.spec.labels.values() if f"true_{name}" in rows.columns}
    lists |= outcomes
    own = rows.drop({*lists.values()} & {*rows.columns})
    lengths = own.select(pl.col(name).list.len() for name in lists)
    if any(not lengths[name].equals(lengths["candidates"], check_names=False) for name in lists):
        return rows.clear()  # the reader of the lists says what is wrong
    return own.explode(*lists).rename(lists)
