"""Commands that open no network, and encoders of artifacts, load no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

RUNS = """
import json, sys
import polars as pl
from matplotlib.figure import Figure
from ctrkit.artifact import Artifact
from ctrkit.cli import app
from ctrkit.data.encoder import Encoder

def none_loaded(by):
    if "torch" in sys.modules:
        sys.exit(f"torch was loaded by {by}")

model, rows, commands = sys.argv[1:]
encoder, table = Encoder.from_state(Artifact.load(model).encoder), pl.read_parquet(rows)
assert len(encoder.encode(table.head(10), labels=False)) == 10
none_loaded("an encoder")
Figure.savefig = lambda self, text, **_: text.write("<svg/>")  # drawing takes longer than the runs
for command in json.loads(commands):
    app(command, standalone_mode=False)
    none_loaded(command)
"""


@pytest.mark.slow
def test_no_torch_is_loaded_without_a_network(trained: Path, logs: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    p = random.random(600) / 10
    replay = {
        "timestamp": np.arange(600) * 1000,
        "market_price": random.random(600),
        "pctr": p,
        "click": (random.random(600) < p).astype(np.int8),
    }
    pl.DataFrame(replay).write_parquet(tmp_path / "replay.parquet")
    pl.read_parquet(logs / "bandit.parquet").head(600).write_parquet(tmp_path / "bandit.parquet")
    out = ["--json", "--quiet", "--out", "out"]
    commands = [
        ["ope", "--logs", "bandit.parquet", "--policy", "uniform", *out],
        ["check-log", "bandit.parquet", *out],
        ["simulate-bidding", "--replay", "replay.parquet", "--budget", "10", *out],
        ["plan-budget", "--budget", "10", "--auctions", "replay.parquet", *out],
        ["summary", "out", "--json"],
    ]
    given = [str(trained), str(logs / "impressions.parquet"), json.dumps(commands)]
    done = subprocess.run([sys.executable, "-c", RUNS, *given], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(commands)
