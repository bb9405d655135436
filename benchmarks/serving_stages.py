"""Where the time of a request goes: the latency budget of the server, stage by stage.

    python benchmarks/serving_stages.py [--width 16] [--candidates 200] [--requests 300] [--rounds 5]

The server and the requests are those of `serving_load.py`: one worker, and one client that asks one request
after another. The stages are the server's own, from `/metrics`. What the route takes beyond its stages is the
way through the queue to the computing thread. What the client waits beyond the route is HTTP: both ends of
the connection, headers, and the client's own work. Medians of the rounds' means.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

import numpy as np
from rich.console import Console
from rich.table import Table
from serving_load import artifact, ask, bodies, connection, exported, free_port, ours

ROUTE, PATH = 'route="/v1/score"', "/v1/score"
STAGES = "decode", "encode", "history", "score", "reply"


def sums(port: int) -> dict[str, float]:
    """Seconds of the stages and of the route since the server started."""
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    stages = {one: float(found.get(f'ctrkit_stage_seconds_sum{{stage="{one}"}}', 0)) for one in STAGES}
    return {**stages, "route": float(found.get(f"ctrkit_request_seconds_sum{{{ROUTE}}}", 0))}


async def client(port: int, requests: list[bytes], count: int) -> float:
    """Mean seconds of a request."""
    streams, start = await connection(port), time.perf_counter()
    for place in range(count):
        if await ask(streams, PATH, requests[place % len(requests)]) != 200:
            raise SystemExit("the server refused a request")
    seconds = time.perf_counter() - start
    streams[1].close()
    return seconds / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=16, help="width of the embeddings")
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--requests", type=int, default=300, help="of each round")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        model = exported(artifact(given.width, folder), folder, [])
        requests = bodies(given.candidates)
        with ours(model, free_port(), folder, 1) as server:
            asyncio.run(client(server.port, requests, 50))
            for _ in range(given.rounds):
                before = sums(server.port)
                whole = asyncio.run(client(server.port, requests, given.requests))
                spent = {
                    name: (value - before[name]) / given.requests for name, value in sums(server.port).items()
                }
                route = spent.pop("route")
                rounds.append(
                    {**spent, "queue": route - sum(spent.values()), "HTTP": whole - route, "whole": whole}
                )
    medians = {name: 1000 * float(np.median([one[name] for one in rounds])) for name in rounds[0]}
    table = Table("stage", "ms", "share", title=f"{given.candidates} candidates, width {given.width}")
    for name, value in medians.items():
        table.add_row(name, f"{value:.2f}", f"{value / medians['whole']:.1%}")
    Console().print(table)


if __name__ == "__main__":
    main()
