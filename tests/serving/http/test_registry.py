"""A server of a registry: swaps beside requests, what it refuses, trials, and the shadow."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.errors import ArtifactError
from ctrkit.serving.bundle import open_bundle
from ctrkit.serving.feedback.entries import Decision, Shadow
from ctrkit.serving.feedback.journal import DECISIONS, SHADOWS, Reader
from ctrkit.serving.http.config import ServeConfig
from ctrkit.serving.http.service import Service, load, open_service
from tests.serving.exports import line_export
from tests.serving.http.conftest import running

pytest.importorskip("onnxruntime")

PRICES = [0.0, 0.5, -0.25]
BODY = {"candidates": {"price": PRICES}}


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Version -> folder of three exported models."""
    home = tmp_path_factory.mktemp("exports")
    return {line_export(home / f"{number}", float(number)): home / f"{number}" for number in range(3)}


@pytest.fixture(scope="module")
def wanted(exports: dict[str, Path]) -> dict[str, list[float]]:
    """Version -> the probabilities of `BODY`, by its logistic line."""
    scale = open_bundle(next(iter(exports.values()))).encoder.scales["price"]
    logits = (np.array(PRICES) - scale.zero) / scale.unit
    return {version: (1 / (1 + np.exp(-logits - number))).tolist() for number, version in enumerate(exports)}


@pytest.fixture
def home(exports: dict[str, Path], tmp_path: Path) -> Path:
    """A registry whose first version is live."""
    for folder in exports.values():
        ctrkit.push_model(folder, registry=tmp_path / "registry")
    ctrkit.promote_model(next(iter(exports)), registry=tmp_path / "registry")
    return tmp_path / "registry"


@contextmanager
def served(address: str | Path, **settings: Any) -> Iterator[tuple[httpx.Client, Service]]:
    service = open_service(ServeConfig(watch=0.01, **settings), str(address))
    with running(service) as client:
        yield client, service


def until(holds: Callable[[], Any]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def version_of(client: httpx.Client, **body: Any) -> str:
    reply = client.post("/v1/score", json={**BODY, **body})
    assert reply.status_code == 200, reply.text
    return str(reply.json()["model"]["version"])


def number(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(name + " ")), 0.0)


def test_versions_are_swapped_under_requests_of_which_none_fails(
    home: Path, exports: dict[str, Path], wanted: dict[str, list[float]]
) -> None:
    first, second, third = exports
    with served(home) as (client, _):
        stop, seen = False, list[tuple[str, list[float]]]()

        def ask() -> None:
            with httpx.Client(base_url=client.base_url) as own:
                while not stop:
                    reply = own.post("/v1/score", json=BODY)
                    assert reply.status_code == 200, reply.text
                    found = reply.json()
                    seen.append((found["model"]["version"], found["scores"]["click"]))

        with ThreadPoolExecutor(3) as clients:
            asking = [clients.submit(ask) for _ in range(3)]
            try:
                for version in (second, third, first, third):
                    ctrkit.promote_model(version, registry=home)
                    until(lambda version=version: seen and seen[-1][0] == version)
                ctrkit.rollback_model(registry=home)
                until(lambda: seen[-1][0] == first)
            finally:
                stop = True
            for one in asking:
                one.result()
    assert {version for version, _ in seen} == {*exports}
    for version, scores in seen:
        np.testing.assert_allclose(scores, wanted[version], atol=1e-6)


def damaged(folder: Path, file: str, damage: str) -> None:
    content = (folder / file).read_bytes()
    if damage == "missing":
        (folder / file).unlink()
    elif damage == "cut":
        (folder / file).write_bytes(content[: len(content) // 2])
    else:
        middle = len(content) // 2
        (folder / file).write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_a_damaged_version_is_refused_once_and_the_last_good_one_goes_on(
    home: Path, exports: dict[str, Path], damage: str
) -> None:
    first, second, third = exports
    folder = home / "versions" / second
    with served(home) as (client, service):
        name = 'ctrkit_model_loads_total{result="refused"}'
        for loads, file in enumerate(sorted(path.name for path in folder.iterdir()), 1):
            damaged(folder, file, damage)
            ctrkit.promote_model(second, registry=home)
            until(lambda loads=loads: number(client, name) == loads)
            assert version_of(client) == first
            assert client.get("/readyz").status_code == 200
            [(refused, why)] = client.get("/v1/model").json()["refused"].items()
            assert refused == second
            assert second in why
            service.models.look()  # type: ignore[attr-defined]
            assert number(client, name) == loads  # it is not tried again
            ctrkit.push_model(exports[second], registry=home)
        ctrkit.promote_model(second, registry=home)
        until(lambda: version_of(client) == second)
        assert client.get("/v1/model").json()["refused"] == {}
        shutil.rmtree(home / "versions" / third)
        ctrkit.promote_model(third, registry=home)
        until(lambda: third in client.get("/v1/model").json()["refused"])
        assert version_of(client) == second


def test_a_version_that_gives_something_else_here_is_refused(
    home: Path, exports: dict[str, Path], tmp_path: Path
) -> None:
    spoilt = line_export(tmp_path / "spoilt", 0.5, spoilt=1e-3)
    ctrkit.push_model(tmp_path / "spoilt", registry=home)
    with served(home) as (client, _):
        ctrkit.promote_model(spoilt, registry=home)
        until(lambda: client.get("/v1/model").json()["refused"])
        assert (
            "differ from those of the export, by 0.001" in client.get("/v1/model").json()["refused"][spoilt]
        )
        assert version_of(client) == next(iter(exports))


def test_a_version_in_the_place_of_another_is_refused(home: Path, exports: dict[str, Path]) -> None:
    first, second, third = exports
    shutil.rmtree(home / "versions" / second)
    shutil.copytree(exports[third], home / "versions" / second)
    with served(home) as (client, _):
        ctrkit.promote_model(second, registry=home)
        until(lambda: client.get("/v1/model").json()["refused"])
        assert f"holds version {third}" in client.get("/v1/model").json()["refused"][second]
        assert version_of(client) == first


def test_a_server_that_starts_with_a_damaged_version_serves_the_one_before(
    home: Path, exports: dict[str, Path]
) -> None:
    first, second, _ = exports
    ctrkit.promote_model(second, registry=home)
    damaged(home / "versions" / second, "rows.onnx", "cut")
    with served(home) as (client, _):
        assert version_of(client) == first


def test_a_server_waits_for_the_first_version(exports: dict[str, Path], tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    address, version = f"memory://{tmp_path.name}/models", next(iter(exports))
    with served(address, cache=tmp_path) as (client, _):
        assert client.get("/readyz").status_code == 503
        assert client.get("/v1/model").json() == {"models": [], "refused": {}}
        assert client.post("/v1/score", json=BODY).status_code == 503
        ctrkit.push_model(exports[version], registry=address)
        ctrkit.promote_model(version, registry=address)
        until(lambda: client.get("/readyz").status_code == 200)
        assert version_of(client) == version
    fsspec.filesystem("memory").store.clear()


def test_a_registry_that_is_away_for_a_while_changes_nothing(home: Path, exports: dict[str, Path]) -> None:
    first, second, _ = exports
    with served(home) as (client, _):
        home.rename(home.with_name("away"))
        until(lambda: number(client, 'ctrkit_model_loads_total{result="unreadable"}') >= 2)
        assert version_of(client) == first
        home.with_name("away").rename(home)
        newest = sorted((home / "states").iterdir())[-1]
        newest.with_name("00000099.json").write_text("{")
        before = number(client, 'ctrkit_model_loads_total{result="unreadable"}')
        until(lambda: number(client, 'ctrkit_model_loads_total{result="unreadable"}') > before + 1)
        newest.with_name("00000099.json").unlink()
        ctrkit.promote_model(second, registry=home)
        until(lambda: version_of(client) == second)


def test_a_version_that_campaigns_cannot_use_is_refused(
    home: Path, exports: dict[str, Path], tmp_path: Path
) -> None:
    first, *_ = exports
    campaign = {"name": "spring", "budget": 1, "auctions": 10, "strategy": "dual", "max_bid": 1}
    ledger = f"sqlite:{tmp_path / 'money.db'}"

    def refusal(**changed: Any) -> str:
        content = {"ledger": ledger, "campaigns": [{**campaign, **changed}]}
        (tmp_path / "campaigns.yaml").write_text(json.dumps(content))
        with served(home, campaigns=tmp_path / "campaigns.yaml") as (client, _):
            return str(client.get("/v1/model").json()["refused"].get(first, ""))

    assert refusal(value_of_click=1) == ""
    assert "values conversions, and the model predicts click alone" in refusal(value_of_conversion=1)
    ads = [{"adid": "a", "features": {"colour": "red"}}]
    assert "ad 'a' of campaign 'spring'" in refusal(value_of_click=1, ads=ads)


def test_a_model_that_the_online_store_does_not_know_is_refused(
    home: Path, exports: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "features.db").touch()
    first, *_ = exports
    settings = {"online": f"sqlite:{tmp_path / 'features.db'}", "user_key": "user_id"}
    with served(home, **settings) as (client, _):
        assert first in client.get("/v1/model").json()["refused"]
        assert client.get("/readyz").status_code == 503


def test_users_of_a_trial_keep_their_version(
    home: Path, exports: dict[str, Path], wanted: dict[str, list[float]], tmp_path: Path
) -> None:
    first, second, third = exports
    ctrkit.promote_model(second, registry=home, share=0.3)
    ctrkit.promote_model(third, registry=home, share=0.2)
    arms = ctrkit.list_versions(home).state.assignment.arms(pl.Series([f"u{n}" for n in range(60)]))
    assert arms.drop_nulls().n_unique() == 2
    with served(home, journal=tmp_path / "journal") as (client, _):
        roles = {one["version"]: one["role"] for one in client.get("/v1/model").json()["models"]}
        assert roles == {first: "live", second: "candidate", third: "candidate"}
        for user, arm in enumerate(arms):
            reply = client.post(
                "/v1/score", json={**BODY, "user": f"u{user}", "request_id": f"r{user}"}
            ).json()
            assert reply["model"]["version"] == (arm or first)
            np.testing.assert_allclose(reply["scores"]["click"], wanted[arm or first], atol=1e-6)
        assert version_of(client) == first  # without a user
    decisions = Reader(tmp_path / "journal", DECISIONS, Decision)
    decided = {one.request_id: (one.version, one.arm) for one in decisions}
    for user, arm in enumerate(arms):
        assert decided[f"r{user}"] == ((first, "live") if arm is None else (arm, "candidate"))


def test_a_trial_of_a_version_that_is_refused_is_served_by_the_live_one(
    home: Path, exports: dict[str, Path]
) -> None:
    first, second, _ = exports
    damaged(home / "versions" / second, "rows.onnx", "missing")
    ctrkit.promote_model(second, registry=home, share=1)
    with served(home) as (client, _):
        assert version_of(client, user="anyone") == first


def test_the_shadow_scores_what_another_has_decided(
    home: Path, exports: dict[str, Path], wanted: dict[str, list[float]], tmp_path: Path
) -> None:
    first, second, _ = exports
    ctrkit.promote_model(second, registry=home, shadow=True)
    done = f'ctrkit_shadow_requests_total{{result="scored",version="{second}"}}'
    with served(home, journal=tmp_path / "journal") as (client, _):
        for place in range(5):
            reply = client.post("/v1/score", json={**BODY, "request_id": f"r{place}"}).json()
            assert reply["model"]["version"] == first
            until(lambda place=place: number(client, done) == place + 1)
        difference = f'ctrkit_shadow_difference_sum{{task="click",version="{second}"}}'
        apart = np.abs(np.array(wanted[second]) - wanted[first]).sum()
        assert number(client, difference) == pytest.approx(5 * apart, rel=1e-5)
        ctrkit.rollback_model(second, registry=home)
        until(lambda: len(client.get("/v1/model").json()["models"]) == 1)
        version_of(client)
        assert number(client, done) == 5
    assert {one.version for one in Reader(tmp_path / "journal", DECISIONS, Decision)} == {first}
    shadows = [*Reader(tmp_path / "journal", SHADOWS, Shadow)]
    assert [one.request_id for one in shadows] == [f"r{place}" for place in range(5)]
    for entry in shadows:
        assert entry.version == second
        np.testing.assert_allclose(entry.outputs["click"], wanted[second], atol=1e-6)


def test_two_versions_fill_one_list(
    home: Path, exports: dict[str, Path], wanted: dict[str, list[float]], tmp_path: Path
) -> None:
    first, second, _ = exports
    ctrkit.promote_model(second, registry=home, interleave=True)
    assert ctrkit.list_versions(home).state.roles[second] == "interleaved"
    with served(home, journal=tmp_path / "journal") as (client, _):
        roles = {one["version"]: one["role"] for one in client.get("/v1/model").json()["models"]}
        assert roles == {first: "live", second: "interleaved"}
        for place in range(30):
            body = {**BODY, "request_id": f"r{place}"}
            reply = client.post("/v1/score", json=body).json()
            assert client.post("/v1/score", json=body).json() == reply
            assert reply["model"]["version"] == first
            assert sorted(reply["ranking"]) == [*range(len(wanted[first]))]
            seen = {"request_id": f"r{place}", "candidate": reply["ranking"][0]}
            events = [
                {"event_id": f"{kind}{place}", "kind": kind, **seen} for kind in ("impression", "click")
            ]
            client.post("/v1/feedback", json=events)
    log = tmp_path / "log.parquet"
    found = ctrkit.join_feedback(tmp_path / "journal", out=log, rows="impressions")
    picked = pl.read_parquet(log)
    assert picked["rank"].to_list() == [1] * 30
    best = {version: int(np.argmax(wanted[version])) for version in (first, second)}
    for one in Reader(tmp_path / "journal", DECISIONS, Decision):
        assert one.interleaved is not None
        assert one.interleaved.order[0] == best[one.interleaved.versions[0]]
    wins = int((picked["picked_by"] == second).sum())
    told = found.preferences[first, second]
    assert 5 < wins < 25
    assert (told.wins, told.losses, told.ties) == (wins, 30 - wins, 0)
    assert second in str(found.tables)


def test_a_shadow_that_fails_disturbs_nothing(home: Path, exports: dict[str, Path]) -> None:
    first, second, _ = exports
    ctrkit.promote_model(second, registry=home, shadow=True)
    with served(home) as (client, service):
        shadow = service.models.shadow()
        assert shadow is not None

        def failing(*_: object) -> None:
            raise RuntimeError("no")

        shadow.score = failing  # type: ignore[assignment]
        assert version_of(client) == first
        failed = f'ctrkit_shadow_requests_total{{result="failed",version="{second}"}}'
        until(lambda: number(client, failed) == 1)
        assert version_of(client) == first


def test_a_model_alone_is_checked_on_its_batch_too(tmp_path: Path) -> None:
    line_export(tmp_path / "spoilt", 0.5, spoilt=1e-3)
    with pytest.raises(ArtifactError, match="differ from those of the export"):
        load(ServeConfig(), None, tmp_path / "spoilt")
