"""Readings of long histories beside attention over all events: 200 candidates of one history.

    python benchmarks/long_histories.py [--json FILE]

A history is encoded once, without an encoder, and one pooling reads it for all candidates, with the settings
of ctrkit's models: width 16, one hidden layer of 36 in the attention of DIN, 50 events and 2 heads in the
searches. `multi_head_attention` is that of torch over all events, which is no pooling of ctrkit.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from scan import measure
from sequence import draw, layout, peak

from ctrkit.config import build
from ctrkit.nn.history import HistoryConfig, HistoryReader
from ctrkit.nn.pooling import POOLINGS

WIDTH, CANDIDATES, LENGTHS = 16, 200, (50, 200, 1000)
TORCHS = "multi_head_attention"
READOUTS = ("din", "target_attention", TORCHS, "sim_hard", "sim_soft", "eta", "twin", "sdim")


def reading(name: str, length: int) -> Callable[[], object]:
    """A function that reads one history of a length for all candidates."""
    torch.manual_seed(0)
    if name == TORCHS:
        attention = torch.nn.MultiheadAttention(WIDTH, 2, bias=False, batch_first=True).eval()
        target, events = torch.randn(1, CANDIDATES, WIDTH), torch.randn(1, length, WIDTH)

        def attend() -> object:
            with torch.inference_mode():
                return attention(target, events, events, need_weights=False)

        return attend
    features = layout(length)
    reader = HistoryReader(
        build(HistoryConfig, {"readouts": [name], "attention": [36]}), features, WIDTH
    ).eval()
    history, rows = draw(1, length), draw(CANDIDATES, 1)
    # Some events have the category of the target: what a hard search finds.
    history.sequences["seen_category"].remainder_(20).add_(2)
    rows.categorical[:, list(features.categorical).index("category")].remainder_(20).add_(2)
    with torch.inference_mode():
        parts = torch.randn(1, length, len(features.sequences), WIDTH)
        state = reader.encode(parts, torch.ones(1, length, dtype=torch.bool), history.sequences)
        fields = torch.randn(CANDIDATES, len(features.fields), WIDTH)

    def read() -> object:
        with torch.inference_mode():
            return reader.read(state, fields, rows.categorical)

    return read


def added_memory(name: str, length: int) -> float:
    """Megabytes that a reading adds at most to a process that has read a short history."""
    reading(name, 2)()
    read = reading(name, length)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten; Linux only
    before = peak()
    read()
    return peak() - before


def _memory(name: str, length: int) -> float:
    """`added_memory` in a process of its own, as a peak is one of a whole process."""
    with get_context("fork").Pool(1) as process:
        return process.apply(added_memory, (name, length))


def main(
    rounds: Annotated[int, typer.Option(help="Of each reading, in turn.")] = 31,
    out: Annotated[Path | None, typer.Option("--json", help="Write what was measured here.")] = None,
) -> None:
    """Time and memory of every reading, at every length, with one thread."""
    assert {*READOUTS} - {TORCHS} <= {*POOLINGS}
    torch.set_num_threads(1)
    shown = Table("readout", *(f"{unit}, {length} events" for unit in ("ms", "MB") for length in LENGTHS))
    shown.title = f"{CANDIDATES} candidates of one history: medians of {rounds}, and memory added at most"
    megabytes = {length: {name: _memory(name, length) for name in READOUTS} for length in LENGTHS}
    seconds = {length: measure({n: reading(n, length) for n in READOUTS}, rounds) for length in LENGTHS}
    for name in READOUTS:
        times = [f"{statistics.median(seconds[length][name]) * 1e3:.2f}" for length in LENGTHS]
        shown.add_row(name, *times, *(f"{megabytes[length][name]:.1f}" for length in LENGTHS))
    Console(width=130).print(shown)
    if out is not None:
        out.write_text(json.dumps({"seconds": seconds, "megabytes": megabytes}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
