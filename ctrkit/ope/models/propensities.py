"""Estimates propensities that a log lacks, and checks whether they balance its columns.

The estimate assumes that the logging policy chose by the given columns alone, which no data can verify.
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

# Actions with fewer rows in a model's training data form one class.
LEAST_ROWS = 20
# Number of most frequent values of a text column that get a column each; the others have none.
MOST_VALUES = 20
# Number of cells (rows × actions) that are in memory at a time, or that a calibration reads.
CELLS = 2_000_000


@dataclass(frozen=True)
class EstimatedPropensities:
    """Propensities of a log of N rows and K actions, from models not fitted on the row's user.

    Attributes:
        logged: [N] probability of the logged action, in (0, 1).
        actions: [K] the log's actions, sorted.
        all_actions: [N, K] probability of each action, rows sum to 1; None unless requested.
        log_loss: mean of -log(logged).
        frequency_log_loss: the same for the actions' frequencies in the other folds. If `log_loss` is not
            well below it, the columns do not explain how the logging policy chose.
        balance: table of standardised differences (see `balance`).
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

    A multinomial model of the context columns is cross-fitted (Chernozhukov et al., Double/Debiased Machine
    Learning, 2018). It is calibrated by one temperature and a bias for each action, on rows that it was not
    fitted on (Alexandari, Kundaje and Shrikumar, Maximum Likelihood with Bias-Corrected Calibration, ICML
    2020): for fold f, the calibration reads the predictions for every other fold g of a model without f and
    g. Last, half a row is added for each action (Krichevsky and Trofimov, The Performance of Universal
    Encoding, 1981), so that no propensity is 0. Without context columns the result is the actions'
    frequencies.

    Every action counts as available in every row; candidates columns are not read.

    Args:
        context: [N] rows of numbers, booleans and texts that were known before the choice. A missing number
            is a value of its own.
        actions: [N] the logged actions.
        counts: [N] number of decisions that each row stands for, and its weight here.
        users: [N] codes from 0; all rows of a user are in one fold.
        method: `logistic` regression, or boosted `trees`, which find interactions and are much slower with
            many actions.
        folds: number of folds, at least 3, so that a model can be fitted without the two folds of a
            calibration. With fewer users there are fewer folds.
        seed: seed of the folds and trees.
        all_actions: whether to return the probabilities of all actions, [N, K].

    Raises:
        ConfigError: the method is unknown, or there are too few folds.
        DataError: a column cannot be read, lengths differ, there is a single action, or there are fewer than
            three users or rows.
    """
    if method not in ("logistic", "trees"):
        raise ConfigError(f"there is no method '{method}'", hint=nearest(method, ("logistic", "trees")))
    if folds < 3:
        raise ConfigError(
            f"calibration on held-out rows needs at least 3 folds, not {folds}", hint="Give 3 or more"
        )
    if context.width and context.height != len(actions):
        raise DataError(f"the context has {context.height} rows and there are {len(actions)} actions")
    if actions.null_count():
        row = int(actions.is_null().arg_true()[0])
        raise DataError("the action is missing", column=actions.name or "action", row=row)
    known = actions.unique().sort()
    if len(known) < 2:
        raise DataError(
            "the log has a single action, so propensities cannot be estimated",
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
    """Context columns as numbers [N, D] of mean 0 and deviation 1, weighted by `counts` [N].

    Constant columns are left out. A column of numbers with missing values has a second column that marks
    them. A text column has one column for each of its most frequent values.

    Raises:
        DataError: a column holds neither numbers nor texts, or holds an infinite number.
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
    """How far the rows of each action, weighted by 1 / propensity, differ from all rows.

    McCaffrey, Griffin, Almirall, Slaughter, Ramchand and Burgette, A Tutorial on Propensity Score Estimation
    for Multiple Treatments Using Generalized Boosted Models, Statistics in Medicine 2013: the population
    standardised difference, (mean of an action's rows - mean of all rows) / deviation of all rows. An
    absolute value up to 0.2 is small by their rule, and up to 0.1 by a stricter rule in use. An action with
    few rows has large differences by chance, with standard deviation `noise`.

    Args:
        context: [N] rows of numbers, booleans and texts.
        actions: [N] the logged actions.
        propensity: [N] probability of the logged action.
        counts: [N] number of decisions that each row stands for.

    Returns:
        One row for each action and column (each frequent value of a text column is one, as `column=value`),
        the largest weighted difference first: `action`; `column`; `rows`, decisions of the action; `before`
        and `after`, the standardised difference without and with weights; `noise`, 1 / √ (effective number of
        the weighted rows).
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
            "propensities need at least three users (to fit, to calibrate and to predict), and the log has "
            f"{units}",
            hint="Give a longer log",
        )
    return np.asarray((np.random.default_rng(seed).permutation(units) % min(units, folds))[unit])


class _Classifier:
    """A multinomial model of K actions; rare actions form one class and share it by their frequency."""

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
        # A single row makes no class: its action gets only the half row that every action gets.
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
        """Log-probabilities [B, K], all finite."""
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
    """Temperature (as a factor) and biases [K] of maximum likelihood on rows that are new to the models.

    At most `CELLS` / K rows are read, which is plenty for K + 1 parameters. A weak prior, worth one row each,
    keeps the biases of rare actions small.
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
    """Probabilities [..., K] estimated from `rows` rows, after half a row is added for each action."""
    return np.asarray((rows * probabilities + 0.5) / (rows + 0.5 * probabilities.shape[-1]))
