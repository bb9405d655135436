"""Hot swap under load: what requests notice of it when a server loads another version of its model.

    python benchmarks/serving_swap.py [--width 16] [--candidates 200] [--swaps 5] [--every 10] [--workers 2]

The model and the clients are those of `serving_load.py`, and the server serves a registry of two versions. At
half of the saturated rate, in an open loop, one run is without a swap, and in another each version is
promoted in turn. The time of a swap is that in which a worker loads, as the server's log tells, and half a
second after it. A request counts to it if it was due then.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from serving_load import CTRKIT, SATURATION, Server, artifact, bodies, free_port, load

AFTER = 0.5


def versions(width: int, folder: Path) -> list[str]:
    """Two versions in a registry: the same graphs under two names, as no figure here depends on weights."""
    import ctrkit
    from ctrkit.serving.bundle import MANIFEST, sealed

    ctrkit.export_model(artifact(width, folder), out=folder / "export")
    first = ctrkit.push_model(folder / "export", registry=folder / "registry").version
    known = json.loads((folder / "export" / MANIFEST).read_text())
    (folder / "export" / MANIFEST).unlink()
    known = sealed({**known, "name": "again"}, folder / "export")
    (folder / "export" / MANIFEST).write_text(json.dumps(known))
    second = ctrkit.push_model(folder / "export", registry=folder / "registry").version
    assert first is not None
    assert second is not None
    ctrkit.promote_model(first, registry=folder / "registry")
    return [first, second]


def swaps(log: Path) -> list[tuple[float, float]]:
    """When workers loaded a version, from the server's log, as `time.perf_counter` tells time."""
    offset, found = time.time() - time.perf_counter(), []
    for line in log.read_text().splitlines():
        if line.startswith("{") and (event := json.loads(line))["event"] == "loaded":
            end = datetime.fromisoformat(event["time"]).timestamp() - offset
            found.append((end - event["seconds"], end + AFTER))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=16, help="width of the embeddings")
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--swaps", type=int, default=5)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two swaps")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rate", type=float, default=0.5, help="share of saturation")
    given = parser.parse_args()
    import ctrkit

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        names, requests = versions(given.width, folder), bodies(given.candidates)
        port = free_port()
        command = [str(CTRKIT), "serve", str(folder / "registry"), "--port", str(port), "--set", "watch=1"]
        command += ["--workers", str(given.workers)]
        with Server(command, port, "/readyz", folder) as server:
            load(server.port, "/v1/score", requests, 3.0)
            rate = given.rate * load(server.port, "/v1/score", requests, SATURATION).rate
            seconds = (given.swaps + 1) * given.every
            normal = load(server.port, "/v1/score", requests, seconds, rate, "random")

            def promote() -> None:
                for place in range(given.swaps):
                    time.sleep(given.every)
                    ctrkit.promote_model(names[(place + 1) % 2], registry=folder / "registry")

            started = time.perf_counter()
            promoting = threading.Thread(target=promote)
            promoting.start()
            seen = load(server.port, "/v1/score", requests, seconds, rate, "random")
            promoting.join()
            windows = [one for one in swaps(folder / "server.log") if one[1] > started]
    due, latencies = np.array(seen.due), np.array(seen.latencies)
    inside = np.any([(start <= due) & (due < end) for start, end in windows], axis=0)
    table = Table("requests", "answered", "failed", "p50 (ms)", "p90", "p99", "longest")
    rows = (
        ("of a run without a swap", np.array(normal.latencies), str(normal.others)),
        ("of a run with swaps", latencies, str(seen.others)),
        ("of these, during a swap", latencies[inside], ""),
    )
    for name, of, failed in rows:
        quantiles = 1000 * np.percentile(of, [50, 90, 99, 100])
        table.add_row(name, str(of.size), failed, *(f"{one:.1f}" for one in quantiles))
    table.title = f"MDAF, width {given.width}: {len(windows)} swaps of workers at {rate:.1f} requests/s"
    took = np.median([end - start - AFTER for start, end in windows])
    ratio = np.percentile(latencies[inside], 99) / np.percentile(normal.latencies, 99)
    table.caption = f"p99 during a swap / without one: {ratio:.2f}; a load takes {took:.2f} s"
    Console().print(table)


if __name__ == "__main__":
    main()
