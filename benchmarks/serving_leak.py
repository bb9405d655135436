"""Whether a server's memory grows with the requests that it has answered.

    python benchmarks/serving_leak.py [--requests 200000] [--candidates 5]

The server of `serving_load.py` with one worker and a journal. Sixteen clients ask it again and again; every
tenth request is refused (422), and every fourth is followed by feedback. Resident memory of the worker after
each twentieth part of the requests. The first parts fill the memory of known ids, the window of the metrics
and the decisions that wait for feedback (64 MB at most).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table
from serving_load import CLIENTS, CTRKIT, Server, artifact, ask, bodies, connection, exported, free_port

PARTS = 20


def resident(process: int) -> float:
    """Resident memory of a process and its children, MB."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    pages = [int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in (process, *children)]
    return sum(pages) * 4096 / 1e6


async def part(port: int, requests: list[bytes], first: int, count: int) -> None:
    """Some requests, by several clients."""

    async def client(own: int) -> None:
        streams = await connection(port)
        for place in range(first + own, first + count, CLIENTS):
            wrong = place % 10 == 9
            body = b'{"candidates": [{"nothing": 1}]}' if wrong else requests[place % len(requests)]
            named = body[:-1] + b', "request_id": "r%d"}' % place
            status = await ask(streams, "/v1/score", named)
            if status != (422 if wrong else 200):
                raise SystemExit(f"request {place} was answered with {status}")
            if place % 4 == 0:
                event = {
                    "event_id": f"e{place}",
                    "request_id": f"r{place}",
                    "kind": "impression",
                    "candidate": 0,
                }
                await ask(streams, "/v1/feedback", json.dumps(event).encode())
        streams[1].close()

    await asyncio.gather(*(client(own) for own in range(CLIENTS)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--candidates", type=int, default=5)
    given = parser.parse_args()
    table = Table(
        "requests", "memory (MB)", title=f"Memory of a server, {given.candidates} candidates a request"
    )
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        model, requests = exported(artifact(16, folder), folder, []), bodies(given.candidates)
        port, count = free_port(), given.requests // PARTS
        command = [
            str(CTRKIT),
            "serve",
            str(model),
            "--port",
            str(port),
            "--journal",
            str(folder / "journal"),
        ]
        with Server([*command, "--set", "log_requests=false"], port, "/readyz", folder) as server:
            for place in range(PARTS):
                asyncio.run(part(port, requests, place * count, count))
                table.add_row(f"{(place + 1) * count:,}", f"{resident(server.process.pid):.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
