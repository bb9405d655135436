"""The models of a registry: a thread beside the requests loads, checks and swaps what becomes live."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal

from ctrkit.errors import ArtifactError, CtrkitError
from ctrkit.experiments.assignment import Assignment
from ctrkit.serving.http.errors import NotReady
from ctrkit.serving.http.logs import LOGGER
from ctrkit.serving.http.metrics import SHARED
from ctrkit.serving.http.models import Served, summary_of
from ctrkit.serving.registry.registry import Registry
from ctrkit.serving.registry.state import State
from ctrkit.serving.registry.storage import StorageError
from ctrkit.serving.scoring import RequestScorer

Loading = Literal["loaded", "refused", "unreadable"]


# Seconds after which a thread that computes in Python lets another one do so: by default 0.005.
_SWITCH = 0.0005


@contextmanager
def _gently() -> Iterator[None]:
    """Load so that requests notice little: one worker at a time, and in short turns."""
    before = sys.getswitchinterval()
    with _turn():
        sys.setswitchinterval(_SWITCH)
        try:
            yield
        finally:
            sys.setswitchinterval(before)


@contextmanager
def _turn() -> Iterator[None]:
    """The turn of one worker, which ends with it, however it ends; a single one needs none."""
    folder = os.environ.get(SHARED)
    if folder is None:
        yield
        return
    with open(os.path.join(folder, "loading.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class _Serving:
    """What serves now. It is never changed, only replaced as a whole, so that a request sees one state.

    Attributes:
        live: the model of all users; None before the first one.
        assignment: the users of the candidates.
        candidates: version -> model, of those that are loaded.
        shadow: the model that scores what another has decided.
        interleaved: whether the shadow's ranking is interleaved.
    """

    live: RequestScorer | None
    assignment: Assignment
    candidates: Mapping[str, RequestScorer]
    shadow: RequestScorer | None
    interleaved: bool = False


class RegistryModels:
    """The models of a registry, as its newest state tells.

    A version that cannot be loaded, or whose stored batch gives something else here, is refused until the
    state changes; the newest promotion that can be loaded serves. While the registry cannot be read, what is
    loaded goes on.

    Args:
        registry: the registry.
        load: opens the folder of an exported model, and checks that it can serve here.
        cache: where copies of remote versions are kept; None for the user's cache.
        seconds: time between two looks at the registry.
        counted: called with what became of a load.
    """

    def __init__(
        self,
        registry: Registry,
        load: Callable[[Path], RequestScorer],
        cache: Path | None,
        seconds: float,
        counted: Callable[[Loading], None],
    ) -> None:
        self._registry, self._load, self._cache, self._counted = registry, load, cache, counted
        self._serving = _Serving(None, Assignment(""), {}, None)
        self._number, self._refused = 0, dict[str, str]()
        self._complete, self._readable = True, True
        self._stop, self._seconds = Event(), seconds
        self.look()
        self._thread = Thread(target=self._watch, name="registry", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether a model is loaded."""
        return self._serving.live is not None

    def served(self, user: str | None) -> Served:
        """The model of the user's arm; without a user, the live one.

        Raises:
            NotReady: none is loaded.
        """
        now = self._serving
        if now.live is None:
            raise NotReady
        candidate = now.candidates.get(now.assignment.arm(user) or "") if now.candidates else None
        return Served(now.live) if candidate is None else Served(candidate, "candidate")

    def shadow(self) -> RequestScorer | None:
        """The model in the shadow, if it is loaded."""
        now = self._serving
        return None if now.interleaved else now.shadow

    def rival(self) -> RequestScorer | None:
        """The model whose ranking is interleaved, if it is loaded."""
        now = self._serving
        return now.shadow if now.interleaved else None

    def known(self) -> list[dict[str, Any]]:
        """The loaded models."""
        now = self._serving
        found = [] if now.live is None else [summary_of(now.live, "live")]
        for version, scorer in now.candidates.items():
            found.append({**summary_of(scorer, "candidate"), "share": now.assignment.share(version)})
        role = "interleaved" if now.interleaved else "shadow"
        return found if now.shadow is None else [*found, summary_of(now.shadow, role)]

    def refused(self) -> dict[str, str]:
        """Version -> why it was not loaded."""
        return dict(self._refused)

    def close(self) -> None:
        """Stop looking; what is being loaded is given up with the process."""
        self._stop.set()
        self._thread.join(1.0)

    def look(self) -> None:
        """Load what the newest state tells, if it is another."""
        try:
            number = self._registry.newest()
            if number < self._number:
                raise StorageError(f"The states of the registry {self._registry.storage.address} are gone.")
            if number > self._number or not self._complete:
                state = self._registry.state(number)
                if number > self._number:
                    self._refused = {}
                self._number, self._complete = number, True
                self._take(state)
        except (StorageError, ArtifactError) as error:
            self._complete = False
            self._unreadable(error)
        else:
            if not self._readable and self._complete:
                LOGGER.info("the registry is readable again")
            self._readable = self._complete

    def _take(self, state: State) -> None:
        """Load what a state names, and swap it in. The live version does not wait for the others."""
        before = self._serving
        ours = (before.live, *before.candidates.values(), before.shadow)
        loaded = {one.version: one for one in ours if one is not None}
        newest_first = (one.version for one in reversed(state.promotions))
        live = next((one for version in newest_first if (one := self._scorer(version, loaded))), before.live)
        if live is not None:
            loaded[live.version] = live
        others = {version: loaded[version] for version in state.candidates if version in loaded}
        shadow = None if state.shadow is None else loaded.get(state.shadow)
        self._serving = _Serving(live, state.assignment, others, shadow, state.interleaved)
        found = {version: self._scorer(version, loaded) for version in state.candidates}
        candidates = {version: one for version, one in found.items() if one is not None}
        shadow = None if state.shadow is None else self._scorer(state.shadow, loaded)
        self._serving = _Serving(live, state.assignment, candidates, shadow, state.interleaved)

    def _scorer(self, version: str, loaded: Mapping[str, RequestScorer]) -> RequestScorer | None:
        """A version, loaded; None if that cannot be."""
        if version in loaded:
            return loaded[version]
        if version in self._refused:
            return None
        started = time.monotonic()
        try:
            folder = self._registry.export(version, self._cache)
            with _gently() if self.ready else nullcontext():
                scorer = self._load(folder)
            if scorer.version != version:
                raise ArtifactError(f"the folder of version {version} holds version {scorer.version}")
        except StorageError as error:  # it is tried again at the next look
            self._complete = False
            self._unreadable(error)
            return None
        except Exception as error:
            # Whatever is wrong with a model, the others go on.
            self._refused[version] = str(error)
            self._counted("refused")
            fields = {"version": version, "problem": str(error)}
            LOGGER.error("refused", exc_info=not isinstance(error, CtrkitError), extra={"fields": fields})
            return None
        self._counted("loaded")
        took = round(time.monotonic() - started, 3)
        LOGGER.info("loaded", extra={"fields": {"version": version, "seconds": took}})
        return scorer

    def _unreadable(self, error: Exception) -> None:
        """Count a failed look; it is logged once, until the registry can be read again."""
        self._counted("unreadable")
        if self._readable:
            LOGGER.error("the registry cannot be read", extra={"fields": {"problem": str(error)}})
        self._readable = False

    def _watch(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self.look()
            except Exception:  # the thread must live as long as the server
                LOGGER.exception("looking at the registry failed")
