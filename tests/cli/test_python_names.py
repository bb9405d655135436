"""One name for one thing: a command is a function with hyphens, an option is an argument or a setting."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

import ctrkit
from ctrkit.cli import app

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
# The promised, shorter names of some commands.
SHORT = {
    "ope": "evaluate-policy", "models": "list-models", "sources": "list-sources", "import": "import-model",
    "export": "export-model",
    "features push": "push-features", "features get": "get-features",
    "registry push": "push-model", "registry promote": "promote-model",
    "registry rollback": "rollback-model", "registry list": "list-versions",
}  # fmt: skip
# How a command speaks, and what it prints of itself.
OF_COMMANDS = {"json", "quiet", "debug", "config", "help"}
# Options of a part of the config: the exchange's rule.
OF_AUCTION = {"hard_floor", "soft_floor", "slot_effects"}


def functions() -> list[str]:
    others = ("load", "calibrate_scores")  # a model and arrays, which no command line can give
    return [
        name for name in ctrkit.__all__ if name not in others and not inspect.isclass(getattr(ctrkit, name))
    ]


@pytest.mark.parametrize("name", functions())
def test_a_command_has_the_name_of_its_function_and_options_those_of_its_arguments(name: str) -> None:
    command = COMMANDS[name.replace("_", "-")]
    arguments = {*inspect.signature(getattr(ctrkit, name)).parameters}
    known = arguments | OF_COMMANDS | (OF_AUCTION if name == "simulate_bidding" else set())
    for option in command.params:
        if getattr(option, "hidden", False) or "--set" in option.opts:
            continue
        called = option.opts[0].removeprefix("--").replace("-", "_")
        # An option that may be repeated has the singular.
        assert {called, f"{called}s", f"{called[:-1]}ies"} & known, f"ctrkit {command.name}: {called}"


def test_every_shown_command_is_a_function() -> None:
    groups = {"features", "registry"}
    shown = {name for name, command in COMMANDS.items() if not command.hidden} - groups
    shown |= {f"{group} {name}" for group in groups for name in COMMANDS[group].commands}
    assert {SHORT.get(name, name).replace("-", "_") for name in shown} == {*functions()}
    assert all(COMMANDS[long].hidden for long in SHORT.values())


def test_old_names_do_the_same_and_tell_the_new_one(logs: Path, tmp_path: Path) -> None:
    def told(*arguments: str | Path, out: str) -> str:
        result = CliRunner().invoke(app, [*map(str, arguments), "--quiet", "--out", str(tmp_path / out)])
        assert result.exit_code == 0, result.stderr
        return result.stderr

    log = logs / "bandit.parquet"
    assert "warning: this name is old; use `ctrkit check-log`" in told("ope", "check", log, out="old")
    assert told("check-log", log, out="new") == ""
    files = [tmp_path / folder / "metrics.json" for folder in ("old", "new")]
    assert files[0].read_text() == files[1].read_text()
    assert told("evaluate-policy", log, "--policy", "uniform", "--estimator", "ips", out="ope") == ""
