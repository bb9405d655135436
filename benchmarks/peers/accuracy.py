"""Test AUC of the same model in every library, on the same rows, from the same start, in the same order."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import torch

from ctrkit.metrics import auc
from peers.libraries import LIBRARIES, load
from peers.tables import Settings, Start, Task, set_threads, synthetic_market, trivago_lists

SETTINGS = Settings()
EPOCHS = {"market": 2, "trivago": 1}
MARKET_ROWS = 400_000


@dataclass(frozen=True)
class Run:
    """One training."""

    data: str
    model: str
    library: str
    seed: int
    folder: Path


@dataclass(frozen=True)
class Score:
    """What came of a training."""

    run: Run
    auc: float
    parameters: int


def runs(folder: Path, libraries: Iterable[str], models: Iterable[str], seeds: int) -> list[Run]:
    """Every training of the comparison; libraries without a model are left out of it."""
    return [
        Run(data, model, library, seed, folder)
        for data in EPOCHS
        for model in models
        for library in libraries
        if model in LIBRARIES[library].models
        for seed in range(seeds)
    ]


def scores(trainings: Sequence[Run], jobs: int) -> Iterator[Score]:
    """Train and score, `jobs` at a time in processes of their own, in the order given."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(score, trainings)


def score(run: Run) -> Score:
    """Train a model of a library and score the test rows.

    Models other than DIN get the static fields alone. Rows come in the same order in every library, as all
    shuffle by torch's data loader and its global generator is seeded before each epoch.
    """
    set_threads(1)
    task = _task(run.data, run.folder)
    task = task if run.model == "din" else task.static()
    with tempfile.TemporaryDirectory() as scratch:
        start = Start(run.seed, SETTINGS.std, task.rate)
        library = load(run.library)(run.model, task, SETTINGS, start, Path(scratch))
        for epoch in range(EPOCHS[run.data]):
            torch.manual_seed(1000 * run.seed + epoch)
            library.train()
        found = auc(task.test.labels[:, 0], library.predict())
    return Score(run, found, sum(parameter.numel() for parameter in library.model.parameters()))


@cache
def _task(name: str, folder: Path) -> Task:
    return synthetic_market(MARKET_ROWS) if name == "market" else trivago_lists(folder)
