"""Which model scores a request: always the same one, or that of a registry."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

from ctrkit.serving.http.errors import NotReady
from ctrkit.serving.scoring import RequestScorer

# Of a model that decides: all users', or that of a trial.
Arm = Literal["live", "candidate"]


class Served(NamedTuple):
    """A model that decides.

    Attributes:
        scorer: the model.
        arm: `live`, or `candidate` for one that serves a share of the users.
    """

    scorer: RequestScorer
    arm: Arm = "live"


class Models(Protocol):
    """Decides which model scores a request."""

    @property
    def ready(self) -> bool:
        """Whether a model is loaded."""

    def served(self, user: str | None) -> Served:
        """The model for a user; None for a request without one.

        Raises:
            NotReady: none is loaded.
        """

    def shadow(self) -> RequestScorer | None:
        """The model that scores what another has decided; None for none."""

    def rival(self) -> RequestScorer | None:
        """The model whose ranking is interleaved with that of the one that decides; None for none."""

    def known(self) -> list[dict[str, Any]]:
        """The loaded models, for people."""

    def refused(self) -> dict[str, str]:
        """Version -> why it was not loaded."""

    def close(self) -> None:
        """Stop what runs beside the requests."""


class SingleModel:
    """One model, for all.

    Args:
        scorer: the model; None where none is loaded.
    """

    def __init__(self, scorer: RequestScorer | None) -> None:
        self.scorer = scorer

    @property
    def ready(self) -> bool:
        """Whether the model is loaded."""
        return self.scorer is not None

    def served(self, user: str | None) -> Served:
        """The model."""
        if self.scorer is None:
            raise NotReady
        return Served(self.scorer)

    def shadow(self) -> None:
        """None."""

    def rival(self) -> None:
        """None."""

    def known(self) -> list[dict[str, Any]]:
        """The model."""
        return [] if self.scorer is None else [summary_of(self.scorer, "live")]

    def refused(self) -> dict[str, str]:
        """None: a server of a model that cannot be loaded does not start."""
        return {}

    def close(self) -> None:
        """Nothing runs beside the requests."""


def summary_of(scorer: RequestScorer, role: str) -> dict[str, Any]:
    """A model, for people: what it is, reads and gives.

    Args:
        scorer: the model.
        role: what it does: `live`, `candidate`, `shadow` or `interleaved`.
    """
    known, spec = scorer.bundle.known, scorer.bundle.encoder.spec
    return {
        "name": scorer.name,
        "version": scorer.version,
        "role": role,
        "features_version": known["features"],
        "format": known["kind"],
        "tasks": list(spec.tasks),
        "calibrated": known.get("calibrated", []),
        "features": {
            "numeric": [one.name for one in spec.numeric],
            "categorical": [one.name for one in spec.categorical],
            "sequences": {one.name: one.max_length for one in spec.sequences},
            "bags": {one.name: one.max_length for one in spec.bags},
            "vectors": [one.name for one in spec.vectors],
        },
        "parity": known["parity"],
    }
