"""The audit of a log, without any new policy: can the log be used to evaluate one?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.ope.audit.checks import ActionCalibration, TimeBins, by_time, calibrate_actions, newest_rows
from ctrkit.ope.audit.findings import (
    AuditFinding,
    Severity,
    calibration,
    delay,
    distribution,
    drift,
    dropped,
    duplicates,
    fault,
    least_mean_largest,
    propensities,
    replay,
    rewards,
    support,
)
from ctrkit.ope.formats import read_log
from ctrkit.ope.logs.bandit_log import BanditLog, Part, bandit_log
from ctrkit.ope.logs.faults import set_aside
from ctrkit.schema import BANDIT_LOG, LogSchema
from ctrkit.tables import TableLike, name_of


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        rows: number of valid rows.
        positives: number of rows with a reward other than 0.
        reward: smallest, mean and largest reward; None without rows.
        propensity: smallest, mean and largest propensity; None without rows.
        findings: the findings, in the order of the checks.
        actions: the calibration of propensities for each action, sorted by p-value.
        time: rewards and propensities over time; None where drift was not tested.
        propensities: [rows] the propensities, for a figure.
        notes: notes of the reader.
    """

    rows: int
    positives: int
    reward: tuple[float, float, float] | None
    propensity: tuple[float, float, float] | None
    findings: tuple[AuditFinding, ...]
    actions: tuple[ActionCalibration, ...]
    time: TimeBins | None
    propensities: Floats
    notes: tuple[str, ...]

    @property
    def severity(self) -> Severity:
        """The worst severity of all findings."""
        found = {finding.severity for finding in self.findings}
        return "error" if "error" in found else "warning" if "warning" in found else "fine"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; infinite numbers are None."""
        time = self.time
        return {
            "severity": self.severity,
            "rows": self.rows,
            "positives": self.positives,
            "reward": _range(self.reward),
            "propensity": _range(self.propensity),
            "findings": [
                {**asdict(finding), "rows": [location._asdict() for location in finding.rows]}
                for finding in self.findings
            ],
            "actions": [
                {
                    k: None if isinstance(v, float) and not math.isfinite(v) else v
                    for k, v in asdict(a).items()
                }
                for a in self.actions
            ],
            "time": None
            if time is None
            else {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in asdict(time).items()},
            "notes": list(self.notes),
        }


def audit_source(
    source: TableLike,
    format: str | None = None,
    *,
    false_discovery_rate: float = 0.01,
    bins: int = 20,
    skip_bad_lines: bool = False,
    schema: LogSchema = BANDIT_LOG,
) -> Audit:
    """Audit a log that may have faulty rows. They become findings, and the other rows are audited.

    Args:
        source: the log, as `ctrkit.ope.read_bandit_log` takes it.
        format: a name of `ctrkit.ope.formats.FORMATS`; by default recognised from each file's content.
        false_discovery_rate: expected share of false positives among the actions that are reported as
            miscalibrated.
        bins: largest number of time bins that are compared.
        skip_bad_lines: whether broken lines of JSON lines and DSJSON are left out, with a note.
        schema: `BANDIT_LOG`, with the names that the log has of its own (see `LogSchema.called`).

    Raises:
        DataError: a file cannot be read, or a column is missing or of a wrong type.
    """
    tables = read_log(source, format, skip_bad_lines, schema)
    sounds, parts, faults = [], [], []
    for number, table in enumerate(tables):
        sound, rows, found = set_aside(table, schema)
        faults += found
        if sound.table.height:
            sounds.append(sound)
            parts.append(Part(sound.file, 0, rows, number=number))
    findings = tuple(fault(one) for one in faults)
    notes = tuple(dict.fromkeys(note for table in tables for note in table.notes))
    if not parts:
        return Audit(0, 0, None, None, findings, (), None, np.zeros(0), notes)
    log = bandit_log(sounds, parts, name_of(source), schema=schema)
    return audit(log, false_discovery_rate=false_discovery_rate, bins=bins, before=findings)


def audit(
    log: BanditLog, *, false_discovery_rate: float = 0.01, bins: int = 20, before: Sequence[AuditFinding] = ()
) -> Audit:
    """Audit a log.

    Args:
        log: a log of valid rows.
        false_discovery_rate: expected share of false positives among the actions that are reported as
            miscalibrated.
        bins: largest number of time bins that are compared.
        before: findings to put first.
    """
    actions = calibrate_actions(log)
    time = by_time(log, bins)
    findings = (
        *before,
        *rewards(log),
        *propensities(log),
        *distribution(log, faulty=any("logging_probabilities" in f.columns for f in before)),
        *calibration(log, actions, false_discovery_rate),
        *support(log, actions),
        *replay(log),
        *drift(log, time),
        *duplicates(log),
        *delay(log, newest_rows(log)),
        *dropped(log),
    )
    return Audit(
        len(log),
        int(np.count_nonzero(log.reward)),
        least_mean_largest(log.reward, log.counts),
        least_mean_largest(log.propensity, log.counts),
        findings,
        tuple(sorted(actions, key=lambda action: action.p_value)),
        time,
        log.propensity,
        log.notes,
    )


def _range(values: tuple[float, float, float] | None) -> dict[str, float] | None:
    return None if values is None else dict(zip(("least", "mean", "largest"), values, strict=True))
