"""What a registry says: its versions, and which of them serve. Changes are functions from state to state."""

from __future__ import annotations

import math
import time
from secrets import token_hex
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from ctrkit.config import Config
from ctrkit.errors import ConfigError, nearest

VersionId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]
Share = Annotated[float, Field(gt=0, le=1)]
Role = Literal["live", "candidate", "shadow"]


class Version(Config):
    """A version of a model.

    Attributes:
        name: name of the model.
        time: when it was pushed, in unix seconds.
        note: what a person said of it.
    """

    name: str
    time: float
    note: str = ""


class Promotion(Config):
    """A time from which a version was live.

    Attributes:
        version: the version.
        time: unix seconds.
        note: why.
    """

    version: VersionId
    time: float
    note: str = ""


class State(Config):
    """A registry at a time.

    Attributes:
        format: of this file.
        change: what made this state of the one before, for people.
        time: when, in unix seconds.
        salt: what the hash of users is salted with, which assigns them to candidates.
        versions: all that were pushed, in that order.
        promotions: which versions were live, the last one is; a rollback takes it away.
        candidates: version -> the share of users that it serves; all others get the live one.
        shadow: the version that scores what another has decided, and whose scores are kept alone.
    """

    format: Literal[1] = 1
    change: str = ""
    time: float = 0.0
    salt: str = Field(default_factory=lambda: token_hex(8))
    versions: dict[VersionId, Version] = Field(default_factory=dict)
    promotions: tuple[Promotion, ...] = ()
    candidates: dict[VersionId, Share] = Field(default_factory=dict)
    shadow: VersionId | None = None

    @property
    def live(self) -> str | None:
        """The version that serves; None before the first promotion."""
        return self.promotions[-1].version if self.promotions else None

    @property
    def roles(self) -> dict[str, Role]:
        """Version -> what it does, of those that do something."""
        found: dict[str, Role] = {} if self.live is None else {self.live: "live"}
        found |= dict.fromkeys(self.candidates, "candidate")
        return found if self.shadow is None else {**found, self.shadow: "shadow"}

    def pushed(self, version: str, name: str, note: str) -> State:
        """With a version; the same state if it has it."""
        if version in self.versions:
            return self
        versions = {**self.versions, version: Version(name=name, time=time.time(), note=note)}
        return self._changed(f"push {version}", versions=versions)

    def promoted(self, version: str, note: str) -> State:
        """With another live version. Promote the live one again, and servers that refused it try again.

        Raises:
            ConfigError: there is no such version.
        """
        self._need(version)
        promotions = self.promotions
        if version != self.live:
            promotions = (*promotions, Promotion(version=version, time=time.time(), note=note))
        return self._changed(f"promote {version}", promotions=promotions)._without(version)

    def shared(self, version: str, share: float) -> State:
        """With a candidate that serves a share of the users.

        Raises:
            ConfigError: there is no such version, it is live, or the shares are none.
        """
        self._need_other(version)
        if not 0 < share <= 1:
            raise ConfigError(
                f"a share of {share:g} is none", hint="Give one above 0, and at most 1", argument="share"
            )
        others = {one: of for one, of in self.candidates.items() if one != version}
        if math.fsum((share, *others.values())) > 1 + 1e-9:
            told = ", ".join(f"{one} has {of:g}" for one, of in others.items())
            hint = "Give a smaller one, or end another with `ctrkit registry rollback VERSION`"
            raise ConfigError(f"the shares sum to more than 1: {told}", hint=hint, argument="share")
        # A candidate keeps its place, so that a share that grows takes users from the live version alone.
        changed = {**self.candidates, version: share}
        shadow = None if self.shadow == version else self.shadow
        return self._changed(f"promote {version} --share {share:g}", candidates=changed, shadow=shadow)

    def shadowed(self, version: str) -> State:
        """With a version in the shadow.

        Raises:
            ConfigError: there is no such version, or it is live.
        """
        self._need_other(version)
        return self._without(version)._changed(f"promote {version} --shadow", shadow=version)

    def rolled_back(self, version: str | None, note: str) -> State:
        """Without the newest promotion; or, of a version that is a candidate or in the shadow, without that.

        Raises:
            ConfigError: there is no such version, it does nothing, or there is nothing to roll back to.
        """
        if version is not None:
            self._need(version)
            if version not in self.roles:
                raise ConfigError(f"version {version} serves nobody", hint="See `ctrkit registry list`")
            if version != self.live:
                return self._without(version)._changed(f"rollback {version}")
        if len(self.promotions) < 2:
            raise ConfigError(
                "there is no version to roll back to",
                hint="Promote one with `ctrkit registry promote VERSION`",
            )
        *before, last = self.promotions
        said = f"rollback {last.version}" + (f": {note}" if note else "")
        return self._changed(said, promotions=tuple(before))._without(before[-1].version)

    def _changed(self, change: str, **content: object) -> State:
        return self.model_copy(update={**content, "change": change, "time": time.time()})

    def _without(self, version: str) -> State:
        """The same, where a version is neither candidate nor shadow."""
        candidates = {one: share for one, share in self.candidates.items() if one != version}
        shadow = None if self.shadow == version else self.shadow
        return self.model_copy(update={"candidates": candidates, "shadow": shadow})

    def _need(self, version: str) -> None:
        if version not in self.versions:
            hint = (
                nearest(version, self.versions) if self.versions else "Push one with `ctrkit registry push`"
            )
            raise ConfigError(f"the registry has no version '{version}'", hint=hint)

    def _need_other(self, version: str) -> None:
        self._need(version)
        if self.live is None:
            raise ConfigError("no version is live", hint="Promote one for all users first")
        if version == self.live:
            raise ConfigError(f"version {version} is live already", hint="Name another version")
