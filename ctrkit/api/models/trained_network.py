"""Training of a network, after a search for its config where there is one, and its posterior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from ctrkit.api.models.before_training import Notes
from ctrkit.api.models.model import load
from ctrkit.api.models.stored_rows import raw_rows
from ctrkit.api.models.training_config import TrainConfig
from ctrkit.api.models.training_rows import TrainingRows
from ctrkit.artifact import versions
from ctrkit.data.sampling import sampled
from ctrkit.data.split import Split
from ctrkit.data.unlike import spread
from ctrkit.data.versions import version_of
from ctrkit.errors import ConfigError
from ctrkit.models import CtrModel, ModelConfig, Scorer, ScorerConfig, build_scorer
from ctrkit.models.base import Cross
from ctrkit.models.lightgbm import LightGBM
from ctrkit.models.model import linear_terms
from ctrkit.nn.linear_terms import LinearTerms
from ctrkit.policies.laplace import LastLayerPosterior
from ctrkit.progress import OnStep
from ctrkit.tables.chunks import first_columns
from ctrkit.training import TrainingConfig, TrainingHistory, fit, predict
from ctrkit.training.boosting import fit_trees
from ctrkit.training.crosses import choose_crosses
from ctrkit.training.linear_start import start_linear_terms

_NO_GAIN = (
    "On the validation rows the network is no better than the linear terms that it starts from, so these "
    "were kept. `model.name=lr` trains them alone, in a fraction of the time."
)
# Of more rows some are read, spread over all: linear terms hold all their columns in memory while they are
# fitted, and the posterior holds what the last layer reads.
LINEAR_ROWS, POSTERIOR_ROWS = 1 << 21, 1 << 20
# In the run folder until all is done: a resumed run finds a finished search there.
_CHECKPOINT, _OF_SEARCH = "checkpoint.pt", "search.pt"


@dataclass(frozen=True)
class NetworkTraining:
    """The training of a run's networks, each from new weights and with a checkpoint of its own.

    Attributes:
        config: the config of the run.
        rows: the rows.
        folder: folder of the checkpoints; None for no checkpoints.
        notes: receives the notes.
        on_step: called with (steps done, number of steps, what is being done).
        teacher_logits: logits of the config's teacher for all rows; None without a teacher.
    """

    config: TrainConfig
    rows: TrainingRows
    folder: Path | None
    notes: Notes
    on_step: OnStep
    teacher_logits: NDArray[np.float32] | None

    @cached_property
    def read(self) -> Split:
        """The rows of each part that are read."""
        return sampled(self.rows.split, self.rows.encoded.labels, self.config.sampling, self.config.seed)

    def search(self) -> ScorerConfig:
        """The config of the model with all that it leaves to be found.

        Crosses "auto" become those that the training rows give evidence of. A model whose config `searches`
        is trained once for its search.
        """
        model = self.config.model
        if not isinstance(model, ModelConfig):
            return model
        if model.crosses == "auto":
            model = model.model_copy(update={"crosses": self._crosses(model)})
        if model.searches:
            network, _ = self._trained(model, _OF_SEARCH, "search, ")
            assert isinstance(network, CtrModel)
            model = network.derive()
        return model

    def train(self, model: ScorerConfig) -> tuple[Scorer, TrainingHistory]:
        """A trained model of all rows with its best weights, and its history."""
        network, history = self._trained(model, _CHECKPOINT, "")
        if self.config.sampling.kept_negatives < 1.0:
            network.shift(self.config.sampling.shift)
            kept, rows = self.config.sampling.kept_negatives, self.rows.split.train.size
            self.notes.append(
                f"Training read {self.read.train.size:,} of {rows:,} rows: all with the first label, and "
                f"{kept:.3g} of the others. Predictions are those of all rows."
            )
        if (hard := self.config.sampling.hard_negatives) is not None:
            self.notes.append(
                f"Each epoch read all positives and {hard.kept:.3g} of the negatives, drawn by their scores."
                " A row counts by the inverse of its chance, so predictions are those of all rows."
            )
        if balance := self.config.sampling.balance:
            told = ", ".join(f"{share:.3g} with a {task}" for task, share in balance.items())
            self.notes.append(
                f"Of the rows that an epoch read, these shares were there: {told}. A row counts by the"
                " inverse of how often it is read, so predictions are those of all rows."
            )
        return network, history

    def posterior(self, network: Scorer) -> LastLayerPosterior | None:
        """The Laplace posterior of the first task's last layer; None for a model without such a layer.

        Rows that were not read make the model no surer. So the rows that were read decide, with the logits
        that the model had of them.
        """
        layer, rows, shift = network.last_layer, self.read.train, self.config.sampling.shift
        if layer is None:
            return None
        every, rows = rows.size, spread(rows, POSTERIOR_ROWS)
        hidden = predict(network, self.rows.encoded, rows).hidden
        mass = self.rows.encoded.weight[rows] * np.float32(every / rows.size)
        weights, bias = layer.weight.detach().double().numpy()[0], float(layer.bias.item()) - shift
        found = LastLayerPosterior.fit(hidden, weights, bias, row_weight=mass)
        return replace(found, mean=found.mean + shift * (np.arange(found.mean.size) == weights.size))

    def remove_checkpoints(self) -> None:
        """Delete the checkpoints, after all results are written."""
        for name in (_OF_SEARCH, _CHECKPOINT):
            if (file := self._file(name)) is not None:
                file.unlink(missing_ok=True)

    def _crosses(self, model: ModelConfig) -> tuple[Cross, ...]:
        self.on_step(0, 1, "choosing crosses of fields")
        feature_map = self.rows.encoder.feature_map().with_bins(model.embedding.bins)

        def terms_with(crosses: Sequence[Cross]) -> LinearTerms:
            terms = linear_terms(model.model_copy(update={"crosses": tuple(crosses)}), feature_map)
            assert terms is not None
            return terms

        return choose_crosses(terms_with, self.rows.encoded, self.read.train, self.read.valid)

    def _taught(self) -> NDArray[np.float32] | None:
        """The teacher's logits, of the rows that are read: their odds are higher than those of all rows."""
        if self.teacher_logits is None:
            return None
        taught = self.teacher_logits.copy()
        taught[:, 0] -= self.config.sampling.shift
        return taught

    def _file(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / name

    def _trained(
        self, model: ScorerConfig, checkpoint: str, stage: str
    ) -> tuple[CtrModel | LightGBM, TrainingHistory]:
        encoded, split, seed = self.rows.encoded, self.read, self.config.seed
        torch.manual_seed(seed)
        network = build_scorer(model, self.rows.encoder.feature_map())
        rates = base_rates(encoded.labels[split.train], encoded.weight[split.train])
        if isinstance(network, LightGBM):
            network.set_base_rates(rates)
            history = fit_trees(network, encoded, split, seed=seed, on_step=self.on_step)
            self.notes.extend(history.notes)
            return network, history
        if not isinstance(network, CtrModel):
            raise ConfigError(f"the model '{model.name}' is not trained here", hint="Use `ctrkit import`")
        network.set_base_rates(rates)
        if encoded.value is not None:
            converted = split.train[encoded.labels[split.train, -1] > 0]
            mass = encoded.weight[converted] * encoded.labels[converted, -1]
            network.set_value_base(*value_base(encoded.value[converted], mass))
        if network.linear is not None:
            self.on_step(0, 1, stage + "fitting linear terms")
            fitted = spread(split.train, LINEAR_ROWS)
            if fitted.size < split.train.size:
                self.notes.append(
                    f"The linear terms were fitted to {fitted.size:,} of {split.train.size:,} training rows,"
                    " spread over all of them."
                )
            start_linear_terms(network, encoded, fitted, spread(split.valid, LINEAR_ROWS))
        deciding = {name: versions()[name] for name in ("ctrkit", "torch", "numpy")}
        steps = self.config.takes_steps
        training = self.config.training if steps else TrainingConfig().model_copy(update={"epochs": 0})
        history = fit(
            network,
            encoded,
            split,
            training,
            seed=seed,
            identity={"model": model.model_dump(mode="json"), "versions": deciding},
            checkpoint=self._file(checkpoint),
            teacher_logits=self._taught(),
            validate_first=network.linear is not None,
            hard_negatives=self.config.sampling.hard_negatives,
            shares=self.config.sampling.shares(self.config.features.tasks),
            on_step=lambda done, total, what: self.on_step(done, total, stage + what),
        )
        self.notes.extend(history.notes)
        if network.linear is not None and steps and history.best["epoch"] == 0:
            self.notes.append(_NO_GAIN)
        return network, history


def base_rates(labels: NDArray[np.float32], weight: NDArray[np.float32]) -> list[float]:
    """The rate of each task where it can happen, from labels [n, T], NaN where one is not known, and weights
    [n]; one half for a task that cannot happen."""
    mass = weight.astype(np.float64)
    positives, possible = [], []
    for task, column in enumerate(labels.T):
        known = ~np.isnan(column)
        positives.append(mass[known] @ column[known])
        possible.append(mass[known] @ labels[known, task - 1] if task else mass[known].sum())
    # One more row, half positive and half negative, with at most the mean weight.
    row = min(1.0, float(mass[mass > 0].mean()))
    return [float((p + 0.5 * row) / (n + row)) for p, n in zip(positives, possible, strict=True)]


def value_base(value: NDArray[np.float32], weight: NDArray[np.float32]) -> tuple[float, float, float]:
    """Share of values above 0, and mean and standard deviation of the logarithm of these, from values [n] and
    weights [n] of the rows whose last label is above 0."""
    above, mass = value > 0, weight.astype(np.float64)
    logarithm, shares = np.log(value[above].astype(np.float64)), mass[above] / mass[above].sum()
    mean = float(shares @ logarithm)
    deviation = float(np.sqrt(shares @ (logarithm - mean) ** 2))
    return float(mass[above].sum() / mass.sum()), mean, deviation


def teacher_logits(config: TrainConfig, rows: TrainingRows) -> NDArray[np.float32] | None:
    """Logits [n, T] of the config's teacher for all rows; None without a teacher.

    Rows on disk are read part by part: the encoded rows where the teacher has the same features in the same
    version, else the raw rows.

    Raises:
        ConfigError: the teacher has other tasks.
        DataError: the rows lack a column that the teacher reads, or the raw files of rows on disk are missing
            or have changed.
    """
    if config.training.loss.distillation is None or config.unread:
        return None
    file = config.training.loss.distillation.teacher
    teacher = load(file)
    if teacher.tasks != config.features.tasks:
        raise ConfigError(
            f"the teacher predicts {', '.join(teacher.tasks)}, not {', '.join(config.features.tasks)}",
            file=file,
            hint="Name a teacher with the same tasks in training.loss.distillation",
        )
    if rows.table is not None:
        return teacher.outputs(rows.table).logits.astype(np.float32)
    assert rows.store is not None
    if version_of(teacher.encoder) == version_of(rows.encoder):
        return predict(teacher.network, rows.encoded, hidden=False).logits.astype(np.float32)
    with raw_rows(rows.store) as raw:
        present = first_columns(raw.source)
        if teacher.rows.lacks(present):  # it derives columns, which needs all rows
            whole = pl.concat([part.table for part in raw.chunks(present)], how="vertical_relaxed")
            return teacher.outputs(whole).logits.astype(np.float32)
        read = (*teacher.spec.static_columns, *(sequence.name for sequence in teacher.spec.sequences))
        parts = (teacher.outputs(part.table).logits for part in raw.chunks(read))
        return np.concatenate([part.astype(np.float32) for part in parts])
