"""From raw logs to features: memory and time beside Polars and DuckDB, each in a process of its own.

    python benchmarks/data.py history-join [--impressions 10000000] [--events 50000000] [--users 1000000]
    python benchmarks/data.py prepare | feed        (see benchmarks/data_prepare.py)
    python benchmarks/data.py histories             (see benchmarks/data_histories.py)

`history-join` gives each impression the newest event of its user at an earlier second: the as-of join that
all three know. ctrkit also lists the newest 50 items of each impression, which needs more than an as-of join.
All write parquet. Processor time is that of all threads; it depends less on what else a machine does.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import data_histories
import data_prepare
import numpy as np
import polars as pl
import pyarrow as pa
import typer
from pyarrow.parquet import ParquetWriter
from rich.console import Console
from rich.table import Table

from ctrkit.data.derive import derive_in_parts, plan_of
from ctrkit.data.sources import SourceTables

app = typer.Typer(no_args_is_help=True, add_completion=False)
CHUNK, DAYS, ITEMS = 1_000_000, 30, 100_000
HISTORY = {"name": "history", "history": "h", "events": "events", "by": "user_id"}
NEWEST = [
    HISTORY,
    {"name": "last", "history": "h", "columns": {"last_item": "item_id"}},
    {"name": "since", "history": "h", "makes": {"seconds": "seconds"}},
]
LISTS = [{**HISTORY, "columns": {"items": "item_id"}, "length": 50}, NEWEST[2]]


def write_log(path: Path, rows: int, users: int, seed: int) -> None:
    """A log in order of time. Users are unlike: some do a hundred times what others do."""
    rng = np.random.default_rng(seed)
    schema = pa.schema([("user_id", pa.int32()), ("timestamp", pa.int64()), ("item_id", pa.int32())])
    starts = range(0, rows, CHUNK)
    with ParquetWriter(path, schema) as writer:
        for start in starts:
            size = min(CHUNK, rows - start)
            share = (start + np.arange(size)) / rows
            columns = [
                (users * rng.random(size) ** 2).astype(np.int32),
                (1_700_000_000 + share * DAYS * 86_400).astype(np.int64),
                (ITEMS * rng.random(size) ** 3).astype(np.int32),
            ]
            writer.write_table(pa.table(columns, schema=schema))


def by_ctrkit(folder: Path, steps: list[dict[str, Any]]) -> None:
    """Part by part, by a hash of the user."""
    rows, events = (pl.scan_parquet(folder / f"{name}.parquet") for name in ("impressions", "events"))
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        found = derive_in_parts(plan_of(steps), SourceTables(rows, {"events": events}), Path(scratch))
        found.sink_parquet(folder / "out.parquet")


def newest(folder: Path) -> None:
    """ctrkit's newest event."""
    by_ctrkit(folder, NEWEST)


def lists(folder: Path) -> None:
    """ctrkit's lists of the newest 50 events."""
    by_ctrkit(folder, LISTS)


def polars(folder: Path) -> None:
    """`join_asof` of Polars, by user."""
    rows, events = (pl.scan_parquet(folder / f"{name}.parquet") for name in ("impressions", "events"))
    events = events.select("user_id", "timestamp", at="timestamp", last_item="item_id")
    joined = rows.join_asof(
        events, on="timestamp", by="user_id", allow_exact_matches=False, check_sortedness=False
    )
    seconds = (pl.col("timestamp") - pl.col("at")).cast(pl.Float64)
    joined.with_columns(seconds=seconds).drop("at").sink_parquet(folder / "out.parquet")


def duckdb(folder: Path, memory: str | None = None) -> None:
    """`ASOF JOIN` of DuckDB."""
    import duckdb as database

    connection = database.connect(config={"temp_directory": str(folder / "spilled")})
    if memory is not None:
        connection.execute(f"SET memory_limit = '{memory}'")
    connection.execute(
        f"""COPY (
            SELECT r.*, e.item_id AS last_item, CAST(r.timestamp - e.timestamp AS DOUBLE) AS seconds
            FROM '{folder}/impressions.parquet' r ASOF LEFT JOIN '{folder}/events.parquet' e
            ON r.user_id = e.user_id AND r.timestamp > e.timestamp
        ) TO '{folder}/out.parquet' (FORMAT parquet)"""
    )


def duckdb_in_2_gb(folder: Path) -> None:
    """The same with a limit of memory."""
    duckdb(folder, "2GB")


WAYS: dict[str, Callable[[Path], None]] = {
    "ctrkit, newest event": newest,
    "ctrkit, lists of 50": lists,
    "Polars join_asof": polars,
    "DuckDB ASOF JOIN": duckdb,
    "DuckDB, limited to 2 GB": duckdb_in_2_gb,
}


def measured(name: str, folder: Path) -> dict[str, Any]:
    """Time and peak memory of one way, in this process, and sums of what it found."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    begun, worked = time.perf_counter(), time.process_time()
    try:
        WAYS[name](folder)
    except Exception as error:
        return {"way": name, "failed": str(error).splitlines()[0]}
    seconds, worked = time.perf_counter() - begun, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = pl.scan_parquet(folder / "out.parquet")
    sums = found.select(
        rows=pl.len(), known=pl.col("seconds").count(), since=pl.col("seconds").sum()
    ).collect()
    (folder / "out.parquet").unlink()
    return {
        "way": name, "seconds": seconds, "processor": worked, "gigabytes": peak, "imports": before,
        **sums.row(0, named=True),
    }  # fmt: skip


@app.command()
def history_join(
    impressions: Annotated[int, typer.Option(help="rows")] = 10_000_000,
    events: Annotated[int, typer.Option(help="events")] = 50_000_000,
    users: Annotated[int, typer.Option(help="users")] = 1_000_000,
    folder: Annotated[Path | None, typer.Option(help="where the logs are written")] = None,
    only: Annotated[list[str] | None, typer.Option(help="ways that are measured")] = None,
    out: Annotated[Path | None, typer.Option("--json", help="where the figures are written")] = None,
) -> None:
    """Impressions with the newest events of their users."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        write_log(Path(place) / "impressions.parquet", impressions, users, seed=1)
        write_log(Path(place) / "events.parquet", events, users, seed=2)
        found = []
        for name in only or WAYS:
            # A new process for each, as the highest memory of a process never falls.
            with get_context("spawn").Pool(1) as pool:
                found.append(pool.apply(measured, (name, Path(place))))
            print(json.dumps(found[-1]), flush=True)
    done = [one for one in found if "seconds" in one]
    if len({(one["rows"], one["known"], round(one["since"])) for one in done}) > 1:
        raise SystemExit("the ways do not find the same events")
    shown = Table(
        "way",
        "time",
        "processor time",
        "peak memory (GB)",
        title=f"{impressions:,} impressions, {events:,} events",
    )
    for one in done:
        ratios = (f"{one[name] / done[0][name]:.2f}" for name in ("seconds", "processor"))
        shown.add_row(one["way"], *ratios, f"{one['gigabytes']:.2f}")
    Console().print(shown)
    if out is not None:
        out.write_text(json.dumps(found, indent=1), encoding="utf-8")


app.command()(data_prepare.prepare)
app.command()(data_prepare.feed)
app.command()(data_histories.histories)


@app.callback()
def main() -> None:
    """From raw logs to features: memory and time beside other libraries."""


if __name__ == "__main__":
    app()
