"""The entries of a journal: decisions, events that followed them, and what other models say of them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from ctrkit.serving.requests.body import Value

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
# Unix seconds, to the year 9999.
Time = Annotated[float, msgspec.Meta(ge=0, lt=253_402_300_800)]
Kind = Literal["impression", "click", "conversion"]
Place = Annotated[int, msgspec.Meta(ge=0)]
Amount = Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)]


class Interleaved(msgspec.Struct, frozen=True):
    """A list that two versions have filled in turn.

    Attributes:
        order: places of the candidates, the first one first, [K].
        versions: the version that has picked each of them, [K].
    """

    order: list[int]
    versions: list[str]


class Decision(msgspec.Struct, frozen=True, tag="decision", tag_field="entry"):
    """What was known and done for a request with K candidates.

    Attributes:
        request_id: the name of the request; the first decision of a name, and of a campaign, counts.
        time: unix seconds.
        model: name of the model.
        version: its version.
        user: key of the user in the online store, if one was given.
        context: the features of all candidates, as they were scored: from the request or the online store.
        candidates: column -> its values for the candidates, as they were scored, [K].
        outputs: output of the model -> its values for the candidates, [K].
        id: column of the candidates' ids; None where the model's spec names none.
        choice: place of the chosen candidate; None where nothing was chosen.
        propensity: the probability with which it was chosen; None without a choice.
        probabilities: the probability of each candidate, [K]; None where no policy chose.
        bid: the bid, where the request asked for one.
        campaign: the campaign that bids.
        auction: the name of its auction.
        arm: `live`, or `candidate` where the version served a share of the users.
        interleaved: the list in which two versions were compared; None where there was no rival.
    """

    request_id: str
    time: float
    model: str
    version: str
    user: str | None
    context: dict[str, Value]
    candidates: dict[str, list[Value]]
    outputs: dict[str, list[float]]
    id: str | None = None
    choice: int | None = None
    propensity: float | None = None
    probabilities: list[float] | None = None
    bid: float | None = None
    campaign: str | None = None
    auction: str | None = None
    arm: Literal["live", "candidate"] = "live"
    interleaved: Interleaved | None = None


class Event(msgspec.Struct, frozen=True, tag="event", tag_field="entry"):
    """What came of a decision.

    Attributes:
        event_id: the name of the event; the first event of a name counts.
        request_id: that of the decision.
        kind: what happened: an `impression`, which tells that a candidate was shown, a `click` or a
            `conversion`.
        time: unix seconds.
        value: what it is worth; None where unknown.
        candidate: place of the candidate; None for the one that was chosen.
    """

    event_id: str
    request_id: str
    kind: Kind
    time: float
    value: float | None = None
    candidate: int | None = None


class Shadow(msgspec.Struct, frozen=True, tag="shadow", tag_field="entry"):
    """What a model in the shadow has said of a decision of another.

    Attributes:
        request_id: that of the decision.
        time: unix seconds.
        model: name of the model.
        version: its version.
        outputs: output of the model -> its values for the candidates, [K].
    """

    request_id: str
    time: float
    model: str
    version: str
    outputs: dict[str, list[float]]


class Notice(msgspec.Struct, frozen=True, tag="notice", tag_field="entry"):
    """What came of a bid.

    Attributes:
        auction: name of the auction.
        campaign: the campaign that has bid.
        time: unix seconds.
        won: whether its ad was shown.
        price: what was paid.
    """

    auction: str
    campaign: str
    time: float
    won: bool
    price: float


Entry = Decision | Event | Notice | Shadow
