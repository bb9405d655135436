"""From a bandit log to what a policy learns from: features, parts, and encoded candidates of every row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from ctrkit.arrays import Floats, Integers
from ctrkit.data.encoder import Encoder
from ctrkit.data.split import Split, SplitConfig, parts_of_users, split_rows
from ctrkit.errors import ConfigError, DataError
from ctrkit.ope import BanditLog, read_bandit_log
from ctrkit.ope.models.reward_features import context_columns
from ctrkit.policies import candidate_mask
from ctrkit.schema import (
    CANDIDATE_PREFIX,
    CandidateSpec,
    CategoricalFeature,
    FeatureSpec,
    NumericFeature,
    require_columns,
)
from ctrkit.training.counterfactual_loop import LoggedDecisions

# Whole numbers with more values than this are amounts rather than ids, unless a spec says otherwise.
MOST_IDS = 1000
ACTION, TIME = "action", "timestamp"


def log_to_learn_from(log: BanditLog) -> BanditLog:
    """The log with a list of candidates for every row: all actions of the log, where it names none.

    Raises:
        DataError: the log tells nothing of what other actions would have earned.
    """
    if (log.propensity == 1.0).all():
        raise DataError(
            "every propensity is 1: the log shows what one deterministic policy earned, and of no row what"
            " another action would have",
            file=log.file,
            column="propensity",
            hint="Learn from decisions made at random, with the probability of each",
        )
    if (log.reward == log.reward[0]).all():
        raise DataError(
            f"every reward is {log.reward[0]:g}: no action is better than another",
            file=log.file,
            column="reward",
            hint="Give a log with outcomes",
        )
    if log.actions is not None:
        log = replace(log, table=log.table.with_columns(log.candidates(slice(0, len(log)))), actions=None)
    if log.width == 1:
        raise DataError(
            "every row has one candidate, and there is nothing to choose",
            file=log.file,
            column="candidates",
            hint="Log all candidates of each decision",
        )
    return log


def derived_features(log: BanditLog) -> FeatureSpec:
    """A spec of every column that was known before the decision, the action's id and the candidates' lists.

    Text and whole numbers are categories, but for whole numbers of more than `MOST_IDS` values.
    """
    lists = {
        name.removeprefix(CANDIDATE_PREFIX): log.table[name].explode()
        for name, dtype in log.table.schema.items()
        if name.startswith(CANDIDATE_PREFIX) and isinstance(dtype, pl.List)
    }
    columns = {
        **{name: log.table[name] for name in context_columns(log)},
        **{name: values for name, values in lists.items() if not values.dtype.is_nested()},
    }
    numbers = {
        name
        for name, values in columns.items()
        if values.dtype.is_float() or (values.dtype.is_integer() and values.n_unique() > MOST_IDS)
    }
    return FeatureSpec(
        categorical=tuple(
            CategoricalFeature(name=name) for name in (*columns, ACTION) if name not in numbers
        ),
        numeric=tuple(NumericFeature(name=name) for name in columns if name in numbers),
        labels={"reward": "reward"},
        timestamp=TIME if TIME in log.table.columns else None,
        candidate=CandidateSpec(id=ACTION, features=tuple(name for name in lists if name in columns)),
    )


def divide(log: BanditLog, config: SplitConfig, seed: int) -> Split:
    """Training, validation and held-out rows: by time, or all rows of a user on one side.

    Raises:
        ConfigError: a column of users is named, or rows are divided several times or in folds by time.
        DataError: when a part would be empty, or time stamps are asked for and missing.
    """
    config.need_one_fold()
    if config.key is not None:
        raise ConfigError(
            "key 'split.key': the users of a log are those of its own columns", hint="Leave it out"
        )
    timed = TIME in log.table.columns
    if config.by == "time" or (config.by == "auto" and timed):
        # Only the time stamp of the spec is read; a spec needs some feature.
        spec = FeatureSpec(categorical=(CategoricalFeature(name=ACTION),), timestamp=TIME)
        return split_rows(spec, config, log.table, seed, log.file)
    part = parts_of_users(log.units, config, seed)
    train, valid, test = (np.flatnonzero(part == index) for index in range(3))
    if 0 in (len(train), len(valid), len(test)):
        raise DataError(
            "too few users, or rows, to train, validate and hold out some of each",
            file=log.file,
            hint="Give a longer log or other shares",
        )
    return Split(train, valid, test, by=log.unit_columns[0].removesuffix("_id") if log.clustered else "row")


def rows_of(log: BanditLog, rows: Integers) -> BanditLog:
    """Some rows of a log as a log."""
    return replace(read_bandit_log(log.table[rows]), file=log.file)


def candidate_rows(spec: FeatureSpec, log: BanditLog) -> pl.DataFrame:
    """One line a candidate with the static features of the spec, as `Model.score_candidates` reads them.

    Raises:
        DataError: for a column that the features need and the log has not.
    """
    chosen = spec.candidate
    assert chosen is not None
    candidates = log.table["candidates"]
    listed = spec.candidate_lists(log.table.columns)
    shared = [name for name in spec.static_columns if name not in listed and name != chosen.id]
    require_columns(log.table, [*listed.values(), *shared], log.file)
    rows = np.repeat(np.arange(len(log)), candidates.list.len().to_numpy())
    return log.table.select(shared)[rows].with_columns(
        candidates.explode().alias(chosen.id),
        *(log.table[column].explode().alias(name) for name, column in listed.items()),
    )


def fit_encoder(spec: FeatureSpec, log: BanditLog) -> Encoder:
    """Ids and scales from all candidates of the rows: what was never chosen can be learnt to be chosen.

    Counts, and so `min_count`, are of candidates.
    """
    most = spec.most_ids()  # histories, which are learnt apart, decide which ids stay
    fields = tuple(
        f if most[f.name] is not None else f.model_copy(update={"hash": False}) for f in spec.categorical
    )
    of_candidates = spec.model_copy(update={"categorical": fields, "sequences": ()})
    static = Encoder.fit(of_candidates, candidate_rows(spec, log), log.file)
    own = tuple(sequence for sequence in spec.sequences if sequence.shares is None)
    no_fields = {"categorical": (), "numeric": (), "bags": (), "vectors": ()}
    histories = spec.model_copy(update={**no_fields, "sequences": own})
    events = Encoder.fit(histories, log.table, log.file)
    vocabularies = {**static.vocabularies, **events.vocabularies}
    unknown = {**events.usual_unknown, **static.usual_unknown}
    missing = {**events.usual_missing, **static.usual_missing}
    hashed, learnt = spec.hashed(vocabularies), (static.bins, static.stocks)
    return Encoder(hashed, vocabularies, static.scales, unknown, missing, (), *learnt)


def logged_decisions(log: BanditLog, encoder: Encoder, scale: float, q: Floats | None) -> LoggedDecisions:
    """The rows of a log, encoded.

    Args:
        scale: what rewards are divided by.
        q: the reward model's predictions, [N, K], or None.
    """
    rows = slice(0, len(log))
    mask = candidate_mask(log.table["candidates"])
    logging = log.logging_probabilities(rows)
    return LoggedDecisions(
        encoder.encode(log.table, log.file, labels=False, static=False),
        encoder.encode(candidate_rows(encoder.spec, log), log.file, labels=False, sequences=False),
        mask.sum(axis=1),
        log.action_index,
        log.propensity,
        log.reward / scale,
        log.counts / log.counts.mean(),
        None if logging is None else logging[mask],
        None if q is None else q[mask] / scale,
    )
