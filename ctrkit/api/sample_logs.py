"""The logs and configs that ship with ctrkit, and the command that makes the logs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctrkit.api.results import Result
from ctrkit.reports import Report, Table


def bundled(*parts: str) -> Path:
    """A file of `configs/` or `logs_sample/`: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    home = package if (package / parts[0]).is_dir() else package.parent
    return home.joinpath(*parts)


@dataclass(frozen=True)
class SampleLogs(Result):
    """The files written."""

    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"files": [{"file": os.fspath(f), "bytes": f.stat().st_size} for f in self.files]}

    def report(self) -> Report:
        rows = tuple((os.fspath(f), f.stat().st_size) for f in self.files)
        return Report("Sample logs", tables=(Table("Sample logs", ("file", "bytes"), rows),))


def sample_logs(out: str | os.PathLike[str] = "logs_sample", *, seed: int = 0) -> SampleLogs:
    """Write the sample logs of a synthetic market with known truth: impressions, a bandit log, an auction
    log and the page that explains their columns. The same seed gives the same bytes."""
    from ctrkit.data.synthetic import write_sample_logs

    return SampleLogs(tuple(write_sample_logs(Path(out), seed=seed)))
