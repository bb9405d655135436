"""The server's log: one JSON object a line, without anything of what callers send."""

from __future__ import annotations

import json
import logging
import logging.config
import time
import traceback
from typing import Any

LOGGER = logging.getLogger("ctrkit.serving")


class JsonLines(logging.Formatter):
    """Formats a record as a JSON object; the fields that a record has in `fields` stand in it.

    Of an exception its class and its places in the code are written, and not its message, which may quote
    what a caller sent.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        content: dict[str, Any] = {
            "time": at,
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        content |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[0] is not None:
            kind, _, trace = record.exc_info
            places = [f"{one.filename}:{one.lineno} {one.name}" for one in traceback.extract_tb(trace)]
            content |= {"error": kind.__name__, "places": places}
        return json.dumps(content)


# For `logging.config.dictConfig`: of the server and of uvicorn, which has told of requests by itself.
SETTINGS: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": JsonLines}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "loggers": {
        name: {"handlers": ["stderr"], "level": "INFO", "propagate": False}
        for name in ("ctrkit.serving", "uvicorn", "uvicorn.error")
    },
}
SETTINGS["loggers"]["uvicorn.error"] = {"level": "INFO"}
