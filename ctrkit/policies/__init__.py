"""Decisions over candidates: policies that turn scores into choice probabilities. Needs no torch."""

from ctrkit.policies.base import Policy, PolicyConfig, ScoredPolicy, Scorer, ScoreUncertainty
from ctrkit.policies.candidates import candidate_mask, padded
from ctrkit.policies.choices import (
    EpsilonGreedyConfig,
    EpsilonGreedyPolicy,
    GreedyConfig,
    GreedyPolicy,
    SoftmaxConfig,
    SoftmaxPolicy,
    UniformConfig,
    UniformPolicy,
)
from ctrkit.policies.constant import FixedPolicy, LoggingPolicy
from ctrkit.policies.laplace import LastLayerPosterior
from ctrkit.policies.registry import POLICIES, PolicySetting, policy_config
from ctrkit.policies.thompson import ThompsonConfig, ThompsonPolicy

__all__ = [
    "POLICIES",
    "EpsilonGreedyConfig",
    "EpsilonGreedyPolicy",
    "FixedPolicy",
    "GreedyConfig",
    "GreedyPolicy",
    "LastLayerPosterior",
    "LoggingPolicy",
    "Policy",
    "PolicyConfig",
    "PolicySetting",
    "ScoreUncertainty",
    "ScoredPolicy",
    "Scorer",
    "SoftmaxConfig",
    "SoftmaxPolicy",
    "ThompsonConfig",
    "ThompsonPolicy",
    "UniformConfig",
    "UniformPolicy",
    "candidate_mask",
    "padded",
    "policy_config",
]
