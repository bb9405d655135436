"""The shipped configs of public data sets train on files in their official format."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

import ctrkit
from ctrkit.cli import app
from ctrkit.data.sources import SOURCES, source_tables
from tests.data.sources.official import MADE

CONFIGS = ["criteo", "avazu", "taobaoad", "userbehavior"]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_shipped_config_trains(name: str, tmp_path: Path) -> None:
    MADE[name].write(tmp_path)
    result = ctrkit.train(name, tmp_path, network={"name": "lr", "crosses": None})
    assert sum(result.rows[part] for part in ("train", "valid", "test")) == MADE[name].rows
    assert result.artifact.config["source"] == name


def test_a_model_of_a_source_reads_its_files_and_tables_of_its_columns(tmp_path: Path) -> None:
    MADE["userbehavior"].write(tmp_path)
    model = ctrkit.train("userbehavior", tmp_path, network={"name": "lr", "crosses": None}).trained
    rows = source_tables("userbehavior", tmp_path).rows.collect()
    rows.write_csv(tmp_path / "rows.csv")
    expected = ctrkit.predict(model, rows).to_dict()["columns"]
    names = ["user_id", "item_id", "category_id", "behavior", "timestamp"]
    log = pl.read_csv(tmp_path / "UserBehavior.csv", has_header=False, new_columns=names)
    log.write_parquet(tmp_path / "events.parquet")
    rows.write_parquet(tmp_path / "rows.parquet")
    files = (tmp_path / name for name in ("UserBehavior.csv", "rows.csv", "events.parquet", "rows.parquet"))
    for data in (tmp_path, *files):
        found = ctrkit.predict(model, data).to_dict()
        assert (found["rows"], found["columns"]) == (41, expected)


def test_the_command_lists_all_sources_and_what_they_are() -> None:
    found = CliRunner().invoke(app, ["sources", "--json", "--quiet"])
    assert found.exit_code == 0
    listed = {one["name"]: one for one in json.loads(found.stdout)["sources"]}
    assert set(listed) == set(SOURCES)
    for name, one in listed.items():
        assert one["description"].endswith(".")
        assert one["publisher"].startswith("https://")
        assert one["rows"], name
        assert one["terms"], name
        assert one["labels"] == list(SOURCES[name].labels)
