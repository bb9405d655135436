"""What a user would pick instead of a network: boosted trees and logistic regression, with counts by hand.

The counts are made from the feature spec alone. For every sequence that shares the ids of a field of the row:
log(1 + Σ exp(-λ · age) · [event = target]) for four decays λ (age 0 is the newest event), and whether the
newest event matches. Beside them the number of events, and the parts of the newest event as categories.
Logistic regression also gets pairs: a part of the newest event with a part of the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import lightgbm
import numpy as np
import polars as pl
from data_sets import DataSet
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder

from ctrkit.arrays import Floats, Integers
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.encoder import Encoder
from ctrkit.data.feature_map import FIRST_ID, PADDING_ID, FeatureMap
from ctrkit.metrics import log_loss
from ctrkit.schema import FeatureSpec

DECAYS = (0.0, 0.2, 0.7, 3.0)
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
LEAVES = (7, 31)
INTERVALS = 20
ROUNDS, PATIENCE = 3000, 50
# Trees read a field of more values as the rank of its values by frequency, which they overfit less.
FEW_VALUES = 64
# A pair of fields takes part in a linear model if its values have this many training rows on average.
ROWS_FOR_A_VALUE = 250


@dataclass(frozen=True)
class HandMade:
    """The features of all rows of a data set, n rows.

    Attributes:
        categories: codes of the fields, one column each, `[n, F]`.
        numbers: numeric features, standardised after their transform, `[n, N]`.
        counts: of the history, `[n, K]`; the names tell which.
        last: codes of the newest event's parts, one column for each sequence, `[n, S]`.
        pairs: codes of pairs for a linear model, `[n, P]`.
        count_names: names of the counts.
    """

    categories: Integers
    numbers: Floats
    counts: Floats
    last: Integers
    pairs: Integers
    count_names: tuple[str, ...]


def hand_made(data: DataSet) -> HandMade:
    """Make the features. Codes of values are learned from the training rows, the most frequent value first.

    Matches are found among the values of all rows, so that a new ad can match a new event.
    """
    spec = _without_min_count(data.spec)
    learnt = Encoder.fit(spec, data.table, rows=data.split.train)
    rows, sizes = learnt.encode(data.table), learnt.feature_map()
    counts, names = history_counts(Encoder.fit(spec, data.table).encode(data.table), sizes)
    last = [ids[:][:, -1].astype(np.int64) for ids in rows.sequences.values()]
    targets = [rows.categorical[:, _field(sizes, name)] for name in spec_targets(sizes)]
    pairs = [event * (int(target.max()) + 1) + target for event, target in product(last, targets)]
    for expression in data.crosses.values():
        cross = data.table.select(cross=expression)["cross"]
        pairs.append(cross.rank("dense").to_numpy().astype(np.int64))
    frequent = [
        pair
        for pair in pairs
        if np.unique(pair[data.split.train]).size * ROWS_FOR_A_VALUE <= data.split.train.size
    ]
    empty = np.zeros((len(rows), 0), dtype=np.int64)
    return HandMade(
        rows.categorical.astype(np.int64),
        rows.numeric.astype(np.float64),
        counts,
        np.column_stack(last) if last else empty,
        np.column_stack(frequent) if frequent else empty,
        names,
    )


def history_counts(rows: EncodedTable, sizes: FeatureMap) -> tuple[Floats, tuple[str, ...]]:
    """Counts of the target in the history, `[n, K]`, and their names."""
    columns: dict[str, Floats] = {}
    for name, table in sizes.sequences.items():
        events = rows.sequences[name][:]
        columns.setdefault("events", np.log1p((events != PADDING_ID).sum(axis=1)))
        field = next((f for f, of_field in sizes.categorical.items() if of_field == table), None)
        if field is None:
            continue
        target = rows.categorical[:, [_field(sizes, field)]]
        match = (events == target) & (target >= FIRST_ID)
        age = np.arange(events.shape[1] - 1, -1, -1.0)
        for decay in DECAYS:
            columns[f"{name}, decay {decay:g}"] = np.log1p(match @ np.exp(-decay * age))
        columns[f"{name}, newest"] = match[:, -1].astype(np.float64)
    counts = np.column_stack(list(columns.values())) if columns else np.zeros((len(rows), 0))
    return counts, tuple(columns)


def spec_targets(sizes: FeatureMap) -> list[str]:
    """The fields whose ids a sequence shares."""
    shared = set(sizes.sequences.values())
    return [name for name, table in sizes.categorical.items() if table in shared]


def boosted_trees(data: DataSet, made: HandMade, seed: int, threads: int, *, history: bool) -> Floats:
    """Probabilities of the test rows by LightGBM.

    Training stops on the validation rows, which also choose the number of leaves and whether fields of few
    values are categories or, as those of many values, ranks by frequency.

    Args:
        history: whether counts and the newest event are among the features; else only static columns.
    """
    codes = np.column_stack([made.categories, made.last]) if history else made.categories
    numbers = np.column_stack([made.numbers, made.counts]) if history else made.numbers
    features = np.column_stack([codes, numbers]).astype(np.float32)
    few = np.flatnonzero(codes.max(axis=0, initial=0) < FEW_VALUES).tolist()
    y, (train, valid, test) = _labels(data), (data.split.train, data.split.valid, data.split.test)
    best, found = np.inf, np.zeros(test.size)
    for categories, leaves in product([few, []], LEAVES):
        trees = lightgbm.LGBMClassifier(
            n_estimators=ROUNDS, learning_rate=0.03, num_leaves=leaves, min_child_samples=50, subsample=0.8,
            subsample_freq=1, colsample_bytree=0.8, random_state=seed, n_jobs=threads, verbose=-1,
        )  # fmt: skip
        trees.fit(
            features[train],
            y[train],
            eval_X=features[valid],
            eval_y=y[valid],
            eval_metric="binary_logloss",
            categorical_feature=categories,
            callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
        )
        loss = trees.best_score_["valid_0"]["binary_logloss"]
        if loss < best:
            best, found = loss, trees.predict_proba(features[test])[:, 1]
    return found


def logistic_regression(data: DataSet, made: HandMade, *, counts: bool, pairs: bool) -> Floats:
    """Probabilities of the test rows by a logistic regression, whose strength the validation rows choose.

    Categories are one-hot. A number is there as it is and as one of 20 intervals.

    Args:
        counts: whether the counts of the history are among the features.
        pairs: whether the newest event, its pairs with the target and the data set's crosses are.
    """
    train, valid, test = data.split.train, data.split.valid, data.split.test
    numbers = np.column_stack([made.numbers, made.counts]) if counts else made.numbers
    categories = [made.categories, made.last, made.pairs] if pairs else [made.categories]
    codes = np.column_stack([*categories, *_intervals(made.numbers, train)])
    one_hot = OneHotEncoder(handle_unknown="ignore", dtype=np.float32).fit(codes[train])
    parts = [one_hot.transform(codes)]
    if numbers.shape[1]:
        mean, deviation = numbers[train].mean(axis=0), numbers[train].std(axis=0)
        parts.append(
            sparse.csr_matrix((numbers - mean) / np.where(deviation > 0, deviation, 1), dtype=np.float32)
        )
    features, y = sparse.hstack(parts, format="csr"), _labels(data)
    best, found = np.inf, np.zeros(test.size)
    model = LogisticRegression(max_iter=1000, tol=1e-5, warm_start=True)
    for strength in STRENGTHS:
        model.set_params(C=strength).fit(features[train], y[train])
        loss = log_loss(y[valid], model.predict_proba(features[valid])[:, 1])
        if loss > best:
            break
        best, found = loss, model.predict_proba(features[test])[:, 1]
    return found


def _intervals(numbers: Floats, train: Integers) -> list[Integers]:
    """The number of the interval that each value is in; the training rows have about as many in each."""
    cuts = np.linspace(0, 1, INTERVALS + 1)[1:-1]
    return [np.searchsorted(np.unique(np.quantile(one[train], cuts)), one) for one in numbers.T]


def _labels(data: DataSet) -> Integers:
    column = next(iter(data.spec.labels.values()))
    return data.table[column].cast(pl.Int64).to_numpy()


def _field(sizes: FeatureMap, name: str) -> int:
    return list(sizes.categorical).index(name)


def _without_min_count(spec: FeatureSpec) -> FeatureSpec:
    """The same spec with every value as an id of its own."""
    all_values = {"min_count": 1}
    return spec.model_copy(
        update={
            "categorical": tuple(one.model_copy(update=all_values) for one in spec.categorical),
            "sequences": tuple(one.model_copy(update=all_values) for one in spec.sequences),
        }
    )
