"""Names that came with the data, in every command: none is markup, a formula, a path, or moves the cursor."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
import yaml

from tests.terminal import call

NASTY = (
    "[/]", "[red]shoes", ":smile:", "\x1b[31mred", "$5 off $10", "_x", "/../../x",
    "<script>alert(1)</script>", "n" * 500, "🍕", "a\nb", "\u202eabc", "a & b", "..",
)  # fmt: skip
# The first of several has all that is nasty in one: its figures are rendered.
WORST = "_$5 off $10 \x1b[31m[red]<script>"
pytestmark = [
    pytest.mark.rendered,
    pytest.mark.filterwarnings("ignore::ctrkit.calibration.CalibrationWarning"),
    pytest.mark.filterwarnings("ignore::ctrkit.evaluation.measures.EvaluationWarning"),
]


def nasty(rng: np.random.Generator, rows: int) -> list[str]:
    return [NASTY[place] for place in rng.integers(0, len(NASTY), rows)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder deep inside another one, with logs whose every name is nasty."""
    home = tmp_path_factory.mktemp("outer") / "a" / "b"
    home.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = 1500
    table = {name: nasty(rng, rows) for name in NASTY}
    ad = np.array(table["[/]"])
    click = rng.random(rows) < np.where(ad == "[/]", 0.5, 0.2)
    labels = {"click": click.astype(int), "buy": (click & (rng.random(rows) < 0.5)).astype(int)}
    pl.DataFrame({**table, **labels, "user_id": np.arange(rows) % 100}).write_parquet(home / "train.parquet")
    features = {
        "labels": {"$5 off $10 [/] _<script>": "click", "/../../x": "buy"},
        "group": "user_id",
        "categorical": [{"name": name} for name in NASTY],
        "candidate": {"id": "[/]"},
    }
    config = {
        "features": features,
        "split": {"by": "random"},
        "model": {"name": "fm", "embedding": 2},
        "training": {"epochs": 1, "batch_size": 512},
    }
    (home / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    candidates = [list(NASTY)] * rows
    pl.DataFrame(
        {
            **{name: table[name] for name in NASTY if name != "[/]"},
            "action": ad,
            "propensity": np.full(rows, 1 / len(NASTY)),
            "reward": labels["click"],
            "candidates": candidates,
            WORST: rng.random(rows),
            "timestamp": 1_700_000_000 + 60 * np.arange(rows),
        }
    ).write_parquet(home / "bandit.parquet")
    pl.DataFrame({"campaign": [n for n in NASTY for _ in (1, 2)], "spend": [1.0, 2.0] * len(NASTY),
                  "value": [3.0, 4.0] * len(NASTY)}).write_parquet(home / "curves.parquet")  # fmt: skip
    pl.DataFrame(
        {
            "market_price": rng.random(400),
            "click": (rng.random(400) < 0.2).astype(int),
            "pctr": rng.random(400),
        }
    ).write_parquet(home / "[red]$x$.parquet")
    paths = "--config", home / "config.yaml", "--model", home / "m.pt", "--out", home / "runs" / "train"
    code, said = run("train", home / "train.parquet", *paths)
    assert code == 0, said
    (home / "[red]_$m$.pt").write_bytes((home / "m.pt").read_bytes())
    return home


def run(*arguments: str | Path) -> tuple[int, str]:
    """Exit code, and all that a person sees."""
    code, out, err = call(*arguments)
    return code, out + err


COMMANDS = {
    "train": ("train", "train.parquet", "--config", "config.yaml", "--model", "again.pt"),
    "calibrate": ("calibrate", "m.pt", "--set", "method=platt"),
    "evaluate": ("evaluate", "m.pt", "--against", "[red]_$m$.pt", "--set", "draws=20"),
    "explain": ("explain", "m.pt"),
    "explain rows": ("explain", "m.pt", "train.parquet", "--row", "0"),
    "ope": (
        "ope", "--logs", "bandit.parquet", "--policy", f"column:{WORST}", "--policy", "action:[/]",
        "--policy", "[red]_$m$.pt:softmax", "--segment", "\x1b[31mred", "--set", "reward_model=logistic",
        "--set", "estimators=[snips,dr]",
    ),
    "check-log": ("check-log", "bandit.parquet"),
    "plan-budget": ("plan-budget", "--budget", "20", "--curves", "curves.parquet"),
    "simulate-bidding": ("simulate-bidding", "--replay", "[red]$x$.parquet", "--budget", "10"),
    "models": ("models", "train.parquet", "--config", "config.yaml"),
}  # fmt: skip


def files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_run_ends_well_and_says_names_as_they_are(
    name: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    top = home.parents[1]
    before = set(files(top))
    command = list(COMMANDS[name])
    out = Path("runs") / name.replace(" ", "-")
    if command[0] != "models":
        command += ["--out", str(out)]
    code, said = run(*command)
    assert code in (0, 1), said
    assert "Error" not in said, said
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", said)
    if name in ("plan-budget", "ope", "explain"):
        assert "[red]" in said
    new = set(files(top)) - before
    assert all(path.is_relative_to(home / "runs") or path.name == "again.pt" for path in new), new
    for path in new:
        if path.suffix == ".html":
            page = path.read_text()
            assert "<script" not in page
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", page)
        if path.suffix == ".svg":
            drawn = path.read_text()
            ElementTree.fromstring(drawn)
            assert "mathdefault" not in drawn
            assert "<script" not in drawn


def test_figures_show_them_as_they_are(home: Path) -> None:
    code, said = run(
        "plan-budget", "--budget", "20", "--curves", home / "curves.parquet", "--out", home / "p"
    )
    assert code == 0, said
    drawn = (home / "p" / "figures" / "allocation.svg").read_text()
    words = "".join(ElementTree.fromstring(drawn).itertext())
    for shown in (
        "[/]",
        "[red]shoes",
        ":smile:",
        r"\x1b[31mred",
        "$5 off $10",
        "_x",
        "/../../x",
        r"a\nb",
        "🍕",
    ):
        assert shown in words, shown
    legend = "".join(ElementTree.fromstring((home / "p" / "figures" / "curves.svg").read_text()).itertext())
    assert "$5 off $10" in legend
    assert "_x" in legend


def test_errors_and_warnings_show_what_is_hidden(home: Path) -> None:
    code, said = run("ope", "--logs", "no\x1b[31m.parquet", "--policy", "uniform")
    assert code == 2
    assert r"no\x1b[31m.parquet" in said
    assert "\x1b" not in said
    code, said = run(
        "plan-budget", "--budget", "20", "--curves", home / "curves.parquet", "--minimum", "[/\x1b]=3"
    )
    assert code == 2
    assert "[/" in said
    assert "\x1b" not in said


def test_a_summary_links_no_other_place(home: Path) -> None:
    code, said = run("summary", home / "runs")
    assert code == 0, said
    odd = home / "odd" / "javascript:alert(1)"
    odd.mkdir(parents=True)
    (odd / "metrics.json").write_text((home / "runs" / "train" / "metrics.json").read_text())
    assert run("summary", home / "odd")[0] == 0
    assert 'href="javascript%3Aalert%281%29/report.html"' in (home / "odd" / "report.html").read_text()


def test_machines_get_the_names_unchanged(home: Path) -> None:
    paths = "--curves", str(home / "curves.parquet"), "--out", str(home / "p")
    _, out, _ = call("plan-budget", "--budget", "20", *paths, "--json", "--quiet")
    assert sorted(one["campaign"] for one in json.loads(out)["campaigns"]) == sorted(NASTY)
    assert "\x1b" not in out
