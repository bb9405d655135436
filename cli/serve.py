"""`ctrkit serve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


def serve(
    model: Annotated[
        str, typer.Argument(help="Folder of `ctrkit export`, a registry, or an artifact.")
    ] = str(common.MODEL),
    host: Annotated[str | None, typer.Option(help="Address to listen on (default: 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port (default: 8000); 0 for any free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Number of processes (default: 1).")] = None,
    tokens: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Bearer tokens: NAME:SCOPES:TOKEN lines.")
    ] = None,
    campaigns: Annotated[Path | None, typer.Option(metavar="FILE", help="Campaigns to bid for.")] = None,
    journal: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep decisions and feedback there.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate of TLS.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Key of the certificate.")] = None,
    config: common.ConfigFile = None,
    overrides: common.Overrides = None,
    out: Annotated[Path, typer.Option(help="Folder in which an artifact is exported.")] = Path("runs/serve"),
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Serve a model over HTTP, until Ctrl-C or SIGTERM; the log is one JSON object a line on stderr."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.serve(
            model,
            out=out,
            config=config,
            overrides=overrides or (),
            **common.given(
                host=host,
                port=port,
                workers=workers,
                tokens=tokens,
                campaigns=campaigns,
                journal=journal,
                certificate=certificate,
                key=key,
                log_requests=False if quiet else None,
            ),
        )

    # The log tells what a server does; a bar of progress would run as long as it.
    output = common.Output(json, quiet=True, debug=debug)
    common.execute(output, work, models=() if "://" in model else (model,), config=config)
