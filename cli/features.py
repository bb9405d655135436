"""`ctrkit features push` and `ctrkit features get`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result

Store: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS",
        help="Online store: sqlite:PATH, redis://HOST:PORT/DB, dynamodb:TABLE?region=R, or, to read, "
        "feast+http://HOST:PORT/VIEW?features=A,B, tecton+https://HOST/WORKSPACE/SERVICE.",
    ),
]
Key: TypeAlias = Annotated[str, typer.Option(metavar="COLUMN", help="Column of the keys, such as user_id.")]
Name: TypeAlias = Annotated[
    str | None, typer.Option(help="Name of the feature set (default: that of the spec, or features).")
]


def push(
    data: Annotated[
        Path, typer.Argument(help="Table with the keys and their features, or folder of `ctrkit prepare`.")
    ],
    store: Store,
    key: Key,
    model: Annotated[Path | None, typer.Option(help="Artifact whose features are written.")] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Columns to write (default: all).")
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column of times (default: the spec's, or timestamp)."),
    ] = None,
    name: Name = None,
    ttl: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Life of the rows (default: for ever).")
    ] = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Write the newest row of every key into an online store."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.push_features(
            data,
            store=store,
            key=key,
            model=model,
            columns=common.listed(columns),
            time=time,
            name=name,
            ttl=ttl,
            on_step=progress,
        )

    common.execute(common.Output(json, quiet, debug), work, tables=(data,), models=(model,))


def get(
    values: Annotated[list[str], typer.Argument(metavar="VALUE...", help="The keys.")],
    store: Store,
    key: Key,
    model: Annotated[
        Path | None, typer.Option(help="Artifact whose version of the features is read.")
    ] = None,
    name: Name = None,
    version: Annotated[
        str | None, typer.Option(help="Version of the features (default: the newest).")
    ] = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Show the newest values of some keys from an online store."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.get_features(values, store=store, key=key, model=model, name=name, version=version)

    common.execute(common.Output(json, quiet, debug), work, models=(model,))
