"""Policies by name, and the config that makes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import Field, field_validator

from ctrkit.config import Config
from ctrkit.errors import ConfigError, nearest
from ctrkit.policies.base import Policy, Scorer
from ctrkit.policies.choices import EpsilonGreedyPolicy, GreedyPolicy, SoftmaxPolicy, UniformPolicy
from ctrkit.policies.laplace import LastLayerPosterior
from ctrkit.policies.thompson import HiddenReader, ThompsonPolicy


class PolicyConfig(Config):
    """Which policy, and its settings; each policy reads its own, see `SETTINGS`.

    Attributes:
        name: see `POLICIES`.
        temperature: of `softmax`, in units of the scores.
        epsilon: of `epsilon-greedy`, the share of decisions made at random.
        draws: of `thompson`, from the posterior; a probability has the standard error √(p(1−p)/draws).
        seed: of `thompson`'s draws.
    """

    name: str = "greedy"
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    epsilon: float = Field(default=0.1, ge=0, le=1)
    draws: int = Field(default=1000, ge=1)
    seed: int = Field(default=0, ge=0)

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in POLICIES:
            raise ValueError(f"there is no policy '{name}'. {nearest(name, POLICIES)}")
        return name


@dataclass(frozen=True)
class Belief:
    """How sure a scorer is of its scores.

    Attributes:
        reader: gives what the last layer reads for the candidates.
        posterior: of the last layer.
    """

    reader: HiddenReader
    posterior: LastLayerPosterior


def _thompson(config: PolicyConfig, scorer: Scorer, belief: Belief | None) -> Policy:
    if belief is None:
        raise ConfigError(
            "policy 'thompson' draws from a posterior, and here are scores alone",
            mend="Give an artifact with a posterior, or choose another policy",
        )
    return ThompsonPolicy(belief.reader, belief.posterior, config.draws, config.seed)


# A new policy is one class and one line here, and one below where it has settings.
POLICIES: Mapping[str, Callable[[PolicyConfig, Scorer, Belief | None], Policy]] = {
    GreedyPolicy.name: lambda config, scorer, belief: GreedyPolicy(scorer),
    SoftmaxPolicy.name: lambda config, scorer, belief: SoftmaxPolicy(scorer, config.temperature),
    EpsilonGreedyPolicy.name: lambda config, scorer, belief: EpsilonGreedyPolicy(scorer, config.epsilon),
    ThompsonPolicy.name: _thompson,
    UniformPolicy.name: lambda config, scorer, belief: UniformPolicy(),
}

# The settings that each policy reads.
SETTINGS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(POLICIES, ()),
    SoftmaxPolicy.name: ("temperature",),
    EpsilonGreedyPolicy.name: ("epsilon",),
    ThompsonPolicy.name: ("draws", "seed"),
}


def make_policy(config: PolicyConfig, scorer: Scorer, belief: Belief | None = None) -> Policy:
    """The policy of a config.

    Args:
        scorer: gives the scores of the candidates. belief: how sure they are, which `thompson` needs.

    Raises:
        ConfigError: the policy needs a belief, and there is none.
    """
    return POLICIES[config.name](config, scorer, belief)
