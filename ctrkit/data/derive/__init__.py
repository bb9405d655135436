"""Columns derived from raw rows and events, as of each row: every file with a `Step` is a kind of step."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

from pydantic import BeforeValidator, InstanceOf, PlainSerializer

from ctrkit.data.derive.base import Step
from ctrkit.data.derive.plan import Plan
from ctrkit.data.derive.run import derive, derive_in_parts
from ctrkit.data.derive.windows import EventFiles
from ctrkit.errors import ConfigError
from ctrkit.settings import Registry, content_of

__all__ = ["STEPS", "EventFiles", "Plan", "PlanSetting", "Step", "derive", "derive_in_parts", "plan_of"]

STEPS: Final = Registry[Step](Step, __name__)


def plan_of(given: Any) -> Plan:
    """The plan of a list of steps, each a mapping of `name` and settings, a line, or a `Step`.

    Raises:
        ConfigError: see `Registry.read` and `Plan`.
    """
    if isinstance(given, Plan):
        return given
    if not isinstance(given, list | tuple):
        raise ConfigError("derive must be a list of steps", hint="Write a list of mappings with a `name`")
    return Plan(tuple(STEPS.read(one) for one in given))


def _listed(plan: Plan) -> list[dict[str, Any]]:
    return [content_of(step) for step in plan.steps]


# In configs.
PlanSetting: TypeAlias = Annotated[InstanceOf[Plan], BeforeValidator(plan_of), PlainSerializer(_listed)]
