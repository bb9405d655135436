"""Exported graphs: how the scan of Mamba is written, and one graph beside two.

    OMP_NUM_THREADS=1 python benchmarks/serving.py scan [--lengths 10 50 200 1000]
    OMP_NUM_THREADS=1 python benchmarks/serving.py graphs [--candidates 200] [--fields 40] [--length 50]

`scan`: one mixer of 128 channels and 16 states over one history, in ONNX Runtime. "operator" is what
`ctrkit export` writes, "doubling" what it writes for OpenVINO, "steps" one node for each step. `graphs`: MDAF
with random weights; candidates of one request, each with the history in one graph, or against the history
that the other graph has encoded. Milliseconds of processor time, median of repetitions, one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from ctrkit.data.feature_map import FeatureMap
from ctrkit.models import build_model, model_config
from ctrkit.nn import scan
from ctrkit.serving.bundle import Graphs, arrays_of
from ctrkit.serving.export import examples_of
from ctrkit.serving.graphs import GRAPHS, CalibratedModel, RowGraph, ServedGraph
from ctrkit.serving.parity import SHARING, random_rows
from ctrkit.serving.sessions import OnnxSession, session_of
from ctrkit.serving.writing import WRITERS, write_onnx

CHANNELS, STATES, RANK = 128, 16, 4
REPETITIONS = 50


class Mixer(nn.Module):
    """The scan alone, of one history."""

    inputs, outputs, by_row = ("u", "selection", "z"), ("y",), ()

    def __init__(self) -> None:
        super().__init__()
        decays = torch.arange(1.0, STATES + 1).repeat(CHANNELS, 1)
        self.weights = (
            torch.randn(CHANNELS, RANK) * 0.3,
            torch.randn(CHANNELS) - 3,
            -decays,
            torch.ones(CHANNELS),
        )

    def forward(self, *tensors: Tensor) -> tuple[Tensor]:
        return (scan.scan_by_steps(*tensors, *self.weights)[0],)


def steps(h: Tensor, decays: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The scan with a node for each step."""
    states = []
    for decay, entering in zip(decays.unbind(1), inputs.unbind(1), strict=True):
        h = decay * h + entering
        states.append(h)
    return h, torch.stack(states, dim=1)


def milliseconds(work: Callable[[], object], repetitions: int = REPETITIONS) -> float:
    """Median processor time of a call, after one that is not counted."""
    work()
    times = []
    for _ in range(repetitions):
        start = time.process_time_ns()
        work()
        times.append((time.process_time_ns() - start) / 1e6)
    return float(np.median(times))


def scans(lengths: list[int], folder: Path) -> Table:
    ways = {
        "operator": contextlib.nullcontext,
        "doubling": scan.scans_by_doubling,
        "steps": lambda: mock.patch.object(scan, "_scanned", steps),
    }
    table = Table("length", "way", "call (ms)", "export (s)", "largest difference", title="Scan in a graph")
    for length in lengths:
        torch.manual_seed(0)
        mixer = Mixer()
        sizes = CHANNELS, RANK + 2 * STATES, CHANNELS
        tensors = [torch.randn(1, length, size) for size in sizes]
        wanted = mixer(*tensors)[0].numpy()
        for name, way in ways.items():
            if name == "steps" and length > 200:
                continue
            start, path = time.process_time(), folder / "scan.onnx"
            with way():
                write_onnx(mixer, dict(zip(mixer.inputs, tensors, strict=True)), path)  # type: ignore[arg-type]
            exported = time.process_time() - start
            session = OnnxSession(path, mixer.inputs, mixer.outputs)
            given = {name: one.numpy() for name, one in zip(mixer.inputs, tensors, strict=True)}
            apart = float(np.abs(session(given)["y"] - wanted).max())
            row = f"{milliseconds(lambda: session(given)):.2f}", f"{exported:.1f}", f"{apart:.1e}"  # noqa: B023
            table.add_row(str(length), name, *row)
    return table


def graphs(candidates: int, fields: int, length: int, width: int, formats: list[str], folder: Path) -> Table:
    names = [f"field{place}" for place in range(fields - 1)]
    features = FeatureMap(
        tables={"item": 5000, **dict.fromkeys(names, 1000)},
        categorical={"item": "item", **dict(zip(names, names, strict=True))},
        sequences={"seen": "item"},
        max_length=length,
        target=("item",),
        tasks=("click", "conversion"),
    )
    torch.manual_seed(0)
    model = CalibratedModel(
        build_model(model_config({"name": "mdaf", "embedding": {"width": width}}), features).eval(), {}, {}
    )
    arrays = arrays_of(random_rows(features))
    static = {name: arrays[name][:candidates] for name in model.interface.static}
    one = {name: arrays[name][SHARING : SHARING + 1] for name in model.interface.sequences}
    each = {name: np.repeat(ids, candidates, axis=0) for name, ids in one.items()}
    table = Table("computed by", "one graph (ms)", "user graph (ms)", "candidates (ms)", "ratio")
    table.title = f"MDAF, {candidates} candidates of {fields} fields, {length} events, width {width}"

    def add(name: str, whole: float, user: float, scored: float) -> None:
        times = (f"{value:.1f}" for value in (whole, user, scored))
        table.add_row(name, *times, f"{whole / (user + scored):.1f}")

    def eager(graph: ServedGraph, given: dict[str, np.ndarray]) -> Callable[[], object]:
        tensors = [torch.from_numpy(given[name]) for name in graph.inputs]
        return lambda: torch.no_grad()(graph)(*tensors)

    user, scorer = GRAPHS["user"](model), GRAPHS["candidates"](model)
    with torch.no_grad():
        state = user(*(torch.from_numpy(ids) for ids in one.values()))
    history = {**one, **dict(zip(model.interface.state, (part.numpy() for part in state), strict=True))}
    add(
        "PyTorch",
        milliseconds(eager(RowGraph(model), {**static, **each}), 10),
        milliseconds(eager(user, one)),
        milliseconds(eager(scorer, {**static, **history})),
    )
    for kind in formats:
        examples = examples_of(model, arrays)
        for name in model.interface.graphs:
            path = folder / f"{name}{session_of(kind).suffix}"
            WRITERS[kind](GRAPHS[name](model), examples[name], path)
        opened = Graphs(folder, kind, model.interface)
        encoded = opened.encode(one)
        add(
            kind,
            milliseconds(lambda: opened.score({**static, **each}), 10),  # noqa: B023
            milliseconds(lambda: opened.encode(one)),  # noqa: B023
            milliseconds(lambda: opened.score_candidates(static, encoded)),  # noqa: B023
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="exported graphs, measured")
    parser.add_argument("what", choices=("scan", "graphs"))
    parser.add_argument("--lengths", type=int, nargs="+", default=[10, 50, 200, 1000])
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--fields", type=int, default=40)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--formats", nargs="+", default=["onnx"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if given.what == "scan":
            table = scans(given.lengths, Path(folder))
        else:
            sizes = given.candidates, given.fields, given.length, given.width
            table = graphs(*sizes, given.formats, Path(folder))
    Console().print(table)


if __name__ == "__main__":
    main()
