"""`ctrkit registry list`: the versions of a registry, and what each of them does."""

from __future__ import annotations

import os

from ctrkit.api.registered import HERE, RegistryResult, opened


def list_versions(registry: str | os.PathLike[str] = HERE) -> RegistryResult:
    """The versions of a registry, in the order in which they were pushed, and what each of them does.

    Args:
        registry: a folder, or an address that fsspec knows, such as `s3://bucket/models`.

    Raises:
        ArtifactError: the registry is damaged.
        ConfigError: there is no such registry.
        RunError: the registry cannot be read.

    Example:
        >>> import ctrkit  # doctest: +SKIP
        >>> ctrkit.list_versions("registry").to_pandas()  # doctest: +SKIP
    """
    home = opened(registry)
    state = home.state(home.newest())
    done = "No version is live." if state.live is None else f"Version {state.live} is live."
    return RegistryResult(home.storage.address, state, done)
