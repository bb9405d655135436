"""What every library of the comparison gets: the same ids, the same sizes, the same start.

Numbers are cut into quantiles and become ids too, because libraries disagree on what a number is to a model
(an embedding, a factor of one, or an input of the tower alone) and none on what an id is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ctrkit.api.models.training_config import load_train_config, read_training_table
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.encoder import Encoder
from ctrkit.data.feature_map import FIRST_ID, PADDING_ID, FeatureMap
from ctrkit.data.synthetic import Market
from ctrkit.schema import CategoricalFeature, FeatureSpec, SequenceFeature

MODELS = ("deepfm", "dcnv2", "autoint", "xdeepfm", "din")
QUANTILES = 20
HISTORY = 20  # newest events
FIELDS = 39
CONFIGS = Path(__file__).parents[2] / "configs"


@dataclass(frozen=True)
class Settings:
    """Sizes and hyper-parameters, equal in all libraries; no dropout, batch norm or L2 anywhere.

    Attributes:
        embedding: d; dnn: widths of the tower; attention: widths of DIN's network, with ReLU.
        cross_layers: of DCNv2, full matrices beside the tower; cin: feature maps of xDeepFM's layers.
        attention_layers, heads: of AutoInt, d wide, beside the tower that all libraries give it by default.
        std: of the normal distribution that embeddings are drawn from.
        optimizer: Adam over all rows of the embeddings, or over those of the batch, which only ctrkit has.
    """

    embedding: int = 8
    dnn: tuple[int, ...] = (64, 64)
    cross_layers: int = 2
    attention_layers: int = 2
    heads: int = 2
    cin: tuple[int, ...] = (16, 16)
    attention: tuple[int, ...] = (32,)
    std: float = 0.1
    learning_rate: float = 1e-3
    batch_size: int = 256
    optimizer: Literal["adamw", "rowwise"] = "adamw"


@dataclass(frozen=True)
class Task:
    """One table, encoded once, in two parts.

    Attributes:
        name: of the data set.
        feature_map: fields, their tables, and the sequence where there is one.
        train, test: encoded rows.
    """

    name: str
    feature_map: FeatureMap
    train: EncodedTable
    test: EncodedTable

    @property
    def rate(self) -> float:
        """Of clicks on the training rows."""
        return float(self.train.labels.mean())

    @property
    def vocabularies(self) -> dict[str, int]:
        """Field -> number of ids, padding and unknown included."""
        return {
            field: self.feature_map.tables[table] for field, table in self.feature_map.categorical.items()
        }

    @property
    def sequence(self) -> str | None:
        """The behaviour sequence."""
        return next(iter(self.feature_map.sequences), None)

    @property
    def target(self) -> str | None:
        """The field that shares the sequence's table."""
        return self.feature_map.sequences[self.sequence] if self.sequence else None

    def static(self) -> Task:
        """The same rows without the sequence."""
        plain = FeatureMap(self.feature_map.tables, self.feature_map.categorical)
        train, test = (replace(rows, sequences={}) for rows in (self.train, self.test))
        return Task(self.name, plain, train, test)

    def columns(self, rows: EncodedTable, *, newest_last: bool = True) -> dict[str, NDArray[np.int32]]:
        """Feature -> int32 `[n]`, the sequence `[n, L]`: what libraries with named inputs are fed.

        Args:
            newest_last: padding in front, as ctrkit has it; else events first and padding behind.
        """
        columns = {name: rows.categorical[:, i].copy() for i, name in enumerate(self.vocabularies)}
        for name, ids in ((name, one[:]) for name, one in rows.sequences.items()):
            empty = (ids == PADDING_ID).argmin(axis=1) if not newest_last else np.zeros(len(ids), dtype=int)
            shifted = (np.arange(ids.shape[1]) + empty[:, None]) % ids.shape[1]
            columns[name] = np.take_along_axis(ids, shifted, axis=1)
        return columns


class Library(Protocol):
    """One model of one library, built for a task."""

    model: nn.Module

    def train(self) -> None:
        """One epoch over the task's training rows, by the library's own loader and training step."""

    def predict(self) -> NDArray[np.float64]:
        """Scores of the test rows, by the library's own loader and prediction."""


class Start:
    """Equal seeds mean equal weights, in every library.

    Libraries start anywhere from N(0, 0.0001) for all weights (DeepCTR-Torch) to torch's own rules, and with
    a few thousand clicks two seeds of one library lie 0.002 to 0.005 of AUC apart: nothing smaller would
    show. So every tensor is drawn by a generator that is seeded with its shape and with how many of that
    shape came before it. Embeddings are N(0, std), matrices Xavier normal, biases zero: FuxiCTR's rule with
    its std of 0.0001 raised, because that makes products of embeddings vanish. The output's bias starts at
    the base rate, or half of the training goes into learning how rare clicks are.

    Args:
        seed: of all draws.
        std: of embeddings.
        rate: of clicks on the training rows.
    """

    def __init__(self, seed: int, std: float, rate: float) -> None:
        self.seed, self.std, self.logit = seed, std, log(rate / (1 - rate))
        self.drawn: Counter[tuple[int, ...]] = Counter()

    def table(self, rows: int, width: int) -> Tensor:
        """Embeddings `[rows, width]`; padding, the first row, is zero."""
        table = torch.randn(rows, width, generator=self._generator(rows, width)) * self.std
        table[PADDING_ID] = 0.0
        return table

    def matrix(self, outputs: int, inputs: int) -> Tensor:
        """Weights of a linear layer, `[outputs, inputs]`."""
        empty = torch.empty(outputs, inputs)
        return nn.init.xavier_normal_(empty, generator=self._generator(outputs, inputs))

    @torch.no_grad()
    def apply(self, module: nn.Module, special: Mapping[type, Callable[[Any], None]] | None = None) -> None:
        """Draw the weights of all embeddings, linear layers and convolutions of width one.

        Args:
            special: what to do instead with modules of other types, which hold their weights otherwise.
        """
        if special and type(module) in special:
            special[type(module)](module)
        elif isinstance(module, nn.Embedding):
            module.weight.copy_(self.table(*module.weight.shape))
        elif isinstance(module, nn.Linear | nn.Conv1d):
            weight = module.weight.squeeze(-1) if isinstance(module, nn.Conv1d) else module.weight
            weight.copy_(self.matrix(*weight.shape))
            if module.bias is not None:
                module.bias.zero_()
        else:
            for child in module.children():
                self.apply(child, special)

    @torch.no_grad()
    def output(self, model: nn.Module) -> None:
        """Start the model's last bias of one number at the base rate."""
        *_, bias = (p for name, p in model.named_parameters() if name.endswith("bias") and p.numel() == 1)
        bias.fill_(self.logit)

    def _generator(self, *shape: int) -> torch.Generator:
        self.drawn[shape] += 1
        entropy = [self.seed, *shape, self.drawn[shape]]
        return torch.Generator().manual_seed(int(np.random.default_rng(entropy).integers(1 << 62)))


def synthetic_market(rows: int) -> Task:
    """Impressions of ctrkit's simulated market; the last third by time is the test."""
    table = Market(seed=0).impressions(rows)
    ids = ("user_segment", "hour", "device", "placement", "ad_id", "ad_category", "ad_advertiser")
    sequence = SequenceFeature(name="history_ads", shares="ad_id", max_length=HISTORY)
    return _task("market", table, ids, ("user_age", "ad_price"), sequence, rows * 2 // 3)


def trivago_lists(folder: Path) -> Task:
    """trivago's hotel lists with the columns of configs/trivago.yaml, the item, and the items touched before;
    the last 15 % by time are the test."""
    config = load_train_config(CONFIGS / "trivago.yaml")
    table = read_training_table(config, folder)[0].sort("timestamp", maintain_order=True)
    actions = pl.read_parquet(folder / "trivago_actions.parquet")
    table = table.join(_touched_items(table, actions), on="event_id", how="left")
    numbers = (
        "price", "price_rank", "price_to_median", "list_length", "item_click_rate", "item_impressions",
        "step", "user_touches", "item_touches", "item_clicks", "item_recency", "item_freshness",
        "below_last", "touched_in_list", "just_touched",
    )  # fmt: skip
    sequence = SequenceFeature(name="touched_items", shares="item_id", max_length=HISTORY)
    ids = ("position", "device", "platform", "sort_order", "item_id")
    return _task("trivago", table, ids, numbers, sequence, int(table.height * 0.85), min_count=20)


def wide(ids: int, train: int, test: int) -> Task:
    """Made-up rows with the 39 fields of Criteo, for timing: vocabularies from small to large, `ids` in all,
    low ids more frequent, clicks by a few fields."""
    rng = np.random.default_rng(0)
    shares = np.geomspace(1, 3000, FIELDS)
    sizes = np.maximum(10, (shares / shares.sum() * ids).astype(int))
    categorical = (sizes * rng.random((train + test, FIELDS)) ** 3).astype(np.int32) + FIRST_ID
    logit = sum(rng.normal(size=sizes[f])[categorical[:, f] - FIRST_ID] for f in range(10)) / 3 - 1
    labels = (rng.random(train + test) < 1 / (1 + np.exp(-logit))).astype(np.float32)[:, None]
    weight = np.ones(train + test, dtype=np.float32)
    numeric = np.empty((train + test, 0), dtype=np.float32)
    names = [f"field_{f}" for f in range(FIELDS)]
    tables = {name: int(size) + FIRST_ID for name, size in zip(names, sizes, strict=True)}
    parts = [
        EncodedTable(categorical[rows], numeric[rows], {}, labels[rows], weight[rows])
        for rows in (slice(None, train), slice(train, None))
    ]
    return Task("wide", FeatureMap(tables, {name: name for name in names}), *parts)


def set_threads(threads: int) -> None:
    """Of torch, in all libraries."""
    torch.set_num_threads(threads)


def _task(
    name: str,
    table: pl.DataFrame,
    ids: Sequence[str],
    numbers: Sequence[str],
    sequence: SequenceFeature,
    train: int,
    min_count: int = 1,
) -> Task:
    """Encode a table in time order; its first rows are the training rows."""
    spec = FeatureSpec(
        categorical=tuple(
            CategoricalFeature(name=column, min_count=min_count) for column in (*ids, *numbers)
        ),
        sequences=(sequence,),
    )
    table = table.with_columns(_quantile(table[column], train) for column in numbers)
    encoder = Encoder.fit(spec, table[:train])
    return Task(name, encoder.feature_map(), encoder.encode(table[:train]), encoder.encode(table[train:]))


def _quantile(values: pl.Series, train: int) -> pl.Series:
    """The quantile of the distinct training values that each value falls into: of a count that is mostly
    zero, the others are not lost."""
    edges = np.quantile(np.unique(values[:train].to_numpy()), np.linspace(0, 1, QUANTILES + 1)[1:-1])
    return pl.Series(values.name, np.searchsorted(edges, values.to_numpy(), side="right"))


def _touched_items(lists: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    """Each list with the items that its user touched at an earlier second, oldest first."""
    touches = actions.filter(pl.col("action_type").cast(pl.String).str.contains("item")).select(
        pl.col("user_id").cast(pl.String),
        "step",
        at="timestamp",
        touched_items=pl.col("reference").cast(pl.String).cast(pl.Int32, strict=False),
    )
    return (
        lists.select("event_id", "user_id", "timestamp")
        .unique("event_id")
        .join(touches.drop_nulls(), on="user_id")
        .filter(pl.col("at") < pl.col("timestamp"))
        .sort("event_id", "at", "step")
        .group_by("event_id", maintain_order=True)
        .agg("touched_items")
    )
