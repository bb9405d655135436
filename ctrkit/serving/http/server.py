"""Runs the application: in this process, or in several that are replaced when they die."""

from __future__ import annotations

import math
import os
import signal
import socket
import ssl
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from ctrkit.errors import ConfigError, RunError, reason
from ctrkit.serving.http.app import opened_app
from ctrkit.serving.http.config import ServeConfig
from ctrkit.serving.http.logs import LOGGER, SETTINGS
from ctrkit.serving.http.metrics import SHARED
from ctrkit.serving.http.service import open_service


def run(config: ServeConfig, model: str) -> str:
    """Serve a model, or the models of a registry, until the process is told to stop, by Ctrl-C or SIGTERM.

    Args:
        config: the settings.
        model: folder of an exported model, or address of a registry.

    Returns:
        The address that it was served at.

    Raises:
        ArtifactError: the folder is not complete, damaged, or of a newer format.
        ConfigError: a setting, a file of tokens or a certificate is wrong.
        RunError: the address is in use.
    """
    _check_certificate(config)
    with _listening(config) as listening, _numbers_shared(config.workers), _told_to_stop():
        scheme = "http" if config.certificate is None else "https"
        address = f"{scheme}://{config.host}:{listening.getsockname()[1]}"
        if config.workers == 1:
            server = uvicorn.Server(_settings(config, opened_app(config, model)))
            start: Callable[[], None] = partial(server.run, [listening])
        else:
            # What is wrong with the model is told here: workers that cannot start would be replaced for ever.
            open_service(config, model).close()
            start = Multiprocess(_settings(config, partial(opened_app, config, model)), [listening]).run
        LOGGER.info("serving", extra={"fields": {"address": address, "workers": config.workers}})
        start()
    return address


def _settings(config: ServeConfig, app: FastAPI | Callable[[], FastAPI]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=not isinstance(app, FastAPI),
        workers=config.workers,
        lifespan="on",
        log_config=SETTINGS,
        access_log=False,
        server_header=False,
        timeout_keep_alive=config.keep_alive,
        timeout_graceful_shutdown=math.ceil(config.drain),
        ssl_certfile=config.certificate,
        ssl_keyfile=config.key,
    )


def _check_certificate(config: ServeConfig) -> None:
    if config.certificate is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                config.certificate, config.key
            )
        except OSError as error:
            raise ConfigError(
                f"the certificate or its key cannot be used ({reason(error)})", file=config.certificate
            ) from error


class Port(socket.socket):
    """A place on a port, of which each process makes one of its own when it is handed over.

    The system then deals connections out among the processes. Of one socket for all, the process that wakes
    first takes all that are waiting, and the others stay idle.
    """

    def __reduce__(self) -> tuple[Callable[[int, Any], Port], tuple[int, Any]]:
        return Port.at, (self.family, self.getsockname())

    @classmethod
    def at(cls, family: int, address: Any) -> Port:
        """A place at an address, which others may have places at too."""
        made = cls(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(address)
        return made


@contextmanager
def _listening(config: ServeConfig) -> Iterator[socket.socket]:
    """The socket of the server, or one that each worker makes again for itself."""
    try:
        family = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][0]
        # This fails where another program has the port, also one that would share it.
        made = socket.create_server((config.host, config.port), family=family, backlog=2048)
    except socket.gaierror as error:
        raise ConfigError(f"there is no host '{config.host}'", hint="Give another --host") from error
    except OSError as error:
        raise RunError(f"{config.host}:{config.port} cannot be listened on ({error.strerror}).") from error
    # Linux alone deals connections out.
    if config.workers > 1 and sys.platform == "linux":
        address = made.getsockname()
        made.close()
        made = Port.at(family, address)  # it keeps the port, and does not listen
    with made:
        made.set_inheritable(True)
        yield made


@contextmanager
def _numbers_shared(workers: int) -> Iterator[None]:
    """A folder in which workers share their numbers; a single one needs none."""
    if workers == 1:
        yield
        return
    before = os.environ.get(SHARED)
    with tempfile.TemporaryDirectory(prefix="ctrkit-metrics-") as folder:
        os.environ[SHARED] = folder
        try:
            yield
        finally:
            os.environ.pop(SHARED)
            if before is not None:
                os.environ[SHARED] = before


@contextmanager
def _told_to_stop() -> Iterator[None]:
    """Signals end the server, and not the program: uvicorn raises them again when it has ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda *_: None) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
