"""How policies are evaluated on a log of choices among candidates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from ctrkit.api.log_columns import BanditLogColumns
from ctrkit.ope.estimators.interval_methods import AUTO
from ctrkit.policies import PolicySetting
from ctrkit.settings import line_of

# In place of a kind of reward model: the artifact of the first policy that is one.
ARTIFACT = "artifact"


def _line(given: Any) -> Any:
    """The line of a mapping."""
    return line_of(given) if isinstance(given, Mapping) else given


class OpeConfig(BanditLogColumns):
    """How to evaluate policies.

    Attributes:
        policy: the policy over the scores of artifacts, in place of their own policy.
        estimators: `NAME` or `NAME:key=value`, or mappings of `name` and its setting; by default those of
            `ctrkit.ope.DEFAULT_ESTIMATORS` that are possible for some policy.
        interval: a method of `ctrkit.ope.estimators.interval_methods.INTERVALS`; `auto`: the estimator
            chooses.
        confidence: confidence level of all intervals.
        reward_range: smallest and largest possible reward; by default 0 and 1 where all rewards are 0 or 1.
        reward_model: the reward model of DM and DR: `trees` or `logistic`, fitted on the log; `artifact`, the
            artifact of the policy; or the path of an artifact.
        context_columns: columns that fitted models read; by default all columns known before the decision.
        folds: number of folds of the cross-fitting.
        cluster_by: the column whose values are independent of one another, or `row`; by default the user.
        segments: columns whose values split the rows into segments with estimates of their own.
        outcomes: reward columns such as click, conversion, value and cost, to estimate with their ratios.
        action_feature: a feature of actions for MIPS and OffCEM, listed in column `candidate_<feature>`.
        engine: `local` for this process, or `ray` for a cluster.
        skip_bad_lines: whether broken lines of JSON lines and DSJSON are left out, and counted in the notes.
        unseen: whether rows that an artifact was trained on are left out; by default if at least 1,000 others
            remain. Where they are judged, no verdict trusts them.
        seed: seed of all random draws.
    """

    policy: PolicySetting | None = None
    estimators: tuple[Annotated[str, BeforeValidator(_line)], ...] | None = None
    interval: str = AUTO
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    reward_range: tuple[float, float] | None = None
    reward_model: str = "trees"
    context_columns: tuple[str, ...] | None = None
    folds: int = Field(default=3, ge=2)
    cluster_by: str | None = None
    segments: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    action_feature: str | None = None
    engine: Literal["local", "ray"] = "local"
    skip_bad_lines: bool = False
    unseen: bool | None = None
    seed: int = Field(default=0, ge=0)

    keyword_names: ClassVar[Mapping[str, str]] = {"policy": "artifact_policy"}
