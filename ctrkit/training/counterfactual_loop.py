"""The loop that trains a model as a policy: minibatch ascent on a counterfactual objective."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ctrkit.arrays import Floats, Integers
from ctrkit.config import Config
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import FeatureMap
from ctrkit.errors import TrainingWarning
from ctrkit.models import CtrModel
from ctrkit.nn.batches import Batch
from ctrkit.progress import OnStep, silent
from ctrkit.training.counterfactual import (
    CounterfactualObjective,
    Decisions,
    ObjectiveConfig,
    VarianceBound,
    log_policy,
)
from ctrkit.training.optimizers import OptimizerConfig, build_optimizer, clip_gradients
from ctrkit.training.unknown_ids import id_counts, settle_unknown

# From the policy's probabilities of the validation rows' candidates, [n, K], to its value, low and high.
ValueOnValidation: TypeAlias = Callable[[Floats], tuple[float, float, float]]

# Number of candidates scored at a time outside of training.
_AT_ONCE = 8192


class LearningConfig(Config):
    """How to learn a policy.

    Attributes:
        epochs: largest number of passes over the training rows.
        batch_size: number of rows in a step.
        patience: learning stops after this number of validations without a better one.
        clip_norm: largest norm of the gradient.
        optimizer: the optimizer and its settings.
    """

    epochs: int = Field(default=12, ge=1)
    batch_size: int = Field(default=512, ge=1)
    patience: int = Field(default=4, ge=1)
    clip_norm: float = Field(default=1.0, gt=0.0)
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=5e-3)


@dataclass(frozen=True)
class LoggedDecisions:
    """n logged decisions with encoded candidates. Flat arrays hold the candidates row by row.

    Attributes:
        histories: n rows; only their sequences are read.
        candidates: Σ lengths rows, without sequences.
        lengths: int64 [n], number of candidates of each row, at least 1.
        logged: int64 [n], position of the action among the row's candidates.
        propensity: [n], as in `Decisions`.
        reward: [n], as in `Decisions`.
        count: [n], as in `Decisions`.
        logging: flat, [Σ lengths], or None, as in `Decisions`.
        q: flat, [Σ lengths], or None, as in `Decisions`.
    """

    histories: EncodedTable
    candidates: EncodedTable
    lengths: Integers
    logged: Integers
    propensity: Floats
    reward: Floats
    count: Floats
    logging: Floats | None = None
    q: Floats | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def id_counts(self, feature_map: FeatureMap) -> dict[str, Tensor]:
        """The number of times that each id occurs in the histories and among the candidates."""
        parts = (self.histories, self.candidates)
        one, other = (id_counts(feature_map, part, np.arange(len(part))) for part in parts)
        return one | other

    def scores(self, model: CtrModel, rows: Integers) -> tuple[Tensor, Decisions]:
        """The model's first logit for every candidate of some rows, [B, K], and the rows."""
        device = next(model.parameters()).device
        first = (np.cumsum(self.lengths) - self.lengths)[rows, None]
        places = np.arange(self.lengths[rows].max())
        present = places < self.lengths[rows, None]
        # A model needs the same number of candidates for every history: short lists repeat their first one.
        at = np.where(present, first + places, first)
        batch = Batch.of(self.candidates, at.ravel()).to(device)
        histories = Batch.of(self.histories, rows).to(device)
        state = model.encode_history(histories) if model.reads_history else None
        scores = model(batch, state).logits[:, 0].view(present.shape)

        def tensor(values: NDArray[Any]) -> Tensor:
            return torch.from_numpy(values).to(device, torch.float32)

        def spread(flat: Floats | None) -> Tensor | None:
            return None if flat is None else tensor(np.where(present, flat[at], 0.0))

        return scores, Decisions(
            torch.from_numpy(present).to(device),
            torch.from_numpy(self.logged[rows]).to(device),
            tensor(self.propensity[rows]),
            tensor(self.reward[rows]),
            tensor(self.count[rows]),
            spread(self.logging),
            spread(self.q),
        )

    @torch.no_grad()
    def blocks(self, model: CtrModel) -> list[tuple[Tensor, Decisions]]:
        """`scores` of all rows in order, in evaluation mode and in blocks."""
        model.eval()
        step = max(1, _AT_ONCE // int(self.lengths.max()))
        starts = range(0, len(self), step)
        return [self.scores(model, np.arange(s, min(s + step, len(self)))) for s in starts]


@dataclass(frozen=True)
class Learning:
    """The course of learning.

    Attributes:
        events: one for each validation: baseline λ, epoch, objective on the training rows, and value, low and
            high on the validation rows. Epoch 0 is the policy before learning.
        best: the event of the policy that was kept.
        notes: notes for the user.
    """

    events: tuple[dict[str, float], ...]
    best: dict[str, float]
    notes: tuple[str, ...] = ()


def learn(
    model: CtrModel,
    training: LoggedDecisions,
    validation: LoggedDecisions,
    objective: ObjectiveConfig,
    config: LearningConfig,
    *,
    temperature: float,
    baselines: Sequence[float],
    judge: ValueOnValidation,
    seed: int,
    on_step: OnStep = silent,
) -> Learning:
    """Make a model's first logit the score of a softmax policy, in place.

    Each baseline λ starts from the model's present weights. Among all epochs of all baselines, and the policy
    before learning, the policy is kept whose interval on the validation rows has the highest lower end. A
    policy with a few large weights may look the best by chance, but its interval is wide.

    A round whose objective is no longer finite ends there, with a note.

    Args:
        model: the model, trained in place.
        training: the rows to learn from.
        validation: the rows that choose the best policy.
        objective: the objective to maximise.
        config: how to learn.
        temperature: temperature of the softmax.
        baselines: λ of each round, in the units of the rewards; (0,) where the objective has no baseline.
        judge: gives the value of a policy on the validation rows, with an interval.
        seed: random seed.
        on_step: called after every step.
    """
    counts = training.id_counts(model.feature_map)
    start = _copy(model)
    kept = start
    best: dict[str, float] = {}
    events: list[dict[str, float]] = []
    notes: list[str] = []
    steps = -(-len(training) // config.batch_size)
    total = len(baselines) * config.epochs * steps
    for number, baseline in enumerate(baselines):
        model.load_state_dict(start)
        torch.manual_seed(seed)
        goal = CounterfactualObjective(objective, temperature, baseline)
        optimizer = build_optimizer(model, config.optimizer)
        waited, highest = 0, -math.inf
        for epoch in range(config.epochs + 1):
            if epoch == 0 and number > 0:
                continue  # the policy before it learns is the same for every baseline
            mean = math.nan
            if epoch > 0:
                done = (number * config.epochs + epoch - 1) * steps
                what = f"baseline {number + 1} of {len(baselines)}, epoch {epoch}"
                rng = np.random.default_rng([seed, epoch])
                tell = partial(_tell, on_step, done, total, what)
                mean = _epoch(model, training, goal, optimizer, config, rng, tell)
                if not math.isfinite(mean):
                    notes.append(f"Learning stopped in {what}: the objective is not finite.")
                    warnings.warn(notes[-1], TrainingWarning, stacklevel=2)
                    break
            settle_unknown(model, counts)
            value, low, high = judge(probabilities(model, validation, temperature))
            event = {"baseline": baseline, "epoch": float(epoch), "objective": mean}
            event |= {"value": value, "low": low, "high": high}
            events.append(event)
            if not best or low > best["low"]:
                kept, best = _copy(model), event
            waited = 0 if low > highest else waited + 1
            highest = max(highest, low)
            if waited >= config.patience:
                break
    model.load_state_dict(kept)
    return Learning(tuple(events), best, tuple(notes))


def probabilities(model: CtrModel, decisions: LoggedDecisions, temperature: float) -> Floats:
    """The policy's probabilities of all candidates, [n, K], with 0 at missing candidates."""
    found = np.zeros((len(decisions), int(decisions.lengths.max())))
    row = 0
    for scores, rows in decisions.blocks(model):
        block = log_policy(scores.double(), rows.present, temperature).exp().cpu().numpy()
        found[row : row + len(block), : block.shape[1]] = block
        row += len(block)
    return found


@torch.no_grad()
def settle(model: CtrModel, decisions: LoggedDecisions, temperature: float, largest: float = 15.0) -> float:
    """Scale the scores into [-largest, largest] on these rows, without changing the policy.

    Only differences of scores divided by the temperature matter, so training may give scores of any size. The
    artifact turns scores into probabilities, and large scores would all become 1.

    Returns:
        The temperature that fits the new scores.
    """
    scores = torch.cat([scores[rows.present] for scores, rows in decisions.blocks(model)])
    middle = float(scores.max() + scores.min()) / 2.0
    factor = min(1.0, largest / max(float(scores.max()) - middle, 1e-12))
    layer = model.last_layer
    layer.bias.sub_(middle)
    layer.bias.mul_(factor)
    layer.weight.mul_(factor)
    return temperature * factor


def _epoch(
    model: CtrModel,
    training: LoggedDecisions,
    goal: CounterfactualObjective,
    optimizer: torch.optim.Optimizer,
    config: LearningConfig,
    rng: np.random.Generator,
    on_step: Callable[[int, float], None],
) -> float:
    """One pass over the training rows in random order.

    Returns:
        The mean of the objective over its steps; nan where a value that is not finite ended the pass.
    """
    bound = None
    if goal.config.variance_penalty > 0.0:
        blocks = training.blocks(model)
        bound = VarianceBound.at(torch.cat([goal.row_values(*block).double() for block in blocks]))
    model.train()
    order, total, steps = rng.permutation(len(training)), 0.0, 0
    for begin in range(0, len(order), config.batch_size):
        value = goal(*training.scores(model, order[begin : begin + config.batch_size]), bound)
        optimizer.zero_grad(set_to_none=True)
        value.neg().backward()  # type: ignore[no-untyped-call]
        clip_gradients(model, config.clip_norm)
        optimizer.step()
        if not math.isfinite(value.item()):
            return math.nan
        total, steps = total + value.item(), steps + 1
        on_step(steps, total / steps)
    return total / steps


def _tell(on_step: OnStep, done: int, total: int, what: str, step: int, mean: float) -> None:
    on_step(done + step, total, f"{what}, objective {mean:.4f}")


def _copy(model: CtrModel) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
