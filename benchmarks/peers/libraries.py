"""The libraries of the comparison, ctrkit first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from peers.tables import MODELS, Library


@dataclass(frozen=True)
class Known:
    """Where a library's adapter is, and which of the five models the library has."""

    module: str
    package: str
    adapter: str
    models: tuple[str, ...] = MODELS


LIBRARIES = {
    "ctrkit": Known("peers.ours", "ctrkit", "Ctrkit"),
    "FuxiCTR": Known("peers.fuxictr", "fuxictr", "FuxiCTR"),
    "DeepCTR-Torch": Known("peers.deepctr_torch", "deepctr_torch", "DeepCTRTorch"),
    "torch-rechub": Known(
        "peers.torch_rechub", "torch_rechub", "TorchRechub", ("deepfm", "dcnv2", "autoint", "din")
    ),
}


def installed() -> list[str]:
    """Those that are."""
    return [name for name, library in LIBRARIES.items() if find_spec(library.package) is not None]


def load(name: str) -> Callable[..., Library]:
    """A library's adapter; importing it imports the library."""
    adapter: Callable[..., Library] = getattr(import_module(LIBRARIES[name].module), LIBRARIES[name].adapter)
    return adapter
