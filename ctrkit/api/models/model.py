"""A trained model in use: from raw rows to calibrated probabilities."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.api.models.profile import profiles_from
from ctrkit.api.models.raw_rows import RowReader
from ctrkit.api.models.task_calibrators import TaskCalibrator, calibrated, segments_of
from ctrkit.arrays import Floats
from ctrkit.artifact import Artifact
from ctrkit.calibration import ValueScaling, told_apart
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import FeatureMap
from ctrkit.data.fingerprints import kept_keys
from ctrkit.data.raw_encoder import encoder_of
from ctrkit.errors import ArtifactError, DataError, DataWarning, InputError
from ctrkit.extras import MissingPackage
from ctrkit.policies import PolicyConfig, policy_config
from ctrkit.policies.candidates import candidate_rows
from ctrkit.policies.laplace import LastLayerPosterior
from ctrkit.schema import CANDIDATE_PREFIX, FeatureSpec, require_columns
from ctrkit.schema.features import IMPRESSION_VALUE, VALUE
from ctrkit.tables import TableLike

# Networks are imported only where one is opened or run: policies without a network need no torch.
if TYPE_CHECKING:
    from ctrkit.models import Scorer
    from ctrkit.training.prediction import Outputs


NO_BASE_RATE = (
    "The model was trained on positives with sampled negatives, so predictions order the items of a row and"
    " are no probabilities. Calibrate it on a log of impressions to make them so."
)


@dataclass(frozen=True)
class CandidateScores:
    """A model's scores of every candidate of every row. K is the longest list; missing candidates are NaN.

    Attributes:
        probabilities: task -> calibrated probabilities, [n, K], each task given the task before it. For the
            first task, candidates of a row that calibration made equal keep the order of their logits and
            differ in the last digits (`ctrkit.calibration.told_apart`).
        logits: logits of the first task, before calibration, [n, K].
        hidden: input of the first task's last layer, [n, K, D]; None unless requested, or without such a
            layer.
        value: expected value given the last task, [n, K]; None where the model predicts none.
    """

    probabilities: Mapping[str, Floats]
    logits: Floats
    hidden: NDArray[np.float32] | None = None
    value: Floats | None = None


class Model:
    """An artifact ready to predict.

    Raises:
        ArtifactError: a part of the artifact is damaged, or does not go with the others.
    """

    def __init__(self, artifact: Artifact) -> None:
        from ctrkit.models import build_scorer, model_config

        self.artifact = artifact
        with _part("encoder"):
            self.encoder = encoder_of(artifact.encoder)
        with _part("feature_map"):
            features = FeatureMap.from_dict(artifact.feature_map)
            _check_features(features, self.encoder.feature_map())
        with _part("config"):
            self.network: Scorer = build_scorer(model_config(_settings(artifact)), features)
        with _part("weights"):
            self.network.read_values_of(self.encoder)
            self.network.take_arrays(artifact.weights)
        with _part("posterior"):
            layer = self.network.last_layer
            weights = None if artifact.posterior is None else len(self.posterior.mean)
            if weights not in (None, 0 if layer is None else layer.in_features + 1):
                raise ValueError(f"it has {weights} weights")
        with _part("policy"):
            self.policy  # noqa: B018  (is checked)
        with _part("config"):
            self.rows = RowReader.of_artifact(self.spec, artifact.config)
        with _part("data"):
            _check_data(artifact.data)
        with _part("calibrators"):
            states = dict(artifact.calibrators)
            scaling = states.pop(VALUE, None) if self.spec.value is not None else None
            self.value_scaling = None if scaling is None else ValueScaling.from_state(scaling)
            self.calibrators: Mapping[str, TaskCalibrator] = {
                task: TaskCalibrator.from_state(state) for task, state in states.items()
            }
            for task, one in self.calibrators.items():
                if task not in self.tasks or one.field not in (None, *features.categorical):
                    raise ValueError(f"task '{task}' or field '{one.field}' is unknown")

    def set_calibrators(
        self, calibrators: Mapping[str, TaskCalibrator], value: ValueScaling | None = None
    ) -> None:
        """Use these calibrators (task -> calibrator) from now on, and that of the value if it is given."""
        self.calibrators = dict(calibrators)
        self.value_scaling = value or self.value_scaling
        states = {task: one.state() for task, one in calibrators.items()}
        scaling = {} if self.value_scaling is None else {VALUE: self.value_scaling.state()}
        self.artifact.calibrators = {**states, **scaling}

    @property
    def spec(self) -> FeatureSpec:
        """What the columns mean."""
        return self.encoder.spec

    @property
    def tasks(self) -> tuple[str, ...]:
        """Task names in funnel order."""
        return self.spec.tasks

    @property
    def has_base_rate(self) -> bool:
        """Whether predictions are probabilities. Those of a log of positives, whose negatives were sampled,
        are not before the first task is calibrated."""
        sampling = self.artifact.config.get("sampling", {})
        return sampling.get("negatives") is None or self.tasks[0] in self.calibrators

    @property
    def warnings_of_use(self) -> tuple[str, ...]:
        """What whoever reads predictions must know; empty where they are what they are called."""
        return () if self.has_base_rate else (NO_BASE_RATE,)

    def need_base_rate(self, use: str) -> None:
        """Check that predictions are probabilities.

        Args:
            use: what reads them, in the plural, for the message.

        Raises:
            ArtifactError: they are not.
        """
        if not self.has_base_rate:
            raise ArtifactError(
                f"the model was trained on positives with sampled negatives, and {use} need probabilities:"
                " its predictions only order the items of a row",
                hint="Calibrate it with `ctrkit calibrate` on a log of impressions with and without"
                f" {self.tasks[0]}",
            )

    @property
    def policy(self) -> PolicyConfig:
        """The policy of the artifact."""
        return policy_config(self.artifact.policy)

    @property
    def posterior(self) -> LastLayerPosterior:
        """The last-layer posterior of the first task."""
        if self.artifact.posterior is None:
            hint = "Train it again with `ctrkit train`"
            if self.network.last_layer is None:
                hint = "Its model has no last layer to have one: choose another policy, or train a network"
            raise ArtifactError("the artifact has no posterior", hint=hint)
        return LastLayerPosterior.from_state(self.artifact.posterior)

    def encode(self, frame: TableLike) -> EncodedTable:
        """The rows encoded for the network, without labels."""
        table, file = self.rows.read(frame, may_be_empty=True)
        return self.encoder.encode(table, file, labels=False)

    def outputs(self, frame: TableLike) -> Outputs:
        """The network's outputs for the rows of a table, before calibration."""
        return self.outputs_of(self.encode(frame))

    def outputs_of(self, rows: EncodedTable) -> Outputs:
        """`outputs` for encoded rows."""
        from ctrkit.training import predict

        return predict(self.network, rows)

    def predict(self, frame: TableLike) -> Any:
        """Calibrated probabilities, one column for each task, given the task before it.

        `click` is p(click), `conversion` is p(conversion | click); multiply them for p(conversion). Before
        `ctrkit calibrate` the probabilities are uncalibrated. Those of a model of sampled negatives are then
        no probabilities at all (`has_base_rate`).

        If the feature spec names a value, `value` is its expectation given the last task, and
        `impression_value` is the product of all columns before it: the expected value of an impression.

        Args:
            frame: a path or a pandas, Polars or Arrow table with the feature columns.

        Returns:
            A Polars DataFrame, or a pandas DataFrame with the same index if a pandas frame was given.

        Warns:
            DataWarning: the rows are unlike the training rows: almost all ids of a column are unknown, or
                numbers are far outside the training range and are clipped; or predictions are no
                probabilities.
        """
        table, file = self.rows.read(frame, may_be_empty=True)
        for note in (*self.encoder.unlike(table), *self.warnings_of_use):
            warnings.warn(note, DataWarning, stacklevel=2)
        columns = self.predictions(self.encoder.encode(table, file, labels=False))
        if type(frame).__module__.startswith("pandas"):
            import pandas as pd

            return pd.DataFrame(columns, index=frame.index)
        return pl.DataFrame(columns)

    def predictions(self, rows: EncodedTable) -> dict[str, Floats]:
        """The columns of `predict` for encoded rows."""
        of_value = () if self.spec.value is None else (VALUE, IMPRESSION_VALUE)
        if not len(rows):
            return dict.fromkeys((*self.tasks, *of_value), np.empty(0))
        outputs = self.outputs_of(rows)
        columns = self.probabilities(outputs.logits, rows)
        if (value := self.values(outputs)) is not None:
            columns |= {VALUE: value, IMPRESSION_VALUE: value * np.prod(list(columns.values()), axis=0)}
        return columns

    def probabilities(self, logits: Floats, rows: EncodedTable) -> dict[str, Floats]:
        """Probabilities [n] of each task given the task before it, calibrated where there are calibrators.

        Args:
            logits: [n, T].
            rows: the rows of the logits; some calibrators read a field of them.
        """
        fields = tuple(self.network.feature_map.categorical)
        return calibrated(
            self.tasks, self.calibrators, logits, lambda field: segments_of(field, rows, fields)
        )

    def values(self, outputs: Outputs) -> Floats | None:
        """Expected values [n] given the last task, calibrated where possible; None without values."""
        expected = outputs.expected_value
        return expected if expected is None or self.value_scaling is None else self.value_scaling(expected)

    def score_candidates(
        self, context: pl.DataFrame, candidates: pl.Series, *, hidden: bool = False, file: str | None = None
    ) -> CandidateScores:
        """Score every candidate of every row of a bandit or auction log.

        A candidate's row is the log's row with the action's id and, for each feature of the candidate, the
        value from the aligned list column `candidate_<feature>` (see `FeatureSpec.candidate_lists`).

        Args:
            context: the n rows of the log.
            candidates: list column of action ids.
            hidden: whether to return the input of the last layer too.
            file: name of the log, for messages.
        """
        from ctrkit.training import predict_candidates

        chosen = self.spec.candidate
        if chosen is None:
            raise ArtifactError(
                "the model's feature spec has no `candidate`, so it cannot score candidates",
                hint="Add `candidate: {id: ..., features: [...]}` to the config's features and train again",
            )
        lengths = candidates.list.len().to_numpy().astype(np.int64)
        listed = self.spec.candidate_lists(context.columns)
        sequences = [sequence.name for sequence in self.spec.sequences]
        static = [c for c in self.spec.static_columns if c not in listed and c != chosen.id]
        needed = [*listed.values(), *static, *sequences]
        for name in needed:
            if (
                name not in context.columns
                and name.removeprefix(CANDIDATE_PREFIX) in self.rows.plan.new_columns
            ):
                raise DataError(
                    "the column is missing, and nothing is derived for logs with candidates",
                    file=file,
                    column=name,
                    hint="Give the log this column"
                    + (", a list with a value for each candidate" if name in listed.values() else ""),
                )
        require_columns(context, needed, file)
        flat = candidate_rows(context, candidates, static, listed, chosen.id, file)
        rows = self.encoder.encode(flat, file, labels=False, sequences=False)
        outputs = predict_candidates(
            self.network,
            self.encoder.encode(context, file, labels=False, static=False),
            rows,
            lengths,
        )
        place = np.arange(lengths.max(initial=0)) < lengths[:, None]  # [n, K]

        def spread(values: NDArray[Any], dtype: type) -> NDArray[Any]:
            wide = np.full((*place.shape, *values.shape[1:]), np.nan, dtype=dtype)
            wide[place] = values
            return wide

        probabilities = {
            task: spread(p, np.float64) for task, p in self.probabilities(outputs.logits, rows).items()
        }
        raw, first = spread(outputs.logits[:, 0], np.float64), self.tasks[0]
        value = self.values(outputs)
        # Step calibrators give the same probability to many logits; the best candidate must still be unique.
        probabilities[first] = told_apart(probabilities[first], raw)
        return CandidateScores(
            probabilities,
            raw,
            spread(outputs.hidden, np.float32) if hidden and outputs.hidden.shape[1] else None,
            None if value is None else spread(value, np.float64),
        )


def load(path: str | os.PathLike[str]) -> Model:
    """Open a `model.pt`.

    Raises:
        ArtifactError: the file is missing, damaged, or not an artifact.

    Example:
        >>> import ctrkit, polars
        >>> rows = polars.read_parquet(ctrkit.sample_logs().files[-1])[:5_000]  # impressions
        >>> result = ctrkit.train(data=rows, network="lr", model="model.pt")
        >>> ctrkit.load("model.pt").tasks
        ('click', 'conversion')
    """
    artifact = Artifact.load(path)
    try:
        return Model(artifact)
    except ArtifactError as error:
        raise ArtifactError(error.problem, file=path, hint=error.hint) from error


@contextmanager
def _part(name: str) -> Iterator[None]:
    """Turn any error with a part of an artifact into an ArtifactError that names the part."""
    try:
        yield
    except MissingPackage:
        raise
    except Exception as error:  # whatever the content of a file may lead to
        reason = error.problem if isinstance(error, InputError) else str(error) or type(error).__name__
        told = reason.splitlines()[0][:200].rstrip(".:")
        raise ArtifactError(
            f"the artifact's {name} is damaged, or from another version ({told})",
            hint="Copy the file again, or train again with `ctrkit train`",
        ) from error


def _check_features(stored: FeatureMap, of_encoder: FeatureMap) -> None:
    for part in (
        "tables",
        "categorical",
        "numeric",
        "sequences",
        "tasks",
        "bins",
        "value",
        "centres",
        "bags",
        "vectors",
    ):
        if getattr(stored, part) != getattr(of_encoder, part):
            raise ValueError(f"its {part} differ from those of the encoder")
    if stored.quarters not in ({}, of_encoder.quarters):
        raise ValueError("its quarters differ from those of the encoder")
    if stored.missing not in ((), of_encoder.missing):
        raise ValueError("its missing numbers differ from those of the encoder")


def _settings(artifact: Artifact) -> dict[str, Any]:
    """The settings of the network. Those of an earlier version know no linear terms, and have none."""
    settings: dict[str, Any] = artifact.config["model"]
    if "history" not in settings:  # it is no network
        return settings
    without = dict.fromkeys(("match_terms", "pair_terms", "co_occurrence_terms"), False)
    return {"crosses": None, **settings, "history": {**without, **settings["history"]}}


def _check_data(data: Mapping[str, Any]) -> None:
    """Check the description of the training table, as far as commands read it."""
    if not (data["file"] is None or isinstance(data["file"], str)) or not isinstance(
        data["fingerprint"], str
    ):
        raise TypeError("file and fingerprint are text")
    seen = data.get("seen")
    for one in () if seen is None else kept_keys(seen).values():
        float(one["alike"])
        if "filter" in one and (np.asarray(one["filter"]).dtype != np.uint8 or not np.size(one["filter"])):
            raise TypeError("the filter of rows holds bytes")
        if np.asarray(one["sample"]).dtype.kind not in "iu" or np.ndim(one["sample"]) != 1:
            raise TypeError("the sample of rows holds whole numbers")
    for shares in (data.get("unknown") or {}).values():
        float(shares["train"])
    if (profile := data.get("profile")) is not None:
        profiles_from(profile)
