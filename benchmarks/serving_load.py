"""The server under load: open-loop arrivals at fixed rates, from a process of their own, on loopback.

    python benchmarks/serving_load.py [--width 16] [--candidates 200] [--seconds 20] [--rates 0.25 0.5 0.75]
        [--workers 2] [--parallel 1] [--threads 1] [--export OPTIONS]

MDAF on 40 fields and a history of 50 events, trained for one step, as `ctrkit serve` serves it with two
workers. First a closed loop of sixteen clients finds the rate at which the server is saturated. Then requests
arrive at shares of that rate, evenly spaced and at random (Poisson), whether or not earlier ones have been
answered. A latency is counted from the time at which its request was due, so that waiting in a queue is not
left out (Tene, "How NOT to measure latency", 2013). `--export "--quantise int8-linear"` exports the model
with further options; the gates are open then, as the weights of one step have little to lose. The rival is
the same model as people serve it first: FastAPI with a pydantic body, and eager PyTorch on one row after
another.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

FIELDS, EVENTS, ROWS, BODIES = 40, 50, 4000, 64
NAMES = [f"field{place}" for place in range(FIELDS - 1)]
CLIENTS, SATURATION = 16, 8.0
CTRKIT = Path(sys.executable).parent / "ctrkit"


def values(rng: np.random.Generator, rows: int) -> dict[str, list[object]]:
    """Columns of rows: an item and 39 other fields."""
    columns = {name: rng.integers(0, 1000, rows).tolist() for name in NAMES}
    return {"item": rng.integers(0, 5000, rows).tolist(), **columns}


def artifact(width: int, folder: Path) -> Path:
    """A trained MDAF; one step is enough, as no figure here depends on its weights."""
    import ctrkit

    rng, path = np.random.default_rng(0), folder / "model.pt"
    table = pl.DataFrame(values(rng, ROWS)).with_columns(
        seen=pl.Series(rng.integers(0, 5000, (ROWS, EVENTS)).tolist()),
        click=pl.Series(rng.integers(0, 2, ROWS)),
        conversion=pl.lit(0),
    )
    table = table.with_columns(conversion=pl.col("click") * pl.Series(rng.integers(0, 2, ROWS)))
    table.write_parquet(folder / "rows.parquet")
    sequence = {"name": "seen", "shares": "item", "max_length": EVENTS}
    ctrkit.train(
        {
            "features": {
                "labels": {"click": "click", "conversion": "conversion"},
                "categorical": [{"name": name} for name in ("item", *NAMES)],
                "sequences": [sequence],
            },
            "split": {"by": "random"},
            "model": {"name": "mdaf", "embedding": width},
            "training": {"epochs": 1, "batch_size": ROWS, "validations_per_epoch": 1},
        },
        table,
        model=path,
        out=folder / "train",
    )
    return path


def bodies(candidates: int) -> list[bytes]:
    """Requests: the history and half of the fields are the user's, the others those of each candidate."""
    rng, own = np.random.default_rng(1), NAMES[: FIELDS // 2]
    made = []
    for _ in range(BODIES):
        columns, user = values(rng, candidates), values(rng, 1)
        context: dict[str, object] = {name: user[name][0] for name in own}
        context["seen"] = rng.integers(0, 5000, EVENTS).tolist()
        each = {name: column for name, column in columns.items() if name not in own}
        made.append(json.dumps({"context": context, "candidates": each}).encode())
    return made


# -- the clients


async def connection(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)


async def ask(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], path: str, body: bytes) -> int:
    """Send a request, read the whole answer, and give its status."""
    reader, writer = streams
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    writer.write(head.encode() + b"\r\n\r\n" + body)
    answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(answer.split("content-length:")[1].split("\r\n")[0])
    await reader.readexactly(length)
    return int(answer.split()[1])


@dataclass
class Seen:
    """What clients saw: latencies in seconds of answers with status 200, and the number of others; of an open
    loop also when these requests were due."""

    latencies: list[float]
    others: int
    seconds: float
    due: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds


async def closed(port: int, path: str, requests: list[bytes], seconds: float) -> Seen:
    """Clients that ask again as soon as they are answered."""
    seen, begin = Seen([], 0, seconds), time.perf_counter()

    async def client(place: int) -> None:
        streams = await connection(port)
        while (start := time.perf_counter()) < begin + seconds:
            status = await ask(streams, path, requests[place % len(requests)])
            place += CLIENTS
            if status == 200:
                seen.latencies.append(time.perf_counter() - start)
            else:
                seen.others += 1
        streams[1].close()

    await asyncio.gather(*(client(place) for place in range(CLIENTS)))
    return seen


async def opened(
    port: int, path: str, requests: list[bytes], seconds: float, rate: float, spacing: str
) -> Seen:
    """Requests that arrive at a rate, each on the connection that has been free for longest."""
    count = int(rate * seconds)
    gaps = np.full(count, 1 / rate)
    if spacing == "random":
        gaps = np.random.default_rng(2).exponential(1 / rate, count)
    free = deque([await connection(port) for _ in range(CLIENTS)])
    seen, begin = Seen([], 0, seconds), time.perf_counter() + 0.2

    async def one(due: float, body: bytes) -> None:
        streams = free.popleft() if free else await connection(port)
        status = await ask(streams, path, body)
        free.append(streams)
        if status == 200:
            seen.latencies.append(time.perf_counter() - due)
            seen.due.append(due)
        else:
            seen.others += 1

    tasks = []
    for place, due in enumerate(begin + np.cumsum(gaps)):
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        tasks.append(asyncio.create_task(one(float(due), requests[place % len(requests)])))
    await asyncio.gather(*tasks)
    for _, writer in free:
        writer.close()
    return seen


def _clients(sender: object, rate: float | None, spacing: str, *args: object) -> None:
    work = closed(*args) if rate is None else opened(*args, rate, spacing)  # type: ignore[arg-type, call-arg]
    sender.send(asyncio.run(work))  # type: ignore[attr-defined]


def load(
    port: int,
    path: str,
    requests: list[bytes],
    seconds: float,
    rate: float | None = None,
    spacing: str = "even",
) -> Seen:
    """What clients in a process of their own saw; a closed loop without a rate."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    arguments = (sender, rate, spacing, port, path, requests, seconds)
    process = multiprocessing.get_context("spawn").Process(target=_clients, args=arguments)
    process.start()
    sender.close()
    seen: Seen = receiver.recv()
    process.join()
    return seen


# -- the servers


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server that runs as a process group of its own until the end of the block."""

    def __init__(self, command: list[str], port: int, ready: str, folder: Path) -> None:
        self.command, self.port, self.ready, self.folder = command, port, ready, folder

    def __enter__(self) -> Server:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        log = open(self.folder / "server.log", "ab")
        self.process = subprocess.Popen(
            self.command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        for _ in range(1200):
            try:
                with urlopen(f"http://127.0.0.1:{self.port}{self.ready}", timeout=1):
                    return self
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.1)
        raise SystemExit((self.folder / "server.log").read_text()[-2000:])

    def __exit__(self, *_: object) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)


def exported(model: Path, folder: Path, options: list[str]) -> Path:
    """The model as it is served."""
    out = folder / "export"
    command = [str(CTRKIT), "export", str(model), "--out", str(out), "--data", str(folder / "rows.parquet")]
    if options:
        gates = "auc_fall", "log_loss_rise", "ece_rise"
        options = [*options, *(word for gate in gates for word in ("--set", f"{gate}=1"))]
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
    return out


def ours(model: Path, port: int, folder: Path, workers: int, threads: int = 1, parallel: int = 1) -> Server:
    command = [str(CTRKIT), "serve", str(model), "--port", str(port), "--workers", str(workers)]
    return Server(
        [*command, "--set", f"threads={threads}", "--set", f"parallel={parallel}"], port, "/readyz", folder
    )


def naive(model: Path, port: int, folder: Path, workers: int) -> Server:
    environment_file = folder / "naive.json"
    environment_file.write_text(json.dumps({"model": str(model)}))
    os.environ["NAIVE_SERVER"] = str(environment_file)
    command = [sys.executable, "-m", "uvicorn", "serving_naive:app", "--port", str(port)]
    command += ["--app-dir", str(Path(__file__).parent), "--workers", str(workers), "--log-level", "warning"]
    return Server(command, port, "/ready", folder)


def row(name: str, seen: Seen) -> list[str]:
    if not seen.latencies:
        return [name, "0", "–", "–", "–", "–", str(seen.others)]
    p50, p90, p99, most = 1000 * np.percentile(seen.latencies, [50, 90, 99, 100])
    return [name, f"{seen.rate:.1f}", *(f"{one:.1f}" for one in (p50, p90, p99, most)), str(seen.others)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=16, help="width of the embeddings")
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each rate")
    parser.add_argument(
        "--rates", type=float, nargs="+", default=[0.25, 0.5, 0.75], help="shares of saturation"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--parallel", type=int, default=1, help="requests at once in a worker")
    parser.add_argument("--threads", type=int, default=1, help="of one request")
    parser.add_argument("--export", type=str.split, default=[], help="options of `ctrkit export`")
    parser.add_argument("--no-rival", action="store_true")
    given = parser.parse_args()
    table = Table("load", "answers/s", "p50 (ms)", "p90", "p99", "longest", "not answered")
    table.title = (
        f"MDAF, width {given.width}: {given.candidates} candidates, {FIELDS} fields, {EVENTS} events"
    )
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        model, requests = artifact(given.width, folder), bodies(given.candidates)
        served = exported(model, folder, given.export)
        with ours(served, free_port(), folder, given.workers, given.threads, given.parallel) as server:
            load(server.port, "/v1/score", requests, 3.0)
            most = load(server.port, "/v1/score", requests, SATURATION)
            table.add_row(*row(f"closed loop, {CLIENTS} clients", most))
            for share in given.rates:
                for spacing in ("even", "random"):
                    rate = share * most.rate
                    seen = load(server.port, "/v1/score", requests, given.seconds, rate, spacing)
                    table.add_row(*row(f"open loop, {share:.0%} of that, {spacing}", seen))
        if not given.no_rival:
            with naive(model, free_port(), folder, given.workers) as server:
                load(server.port, "/score", requests[:4], 3.0)
                rival = load(server.port, "/score", requests, SATURATION)
                table.add_row(*row("rival, closed loop", rival))
                table.caption = f"{most.rate / max(rival.rate, 1e-9):.1f} times the rival's requests/s"
    Console().print(table)


if __name__ == "__main__":
    main()
