"""Which candidates of a journal were shown, and what came of each: the rows of a log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import polars as pl

from ctrkit.serving.feedback.entries import Event, Notice
from ctrkit.serving.feedback.journal import DECISIONS, OUTCOMES, Reader

_HEAD = {"file": pl.Int32, "row": pl.Int32, "request_id": pl.String, "time": pl.Float64, "choice": pl.Int32,
         "campaign": pl.String, "auction": pl.String, "size": pl.Int32}  # fmt: skip
_EVENT = {"event_id": pl.String, "request_id": pl.String, "kind": pl.String, "at": pl.Float64,
          "value": pl.Float64, "candidate": pl.Int32}  # fmt: skip
_NOTICE = {"auction": pl.String, "campaign": pl.String, "at": pl.Float64, "won": pl.Boolean,
           "price": pl.Float64}  # fmt: skip
# A candidate of a decision.
_PLACE = ["file", "row", "place"]


class _Head(msgspec.Struct, tag="decision", tag_field="entry"):
    """What of a decision tells whether it was shown."""

    request_id: str
    time: float
    outputs: dict[str, list[float]]
    choice: int | None = None
    campaign: str | None = None
    auction: str | None = None

    @property
    def size(self) -> int:
        """The number of candidates."""
        return len(next(iter(self.outputs.values())))


@dataclass(frozen=True)
class Shown:
    """The candidates of a journal that were shown, and what came of them.

    Attributes:
        table: a row each: `file` and `row` of the decision, the `place` of the candidate, the `cost` of a bid
            that was won, `click`, `conversion`, `click_time`, `conversion_time`, and the `value` of the
            conversions.
        repeated: number of decisions of a request that had one before.
        unshown: number of decisions of which no candidate was shown.
        open: number of candidates that are younger than the window, and are left out.
        events: number of clicks and conversions that count.
        repeated_events: number of events that had come before.
        strangers: number of clicks and conversions of no candidate that was shown.
        late: number of clicks and conversions outside the window.
        torn: number of files whose last line is not whole.
        files: the files of decisions, by the number that `file` is.
    """

    table: pl.DataFrame
    repeated: int
    unshown: int
    open: int
    events: int
    repeated_events: int
    strangers: int
    late: int
    torn: int
    files: tuple[Path, ...]


def shown_of(folder: Path, rows: str, window: float | None) -> Shown:
    """The candidates that were shown.

    Args:
        folder: the journal.
        rows: "decisions" for those that a policy of the server has chosen; "impressions" also for bids that
            were won, and for candidates that an event calls an impression.
        window: seconds after a decision in which its events count; None for all.

    Raises:
        DataError: there is no journal, a file cannot be read, or a line is no entry.
    """
    decisions = Reader(folder, DECISIONS, _Head)
    outcomes: Reader[Event | Notice] = Reader(folder, OUTCOMES, Event | Notice)  # type: ignore[arg-type]
    found = _heads(decisions)
    heads = found.sort("time", maintain_order=True).unique(
        ["request_id", "campaign"], keep="first", maintain_order=True
    )
    events, notices = _outcomes(outcomes)
    firsts = events.unique("event_id", keep="first", maintain_order=True)
    whole = pl.concat([heads["time"], events["at"], notices["at"]]).max()
    newest = whole if isinstance(whole, float) else 0.0
    # The events of each decision, with the candidate that they are about.
    joined = firsts.join(heads, on="request_id").with_columns(place=pl.coalesce("candidate", "choice"))
    joined = joined.filter(pl.col("place") < pl.col("size"))  # not null
    shown = _shown(heads, joined, notices, rows)
    old = shown if window is None else shown.filter(pl.col("time") + window <= newest)
    actions = joined.filter(pl.col("kind") != "impression")
    own = actions.join(old.select(*_PLACE), on=_PLACE)
    age = pl.col("at") - pl.col("time")
    inside = own if window is None else own.filter(age.is_between(0, window))
    clicks, conversions = (inside.filter(pl.col("kind") == kind) for kind in ("click", "conversion"))
    table = (
        old.select(*_PLACE, "cost")
        .join(clicks.group_by(_PLACE).agg(click_time=pl.col("at").min()), on=_PLACE, how="left")
        .join(
            conversions.group_by(_PLACE).agg(conversion_time=pl.col("at").min(), value=pl.col("value").sum()),
            on=_PLACE,
            how="left",
        )
        .with_columns(
            click=pl.col("click_time").is_not_null().cast(pl.Int8),
            conversion=pl.col("conversion_time").is_not_null().cast(pl.Int8),
            value=pl.col("value").fill_null(0.0),
        )
        .sort(_PLACE)
    )
    told = firsts.filter(pl.col("kind") != "impression").height
    return Shown(
        table,
        repeated=found.height - heads.height,
        unshown=heads.height - shown.select("file", "row").n_unique(),
        open=shown.height - old.height,
        events=inside.height,
        repeated_events=events.height - firsts.height,
        strangers=told - own["event_id"].n_unique(),
        late=own.height - inside.height,
        torn=decisions.torn + outcomes.torn,
        files=tuple(decisions.files),
    )


def _heads(reader: Reader[_Head]) -> pl.DataFrame:
    parts = [
        pl.DataFrame(
            [
                (number, row, one.request_id, one.time, one.choice, one.campaign, one.auction, one.size)
                for row, one in enumerate(reader.entries(file))
            ],
            schema=_HEAD,
            orient="row",
        )
        for number, file in enumerate(reader.files)
    ]
    return pl.concat([pl.DataFrame(schema=_HEAD), *parts])


def _outcomes(reader: Reader[Event | Notice]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events and notices, in the order of their time."""
    events, notices = [], []
    for one in reader:
        if isinstance(one, Event):
            events.append((one.event_id, one.request_id, one.kind, one.time, one.value, one.candidate))
        else:
            notices.append((one.auction, one.campaign, one.time, one.won, one.price))
    found = (
        pl.DataFrame(events, schema=_EVENT, orient="row"),
        pl.DataFrame(notices, schema=_NOTICE, orient="row"),
    )
    return found[0].sort("at", maintain_order=True), found[1].sort("at", maintain_order=True)


def _shown(heads: pl.DataFrame, joined: pl.DataFrame, notices: pl.DataFrame, rows: str) -> pl.DataFrame:
    """The candidates that were shown: `file`, `row`, `place`, `time` of the decision and `cost`."""
    columns = [*_PLACE, "time", "cost"]
    chosen = heads.filter(pl.col("choice").is_not_null()).with_columns(
        place="choice", cost=pl.lit(None, dtype=pl.Float64)
    )
    found = [chosen.filter(pl.col("campaign").is_null()).select(columns)]
    if rows == "impressions":
        firsts = notices.unique(["auction", "campaign"], keep="first", maintain_order=True)
        won = (
            chosen.drop("cost")
            .join(firsts.filter("won"), on=["auction", "campaign"])
            .rename({"price": "cost"})
        )
        told = joined.filter(pl.col("kind") == "impression")
        found += [won.select(columns), told.with_columns(cost=pl.lit(None, dtype=pl.Float64)).select(columns)]
    return pl.concat(found).unique(_PLACE, keep="first", maintain_order=True)
