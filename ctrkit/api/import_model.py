"""`ctrkit import`: from a model of another library, as ONNX, to an artifact that every command takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ctrkit.api.models.model import Model
from ctrkit.api.models.training_config import load_train_config, need_belief
from ctrkit.api.results import Result
from ctrkit.artifact import Artifact, versions
from ctrkit.config import ConfigLike
from ctrkit.data.raw_encoder import RawEncoder
from ctrkit.errors import ConfigError, missing
from ctrkit.file_kinds import ONNX, file_kind
from ctrkit.models.onnx import OnnxConfig, OnnxModel
from ctrkit.onnx_graph import OnnxGraph
from ctrkit.reports import Report, Table
from ctrkit.schema import FeatureSpec
from ctrkit.settings import content_of
from ctrkit.tables import check_writable


@dataclass(frozen=True)
class ImportResult(Result):
    """An imported model.

    Attributes:
        model: the path of the artifact; None where it was not written.
        source: the ONNX file.
        inputs: the columns that the model reads, in its order, each with the kind of its values.
        outputs: task -> what the model's output is read as.
        artifact: the artifact itself.
    """

    model: str | None
    source: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    artifact: Artifact = field(repr=False)

    @cached_property
    def imported(self) -> Model:
        """The model, ready to use."""
        return Model(self.artifact)

    def to_dict(self) -> dict[str, Any]:
        return {"model": self.model, "source": self.source, "inputs": self.inputs, "outputs": self.outputs}

    def report(self) -> Report:
        rows = tuple((number, *one) for number, one in enumerate(self.inputs.items(), start=1))
        read = Table("What the model reads", ("input", "column", "kind"), rows)
        given = Table("What its outputs are read as", ("task", "output"), tuple(self.outputs.items()))
        answer = f"{self.source} is imported{'' if self.model is None else f' as {self.model}'}."
        note = "Check that columns and outputs are in the order of the training: a file cannot tell."
        return Report("Import", answer, (read, given), (note,))


def import_model(
    source: str | os.PathLike[str],
    config: ConfigLike,
    *,
    model: str | os.PathLike[str] | None = None,
    features: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    positive: Literal[0, 1] | None = None,
    scale: Literal["probability", "logit"] = "probability",
    overrides: Sequence[str] = (),
) -> ImportResult:
    """Make an artifact of an ONNX file and a feature spec.

    The file is stored in the artifact as it is. It reads the raw values of columns: a number, an id as a
    number, or an id as text, as its inputs are; so the spec has no transforms and no sequences. Numbers are
    held in 32 bits.

    Args:
        source: an ONNX file, which holds the whole model.
        config: the config of a training run, of which the features and the policy are used.
        model: path of the artifact; None to write none.
        features: the columns of a single input, in order. By default the file's metadata `features` name
            them, or the spec, if all of its features are numbers or all are ids.
        outputs: the output of each task, in funnel order; by default the only output of numbers, for a spec
            with one task.
        positive: which of two numbers of a row is that of the event. By default the second, for a classifier.
        scale: whether outputs are probabilities or logits.
        overrides: `key.path=value` strings, laid over the config.

    Raises:
        ArtifactError: the file is no ONNX file, is damaged, or keeps data in other files.
        ConfigError: the spec does not fit the file, or what the file reads or gives cannot be told.

    Example:
        >>> import ctrkit  # doctest: +SKIP
        >>> model = ctrkit.import_model("trees.onnx", "spec.yaml").imported  # doctest: +SKIP
    """
    settings, file = load_train_config(config, overrides), Path(source)
    spec = settings.features
    if not file.exists():
        raise missing("model", source)
    if file_kind(file) is not ONNX:
        raise ConfigError(f"this is {file_kind(file).name}, not an ONNX model", file=source)
    if model is not None:
        check_writable(model)
    content, name = file.read_bytes(), os.fspath(source)
    graph = _opened(name, content, features, None if outputs is None else outputs[0], spec)
    _check_columns(graph, spec)
    given = _outputs(graph, outputs, spec)
    chosen = OnnxConfig(
        features=graph.features,
        outputs=given,
        positive=_positive(graph, positive),
        scale=scale,
    )
    need_belief(settings.policy, chosen)
    encoder = RawEncoder(spec)
    feature_map = encoder.feature_map()
    imported = OnnxModel(chosen, feature_map)
    imported.take_graph(content, name)
    resolved = settings.model_copy(update={"model": chosen, "data": None})
    ids = [one.name for one in spec.categorical]
    artifact = Artifact(
        config=resolved.to_dict(),
        feature_map=feature_map.to_dict(),
        encoder=encoder.state(),
        weights=imported.arrays(),
        policy=content_of(settings.policy),
        data={"file": None, "fingerprint": "", "unknown": {one: {"train": 1.0} for one in ids}},
        versions=versions(),
    )
    if model is not None:
        artifact.save(model)
    return ImportResult(
        None if model is None else os.fspath(model),
        name,
        {column: _kind(graph, column, column in ids) for column in graph.features},
        {task: _meaning(chosen, spec, index) for index, task in enumerate(spec.tasks)},
        artifact,
    )


def _opened(
    name: str, content: bytes, features: Sequence[str] | None, output: str | None, spec: FeatureSpec
) -> OnnxGraph:
    """The graph, with the columns of a single input as they are given, or as the spec orders them."""
    try:
        return OnnxGraph(name, features, output, content)
    except ConfigError as error:
        one_kind = not spec.categorical or not spec.numeric
        if features is not None or "does not say which" not in error.problem or not one_kind:
            if features is None and "does not say which" in error.problem:
                raise ConfigError(error.problem, hint="Name them in order: --features a,b,c") from error
            raise
    return OnnxGraph(name, spec.static_features, output, content)


def _check_columns(graph: OnnxGraph, spec: FeatureSpec) -> None:
    numbers = {one.name for one in spec.numeric}
    for column in graph.features:
        if column not in spec.static_features:
            raise ConfigError(
                f"{graph.file}: the model reads '{column}', which is no feature of the spec",
                hint="Declare it under `features`, or name the columns in order: --features a,b,c",
            )
        if graph.is_text(column) and column in numbers:
            raise ConfigError(
                f"{graph.file}: the model reads '{column}' as text, and the spec declares it as a number",
                hint="Declare it under features.categorical",
            )


def _outputs(graph: OnnxGraph, outputs: Sequence[str] | None, spec: FeatureSpec) -> tuple[str, ...]:
    found = (graph.output,) if outputs is None else tuple(outputs)
    if len(found) != len(spec.tasks):
        raise ConfigError(
            f"{graph.file}: the spec has the tasks {', '.join(spec.tasks)}, and each needs an output",
            hint="Name one output for each task, in this order: --output NAME --output NAME",
        )
    return found


def _positive(graph: OnnxGraph, positive: Literal[0, 1] | None) -> Literal[0, 1] | None:
    """Which of two numbers of a row is that of the event."""
    name, width = f"{graph.file}: output '{graph.output}'", graph.width
    if width == 1:
        if positive is not None:
            raise ConfigError(f"{name} has one number a row", hint="Leave out `positive`")
        return None
    if width not in (None, 2):
        raise ConfigError(f"{name} has {width} numbers a row, and a task has one probability")
    if positive is None and not graph.classifies:
        raise ConfigError(
            f"{name} has {'two' if width else 'an unknown number of'} numbers a row",
            hint="Say which is that of the event: --positive 0 or --positive 1",
        )
    return 1 if positive is None else positive


def _kind(graph: OnnxGraph, column: str, is_id: bool) -> str:
    if graph.is_text(column):
        return "an id as text"
    return "an id as a number" if is_id else "a number"


def _meaning(config: OnnxConfig, spec: FeatureSpec, index: int) -> str:
    """What an output is read as."""
    which = {None: "", 0: ", the first of two numbers", 1: ", the second of two numbers"}[config.positive]
    task = spec.tasks[index] + (f" given {spec.tasks[index - 1]}" if index else "")
    return f"{config.outputs[index]}{which}: the {config.scale} of {task}"
