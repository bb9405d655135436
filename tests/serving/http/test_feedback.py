"""From a request for scores to the value of another policy: choices, decisions, events and their log."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.errors import ConfigError
from ctrkit.serving.bundle import Bundle
from ctrkit.serving.choosing import Chooser
from ctrkit.serving.feedback.entries import Decision
from ctrkit.serving.feedback.journal import DECISIONS, Journals, Reader
from ctrkit.serving.feedback.outcomes import Outcomes
from ctrkit.serving.http.config import ServeConfig
from tests.serving.http.conftest import asked, running, service_of

REQUESTS, ADS = 24, 4


@pytest.fixture(scope="module")
def served(
    bundle: Bundle, model: ctrkit.Model, rows: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The journal of a server that has chosen with softmax, and has been told of clicks."""
    folder = tmp_path_factory.mktemp("loop") / "journal"
    service = service_of(bundle, ServeConfig(time_limit=10))
    service.journal, service.chooser = Journals(folder), Chooser.of("softmax:temperature=1")
    rows = rows.unique("ad_id", keep="first", maintain_order=True)
    with running(service) as client:
        for place in range(REQUESTS):
            some = rows.sample(ADS, seed=place)
            body = {**asked(model, some), "request_id": f"r{place}"}
            first = client.post("/v1/score", json=body).json()
            assert client.post("/v1/score", json=body).json() == first  # drawn again
            if place % 3 == 0:
                event = {"event_id": f"c{place}", "request_id": f"r{place}", "kind": "click"}
                sale = {**event, "event_id": f"s{place}", "kind": "conversion", "value": 5}
                for _ in range(2):
                    assert client.post("/v1/feedback", json=[event, sale]).json() == {"taken": 2}
        client.post("/v1/feedback", json={"event_id": "x", "request_id": "nobody", "kind": "click"})
    return folder


def test_decisions_are_what_was_asked_and_answered(served: Path, model: ctrkit.Model) -> None:
    decisions = [*Reader(served, DECISIONS, Decision)]
    assert len(decisions) == 2 * REQUESTS
    for one in decisions:
        assert one.probabilities is not None
        assert one.choice is not None
        table = pl.DataFrame({**one.candidates, **{n: [v] * ADS for n, v in one.context.items()}})
        click = model.predict(table)["click"].to_numpy()
        np.testing.assert_allclose(one.outputs["click"], click, atol=1e-6)
        odds = np.array(one.outputs["click"]) / (1 - np.array(one.outputs["click"]))
        np.testing.assert_allclose(one.probabilities, odds / odds.sum(), rtol=1e-9)
        assert one.propensity == one.probabilities[one.choice]


def test_the_log_of_a_journal_tells_the_value_of_policies(
    served: Path, trained: Path, tmp_path: Path
) -> None:
    found = ctrkit.join_feedback(served, out=tmp_path / "log.parquet")
    assert (found.rows, found.counts["repeated"], found.counts["strangers"]) == (REQUESTS, REQUESTS, 1)
    assert (found.counts["events"], found.counts["repeated_events"]) == (2 * REQUESTS // 3, 2 * REQUESTS // 3)
    log = pl.read_parquet(tmp_path / "log.parquet")
    assert log["reward"].to_list() == [int(place % 3 == 0) for place in range(REQUESTS)]
    result = ctrkit.evaluate_policy(
        tmp_path / "log.parquet",
        ["uniform", f"{trained}:softmax,temperature=1"],
        estimators=["ips"],
    )
    uniform, same = (one.estimates[0].value for one in result.evaluation.policies)
    assert uniform == pytest.approx((log["reward"] / (ADS * log["propensity"])).mean())
    # The model that has served, asked by `ctrkit ope`, gives the probabilities that were logged.
    assert same == pytest.approx(1 / 3, rel=1e-4)
    assert ctrkit.join_feedback(served, out=tmp_path / "value.parquet", reward="value").rows == REQUESTS
    assert pl.read_parquet(tmp_path / "value.parquet")["reward"].sum() == 5 * REQUESTS / 3


def test_impressions_are_rows_to_learn_from_and_tell_the_calibration(
    bundle: Bundle, model: ctrkit.Model, rows: pl.DataFrame, tmp_path: Path
) -> None:
    service = service_of(bundle, ServeConfig(time_limit=10))
    service.journal = Journals(tmp_path / "journal")
    service.outcomes = Outcomes(tmp_path / "journal", service.metrics.outcome, 1e-9)
    with running(service) as client:
        scores = client.post("/v1/score", json={**asked(model, rows[:ADS]), "request_id": "r"}).json()[
            "scores"
        ]
        kinds = [("impression", 1), ("impression", 3), ("click", 3), ("conversion", 3), ("click", 0)]
        events = [
            {"event_id": f"{kind}{place}", "request_id": "r", "kind": kind, "candidate": place}
            for kind, place in kinds
        ]
        assert client.post("/v1/feedback", json=events).json() == {"taken": len(kinds)}
        service.journal.close()
        service.outcomes.look()
        metrics = client.get("/metrics").text
    pcoc = {line.split("task=")[1].split('"')[1]: float(line.split()[-1])
            for line in metrics.splitlines() if line.startswith("ctrkit_pcoc{")}  # fmt: skip
    click, conversion = scores["click"], scores["conversion"]
    assert pcoc == pytest.approx({"click": click[1] + click[3], "conversion": conversion[3]}, rel=1e-6)
    found = ctrkit.join_feedback(tmp_path / "journal", out=tmp_path / "log.parquet", rows="impressions")
    assert (found.rows, found.counts["strangers"]) == (2, 1)
    log = pl.read_parquet(tmp_path / "log.parquet")
    assert log["click"].to_list() == log["conversion"].to_list() == [0, 1]
    assert log["served_click"].to_list() == [click[1], click[3]]
    np.testing.assert_allclose(model.predict(log)["click"], log["served_click"], atol=1e-6)


def test_choices_have_their_probabilities() -> None:
    chooser, probability = Chooser.of("epsilon-greedy:epsilon=0.3"), np.array([0.1, 0.4, 0.2])
    chosen = [chooser.choose(f"r{place}", probability) for place in range(1000)]
    shares = np.bincount([one.index for one in chosen], minlength=3) / 1000
    np.testing.assert_allclose(chosen[0].probabilities, [0.1, 0.8, 0.1])
    np.testing.assert_allclose(shares, [0.1, 0.8, 0.1], atol=0.05)
    assert Chooser.of("greedy").choose("r", np.array([0.0, 1.0])).index == 1
    for line in ("thompson", "softmx", "softmax:temperature=-1"):
        with pytest.raises(ConfigError):
            Chooser.of(line)


def test_what_cannot_be_is_refused(client: httpx.Client, bundle: Bundle, tmp_path: Path) -> None:
    event = {"event_id": "e", "request_id": "r", "kind": "click"}
    reply = client.post("/v1/feedback", json=event)
    assert reply.status_code == 404
    assert "--journal" in reply.json()["error"]["hint"]
    service = service_of(bundle)
    service.journal = Journals(tmp_path / "journal")
    with running(service) as server:
        for path, value in (
            ("kind", "view"), ("event_id", ""), ("value", "1"), ("time", -1), ("price", 1), ("candidate", -1),
        ):  # fmt: skip
            reply = server.post("/v1/feedback", json={**event, path: value})
            assert (reply.status_code, reply.json()["error"]["path"]) == (422, path), reply.text
        service.journal.close()
        assert server.post("/v1/feedback", json=event).status_code == 503
