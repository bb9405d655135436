"""The logs and configs that ship with ctrkit, and the command that makes the logs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctrkit.api.results import Result
from ctrkit.errors import ConfigError
from ctrkit.reports import Report, Table


def bundled(*parts: str) -> Path:
    """A file of `configs/` or `logs_sample/`: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    home = package if (package / parts[0]).is_dir() else package.parent
    return home.joinpath(*parts)


@dataclass(frozen=True)
class SampleLogs(Result):
    """The files of sample logs."""

    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"files": [{"file": os.fspath(f), "bytes": f.stat().st_size} for f in self.files]}

    def report(self) -> Report:
        rows = tuple((os.fspath(f), f.stat().st_size) for f in self.files)
        return Report("Sample logs", tables=(Table("Sample logs", ("file", "bytes"), rows),))


def sample_logs(out: str | os.PathLike[str] | None = None, *, seed: int = 0) -> SampleLogs:
    """The sample logs of a synthetic market with known truth: impressions, a bandit log, an auction log, and
    a page that explains their columns.

    Args:
        out: the folder to write to; None for the files of seed 0 that ship with ctrkit.
        seed: seed of the market; the same seed gives the same bytes.

    Raises:
        ConfigError: a seed other than 0 is given without a folder.

    Example:
        >>> import ctrkit
        >>> [file.name for file in ctrkit.sample_logs().files]
        ['README.md', 'auctions.parquet', 'bandit.parquet', 'impressions.parquet']
    """
    if out is None:
        if seed:
            raise ConfigError(
                f"the sample logs of seed {seed} do not ship with ctrkit", hint="Give a folder as out"
            )
        shipped = bundled("logs_sample")
        return SampleLogs((shipped / "README.md", *sorted(shipped.glob("*.parquet"))))
    from ctrkit.data.synthetic import write_sample_logs

    return SampleLogs(tuple(write_sample_logs(Path(out), seed=seed)))
