"""Propensities that a log lacks, estimated from the log, and the check whether they balance it.

What the estimate rests on cannot be checked: that the logging policy chose by nothing but the columns given.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl
from scipy.optimize import minimize

from ctrkit.arrays import Booleans, Floats, Integers
from ctrkit.errors import ConfigError, DataError, nearest
from ctrkit.ope.models.learners import sample_weight

PropensityMethod: TypeAlias = Literal["logistic", "trees"]

# Actions with fewer rows among those a model is fitted on stand together as one.
LEAST_ROWS = 20
# Values of a text column that have a column each, the most frequent; the rest stand together.
MOST_VALUES = 20
# Cells of rows × actions that are in memory at a time, or that a calibration reads.
CELLS = 2_000_000


@dataclass(frozen=True)
class EstimatedPropensities:
    """Propensities of a log of N rows and K actions, each from models that have not seen the row's user.

    Attributes:
        logged: [N] of the logged action, in (0, 1).
        actions: [K] the log's actions, sorted.
        all_actions: [N, K], rows sum to 1; None unless asked for.
        log_loss: mean of -log(logged).
        frequency_log_loss: that of the actions' frequencies in the other folds; where `log_loss` is not
            well below it, the columns do not tell how the logging policy chose.
        balance: see `balance`.
    """

    logged: Floats
    actions: pl.Series
    all_actions: Floats | None
    log_loss: float
    frequency_log_loss: float
    balance: pl.DataFrame


def estimate_propensities(
    context: pl.DataFrame,
    actions: pl.Series,
    counts: Floats,
    users: Integers | None = None,
    method: PropensityMethod = "logistic",
    folds: int = 3,
    seed: int = 0,
    all_actions: bool = False,
) -> EstimatedPropensities:
    """Estimate the probability with which the logging policy chose each row's action.

    A multinomial model over the context columns, cross-fitted (Chernozhukov et al., Double/Debiased Machine
    Learning, 2018), then calibrated on rows that it has not seen by one temperature and a bias for each
    action (Alexandari, Kundaje and Shrikumar, Maximum Likelihood with Bias-Corrected Calibration, ICML
    2020): for fold f the calibration reads, for every other fold g, what a model without f and g says of g.
    Last, half a row is added for each action (Krichevsky and Trofimov, The Performance of Universal
    Encoding, 1981), so that no propensity is 0. Without context columns these are the actions' frequencies.

    Every action counts as available in every row: lists of candidates that differ are not read.

    Args:
        context: [N] rows of numbers, booleans and texts that were known before the choice; a missing number
            is a value of its own.
        actions: [N] the logged actions.
        counts: [N] how many decisions each row stands for, as which all that follows counts it.
        users: [N] codes from 0; all rows of a user stand in one fold.
        method: `logistic` regression, or boosted `trees`, which find interactions and cost far more where
            actions are many.
        folds: at least 3, so that a model can be fitted without the two folds of a calibration; fewer are
            made where users are fewer.
        seed: of folds and trees.
        all_actions: whether to give [N, K].

    Raises:
        ConfigError: for an unknown method or too few folds.
        DataError: for columns that cannot be read, lengths that differ, a single action, or fewer than
            three users or rows.
    """
    if method not in ("logistic", "trees"):
        raise ConfigError(f"there is no method '{method}'", hint=nearest(method, ("logistic", "trees")))
    if folds < 3:
        raise ConfigError(f"{folds} folds are too few to calibrate on rows unseen", hint="Give at least 3")
    if context.width and context.height != len(actions):
        raise DataError(f"the context has {context.height} rows and there are {len(actions)} actions")
    if actions.null_count():
        row = int(actions.is_null().arg_true()[0])
        raise DataError("the action is missing", column=actions.name or "action", row=row)
    known = actions.unique().sort()
    if len(known) < 2:
        raise DataError(
            "the log has a single action, which was chosen with certainty as far as it shows",
            column=actions.name or "action",
            hint="Give a log of a policy that explores",
        )
    codes = known.search_sorted(actions).to_numpy().astype(np.int64)
    features = encode_context(context, counts)
    fold = _folds(len(codes), users, folds, seed)
    number = int(fold.max()) + 1

    def fit(left_out: tuple[int, ...]) -> _Classifier:
        rows = ~np.isin(fold, left_out)
        return _Classifier(features[rows], codes[rows], counts[rows], len(known), method, seed)

    modelled = features.shape[1] > 0
    without_two = {pair: fit(pair) for pair in combinations(range(number), 2)} if modelled else {}
    logged = np.empty(len(codes))
    frequency = np.empty(len(codes))
    matrix = np.empty((len(codes), len(known))) if all_actions else None
    for held in range(number):
        others_rows = fold != held
        rest = float(counts[others_rows].sum())
        frequencies = np.bincount(codes[others_rows], counts[others_rows], len(known))
        shares = _smooth(frequencies / rest, rest)
        mine = np.flatnonzero(fold == held)
        frequency[mine] = shares[codes[mine]]
        if modelled:
            others = [other for other in range(number) if other != held]
            inner = {other: without_two[min(held, other), max(held, other)] for other in others}
            scale, bias = _calibrate(inner, features, codes, counts, fold, len(known), seed)
            model = fit((held,))
        for at in np.array_split(mine, len(mine) * len(known) // CELLS + 1):
            if modelled:
                scores = scale * model.log_probabilities(features[at]) + bias
                probabilities = _smooth(_softmax(scores), rest)
            else:
                probabilities = np.broadcast_to(shares, (len(at), len(known)))
            logged[at] = probabilities[np.arange(len(at)), codes[at]]
            if matrix is not None:
                matrix[at] = probabilities
    return EstimatedPropensities(
        logged,
        known,
        matrix,
        float(-np.average(np.log(logged), weights=counts)),
        float(-np.average(np.log(frequency), weights=counts)),
        balance(context, actions, logged, counts),
    )


def encode_context(context: pl.DataFrame, counts: Floats) -> Floats:
    """Context columns as numbers [N, D] of mean 0 and deviation 1 over the decisions that rows stand for.

    Constant columns are left out. A number with missing values has a second column that tells which are; a
    text has one for each of its most frequent values.

    Raises:
        DataError: for a column that holds neither numbers nor texts, or an infinite number.
    """
    columns = [values for _, values in _numbers(context, counts)]
    if not columns:
        return np.zeros((context.height, 0))
    matrix = np.column_stack(columns)
    centred = matrix - np.average(matrix, axis=0, weights=counts)
    spread = np.sqrt(np.average(centred**2, axis=0, weights=counts))
    varying = spread > 1e-12 * np.abs(matrix).max(axis=0, initial=0.0)
    return np.asarray(centred[:, varying] / spread[varying])


def balance(context: pl.DataFrame, actions: pl.Series, propensity: Floats, counts: Floats) -> pl.DataFrame:
    """Whether weights of one over the propensity make the rows of each action alike to all rows.

    McCaffrey, Griffin, Almirall, Slaughter, Ramchand and Burgette, A Tutorial on Propensity Score Estimation
    for Multiple Treatments Using Generalized Boosted Models, Statistics in Medicine 2013: the population
    standardised difference, (mean among an action's rows - mean of all rows) / deviation of all rows. A size
    up to 0.2 is small by their rule, and 0.1 by a stricter one in use. An action of few rows has large ones
    by chance: they scatter by `noise`.

    Args:
        context: [N] rows of numbers, booleans and texts.
        actions: [N] the logged ones.
        propensity: [N] of the logged action.
        counts: [N] how many decisions each row stands for.

    Returns:
        One row an action and column (each frequent value of a text is one, as `column=value`), the largest
        difference that is left first: `action`; `column`; `rows`, decisions of the action; `before`, `after`
        the standardised difference without and with weights; `noise`, 1 / √ of the weighted rows' effective
        number.
    """
    codes = actions.rank("dense").to_numpy().astype(np.int64) - 1
    names = actions.unique().sort()
    count, weights = len(names), counts / propensity
    rows, total = (np.bincount(codes, of_row, count) for of_row in (counts, weights))
    noise = np.sqrt(np.bincount(codes, weights**2, count)) / total
    parts = []
    for column, values in _numbers(context, counts):
        centred = values - np.average(values, weights=counts)
        spread = np.sqrt(np.average(centred**2, weights=counts))
        if spread <= 1e-12 * np.abs(values).max(initial=0.0):
            continue
        standard = centred / spread
        parts.append(
            pl.DataFrame(
                {
                    "action": names,
                    "column": [column] * count,
                    "rows": rows.round().astype(np.int64),
                    "before": np.bincount(codes, counts * standard, count) / rows,
                    "after": np.bincount(codes, weights * standard, count) / total,
                    "noise": noise,
                }
            )
        )
    if not parts:
        numbers = dict.fromkeys(("before", "after", "noise"), pl.Float64())
        return pl.DataFrame(
            schema={"action": names.dtype, "column": pl.String(), "rows": pl.Int64(), **numbers}
        )
    return pl.concat(parts).sort(pl.col("after").abs(), descending=True, maintain_order=True)


def _numbers(context: pl.DataFrame, counts: Floats) -> list[tuple[str, Floats]]:
    """The columns as named numbers, [N] each."""
    found: list[tuple[str, Floats]] = []
    for values in context.iter_columns():
        name, dtype = values.name, values.dtype
        if dtype.is_numeric() or dtype == pl.Boolean:
            number = values.cast(pl.Float64).fill_nan(None)
            missing = number.is_null().to_numpy()
            floats = number.fill_null(0.0).to_numpy()
            if not np.isfinite(floats).all():
                raise DataError("a number is infinite", column=name, row=int(np.argmin(np.isfinite(floats))))
            if missing.any():
                mean = np.average(floats[~missing], weights=counts[~missing]) if not missing.all() else 0.0
                found.append((f"{name} missing", missing.astype(np.float64)))
                floats = np.where(missing, mean, floats)
            found.append((name, floats))
        elif dtype in (pl.String, pl.Categorical, pl.Enum):
            texts = values.cast(pl.String).fill_null("")
            table = pl.DataFrame({"value": texts, "count": counts})
            sums = table.group_by("value").agg(pl.col("count").sum())
            frequent = sums.sort("count", "value", descending=[True, False])["value"].head(MOST_VALUES)
            found += [
                (f"{name}={value}", (texts == value).to_numpy().astype(np.float64)) for value in frequent
            ]
        else:
            raise DataError(
                f"a propensity model reads numbers and texts, not {dtype}",
                column=name,
                hint="Leave the column out or cast it",
            )
    return found


def _folds(rows: int, users: Integers | None, folds: int, seed: int) -> Integers:
    unit = np.arange(rows) if users is None else users
    units = int(unit.max()) + 1
    if units < 3:
        raise DataError(
            f"propensities are fitted on some users, calibrated on others and used on others again, and the "
            f"log has {units}",
            hint="Give a longer log",
        )
    return np.asarray((np.random.default_rng(seed).permutation(units) % min(units, folds))[unit])


class _Classifier:
    """A multinomial model of K actions, of which rare ones stand together and share by their frequency."""

    def __init__(
        self,
        features: Floats,
        codes: Integers,
        counts: Floats,
        count: int,
        method: PropensityMethod,
        seed: int,
    ) -> None:
        rows = np.bincount(codes, counts, count)
        self.count, self.rows = count, float(counts.sum())
        self._rare: Booleans = rows < LEAST_ROWS
        rare_rows = float(rows[self._rare].sum())
        # A single row makes no class: its action is left to the half row that each action is given.
        rare_class = count if rare_rows > 1 else -1
        target = np.where(self._rare, rare_class, np.arange(count))[codes]
        kept = target >= 0
        self._share = np.where(self._rare, rows / max(rare_rows, 1), 1.0)
        self._frequency = rows / rows.sum()
        self._model: Any = None
        if len(np.unique(target[kept])) > 1:
            self._model = _model(method, int(kept.sum()), seed).fit(
                features[kept], target[kept], sample_weight(counts[kept])
            )

    def log_probabilities(self, features: Floats) -> Floats:
        """[B, K]; no action is impossible."""
        if self._model is None:
            found = np.broadcast_to(self._frequency, (len(features), self.count))
        else:
            classes = np.zeros((len(features), self.count + 1))
            classes[:, self._model.classes_] = self._model.predict_proba(features)
            found = np.where(self._rare, classes[:, self.count :] * self._share, classes[:, : self.count])
        return np.asarray(np.log(_smooth(found, self.rows)))


def _model(method: PropensityMethod, rows: int, seed: int) -> Any:  # sklearn is untyped
    if method == "logistic":
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=1.0, max_iter=1000)
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=200,
        max_leaf_nodes=8,
        min_samples_leaf=max(min(50, rows // 20), 1),
        l2_regularization=10.0,
        early_stopping=True,
        validation_fraction=0.2,
        n_iter_no_change=5,
        random_state=seed,
    )


def _calibrate(
    models: dict[int, _Classifier],
    features: Floats,
    codes: Integers,
    counts: Floats,
    fold: Integers,
    count: int,
    seed: int,
) -> tuple[float, Floats]:
    """Temperature (as a factor) and biases [K] that make the models' unseen rows most likely.

    At most `CELLS` / K rows are read, which is ample for K + 1 parameters. A weak prior, as of one row each,
    holds the biases of actions that hardly occur.
    """
    most = max(CELLS // count // len(models), 1)
    rng = np.random.default_rng(seed)
    logits, chosen, weights = [], [], []
    for held, model in models.items():
        rows = np.flatnonzero(fold == held)
        if len(rows) > most:
            rows = rng.choice(rows, most, replace=False)
        logits.append(model.log_probabilities(features[rows]))
        chosen.append(codes[rows])
        weights.append(counts[rows])
    x, y, c = np.concatenate(logits), np.concatenate(chosen), np.concatenate(weights)
    picked = c @ x[np.arange(len(y)), y]
    seen = np.bincount(y, c, count)

    rows_in_all = float(c.sum())

    def loss(parameters: Floats) -> tuple[float, Floats]:
        scale, b = parameters[0], parameters[1:]
        scores = scale * x + b
        top = scores.max(axis=1, keepdims=True)
        exp = np.exp(scores - top)
        total = exp.sum(axis=1, keepdims=True)
        p = exp / total
        value = float(c @ (np.log(total) + top)[:, 0] - scale * picked - b @ seen)
        value += 0.5 * float(b @ b + (scale - 1) ** 2)
        slope = np.concatenate([[c @ (p * x).sum(axis=1) - picked + scale - 1], c @ p - seen + b])
        return value / rows_in_all, slope / rows_in_all

    found = minimize(loss, np.concatenate([[1.0], np.zeros(count)]), jac=True, method="L-BFGS-B")
    return float(found.x[0]), np.asarray(found.x[1:])


def _softmax(scores: Floats) -> Floats:
    exp = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=1, keepdims=True))


def _smooth(probabilities: Floats, rows: float) -> Floats:
    """Probabilities [..., K] from that many rows, as if half a row more had shown each action."""
    return np.asarray((rows * probabilities + 0.5) / (rows + 0.5 * probabilities.shape[-1]))
