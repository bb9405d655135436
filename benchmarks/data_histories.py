"""Histories as windows on events that are stored once, beside a list for each row.

    python benchmarks/data.py histories [--rows 300000] [--page 25] [--trivago FOLDER]

Each row lists the 50 newest events of its user, as items, actions and times before the row. The log is made
up: pages of candidates in order of time, or single impressions with `--page 1`. `--trivago` takes trivago's
files instead. Both ways end with the same encoded rows: "events once" lets `ctrkit prepare` derive them, and
"lists" derives lists of all rows and prepares these. Feeding reads shuffled batches of 4,096 rows, from
windows and from padded arrays. Predictions are of rows in order, so that candidates of a page share their
history, and in random order. One thread; time is processor time.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer
from data_prepare import BATCH, measured
from rich.console import Console
from rich.table import Table

LENGTH, ITEMS = 50, 5000
MODELS: tuple[dict[str, Any], ...] = ({"name": "mamba4rec"}, {"name": "gru4rec"}, {"name": "din"})
SEQUENCES = [{"name": name, "max_length": LENGTH} for name in ("seen", "actions", "gap")]
LISTS = {"history": "h", "columns": {"seen": "item_id", "actions": "action"}, "gap": "gap", "length": LENGTH}
MADE_UP = {
    "source": "table",
    "derive": [{"name": "history", "by": "user_id", "where": {"click": 1}, **LISTS}],
    "features": {
        "categorical": [{"name": "item_id"}, {"name": "device"}],
        "sequences": [{**SEQUENCES[0], "shares": "item_id"}, *SEQUENCES[1:]],
        "timestamp": "timestamp",
    },
}
TRIVAGO = {
    "source": "trivago",
    "derive": [
        {
            "name": "history", "events": "actions", "by": "user_id", "session": "session_id", "step": "step",
            "present": "item_id", **LISTS,
        }
    ],
    "features": {
        "categorical": [{"name": "item_id"}, {"name": "device"}, {"name": "position"}],
        "sequences": [{**SEQUENCES[0], "shares": "item_id"}, *SEQUENCES[1:]],
        "timestamp": "timestamp",
    },
}  # fmt: skip


def write_log(folder: Path, rows: int, page: int) -> None:
    """Pages of candidates in order of time; one candidate of each is clicked. A user has about 80 pages."""
    rng = np.random.default_rng(0)
    pages = rows // page
    one = {
        "user_id": rng.integers(0, max(pages // 80, 1), pages),
        "timestamp": 1_700_000_000 + np.arange(pages),
    }
    place = np.tile(np.arange(page), pages)
    frame = {
        **{name: np.repeat(values, page) for name, values in one.items()},
        "item_id": (ITEMS * rng.random(pages * page) ** 2).astype(np.int32),
        "action": rng.integers(0, 8, pages * page),
        "device": rng.integers(0, 4, pages * page),
        "click": (place == np.repeat(rng.integers(0, page, pages), page)).astype(np.int8),
    }
    folder.mkdir()
    pl.DataFrame(frame).write_parquet(folder / "log.parquet")


def events_once(config: dict[str, Any], data: Path, home: Path) -> None:
    """`ctrkit.prepare`."""
    import ctrkit

    ctrkit.prepare({**config, "model": "lr"}, data, out=home / "events once")


def lists(config: dict[str, Any], data: Path, home: Path) -> None:
    """Lists of all rows in a table, and `ctrkit.prepare` of this table."""
    import ctrkit
    from ctrkit.data.derive import derive_in_parts, plan_of
    from ctrkit.data.sources import source_tables

    with tempfile.TemporaryDirectory(dir=home) as scratch:
        derived = derive_in_parts(
            plan_of(config["derive"]), source_tables(config["source"], data), Path(scratch)
        )
        derived.sink_parquet(home / "lists.parquet")
    ctrkit.prepare(
        {"features": config["features"], "model": "lr"}, home / "lists.parquet", out=home / "lists"
    )


def speed(rows: int, work: Callable[[], object]) -> float:
    """Rows a second of processor time, of the better of two runs."""
    found = []
    for _ in range(2):
        begun = time.process_time()
        work()
        found.append(rows / (time.process_time() - begun))
    return max(found)


def histories(
    rows: Annotated[int, typer.Option(help="rows of the made-up log")] = 300_000,
    page: Annotated[int, typer.Option(help="candidates of a page")] = 25,
    trivago: Annotated[Path | None, typer.Option(help="folder of trivago's files")] = None,
    predicted: Annotated[int, typer.Option(help="rows that are predicted")] = 20_000,
) -> None:
    """Rows with histories of 50 events: disk, memory, feeding and predictions."""
    os.environ |= {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    console = Console()
    with tempfile.TemporaryDirectory() as place:
        home, data = Path(place), Path(place) / "log" if trivago is None else trivago
        config = MADE_UP if trivago is None else TRIVAGO
        if trivago is None:
            write_log(data, rows, page)
        shown = Table("way", "processor time (s)", "peak memory (GB)", "histories (MB)", title="preparing")
        for name, way in (("events once", events_once), ("lists", lists)):
            found = measured(name, way, config, data, home)
            size = sum(file.stat().st_size for file in (home / name).glob("[sl]e[qn]*.npy")) / 1e6
            shown.add_row(name, f"{found['processor']:.1f}", f"{found['gigabytes']:.2f}", f"{size:.1f}")
        _compare(home, predicted, shown)
        console.print(shown)


def _compare(home: Path, predicted: int, prepared: Table) -> None:
    """Feeding and predictions; the size of padded arrays becomes a row of `prepared`."""
    import torch

    from ctrkit.data.store import open_store
    from ctrkit.models import build_model, model_config
    from ctrkit.nn.batches import Batch
    from ctrkit.training import predict

    torch.set_num_threads(1)
    store, other = open_store(home / "events once"), open_store(home / "lists")
    encoded = store.encoded
    assert encoded.fingerprint() == other.encoded.fingerprint()
    padded = [one[:] for one in encoded.sequences.values()]
    prepared.add_row("padded arrays", "", "", f"{sum(one.nbytes for one in padded) / 1e6:.1f}")
    order = np.random.default_rng(0).permutation(len(encoded))

    def feed() -> None:
        for start in range(0, order.size, BATCH):
            Batch.of(encoded, order[start : start + BATCH])

    def of_padded() -> None:
        for start in range(0, order.size, BATCH):
            part = order[start : start + BATCH]
            [torch.from_numpy(one.take(part, axis=0)) for one in padded]
            for array in (encoded.categorical, encoded.labels, encoded.weight):
                torch.from_numpy(array.take(part, axis=0))

    console = Console()
    fed, plainly = (speed(order.size, one) for one in (feed, of_padded))
    console.print(f"feeding: {fed:,.0f} rows a processor second, of padded arrays {plainly:,.0f}")
    for content in MODELS:
        torch.manual_seed(0)
        model = build_model(model_config(content), store.encoder.feature_map())
        rates = []
        for rows in (np.arange(len(encoded))[-predicted:], order[:predicted]):
            rates.append(speed(rows.size, partial(predict, model, encoded, rows, hidden=False)))
        shared, own = rates
        console.print(
            f"{content['name']}: {shared:,.0f} predictions a processor second, {own:,.0f} in random order"
        )
