"""Searches of long histories against loops in NumPy, and against attention over the whole history."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import torch

from ctrkit.errors import ConfigError
from ctrkit.nn.pooling.eta import HashSearch
from ctrkit.nn.pooling.sim import NewestSearch, SoftSearch
from ctrkit.nn.pooling.twin import AttentionSearch
from ctrkit.nn.search import ChosenAttention, EventSearch, best_events

WIDTH, LENGTH, USERS, CANDIDATES, TOP, HEADS = 4, 12, 13, 3, 5, 2


def make(kind: str, top: int = TOP, heads: int = HEADS) -> EventSearch:
    torch.manual_seed(0)
    searches = {
        "sim_hard": lambda: NewestSearch(WIDTH, top, heads),
        "sim_soft": lambda: SoftSearch(WIDTH, top, heads, (8,)),
        "eta": lambda: HashSearch(WIDTH, top, heads, 6),
        "twin": lambda: AttentionSearch(WIDTH, top, heads),
    }
    made: EventSearch = searches[kind]()
    return made.double()


KINDS = ("sim_hard", "sim_soft", "eta", "twin")
every_search = pytest.mark.parametrize("kind", KINDS)


def histories(candidates: int = CANDIDATES) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Targets, events with repetitions, and a mask: histories of 0, 1, 2, ... events."""
    generator = torch.Generator().manual_seed(1)
    different = torch.randn(USERS, 7, WIDTH, generator=generator, dtype=torch.float64)
    chosen = torch.randint(0, 7, (USERS, LENGTH), generator=generator)
    events = different.gather(1, chosen.unsqueeze(2).expand(-1, -1, WIDTH))
    mask = torch.arange(LENGTH - 1, -1, -1) < (torch.arange(USERS) % (LENGTH + 1))[:, None]
    targets = torch.randn(USERS, candidates, WIDTH, generator=generator, dtype=torch.float64)
    return targets, events, mask


def weight(search: EventSearch, name: str) -> np.ndarray:
    return search.state_dict()[name].numpy()


def scores_by_loops(search: EventSearch, t: np.ndarray, events: np.ndarray, head: int) -> list[float]:
    """The formulas of the papers, for one target and one history."""
    if isinstance(search, NewestSearch):
        return [float(place) for place in range(len(events))]
    if isinstance(search, SoftSearch):
        a, b = weight(search, "of_target.weight"), weight(search, "of_event.weight")
        return [float((b @ e) @ (a @ t)) for e in events]
    if isinstance(search, HashSearch):
        directions = weight(search, "hash.directions").T
        code = [r @ t > 0 for r in directions]
        return [-float(sum((r @ e > 0) != c for r, c in zip(directions, code, strict=True))) for e in events]
    return [logit(search, t, e, head) for e in events]


def logit(search: EventSearch, t: np.ndarray, e: np.ndarray, head: int) -> float:
    """The logit of an attention head."""
    part = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
    q, k = (
        weight(search, "attention.query.weight")[part] @ t,
        weight(search, "attention.key.weight")[part] @ e,
    )
    return float(q @ k) / np.sqrt(WIDTH / HEADS)


def by_loops(search: EventSearch, t: np.ndarray, events: np.ndarray) -> np.ndarray:
    """The reading of one target of one history, whose mask is True everywhere."""
    heads = []
    for head in range(HEADS):
        scores = np.float32(scores_by_loops(search, t, events, head))
        ranking = sorted(range(len(events)), key=lambda place: (-scores[place], -place))
        found = events[ranking[: search.top]]
        part = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
        reading = np.zeros(WIDTH // HEADS)
        if len(found):
            shares = scipy.special.softmax([logit(search, t, e, head) for e in found])
            for share, e in zip(shares, found, strict=True):
                reading += share * (weight(search, "attention.value.weight")[part] @ e)
        heads.append(reading)
    output = weight(search, "attention.output.weight")
    return np.asarray(output @ np.concatenate(heads))


@every_search
def test_a_search_equals_loops(kind: str) -> None:
    search, (targets, events, mask) = make(kind), histories()
    readings = search(targets, events, mask).detach().numpy()
    for user, target in np.ndindex(USERS, CANDIDATES):
        expected = by_loops(search, targets[user, target].numpy(), events[user][mask[user]].numpy())
        np.testing.assert_allclose(readings[user, target], expected, rtol=1e-10, atol=1e-12)


@every_search
def test_each_target_may_have_events_of_its_own(kind: str) -> None:
    """As in the hard search, whose events have the category of the target."""
    search, (targets, events, mask) = make(kind), histories()
    own = mask.unsqueeze(1) & (torch.rand(USERS, CANDIDATES, LENGTH) < 0.6)
    readings = search(targets, events, own).detach().numpy()
    for user, target in np.ndindex(USERS, CANDIDATES):
        expected = by_loops(search, targets[user, target].numpy(), events[user][own[user, target]].numpy())
        np.testing.assert_allclose(readings[user, target], expected, rtol=1e-10, atol=1e-12)


@every_search
def test_what_finds_all_is_multi_head_attention_of_torch(kind: str) -> None:
    search, (targets, events, mask) = make(kind, top=LENGTH), histories()
    torchs = torch.nn.MultiheadAttention(WIDTH, HEADS, bias=False, batch_first=True).double()
    attention = search.attention
    with torch.no_grad():
        inputs = (attention.query.weight, attention.key.weight, attention.value.weight)
        torchs.in_proj_weight.copy_(torch.cat(inputs))
        torchs.out_proj.weight.copy_(attention.output.weight)
    some = mask.any(dim=1)
    expected, weights = torchs(targets[some], events[some], events[some], key_padding_mask=~mask[some])
    torch.testing.assert_close(search(targets, events, mask)[some], expected)
    torch.testing.assert_close(search.weights(targets, events, mask)[some], weights)
    assert not search(targets, events, mask)[~some].any()


@every_search
def test_weights_are_those_of_the_chosen_events(kind: str) -> None:
    search, (targets, events, mask) = make(kind, heads=1), histories()
    weights = search.weights(targets, events, mask)
    assert weights.shape == (USERS, CANDIDATES, LENGTH)
    assert torch.equal((weights > 0).sum(2), mask.sum(1, keepdim=True).clamp(max=TOP).expand(-1, CANDIDATES))
    values = search.attention.value(events)
    torch.testing.assert_close(search.attention.output(weights @ values), search(targets, events, mask))


@every_search
def test_gradients_flow_through_the_attention_alone(kind: str) -> None:
    search, (targets, events, mask) = make(kind), histories()
    events.requires_grad_()
    search(targets, events, mask).square().sum().backward()
    assert events.grad is not None
    read = search.weights(targets, events, mask).sum(1) > 0
    assert torch.equal(events.grad.any(2), read)  # what is not chosen has no gradient
    for name, parameter in search.named_parameters():
        assert (parameter.grad is not None) == name.startswith("attention"), name


def test_the_soft_search_is_trained_by_its_own_logit() -> None:
    search, (targets, events, mask) = make("sim_soft"), histories()
    assert isinstance(search, SoftSearch)
    logits = search.search_logit(targets, events, mask)
    for user, target in np.ndindex(USERS, CANDIDATES):
        t, present = targets[user, target].numpy(), events[user][mask[user]].numpy()
        scores = scores_by_loops(search, t, present, 0)
        interest = sum((s * e for s, e in zip(scores, present, strict=True)), np.zeros(WIDTH))
        hidden = weight(search, "tower.0.weight") @ np.concatenate([t, interest]) + weight(
            search, "tower.0.bias"
        )
        expected = weight(search, "logit.weight")[0] @ hidden.clip(0) + weight(search, "logit.bias")[0]
        np.testing.assert_allclose(logits[user, target].item(), expected, rtol=1e-10)
    logits.square().sum().backward()
    trained = {name for name, parameter in search.named_parameters() if parameter.grad is not None}
    assert {name.split(".")[0] for name in trained} == {"of_target", "of_event", "tower", "logit"}


@pytest.mark.parametrize("scale", [0.0, 1e-44, 1e-30, 1.0, 1e30])
def test_the_best_events_are_those_of_a_sort(scale: float) -> None:
    generator = torch.Generator().manual_seed(3)
    scores = torch.randint(-4, 5, (60, 300), generator=generator) * torch.tensor(scale)
    scores = torch.where(
        torch.rand(60, 300, generator=generator) < 0.5, torch.nextafter(scores, scores + 1), scores
    )
    mask = torch.rand(60, 300, generator=generator) < torch.linspace(0, 1, 60)[:, None]
    for top in (1, 50, 299, 400):
        places, found = best_events(scores, mask, top)
        assert places.shape == found.shape == (60, min(top, 300))
        for row in range(60):
            kept = [place for place in range(300) if mask[row, place]]
            ranking = sorted(kept, key=lambda place: (-scores[row, place].item(), -place))
            assert sorted(places[row][found[row]].tolist()) == sorted(ranking[:top])


def test_neighbours_in_single_precision_keep_their_order_in_the_longest_histories() -> None:
    length = 1 << 15
    for score in (1.0, -1.0, 1.9999999, 3e38, -1e-38):
        scores = torch.full((1, length), score)
        scores[0, 0] = torch.nextafter(scores[0, 0], torch.tensor(torch.inf))  # the oldest is just better
        places, _ = best_events(scores, torch.ones(1, length, dtype=torch.bool), 2)
        assert set(places[0].tolist()) == {0, length - 1}


def test_heads_that_do_not_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="3 heads do not divide 4"):
        ChosenAttention(4, 3)
