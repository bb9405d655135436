"""`ctrkit summary`: one table of the results in all run folders."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from ctrkit.api.results import Result
from ctrkit.api.run_folder import MARKER
from ctrkit.bidding.simulation.sweep import OPTIMUM
from ctrkit.errors import DataError
from ctrkit.reports import Report, Table
from ctrkit.reports.cells import Value, interval, share, text
from ctrkit.reports.document import to_html
from ctrkit.tables import write_text

SummaryRows: TypeAlias = list[tuple[str, Value, str]]

_ELSEWHERE = "see its report"


@dataclass(frozen=True)
class Summary(Result):
    """The results of the last run of each command.

    Attributes:
        runs: command -> content of its `metrics.json`.
        folders: command -> path of its run folder, relative to the report.
        unfinished: names of run folders that have no `metrics.json` yet.
        page: path of the report on all runs; None if none was written.
    """

    runs: dict[str, dict[str, Any]]
    folders: dict[str, str]
    unfinished: tuple[str, ...]
    page: str | None

    def to_dict(self) -> dict[str, Any]:
        return {**self.runs, "report": self.page}

    def report(self) -> Report:
        # In the order of the road; unknown commands, such as those of a later version, come last.
        commands = sorted(
            self.runs, key=lambda one: ([*_ROWS].index(one) if one in _ROWS else len(_ROWS), one)
        )
        rows = tuple(row for command in commands for row in _rows(command, self.runs[command]))
        tables = (Table("Results of the last runs", ("what", "value", "detail"), rows),)
        links = tuple((f"Report of ctrkit {c}", f"{self.folders[c]}/report.html") for c in commands)
        notes = tuple(f"{name}: this run is not complete and was left out." for name in self.unfinished)
        return Report("The road, end to end", tables=tables, links=links, notes=notes)


def summary(runs: str | os.PathLike[str] = "runs", *, out: str | os.PathLike[str] | None = None) -> Summary:
    """Gather the run folders in `runs` into one table.

    Args:
        runs: the folder that holds the run folders.
        out: the folder for a `report.html` that links the runs; None for no report.

    Raises:
        DataError: there is no finished run, or a file of a run is damaged.

    Example:
        >>> import ctrkit
        >>> check = ctrkit.check_log(out="runs/check-log")
        >>> [row[0] for row in ctrkit.summary("runs").report().tables[0].rows]
        ['audit of a log']
    """
    home = Path(runs)
    found: dict[str, dict[str, Any]] = {}
    folders: dict[str, str] = {}
    for path in sorted(home.glob(f"*/{MARKER}"), key=lambda file: file.stat().st_mtime):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            command = content["command"]
            found[command], folders[command] = content, os.path.relpath(path.parent, out or home)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                "these are not the metrics of a run", file=path, hint="Delete the folder or run it again"
            ) from error
    if not found and (home / MARKER).exists():
        raise DataError(
            "this is the folder of one run; a summary needs the folder that holds all runs",
            file=home,
            hint=f"Give {os.fspath(home.absolute().parent)}",
        )
    if not found:
        raise DataError(
            "no finished run in this folder", file=home, hint="Run `ctrkit train` or another command first"
        )
    begun = sorted(path.parent.name for path in home.glob("*/config.yaml"))
    unfinished = tuple(name for name in begun if not (home / name / MARKER).exists())
    page = None if out is None else Path(out) / "report.html"
    result = Summary(found, folders, unfinished, None if page is None else os.fspath(page))
    if page is not None:
        write_text(to_html(result.report()), page)
    return result


def _rows(command: str, content: dict[str, Any]) -> SummaryRows:
    """The results of a run; if this version cannot read them, a reference to its report."""
    try:
        return _ROWS[command](content)
    except (KeyError, IndexError, TypeError, AttributeError):
        return [(f"ctrkit {command}", _ELSEWHERE, "written by another version")]


def _inspection(content: dict[str, Any]) -> SummaryRows:
    features = sum(one["role"] == "feature" for one in content["columns"])
    beside = f"{features} features; a label in {text(share(content['label_rate']))}"
    return [("rows looked at", content["looked_at"], f"of {content['rows']:,}: {beside}")]


def _preparation(content: dict[str, Any]) -> SummaryRows:
    rows = ", ".join(f"{count:,} {part}" for part, count in content["rows"].items())
    return [("prepared rows", rows, f"version {content['version'][:12]}")]


def _training(content: dict[str, Any]) -> SummaryRows:
    sampled = " with sampled negatives: no probabilities" if content.get("sampled_metrics") else ""
    return [
        (
            f"AUC of {task}",
            metrics.get("auc"),
            f"{metrics['positives']:,} positives of {metrics['rows']:,} test rows{sampled}",
        )
        for task, metrics in content["metrics"].items()
    ]


def _calibration(content: dict[str, Any]) -> SummaryRows:
    rows: SummaryRows = []
    for task, found in content["tasks"].items():
        for name in ("ece", "pcoc"):
            before, after = (_measured(found[when][name]) for when in ("before", "after"))
            rows.append((f"{name.upper()} of {task}", after, f"before: {text(before)}"))
    return rows


def _recalibration(content: dict[str, Any]) -> SummaryRows:
    return [
        (f"{task}, on {found['rows']:,} new rows", found["outcome"], found["reason"])
        for task, found in content["tasks"].items()
    ]


def _evaluation(content: dict[str, Any]) -> SummaryRows:
    rows = []
    for task, found in content["tasks"].items():
        entropy = found["metrics"]["normalized_entropy"]
        beside = "" if entropy is None else f"normalised entropy {text(interval(entropy))}"
        rows.append((f"bid on {task}?", found["verdict"]["decision"], beside))
    return rows


def _watch(content: dict[str, Any]) -> SummaryRows:
    broken = [one["metric"] for one in content["gates"] if not one["held"]]
    told = f"gates broken: {', '.join(broken)}" if broken else "no gate is broken"
    return [("log watched", told, f"{content['whole']['rows']:,} rows in {len(content['periods'])} periods")]


def _interleaving(content: dict[str, Any]) -> SummaryRows:
    found = content["preference"]
    mean = interval({"value": found["mean"], "low": found["low"], "high": found["high"]})
    return [
        (f"preference for {content['b']}", mean, f"over {content['a']}, {content['requests']:,} requests")
    ]


def _explanation(content: dict[str, Any]) -> SummaryRows:
    if "importance" not in content:
        return [
            (f"p({content['task']}) of row {row['row']}", share(row["probability"]), "")
            for row in content["rows"]
        ]
    first = max(content["importance"], key=lambda one: one["log_loss"]["value"])
    return [(f"most important to {content['task']}", first["feature"], f"over {content['rows']:,} rows")]


def _audit(content: dict[str, Any]) -> SummaryRows:
    said = Counter(finding["severity"] for finding in content["findings"])
    found = ", ".join(f"{count} of severity {severity}" for severity, count in said.items())
    return [("audit of a log", found or "nothing found", f"{content['rows']:,} rows")]


def _policy_value(content: dict[str, Any]) -> SummaryRows:
    rows: SummaryRows = [("value of the logging policy", interval(content["logging"]), "")]
    several = len(content["policies"]) > 1
    for policy in content["policies"]:
        name = f"policy {policy['name']}" if several else "the new policy"
        truth = _truth(policy)
        rows += [
            (f"value of {name}, {estimate['estimator']}", interval(estimate), truth)
            for estimate in policy["estimates"]
        ]
        rows.append((f"verdict on {name}", policy["verdict"], ""))
    return rows


def _learning(content: dict[str, Any]) -> SummaryRows:
    learnt = content["evaluation"]["policies"][0]
    estimate = learnt["estimates"][-1]
    return [
        (f"value of the policy learnt, {estimate['estimator']}", interval(estimate), _truth(learnt)),
        ("verdict on the policy learnt", learnt["verdict"], f"objective {content['objective']}"),
    ]


def _plan(content: dict[str, Any]) -> SummaryRows:
    campaigns, hours = len(content["campaigns"]), len(content["hours"])
    beside = f"{_spent(content['spend'], content['budget'])}; {campaigns} campaigns, {hours} hours"
    return [("value of the budget plan", content["value"], beside)]


def _bidding(content: dict[str, Any]) -> SummaryRows:
    if "budgets" in content:
        return _sweep(content["budgets"])
    best = content["optimum"]
    rows: SummaryRows = []
    for one in (*content["strategies"], {"name": OPTIMUM, "share_of_optimum": 1.0, **best}):
        clicks = "" if one["clicks"] is None else f"{text(one['clicks'])} clicks; "
        beside = f"{clicks}{_spent(one['spend'], content['budget'])}{_share(one)}"
        rows.append((f"{one['name']}: value", one["value"], beside))
    return rows


def _spent(spend: float, budget: float) -> str:
    return f"spent {text(spend)} of {text(budget)}"


def _sweep(table: list[dict[str, Any]]) -> SummaryRows:
    """The results of each strategy at its smallest and its largest budget."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(table, key=lambda row: row["budget"]):
        by_name.setdefault(row["strategy"], []).append(row)
    return [
        (f"{name}: value", run["value"], f"from a budget of {text(run['budget'])}{_share(run)}")
        for name, runs in by_name.items()
        for run in (runs[0], runs[-1])
    ]


def _share(one: dict[str, Any]) -> str:
    part = one["share_of_optimum"]
    return "" if part is None else f", {text(share(part))} of the optimum"


def _truth(policy: dict[str, Any]) -> str:
    truth = policy.get("truth")
    return "" if truth is None else f"truth: {text(truth)}"


def _measured(value: float | dict[str, Any] | None) -> Value:
    """A number, or an interval given as plain data."""
    return interval(value) if isinstance(value, dict) else value


# By command, in the order of the road; a new command is added here.
_ROWS: Final[dict[str, Callable[[dict[str, Any]], SummaryRows]]] = {
    "inspect": _inspection,
    "prepare": _preparation,
    "train": _training,
    "calibrate": _calibration,
    "recalibrate": _recalibration,
    "evaluate": _evaluation,
    "monitor": _watch,
    "interleave": _interleaving,
    "explain": _explanation,
    "check-log": _audit,
    "ope check": _audit,  # its name in older run folders
    "ope": _policy_value,
    "learn-policy": _learning,
    "plan-budget": _plan,
    "simulate-bidding": _bidding,
}
