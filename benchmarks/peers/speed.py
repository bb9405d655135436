"""Training and inference rows per second of CPU time, one thread, by each library's own loader and steps."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from peers.libraries import LIBRARIES, load
from peers.tables import Library, Settings, Start, Task, set_threads, wide

SETTINGS = Settings(embedding=16, dnn=(400, 400, 400), cross_layers=3, batch_size=4096)
MODELS = ("deepfm", "dcnv2")
# Number of ids, and who is timed: the larger is about the optimizer, and all peers update all rows alike.
IDS = {490_000: tuple(LIBRARIES), 4_900_000: ("ctrkit", "FuxiCTR")}
PREDICTIONS = 3  # a turn: they are quick, and so more exposed to what else the machine does
ROWWISE = "ctrkit, row-wise"


@dataclass(frozen=True)
class Speed:
    """Medians over the repetitions.

    Attributes:
        library: ctrkit comes twice, with Adam over all rows of the embeddings, as the others have it, and
            with its row-wise one.
        train, predict: rows per second of CPU time.
    """

    ids: int
    model: str
    library: str
    train: float
    predict: float


def speeds(
    libraries: Sequence[str], ids: int, model: str, repetitions: int, train: int, test: int
) -> list[Speed]:
    """Time one model in all libraries.

    All are built first and train one epoch unmeasured, in which optimizers make their state. Then they take
    turns, so that what else the machine does falls on all alike. Files are read before, and no checkpoint is
    written: what is timed is batching, forward, backward and optimizer.
    """
    set_threads(1)
    task = wide(ids, train, test)
    entrants = {ROWWISE: "ctrkit", **{name: name for name in libraries if name in IDS[ids]}}
    with tempfile.TemporaryDirectory() as scratch:
        built = {name: _build(name, library, model, task, scratch) for name, library in entrants.items()}
        seconds = np.array([[_seconds(one) for one in built.values()] for _ in range(1 + repetitions)])
    medians = np.median(seconds[1:], axis=0)  # [libraries, 2]
    return [
        Speed(ids, model, name, train / float(own[0]), test / float(own[1]))
        for name, own in zip(built, medians, strict=True)
    ]


def _build(name: str, library: str, model: str, task: Task, scratch: str) -> Library:
    settings = replace(SETTINGS, optimizer="rowwise") if name == ROWWISE else SETTINGS
    return load(library)(model, task, settings, Start(0, settings.std, task.rate), Path(scratch))


def _seconds(library: Library) -> tuple[float, float]:
    """CPU time of an epoch, and of scoring the test rows."""
    begin = time.process_time()
    library.train()
    trained = time.process_time()
    for _ in range(PREDICTIONS):
        library.predict()
    return trained - begin, (time.process_time() - trained) / PREDICTIONS
