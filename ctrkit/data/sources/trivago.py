"""trivago (RecSys Challenge 2019): hotel lists, the item that was clicked, and the actions before it.

A touch is an action on one hotel: a look at its pictures, its rating, a search for it, an earlier click.
The touches that count for a row are those of the same user strictly before the list was clicked: at an
earlier second, or in the same second at an earlier step of the same session.
"""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.tables import read_table

TOUCHES = 20
# The prior of click rates: as if each item had had this many impressions with this click rate before.
PRIOR_CLICK_RATE, PRIOR_IMPRESSIONS = 0.04, 20
FARTHEST = 10


def read(folder: str | os.PathLike[str]) -> pl.DataFrame:
    """One row for each hotel in a list, in time order, with features known when the list was shown.

    Args:
        folder: folder of `trivago_impressions.parquet` (event_id, user_id, session_id, timestamp, step,
            position, item_id, price, click, platform, device) and `trivago_actions.parquet` (user_id,
            session_id, timestamp, step, action_type, reference).

    Returns:
        event_id, user_id, timestamp, click and the features of `configs/trivago.yaml`. The sequences
        `touch_*` hold the user's last 20 touches, oldest first: whether it was this item, the kind of action,
        the time since on a logarithmic scale, and how many positions below the touched item this one is.
    """
    impressions = read_table(Path(folder) / "trivago_impressions.parquet")
    actions = read_table(Path(folder) / "trivago_actions.parquet")
    texts = pl.col(pl.Categorical).cast(pl.String)
    rows = impressions.with_columns(texts).sort("timestamp", "event_id", "position").with_row_index("row")
    actions = actions.with_columns(texts)

    rows = _with_prices(rows).join(_click_rates(rows), on=("item_id", "timestamp"), how="left")
    touches = _touches(rows, actions)
    rows = rows.join(_sort_orders(rows, actions), on="event_id", how="left")
    rows = _beside_the_list(_with_item_history(rows, touches))
    rows = rows.join(_sequences(rows, touches), on="row", how="left")
    empty = [pl.col(c).fill_null([]) for c in rows.columns if c.startswith("touch_")]
    return rows.with_columns(pl.col("sort_order").fill_null("none"), *empty).sort("row").drop("row")


def _events_and_actions(rows: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    """Each list with every earlier action of its user, oldest first."""
    events = rows.select("event_id", "user_id", "session_id", "timestamp", "step").unique("event_id")
    earlier = actions.select(
        "user_id",
        "action_type",
        "reference",
        at_session="session_id",
        at="timestamp",
        at_step="step",
    )
    same_second = pl.col("at") == pl.col("timestamp")
    step_before = (pl.col("at_session") == pl.col("session_id")) & (pl.col("at_step") < pl.col("step"))
    before = (pl.col("at") < pl.col("timestamp")) | (same_second & step_before)
    return events.join(earlier, on="user_id").filter(before).sort("event_id", "at", "at_step")


def _touches(rows: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    """Each list with its earlier touches: the item, how many touches ago, how long ago."""
    item = pl.col("reference").cast(pl.Int32, strict=False)
    on_items = actions.filter(item.is_not_null() & pl.col("action_type").str.contains("item"))
    return _events_and_actions(rows, on_items).select(
        "event_id",
        touched=item,
        action=pl.col("action_type").str.replace("interaction item ", ""),
        ago=pl.int_range(pl.len(), dtype=pl.Int32).reverse().over("event_id"),
        seconds=pl.col("timestamp") - pl.col("at"),
    )


def _sort_orders(rows: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    """The last order that the user asked for in this session."""
    changes = actions.filter(pl.col("action_type") == "change of sort order")
    return (
        _events_and_actions(rows, changes)
        .filter(pl.col("session_id") == pl.col("at_session"))
        .group_by("event_id", maintain_order=True)
        .agg(sort_order=pl.col("reference").last())
    )


def _with_prices(rows: pl.DataFrame) -> pl.DataFrame:
    """Price beside the other prices of the list."""
    length = pl.len().over("event_id")
    return rows.with_columns(
        list_length=length.cast(pl.Int32),
        price_rank=(pl.col("price").rank("average").over("event_id") - 1) / (length - 1).clip(1),
        price_to_median=(pl.col("price") / pl.col("price").median().over("event_id").clip(1)).clip(0, 5),
    )


def _click_rates(rows: pl.DataFrame) -> pl.DataFrame:
    """Clicks and impressions of each item, by all users, strictly before each second."""
    return (
        rows.group_by("item_id", "timestamp")
        .agg(clicks=pl.col("click").cast(pl.Int64).sum(), shown=pl.len().cast(pl.Int64))
        .sort("timestamp")
        .with_columns(pl.col("clicks", "shown").cum_sum().over("item_id") - pl.col("clicks", "shown"))
        .select(
            "item_id",
            "timestamp",
            item_click_rate=(pl.col("clicks") + PRIOR_CLICK_RATE * PRIOR_IMPRESSIONS)
            / (pl.col("shown") + PRIOR_IMPRESSIONS),
            item_impressions="shown",
        )
    )


def _with_item_history(rows: pl.DataFrame, touches: pl.DataFrame) -> pl.DataFrame:
    """The user's earlier touches of this item, and the list position of the item touched last.

    `item_recency` falls with the number of touches since the last one of this item, `item_freshness` with the
    time since. Both are 0 for an item that was never touched.
    """
    of_item = touches.group_by("event_id", item_id="touched").agg(
        item_touches=pl.len().cast(pl.Int32),
        item_clicks=(pl.col("action") == "clickout item").sum().cast(pl.Int32),
        item_recency=1 / (1 + pl.col("ago").min()),
        item_freshness=1 / (2 + pl.col("seconds").min()).log(2),
    )
    of_user = touches.group_by("event_id").agg(user_touches=pl.len().cast(pl.Int32))
    places = rows.select("event_id", "position", touched="item_id").unique(["event_id", "touched"])
    last_place = (
        touches.join(places, on=("event_id", "touched"))
        .group_by("event_id")
        .agg(pl.col("position").sort_by("ago").first().alias("last_place"))
    )
    distance = (pl.col("position") - pl.col("last_place")).clip(-FARTHEST, FARTHEST)
    return (
        rows.join(of_item, on=("event_id", "item_id"), how="left")
        .join(of_user, on="event_id", how="left")
        .join(last_place, on="event_id", how="left")
        .with_columns(
            pl.col("item_touches", "item_clicks", "item_recency", "item_freshness", "user_touches").fill_null(
                0
            ),
            below_last=distance.fill_null(0).cast(pl.Int32),
            touched_in_list=pl.col("last_place").is_not_null().cast(pl.Int32),
            just_touched=(distance == 0).fill_null(False).cast(pl.Int32),
        )
        .drop("last_place")
    )


def _beside_the_list(rows: pl.DataFrame) -> pl.DataFrame:
    """An item beside the others of its list: a click on one item is none on the others.

    `touched_later` counts the items touched later than this one, `touched_above` the touched items above it.
    `list_recency` and `list_freshness` are the highest of the list. Prices are divided by the cheapest above,
    by the one just above and by the one just below, and are 1 where there is none.
    """
    touched = pl.col("item_touches") > 0
    recency = pl.col("item_recency")
    price = pl.col("price").clip(1)
    # Rows are in the order of the list.
    return rows.with_columns(
        touched_later=recency.rank("min", descending=True).over("event_id").cast(pl.Int32) - 1,
        touched_above=touched.cast(pl.Int32).cum_sum().over("event_id") - touched.cast(pl.Int32),
        list_recency=recency.max().over("event_id"),
        list_freshness=pl.col("item_freshness").max().over("event_id"),
        price_to_cheapest_above=_ratio(price, price.cum_min().shift(1).over("event_id")),
        price_to_above=_ratio(price, price.shift(1).over("event_id")),
        price_to_below=_ratio(price, price.shift(-1).over("event_id")),
        click_rate_to_mean=pl.col("item_click_rate") / pl.col("item_click_rate").mean().over("event_id"),
    )


def _ratio(price: pl.Expr, other: pl.Expr) -> pl.Expr:
    return (price / other).fill_null(1).clip(0, 5)


def _sequences(rows: pl.DataFrame, touches: pl.DataFrame) -> pl.DataFrame:
    """The last touches as aligned lists a row, oldest first."""
    places = rows.select("event_id", "position", touched="item_id").unique(["event_id", "touched"])
    recent = (
        touches.filter(pl.col("ago") < TOUCHES)
        .join(places.rename({"position": "touched_position"}), on=("event_id", "touched"), how="left")
        .sort("event_id", "ago", descending=[False, True])
    )
    distance = (pl.col("position") - pl.col("touched_position")).clip(-FARTHEST, FARTHEST)
    return (
        rows.select("row", "event_id", "item_id", "position")
        .join(recent, on="event_id", maintain_order="left_right")
        .group_by("row", maintain_order=True)
        .agg(
            touch_same_item=(pl.col("item_id") == pl.col("touched")).cast(pl.Int8),
            touch_action=pl.col("action"),
            touch_gap=(pl.col("seconds") + 1).log(2).floor().cast(pl.Int8),
            touch_below=distance.fill_null(FARTHEST + 1).cast(pl.Int8),
        )
    )


class Trivago(Source):
    """Hotels in lists (RecSys Challenge 2019), and the actions of their users before each list."""

    name = "trivago"
    rows = "15.9 M actions"
    columns = 12
    publisher = "https://recsys.trivago.cloud/challenge/dataset/"
    terms = "research, as the challenge's page says"

    def tables(self, path: Path) -> SourceTables:
        return SourceTables(read(path).lazy())
