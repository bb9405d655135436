"""`ctrkit registry push`: an exported model becomes a version of a registry."""

from __future__ import annotations

import os
from pathlib import Path

from ctrkit.api.registered import HERE, RegistryResult
from ctrkit.errors import ArtifactError, missing
from ctrkit.serving.registry.registry import Registry


def push_model(
    export: str | os.PathLike[str] = "export",
    *,
    registry: str | os.PathLike[str] = HERE,
    note: str = "",
) -> RegistryResult:
    """Add an exported model to a registry, which is made if it is not there. It serves nobody yet.

    A model that is pushed again is the same version: its files are written again, and nothing else changes.

    Args:
        export: folder of an exported model (see `ctrkit.export_model`).
        registry: a folder, or an address that fsspec knows, such as `s3://bucket/models`.
        note: what to remember of the version.

    Raises:
        ArtifactError: the folder is no exported model, is not complete, or is damaged.
        ConfigError: the address is wrong, or a package for it is not installed.
        RunError: the registry cannot be written.

    Example:
        >>> import ctrkit  # doctest: +SKIP
        >>> ctrkit.push_model("export", registry="registry").version  # doctest: +SKIP
    """
    folder = Path(export)
    if not folder.exists():
        raise missing("model", folder)
    if folder.is_file():
        raise ArtifactError(
            "a registry takes the folder of an exported model, and this is a file",
            file=folder,
            hint=f"Export it first: `ctrkit export {folder}`, then push the folder",
        )
    home = Registry.at(registry)
    version, state = home.push(folder, note)
    done = f"Version {version} is in {home.storage.address}."
    return RegistryResult(home.storage.address, state, done, version)
