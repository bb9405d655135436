"""Policies by name, and the config that makes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic import Field, field_validator

from ctrkit.config import Config
from ctrkit.errors import nearest
from ctrkit.policies.base import Policy, Scorer
from ctrkit.policies.choices import EpsilonGreedyPolicy, GreedyPolicy, SoftmaxPolicy, UniformPolicy


class PolicyConfig(Config):
    """Which policy, and its settings; each policy reads its own.

    Attributes:
        name: see `POLICIES`.
        temperature: of `softmax`, in units of the scores.
        epsilon: of `epsilon-greedy`, the share of decisions made at random.
    """

    name: str = "greedy"
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    epsilon: float = Field(default=0.1, ge=0, le=1)

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in POLICIES:
            raise ValueError(f"there is no policy '{name}'. {nearest(name, POLICIES)}")
        return name


# A new policy is one class and one line here.
POLICIES: Mapping[str, Callable[[PolicyConfig, Scorer], Policy]] = {
    GreedyPolicy.name: lambda config, scorer: GreedyPolicy(scorer),
    SoftmaxPolicy.name: lambda config, scorer: SoftmaxPolicy(scorer, config.temperature),
    EpsilonGreedyPolicy.name: lambda config, scorer: EpsilonGreedyPolicy(scorer, config.epsilon),
    UniformPolicy.name: lambda config, scorer: UniformPolicy(),
}


def make_policy(config: PolicyConfig, scorer: Scorer) -> Policy:
    """The policy of a config, over the scores of `scorer`."""
    return POLICIES[config.name](config, scorer)
