"""`ctrkit plan-budget`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


def plan_budget(
    budget: Annotated[float, typer.Option(help="Budget of one day, in the unit of the prices or curves.")],
    curves: Annotated[
        Path | None, typer.Option(help="Table of response curves: campaign, hour, spend, value.")
    ] = None,
    auctions: Annotated[
        list[str] | None,
        typer.Option(help="Auction log or glob of logs; repeatable (default: the sample log)."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Artifact that scores the ads (default: the log's pctr, else model.pt)."),
    ] = None,
    campaign: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The log's column that names the campaign.")
    ] = None,
    time_zone: Annotated[
        str | None,
        typer.Option(
            metavar="ZONE",
            help="Time zone of the hours, such as Europe/Berlin (default: the log's, else UTC).",
        ),
    ] = None,
    minimum: Annotated[
        list[str] | None,
        typer.Option(metavar="CAMPAIGN=AMOUNT", help="Smallest spend of a campaign; repeatable."),
    ] = None,
    maximum: Annotated[
        list[str] | None,
        typer.Option(metavar="CAMPAIGN=AMOUNT", help="Largest spend of a campaign; repeatable."),
    ] = None,
    minimum_share: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CAMPAIGN=SHARE", help="Smallest share of a campaign in the total spend; repeatable."
        ),
    ] = None,
    hour_maximum: Annotated[float | None, typer.Option(help="Largest spend of each hour.")] = None,
    evenness: Annotated[
        float | None,
        typer.Option(help="The spend of each hour stays within (1 ± this) times the mean spend of an hour."),
    ] = None,
    ramp: Annotated[
        float | None,
        typer.Option(
            help="Largest change of spend from hour to hour, in multiples of the mean spend of an hour."
        ),
    ] = None,
    map: common.ColumnMap = None,
    out: common.RunFolder = Path("runs/plan-budget"),
    config: common.ConfigFile = None,
    overrides: common.Overrides = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Divide a budget over campaigns and hours by their response curves, under limits."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        settings = common.given(
            map=map,
            campaign=campaign,
            time_zone=time_zone,
            minimum=_amounts("minimum", minimum),
            maximum=_amounts("maximum", maximum),
            minimum_share=_amounts("minimum-share", minimum_share),
            hour_maximum=hour_maximum,
            evenness=evenness,
            ramp=ramp,
        )
        return ctrkit.plan_budget(
            budget,
            curves=curves,
            auctions=auctions or None,
            model=model,
            config=config,
            overrides=overrides or (),
            out=out,
            on_step=progress,
            **settings,
        )

    common.execute(
        common.Output(json, quiet, debug),
        work,
        where=f"plan: {out / 'plan.csv'}",
        tables=(curves, *(auctions or ())),
        models=(model,),
        config=config,
    )


def _amounts(option: str, given: list[str] | None) -> dict[str, float] | None:
    """`NAME=AMOUNT` texts as a mapping; None where none was given."""
    from ctrkit.errors import ConfigError

    amounts: dict[str, float] = {}
    for text in given or ():
        name, _, amount = text.rpartition("=")
        try:
            amounts[name] = float(amount)
        except ValueError:
            name = ""
        if not name:
            raise ConfigError(
                f"--{option} {text}: not of the form CAMPAIGN=AMOUNT",
                hint=f"Write for example --{option} shoes=100",
            )
    return amounts or None
