"""Estimators by the names of the command line: those that are `register`ed in a file of this folder."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from ctrkit.errors import ConfigError, nearest
from ctrkit.ope import estimators
from ctrkit.ope.estimators.base import ESTIMATORS, Estimator
from ctrkit.ope.estimators.shrunk_weights import ShrunkWeights

__all__ = ["ESTIMATORS", "kind_of", "make_estimator", "reads_candidates"]

for _module in iter_modules(estimators.__path__, f"{estimators.__name__}."):
    import_module(_module.name)


def kind_of(spec: str) -> type[Estimator]:
    """The class of a spec.

    Raises:
        ConfigError: for an unknown name.
    """
    name = spec.partition(":")[0].strip()
    if name not in ESTIMATORS:
        raise ConfigError(f"there is no estimator '{name}'", mend=nearest(name, ESTIMATORS))
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
        spec: a name from `ESTIMATORS`, and after a colon the estimator's parameter, where it has one: a
            number, or the rule of `ctrkit.ope.estimators.tuning` that chooses it.
        reward_range: see `Estimator`.

    Raises:
        ConfigError: for an unknown name, parameter or rule, and a number out of range.
    """
    name, colon, setting = (part.strip() for part in spec.partition(":"))
    kind = kind_of(spec)
    if not colon:
        return kind(reward_range)
    if not issubclass(kind, ShrunkWeights):
        raise ConfigError(
            f"estimator {name} has no parameters, and '{setting}' is given", mend=f"Give {name}"
        )
    key, equals, value = (part.strip() for part in setting.partition("="))
    if not equals or "," in value:
        raise ConfigError(
            f"'{setting}' is not the one setting that estimator {name} takes",
            mend=f"Give {name}:{kind.parameter}={kind.default:g}, say",
        )
    if key != kind.parameter:
        raise ConfigError(f"estimator {name} has no parameter '{key}'", mend=nearest(key, [kind.parameter]))
    try:
        return kind(reward_range, float(value))
    except ValueError:
        return kind(reward_range, value)
