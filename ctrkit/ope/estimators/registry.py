"""Estimators by the names of the command line: those that are `register`ed in a file of this folder."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from ctrkit.errors import ConfigError, nearest
from ctrkit.ope import estimators
from ctrkit.ope.estimators.base import ESTIMATORS, Estimator
from ctrkit.ope.estimators.shrunk_weights import ShrunkWeights
from ctrkit.settings import Description, Setting, check_keys, meaning_of, read_line

__all__ = ["ESTIMATORS", "describe_estimators", "kind_of", "make_estimator", "reads_candidates"]

for _module in iter_modules(estimators.__path__, f"{estimators.__name__}."):
    import_module(_module.name)


def kind_of(spec: str) -> type[Estimator]:
    """The class of a spec.

    Raises:
        ConfigError: for an unknown name.
    """
    name, _ = read_line(spec)
    if name not in ESTIMATORS:
        raise ConfigError(f"there is no estimator '{name}'", hint=nearest(name, ESTIMATORS))
    return ESTIMATORS[name]


def reads_candidates(spec: str) -> bool:
    """Whether a spec needs the policy's probabilities of all candidates, not of the logged action alone.

    Raises:
        ConfigError: for an unknown name.
    """
    kind = kind_of(spec)
    return kind.needs_reward_model or kind.view != "plain"


def make_estimator(spec: str, reward_range: tuple[float, float] | None = None) -> Estimator:
    """The estimator of a spec such as `ips`, `switch-dr:tau=10` or `clipped-ips:lambda=slope`.

    Args:
        spec: a name from `ESTIMATORS`, and after a colon the estimator's setting, where it has one: a number,
            or the rule of `ctrkit.ope.estimators.tuning` that chooses it.
        reward_range: see `Estimator`.

    Raises:
        ConfigError: for an unknown name, parameter or rule, and a number out of range.
    """
    name, settings = read_line(spec)
    kind = kind_of(name)
    check_keys(settings, {one.name for one in _settings(kind)}, f"estimator '{name}'")
    for value in settings.values():
        try:
            return kind(reward_range, float(value))  # type: ignore[call-arg]
        except ValueError:
            return kind(reward_range, value)  # type: ignore[call-arg]
    return kind(reward_range)


def describe_estimators() -> tuple[Description, ...]:
    """What help pages print."""
    return tuple(Description(kind.name, meaning_of(kind), _settings(kind)) for kind in ESTIMATORS.values())


def _settings(kind: type[Estimator]) -> tuple[Setting, ...]:
    return (kind.setting(),) if issubclass(kind, ShrunkWeights) else ()
