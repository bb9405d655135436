"""Exported graphs: how the scan of Mamba is written, one graph beside two, and what computes them quickest.

    OMP_NUM_THREADS=1 python benchmarks/serving.py scan [--lengths 10 50 200 1000]
    OMP_NUM_THREADS=1 python benchmarks/serving.py graphs [--candidates 200] [--fields 40] [--length 50]
    OMP_NUM_THREADS=1 python benchmarks/serving.py runtimes [--width 32] [--rounds 200]

`scan`: one mixer of 128 channels and 16 states over one history, in ONNX Runtime. "operator" is what
`ctrkit export` writes, "doubling" what it writes for OpenVINO, "steps" one node for each step. `graphs`: MDAF
with random weights; candidates of one request, each with the history in one graph, or against the history
that the other graph has encoded. `runtimes`: the same request, history and candidates, computed by one
runtime after the other in each round; where a runtime computes the candidates alone, PyTorch encodes the
history. Ranks are shares of a cross layer's width. Milliseconds of processor time, median of repetitions, one
thread.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from ctrkit.serving.bundle import CANDIDATES, USER, Graphs, arrays_of
from ctrkit.serving.export import examples_of
from ctrkit.serving.graphs import GRAPHS, CalibratedModel, RowGraph, ServedGraph
from ctrkit.serving.parity import SHARING, random_rows
from ctrkit.serving.reductions import (
    BFloat16,
    Int8Embeddings,
    Int8Linear,
    LowRank,
    Reduction,
    reduce_files,
    reduced,
)
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


@dataclass(frozen=True)
class Request:
    """A model with random weights, candidates and a history for it, and the width of its cross layers."""

    model: CalibratedModel
    arrays: Mapping[str, np.ndarray]
    static: dict[str, np.ndarray]
    one: dict[str, np.ndarray]
    width: int


def request_of(candidates: int, fields: int, length: int, width: int) -> Request:
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
    return Request(model, arrays, static, one, fields * width)


def eager(graph: ServedGraph, given: Mapping[str, np.ndarray]) -> Callable[[], object]:
    tensors = [torch.from_numpy(given[name]) for name in graph.inputs]
    return lambda: torch.no_grad()(graph)(*tensors)


def written(request: Request, kind: str, names: Iterable[str], folder: Path) -> dict[str, Path]:
    """The graphs of a request's model, in files."""
    examples = examples_of(request.model, request.arrays)
    paths = {name: folder / f"{name}{session_of(kind).suffix}" for name in names}
    for name, path in paths.items():
        WRITERS[kind](GRAPHS[name](request.model), examples[name], path)
    return paths


def runtimes(request: Request, rounds: int, folder: Path) -> Table:
    user, scorer = GRAPHS[USER](request.model), GRAPHS[CANDIDATES](request.model)
    state = user(*(torch.from_numpy(ids) for ids in request.one.values()))
    encoded = dict(zip(request.model.interface.state, (part.detach().numpy() for part in state), strict=True))
    given = {**request.static, **request.one, **encoded}
    tensors = [torch.from_numpy(given[name]) for name in scorer.inputs]
    encodes = eager(user, request.one)
    ways: dict[str, Callable[[], object]] = {}
    wanted = scorer(*tensors)[0].detach().numpy()
    apart: dict[str, float] = {}

    def add(name: str, work: Callable[[], object], probabilities: np.ndarray) -> None:
        ways[name], apart[name] = work, float(np.abs(probabilities - wanted).max())

    def compiled(name: str, module: Callable[..., Sequence[Tensor]]) -> None:
        with torch.no_grad():
            add(name, lambda: (encodes(), torch.no_grad()(module)(*tensors)), module(*tensors)[0].numpy())

    def exported(name: str, kind: str, *reductions: Reduction) -> None:
        model = request.model
        changed = CalibratedModel(reduced(model.network, reductions), {}, {}) if reductions else model
        own = folder / str(len(ways))
        own.mkdir()
        paths = written(replace(request, model=changed), kind, (USER, CANDIDATES), own)
        opens = session_of(reduce_files(reductions, kind, [*paths.values()]))
        encode, score = (opens(path, *model.interface.graphs[name]) for name, path in paths.items())

        def work() -> dict[str, np.ndarray]:
            return score({**request.static, **request.one, **encode(request.one)})

        add(name, work, work()["click"])

    compiled("PyTorch, with ctrkit's kernels", scorer)
    exported("ONNX Runtime", "onnx")
    exported("OpenVINO", "openvino")
    compiled("torch.compile", torch.compile(scorer, dynamic=False))
    path = written(request, "torch-export", [CANDIDATES], folder)[CANDIDATES]
    package = torch._inductor.aoti_compile_and_package(
        torch.export.load(path), package_path=str(folder / "aoti.pt2")
    )
    compiled("AOTInductor", torch._inductor.aoti_load_package(package))
    exported("ONNX Runtime, int8 embeddings", "onnx", Int8Embeddings())
    exported("ONNX Runtime, int8 linear", "onnx", Int8Linear())
    exported("ONNX Runtime, rank 1/4", "onnx", LowRank(request.width // 4))
    exported("ONNX Runtime, rank 1/8", "onnx", LowRank(request.width // 8))
    exported("ONNX Runtime, rank 1/8, int8 linear", "onnx", LowRank(request.width // 8), Int8Linear())
    exported("OpenVINO, bf16", "openvino", BFloat16())
    times = {name: [] for name in ways}
    for number in range(rounds + 5):
        for name, work in ways.items():
            start = time.process_time_ns()
            work()
            if number >= 5:
                times[name].append((time.process_time_ns() - start) / 1e6)
    table = Table("computed by", "median (ms)", "p99 (ms)", "ratio", "largest difference", title="A request")
    base = np.median(times["ONNX Runtime"])
    for name, spent in times.items():
        middle, high = np.percentile(spent, [50, 99])
        table.add_row(name, f"{middle:.1f}", f"{high:.1f}", f"{middle / base:.2f}", f"{apart[name]:.0e}")
    return table


def graphs(request: Request, formats: list[str], folder: Path) -> Table:
    model, static, one = request.model, request.static, request.one
    candidates = len(static["categorical"])
    each = {name: np.repeat(ids, candidates, axis=0) for name, ids in one.items()}
    table = Table("computed by", "one graph (ms)", "user graph (ms)", "candidates (ms)", "ratio")
    table.title = f"MDAF, {candidates} candidates"

    def add(name: str, whole: float, user: float, scored: float) -> None:
        times = (f"{value:.1f}" for value in (whole, user, scored))
        table.add_row(name, *times, f"{whole / (user + scored):.1f}")

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
        written(request, kind, model.interface.graphs, folder)
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
    parser.add_argument("what", choices=("scan", "graphs", "runtimes"))
    parser.add_argument("--lengths", type=int, nargs="+", default=[10, 50, 200, 1000])
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--fields", type=int, default=40)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--formats", nargs="+", default=["onnx"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if given.what == "scan":
            table = scans(given.lengths, Path(folder))
        else:
            request = request_of(given.candidates, given.fields, given.length, given.width)
            if given.what == "graphs":
                table = graphs(request, given.formats, Path(folder))
            else:
                table = runtimes(request, given.rounds, Path(folder))
    Console().print(table)


if __name__ == "__main__":
    main()
