"""Gates: thresholds of metrics that stop a pipeline."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import model_validator

from ctrkit.config import Config
from ctrkit.errors import ConfigError, nearest
from ctrkit.metrics import MetricInterval
from ctrkit.metrics.checks import digits


class MetricGate(Config):
    """The range that a metric must lie in. At least one end must be given.

    Attributes:
        minimum: the lowest value allowed.
        maximum: the highest value allowed.
        beyond_noise: the gate breaks only if the whole interval is out of range (default: if the value is).
    """

    minimum: float | None = None
    maximum: float | None = None
    beyond_noise: bool = False

    @model_validator(mode="after")
    def _has_an_end(self) -> MetricGate:
        if self.minimum is None and self.maximum is None:
            raise ValueError("a gate needs a minimum or a maximum")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(
                f"the minimum {digits(self.minimum)} is above the maximum {digits(self.maximum)}"
            )
        return self


@dataclass(frozen=True)
class GateOutcome:
    """Whether one gate held.

    Attributes:
        metric: the metric's name in the config.
        held: whether the gate held.
        value: the metric's value; None if it could not be measured, which breaks the gate.
        reason: one sentence that says why.
    """

    metric: str
    held: bool
    value: float | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return dict(vars(self))


def need_known(gates: Iterable[str], metrics: Iterable[str]) -> None:
    """Raise a ConfigError if a gate names an unknown metric; the message names the nearest known one."""
    known = set(metrics)
    for name in gates:
        if name not in known:
            raise ConfigError(f"key 'gates': there is no metric '{name}'", hint=nearest(name, known))


def check_gates(
    gates: Mapping[str, MetricGate], measured: Mapping[str, MetricInterval | float | None]
) -> tuple[GateOutcome, ...]:
    """Check every gate against its measured metric; a metric that could not be measured breaks its gate."""
    return tuple(_check(name, gate, measured.get(name)) for name, gate in gates.items())


def _check(name: str, gate: MetricGate, found: MetricInterval | float | None) -> GateOutcome:
    if found is None or not math.isfinite(found.value if isinstance(found, MetricInterval) else found):
        return GateOutcome(name, False, None, f"{name} could not be measured on these rows")
    if isinstance(found, MetricInterval):
        value, low, high = found.value, found.low, found.high
        text = f"{name} is {value:.5g} [{low:.5g}, {high:.5g}]"
    else:
        value = low = high = found
        text = f"{name} is {value:.5g}"
    least, most = (high, low) if gate.beyond_noise else (value, value)
    if isinstance(found, MetricInterval) and found.method == "bound":
        # Nothing varied in these rows, so the worse end of the interval counts, not the value.
        least, most = low, high
    if gate.minimum is not None and least < gate.minimum:
        return GateOutcome(name, False, value, f"{text}, below its minimum of {digits(gate.minimum)}")
    if gate.maximum is not None and most > gate.maximum:
        return GateOutcome(name, False, value, f"{text}, above its maximum of {digits(gate.maximum)}")
    ends = " and ".join(
        f"{what} {digits(end)}"
        for what, end in (("at least", gate.minimum), ("at most", gate.maximum))
        if end is not None
    )
    noise = ", within noise" if gate.beyond_noise else ""
    return GateOutcome(name, True, value, f"{text}: {ends}{noise}")
