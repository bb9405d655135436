"""What the flat functions return, and the folder a run leaves behind."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ctrkit.reports.document import Report, to_html
from ctrkit.tables import write_json, write_text

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Result(ABC):
    """Base of all results: the same content for machines, for notebooks and for people."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; holds all that the tables show."""

    @abstractmethod
    def report(self) -> Report:
        """Tables and figures for a person."""

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(self.to_dict(), allow_nan=False)

    def to_pandas(self) -> pd.DataFrame:
        """The first table of the report."""
        import pandas as pd

        table = self.report().tables[0]
        return pd.DataFrame(list(table.rows), columns=list(table.header))


def write_run(folder: str | os.PathLike[str], command: str, config: dict[str, Any], result: Result) -> Path:
    """Write what a run leaves: resolved config, `metrics.json`, `report.json`, figures and `report.html`.

    Every file is written atomically, `metrics.json` last: where it is, the run is complete.
    """
    home = Path(folder)
    report = result.report()
    write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), home / "config.yaml")
    for earlier in (home / "figures").glob("*.svg"):  # of a run into the same folder, which showed more
        earlier.unlink()
    for figure in report.figures:
        write_text(figure.svg, home / "figures" / f"{figure.name}.svg")
    write_text(to_html(report), home / "report.html")
    write_json({"command": command, **result.to_dict()}, home / "metrics.json")
    return home
