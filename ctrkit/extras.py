"""Packages that only some parts need, imported when these are first used."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

from ctrkit.errors import ConfigError


class MissingPackage(ConfigError):
    """A package of an extra is not installed."""


def require(module: str, purpose: str, extra: str) -> Any:
    """A module of an extra.

    Args:
        module: the module's dotted name, for example "captum.attr".
        purpose: what needs the module, as the beginning of a message.
        extra: name of the extra that installs it, for example "explain".

    Raises:
        MissingPackage: the package is not installed; the message names the extra.
    """
    package = module.split(".")[0]
    try:
        with warnings.catch_warnings():
            # Other packages' warnings about their own imports do not help the user.
            warnings.simplefilter("ignore")
            return import_module(module)
    except ImportError as error:
        raise MissingPackage(
            f"{purpose} needs the package '{package}', which is not installed",
            hint=f"Run `pip install 'ctrkit[{extra}]'`",
        ) from error
