"""`ctrkit summary`: one table over the whole road, from the run folders that the commands left."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctrkit.api.results import Result
from ctrkit.errors import DataError
from ctrkit.reports import Report, Table
from ctrkit.reports.document import to_html
from ctrkit.tables import write_text

_COMMANDS = ("train", "calibrate", "evaluate", "ope", "learn-policy", "simulate-bidding")


@dataclass(frozen=True)
class Summary(Result):
    """What the last run of each command found.

    Attributes:
        runs: command -> content of its `metrics.json`.
        folders: command -> name of its run folder.
        page: the report over all runs.
    """

    runs: dict[str, dict[str, Any]]
    folders: dict[str, str]
    page: str

    def to_dict(self) -> dict[str, Any]:
        return {**self.runs, "report": self.page}

    def report(self) -> Report:
        rows = tuple(
            row for command in _COMMANDS if command in self.runs for row in _ROWS[command](self.runs[command])
        )
        tables = (Table("What the last runs found", ("what", "value", "beside"), rows),)
        links = tuple(
            (f"Report of ctrkit {c}", f"{self.folders[c]}/report.html") for c in _COMMANDS if c in self.runs
        )
        return Report("The road, end to end", tables=tables, links=links)


def summary(runs: str | os.PathLike[str] = "runs") -> Summary:
    """Gather the run folders under `runs` into one table, and write `report.html` there, which links them.

    Raises:
        DataError: when there is no run, or a file of one is damaged.
    """
    home = Path(runs)
    found: dict[str, dict[str, Any]] = {}
    folders: dict[str, str] = {}
    for path in sorted(home.glob("*/metrics.json"), key=lambda file: file.stat().st_mtime):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found[content["command"]], folders[content["command"]] = content, path.parent.name
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                "this is no run's metrics", file=path, mend="Delete the folder or run it again"
            ) from error
    if not found:
        raise DataError("no finished run is here", file=home, mend="Run `ctrkit train` and the others first")
    result = Summary(found, folders, os.fspath(home / "report.html"))
    write_text(to_html(result.report()), home / "report.html")
    return result


def _training(content: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (
            f"AUC of {task}",
            f"{metrics['auc']:.4f}",
            f"{metrics['positives']:,} positives of {metrics['rows']:,} test rows",
        )
        for task, metrics in content["metrics"].items()
        if "auc" in metrics
    ]


def _calibration(content: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    for task, found in content["tasks"].items():
        for name in ("ece", "pcoc"):
            before, after = found["before"][name], found["after"][name]
            rows.append((f"{name.upper()} of {task}", _interval(after), f"before: {_interval(before)}"))
    return rows


def _evaluation(content: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    for task, found in content["tasks"].items():
        entropy = found["metrics"]["normalized_entropy"]
        beside = "" if entropy is None else f"normalised entropy {_interval(entropy)}"
        rows.append((f"{task}, to bid on", found["verdict"]["decision"], beside))
    return rows


def _policy_value(content: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = [("value of the logging policy", _interval(content["logging"]), "")]
    several = len(content["policies"]) > 1
    for policy in content["policies"]:
        name = f"policy {policy['name']}" if several else "the new policy"
        truth = "" if policy["truth"] is None else f"truth: {policy['truth']:.5f}"
        rows += [
            (f"value of {name}, {estimate['estimator']}", _interval(estimate), truth)
            for estimate in policy["estimates"]
        ]
        rows.append((f"verdict on {name}", policy["verdict"], ""))
    return rows


def _learning(content: dict[str, Any]) -> list[tuple[str, str, str]]:
    learnt = content["evaluation"]["policies"][0]
    truth = "" if learnt["truth"] is None else f"truth: {learnt['truth']:.5f}"
    estimate = learnt["estimates"][-1]
    return [
        (f"value of the policy learnt, {estimate['estimator']}", _interval(estimate), truth),
        ("verdict on the policy learnt", learnt["verdict"], f"objective {content['objective']}"),
    ]


def _bidding(content: dict[str, Any]) -> list[tuple[str, str, str]]:
    best = content["optimum"]
    rows = []
    for one in (*content["strategies"], {"name": "hindsight optimum", "share_of_optimum": 1.0, **best}):
        clicks = "–" if one["clicks"] is None else f"{one['clicks']:,.0f}"
        share = "" if one["share_of_optimum"] is None else f", {one['share_of_optimum']:.1%} of the optimum"
        spent = f"spent {one['spend']:,.0f} of {content['budget']:,.0f}"
        rows.append((f"{one['name']}: clicks, value", f"{clicks}, {one['value']:,.0f}", f"{spent}{share}"))
    return rows


def _interval(value: float | dict[str, float]) -> str:
    """A number, with its interval where it has one."""
    if isinstance(value, float):
        return f"{value:.5f}"
    return f"{value['value']:.5f} [{value['low']:.5f}, {value['high']:.5f}]"


_ROWS = {
    "train": _training,
    "calibrate": _calibration,
    "evaluate": _evaluation,
    "ope": _policy_value,
    "learn-policy": _learning,
    "simulate-bidding": _bidding,
}
