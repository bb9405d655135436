"""`ctrkit registry rollback`: the version before serves again, or a trial ends."""

from __future__ import annotations

import os

from ctrkit.api.registered import HERE, RegistryResult, opened


def rollback_model(
    version: str | None = None, *, registry: str | os.PathLike[str] = HERE, note: str = ""
) -> RegistryResult:
    """Take back the newest promotion for all users, so that the version before it is live again.

    Args:
        version: a version whose part ends: that of a candidate, of the shadow, or of the live version. By
            default the live one.
        registry: a folder, or an address that fsspec knows, such as `s3://bucket/models`.
        note: why.

    Raises:
        ArtifactError: the registry is damaged.
        ConfigError: there is no such version or registry, the version does nothing, or none was live before.
        RunError: the registry cannot be read or written.

    Example:
        >>> import ctrkit  # doctest: +SKIP
        >>> ctrkit.rollback_model().live  # doctest: +SKIP
    """
    home = opened(registry)
    state = home.change(lambda state: state.rolled_back(version, note))
    return RegistryResult(home.storage.address, state, f"Version {state.live} is live.", state.live)
