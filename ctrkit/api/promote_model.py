"""`ctrkit registry promote`: a version of a registry serves, for all users, for some, or in the shadow."""

from __future__ import annotations

import os

from ctrkit.api.registered import HERE, RegistryResult, opened
from ctrkit.errors import ConfigError
from ctrkit.serving.registry.state import State


def promote_model(
    version: str,
    *,
    registry: str | os.PathLike[str] = HERE,
    share: float | None = None,
    shadow: bool = False,
    interleave: bool = False,
    note: str = "",
) -> RegistryResult:
    """Let a version of a registry serve. Servers of the registry load it within seconds.

    Args:
        version: the version.
        registry: a folder, or an address that fsspec knows, such as `s3://bucket/models`.
        share: the share of users that it serves, as a candidate beside the live version; by default all.
        shadow: whether it scores each request after the version that decides, for comparison alone.
        interleave: whether its ranking is interleaved with that of the version that decides, in each list.
        note: why.

    Raises:
        ArtifactError: the registry is damaged.
        ConfigError: there is no such version or registry, or the share is none.
        RunError: the registry cannot be read or written.

    Example:
        >>> import ctrkit  # doctest: +SKIP
        >>> ctrkit.promote_model("4f2cfad1e886", share=0.1).live  # doctest: +SKIP
    """
    if shadow + interleave + (share is not None) > 1:
        raise ConfigError("a version has one role", hint="Give one of --share, --shadow and --interleave")

    def work(state: State) -> State:
        if shadow or interleave:
            return state.shadowed(version, note, interleaved=interleave)
        return state.promoted(version, note) if share is None else state.shared(version, share, note)

    home = opened(registry)
    state = home.change(work)
    does = "is live" if share is None else f"serves {share:.3g} of users"
    does = "is in the shadow" if shadow else "is interleaved with the live one" if interleave else does
    done = f"Version {version} {does}."
    return RegistryResult(home.storage.address, state, done, version)
