"""FuxiCTR 2.3.10 (https://github.com/reczoo/FuxiCTR): npz files, its loader, its trainer.

Its wheel holds layers, loaders and trainer, but of its model zoo only models for long sequences. The five
models are put together here from those layers, as the zoo in its repository does: parameters and outputs are
the same, which was checked with weights carried over. Its AutoInt has a matrix on the residual only where the
width changes, so not here; the others, as the paper, always have it.

The npz loader is used since the parquet loader starts Ray, whose processes no CPU clock of ours would see.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.layers import (
    CompressedInteractionNet,
    CrossNetV2,
    DIN_Attention,
    FactorizationMachine,
    FeatureEmbedding,
    FeatureEmbeddingDict,
    LogisticRegression,
    MLP_Block,
    ScaledDotProductAttention,
)
from fuxictr.pytorch.models import BaseModel
from numpy.typing import NDArray
from torch import Tensor, nn

from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import PADDING_ID
from peers.tables import Settings, Start, Task

NEVER = 10**9


class FuxiCTR:
    """One of its models with its own loaders and training loop."""

    def __init__(self, model: str, task: Task, settings: Settings, start: Start, scratch: Path) -> None:
        feature_map = _feature_map(task, settings)
        self.model: _Model = MODELS[model](feature_map, task, settings, scratch)
        start.apply(self.model)
        start.output(self.model)
        self.model.compile("adam", "binary_crossentropy", settings.learning_rate)
        # Neither validation nor a checkpoint: they are no part of what is compared.
        self.model._eval_steps = NEVER
        self.model.load_weights = lambda checkpoint: None
        loader = {"batch_size": settings.batch_size, "data_format": "npz", "num_workers": 0}
        train, test = (_write(task, rows, scratch / f"{part}.npz") for part, rows in _parts(task))
        self.train_rows, _ = RankDataLoader(feature_map, "train", train_data=train, shuffle=True, **loader)
        self.test_rows = RankDataLoader(feature_map, "test", test_data=test, **loader)

    def train(self) -> None:
        """See `Library`."""
        self.model.fit(self.train_rows, epochs=1)

    def predict(self) -> NDArray[np.float64]:
        """See `Library`."""
        scores: NDArray[np.float64] = self.model.predict(self.test_rows)
        return scores


class _Model(BaseModel):  # type: ignore[misc]
    """What the zoo's models have in common: a logit of the embeddings, and the sigmoid over it."""

    def __init__(self, feature_map: FeatureMap, task: Task, settings: Settings, scratch: Path) -> None:
        super().__init__(feature_map, verbose=0, model_root=str(scratch), metrics=["AUC"])
        self.settings = settings
        self.build(feature_map, settings, task)

    def build(self, feature_map: FeatureMap, settings: Settings, task: Task) -> None:
        raise NotImplementedError

    def logit(self, inputs: dict[str, Tensor]) -> Tensor:
        raise NotImplementedError

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"y_pred": self.output_activation(self.logit(self.get_inputs(inputs)))}

    def embed_and_tower(self, feature_map: FeatureMap, outputs: int | None = 1) -> None:
        width = self.settings.embedding
        self.embedding_layer = FeatureEmbedding(feature_map, width)
        self.flat = feature_map.sum_emb_out_dim()
        self.dnn = MLP_Block(self.flat, hidden_units=list(self.settings.dnn), output_dim=outputs)


class _DeepFM(_Model):
    def build(self, feature_map: FeatureMap, settings: Settings, task: Task) -> None:
        self.embed_and_tower(feature_map)
        self.fm = FactorizationMachine(feature_map)

    def logit(self, inputs: dict[str, Tensor]) -> Tensor:
        fields = self.embedding_layer(inputs)
        return self.fm(inputs, fields) + self.dnn(fields.flatten(1))


class _DCNv2(_Model):
    def build(self, feature_map: FeatureMap, settings: Settings, task: Task) -> None:
        self.embed_and_tower(feature_map, outputs=None)
        self.crossnet = CrossNetV2(self.flat, settings.cross_layers)
        self.fc = nn.Linear(self.flat + settings.dnn[-1], 1)

    def logit(self, inputs: dict[str, Tensor]) -> Tensor:
        flat = self.embedding_layer(inputs, flatten_emb=True)
        return self.fc(torch.cat([self.crossnet(flat), self.dnn(flat)], dim=-1))


class _SelfAttention(nn.Module):
    """AutoInt's layer by the wheel's attention: heads, a plain residual, ReLU."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.attention = ScaledDotProductAttention()

    def forward(self, fields: Tensor) -> Tensor:
        split = (
            layer(fields).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        attended, _ = self.attention(*split)
        return (attended.transpose(1, 2).flatten(2) + fields).relu()


class _AutoInt(_Model):
    def build(self, feature_map: FeatureMap, settings: Settings, task: Task) -> None:
        self.embed_and_tower(feature_map)
        layers = (
            _SelfAttention(settings.embedding, settings.heads) for _ in range(settings.attention_layers)
        )
        self.self_attention = nn.Sequential(*layers)
        self.fc = nn.Linear(self.flat, 1)

    def logit(self, inputs: dict[str, Tensor]) -> Tensor:
        fields = self.embedding_layer(inputs)
        return self.fc(self.self_attention(fields).flatten(1)) + self.dnn(fields.flatten(1))


class _XDeepFM(_Model):
    def build(self, feature_map: FeatureMap, settings: Settings, task: Task) -> None:
        self.embed_and_tower(feature_map)
        self.lr_layer = LogisticRegression(feature_map, use_bias=False)
        self.cin = CompressedInteractionNet(feature_map.num_fields, list(settings.cin))

    def logit(self, inputs: dict[str, Tensor]) -> Tensor:
        fields = self.embedding_layer(inputs)
        return self.lr_layer(inputs) + self.cin(fields) + self.dnn(fields.flatten(1))


class _DIN(_Model):
    def build(self, feature_map: FeatureMap, settings: Settings, task: Task) -> None:
        self.target, self.sequence = task.target, task.sequence
        self.embedding_layer = FeatureEmbeddingDict(feature_map, settings.embedding)
        self.attention = DIN_Attention(settings.embedding, list(settings.attention), "ReLU")
        self.dnn = MLP_Block(feature_map.sum_emb_out_dim(), hidden_units=list(settings.dnn), output_dim=1)

    def logit(self, inputs: dict[str, Tensor]) -> Tensor:
        embedded = self.embedding_layer(inputs)
        mask = inputs[self.sequence] != PADDING_ID
        embedded[self.sequence] = self.attention(embedded[self.target], embedded[self.sequence], mask)
        return self.dnn(self.embedding_layer.dict2tensor(embedded, flatten_emb=True))


MODELS: dict[str, type[_Model]] = {
    "deepfm": _DeepFM,
    "dcnv2": _DCNv2,
    "autoint": _AutoInt,
    "xdeepfm": _XDeepFM,
    "din": _DIN,
}


def _feature_map(task: Task, settings: Settings) -> FeatureMap:
    """What its preprocessing would write to feature_map.json for these ids."""
    feature_map = FeatureMap(task.name, data_dir=".")
    features: OrderedDict[str, dict[str, Any]] = OrderedDict()
    for name, size in task.vocabularies.items():
        features[name] = {"source": "", "type": "categorical", "vocab_size": size, "padding_idx": PADDING_ID}
    if task.sequence:
        features[task.sequence] = {
            **features[task.target],
            "type": "sequence",
            "share_embedding": task.target,
            "max_len": task.feature_map.max_length,
        }
    feature_map.features, feature_map.labels = features, ["click"]
    feature_map.num_fields, feature_map.default_emb_dim = feature_map.get_num_fields(), settings.embedding
    feature_map.set_column_index()
    return feature_map


def _parts(task: Task) -> tuple[tuple[str, EncodedTable], ...]:
    return ("train", task.train), ("test", task.test)


def _write(task: Task, rows: EncodedTable, path: Path) -> str:
    np.savez(path, **task.columns(rows), click=rows.labels[:, 0])
    return str(path)
