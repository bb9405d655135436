"""`ctrkit models`: all models of the registry, with their size and cost for given features."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ctrkit.api.inspect import config_or_inspected
from ctrkit.api.keywords import takes_settings
from ctrkit.api.models.training_config import TrainConfig, load_train_config, read_training_table
from ctrkit.api.results import Result
from ctrkit.config import ConfigLike
from ctrkit.data.encoder import Encoder
from ctrkit.data.feature_map import FeatureMap
from ctrkit.errors import ConfigError
from ctrkit.models import MODELS, SCORERS, CtrModel, ModelConfig, ScorerConfig, build_model, model_config
from ctrkit.nn.batches import Batch
from ctrkit.nn.embedding import FeatureEmbedding
from ctrkit.reports import Report, Table
from ctrkit.tables import TableLike

TensorShape: TypeAlias = Sequence[int]

# The cost is averaged over this number of rows, so that work done once a batch hardly counts.
_ROWS = 256


@dataclass(frozen=True)
class ModelSize:
    """A model of the registry.

    Attributes:
        name: name of the model.
        description: what the model is, in one line.
        parameters: number of parameters outside the embeddings.
        embedding_parameters: number of parameters of the embeddings.
        flops: floating point operations of one row in the forward pass: matrix products, convolutions and
            scans. A multiplication with an addition counts as two.
        problem: why the model cannot be built for these features; None where it can.
    """

    name: str
    description: str
    parameters: int | None = None
    embedding_parameters: int | None = None
    flops: int | None = None
    problem: str | None = None


@dataclass(frozen=True)
class ModelTable(Result):
    """All models of the registry.

    Attributes:
        features: the data whose features the models were built for.
        models: the models, by name.
    """

    features: str
    models: tuple[ModelSize, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"features": self.features, "models": [asdict(model) for model in self.models]}

    def report(self) -> Report:
        rows = tuple(
            (
                model.name,
                model.parameters,
                model.embedding_parameters,
                model.flops,
                model.description if model.problem is None else model.problem,
            )
            for model in self.models
        )
        header = ("model", "parameters", "embeddings", "FLOPs a row", "what it is")
        return Report(
            "Models",
            f"{len(rows)} models, with their default settings.",
            (Table(f"On the features of {self.features}", header, rows),),
        )


@takes_settings(TrainConfig)
def list_models(
    config: ConfigLike = None,
    data: TableLike | None = None,
    *,
    overrides: Sequence[str] = (),
    **keywords: Any,
) -> ModelTable:
    """List all models, with their sizes and costs. These depend on the features, and so on the data.

    Args:
        config: as in `ctrkit.train`. Only its features are used, and its model, which is listed with its own
            settings; all other models have their defaults.
        data: as in `ctrkit.train`.
        overrides: as in `ctrkit.train`.
        keywords: as in `ctrkit.train`.

    Example:
        >>> import ctrkit, polars
        >>> rows = polars.read_parquet(ctrkit.sample_logs().files[-1])[:5_000]  # impressions
        >>> table = ctrkit.list_models(data=rows, network={"name": "din", "embedding": 4})
        >>> "din" in [model.name for model in table.models]
        True
    """
    config, _ = config_or_inspected(config, data, overrides, keywords)
    settings = load_train_config(config, overrides, keywords)
    table, file = read_training_table(settings, data)
    encoder = Encoder.fit(settings.features, table, file)
    feature_map = encoder.feature_map()
    batch = Batch.of(encoder.encode(table.head(_ROWS), file, labels=False), slice(None))
    sizes = []
    for name in sorted({*MODELS, *SCORERS}):
        own = settings.model if name == settings.model.name else model_config({"name": name})
        sizes.append(_size(own, feature_map, batch))
    place = data if data is not None else settings.data
    features = "the sample logs" if place is None else file or "a table in memory"
    return ModelTable(features, tuple(sizes))


def _size(config: ScorerConfig, feature_map: FeatureMap, batch: Batch) -> ModelSize:
    module = (MODELS if config.name in MODELS else SCORERS)[config.name].__module__
    summary = (sys.modules[module].__doc__ or "").splitlines()[0]
    description = summary.partition(": ")[2].rstrip(".")
    if not isinstance(config, ModelConfig):  # what is learnt decides its size
        return ModelSize(config.name, description)
    try:
        model = build_model(config, feature_map)
    except ConfigError as error:
        return ModelSize(config.name, description, problem=str(error))
    total = sum(parameter.numel() for parameter in model.parameters())
    embeddings = {
        id(parameter): parameter.numel()
        for module in model.modules()
        if isinstance(module, FeatureEmbedding)
        for parameter in module.parameters()
    }
    inside = sum(embeddings.values())
    return ModelSize(config.name, description, total - inside, inside, flops_per_row(model, batch))


def flops_per_row(model: CtrModel, batch: Batch) -> int:
    """Floating point operations of the forward pass, for one row on average."""
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    # The math form of attention consists of matrix products, which are counted.
    with sdpa_kernel(SDPBackend.MATH), counter:
        model.eval()(batch)
    return round(counter.get_total_flops() / len(batch))


def _of_scan(
    u: TensorShape,
    selection: TensorShape,
    z: TensorShape,
    dt_weight: TensorShape,
    dt_bias: TensorShape,
    A: TensorShape,
    *_: Any,
    **__: Any,
) -> int:
    """For each entry of a state: delta A, decay h, + B v, C h, two sums; for each channel its step size."""
    rows, steps, channels = u
    return rows * steps * channels * (6 * A[1] + 2 * dt_weight[1])


def _of_convolution(x: TensorShape, weight: TensorShape, *_: Any, **__: Any) -> int:
    return 2 * x[0] * x[1] * x[2] * weight[1]


def _of_vector_product(matrix: TensorShape, *_: Any, **__: Any) -> int:
    return 2 * matrix[0] * matrix[1]


def _of_added_vector_product(added: TensorShape, matrix: TensorShape, *_: Any, **__: Any) -> int:
    return 2 * matrix[0] * matrix[1]


def _of_recurrence(x: TensorShape, of_input: TensorShape, of_state: TensorShape, *_: Any, **__: Any) -> int:
    return 2 * x[0] * x[1] * (of_input[0] * of_input[1] + of_state[0] * of_state[1])


def _of_attention(target: TensorShape, base: TensorShape, events: TensorShape, *_: Any, **__: Any) -> int:
    """For each target its matrix; for each of its events the hidden layer, the score, and the sum."""
    targets, width = target[0] * target[1], target[2]
    hidden, steps = base[2], events[1]
    return targets * 2 * (width * hidden + steps * (width * hidden + hidden + width))


_FORMULAS = {
    torch.ops.ctrkit.target_attention: _of_attention,
    torch.ops.aten.mkldnn_rnn_layer: _of_recurrence,
    torch.ops.ctrkit.selective_scan: _of_scan,
    torch.ops.ctrkit.convolution: _of_convolution,
    torch.ops.aten.mv: _of_vector_product,
    torch.ops.aten.addmv: _of_added_vector_product,
}
