"""Whole MDAF beside whole BST on the layout of Taobao's ad log: 10 static fields and a history, width 32.

`python benchmarks/models.py sequence` runs it. Both models are ctrkit's; BST has as many transformer blocks
as MDAF has Mamba blocks, of the same width. ctrkit's BST computes in its last block only what is read of it,
the target's place; "BST, all places" computes all of it, as other libraries do.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from scan import measure
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, pad

from ctrkit.data.feature_map import FeatureMap
from ctrkit.models import CtrModel, build_model, model_config
from ctrkit.models.mdaf import MDAF
from ctrkit.nn.batches import Batch
from ctrkit.nn.encoders import Encoded
from ctrkit.nn.encoders.attention import BidirectionalTransformer
from ctrkit.nn.history import HistoryState

STATIC = {
    "user": 50_000, "segment": 100, "age": 10, "gender": 4, "level": 6, "item": 100_000, "category": 5_000,
    "brand": 20_000, "price": 50, "scene": 5,
}  # fmt: skip
TARGET = ("item", "category", "brand")
MODELS: dict[str, dict[str, Any]] = {
    "MDAF": {"name": "mdaf", "embedding": 32},
    "MDAF, cross layers of rank 64": {"name": "mdaf", "embedding": 32, "cross": {"rank": 64}},
}
MODELS["BST"] = MODELS["BST, all places"] = {
    "name": "bst",
    "embedding": 32,
    "hidden": [256, 128],
    "history": {"encoder": {"blocks": 2, "heads": 4, "expand": 4}},
}
# Rows and steps of the histories: about as many events each time.
HISTORIES = ((1024, 50), (256, 200))
USERS, CANDIDATES = 8, 200


@dataclass(frozen=True)
class Timing:
    """Seconds of each repetition."""

    what: str
    model: str
    seconds: list[float]

    @property
    def median(self) -> float:
        """Half of the repetitions took longer."""
        return statistics.median(self.seconds)


def layout(length: int) -> FeatureMap:
    """The features, with histories of items, categories and brands."""
    return FeatureMap(
        tables=STATIC,
        categorical={name: name for name in STATIC},
        sequences={f"seen_{name}": name for name in TARGET},
        max_length=length,
        target=TARGET,
        profile=("user", "segment", "age", "gender", "level"),
    )


def draw(rows: int, length: int) -> Batch:
    """Random rows with full histories."""
    columns = [torch.randint(1, size, (rows,), dtype=torch.int32) for size in STATIC.values()]
    seen = {
        f"seen_{name}": torch.randint(2, STATIC[name], (rows, length), dtype=torch.int32) for name in TARGET
    }
    labels = (torch.rand(rows, 1) < 0.05).float()
    return Batch(torch.stack(columns, dim=1), torch.zeros(rows, 0), seen, labels, torch.ones(rows))


def model_of(name: str, length: int) -> CtrModel:
    """A model with fresh weights."""
    torch.manual_seed(0)
    model = build_model(model_config(MODELS[name]), layout(length))
    if name == "BST, all places" and model.history is not None:
        model.history.encoder.__class__ = AllPlaces
    return model


class AllPlaces(BidirectionalTransformer):
    """BST's encoder, with every place of every block computed for every target."""

    def next_states(self, targets: Tensor, history: Encoded) -> Tensor:
        users, candidates = targets.shape[:2]
        rows = self._place(history.events).repeat_interleave(candidates, dim=0)
        rows = torch.cat([rows, self._place_targets(targets).flatten(0, 1).unsqueeze(1)], dim=1)
        unread = torch.finfo(rows.dtype).min / 2
        bias = torch.zeros(history.mask.shape).masked_fill(~history.mask, unread)
        bias = pad(bias, (0, 1)).repeat_interleave(candidates, dim=0)[:, None, None, :]
        for block in self.blocks:
            rows = block(rows, bias)
        return rows[:, -1].reshape(users, candidates, -1)


def timings(repetitions: int) -> list[Timing]:
    """Every model at every length: inference, a training step, shared histories, and the parts of MDAF."""
    found: list[Timing] = []
    for rows, length in HISTORIES:
        batch = draw(rows, length)
        models = {name: model_of(name, length) for name in MODELS}
        cases = {
            f"inference, {rows} x {length}": {n: _inference(m, batch) for n, m in models.items()},
            f"training step, {rows} x {length}": {n: _training(m, batch) for n, m in models.items()},
            f"{CANDIDATES} candidates of each of {USERS} histories of {length}": {
                n: _shared(m, length) for n, m in models.items()
            },
            f"parts of MDAF's inference, {rows} x {length}": _parts(models["MDAF"], batch),
        }
        for what, runs in cases.items():
            found += [Timing(what, n, s) for n, s in measure(runs, repetitions).items()]
    return found


def _inference(model: CtrModel, batch: Batch) -> Callable[[], object]:
    def run() -> None:
        model.eval()
        with torch.inference_mode():
            model(batch)

    return run


def _training(model: CtrModel, batch: Batch) -> Callable[[], object]:
    def run() -> None:
        model.train()
        model.zero_grad()
        binary_cross_entropy_with_logits(model(batch).logits, batch.labels).backward()

    return run


def _shared(model: CtrModel, length: int) -> Callable[[], object]:
    """Histories are encoded once, and every candidate of each is scored."""
    users, rows = draw(USERS, length), replace(draw(USERS * CANDIDATES, 1), sequences={})

    def run() -> None:
        model.eval()
        with torch.inference_mode():
            model(rows, model.encode_history(users))

    return run


def _parts(model: CtrModel, batch: Batch) -> dict[str, Callable[[], object]]:
    """Where the time of MDAF goes."""
    backbone = next(part for part in model.modules() if isinstance(part, MDAF))
    cross = backbone.branches["cross"]
    model.eval()
    with torch.inference_mode():
        fields, state = model.embedding.fields(batch), model.encode_history(batch)

    def inferred(run: Callable[[], object]) -> Callable[[], object]:
        def timed() -> object:
            with torch.inference_mode():
                return run()

        return timed

    def read(history: HistoryState) -> object:
        assert model.history is not None
        return model.history.read(history, fields, batch.categorical)

    return {
        "cross networks": inferred(lambda: cross(fields)),
        "encoding of the history": inferred(lambda: model.encode_history(batch)),
        "reading by the target": inferred(lambda: read(state)),
    }


def peak_memory(name: str, rows: int, length: int, *, training: bool) -> float:
    """Megabytes that a training step, or inference, adds at most to a process with the model in memory."""
    code = f"import sequence; print(sequence.added_memory({name!r}, {rows}, {length}, {training}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, check=True, capture_output=True, text=True
    )
    return float(json.loads(done.stdout))


def added_memory(name: str, rows: int, length: int, training: bool) -> float:
    """See `peak_memory`, which calls this in a process of its own, as a peak is one of a whole process."""
    model, batch = model_of(name, length), draw(rows, length)
    kind = _training if training else _inference
    kind(model, draw(2, length))()  # what is loaded and compiled on first use does not count
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten; Linux only
    before = peak()
    kind(model, batch)()
    return peak() - before


def peak() -> float:
    """Megabytes of memory that the process has had at most."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


def memories() -> dict[str, dict[str, float]]:
    """Peak memory of every model at every length."""
    return {
        f"{'training step' if training else 'inference'}, {rows} x {length}": {
            name: peak_memory(name, rows, length, training=training) for name in MODELS
        }
        for rows, length in HISTORIES
        for training in (False, True)
    }


def timing_table(found: Sequence[Timing]) -> Table:
    """Medians, and how many times as fast MDAF is."""
    shown = Table("what", "model", "median, ms", "MDAF is", title="medians, in turn")
    own = {one.what: one.median for one in found if one.model == "MDAF"}
    for one in found:
        ratio = f"{one.median / own[one.what]:.2f} x" if one.what in own else ""
        shown.add_row(one.what, one.model, f"{one.median * 1e3:.1f}", ratio)
    return shown


def memory_table(found: Mapping[str, Mapping[str, float]]) -> Table:
    """Peaks, each of a process of its own."""
    shown = Table("what", *MODELS, title="memory that it adds at most, MB")
    for what, of in found.items():
        shown.add_row(what, *(f"{of[name]:.0f}" for name in MODELS))
    return shown
