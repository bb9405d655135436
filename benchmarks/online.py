"""How fast online stores are: 200 keys of 20 columns in one read, and rows written in a second.

python benchmarks/online.py                                  # SQLite, and Redis if redis-server is installed
python benchmarks/online.py --store redis://10.0.0.5:6379/0  # another store
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from ctrkit.online import FeatureRow, FeatureSet, open_store

KEYS, COLUMNS, ASKED, READS = 20_000, 20, 200, 500
FEATURES = FeatureSet("benchmark", "v1", "user_id")


def rows() -> list[FeatureRow]:
    """Ten numbers, five counts and five texts for each key."""
    rng = np.random.default_rng(0)
    numbers, counts = rng.normal(size=(KEYS, 10)).tolist(), rng.integers(0, 1000, (KEYS, 10)).tolist()
    made = []
    for key in range(KEYS):
        values: dict[str, object] = {f"number_{i}": value for i, value in enumerate(numbers[key])}
        values |= {f"count_{i}": value for i, value in enumerate(counts[key][:5])}
        values |= {f"text_{i}": f"category {value}" for i, value in enumerate(counts[key][5:])}
        made.append(FeatureRow(str(key), float(key), values))
    assert len(made[0].values) == COLUMNS
    return made


def measured(address: str, made: list[FeatureRow]) -> None:
    """Write all rows, read some keys many times, and print both."""
    store = open_store(address)
    begin = time.perf_counter()
    for start in range(0, KEYS, 5000):
        store.put_many(FEATURES, made[start : start + 5000])
    rate = KEYS / (time.perf_counter() - begin)
    rng, taken = np.random.default_rng(1), []
    for _ in range(READS):
        keys = [str(key) for key in rng.integers(0, KEYS, ASKED)]
        begin = time.perf_counter()
        found = store.get_many(FEATURES, keys)
        taken.append(time.perf_counter() - begin)
        assert all(row is not None and len(row) == COLUMNS for row in found)
    p50, p99 = 1000 * np.percentile(taken, [50, 99])
    kind = address.split(":")[0]
    print(f"{kind}: {ASKED} keys p50 {p50:.2f} ms, p99 {p99:.2f} ms; {rate:,.0f} rows written a second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", help="address of a store (default: SQLite, and a Redis of its own)")
    address, made = parser.parse_args().store, rows()
    if address is not None:
        measured(address, made)
        return
    with tempfile.TemporaryDirectory() as folder:
        measured(f"sqlite:{Path(folder) / 'features.db'}", made)
        program = shutil.which("redis-server")
        if program is None:
            print("redis: redis-server is not installed")
            return
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        server = subprocess.Popen([program, *settings], stdout=subprocess.DEVNULL)
        try:
            time.sleep(1)
            measured(f"redis://127.0.0.1:{port}/0", made)
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
