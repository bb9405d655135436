"""Bids over HTTP: those of the simulator, with notices that count once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.bidding import simulate
from ctrkit.bidding.market.auctions import Auctions
from ctrkit.serving.bundle import Bundle
from ctrkit.serving.campaigns.address import open_ledger
from ctrkit.serving.campaigns.bidder import Bidder
from ctrkit.serving.campaigns.config import CampaignsConfig
from ctrkit.serving.feedback.entries import Decision
from ctrkit.serving.feedback.journal import DECISIONS, Journals, Reader
from ctrkit.serving.http.config import ServeConfig
from tests.serving.http.conftest import asked, running, service_of

AUCTIONS, ADS = 60, 3
CAMPAIGN: dict[str, Any] = {
    "name": "spring", "budget": 0.5, "auctions": AUCTIONS, "strategy": "dual:initial_multiplier=2",
    "tick": 20, "value_of_click": 1.0,
}  # fmt: skip
OTHER = {**CAMPAIGN, "name": "sales", "value_of_click": None, "value_of_conversion": 40.0, "budget": 1e6}


@pytest.fixture(scope="module")
def bidding(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    ledger = open_ledger(f"sqlite:{tmp_path_factory.mktemp('ledger') / 'ledger.db'}")
    campaigns = CampaignsConfig.model_validate({"campaigns": [CAMPAIGN, OTHER]})
    service = service_of(bundle, ServeConfig(time_limit=10))
    service.bidder = Bidder(campaigns, ledger)
    with running(service) as client:
        yield client


def bodies(model: ctrkit.Model, rows: pl.DataFrame) -> list[dict[str, Any]]:
    return [asked(model, rows[ADS * place : ADS * (place + 1)]) for place in range(AUCTIONS)]


def test_bids_are_those_of_the_simulator(
    bidding: httpx.Client, model: ctrkit.Model, rows: pl.DataFrame
) -> None:
    requests = bodies(model, rows)
    scores = [bidding.post("/v1/score", json=body).json()["scores"] for body in requests]
    probability = np.array([one["click"] for one in scores])
    market_price = np.random.default_rng(0).lognormal(-4.5, 0.4, AUCTIONS)
    auctions = Auctions(market_price, probability, np.ones((AUCTIONS, ADS)))
    wanted = simulate(auctions, [CAMPAIGN["strategy"]], CAMPAIGN["budget"], tick=CAMPAIGN["tick"]).events
    assert 5 < wanted["won"].sum() < AUCTIONS
    for place, row in enumerate(wanted.iter_rows(named=True)):
        names = {"campaign": "spring", "auction_id": f"a{place}"}
        for _ in range(2):  # asked twice, answered the same
            reply = bidding.post("/v1/bid", json={**requests[place], **names})
            assert reply.status_code == 200, reply.text
            found = reply.json()
            assert found["bid"] == row["bid"]
        assert found["candidate"] == (row["ad"] if row["bid"] else None)
        assert found["value"] == probability[place].max()
        if row["bid"] > 0:
            notice = {**names, "price": row["spend"], "won": row["won"]}
            receipt = bidding.post("/v1/win", json=notice).json()
            assert (receipt["known"], receipt["repeated"]) == (True, False)
    assert receipt["spent"] == pytest.approx(wanted["spend"].sum(), rel=1e-12)
    (state, _) = bidding.get("/v1/state").json()["campaigns"]
    assert state["spent"] == receipt["spent"]
    assert state["reserved"] == 0.0


def test_conversions_may_be_what_counts(
    bidding: httpx.Client, model: ctrkit.Model, rows: pl.DataFrame
) -> None:
    body = asked(model, rows[:ADS])
    found = bidding.post("/v1/bid", json={**body, "campaign": "sales", "auction_id": "x"}).json()
    scores = found["scores"]
    assert found["value"] == pytest.approx(40.0 * scores["click"] * scores["conversion"])
    assert found["bid"] == pytest.approx(found["value"] / 2)
    assert found["reason"] == "paced bid"


def test_what_cannot_be_is_refused(bidding: httpx.Client, model: ctrkit.Model, rows: pl.DataFrame) -> None:
    body = {**asked(model, rows[:ADS]), "campaign": "sales", "auction_id": "y"}
    bid = bidding.post("/v1/bid", json=body).json()["bid"]
    faults: list[tuple[str, dict[str, Any], int, str | None]] = [
        ("/v1/bid", {**body, "campaign": "winter"}, 422, "campaign"),
        ("/v1/bid", {**body, "auction_id": ""}, 422, "auction_id"),
        ("/v1/bid", {**body, "floor": -1}, 422, "floor"),
        ("/v1/bid", {**body, "candidates": []}, 422, "candidates"),
        ("/v1/bid", {**body, "price": 1}, 422, "price"),
        ("/v1/win", {"campaign": "sales", "auction_id": "y", "price": bid * 1.01}, 422, "price"),
        ("/v1/win", {"campaign": "winter", "auction_id": "y"}, 422, "campaign"),
        ("/v1/win", {"campaign": "sales", "auction_id": "nobody"}, 404, "auction_id"),
        ("/v1/win", {"campaign": "sales"}, 422, "auction_id"),
    ]
    for route, content, status, path in faults:
        reply = bidding.post(route, json=content)
        assert (reply.status_code, reply.json()["error"]["path"]) == (status, path), reply.text


def test_without_campaigns_there_is_nothing_to_bid_for(client: httpx.Client) -> None:
    for route in ("/v1/bid", "/v1/win"):
        reply = client.post(route, json={})
        assert reply.status_code == 404
        assert "--campaigns" in reply.json()["error"]["hint"]


def test_campaigns_are_read_from_a_file(tmp_path: Path) -> None:
    from ctrkit.config import settings_of

    (tmp_path / "campaigns.yaml").write_text(
        "ledger: sqlite:money.db\ncampaigns:\n"
        "  - {name: spring, budget: 100, auctions: 5000, value_of_click: 0.5, end: 2026-06-01}\n"
    )
    found = settings_of(CampaignsConfig, tmp_path / "campaigns.yaml")
    assert found.ledger == "sqlite:money.db"
    assert found.campaigns[0].end == 1_780_272_000.0


def test_bids_are_kept_in_the_journal(
    bundle: Bundle, model: ctrkit.Model, rows: pl.DataFrame, tmp_path: Path
) -> None:
    service = service_of(bundle, ServeConfig(time_limit=10))
    campaigns = CampaignsConfig.model_validate({"campaigns": [OTHER]})
    service.bidder = Bidder(campaigns, open_ledger(f"sqlite:{tmp_path / 'ledger.db'}"))
    service.journal = Journals(tmp_path / "journal")
    body = {**asked(model, rows[:ADS]), "campaign": "sales"}
    with running(service) as client:
        bid = client.post("/v1/bid", json={**body, "auction_id": "a"}).json()
        client.post("/v1/bid", json={**body, "auction_id": "b", "floor": 1e9})
        win = {"campaign": "sales", "auction_id": "a", "price": bid["bid"] / 2}
        for _ in range(2):
            client.post("/v1/win", json=win)
        event = {"event_id": "e", "request_id": "a", "kind": "conversion", "value": 3}
        client.post("/v1/feedback", json=event)
    one, other = Reader(tmp_path / "journal", DECISIONS, Decision)
    assert (one.request_id, one.bid, one.choice, one.propensity) == ("a", bid["bid"], bid["candidate"], 1.0)
    assert (other.request_id, other.bid, other.choice, other.propensity) == ("b", 0.0, None, None)
    # The auction that was won is a row to learn from, with its features and what it cost.
    joined = ctrkit.join_feedback(tmp_path / "journal", out=tmp_path / "log.parquet", rows="impressions")
    [row] = pl.read_parquet(tmp_path / "log.parquet").to_dicts()
    assert (joined.rows, row["cost"], row["bid"]) == (1, bid["bid"] / 2, bid["bid"])
    assert (row["campaign"], row["click"], row["conversion"], row["value"]) == ("sales", 0, 1, 3.0)
    again = model.predict(pl.read_parquet(tmp_path / "log.parquet"))
    assert again["click"][0] == pytest.approx(row["served_click"], abs=1e-6)
