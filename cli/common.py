"""What all commands share: options, and how they show results, progress and errors."""

from __future__ import annotations

import json as json_text
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeAlias

import typer

from ctrkit.errors import ConfigError, FileRole, InputError, RunError, is_glob, missing
from ctrkit.names import visible
from ctrkit.progress import OnStep, silent

if TYPE_CHECKING:
    from rich.console import Console

    from ctrkit.api.results import Result

Parameters = ParamSpec("Parameters")

# The artifact of the working folder.
MODEL = Path("model.pt")
# The panel of options for tables of scores.
OF_SCORES = "A table of scores"

ConfigFile: TypeAlias = Annotated[
    Path | None, typer.Option("--config", help="YAML file with the settings of this command.")
]
Overrides: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Set a key of the config; repeatable."),
]
RunFolder: TypeAlias = Annotated[Path, typer.Option(help="Folder for the report and the results of the run.")]
Scores: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="TABLE",
        help="A table of labels and probabilities, of any model, in place of an artifact.",
        rich_help_panel=OF_SCORES,
    ),
]
Label: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column of labels (default: click, clicked, label, y, …).",
        rich_help_panel=OF_SCORES,
    ),
]
Probability: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column of probabilities (default: pctr, p_click, score, prediction, …).",
        rich_help_panel=OF_SCORES,
    ),
]
Weight: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column of row weights (default: weight or sample_weight, if it is there).",
        rich_help_panel=OF_SCORES,
    ),
]
Logits: TypeAlias = Annotated[
    bool, typer.Option("--logits", help="The predictions are logits.", rich_help_panel=OF_SCORES)
]
CalibratorFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A calibrator from `ctrkit calibrate --scores`.",
        rich_help_panel=OF_SCORES,
    ),
]
SkipBadLines: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--skip-bad-lines", help="Skip broken lines of JSON lines and DSJSON files, and count them."
    ),
]
ColumnMap: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="ROLE=COLUMN,...",
        help="Which of the log's columns is what, such as action=ad,propensity=p; repeatable.",
    ),
]
Propensity: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="Propensity of every row, where the log has none, such as 0.5 for one of two at random."
    ),
]
Seed: TypeAlias = Annotated[int | None, typer.Option(min=0, help="Seed of all random numbers.")]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")
]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", help="Show no progress and no tables.")]
Debug: TypeAlias = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@dataclass(frozen=True)
class Output:
    """What a command prints: JSON alone, no tables, tracebacks."""

    json: bool
    quiet: bool
    debug: bool

    def console(self, *, stderr: bool) -> Console:
        from rich.console import Console

        # Tables piped into a file keep their columns instead of being cut at 80 characters.
        # Names in the data are not markup: a campaign may be called `[red]shoes`.
        return Console(
            stderr=stderr,
            width=None if sys.stdout.isatty() else 120,
            highlight=False,
            markup=False,
            emoji=False,
        )


def tell(text: object) -> None:
    """Print a message on stderr: everything that a command prints except its result."""
    typer.echo(visible(str(text), lines=True), err=True)


def end_if_broken(reasons: Sequence[str]) -> None:
    """Tell the gates that are broken, and end with exit code 1 if there are some."""
    for reason in reasons:
        tell(f"gate broken: {reason}")
    if reasons:
        raise typer.Exit(1)


def answer(text: str) -> None:
    """Print the one JSON object on stdout. JSON escapes control characters, as in `\\u001b`."""
    typer.echo(text)


def given(**options: Any) -> dict[str, Any]:
    """The options that were given, as keywords of the command's function."""
    return {name: value for name, value in options.items() if value is not None}


def of_scores(
    label: str | None,
    probability: str | None,
    weight: str | None,
    map: list[str] | None,
    *,
    logits: bool,
) -> dict[str, Any]:
    """The columns of a table of scores that were named, as keywords."""
    return given(label=label, probability=probability, weight=weight, map=map or None, logits=logits or None)


def need_one(model: Path | None, scores: Path | None) -> None:
    """Refuse a model beside a table of scores or a calibrator.

    Raises:
        ConfigError: both are given.
    """
    if model is not None and scores is not None:
        raise ConfigError(f"a model and {scores} are both given", hint="Leave one of them out")


def listed(names: str | None) -> tuple[str, ...] | None:
    """The names of an option such as `device,city`; None if it was not given."""
    return None if names is None else tuple(name.strip() for name in names.split(",") if name.strip())


def renamed(command: Callable[Parameters, None], name: str) -> Callable[Parameters, None]:
    """A command under its old name; it warns and gives the new name."""

    @wraps(command)
    def old(*args: Parameters.args, **keywords: Parameters.kwargs) -> None:
        tell(f"warning: this name is old; use `ctrkit {name}`")
        command(*args, **keywords)

    return old


def execute(
    output: Output,
    work: Callable[[OnStep], Result],
    where: str | None = None,
    *,
    tables: Iterable[str | Path | None] = (),
    models: Iterable[str | Path | None] = (),
    config: Path | None = None,
) -> None:
    """Run a command's work and print its result; errors become one clear message and an exit code.

    Args:
        work: takes a progress callback and returns the result.
        where: the last line for people: the paths of the files that the command wrote.
        tables: tables that the work reads. A missing one is reported here, before the libraries are loaded,
            which takes seconds; globs are left to the work.
        models: artifacts that the work reads, checked in the same way.
        config: the config file, checked in the same way; names of shipped configs are left to the work.
    """
    with _errors(output):
        read: dict[FileRole, Iterable[str | Path | None]] = {
            "table": tables,
            "model": models,
            "config": (config,),
        }
        for kind, paths in read.items():
            for path in paths:
                if path is not None and Path(path).suffix and not os.path.exists(path) and not is_glob(path):
                    raise missing(kind, path)
        with _progress(output) as progress:
            result = work(progress)
        if output.json:
            answer(result.to_json())
        if not output.quiet:
            _print(output.console(stderr=output.json), result, where)


def _print(console: Console, result: Result, where: str | None) -> None:
    from rich.table import Table as RichTable

    from ctrkit.reports.cells import text

    report = result.report()
    for table in report.tables:
        drawn = RichTable(title=table.title, title_justify="left", title_style="bold", header_style="dim")
        for index, name in enumerate(table.header):
            drawn.add_column(name, justify="right" if index else "left", overflow="fold")
        for row in table.rows:
            drawn.add_row(*map(text, row))
        console.print(drawn)
    for note in report.notes:
        console.print(note, style="dim")
    if report.answer:
        console.print(report.answer, style="bold")
    if where is not None:
        console.print(visible(where))


@contextmanager
def _progress(output: Output) -> Iterator[OnStep]:
    """A progress bar on stderr; silent with --quiet."""
    if output.quiet:
        yield silent
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=output.console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda done, total, what: bar.update(
            task, completed=done, total=total, description=visible(what)
        )


@contextmanager
def _errors(output: Output) -> Iterator[None]:
    """Exit 2 for wrong input, 1 for a failure at run time, 130 for Ctrl-C; warnings as one line each."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        tell(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        try:
            yield
        except KeyboardInterrupt:
            tell("stopped")
            raise typer.Exit(130) from None
        except BrokenPipeError:  # the reader of the output, such as `head`, has stopped: typer ends quietly
            raise
        except Exception as error:
            if output.debug:
                raise
            text = str(error)
            if not isinstance(error, (InputError, RunError)):
                text = f"{type(error).__name__}: {error} (run again with --debug for the traceback)"
            tell(f"error: {text}")
            if output.json:
                parts = error.parts() if isinstance(error, InputError) else {}
                answer(json_text.dumps({"error": text, **parts}))
            raise typer.Exit(2 if isinstance(error, InputError) else 1) from None
