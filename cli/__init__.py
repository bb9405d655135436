"""The `ctrkit` command: one file a command, each thin: parse, call, print.

Commands import what they need inside, so that `ctrkit --help` answers at once.
"""

from __future__ import annotations

import typer

from ctrkit.cli import (
    calibrate,
    check_log,
    common,
    evaluate,
    explain,
    export_model,
    features,
    import_model,
    inspect,
    interleave,
    join_feedback,
    learn_policy,
    models,
    monitor,
    ope,
    plan_budget,
    predict,
    prepare,
    recalibrate,
    registry,
    sample_logs,
    serve,
    simulate_bidding,
    sources,
    summary,
    train,
)
from ctrkit.cli.groups import Commands, LogsOrCommand

app = typer.Typer(
    name="ctrkit",
    cls=Commands,
    help="From ad logs to ad decisions: train, calibrate, evaluate policies offline, bid.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("inspect")(inspect.inspect)
app.command("prepare")(prepare.prepare)
app.command("train")(train.train)
app.command("calibrate")(calibrate.calibrate)
app.command("recalibrate")(recalibrate.recalibrate)
app.command("import")(import_model.import_model)
app.command("export")(export_model.export_model)
app.command("serve")(serve.serve)
app.command("join-feedback")(join_feedback.join_feedback)
app.command("predict")(predict.predict)
app.command("evaluate")(evaluate.evaluate)
app.command("monitor")(monitor.monitor)
app.command("explain")(explain.explain)
app.command("interleave")(interleave.interleave)
app.command("check-log")(check_log.check_log)
_ope = typer.Typer(cls=LogsOrCommand, invoke_without_command=True, subcommand_metavar="[LOG]...")
_ope.callback()(ope.ope)
_ope.command("check", hidden=True)(common.renamed(check_log.check_log, "check-log"))
app.add_typer(_ope, name="ope")
app.command("learn-policy")(learn_policy.learn_policy)
app.command("plan-budget")(plan_budget.plan_budget)
app.command("simulate-bidding")(simulate_bidding.simulate_bidding)
app.command("sample-logs")(sample_logs.sample_logs)
app.command("models")(models.models)
app.command("sources")(sources.sources)
app.command("summary")(summary.summary)
_features = typer.Typer(help="Fill and read an online store of features.", no_args_is_help=True)
_features.command("push")(features.push)
_features.command("get")(features.get)
app.add_typer(_features, name="features")
_registry = typer.Typer(help="Versions of exported models: which one serves.", no_args_is_help=True)
_registry.command("push")(registry.push)
_registry.command("promote")(registry.promote)
_registry.command("rollback")(registry.rollback)
_registry.command("list")(registry.versions)
app.add_typer(_registry, name="registry")
# Each command has the name of its Python function; some have a shorter name as well.
app.add_typer(_ope, name="evaluate-policy", hidden=True)
app.command("list-models", hidden=True)(models.models)
app.command("push-features", hidden=True)(features.push)
app.command("get-features", hidden=True)(features.get)
app.command("push-model", hidden=True)(registry.push)
app.command("promote-model", hidden=True)(registry.promote)
app.command("rollback-model", hidden=True)(registry.rollback)
app.command("list-versions", hidden=True)(registry.versions)
app.command("list-sources", hidden=True)(sources.sources)
app.command("import-model", hidden=True)(import_model.import_model)
app.command("export-model", hidden=True)(export_model.export_model)


def main() -> None:
    """Entry point of the console script."""
    app()
