"""Public files from download to a trained, calibrated and evaluated model: the table of docs/data.md.

    python benchmarks/public_files.py FOLDER [--file NAME ...]

FOLDER holds the files as their owners publish them, or samples of them in the same formats. For each of them
`ctrkit train`, `ctrkit calibrate` and `ctrkit evaluate` run in an empty folder, with one thread and linear
terms alone (`--set model=lr`), which take seconds. Files that are absent are left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

# File -> the options of `ctrkit train`; of 200 rows, more than the usual ones calibrate and judge.
FILES = {
    "criteo_10k.txt.gz": "--config criteo",
    "avazu_10k.csv.gz": "--config avazu",
    "hillstrom.parquet": "--config hillstrom",
    "trivago_actions.parquet": "--config trivago",
    "userbehavior_sample.parquet": "--config userbehavior",
    "ml100k_ratings.parquet": "--set source=movielens",
    "mind_behaviors_5k.tsv.gz": "--set source=mind",
    "aliexpress_tiny.parquet": "--set source=aliexpress --set split.train=0.5 --set split.valid=0.25",
    "mind_impressions.parquet": "",
    "trivago_impressions.parquet": "",
    "ipinyou_2997_test.parquet": "",
}


def ctrkit(folder: Path, *arguments: str) -> dict[str, Any]:
    """The answer of a command that runs in a folder."""
    done = subprocess.run(
        [Path(sys.executable).parent / "ctrkit", *arguments, "--json", "--quiet"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def row(file: Path, options: str) -> list[str]:
    """The cells of a file: its command, and what came of it."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / file.name).symlink_to(file.resolve())
        trained = ctrkit(folder, "train", file.name, *options.split(), "--set", "model=lr")
        if "error" in trained:
            return [file.name, options, trained["error"], "", "", "", ""]
        task = next(iter(trained["metrics"]))
        rows = sum(trained["rows"][part] for part in ("train", "valid", "test"))
        calibrated = ctrkit(folder, "calibrate")
        method = "too few rows" if "error" in calibrated else calibrated["tasks"][task]["method"]
        judged = ctrkit(folder, "evaluate")["tasks"][task]
    auc, pcoc = (judged["metrics"][name] for name in ("auc", "pcoc"))
    verdict = judged["verdict"]["decision"]
    return [file.name, options, f"{rows:,}", _interval(auc), method, _interval(pcoc), verdict]


def _interval(found: dict[str, float] | None) -> str:
    return "–" if found is None else f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of the files.", exists=True, file_okay=False)],
    file: Annotated[list[str] | None, typer.Option(help="Only these files.")] = None,
) -> None:
    """Train, calibrate and evaluate on every file, and print the table."""
    print("| file | options of `ctrkit train` | rows | AUC | calibrator | PCOC | fit to bid on |")
    print("|---|---|---|---|---|---|---|")
    for name in file or FILES:
        if (folder / name).exists():
            cells = row(folder / name, FILES[name])
            print(
                "| "
                + " | ".join(f"`{cell}`" if at == 1 and cell else cell for at, cell in enumerate(cells))
                + " |"
            )


if __name__ == "__main__":
    typer.run(main)
