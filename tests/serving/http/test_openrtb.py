"""Bids by OpenRTB over HTTP: a request, a bid and its notices, units of money, and what gets no bid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as draw

import ctrkit
from ctrkit.errors import ConfigError
from ctrkit.serving.bundle import Bundle
from ctrkit.serving.campaigns.address import open_ledger
from ctrkit.serving.campaigns.bidder import Bidder
from ctrkit.serving.campaigns.config import CampaignsConfig, OpenRtbConfig
from ctrkit.serving.feedback.journal import Journals
from ctrkit.serving.feedback.outcomes import Outcomes
from ctrkit.serving.http.config import ServeConfig
from ctrkit.serving.http.notices import Exchange
from ctrkit.serving.http.openrtb_messages import (
    Imp,
    OpenRtbRequest,
    auction_of,
    money_of,
    price_of,
    value_at,
)
from tests.serving.http.conftest import running, service_of

BID, ADS = "/openrtb/2.6/bid", 3
# Features that come with the request: column -> path.
PATHS = {"device": "device.ext.kind", "placement": "imp.tagid", "hour": None}


def ads_of(rows: pl.DataFrame, model: ctrkit.Model) -> list[dict[str, Any]]:
    columns = [name for name in model.spec.static_columns if name not in PATHS]
    return [
        {"adid": f"ad{place}", "crid": f"creative{place}", "adm": "<p>", "features": row}
        for place, row in enumerate(rows.select(columns).to_dicts())
    ]


@pytest.fixture(scope="module")
def exchange(
    bundle: Bundle, model: ctrkit.Model, rows: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A server with two campaigns: the second bids twice the first's value, so that it wins."""
    folder = tmp_path_factory.mktemp("openrtb")
    common = {"auctions": 1000, "budget": 100.0}
    campaigns = CampaignsConfig.model_validate(
        {
            "openrtb": {"notices": "https://bids.example/", "features": PATHS},
            "campaigns": [
                {**common, "name": "low", "strategy": "truthful:value_per_click=1", "value_of_click": 1.0,
                 "ads": ads_of(rows[:ADS], model)},
                {**common, "name": "high", "strategy": "truthful:value_per_click=2", "value_of_click": 2.0,
                 "ads": ads_of(rows[ADS : 2 * ADS], model)},
                {**common, "name": "without-ads", "value_of_click": 9.0},
            ],
        }
    )  # fmt: skip
    service = service_of(bundle, ServeConfig(time_limit=10))
    service.bidder = Bidder(campaigns, open_ledger(f"sqlite:{folder / 'ledger.db'}"))
    (folder / "key").write_text("a secret of the tests\n")
    assert campaigns.openrtb is not None
    service.exchange = Exchange.read(campaigns.openrtb, folder / "key")
    with running(service) as client:
        yield client


def request(id: str, **changes: Any) -> dict[str, Any]:
    imp = {"id": "1", "tagid": "feed", "banner": {"w": 300, "h": 250}}
    return {"id": id, "imp": [imp], "device": {"ext": {"kind": "mobile"}}, "at": 1, **changes}


def only_bid(reply: httpx.Response) -> dict[str, Any]:
    assert reply.status_code == 200, reply.text
    ((seat,),) = (reply.json()["seatbid"],)
    (bid,) = seat["bid"]
    return dict(bid)


def called(client: httpx.Client, address: str, price: float | str = "") -> httpx.Response:
    assert address.startswith("https://bids.example/openrtb/")
    path = address.removeprefix("https://bids.example")
    return client.get(path.replace("${AUCTION_PRICE}", str(price)))


def state(client: httpx.Client) -> dict[str, dict[str, Any]]:
    campaigns = client.get("/v1/state").json()["campaigns"]
    # What was planned grows with the time.
    return {one.pop("name"): {**one, "planned": None} for one in campaigns}


def test_a_request_a_bid_and_its_notices(
    exchange: httpx.Client, model: ctrkit.Model, rows: pl.DataFrame
) -> None:
    reply = exchange.post(BID, json=request("r 1"), headers={"x-openrtb-version": "2.6"})
    bid = only_bid(reply)
    assert reply.headers["x-openrtb-version"] == "2.6"
    assert (reply.json()["id"], reply.json()["cur"]) == ("r 1", "USD")
    # What the model says of the same features is the bid, for a thousand impressions.
    candidates = [ad["features"] for ad in ads_of(rows[ADS : 2 * ADS], model)]
    body = {"candidates": candidates, "context": {"device": "mobile", "placement": "feed"}}
    click = exchange.post("/v1/score", json=body).json()["scores"]["click"]
    best = max(range(ADS), key=click.__getitem__)
    money = 2.0 * click[best]
    assert bid["price"] == pytest.approx(1000 * money, abs=1e-4)
    assert (bid["cid"], bid["impid"], bid["adid"]) == ("high", "1", f"ad{best}")
    assert (bid["crid"], bid["adm"]) == (f"creative{best}", "<p>")
    # The other campaign has bid too, and has its money back.
    before = state(exchange)
    assert (before["low"]["auctions"], before["low"]["reserved"]) == (1, 0.0)
    assert before["high"]["reserved"] == pytest.approx(money)
    assert only_bid(exchange.post(BID, json=request("r 1"))) == bid
    for address in (bid["nurl"], bid["nurl"], bid["burl"]):
        assert called(exchange, address, bid["price"]).status_code == 204
    assert called(exchange, bid["lurl"]).status_code == 204  # too late: it was won
    after = state(exchange)["high"]
    assert after["spent"] == pytest.approx(money, abs=1e-7)
    assert (after["wins"], after["reserved"]) == (1, 0.0)


def test_a_bid_that_was_won_is_compared_with_its_clicks(
    bundle: Bundle, model: ctrkit.Model, rows: pl.DataFrame, tmp_path: Path
) -> None:
    ads = ads_of(rows[:ADS], model)
    campaign = {"name": "only", "auctions": 10, "budget": 100.0, "strategy": "truthful:value_per_click=1",
                "value_of_click": 1.0, "ads": ads}  # fmt: skip
    openrtb = {"notices": "https://bids.example/", "features": PATHS}
    campaigns = CampaignsConfig.model_validate({"openrtb": openrtb, "campaigns": [campaign]})
    service = service_of(bundle, ServeConfig(time_limit=10))
    service.bidder = Bidder(campaigns, open_ledger(f"sqlite:{tmp_path / 'ledger.db'}"))
    (tmp_path / "key").write_text("a secret of the tests\n")
    assert campaigns.openrtb is not None
    service.exchange = Exchange.read(campaigns.openrtb, tmp_path / "key")
    service.journal = Journals(tmp_path / "journal")
    service.outcomes = Outcomes(tmp_path / "journal", service.metrics.outcome, 1e-9)
    with running(service) as client:
        won, lost = (only_bid(client.post(BID, json=request(id))) for id in ("won", "lost"))
        called(client, won["nurl"], won["price"])
        called(client, lost["lurl"])
        for place, bid in enumerate((won, lost)):
            event = {"event_id": f"e{place}", "request_id": bid["id"], "kind": "click"}
            client.post("/v1/feedback", json=event)
        service.journal.close()
        service.outcomes.look()
        metrics = client.get("/metrics").text
    ctrkit.join_feedback(tmp_path / "journal", out=tmp_path / "log.parquet", rows="impressions")
    [row] = pl.read_parquet(tmp_path / "log.parquet").to_dicts()
    chosen = next(ad for ad in ads if ad["adid"] == won["adid"])
    assert chosen["features"].items() <= row.items()
    assert (row["device"], row["placement"], row["click"]) == ("mobile", "feed", 1)
    assert row["cost"] == pytest.approx(won["price"] / 1000)
    [pcoc] = [line.split()[-1] for line in metrics.splitlines() if line.startswith("ctrkit_pcoc{")]
    assert float(pcoc) == pytest.approx(row["served_click"], rel=1e-6)


def test_a_loss_frees_the_money(exchange: httpx.Client) -> None:
    bid, before = only_bid(exchange.post(BID, json=request("r-lost"))), state(exchange)["high"]
    assert before["reserved"] > 0
    assert called(exchange, bid["lurl"]).status_code == 204
    after = state(exchange)["high"]
    assert (after["reserved"], after["spent"]) == (0.0, before["spent"])


def test_only_our_own_addresses_are_notices(exchange: httpx.Client) -> None:
    bid, other = (only_bid(exchange.post(BID, json=request(id))) for id in ("r-a", "r-b"))
    before = state(exchange)["high"]
    sign = httpx.URL(bid["nurl"]).params["sign"]
    swapped = httpx.URL(other["nurl"]).params["sign"]
    forged = [
        bid["nurl"].replace(sign, swapped),
        bid["nurl"].replace(sign, ""),
        bid["nurl"].replace(sign, "%C3%A9"),
        bid["nurl"].replace("campaign=high", "campaign=low"),
        bid["lurl"].replace("/loss", "/win") + "&price=1",
    ]
    for address in forged:
        assert called(exchange, address, 1).status_code == 403
    for price in ("", "-1", "nan", "${AUCTION_PRICE}", bid["price"] * 1.01):
        assert called(exchange, bid["nurl"], price).status_code == 422
    assert state(exchange)["high"] == before


def test_floors_are_for_a_thousand_impressions(exchange: httpx.Client) -> None:
    price = only_bid(exchange.post(BID, json=request("r-free")))["price"]
    for factor, bids in ((0.999, True), (1.001, False)):
        imp = {"id": "1", "tagid": "feed", "bidfloor": factor * price}
        reply = exchange.post(BID, json=request(f"r-{factor}", imp=[imp]))
        assert (reply.status_code == 200) is bids


def test_several_impressions_have_their_own_auctions(exchange: httpx.Client) -> None:
    imps = [
        {"id": "a", "tagid": "feed"},
        {"id": "b", "tagid": "feed", "bidfloor": 1e9},
        {"id": "c", "tagid": "feed", "bidfloor": 0.001, "bidfloorcur": "EUR"},
        {"id": "d", "tagid": "feed", "pmp": {"private_auction": 1}},
        {"id": "e"},
    ]
    (seat,) = exchange.post(BID, json=request("r-many", imp=imps)).json()["seatbid"]
    assert [bid["impid"] for bid in seat["bid"]] == ["a", "e"]


@pytest.mark.parametrize("changes", [{"cur": ["EUR"]}, {"tmax": 0}, {"tmax": 1}])
def test_no_bid_is_an_empty_reply(exchange: httpx.Client, changes: dict[str, Any]) -> None:
    # So many impressions that no model scores them within a millisecond.
    imps = [{"id": str(place)} for place in range(200)]
    before = state(exchange)
    reply = exchange.post(BID, json=request(f"r-{changes}", imp=imps, **changes))
    assert (reply.status_code, reply.content) == (204, b"")
    assert state(exchange) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"imp": []},
        {"imp": None},
        {"imp": [{"id": "1"}, {"id": "1"}]},
        {"imp": [{"id": "1", "bidfloor": -1}]},
        {"tmax": -1},
        {"device": {"ext": {"kind": [1, 2]}}},
    ],
)
def test_a_wrong_request_is_told_so(exchange: httpx.Client, changes: dict[str, Any]) -> None:
    before = state(exchange)
    reply = exchange.post(BID, json=request("r-wrong", **changes))
    assert (reply.status_code, reply.json()) == (200, {"id": "r-wrong", "nbr": 2})
    assert state(exchange) == before


def test_what_is_no_request_is_told_so(exchange: httpx.Client) -> None:
    for content in (b"", b"[]", b'{"imp": [{"id": "1"}]}', b"\xff"):
        assert exchange.post(BID, content=content).json() == {"id": "", "nbr": 2}
    headers = {"x-openrtb-version": "3.0"}
    assert exchange.post(BID, json=request("r-3"), headers=headers).json() == {"id": "r-3", "nbr": 2}


def test_without_an_exchange_there_is_nothing_to_bid_for(client: httpx.Client) -> None:
    assert client.post(BID, json=request("r")).status_code == 404
    assert client.get("/openrtb/win").status_code == 404


def test_the_secret_is_needed(tmp_path: Path) -> None:
    config = OpenRtbConfig(notices="https://bids.example")
    (tmp_path / "short").write_text("short")
    for file in (None, tmp_path / "none", tmp_path / "short"):
        with pytest.raises(ConfigError):
            Exchange.read(config, file)


@given(draw.floats(1e-6, 1e4), draw.floats(0, 1))
def test_a_price_paid_in_full_is_never_above_the_bid(bid: float, share: float) -> None:
    floor = share * 1000 * bid
    assume(money_of(floor) <= bid)  # else there is no bid
    price = price_of(bid, floor)
    assert floor <= price
    assert 1000 * bid - price < 1.0001e-4 + 1e-12 * price
    assert money_of(price) <= bid


def test_auctions_have_different_names_and_paths_end_anywhere() -> None:
    first = OpenRtbRequest("a/b", [Imp("c")])
    second = OpenRtbRequest("a", [Imp("b/c")])
    assert auction_of(first, first.imp[0]) != auction_of(second, second.imp[0])
    tree = {"site": {"cat": ["x", "y"], "name": "n"}, "imp": [{"id": "1"}, {"id": "2"}]}
    wanted = {"site.cat.1": "y", "site.cat.2": None, "site.cat.x": None, "site.name.x": None, "site": None,
              "site.cat": ["x", "y"], "imp.id": "2", "app.id": None}  # fmt: skip
    assert {path: value_at(tree, path, 1) for path in wanted} == wanted
