"""Smaller and quicker exports, at some cost of accuracy.

A reduction changes a network, the files of its graphs, or the format that computes them.
`ctrkit.api.reductions` measures what each costs, and refuses what costs too much.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.errors import ConfigError
from ctrkit.extras import require
from ctrkit.models.model import CtrModel
from ctrkit.nn.cross import CrossNetwork
from ctrkit.nn.cross_layers import MatrixCross
from ctrkit.nn.embedding_tables import RowMatrix
from ctrkit.serving.sessions import EXTRA

# A row with a scale of 4 bytes is smaller than one of floats from 2 numbers on; from 8 on it pays.
_WORTH = 8
_MOST = 127  # of 8 bits with a sign
# Layers of fewer inputs or outputs take no time.
_LARGE = 16


class Reduction:
    """Base of the reductions. Each changes one of three things, and leaves the others.

    Attributes:
        formats: the formats that have it.
    """

    formats: ClassVar[frozenset[str]] = frozenset({"onnx", "openvino", "torch-export", "tensorrt"})

    def of_network(self, network: CtrModel) -> None:
        """Change a copy of a network, in place.

        Raises:
            ConfigError: it has nothing that can be reduced.
        """

    def of_file(self, path: Path) -> None:
        """Change the file of a graph, in place."""

    def of_format(self, kind: str) -> str:
        """The format that computes the graphs."""
        return kind


class Int8Embeddings(Reduction):
    """Embedding tables of 8 bits: a row of whole numbers from -127 to 127 and its scale, the largest absolute
    value over 127. A vector is a row times its scale, once the row is read: "Training with Low-precision
    Embedding Tables" (Zhang et al., 2018), without its training."""

    def of_network(self, network: CtrModel) -> None:
        found = 0
        for module in list(network.modules()):
            for name, table in module.named_children():
                if isinstance(table, RowMatrix) and table.weight.shape[1] >= _WORTH:
                    setattr(module, name, Int8Rows(table.weight.detach()))
                    found += 1
        if not found:
            raise ConfigError(
                f"the network has no embeddings of {_WORTH} numbers or more", hint="Leave out int8-embeddings"
            )


class Int8Rows(nn.Module):
    """A matrix of 8 bits that is read by row, in place of a `RowMatrix`.

    Args:
        weight: the matrix, `[rows, width]`.
    """

    values: Tensor
    scales: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        scales = weight.abs().amax(dim=1, keepdim=True) / _MOST
        self.register_buffer("scales", scales)
        self.register_buffer(
            "values", (weight / scales.clamp(min=torch.finfo(torch.float32).tiny)).round().to(torch.int8)
        )

    def forward(self, rows: Tensor) -> Tensor:
        """Row numbers, of any integer type: `[...] -> [..., width]`."""
        return F.embedding(rows, self.values).to(self.scales.dtype) * F.embedding(rows, self.scales)


class LowRank(Reduction):
    """Full matrices of cross layers as products of two of lower rank, the nearest ones: their singular value
    decompositions, cut off (Eckart and Young, Psychometrika 1936).

    Args:
        rank: the rank of the products.
    """

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def of_network(self, network: CtrModel) -> None:
        found = [
            (holder, name, layer)
            for module in network.modules()
            if isinstance(module, CrossNetwork | MatrixCross)
            for holder in [module.w if isinstance(module, CrossNetwork) else module]
            for name, layer in holder.named_children()
            if isinstance(layer, nn.Linear)
        ]
        if not found:
            raise ConfigError(
                "the network has no cross layers with full matrices", hint="Leave out the low rank"
            )
        for holder, name, layer in found:
            setattr(holder, name, self._product(layer))

    def _product(self, layer: nn.Linear) -> nn.Sequential:
        most = layer.weight.numel() // sum(layer.weight.shape)
        if not self.rank <= most:
            raise ConfigError(
                f"cross layers of rank {self.rank} are no quicker than full ones",
                hint=f"Choose a rank up to {most}",
            )
        u, s, v = torch.linalg.svd(layer.weight.detach(), full_matrices=False)
        roots = s[: self.rank].sqrt()
        inner = nn.Linear(layer.in_features, self.rank, bias=False)
        outer = nn.Linear(self.rank, layer.out_features, bias=False)
        inner.weight = nn.Parameter(roots[:, None] * v[: self.rank])
        outer.weight, outer.bias = nn.Parameter(u[:, : self.rank] * roots), layer.bias
        return nn.Sequential(inner, outer)


class Int8Linear(Reduction):
    """Linear layers that multiply in 8 bits: weights with a scale for each output, and inputs with one scale
    for all rows of a call, found when they are computed (ONNX Runtime's dynamic quantization). So the last
    digits of a probability depend on the other rows of its call. Layers of few inputs or outputs, such as the
    last ones, stay as they are."""

    formats = frozenset({"onnx"})

    def of_file(self, path: Path) -> None:
        onnx = require("onnx", "an export to ONNX", EXTRA)
        require("onnxruntime", "8-bit layers", EXTRA)
        from onnxruntime.quantization import QuantType, quantize_dynamic

        model = onnx.load(path)
        del model.graph.value_info[:]  # some of its shapes contradict those that quantization infers
        model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")  # nor does it warn
        _own_weights(model)
        large = {
            one.name for one in model.graph.initializer if len(one.dims) == 2 and min(one.dims) >= _LARGE
        }
        layers = [one for one in model.graph.node if one.op_type in ("Gemm", "MatMul")]
        names = [one.name for one in layers if one.input[1] in large]
        if names:
            chosen, bits = (
                [*names, *(f"{name}_MatMul" for name in names)],
                QuantType.QInt8,
            )  # "Gemm" is renamed
            quantize_dynamic(model, path, nodes_to_quantize=chosen, per_channel=True, weight_type=bits)


def _own_weights(model: Any) -> None:
    """Give each layer of a graph weights of its own: quantization transposes them, where they are."""
    stored = {one.name: one for one in model.graph.initializer}
    layers = [one for one in model.graph.node if one.op_type == "Gemm" and one.input[1] in stored]
    for place, layer in enumerate(layers):
        weights = model.graph.initializer.add()
        weights.CopyFrom(stored[layer.input[1]])
        layer.input[1] = weights.name = f"{weights.name} {place}"


class BFloat16(Reduction):
    """Numbers of 16 bits, with 8 for the digits, while graphs are computed."""

    formats = frozenset({"openvino"})

    def of_format(self, kind: str) -> str:
        return f"{kind}-bf16"


# What `quantise` takes -> the reduction.
QUANTISATIONS: dict[str, type[Reduction]] = {
    "int8-embeddings": Int8Embeddings,
    "int8-linear": Int8Linear,
    "bf16": BFloat16,
}


def reduced(network: CtrModel, reductions: Sequence[Reduction]) -> CtrModel:
    """A copy of a network that some reductions have changed."""
    found = deepcopy(network)
    for one in reductions:
        one.of_network(found)
    return found.eval()


def reduce_files(reductions: Sequence[Reduction], kind: str, files: Sequence[Path]) -> str:
    """Change the files of written graphs, and say by which format they are computed then."""
    for one in reductions:
        for path in files:
            one.of_file(path)
        kind = one.of_format(kind)
    return kind


def check_formats(reductions: Sequence[Reduction], kind: str) -> None:
    """Check that a format has some reductions.

    Raises:
        ConfigError: it does not.
    """
    for one in reductions:
        if kind not in one.formats:
            name = next(name for name, of in QUANTISATIONS.items() if of is type(one))
            raise ConfigError(
                f"'{name}' is none for the format '{kind}'", hint=f"Use --format {min(one.formats)}"
            )
