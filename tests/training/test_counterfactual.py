from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import FeatureMap
from ctrkit.models import Output
from ctrkit.nn.batches import Batch
from ctrkit.training import TrainingWarning
from ctrkit.training.counterfactual import (
    CounterfactualObjective,
    Decisions,
    DoublyRobustConfig,
    InversePropensityConfig,
    ObjectiveConfig,
    SelfNormalisedConfig,
    VarianceBound,
    divergence,
    log_policy,
    row_values,
)
from ctrkit.training.counterfactual_loop import (
    Floats,
    Learning,
    LearningConfig,
    LoggedDecisions,
    learn,
    probabilities,
    settle,
)
from ctrkit.training.optimizers import OptimizerConfig

NO_LIMIT = 1e9


def decisions(seed: int = 0, rows: int = 40, q: bool = False, ragged: bool = False) -> Decisions:
    """Decisions of a random logging policy among four candidates, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    present = torch.ones(rows, 4, dtype=torch.bool)
    if ragged:
        present[: rows // 2, 3] = False
    scores = torch.randn(rows, 4, generator=generator, dtype=torch.float64)
    logging = torch.softmax(scores.masked_fill(~present, -torch.inf), dim=1)
    logged = torch.multinomial(logging, 1, generator=generator)[:, 0]
    return Decisions(
        present,
        logged,
        logging.gather(1, logged[:, None])[:, 0],
        torch.rand(rows, generator=generator, dtype=torch.float64),
        torch.ones(rows, dtype=torch.float64),
        logging,
        torch.rand(rows, 4, generator=generator, dtype=torch.float64) * present if q else None,
    )


def scores_of(rows: Decisions, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(rows.present.shape, generator=generator, dtype=torch.float64)
    return scores.requires_grad_()


OBJECTIVES: list[tuple[ObjectiveConfig, float]] = [
    (InversePropensityConfig(clip=1.5, kl=0.0), 0.0),
    (DoublyRobustConfig(clip=1.5, kl=0.0), 0.0),
    (SelfNormalisedConfig(kl=0.0), 0.3),
    (SelfNormalisedConfig(kl=0.2, variance_penalty=2.0), 0.3),
]


@pytest.mark.parametrize(("config", "baseline"), OBJECTIVES)
def test_gradients_are_those_of_finite_differences(config: ObjectiveConfig, baseline: float) -> None:
    rows = decisions(q=isinstance(config, DoublyRobustConfig), ragged=True)
    goal = CounterfactualObjective(config, 0.7, baseline)
    bound = VarianceBound.at(goal.row_values(scores_of(rows, seed=5), rows).detach())
    assert torch.autograd.gradcheck(lambda scores: goal(scores, rows, bound), scores_of(rows))


def test_terms_are_the_formulas() -> None:
    rows, temperature, clip = decisions(q=True), 0.5, 1.5
    scores = scores_of(rows).detach()
    ips = row_values(log_policy(scores, rows.present, temperature), replace(rows, q=None), clip, 0.2)
    dr = row_values(log_policy(scores, rows.present, temperature), rows, clip, 0.0)
    assert rows.q is not None
    for i in range(len(ips)):
        odds = np.exp(scores[i].numpy() / temperature)
        pi = odds / odds.sum()
        a, r = int(rows.logged[i]), float(rows.reward[i])
        w = min(pi[a] / float(rows.propensity[i]), clip)
        q = rows.q[i].numpy()
        assert float(ips[i]) == pytest.approx(w * (r - 0.2), rel=1e-12)
        assert float(dr[i]) == pytest.approx(pi @ q + w * (r - q[a]), rel=1e-12)


def test_gradients_without_a_clip_are_unbiased() -> None:
    """Over all actions and rewards that could be logged in one context, weighted by their chance, IPS and DR
    have the gradient of the true value, whatever q is; with a baseline the sum of the weights counts too."""
    truth = torch.tensor([0.1, 0.6, 0.3], dtype=torch.float64)
    logging = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    events = list(product(range(3), (0.0, 1.0)))
    chance = torch.stack([logging[a] * (truth[a] if r else 1 - truth[a]) for a, r in events])
    logged = torch.tensor([a for a, _ in events])
    rows = Decisions(
        torch.ones(6, 3, dtype=torch.bool),
        logged,
        logging[logged],
        torch.tensor([r for _, r in events], dtype=torch.float64),
        torch.ones(6, dtype=torch.float64),
    )
    q = torch.tensor([0.9, 0.2, 0.4], dtype=torch.float64).expand(6, 3)
    scores = torch.tensor([0.2, -0.4, 1.0], dtype=torch.float64, requires_grad=True)
    log_pi = log_policy(scores.expand(6, 3), rows.present, 1.0)
    (wanted,) = torch.autograd.grad(torch.softmax(scores, 0) @ truth, scores)
    for given, baseline in ((rows, 0.0), (replace(rows, q=q), 0.0), (rows, 0.4)):
        terms = row_values(log_pi, given, None, baseline)
        (found,) = torch.autograd.grad(chance @ terms, scores, retain_graph=True)
        torch.testing.assert_close(found, wanted)


def test_a_weight_above_the_clip_has_no_gradient() -> None:
    rows = decisions()
    scores = scores_of(rows)
    row_values(log_policy(scores, rows.present, 1.0), rows, 1.0, 0.0).mean().backward()
    weight = torch.softmax(scores.detach(), 1).gather(1, rows.logged[:, None])[:, 0] / rows.propensity
    assert scores.grad is not None
    moved = scores.grad.abs().sum(dim=1) > 0
    assert 0 < moved.sum() < len(moved)
    assert torch.equal(moved, weight < 1.0)


def test_at_its_value_as_baseline_the_gradient_is_that_of_the_self_normalised_value() -> None:
    """∇ (Σwr / Σw) = (∇Σ w(r - λ)) / Σw at λ = Σwr / Σw: what makes λ a Lagrange multiplier."""
    rows = decisions()
    scores = scores_of(rows)
    weight = (log_policy(scores, rows.present, 1.0).gather(1, rows.logged[:, None])[:, 0]).exp()
    weight = weight / rows.propensity
    snips = (weight * rows.reward).sum() / weight.sum()
    (wanted,) = torch.autograd.grad(snips, scores)
    goal = CounterfactualObjective(SelfNormalisedConfig(kl=0.0), 1.0, float(snips.detach()))
    (found,) = torch.autograd.grad(goal(scores, rows), scores)
    torch.testing.assert_close(found * len(weight) / weight.detach().sum(), wanted)


def test_divergence_is_that_of_scipy_and_ignores_missing_places() -> None:
    from scipy.stats import entropy

    rows = decisions(ragged=True)
    scores = scores_of(rows)
    log_pi = log_policy(scores, rows.present, 1.0)
    found = divergence(log_pi, rows)
    assert rows.logging is not None
    for i in range(len(found)):
        k = int(rows.present[i].sum())
        pi = torch.softmax(scores[i, :k].detach(), 0).numpy()
        assert float(found[i].detach()) == pytest.approx(entropy(pi, rows.logging[i, :k].numpy()), rel=1e-9)
        uniform = divergence(log_pi.detach(), replace(rows, logging=None))[i]
        assert float(uniform) == pytest.approx(np.log(k) - entropy(pi), rel=1e-9)
    found.sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert (scores.grad[~rows.present] == 0).all()


def test_the_variance_bound_is_tight_where_it_was_made_and_above_everywhere() -> None:
    rows = decisions()
    goal = CounterfactualObjective(InversePropensityConfig(clip=NO_LIMIT, kl=0.0), 1.0)

    def error(terms: Tensor) -> Tensor:
        return terms.std() / len(terms) ** 0.5

    here = scores_of(rows)
    bound = VarianceBound.at(goal.row_values(here, rows).detach())
    torch.testing.assert_close(bound(goal.row_values(here, rows)), error(goal.row_values(here, rows)))
    (wanted,) = torch.autograd.grad(error(goal.row_values(here, rows)), here)
    (found,) = torch.autograd.grad(bound(goal.row_values(here, rows)), here)
    torch.testing.assert_close(found, wanted)
    for seed in range(2, 20):
        terms = goal.row_values(scores_of(rows, seed), rows).detach()
        assert float(bound(terms)) > float(error(terms))


def test_the_variance_bound_is_a_mean_over_batches() -> None:
    rows = decisions()
    terms = (
        CounterfactualObjective(InversePropensityConfig(kl=0.0), 1.0)
        .row_values(scores_of(rows), rows)
        .detach()
    )
    bound = VarianceBound.at(terms * 0.5)
    halves = torch.stack([bound(terms[:20]), bound(terms[20:])])
    torch.testing.assert_close(halves.mean(), bound(terms))


def test_terms_that_are_alike_have_no_variance_to_bound() -> None:
    assert VarianceBound.at(torch.full((5,), 0.2)) == VarianceBound(0.0, 0.0, 0.0)


# Five contexts, five actions: the truth is known, and a model of a score for each pair can learn it.
CONTEXTS, ACTIONS = 5, 5
TRUTH = np.full((CONTEXTS, ACTIONS), 0.2) + 0.6 * np.eye(CONTEXTS, ACTIONS)
FEATURES = FeatureMap(tables={"x": 7, "a": 7}, categorical={"x": "x", "a": "a"}, tasks=("reward",))


class TableModel(nn.Module):
    """A score for each pair of a context and an action, zero at first."""

    reads_history = False

    def __init__(self) -> None:
        super().__init__()
        self.feature_map = FEATURES
        self.hidden = nn.Embedding(49, 1)
        self.last_layer = nn.Linear(1, 1)
        nn.init.zeros_(self.hidden.weight)
        nn.init.ones_(self.last_layer.weight)
        nn.init.zeros_(self.last_layer.bias)

    def forward(self, batch: Batch, history: None = None) -> Output:
        hidden = self.hidden(batch.categorical[:, 0].long() * 7 + batch.categorical[:, 1])
        return Output(self.last_layer(hidden), hidden)


def logged(rows: int, seed: int, shift: float = 0.0) -> LoggedDecisions:
    """Decisions of a policy that mostly shows the next context's best action, `shift` added to rewards."""
    rng = np.random.default_rng(seed)
    context = rng.integers(0, CONTEXTS, rows)
    policy = np.full((CONTEXTS, ACTIONS), 0.1) + 0.5 * np.roll(np.eye(CONTEXTS, ACTIONS), 1, axis=1)
    action = (rng.random(rows)[:, None] > policy[context].cumsum(axis=1)).sum(axis=1)
    reward = (rng.random(rows) < TRUTH[context, action]) + shift
    pairs = np.stack([np.repeat(context, ACTIONS), np.tile(np.arange(ACTIONS), rows)], axis=1)

    def table(ids: np.ndarray) -> EncodedTable:
        n = len(ids)
        nothing = np.empty((n, 0), dtype=np.float32)
        return EncodedTable(ids.astype(np.int32), nothing, {}, nothing, np.ones(n, dtype=np.float32))

    return LoggedDecisions(
        table(np.empty((rows, 0))),
        table(pairs),
        np.full(rows, ACTIONS),
        action,
        policy[context, action],
        reward,
        np.ones(rows),
        policy[context].ravel(),
        (TRUTH[context] + shift + 0.05).ravel(),
    )


def true_value(model: nn.Module) -> float:
    """Of contexts that are equally frequent."""
    contexts = logged(500, seed=99)
    found = probabilities(model, contexts, 1.0)  # type: ignore[arg-type]
    x = contexts.candidates.categorical[::ACTIONS, 0]
    return float(np.mean([(found[x == c] * TRUTH[c]).sum(axis=1).mean() for c in range(CONTEXTS)]))


def snips(rows: LoggedDecisions) -> Callable[[Floats], tuple[float, float, float]]:
    """The self-normalised value with an interval of two standard errors."""

    def judge(policy: Floats) -> tuple[float, float, float]:
        weight = policy[np.arange(len(rows)), rows.logged] / rows.propensity
        value = float(weight @ rows.reward / weight.sum())
        error = float(np.sqrt(((weight * (rows.reward - value)) ** 2).sum()) / weight.sum())
        return value, value - 2 * error, value + 2 * error

    return judge


FAST = LearningConfig(epochs=15, batch_size=256, patience=15, optimizer=OptimizerConfig(learning_rate=0.1))


def run(
    config: ObjectiveConfig,
    baselines: tuple[float, ...] = (0.0,),
    shift: float = 0.0,
    learning: LearningConfig = FAST,
    seed: int = 0,
    rows: int = 4000,
) -> tuple[TableModel, Learning]:
    model = TableModel()
    training, validation = logged(rows, 0, shift), logged(2000, 1, shift)
    if not isinstance(config, DoublyRobustConfig):
        training, validation = replace(training, q=None), replace(validation, q=None)
    found = learn(
        model,  # type: ignore[arg-type]
        training,
        validation,
        config,
        learning,
        temperature=1.0,
        baselines=baselines,
        judge=snips(validation),
        seed=seed,
    )
    return model, found


LOGGING_VALUE, BEST_VALUE = 0.5 * 0.2 + 0.1 * 0.2 * 4 + 0.1 * 0.6, 0.8


@pytest.mark.parametrize(
    ("config", "baselines"),
    [
        (InversePropensityConfig(kl=0.0), (0.0,)),
        (DoublyRobustConfig(kl=0.0), (0.0,)),
        (SelfNormalisedConfig(kl=0.0), (0.3, 0.5)),
        (InversePropensityConfig(kl=0.0, variance_penalty=1.0), (0.0,)),
        (SelfNormalisedConfig(kl=0.02), (0.3,)),
    ],
)
def test_what_is_learnt_is_near_the_best_policy(
    config: ObjectiveConfig, baselines: tuple[float, ...]
) -> None:
    model, learning = run(config, baselines)
    value = true_value(model)
    assert value > 0.9 * BEST_VALUE
    assert value > 2 * LOGGING_VALUE
    # The self-normalised value on validation rows tells it, without the truth: within four standard errors.
    assert abs(learning.best["value"] - value) < learning.best["high"] - learning.best["low"]


def test_a_constant_added_to_rewards_misleads_ips_and_not_the_self_normalised_form() -> None:
    """With rewards of 20 and 21 IPS learns which actions happened to be logged more often than is due."""
    plain, own = InversePropensityConfig(clip=NO_LIMIT, kl=0.0), SelfNormalisedConfig(kl=0.0)
    assert true_value(run(plain, rows=1000)[0]) > 0.9 * BEST_VALUE
    assert true_value(run(plain, rows=1000, shift=20.0)[0]) < 0.7 * BEST_VALUE
    kept, moved = run(own, (0.3,), rows=1000)[0], run(own, (20.3,), rows=1000, shift=20.0)[0]
    assert true_value(kept) > 0.9 * BEST_VALUE
    assert true_value(moved) == pytest.approx(true_value(kept), rel=1e-3)


def test_the_variance_penalty_lessens_the_spread_of_the_terms() -> None:
    learning = FAST.model_copy(update={"epochs": 6})
    spread = []
    for penalty in (0.0, 2.0, 20.0):
        config = InversePropensityConfig(clip=NO_LIMIT, kl=0.0, variance_penalty=penalty)
        rows = replace(logged(4000, 0), q=None)
        last = TableModel()
        learn(
            last, rows, rows, config, learning, temperature=1.0, baselines=(0.0,),  # type: ignore[arg-type]
            judge=_the_last_is_best(), seed=0,
        )  # fmt: skip
        policy = probabilities(last, rows, 1.0)  # type: ignore[arg-type]
        spread.append(float((policy[np.arange(4000), rows.logged] / rows.propensity * rows.reward).std()))
    assert spread[0] > spread[1] > spread[2]


def _the_last_is_best() -> Callable[[Floats], tuple[float, float, float]]:
    calls = iter(range(1000))
    return lambda policy: (0.0, float(next(calls)), 0.0)


def test_the_policy_with_the_highest_lower_end_is_kept() -> None:
    model = TableModel()
    rows = replace(logged(500, 0), q=None)
    seen: list[Floats] = []
    lows = iter([0.1, 0.2, 0.5, 0.3, 0.4, 0.45, 0.44, 0.41])

    def judge(policy: Floats) -> tuple[float, float, float]:
        seen.append(policy)
        return 0.5, next(lows), 0.6

    learning = FAST.model_copy(update={"epochs": 8, "patience": 2})
    found = learn(
        model, rows, rows, SelfNormalisedConfig(kl=0.0), learning, temperature=1.0,  # type: ignore[arg-type]
        baselines=(0.3, 0.4), judge=judge, seed=0,
    )  # fmt: skip
    assert found.best["epoch"] == 2
    # Two epochs without a better one end the first round; the second starts from the beginning.
    assert [event["epoch"] for event in found.events] == [0, 1, 2, 3, 4, 1, 2, 3]
    np.testing.assert_allclose(probabilities(model, rows, 1.0), seen[2], atol=1e-6)  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_weights() -> None:
    learning = FAST.model_copy(update={"epochs": 2})
    one, two, other = (
        run(SelfNormalisedConfig(kl=0.0), (0.3,), learning=learning, seed=seed)[0].hidden.weight
        for seed in (3, 3, 4)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_ragged_candidates_are_scored_as_each_row_alone() -> None:
    full = logged(6, 0)
    lengths = np.array([5, 2, 3, 1, 5, 4])
    kept = np.flatnonzero((np.arange(5) < lengths[:, None]).ravel())
    flat = full.candidates
    cut = EncodedTable(flat.categorical[kept], flat.numeric[kept], {}, flat.labels[kept], flat.weight[kept])
    rows = replace(full, candidates=cut, lengths=lengths, logging=None, q=None)
    model = TableModel()
    nn.init.normal_(model.hidden.weight, generator=torch.Generator().manual_seed(0))
    found = probabilities(model, rows, 0.5)  # type: ignore[arg-type]
    assert found.shape == (6, 5)
    ends = np.cumsum(lengths)
    for i, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        pairs = cut.categorical[end - length : end].astype(int)
        scores = model.hidden.weight.detach().numpy()[pairs[:, 0] * 7 + pairs[:, 1], 0] / 0.5
        np.testing.assert_allclose(found[i, :length], np.exp(scores) / np.exp(scores).sum(), rtol=1e-5)
        assert (found[i, length:] == 0).all()


def test_settled_scores_are_the_same_policy_within_bounds() -> None:
    rows = replace(logged(200, 0), q=None)
    model = TableModel()
    nn.init.normal_(model.hidden.weight, mean=50.0, std=30.0, generator=torch.Generator().manual_seed(0))
    before = probabilities(model, rows, 20.0)  # type: ignore[arg-type]
    temperature = settle(model, rows, 20.0)  # type: ignore[arg-type]
    assert temperature < 20.0
    np.testing.assert_allclose(probabilities(model, rows, temperature), before, atol=1e-5)  # type: ignore[arg-type]
    scores = torch.cat([scores.ravel() for scores, _ in rows.blocks(model)])  # type: ignore[arg-type]
    assert float(scores.max()) == pytest.approx(15.0, abs=1e-3)
    assert float(scores.min()) == pytest.approx(-15.0, abs=1e-3)


def test_an_objective_that_breaks_ends_its_round_and_keeps_what_was_learnt() -> None:
    """The rewards of the training rows overflow from the second epoch on."""
    model, rows = TableModel(), replace(logged(2000, 0), q=None)

    def spoil(done: int, total: int, what: str) -> None:
        if "epoch 2" in what:
            rows.reward[:] = np.inf

    judge = snips(replace(logged(2000, 1), q=None))
    learning = FAST.model_copy(update={"epochs": 3, "patience": 3})
    with pytest.warns(TrainingWarning, match="stopped in baseline 1 of 1, epoch 2"):
        found = learn(
            model,  # type: ignore[arg-type]
            rows, replace(logged(2000, 1), q=None), SelfNormalisedConfig(kl=0.0), learning,
            temperature=1.0, baselines=(0.3,), judge=judge, seed=0, on_step=spoil,
        )  # fmt: skip
    assert found.best["epoch"] == 1
    assert all(weight.isfinite().all() for weight in model.state_dict().values())
    assert "Learning stopped" in found.notes[0]
