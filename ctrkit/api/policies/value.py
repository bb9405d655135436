"""What a log says about policies, as `ctrkit.evaluate_policy` returns it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ctrkit.api.policies.report import policy_figures, policy_report
from ctrkit.api.results import Result
from ctrkit.ope import Evaluation
from ctrkit.reports import Drawings, Report


@dataclass(frozen=True)
class PolicyValue(Result):
    """What the log says about one policy or several, beside the truth where a simulated log carries it."""

    evaluation: Evaluation
    notes: tuple[str, ...]

    @property
    def truth(self) -> float | None:
        """That of the first policy."""
        return self.evaluation.policies[0].truth

    def to_dict(self) -> dict[str, Any]:
        content = self.evaluation.to_dict()
        return {**content, "notes": [*content["notes"], *self.notes]}

    def report(self) -> Report:
        return policy_report(self.evaluation, self.notes)

    def figures(self) -> Drawings:
        return policy_figures(self.evaluation)
