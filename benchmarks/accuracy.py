"""How accurate ctrkit's models are beside what a user would pick instead: data sets × models × seeds.

    python benchmarks/accuracy.py [--data market-63k mind] [--models mdaf din lightgbm-counts] [--seeds 3]
                                  [--folder FOLDER] [--out table.json] [--threads 1] [--causes]

A model is a rival (`lightgbm-static`, `lightgbm-counts`, `lr-static`, `lr-counts`, `lr-pairs`; see
`benchmarks/hand_made.py`) or a name of `ctrkit models`, with settings of its config behind it:
`--models mdaf "mdaf training.epochs=8 model.width=128"`. A network of the name that the data set's config has
gets the settings of that config, another network its defaults; both are trained as the config says.

Without `--folder` only the market runs. `--out` keeps every finished training, and a second run with the same
file makes only those that are missing. The first task is judged, before calibration. On the market a row of
true probability p counts as a click with weight p and as none with weight 1 - p.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from causes import parts, shares
from data_sets import DATA_SETS, WITHOUT_FOLDER, DataSet
from hand_made import HandMade, boosted_trees, hand_made, logistic_regression
from rich.console import Console
from rich.table import Table
from scipy.special import expit, logit
from scipy.stats import t

from ctrkit.api.models.before_training import Notes
from ctrkit.api.models.trained_network import NetworkTraining
from ctrkit.api.models.training_config import TrainConfig
from ctrkit.api.models.training_rows import TrainingRows
from ctrkit.arrays import Floats
from ctrkit.config import settings_of
from ctrkit.data.encoder import Encoder
from ctrkit.metrics import auc, log_loss, pcoc
from ctrkit.progress import silent
from ctrkit.tables import write_text
from ctrkit.training import predict

RIVALS = ("lr-static", "lr-counts", "lr-pairs", "lightgbm-static", "lightgbm-counts")
# Without a history these are their static twins.
OF_HISTORY = ("lr-counts", "lr-pairs", "lightgbm-counts")
# These have no random numbers, so that one training is enough.
WITHOUT_SEED = ("lr-static", "lr-counts", "lr-pairs")
SHOWN = {"auc": "AUC", "log_loss": "log loss", "excess": "log loss above the truth's × 1000", "pcoc": "PCOC"}


class Judge:
    """Trains models on one data set and measures them on its test rows."""

    def __init__(self, data: DataSet, threads: int) -> None:
        self.data, self.threads = data, threads
        self.encoded: TrainingRows | None = None
        self.made: HandMade | None = None

    def cell(self, model: str, seed: int) -> dict[str, Any]:
        """The measures of one training."""
        self._prepare(model)
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            p = self._rival(model, seed) if model in RIVALS else self._network(model, seed)
        return {**self.measures(p), "seconds": time.perf_counter() - started}

    def measures(self, p: Floats) -> dict[str, Any]:
        """Measures of probabilities of the test rows, `[n]`."""
        rows, truth = self.data.table[self.data.split.test], self.data.truth
        if truth is None:
            y = rows[next(iter(self.data.spec.labels.values()))].to_numpy()
            return {"auc": auc(y, p), "log_loss": log_loss(y, p), "pcoc": pcoc(y, p)}
        assert self.data.market is not None
        y, twice = np.repeat([1.0, 0.0], truth.size), np.tile(p, 2)
        weight = np.concatenate([truth, 1 - truth])
        lost = log_loss(y, twice, weight)
        found = shares(parts(self.data.market.population, rows), logit(p), truth)
        return {
            "auc": auc(y, twice, weight),
            "log_loss": lost,
            "excess": 1000 * (lost - log_loss(y, np.tile(truth, 2), weight)),
            "pcoc": pcoc(y, twice, weight),
            "causes": found,
        }

    def _prepare(self, model: str) -> None:
        """Encode rows and count histories once, outside of the time that a training takes."""
        if model in RIVALS:
            self.made = self.made or hand_made(self.data)
        elif self.encoded is None:
            encoder = Encoder.fit(self.data.spec, self.data.table, rows=self.data.split.train)
            rows = encoder.encode(self.data.table)
            self.encoded = TrainingRows(self.data.table, None, encoder, rows, self.data.split, {})

    def _rival(self, model: str, seed: int) -> Floats:
        assert self.made is not None
        kind, _, features = model.partition("-")
        if kind == "lightgbm":
            return boosted_trees(self.data, self.made, seed, self.threads, history=features == "counts")
        return logistic_regression(
            self.data, self.made, counts=features != "static", pairs=features == "pairs"
        )

    def _network(self, model: str, seed: int) -> Floats:
        """Train as `ctrkit.train` does."""
        assert self.encoded is not None
        name, *overrides = model.split()
        config = settings_of(
            TrainConfig, dict(self.data.config), [f"model.name={name}", *overrides, f"seed={seed}"]
        )
        training = NetworkTraining(config, self.encoded, None, Notes(), silent, None)
        network, _ = training.train(training.search())
        logits = predict(network, self.encoded.encoded, self.data.split.test).logits
        return expit(logits[:, 0])


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and half of its 95 % interval by Student's t; None for one value."""
    if len(values) < 2:
        return float(np.mean(values)), None
    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(half)


def summary(cells: Sequence[dict[str, Any]]) -> Table:
    """One line for each data set and model."""
    shown = Table("data", "model", "seeds", *SHOWN.values(), "seconds")
    shown.title = "test rows, before calibration: mean ± half of the 95 % interval over seeds"
    for (data, model), found in _by_model(cells).items():
        values = [_shown(found, key, 2 if key in ("excess", "pcoc") else 4) for key in SHOWN]
        shown.add_row(data, model, str(len(found)), *values, _shown(found, "seconds", 0))
    return shown


def cause_table(cells: Sequence[dict[str, Any]]) -> Table:
    """The share of each cause of a click that a model has found: 1 is all of it."""
    judged = [cell for cell in cells if "causes" in cell]
    names = list(judged[0]["causes"]) if judged else []
    shown = Table("data", "model", *names, title="share of each cause that was found, mean over seeds")
    for (data, model), found in _by_model(judged).items():
        shown.add_row(data, model, *(f"{np.mean([one['causes'][n] for one in found]):.2f}" for n in names))
    return shown


def _by_model(cells: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in cells:
        found.setdefault((cell["data"], cell["model"]), []).append(cell)
    return found


def _shown(cells: Sequence[dict[str, Any]], key: str, digits: int) -> str:
    values = [cell[key] for cell in cells if key in cell]
    if not values:
        return "—"
    mean, half = interval(values)
    return f"{mean:,.{digits}f}" + ("" if half is None else f" ± {half:.{digits}f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="models and rivals on data sets, over seeds")
    parser.add_argument("--data", nargs="+", choices=list(DATA_SETS), help="by default all that are there")
    parser.add_argument("--models", nargs="+", default=[*RIVALS, "lightgbm", "din", "mdaf"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="of the real logs")
    parser.add_argument("--out", type=Path, help="a JSON file that keeps finished trainings")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--causes", action="store_true", help="show which causes of a click were found")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    out, console, progress = arguments.out, Console(width=150), Console(stderr=True)
    cells: list[dict[str, Any]] = json.loads(out.read_text()) if out is not None and out.exists() else []
    wanted = arguments.data or (list(DATA_SETS) if arguments.folder else WITHOUT_FOLDER)
    for name in wanted:
        judge: Judge | None = None
        for model in arguments.models:
            for seed in range(1 if model in WITHOUT_SEED else arguments.seeds):
                key = {"data": name, "model": model, "seed": seed}
                if any(key.items() <= cell.items() for cell in cells):
                    continue
                judge = judge or Judge(DATA_SETS[name](arguments.folder), arguments.threads)
                if model in OF_HISTORY and not judge.data.spec.sequences:
                    continue
                cells.append({**key, **judge.cell(model, seed)})
                progress.print(f"{name}, {model}, seed {seed}: AUC {cells[-1]['auc']:.4f}")
                if out is not None:
                    write_text(json.dumps(cells, indent=2, ensure_ascii=False) + "\n", out)
    asked = [cell for cell in cells if cell["data"] in wanted and cell["model"] in arguments.models]
    console.print(summary(asked))
    if arguments.causes:
        console.print(cause_table(asked))


if __name__ == "__main__":
    main()
