"""LightGBM: boosted trees over fields, numbers and counts of the history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import nan
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt
from scipy.special import logit
from torch import Tensor
from torch.nn import functional as F

from ctrkit.data.feature_map import FIRST_ID, PADDING_ID, UNKNOWN_ID, Bag, FeatureMap
from ctrkit.errors import ConfigError
from ctrkit.extras import require
from ctrkit.models.base import register
from ctrkit.models.scorer import Output, Scorer, ScorerConfig
from ctrkit.models.tree_text import check_trees, only_trees
from ctrkit.nn.bags import amounts_of
from ctrkit.nn.batches import Batch
from ctrkit.nn.embedding_tables import known_or_unknown
from ctrkit.nn.history import HistoryState
from ctrkit.nn.matches import Matches, matches_of
from ctrkit.nn.numbers import present

# Names of arrays: the trees of a task as bytes of text, and the logit that they add to, or that stands alone.
_TREES, _LOGIT = "trees", "logit"


class LightGBMConfig(ScorerConfig):
    """Config of LightGBM. The validation rows choose the best of all pairs of `leaves` and `categories`.

    Attributes:
        leaves: largest numbers of leaves of a tree that are tried.
        categories: ways of reading ids that are tried: as categories, if a field has fewer than
            `few_values` ids, or as their ranks by frequency.
        few_values: see `categories`.
        learning_rate: factor of each new tree.
        rounds: largest number of trees.
        patience: training stops after this number of trees without a better loss of the validation rows.
        rows_of_leaf: smallest number of training rows in a leaf.
        row_share: share of the rows that each tree reads.
        column_share: share of the columns that each tree reads.
    """

    name: Literal["lightgbm"] = "lightgbm"
    leaves: tuple[int, ...] = Field(default=(7, 31), min_length=1)
    categories: tuple[bool, ...] = Field(default=(True, False), min_length=1)
    few_values: PositiveInt = 64
    learning_rate: PositiveFloat = 0.03
    rounds: PositiveInt = 3000
    patience: PositiveInt = 50
    rows_of_leaf: PositiveInt = 50
    row_share: float = Field(default=0.8, gt=0.0, le=1.0)
    column_share: float = Field(default=0.8, gt=0.0, le=1.0)


@register(LightGBMConfig)
class LightGBM(Scorer):
    """Gradient boosting of trees, for each task given the task before it: "LightGBM: A Highly Efficient
    Gradient Boosting Decision Tree" (Ke et al., NeurIPS 2017).

    Their columns are the ids of the fields and of the newest events; the numbers and those of vectors, NaN
    where missing; the number of events of each domain; and, for each sequence that shares the ids of a target
    field, its match terms (see `ctrkit.nn.matches`) and whether the newest event equals the target. Of each
    bag they are the number of its ids, the sum of its weights if it has some, and how much each of its most
    frequent ids counts: unknown and the first `few_values` of its table.

    Args:
        config: settings of the training.
        feature_map: features and tasks.

    Raises:
        ConfigError: LightGBM is not installed, or the rows have a value.
    """

    def __init__(self, config: LightGBMConfig, feature_map: FeatureMap) -> None:
        super().__init__(feature_map)
        self.library = require("lightgbm", "the model 'lightgbm'", "trees")
        if feature_map.value:
            raise ConfigError(
                "the model 'lightgbm' predicts no value",
                hint="Leave out `features.value`, or choose another model",
            )
        self.config = config
        self.reads_history = bool(feature_map.sequences)
        domains = feature_map.by_domain() if self.reads_history else ()
        # One sequence of each domain, whose events are counted.
        self.counted = [next(iter(domain.sequences)) for domain in domains]
        self.matches = Matches(feature_map).double() if self.reads_history else None
        tables = (*feature_map.categorical.values(), *feature_map.sequences.values())
        self.sizes = tuple(feature_map.tables[table] for table in tables)
        # LightGBM reads a missing number as 0 where training saw none: it gets the mean, where this is not 0.
        centres = feature_map.centres.items()
        means = {name: mean for name, mean in centres if name not in feature_map.missing}
        self.absent = torch.tensor([means.get(name, nan) for name in feature_map.numeric])
        self.logits = [0.0 for _ in feature_map.tasks]
        self.trees: list[Any] = [None for _ in feature_map.tasks]
        self.texts = ["" for _ in feature_map.tasks]

    @property
    def columns(self) -> int:
        """The number of columns that trees read: ids first."""
        bags = sum(self._most_frequent(bag) + bag.weighted for bag in self.feature_map.bags.values())
        pairs = len(self.matches.pairs) if self.matches is not None else 0
        counts = self.matches.outputs if self.matches is not None else 0
        numbers = len(self.feature_map.numeric) + sum(one.width for one in self.feature_map.vectors.values())
        return len(self.sizes) + numbers + len(self.counted) + counts + pairs + bags

    def _most_frequent(self, bag: Bag) -> int:
        """The number of ids with a column of their own, and one for padding, whose column counts all ids."""
        return min(self.feature_map.tables[bag.table], FIRST_ID + self.config.few_values)

    def _of_bag(self, batch: Batch, name: str, bag: Bag) -> Tensor:
        """The columns of a bag, `[U * K, columns]`."""
        ids, size = known_or_unknown(batch.bags[name]).long(), self._most_frequent(bag)
        columns = [(ids != PADDING_ID).sum(dim=1, keepdim=True).double()]
        if bag.weighted:
            columns.append(batch.bag_weights[name].sum(dim=1, keepdim=True))
        amounts = batch.numeric.new_zeros(len(ids), size + 1)
        amounts.scatter_add_(1, ids.clamp(max=size), amounts_of(batch, name, bag))
        return torch.cat([*columns, amounts[:, UNKNOWN_ID:size]], dim=1)

    @torch.no_grad()
    def read(self, batch: Batch, sequences: Mapping[str, Tensor]) -> Tensor:
        """The columns of U * K rows, float32 `[U * K, columns]`, from sequences `[U, L]`, for K rows each."""
        # Sums in 64 bits round to the same 32 in every runtime, so that equal rows fall into equal leaves.
        weights = {name: one.double() for name, one in batch.bag_weights.items()}
        batch = replace(batch, numeric=batch.numeric.double(), bag_weights=weights)
        parts = [known_or_unknown(batch.categorical)]
        counts = [present(batch.numeric, self.absent), *batch.vectors.values()]
        if self.matches is not None:
            histories = len(next(iter(sequences.values())))
            times = len(batch) // max(histories, 1)
            padded = {name: F.pad(ids, (1, 0)) for name, ids in sequences.items()}
            newest = torch.cat([ids[:, -1:] for ids in padded.values()], dim=1)
            parts.append(known_or_unknown(newest).repeat_interleave(times, dim=0))
            for name in self.counted:
                events = (padded[name] != PADDING_ID).sum(dim=1, keepdim=True)
                counts.append(events.double().log1p().repeat_interleave(times, dim=0))
            if self.matches.pairs:
                counts.append(self.matches(padded, batch.categorical))
            for sequence, field in self.matches.pairs.items():
                target = batch.categorical[:, field].reshape(histories, times)
                counts.append(matches_of(padded[sequence][:, -1:], target).float().flatten(0, 1))
        counts += [self._of_bag(batch, name, bag) for name, bag in self.feature_map.bags.items()]
        return torch.cat([*parts, *counts], dim=1).float()

    def forward(self, batch: Batch, history: HistoryState | None = None) -> Output:
        columns = self.read(batch, batch.sequences if history is None else history.ids).numpy()
        threads = torch.get_num_threads()
        found = [
            np.full(len(columns), base)
            if trees is None or not len(columns)
            else base + trees.predict(columns, raw_score=True, num_threads=threads)
            for trees, base in zip(self.trees, self.logits, strict=True)
        ]
        return self._output(np.stack(found, axis=1))

    def set_base_rates(self, rates: Sequence[float]) -> None:
        """Let each task without trees have its base rate, given the task before it."""
        self.logits = [float(logit(rate)) for rate in rates]

    def shift(self, amount: float) -> None:
        """Add a number to the logit of the first task, for good."""
        self.logits[0] += amount

    def set_trees(self, task: int, text: str) -> None:
        """Take the trees of a task in LightGBM's text form.

        Raises:
            ValueError: the text does not hold trees over these columns.
        """
        check_trees(text, self.columns)
        self.texts[task], self.logits[task] = text, 0.0
        self.trees[task] = self.library.Booster(model_str=text)

    def take_trained(self, task: int, booster: Any, rounds: int) -> None:
        """Take the first trees of a booster as those of a task."""
        self.set_trees(task, only_trees(booster.model_to_string(num_iteration=rounds)))

    def arrays(self) -> dict[str, NDArray[Any]]:
        found: dict[str, NDArray[Any]] = {}
        for task, text, base in zip(self.feature_map.tasks, self.texts, self.logits, strict=True):
            if text:
                found[f"{_TREES}.{task}"] = np.frombuffer(text.encode(), dtype=np.uint8).copy()
            if base or not text:
                found[f"{_LOGIT}.{task}"] = np.array([base])
        return found

    def take_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        left = dict(arrays)
        for index, task in enumerate(self.feature_map.tasks):
            text, base = left.pop(f"{_TREES}.{task}", None), left.pop(f"{_LOGIT}.{task}", None)
            if text is not None and text.dtype == np.uint8:
                self.set_trees(index, text.tobytes().decode())
            elif text is not None or base is None:
                raise ValueError(f"the trees of {task} are missing or have another type")
            if base is not None:
                if base.shape != (1,):
                    raise ValueError(f"the logit of {task} is no number")
                self.logits[index] = float(base[0])
        if left:
            raise ValueError(f"{min(left)} is unknown")
