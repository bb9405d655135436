"""Mamba on a CPU: its scan beside the plain loop, and its encoder beside a transformer of equal width.

    python benchmarks/scan.py [--threads 2] [--rounds 15] [--json]

Within a round everything runs once, in turn, so that what else the machine does falls on all alike. Ratios
are those of the medians, and of the fastest rounds, which a busy machine disturbs less. With one thread it is
CPU time that is taken, which it disturbs least. The first use, when numba compiles or reads what it compiled
before, is told apart.
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


def now() -> float:
    """Seconds, of the CPU where there is one thread."""
    return time.thread_time() if torch.get_num_threads() == 1 else time.perf_counter()


def measure(candidates: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each candidate in each round, after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, run in candidates.items():
            begun = now()
            run()
            if number:
                seconds[name].append(now() - begun)
    return seconds


def scans(
    rounds: int, rows: int = 1024, steps: int = 50, channels: int = 64, states: int = 16
) -> dict[str, list[float]]:
    """The scan with its gate, forward, and forward and backward."""
    u, z = torch.randn(2, rows, steps, channels)
    selection, weight, bias = (
        torch.randn(*size) for size in ((rows, steps, 2 + 2 * states), (channels, 2), (channels,))
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
    layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)
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


def first_use() -> tuple[float, float]:
    """Seconds of the first use for inference, and then of the first for training."""
    encoder, x = MambaEncoder(16).eval(), torch.randn(1, 4, 16)
    begun = time.perf_counter()
    with torch.inference_mode():
        encoder(x)
    inferred = time.perf_counter()
    encoder(x).sum().backward()
    return inferred - begun, time.perf_counter() - inferred


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
    title = f"{options.threads} threads; first use {compiled[0]:.1f} s, in training {compiled[1]:.1f} s more"
    times = Table("what", "median, ms", "fastest, ms", title=title)
    for title, seconds in found.items():
        for name, values in seconds.items():
            median, fastest = statistics.median(values) * 1e3, min(values) * 1e3
            times.add_row(f"{title}: {name}", f"{median:.1f}", f"{fastest:.1f}")
    shown = Table("ctrkit's Mamba is so many times as fast", "by medians", "by the fastest")
    for name, values in ratios.items():
        shown.add_row(name, f"{values['median']:.1f}", f"{values['best']:.1f}")
    Console().print(times)
    Console().print(shown)


if __name__ == "__main__":
    main()
