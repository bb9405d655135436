"""How groups of commands read a command line, and report errors in it."""

from __future__ import annotations

import json
from typing import Any

from typer.core import TyperGroup

from ctrkit.cli import common

_JSON = "ctrkit.json"


class Commands(TyperGroup):
    """All commands. With `--json`, an error in the command line is one JSON object too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_JSON] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            # Errors in the command line have this method, both typer's and click's.
            told = getattr(error, "format_message", None)
            if told is not None and ctx.meta[_JSON]:
                common.answer(json.dumps({"error": told()}))
            raise


class LogsOrCommand(TyperGroup):
    """A command that takes logs and has subcommands: a word that is not a subcommand names a log."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] in self.commands:
            return super().parse_args(ctx, args)
        flags = [one for one in self.get_params(ctx) if getattr(one, "is_flag", False)]
        alone = {name for one in flags for name in (*one.opts, *one.secondary_opts)}
        named: list[str] = []
        rest = iter(args)
        for text in rest:
            if not text.startswith("-"):
                named += ["--logs", text]
            elif text in alone or "=" in text:
                named.append(text)
            else:
                named += [text, *[value for value in [next(rest, None)] if value is not None]]
        return super().parse_args(ctx, named)
