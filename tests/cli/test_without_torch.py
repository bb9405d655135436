"""Commands that open no network load no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl

RUNS = """
import json, sys
from matplotlib.figure import Figure
from ctrkit.cli import app

Figure.savefig = lambda self, text, **_: text.write("<svg/>")  # drawing takes longer than the runs

for command in json.loads(sys.argv[1]):
    app(command, standalone_mode=False)
    if "torch" in sys.modules:
        sys.exit(f"torch was loaded by {command}")
"""


def test_commands_without_a_network_load_no_torch(logs: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    p = random.random(2000) / 10
    replay = {
        "timestamp": np.arange(2000) * 300,
        "market_price": random.random(2000),
        "pctr": p,
        "click": (random.random(2000) < p).astype(np.int8),
    }
    pl.DataFrame(replay).write_parquet(tmp_path / "replay.parquet")
    out = ["--json", "--quiet", "--out", str(tmp_path / "out")]
    commands = [
        ["ope", "--logs", str(logs / "bandit.parquet"), "--policy", "uniform", *out],
        ["check-log", str(logs / "bandit.parquet"), *out],
        ["simulate-bidding", "--replay", str(tmp_path / "replay.parquet"), "--budget", "10", *out],
        ["plan-budget", "--budget", "10", "--auctions", str(tmp_path / "replay.parquet"), *out],
        ["summary", str(tmp_path / "out"), "--json"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", RUNS, json.dumps(commands)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(commands)


ENCODES = """
import sys
import polars as pl
from ctrkit.artifact import Artifact
from ctrkit.data.encoder import Encoder

encoder = Encoder.from_state(Artifact.load(sys.argv[1]).encoder)
encoded = encoder.encode(pl.read_parquet(sys.argv[2]).head(10), labels=False)
sys.exit(len(encoded) != 10 or "torch" in sys.modules)
"""


def test_rows_are_encoded_by_an_artifact_without_torch(trained: Path, logs: Path) -> None:
    rows = logs / "impressions.parquet"
    subprocess.run([sys.executable, "-c", ENCODES, str(trained), str(rows)], check=True)
