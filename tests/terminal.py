"""Commands as the terminal has them, in the process of the test."""

from __future__ import annotations

from contextlib import chdir, nullcontext
from pathlib import Path

from typer.testing import CliRunner

from ctrkit.cli import app


def call(*arguments: str | Path, cwd: Path | None = None) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command, in a folder or where the test stands."""
    with chdir(cwd) if cwd is not None else nullcontext():
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def sets(overrides: tuple[str, ...]) -> list[str]:
    """The options that set these keys."""
    return [part for override in overrides for part in ("--set", override)]
