"""Which training rows are read: negatives may be thinned, drawn by their scores, or sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import log
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ctrkit.config import Config
from ctrkit.data.split import Split
from ctrkit.errors import nearest


class HardNegativesConfig(Config):
    """Negatives that each epoch draws by the scores of the model, beside all positives.

    The chance of a negative is in proportion to random + (1 - random) · p / mean(p), with p of the model, and
    at most 1. A row that is drawn counts by the inverse of its chance, so probabilities stay those of all
    rows.

    Attributes:
        kept: share of the negatives that an epoch reads.
        random: share of the chance that does not depend on the score. It bounds by how much a row counts.
        pool: share of the negatives that the model scores, drawn at random; scores of all take about a third
            of the time of an epoch of all rows.
        refresh: number of epochs after which negatives are scored anew. Each epoch draws its own.
    """

    kept: float = Field(default=0.25, gt=0.0, lt=1.0)
    random: float = Field(default=0.25, gt=0.0, le=1.0)
    pool: float = Field(default=1.0, gt=0.0, le=1.0)
    refresh: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _drawn_from_the_pool(self) -> HardNegativesConfig:
        if self.kept > self.pool:
            raise ValueError("kept must not be above pool, as negatives are kept from those that are scored")
        return self


class NegativesConfig(Config):
    """Negatives for a log of positives alone: each positive gets rows with other items.

    A negative is the positive's row with label 0, another item, and all features that belong to the item.
    Other features, histories among them, stay as they are. An item is drawn only where the log has had it by
    the time of the row. It is never the row's own.

    Attributes:
        per_positive: number of negatives of each positive, drawn independently of each other.
        by: how an item is drawn: "uniform", all alike; "popularity", in proportion to its positives to the
            power of `power`; "session", all items of the other rows of its session alike.
        power: 1 draws items as often as they are taken; 0.75 is that of word2vec (Mikolov et al., NeurIPS
            2013).
        corrected: whether a negative drawn by popularity counts by the inverse of its chance, so that losses
            and metrics are as with uniform negatives: the correction of Bengio and Senécal (IEEE
            Transactions on Neural Networks 2008), which in a softmax is the logQ correction (Yi et al.,
            RecSys 2019).
        item: column of the item; by default that of `features.candidate`, or else the only one that the
            histories share.
        features: features that come with the item, as the item's first row has them. By default those of
            `features.candidate`, and all that are the same in all rows of each item.
        user: column of the user; by default `features.group`.
        session: column of the session; by default `features.group`.
        exclude_known: whether items are left out that the user takes in other rows of the same or an earlier
            part of the split, even later than the row. So the model is not taught that they are not liked;
            but it is not told either that the user had not taken them yet. By default where users are known
            and `by` is not "session".
        replace_logged: whether rows without the first label are left out, and sampled negatives take their
            place; otherwise such rows are an error.
    """

    per_positive: int = Field(default=4, ge=1)
    by: Literal["uniform", "popularity", "session"] = "uniform"
    power: float = Field(default=0.75, ge=0.0, le=1.0)
    corrected: bool = False
    item: str | None = None
    features: tuple[str, ...] | None = None
    user: str | None = None
    session: str | None = None
    exclude_known: bool | None = None
    replace_logged: bool = False

    @model_validator(mode="after")
    def _goes_together(self) -> NegativesConfig:
        if self.corrected and self.by != "popularity":
            raise ValueError("only negatives that are drawn by popularity can be corrected")
        if self.exclude_known and self.by == "session":
            raise ValueError(
                "the items of a session are known; leave out exclude_known, or choose another by"
            )
        if self.session is not None and self.by != "session":
            raise ValueError("a session is read only with by: session")
        return self


class SamplingConfig(Config):
    """Which training and validation rows a training reads.

    Attributes:
        kept_negatives: w, the share of the rows without the first label that is read, drawn at random. All
            rows with the label are read. Among the read rows the label is more frequent: its odds are 1 / w
            times those of all rows. So log(w) is added to the logits of the trained model, which then
            predicts q = p / (p + (1 - p) / w) (He et al., "Practical Lessons from Predicting Clicks on Ads at
            Facebook", ADKDD 2014, section 6.3).
        hard_negatives: negatives that each epoch draws by their scores; None to read all rows in each.
        balance: task -> share of the rows with its label among those that an epoch reads, and so on average
            in every batch. An epoch reads as many rows as there are: rows of a rare label several times, and
            others not in every epoch. Rows of the other labels keep their proportions. A row counts by the
            inverse of the number of times that it is read on average, so sums over the rows of an epoch are
            unbiased estimates of those over all rows (Horvitz and Thompson, JASA 1952), and probabilities
            stay those of all rows.
        negatives: negatives for a log of positives alone; None for a log that has its own.
    """

    kept_negatives: float = Field(default=1.0, gt=0.0, le=1.0)
    hard_negatives: HardNegativesConfig | None = None
    balance: dict[str, Annotated[float, Field(gt=0.0, lt=1.0)]] = Field(default_factory=dict)
    negatives: NegativesConfig | None = None

    @model_validator(mode="after")
    def _one_way_of_drawing(self) -> SamplingConfig:
        if self.balance and self.hard_negatives is not None:
            raise ValueError("`balance` and `hard_negatives` both say what an epoch reads; give one of them")
        if self.negatives is not None and self.kept_negatives < 1.0:
            raise ValueError("kept_negatives thins logged negatives; with sampled ones set per_positive")
        return self

    def shares(self, tasks: Sequence[str]) -> dict[int, float]:
        """Place of a task in the funnel -> share of the rows with its label, in funnel order.

        Raises:
            ValueError: there is no such task, or a later task has no smaller share than one before it.
        """
        for task in self.balance:
            if task not in tasks:
                raise ValueError(f"sampling.balance: there is no task '{task}'. {nearest(task, tasks)}")
        found = {index: self.balance[task] for index, task in enumerate(tasks) if task in self.balance}
        for before, after in pairwise(found):
            if found[after] >= found[before]:
                raise ValueError(
                    f"sampling.balance: the share of '{tasks[after]}' must be below that of"
                    f" '{tasks[before]}', as every row of the one is one of the other"
                )
        return found

    @property
    def shift(self) -> float:
        """log(w), which makes logits of the read rows logits of all rows."""
        return log(self.kept_negatives)


def sampled(split: Split, labels: NDArray[np.float32], config: SamplingConfig, seed: int) -> Split:
    """The split with the training and validation rows that are read; test rows are all kept.

    Args:
        split: the rows of each part.
        labels: labels of all rows, `[n, T]`.
        config: which rows are read.
        seed: random seed.
    """
    if config.kept_negatives == 1.0:
        return split
    drawn = np.random.default_rng([seed, 1]).random(len(labels)) < config.kept_negatives
    read = drawn | (labels[:, 0] == 1.0)
    return replace(split, train=split.train[read[split.train]], valid=split.valid[read[split.valid]])
