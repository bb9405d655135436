"""`ctrkit explain`: what a model's predictions depend on, and what contributed to those of single rows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from ctrkit.api.explanation.results import ModelExplanation, RowsExplanation
from ctrkit.api.keywords import takes_settings
from ctrkit.api.models.labelled import labelled_rows, seen_in_training, table_or_own
from ctrkit.api.models.model import Model, load
from ctrkit.api.models.training_config import TrainConfig, read_training_table
from ctrkit.api.run_folder import run_folder
from ctrkit.arrays import Floats, Integers
from ctrkit.config import Config, ConfigLike, settings_of
from ctrkit.data.encoded import EncodedTable
from ctrkit.errors import ConfigError, DataError, nearest
from ctrkit.explanations import (
    HIDDEN,
    Attributions,
    Dependence,
    EmbeddingMap,
    Importance,
    Names,
    attention_weights,
    deepshap,
    explain_rows,
    fusion_gates,
    integrated_gradients,
    lay_out,
    partial_dependence,
    permutation_importance,
    sample,
    shapley_values,
    table_vectors,
    take,
    units,
)
from ctrkit.explanations.features import position_of
from ctrkit.explanations.maps import TableVectors
from ctrkit.models import CtrModel
from ctrkit.progress import OnStep, silent
from ctrkit.tables import TableLike
from ctrkit.training import predict

# The number of rows over which the mean embedding, the baseline, is taken.
_MEAN_ROWS = 4096
# A field with fewer values is mapped only if `map_of` names it.
_FEWEST_POINTS = 8


class ExplainConfig(Config):
    """What to explain, and how.

    Attributes:
        method: attribution method: "ig" (integrated gradients, for every model), "deepshap" (for models that
            allow it) or "shap" (Shapley values of the features, for every model, slower). The default is
            "ig"; without captum, the explanation of a whole model then leaves attributions out.
        task: task whose logit is explained (default the first). A later task is given the task before it.
        baseline: baseline of integrated gradients: "mean", or "unknown" for the out-of-vocabulary embeddings.
        steps: number of steps of the integral of integrated gradients.
        tolerance: largest relative gap of a row's shares before it gets more steps.
        most_steps: largest number of steps of the integral.
        background: number of rows that deepshap and shap compare with.
        estimator: estimator of shap.
        permutations: number of feature orders of shap, for each row.
        rows: largest number of rows for importance and the map.
        attributed_rows: number of rows over which the mean |share| is taken.
        repeats: number of times each feature is shuffled.
        confidence: confidence level of the intervals of importance.
        features: features whose partial dependence is shown; by default the most important ones.
        top: number of features whose partial dependence is shown by default.
        grid: number of values of each of these features.
        dependence_rows: number of rows in the partial dependence.
        map: layout of the map of embeddings.
        map_of: categorical feature that is mapped, or "hidden" for the last layer's inputs; by default the
            most important feature with at least 8 values.
        colour: colour of the map's points.
        seed: seed of everything random.
    """

    method: Literal["ig", "deepshap", "shap"] | None = None
    task: str | None = None
    baseline: Literal["mean", "unknown"] = "mean"
    steps: int = Field(default=64, ge=2)
    tolerance: float = Field(default=0.01, gt=0.0)
    most_steps: int = Field(default=1024, ge=2)
    background: int = Field(default=64, ge=2)
    estimator: Literal["permutation", "sampling"] = "permutation"
    permutations: int = Field(default=10, ge=1)
    rows: int = Field(default=5000, ge=20)
    attributed_rows: int = Field(default=200, ge=1)
    repeats: int = Field(default=5, ge=2)
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    features: tuple[str, ...] = ()
    top: int = Field(default=4, ge=0)
    grid: int = Field(default=20, ge=2)
    dependence_rows: int = Field(default=300, ge=1)
    map: Literal["pca", "tsne", "umap", "none"] = "pca"
    map_of: str | None = None
    colour: Literal["rate", "frequency"] = "rate"
    seed: int = Field(default=0, ge=0)

    keyword_names: ClassVar[Mapping[str, str]] = {"rows": "most_rows"}


@takes_settings(ExplainConfig)
def explain(
    model: str | os.PathLike[str] | Model = "model.pt",
    data: TableLike | None = None,
    *,
    rows: Sequence[int] = (),
    config: ConfigLike = None,
    overrides: Sequence[str] = (),
    out: str | os.PathLike[str] | None = None,
    on_step: OnStep = silent,
    **keywords: Any,
) -> ModelExplanation | RowsExplanation:
    """Explain a model as a whole or, if rows are given, the probabilities of these rows.

    A model as a whole is explained on labelled rows where the task can happen: the test rows of the table
    that it was trained on, or all rows of any other table. Single rows need no labels.

    Args:
        model: an artifact's path, or a model in memory.
        data: a table; by default the table that the model was trained on.
        rows: indices of the rows to explain, from 0.
        config: a config file, or settings as a mapping.
        overrides: settings as `key=value`, which replace those of the config.
        out: the run folder; None for none.
        on_step: called with (steps done, number of steps, what is being done).

    Raises:
        ConfigError: an unknown task, a method that does not work for the model, or a package of the extra
            `ctrkit[explain]` is not installed.
        DataError: a faulty table, a row index outside it, or an unknown feature.

    Example:
        >>> import ctrkit, polars
        >>> rows = polars.read_parquet(ctrkit.sample_logs().files[-1])  # impressions
        >>> model = ctrkit.train(data=rows[:5_000], network="lr").trained
        >>> result = ctrkit.explain(model, rows[5_000:7_000], rows=[7])
        >>> result.rows[0].row
        7
    """
    settings = settings_of(ExplainConfig, config, overrides, keywords)
    with run_folder(out, "explain") as run:
        loaded = model if isinstance(model, Model) else load(model)
        path = None if isinstance(model, Model) else os.fspath(model)
        explained = _Explained(loaded, path, settings, on_step)
        result = explained.rows(data, rows) if rows else explained.model(data)
        run.write(settings, result)
    return result


class _Explained:
    """One model to explain, with the settings."""

    def __init__(self, model: Model, path: str | None, settings: ExplainConfig, on_step: OnStep) -> None:
        self.loaded, self.path, self.settings, self.on_step = model, path, settings, on_step
        self.network, self.names = model.network, Names(model.encoder)
        self.task = settings.task or model.tasks[0]
        if self.task not in model.tasks:
            raise ConfigError(f"the model has no task '{self.task}'", hint=nearest(self.task, model.tasks))
        self.index = model.tasks.index(self.task)
        # What only networks have: gradients, embeddings, attention.
        self.inside = model.network if isinstance(model.network, CtrModel) else None
        self.method = settings.method or ("shap" if self.inside is None else "ig")
        for feature in settings.features:
            position_of(self.network.feature_map, feature)
        chosen = settings.map_of
        if chosen is not None and chosen not in (HIDDEN, *self.network.feature_map.categorical):
            known = (*self.network.feature_map.categorical, HIDDEN)
            raise DataError(f"'{chosen}' is no categorical feature to map", hint=nearest(chosen, known))

    def probabilities(self, logits: Floats, rows: EncodedTable) -> Floats:
        """Probabilities of the task: calibrated, or the model's own before `ctrkit calibrate`."""
        return self.loaded.probabilities(logits, rows)[self.task]

    def rows(self, data: TableLike | None, rows: Sequence[int]) -> RowsExplanation:
        """Explain single rows."""
        table, file = self._table(data)
        for row in rows:
            if not 0 <= row < table.height:
                raise DataError(
                    f"there is no row {row}",
                    file=file,
                    hint=f"The table has {table.height:,} rows, numbered from 0 to {table.height - 1}",
                )
        numbers = list(dict.fromkeys(rows))
        seed = self.settings.seed
        behind = table[sample(table.height, _MEAN_ROWS, seed)]
        background = self.loaded.encoder.encode(behind, file, labels=False)
        chosen = self.loaded.encoder.encode(table[numbers], file, labels=False)
        found = self._attributions(chosen, background)
        attention = () if self.inside is None else attention_weights(self.inside, chosen)
        logits = predict(self.network, chosen).logits

        def probability_of(row: int, passed: Floats) -> Floats:
            """The row's probabilities at these logits; its other tasks and its segment stay as they are."""
            same = np.full(passed.size, row)
            changed = logits[same]
            changed[:, self.index] = passed
            return self.probabilities(changed, take(chosen, same))

        explained = explain_rows(found, chosen, self.names, numbers, attention, probability_of)
        return RowsExplanation(
            self.path,
            self.task,
            self.method,
            self._baseline(),
            explained,
            (*self._notes(), _gap_note(found)),
        )

    def model(self, data: TableLike | None) -> ModelExplanation:
        """Explain the model as a whole."""
        rows, of_rows = self._labelled(data)
        notes = [*of_rows, *self._notes()]
        importance = permutation_importance(
            self.network,
            rows,
            self.probabilities,
            task=self.index,
            repeats=self.settings.repeats,
            confidence=self.settings.confidence,
            seed=self.settings.seed,
            on_step=self.on_step,
        )
        importance = tuple(sorted(importance, key=lambda one: -one.auc.value))
        self.on_step(0, 1, "attributions")
        found = None
        try:
            if self.settings.method is None and self.inside is None:
                raise ConfigError(
                    "this model has no gradients", hint="The method shap, which is slower, gives them"
                )
            chosen = take(rows, sample(len(rows), self.settings.attributed_rows, self.settings.seed))
            found = self._attributions(chosen, rows)
        except ConfigError as error:
            if self.settings.method is not None:
                raise
            notes.append(f"Attributions are left out: {error}")
        shares = None
        if found is not None:
            sizes = found.mean_absolute[: len(units(self.network.feature_map))]
            shares = dict(zip(units(self.network.feature_map), sizes.tolist(), strict=True))
            notes.append(f"Shares are means over {len(found):,} rows. {_gap_note(found)}")
        self.on_step(0, 1, "partial dependence and map")
        return ModelExplanation(
            self.path,
            self.task,
            len(rows),
            importance,
            self.method,
            shares,
            None if found is None else float(np.abs(found.gap).max()),
            () if self.inside is None else fusion_gates(self.inside, rows),
            tuple(self._dependence(rows, feature) for feature in self._shown(importance)),
            self._map(rows, importance),
            self.settings.colour == "frequency",
            tuple(notes),
        )

    def _table(self, data: TableLike | None) -> tuple[pl.DataFrame, str | None]:
        config = TrainConfig.model_validate(self.loaded.artifact.config)
        return read_training_table(config, table_or_own(self.loaded, data))

    def _labelled(self, data: TableLike | None) -> tuple[EncodedTable, list[str]]:
        """The rows that a model is explained on, and notes about them."""
        found = labelled_rows(self.loaded, data)
        chosen: Integers
        if found.split is None:
            chosen, what = np.arange(len(found.encoded)), "rows of a table other than the training table"
        else:
            chosen, what = found.split.test, "test rows of the training table"
        chosen = found.counted(chosen)
        chosen = chosen[~np.isnan(found.encoded.labels[chosen, self.index])]
        if self.index:
            chosen = chosen[found.encoded.labels[chosen, self.index - 1] == 1]
            what = f"{what} with a {self.loaded.tasks[self.index - 1]}"
        if not chosen.size:
            raise DataError(f"there are no {what}", file=found.file, hint="Give a larger table")
        kept = chosen[sample(chosen.size, self.settings.rows, self.settings.seed)]
        notes = [f"The model is explained on {kept.size:,} of {chosen.size:,} {what}."]
        seen = None if found.split is not None else seen_in_training(self.loaded, found.table, found.encoded)
        if seen is not None:
            notes.append(
                f"The model was trained on about {seen:.0%} of these rows: what it learnt by heart of them "
                "counts as importance. Give rows that it has not seen."
            )
        return take(found.encoded, kept), notes

    def _attributions(self, data: EncodedTable, background: EncodedTable) -> Attributions:
        settings, inside = self.settings, self.inside
        if self.method != "shap" and inside is None:
            raise ConfigError(
                f"the method '{self.method}' needs the gradients of a network, and this model has none",
                hint="Use the method shap",
            )
        if self.method == "ig" and inside is not None:
            return integrated_gradients(
                inside,
                data,
                take(background, sample(len(background), _MEAN_ROWS, settings.seed)),
                task=self.index,
                baseline=settings.baseline,
                steps=settings.steps,
                tolerance=settings.tolerance,
                most_steps=settings.most_steps,
            )
        others = take(background, sample(len(background), settings.background, settings.seed))
        if self.method == "deepshap" and inside is not None:
            return deepshap(inside, data, others, task=self.index)
        return shapley_values(
            self.network,
            data,
            others,
            task=self.index,
            estimator=settings.estimator,
            permutations=settings.permutations,
            seed=settings.seed,
        )

    def _baseline(self) -> str:
        """What a row is compared with, in words."""
        if self.method != "ig":
            return f"the mean of {self.settings.background} background rows"
        return "the mean row" if self.settings.baseline == "mean" else "a row of unknown values"

    def _notes(self) -> list[str]:
        if self.task in self.loaded.calibrators:
            return []
        return [f"{self.task} is not calibrated: probabilities are the model's own."]

    def _shown(self, importance: Sequence[Importance]) -> Sequence[str]:
        """The features whose partial dependence is shown."""
        fields = (*self.network.feature_map.categorical, *self.network.feature_map.numeric)
        ranked = [one.feature for one in importance if one.feature in fields]
        return self.settings.features or ranked[: self.settings.top]

    def _dependence(self, rows: EncodedTable, feature: str) -> Dependence:
        return partial_dependence(
            self.network,
            rows,
            self.probabilities,
            self.names,
            feature,
            rows=sample(len(rows), self.settings.dependence_rows, self.settings.seed),
            grid=self.settings.grid,
        )

    def _map(self, rows: EncodedTable, importance: Sequence[Importance]) -> EmbeddingMap | None:
        """The map of a field's embeddings or of "hidden"; None if no map is wanted."""
        settings = self.settings
        if self.inside is None and settings.map_of is not None:
            raise ConfigError(
                "a map shows vectors of a network, and this model has none", hint="Leave out `map_of`"
            )
        if self.inside is None or settings.map == "none":
            return None
        of, vectors = settings.map_of, None
        if of is None:
            of, vectors = self._largest(rows, importance)
        elif of != HIDDEN:
            vectors = self._vectors(rows, of)
        if vectors is None:
            outputs = predict(self.network, rows)
            p, hidden = self.probabilities(outputs.logits, rows), outputs.hidden
            names = tuple(str(row) for row in range(len(rows)))
            vectors = TableVectors(hidden.astype(np.float64), names, np.ones(len(rows), dtype=np.int64), p)
        points, explained = lay_out(vectors.vectors, settings.map, seed=settings.seed)
        return EmbeddingMap(of, settings.map, points, vectors.names, vectors.rows, vectors.rate, explained)

    def _largest(
        self, rows: EncodedTable, importance: Sequence[Importance]
    ) -> tuple[str, TableVectors | None]:
        """The most important field with enough values, or "hidden" if there is none."""
        if self.inside is not None and self.inside.embedding is not None:
            for one in importance:
                if one.feature in self.network.feature_map.categorical:
                    vectors = self._vectors(rows, one.feature)
                    if len(vectors.names) >= _FEWEST_POINTS:
                        return one.feature, vectors
        return HIDDEN, None

    def _vectors(self, rows: EncodedTable, field: str) -> TableVectors:
        assert self.inside is not None
        return table_vectors(self.inside, rows, self.names, field, task=self.index)


def _gap_note(found: Attributions) -> str:
    """A note on how exactly the shares add up."""
    largest = float(np.abs(found.gap).max())
    return f"The shares of a row add up to its logit difference with an error of at most {largest:.1g}."
