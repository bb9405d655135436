"""Packages of the extra `ctrkit[explain]`, imported when they are first needed."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

from ctrkit.errors import ConfigError

EXTRA = "ctrkit[explain]"


def require(module: str, purpose: str) -> Any:
    """A module of the extra.

    Args:
        module: the module's dotted name, for example "captum.attr".
        purpose: what needs the module, as the beginning of a message.

    Raises:
        ConfigError: the package is not installed; the message names the extra.
    """
    package = module.split(".")[0]
    try:
        with warnings.catch_warnings():
            # Other packages' warnings about their own imports do not help the user.
            warnings.simplefilter("ignore")
            return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{purpose} needs the package '{package}', which is not installed",
            hint=f"Run `pip install '{EXTRA}'`",
        ) from error
