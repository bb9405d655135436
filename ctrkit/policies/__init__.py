"""Decisions over candidates: policies that turn scores into choice probabilities. Needs no torch."""

from ctrkit.policies.base import Policy, ScoredPolicy, Scorer
from ctrkit.policies.candidates import candidate_mask, padded
from ctrkit.policies.choices import EpsilonGreedyPolicy, GreedyPolicy, SoftmaxPolicy, UniformPolicy
from ctrkit.policies.constant import FixedPolicy, LoggingPolicy
from ctrkit.policies.laplace import LastLayerPosterior
from ctrkit.policies.registry import POLICIES, Belief, PolicyConfig, make_policy
from ctrkit.policies.thompson import ThompsonPolicy

__all__ = [
    "POLICIES",
    "Belief",
    "EpsilonGreedyPolicy",
    "FixedPolicy",
    "GreedyPolicy",
    "LastLayerPosterior",
    "LoggingPolicy",
    "Policy",
    "PolicyConfig",
    "ScoredPolicy",
    "Scorer",
    "SoftmaxPolicy",
    "ThompsonPolicy",
    "UniformPolicy",
    "candidate_mask",
    "make_policy",
    "padded",
]
