"""`ctrkit registry push`, `promote`, `rollback` and `list`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result

Address: TypeAlias = Annotated[
    str,
    typer.Option("--registry", metavar="ADDRESS", help="Folder, or address such as s3://BUCKET/PATH."),
]
Version: TypeAlias = Annotated[str, typer.Argument(help="A version of `ctrkit registry list`.")]
Note: TypeAlias = Annotated[str, typer.Option(help="What to remember of it.")]
_HERE = "registry"


def push(
    export: Annotated[Path, typer.Argument(help="Folder of `ctrkit export`.")] = Path("export"),
    registry: Address = _HERE,
    note: Note = "",
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Add an exported model to a registry, as a version that serves nobody yet."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.push_model(export, registry=registry, note=note)

    common.execute(common.Output(json, quiet, debug), work)


def promote(
    version: Version,
    registry: Address = _HERE,
    share: Annotated[
        float | None, typer.Option(help="Serve this share of users alone, such as 0.1 (default: all).")
    ] = None,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Score every request after the live version, to compare.")
    ] = False,
    interleave: Annotated[
        bool,
        typer.Option(
            "--interleave", help="Fill each list together with the live version, to compare clicks."
        ),
    ] = False,
    note: Note = "",
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Let a version serve: all users, a share of them, or none, in the shadow."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.promote_model(
            version, registry=registry, share=share, shadow=shadow, interleave=interleave, note=note
        )

    common.execute(common.Output(json, quiet, debug), work)


def rollback(
    version: Annotated[
        str | None, typer.Argument(help="A candidate or shadow to end (default: the live version).")
    ] = None,
    registry: Address = _HERE,
    note: Note = "",
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Let the version before serve again; or end the trial of a version."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.rollback_model(version, registry=registry, note=note)

    common.execute(common.Output(json, quiet, debug), work)


def versions(
    registry: Address = _HERE,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Show the versions of a registry, and what each of them does."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.list_versions(registry)

    common.execute(common.Output(json, quiet, debug), work)
