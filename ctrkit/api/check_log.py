"""`ctrkit check-log`: can a log be used to evaluate a policy?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import Field

from ctrkit.api.keywords import takes_settings
from ctrkit.api.log_columns import BanditLogColumns
from ctrkit.api.results import Result
from ctrkit.api.run_folder import run_folder
from ctrkit.api.sample_logs import bundled
from ctrkit.config import ConfigLike, settings_of
from ctrkit.errors import DataError
from ctrkit.ope.audit.audit import Audit, audit_source
from ctrkit.ope.audit.findings import AuditFinding
from ctrkit.ope.bids.bid_log import is_bid_log
from ctrkit.reports import DrawFigure, Drawings, Report, Table
from ctrkit.reports.audit_figures import propensity_figure, time_figure
from ctrkit.tables import TableLike, name_of

_ACTIONS = 20
_ORDER = ("error", "warning", "fine")


class CheckConfig(BanditLogColumns):
    """Settings of an audit.

    Attributes:
        false_discovery_rate: expected share of false positives among the actions that are reported as
            miscalibrated.
        bins: largest number of time bins that are compared.
        skip_bad_lines: whether broken lines of JSON lines and DSJSON are left out and counted in a note.
    """

    false_discovery_rate: float = Field(default=0.01, gt=0.0, lt=1.0)
    bins: int = Field(default=20, ge=2)
    skip_bad_lines: bool = False


@dataclass(frozen=True)
class LogCheck(Result):
    """The audit of a log."""

    audit: Audit
    notes: tuple[str, ...]

    @property
    def failed(self) -> bool:
        """Whether estimates from this log would be wrong or impossible."""
        return self.audit.severity == "error"

    def to_dict(self) -> dict[str, Any]:
        content = self.audit.to_dict()
        return {**content, "notes": [*content["notes"], *self.notes]}

    def report(self) -> Report:
        audit = self.audit
        findings = sorted(audit.findings, key=lambda finding: _ORDER.index(finding.severity))
        rows = tuple(
            (
                _sentence(finding),
                finding.severity,
                finding.check,
                ", ".join(finding.columns),
            )
            for finding in findings
        )
        return Report(
            "Audit of a log",
            _answer(audit),
            (Table("Findings", ("finding", "severity", "check", "columns"), rows),),
            (*audit.notes, *self.notes),
            details=(_actions(audit),) if audit.actions else (),
        )

    def figures(self) -> Drawings:
        audit = self.audit
        drawings: dict[str, DrawFigure] = {}
        if audit.rows:
            drawings["propensities"] = partial(propensity_figure, audit.propensities)
        if audit.time is not None:
            drawings["over_time"] = partial(time_figure, audit.time)
        return drawings


@takes_settings(CheckConfig)
def check_log(
    logs: TableLike | None = None,
    *,
    format: str | None = None,
    config: ConfigLike = None,
    overrides: Sequence[str] = (),
    out: str | os.PathLike[str] | None = None,
    **keywords: Any,
) -> LogCheck:
    """Audit a bandit log: can it be used to evaluate a policy?

    Faulty rows are counted and left out of the other checks.

    Args:
        logs: a path, a glob, a list of them, obp's `bandit_feedback` or a table; by default the sample log.
        format: a name of `ctrkit.ope.formats.FORMATS`; by default recognised from each file's content.
        out: the run folder; None: nothing is written.

    Raises:
        DataError: a file cannot be read, or a required column is missing or of a wrong type.
        ConfigError: there is no such format, or a setting is wrong.

    Example:
        >>> import ctrkit
        >>> check = ctrkit.check_log()  # of the sample log
        >>> check.failed
        False
    """
    settings = settings_of(CheckConfig, config, overrides, keywords)
    with run_folder(out, "check-log") as run:
        result = _checked(logs, format, settings)
        run.write(settings, result, format=format)
    return result


def _checked(logs: TableLike | None, format: str | None, settings: CheckConfig) -> LogCheck:
    source = logs if logs is not None else bundled("logs_sample", "bandit.parquet")
    notes = () if logs is not None else ("The log is the sample that ships with ctrkit.",)
    if is_bid_log(source, settings.map, settings.constants):
        raise DataError(
            "this is a log of bids, and check-log audits logs of choices among candidates",
            file=name_of(source),
            hint="Evaluate a new bidder with `ctrkit ope`, which also checks the log",
        )
    found = audit_source(
        source,
        format,
        false_discovery_rate=settings.false_discovery_rate,
        bins=settings.bins,
        skip_bad_lines=settings.skip_bad_lines,
        schema=settings.schema_of_log,
    )
    return LogCheck(found, notes)


def _answer(audit: Audit) -> str:
    number = {kind: sum(f.severity == kind for f in audit.findings) for kind in _ORDER}
    if number["error"]:
        return f"Do not evaluate policies on this log yet: {_counted(number['error'], 'error')}."
    if number["warning"]:
        return f"The log can be used with care: {_counted(number['warning'], 'warning')}."
    return "The audit found no problem in this log."


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _sentence(finding: AuditFinding) -> str:
    """The finding's sentence, with the first rows that it is about."""
    if not finding.rows:
        return finding.sentence
    # If the rows are in several files, each row is named with its file.
    files = [os.path.basename(location.file or "") for location in finding.rows]
    same = len(set(files)) == 1
    named = zip(files, finding.rows, strict=True)
    names = [str(location.row) if same else f"{file}: {location.row}" for file, location in named]
    more = ", ..." if finding.count > len(names) else ""
    where = f" of {files[0]}" if same and files[0] else ""
    return f"{finding.sentence} Row{'s' if finding.count > 1 else ''} {', '.join(names)}{more}{where}."


def _actions(audit: Audit) -> Table:
    rows = tuple(
        (
            str(one.action).removesuffix(".0"),
            one.rows,
            one.chosen,
            one.expected,
            one.ratio,
            one.z,
            one.adjusted_p_value,
        )
        for one in audit.actions[:_ACTIONS]
    )
    header = ("action", "rows", "chosen", "expected", "Σ 1/p over rows", "z", "adjusted p")
    title = "Calibration of propensities by action, smallest p-value first"
    return Table(title, header, rows)
