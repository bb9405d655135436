"""`ctrkit serve`: an exported model behind HTTP."""

from __future__ import annotations

import logging.config
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctrkit.api.keywords import takes_settings
from ctrkit.api.results import Result
from ctrkit.config import ConfigLike, settings_of
from ctrkit.errors import missing
from ctrkit.extras import require
from ctrkit.reports import Report, Table
from ctrkit.serving.http.config import ServeConfig
from ctrkit.serving.http.logs import LOGGER, SETTINGS
from ctrkit.serving.registry.registry import is_registry


@dataclass(frozen=True, repr=False)
class ServeResult(Result):
    """A server that has ended.

    Attributes:
        model: path of the model.
        address: where it was served.
        seconds: for how long.
    """

    model: str
    address: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return {"model": self.model, "address": self.address, "seconds": self.seconds}

    def report(self) -> Report:
        served = Table("Served", ("model", "address", "seconds"), ((self.model, self.address, self.seconds),))
        return Report("Serve", f"{self.model} was served at {self.address}.", (served,))


@takes_settings(ServeConfig)
def serve(
    model: str | os.PathLike[str] = "model.pt",
    *,
    out: str | os.PathLike[str] = "runs/serve",
    config: ConfigLike = None,
    overrides: Sequence[str] = (),
    **keywords: Any,
) -> ServeResult:
    """Serve a model or a registry over HTTP until the process is told to stop, by Ctrl-C or SIGTERM.

    Args:
        model: folder of an exported model (`ctrkit.export_model`), a registry (`ctrkit.push_model`), or
            an artifact, which is exported first, in a process of its own: the server needs no PyTorch.
        out: folder in which an artifact is exported.
        config: a config file, or settings as a mapping.
        overrides: settings as `key=value`, which replace those of the config.

    Raises:
        ArtifactError: the model is missing or damaged, or cannot be exported.
        ConfigError: a setting is wrong, or a package is not installed.
        RunError: the address is in use.

    Example:
        >>> import ctrkit  # doctest: +SKIP
        >>> ctrkit.serve("export", port=8000, workers=2)  # doctest: +SKIP
    """
    for package in ("fastapi", "msgspec", "prometheus_client", "uvicorn"):
        require(package, "A server", "serve")
    from ctrkit.serving.http.server import run

    settings = settings_of(ServeConfig, config, overrides, keywords)
    served = os.fspath(model)
    if not is_registry(served):
        path = Path(served)
        if not path.exists():
            raise missing("model", path)
        if path.is_file():
            folder = Path(out) / "export"
            logging.config.dictConfig(SETTINGS)
            LOGGER.info("exporting", extra={"fields": {"into": os.fspath(folder)}})
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
                apart.submit(_export, path, folder).result()
            served = os.fspath(folder)
    started = time.monotonic()
    address = run(settings, served)
    return ServeResult(os.fspath(model), address, time.monotonic() - started)


def _export(model: Path, folder: Path) -> None:
    from ctrkit.api.export_model import export_model

    export_model(model, out=folder)
