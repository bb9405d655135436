"""Preparing and feeding training data beside FuxiCTR 2.3.10, and pandas with scikit-learn.

    python benchmarks/data.py prepare [--rows 2000000] [--only ctrkit]
    python benchmarks/data.py feed [--rows 2000000]

The log is like Criteo's: 26 ids with up to 126,000 values, 13 numbers of which a tenth is missing, a label
and a time, in parquet. `prepare` fits on the first 80 % of the rows and encodes all of them onto disk. Each
way runs in a process of its own; time and memory are those of this process and of all that it starts, since
FuxiCTR encodes in workers of Ray. `feed` reads one epoch of shuffled batches of 4,096 rows that lie in the
page cache: in one process, and by ctrkit also in two.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer
from pyarrow.parquet import ParquetWriter
from rich.console import Console
from rich.table import Table

IDS, NUMBERS = [f"C{at}" for at in range(26)], [f"I{at}" for at in range(13)]
CHUNK, BATCH, LEAST = 1 << 19, 4096, 10
SPEC = {
    "categorical": [{"name": name, "min_count": LEAST} for name in IDS],
    "numeric": [{"name": name} for name in NUMBERS],
    "timestamp": "timestamp",
}


def write_log(path: Path, rows: int) -> None:
    """A log in order of time, with ids of heavy-tailed popularity."""
    rng = np.random.default_rng(0)
    writer = None
    for start in range(0, rows, CHUNK):
        size = min(CHUNK, rows - start)
        columns: dict[str, pl.Series] = {
            "timestamp": pl.Series(1_600_000_000 + np.arange(start, start + size) // 4),
            "click": pl.Series((rng.random(size) < 0.2).astype(np.int8)),
        }
        for at, name in enumerate(IDS):
            value = (3 * rng.pareto(1.05, size)).astype(np.int64) % (int(1.6**at) + 3)
            columns[name] = pl.Series((value * 2_654_435_761 + 97 * at) % 2**32).cast(pl.String)
        for name in NUMBERS:
            number = pl.Series(np.floor(rng.lognormal(2.0, 1.5, size)))
            columns[name] = number.set(pl.Series(rng.random(size) < 0.1), None)
        table = pl.DataFrame(columns).to_arrow()
        writer = writer or ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def by_ctrkit(folder: Path) -> None:
    """`ctrkit.prepare`."""
    import ctrkit

    ctrkit.prepare({"features": SPEC, "model": "lr"}, folder / "log.parquet", out=folder / "prepared")


def by_fuxictr(folder: Path) -> None:
    """`build_dataset` of FuxiCTR."""
    from fuxictr.preprocess import FeatureProcessor, build_dataset

    def columns(names: list[str], kind: str, dtype: str, **more: str) -> dict[str, Any]:
        return {"name": names, "active": True, "type": kind, "dtype": dtype, **more}

    features = [
        columns(IDS, "categorical", "str"),
        columns(NUMBERS, "numeric", "float", normalizer="StandardScaler"),
    ]
    label = {"name": "click", "dtype": "float"}
    maker = FeatureProcessor(features, label, dataset_id="fuxictr", data_root=str(folder))
    parts = {f"{part}_data": str(folder / f"{part}.parquet") for part in ("train", "valid", "test")}
    build_dataset(maker, **parts, data_format="parquet", min_categr_count=LEAST)


def by_sklearn(folder: Path) -> None:
    """`OrdinalEncoder` and `StandardScaler` of scikit-learn on a frame of pandas."""
    import pandas as pd
    from sklearn.preprocessing import OrdinalEncoder, StandardScaler

    frame = pd.read_parquet(folder / "log.parquet")
    train = frame[: int(0.8 * len(frame))]
    encoder = OrdinalEncoder(
        dtype=np.int32, handle_unknown="use_encoded_value", unknown_value=-1, min_frequency=LEAST
    ).fit(train[IDS])
    scaler = StandardScaler().fit(train[NUMBERS])
    np.save(folder / "ids.npy", encoder.transform(frame[IDS]))
    np.save(folder / "numbers.npy", scaler.transform(frame[NUMBERS]).astype(np.float32))


WAYS: dict[str, Callable[[Path], None]] = {
    "ctrkit": by_ctrkit,
    "FuxiCTR": by_fuxictr,
    "pandas and scikit-learn": by_sklearn,
}


class Watch(threading.Thread):
    """The processor time and the highest memory of a process and of all that it starts, as Linux tells them.

    Memory that processes share, such as libraries, does not count.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.gigabytes, self._root = 0.0, pid
        self._seconds, self._done = dict[int, float](), threading.Event()

    @property
    def seconds(self) -> float:
        """Processor time so far."""
        return sum(self._seconds.values())

    def run(self) -> None:
        """Look every tenth of a second."""
        tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        while not self._done.wait(0.1):
            known: dict[int, tuple[int, float, int]] = {}
            for folder in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):  # it has ended meanwhile
                    # Of the fields after the name: the parent, and times of the process itself.
                    fields = (folder / "stat").read_text().rpartition(")")[2].split()
                    _, resident, shared, *_ = map(int, (folder / "statm").read_text().split())
                    seconds = (int(fields[11]) + int(fields[12])) / tick
                    known[int(folder.name)] = int(fields[1]), seconds, (resident - shared) * page
            mine = {self._root}
            while more := {pid for pid, one in known.items() if one[0] in mine} - mine:
                mine |= more
            self._seconds |= {pid: known[pid][1] for pid in mine if pid in known}
            self.gigabytes = max(self.gigabytes, sum(known[pid][2] for pid in mine if pid in known) / 1e9)

    def stop(self) -> None:
        """Stop looking."""
        self._done.set()
        self.join()


def measured(name: str, way: Callable[..., None], *given: Any) -> dict[str, Any]:
    """Time and memory of one way, in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        watch = Watch(pool.submit(os.getpid).result())
        watch.start()
        begun = time.perf_counter()
        pool.submit(way, *given).result()
        seconds = time.perf_counter() - begun
        watch.stop()
    return {"way": name, "seconds": seconds, "processor": watch.seconds, "gigabytes": watch.gigabytes}


def prepare(
    rows: Annotated[int, typer.Option(help="rows")] = 2_000_000,
    folder: Annotated[Path | None, typer.Option(help="where the log is written")] = None,
    only: Annotated[list[str] | None, typer.Option(help="ways that are measured")] = None,
) -> None:
    """A log of 40 columns, from parquet to encoded rows on disk."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        home = Path(place)
        write_log(home / "log.parquet", rows)
        if only is None or "FuxiCTR" in only:  # it takes the parts as files
            log, ends = pl.read_parquet(home / "log.parquet"), (0, int(0.8 * rows), int(0.9 * rows), rows)
            for part, start, end in zip(("train", "valid", "test"), ends, ends[1:], strict=False):
                log[start:end].write_parquet(home / f"{part}.parquet")
            del log
        found = []
        for name in only or WAYS:
            found.append(measured(name, WAYS[name], home))
            print(json.dumps(found[-1]), flush=True)
    shown = Table("way", "time", "processor time", "peak memory", title=f"{rows:,} rows of 40 columns")
    for one in found:
        shown.add_row(
            one["way"], *(f"{one[key] / found[0][key]:.2f}" for key in ("seconds", "processor", "gigabytes"))
        )
    Console().print(shown)


def epoch(folder: Path, rank: int, world: int) -> tuple[int, float, float]:
    """Rows, seconds and processor seconds of one process's part of an epoch of ctrkit."""
    import torch

    from ctrkit.data.store import open_store
    from ctrkit.nn.batches import Batch
    from ctrkit.training.order import epoch_order, of_rank

    torch.set_num_threads(1)
    store = open_store(folder)
    for array in store.encoded.arrays().values():
        array.sum()  # into the page cache
    begun, worked = time.perf_counter(), time.process_time()
    order = epoch_order(store.split.train, None, np.random.default_rng(0), in_blocks=True)
    mine = of_rank(order, rank, world)
    for start in range(0, mine.size, BATCH):
        Batch.of(store.encoded, mine[start : start + BATCH])
    return mine.size, time.perf_counter() - begun, time.process_time() - worked


def epoch_of_fuxictr(folder: Path) -> tuple[int, float, float]:
    """The same of FuxiCTR's loader of npz files."""
    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.dataloaders.npz_dataloader import NpzDataLoader

    known = FeatureMap("bench", str(folder))
    known.features = {name: {"type": "categorical", "source": ""} for name in (*IDS, *NUMBERS)}
    known.labels = ["click"]
    known.set_column_index()
    loader = NpzDataLoader(known, str(folder / "train.npz"), batch_size=BATCH, shuffle=True, num_workers=0)
    begun, worked = time.perf_counter(), time.process_time()
    rows = sum(len(batch["click"]) for batch in loader)
    return rows, time.perf_counter() - begun, time.process_time() - worked


def feed(
    rows: Annotated[int, typer.Option(help="rows")] = 2_000_000,
    folder: Annotated[Path | None, typer.Option(help="where the log is written")] = None,
) -> None:
    """One epoch of shuffled batches."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        home = Path(place)
        write_log(home / "log.parquet", rows)
        by_ctrkit(home)
        table = pl.read_parquet(home / "prepared" / "train_data.parquet")
        np.savez(home / "train.npz", **{name: table[name].to_numpy() for name in (*IDS, *NUMBERS, "click")})
        del table
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            theirs = pool.submit(epoch_of_fuxictr, home).result()
            alone = pool.submit(epoch, home / "prepared", 0, 1).result()
            both = [pool.submit(epoch, home / "prepared", rank, 2) for rank in (0, 1)]
            two = [one.result() for one in both]
    shown = Table("way", "rows a second", "rows a processor second", title="feeding")
    shown.add_row("FuxiCTR", f"{theirs[0] / theirs[1]:,.0f}", f"{theirs[0] / theirs[2]:,.0f}")
    shown.add_row("ctrkit", f"{alone[0] / alone[1]:,.0f}", f"{alone[0] / alone[2]:,.0f}")
    together = sum(one[0] for one in two), max(one[1] for one in two), sum(one[2] for one in two)
    shown.add_row(
        "ctrkit, two processes", f"{together[0] / together[1]:,.0f}", f"{together[0] / together[2]:,.0f}"
    )
    ratio = (alone[0] / alone[2]) / (theirs[0] / theirs[2])
    Console().print(shown)
    print(f"ctrkit feeds {ratio:.1f} times the rows of FuxiCTR in a second of one processor")
