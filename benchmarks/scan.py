"""Mamba on a CPU: its scan beside the plain loop, and its encoder beside a transformer of equal width.

    python benchmarks/scan.py [--threads 2] [--rounds 15] [--json]

Within a round everything runs once, in turn, so that what else the machine does falls on all alike. Ratios are
those of the fastest rounds, and in brackets those of the medians. Compilation is left out, and told apart.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from ctrkit.nn.mamba import MambaEncoder
from ctrkit.nn.scan import scan_by_steps, selective_scan_with_state

# Rows and steps of the encoders' histories.
HISTORIES = ((1024, 50), (256, 200), (32, 1000))


def measure(candidates: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each candidate in each round, after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, run in candidates.items():
            begun = time.perf_counter()
            run()
            if number:
                seconds[name].append(time.perf_counter() - begun)
    return seconds


def scans(
    rounds: int, rows: int = 1024, steps: int = 50, channels: int = 64, states: int = 16
) -> dict[str, list[float]]:
    """The scan with its gate, forward, and forward and backward."""
    u, z = torch.randn(2, rows, steps, channels)
    selection, weight, bias = (
        torch.randn(rows, steps, 2 + 2 * states),
        torch.randn(channels, 2),
        torch.randn(channels),
    )
    inputs = [u, selection, z, weight, bias, -torch.rand(channels, states) * states, torch.ones(channels)]
    leaves, grad = [x.clone().requires_grad_() for x in inputs], torch.randn(rows, steps, channels)

    def trained(scan: Callable[..., tuple[Tensor, Tensor]]) -> object:
        return torch.autograd.grad(scan(*leaves)[0], leaves, grad)

    return measure(
        {
            "kernel, forward": lambda: selective_scan_with_state(*inputs),
            "loop, forward": lambda: scan_by_steps(*inputs),
            "kernel, forward and backward": lambda: trained(selective_scan_with_state),
            "loop, forward and backward": lambda: trained(scan_by_steps),
        },
        rounds,
    )


def transformer(width: int, blocks: int) -> nn.Module:
    """Transformer blocks of four heads and a feed-forward network four times as wide."""
    layer = nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True, norm_first=False)
    return nn.TransformerEncoder(layer, blocks, enable_nested_tensor=False)


def encoders(rounds: int, rows: int, steps: int, width: int = 32, blocks: int = 2) -> dict[str, list[float]]:
    """Two blocks of each kind over full histories: inference, and a training step without its optimizer."""
    x, grad = torch.randn(2, rows, steps, width)
    mamba, attention = MambaEncoder(width, blocks), transformer(width, blocks)

    def inferred(model: nn.Module, fast_path: bool = True) -> None:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        model.eval()
        with torch.inference_mode():
            model(x)

    def trained(model: nn.Module) -> None:
        model.train()
        model.zero_grad()
        model(x).backward(grad)

    return measure(
        {
            "Mamba, inference": lambda: inferred(mamba),
            "transformer, inference": lambda: inferred(attention),
            "transformer without fast path, inference": lambda: inferred(attention, False),
            "Mamba, training": lambda: trained(mamba),
            "transformer, training": lambda: trained(attention),
        },
        rounds,
    )


def first_use() -> float:
    """Seconds that the first scan takes, forward and backward: numba compiles, or reads what it compiled before."""
    begun = time.perf_counter()
    MambaEncoder(16)(torch.randn(1, 4, 16)).sum().backward()
    return time.perf_counter() - begun


def ratio(seconds: Mapping[str, list[float]], slow: list[str], quick: str) -> dict[str, float]:
    """How many times as long the best of the slow ones takes."""
    return {
        kind: min(of(seconds[name]) for name in slow) / of(seconds[quick])
        for kind, of in (("best", min), ("median", statistics.median))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="the selective scan and what is made of it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    compiled = first_use()
    found = {"scan, 1024 x 50": scans(options.rounds)}
    found |= {
        f"encoder, {rows} x {steps}": encoders(options.rounds, rows, steps) for rows, steps in HISTORIES
    }
    ratios = {}
    for title, seconds in found.items():
        for work in sorted({name.split(", ")[1] for name in seconds}):
            same = [name for name in seconds if name.split(", ")[1] == work]
            ratios[f"{title}: {work}"] = ratio(seconds, same[1:], same[0])

    if options.json:
        print(json.dumps({"first_use": compiled, "ratios": ratios, "seconds": found}))
        return
    times = Table(
        "what", "fastest, ms", "median, ms", title=f"{options.threads} threads, first use {compiled:.1f} s"
    )
    for title, seconds in found.items():
        for name, values in seconds.items():
            times.add_row(
                f"{title}: {name}", f"{min(values) * 1e3:.1f}", f"{statistics.median(values) * 1e3:.1f}"
            )
    shown = Table("ctrkit's Mamba beside the loop or the transformer", "times as fast", "by medians")
    for name, values in ratios.items():
        shown.add_row(name, f"{values['best']:.1f}", f"{values['median']:.1f}")
    Console().print(times)
    Console().print(shown)


if __name__ == "__main__":
    main()
