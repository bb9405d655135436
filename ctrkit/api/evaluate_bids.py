"""`ctrkit ope` on a log of bids: what would a new bidder have earned for each impression?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import Field, model_validator

from ctrkit.api.log_columns import LogColumns
from ctrkit.api.policies.config import OpeConfig
from ctrkit.api.policies.report import diagnostics_table, drawn_estimates
from ctrkit.api.policies.value import PolicyValue
from ctrkit.api.run_folder import run_folder
from ctrkit.config import ConfigLike, settings_of
from ctrkit.errors import ConfigError
from ctrkit.ope.bids import evaluation as bid_evaluation
from ctrkit.ope.bids.bid_log import TARGET, read_bid_log
from ctrkit.ope.bids.evaluation import BidEvaluation
from ctrkit.reports import Drawings, Report, Table
from ctrkit.reports.cells import interval
from ctrkit.reports.figures import forest_plot
from ctrkit.reports.policy_figures import weight_figure
from ctrkit.schema import BID_LOG
from ctrkit.tables import TableLike


class BidsConfig(LogColumns):
    """Settings of an evaluation of bids.

    Attributes:
        bid_range: smallest and largest bid that the logging policy draws; `[-.inf, .inf]` if its bids have no
            ends. Without it the kernel loses mass at the ends, and all intervals are normal intervals.
        kernel: a name of `ctrkit.ope.bids.kernels.KERNELS`.
        bandwidth: bandwidth of the kernel, in the bids' unit; by default from the spread and number of the
            bids.
        context_columns: columns that the reward model uses besides the bid; they must have been known before
            the auction.
        reward_range: smallest and largest possible reward; by default 0 and 1 if all rewards are 0 or 1.
        confidence: confidence level of all intervals.
        folds: number of folds of the reward model's cross-fitting.
        cluster_by: column of the units that are independent of each other, or `row`; by default the user.
        skip_bad_lines: whether broken lines of JSON lines and DSJSON are left out and counted in a note.
        seed: seed of all random draws.
    """

    bid_range: tuple[float, float] | None = None
    kernel: str = "epanechnikov"
    bandwidth: float | None = Field(default=None, gt=0.0)
    context_columns: tuple[str, ...] = ()
    reward_range: tuple[float, float] | None = None
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    folds: int = Field(default=3, ge=2)
    cluster_by: str | None = None
    skip_bad_lines: bool = False
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _of_bids(cls, content: Any) -> Any:
        """Settings for choices among candidates are refused with a message of their own."""
        for key in content:
            if key in OpeConfig.model_fields and key not in cls.model_fields:
                raise ConfigError(
                    f"'{key}' does not apply to a log of bids",
                    hint=f"Leave it out; settings of bids are {', '.join(cls.model_fields)}",
                )
        return content


@dataclass(frozen=True)
class BidsValue(PolicyValue):
    """The evaluation of a new bidder on a log of bids."""

    evaluation: BidEvaluation

    def report(self) -> Report:
        content = self.to_dict()
        (policy,), (found,) = content["policies"], self.evaluation.policies
        estimates, logging = policy["estimates"], content["logging"]
        values = [
            (
                one["estimator"],
                *(one[name] for name in ("value", "low", "high", "bandwidth", "effective_sample_size")),
            )
            for one in estimates
        ]
        tables = (
            Table(
                f"Value of an impression under {found.name}",
                ("estimator", "value", "low", "high", "bandwidth", "effective rows"),
                (
                    ("logging policy", logging["value"], logging["low"], logging["high"], None, None),
                    *values,
                ),
            ),
            Table(
                "Difference from the logging policy's value",
                ("estimator", "difference", "meaning"),
                tuple((one["estimator"], interval(one["difference"]), one["meaning"]) for one in estimates),
            ),
        )
        return Report(
            "Off-policy evaluation of bids",
            f"Verdict on {found.name}: {policy['verdict']} ({policy['reason']}).",
            tables,
            tuple(content["notes"]),
            details=(diagnostics_table(policy),),
        )

    def figures(self) -> Drawings:
        content, (found,) = self.to_dict(), self.evaluation.policies
        drawn = drawn_estimates(content["policies"][0])
        weights = {"weights": partial(weight_figure, "weights", found.name, found.weights)}
        if not drawn:
            return weights
        return {"estimates": partial(forest_plot, "estimates", content["logging"], drawn, None), **weights}


def evaluate_bids(
    logs: TableLike,
    policy: object = None,
    *,
    target_column: str | None = None,
    config: ConfigLike = None,
    overrides: Sequence[str] = (),
    out: str | os.PathLike[str] | None = None,
    **keywords: Any,
) -> BidsValue:
    """Evaluate a new bidder on a log of bids that were drawn from a density.

    Args:
        logs: the log, as `ctrkit.ope.bids.bid_log.read_bid_log` takes it.
        policy: must be None: policies choose among candidates and make no bids.
        target_column: column with the new bidder's bids; by default `target_bid`.
        config: settings of `BidsConfig`, as a path, mapping or object.
        overrides: settings as `key=value`; they override `config`.
        keywords: settings by name; they override both.
        out: the run folder; None: nothing is written.

    Raises:
        ConfigError: a policy is given, or a setting does not apply to bids.
        DataError: the log or the new bids cannot be used (see `read_bid_log` and
            `ctrkit.ope.bids.evaluation.evaluate_bids`).
    """
    settings = settings_of(BidsConfig, config, overrides, keywords)
    if policy is not None:
        raise ConfigError(
            "this is a log of bids, and a policy chooses among candidates",
            hint="Give the column with the new bidder's bids as --target-column",
        )
    with run_folder(out, "ope") as run:
        log = read_bid_log(
            logs,
            cluster_by=settings.cluster_by,
            skip_bad_lines=settings.skip_bad_lines,
            schema=BID_LOG.called(settings.map),
        )
        of_evaluation = settings.model_dump(exclude={"cluster_by", "skip_bad_lines", "map"})
        result = BidsValue(
            bid_evaluation.evaluate_bids(log, target_column or TARGET.name, **of_evaluation), ()
        )
        run.write(settings, result)
    return result
