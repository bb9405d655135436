"""What a registry says: its versions, and which of them serve. Changes are functions from state to state."""

from __future__ import annotations

import time
from secrets import token_hex
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from ctrkit.config import Config
from ctrkit.errors import ConfigError, nearest
from ctrkit.experiments.assignment import Assignment, Stretch

VersionId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]
Role = Literal["live", "candidate", "shadow", "interleaved"]


def _salt() -> str:
    return token_hex(8)


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
        salt: what the hash of users is salted with, which assigns them to candidates; each trial has its own.
        stretches: which users each candidate serves, of `ctrkit.experiments.assignment`; all others get the
            live version.
        shadow: the version that scores what another has decided, and whose scores are kept alone.
        interleaved: whether the shadow's ranking is interleaved with that of the version that decides.
    """

    format: Literal[1] = 1
    change: str = ""
    time: float = 0.0
    salt: str = Field(default_factory=_salt)
    versions: dict[VersionId, Version] = Field(default_factory=dict)
    promotions: tuple[Promotion, ...] = ()
    stretches: tuple[Stretch, ...] = ()
    shadow: VersionId | None = None
    interleaved: bool = False

    @property
    def live(self) -> str | None:
        """The version that serves; None before the first promotion."""
        return self.promotions[-1].version if self.promotions else None

    @property
    def assignment(self) -> Assignment:
        """Which version each user has: that of its arm, or the live one."""
        return Assignment(self.salt, self.stretches)

    @property
    def candidates(self) -> dict[str, float]:
        """Version -> the share of users that it serves, of those that serve some."""
        return {arm: self.assignment.share(arm) for arm in dict.fromkeys(one.arm for one in self.stretches)}

    @property
    def roles(self) -> dict[str, Role]:
        """Version -> what it does, of those that do something."""
        found: dict[str, Role] = {} if self.live is None else {self.live: "live"}
        found |= dict.fromkeys(self.candidates, "candidate")
        return found if self.shadow is None else {**found, self.shadow: self._role_of_shadow}

    @property
    def _role_of_shadow(self) -> Role:
        return "interleaved" if self.interleaved else "shadow"

    def pushed(self, version: str, name: str, note: str) -> State:
        """With a version; the same state if it has it."""
        if version in self.versions:
            return self
        versions = {**self.versions, version: Version(name=name, time=time.time(), note=note)}
        return self._changed(f"push {version}", note, versions=versions)

    def promoted(self, version: str, note: str) -> State:
        """With another live version. Promote the live one again, and servers that refused it try again.

        Raises:
            ConfigError: there is no such version.
        """
        self._need(version)
        promotions = self.promotions
        if version != self.live:
            promotions = (*promotions, Promotion(version=version, time=time.time(), note=note))
        return self._changed(f"promote {version}", note, promotions=promotions)._without(version)

    def shared(self, version: str, share: float, note: str) -> State:
        """With a candidate that serves a share of the users; 0 for none any more.

        Raises:
            ConfigError: there is no such version, it is live, or the share is not to be had.
        """
        self._need_other(version)
        before = self.assignment if self.stretches else Assignment(_salt())
        after = before.with_share(version, share)
        shadow = None if self.shadow == version else self.shadow
        change = f"promote {version} --share {share:g}"
        return self._changed(change, note, salt=after.salt, stretches=after.stretches, shadow=shadow)

    def shadowed(self, version: str, note: str, *, interleaved: bool = False) -> State:
        """With a version in the shadow, or one whose ranking is interleaved.

        Raises:
            ConfigError: there is no such version, or it is live.
        """
        self._need_other(version)
        change = f"promote {version} --{'interleave' if interleaved else 'shadow'}"
        return self._without(version)._changed(change, note, shadow=version, interleaved=interleaved)

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
                return self._without(version)._changed(f"rollback {version}", note)
        if len(self.promotions) < 2:
            raise ConfigError(
                "there is no version to roll back to",
                hint="Promote one with `ctrkit registry promote VERSION`",
            )
        *before, last = self.promotions
        after = self._changed(f"rollback {last.version}", note, promotions=tuple(before))
        return after._without(before[-1].version)

    def _changed(self, change: str, note: str, **content: object) -> State:
        said = f"{change}: {note}" if note else change
        return self.model_copy(update={**content, "change": said, "time": time.time()})

    def _without(self, version: str) -> State:
        """The same, where a version is neither candidate nor shadow."""
        left = self.assignment.with_share(version, 0)
        shadow = None if self.shadow == version else self.shadow
        return self.model_copy(update={"stretches": left.stretches, "shadow": shadow})

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
