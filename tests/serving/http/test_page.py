"""The page at `/`, in a browser and by its two routes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import ctrkit
from ctrkit.serving.bundle import Bundle
from ctrkit.serving.http.config import ServeConfig
from ctrkit.serving.http.described import example_row
from ctrkit.serving.http.state import quantile
from tests.serving.http.conftest import running, service_of

CHROMIUM = shutil.which("chromium")
TOKEN = "a-long-secret-token"


def test_attributions_are_differences_from_rows_without_a_feature(
    client: httpx.Client, model: ctrkit.Model, bundle: Bundle
) -> None:
    row = example_row(bundle.encoder)
    found = client.post("/v1/explain", json={"row": row}).json()
    names = [one["feature"] for one in found["attributions"]]
    sequences = [one.name for one in model.spec.sequences]
    assert {*names} == {*row} - {*sequences} | {"past events"}
    changes = [abs(one["changes"]["click"]) for one in found["attributions"]]
    assert changes == sorted(changes, reverse=True)
    by_name = {one["feature"]: one["changes"] for one in found["attributions"]}
    for left, feature in ((["device"], "device"), (["ad_price"], "ad_price"), (sequences, "past events")):
        reply = client.post(
            "/invocations", json={"inputs": [{n: v for n, v in row.items() if n not in left}]}
        )
        [without] = reply.json()["predictions"]
        for task, p in found["scores"].items():
            assert by_name[feature][task] == pytest.approx(p - without[task], abs=2e-6)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "row"),
        ({"row": {"nonsense": 1}}, "nonsense"),
        ({"row": {"ad_price": "cheap"}}, "ad_price[0]"),
        ({"row": {"history_ads": [1, "a", 0.5]}}, "row"),
    ],
)
def test_a_faulty_row_is_refused(client: httpx.Client, body: dict[str, Any], path: str) -> None:
    reply = client.post("/v1/explain", json=body)
    assert reply.status_code == 422, reply.text
    assert reply.json()["error"]["path"] == path


def test_the_state_is_that_of_the_metrics(bundle: Bundle) -> None:
    service = service_of(bundle)
    with running(service) as client:
        client.post("/invocations", json={"inputs": [example_row(bundle.encoder), {}]})
        client.post("/invocations", json={})
        service.metrics.outcome(bundle.known["version"], "click", predicted=0.5, observed=1.0)
        found = client.get("/v1/state").json()
    [route] = found["state"]["routes"]
    assert (route["route"], route["requests"], route["refused"], route["failed"]) == ("/invocations", 2, 1, 0)
    assert 0 < route["p50"] <= route["p95"] <= route["p99"] < 10
    click = found["state"]["tasks"][0]
    assert (click["task"], click["predictions"]) == ("click", 2)
    assert click["pcoc"] == {bundle.known["version"]: 0.5}
    assert found["state"]["drift"][0]["difference"] > 0
    assert found["example"] == example_row(bundle.encoder)


def test_quantiles_of_buckets() -> None:
    values = np.random.default_rng(0).exponential(0.05, 5000)
    edges = [*np.linspace(0.005, 0.5, 100), np.inf]
    bounds = [(float(edge), float((values <= edge).sum())) for edge in edges]
    for share in (0.1, 0.5, 0.99):
        assert quantile(bounds, share) == pytest.approx(np.quantile(values, share), abs=0.005)
    assert quantile([(1.0, 0.0), (np.inf, 5.0)], 0.5) == 1.0
    assert quantile([(1.0, 0.0), (np.inf, 0.0)], 0.5) is None
    assert quantile([], 0.5) is None


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    if CHROMIUM is None or shutil.which("chromedriver") is None:
        pytest.skip("there is no Chromium")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "window-size=390,844",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    driver.implicitly_wait(5)
    try:
        yield driver
    finally:
        driver.quit()


@pytest.mark.slow
def test_a_person_sees_the_state_and_why_a_row_has_its_score(
    bundle: Bundle, browser: Any, tmp_path: Path
) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    (tmp_path / "tokens").write_text(f"me:admin,score:{TOKEN}\n")
    wait = WebDriverWait(browser, 10)
    with running(service_of(bundle, ServeConfig(tokens=tmp_path / "tokens"))) as client:
        browser.get(str(client.base_url))
        token = browser.find_element(By.ID, "token")
        assert not browser.find_element(By.TAG_NAME, "main").is_displayed()
        token.send_keys("nonsense")
        browser.find_element(By.CSS_SELECTOR, "#access button").click()
        wait.until(lambda _: "not known" in browser.find_element(By.ID, "said").text)
        token.clear()
        token.send_keys(TOKEN)
        browser.find_element(By.CSS_SELECTOR, "#access button").click()
        wait.until(lambda _: browser.find_element(By.TAG_NAME, "main").is_displayed())
        assert bundle.known["version"] in browser.find_element(By.ID, "model").text
        button = browser.find_element(By.CSS_SELECTOR, "#row button")
        button.click()
        wait.until(lambda _: browser.find_element(By.ID, "answer").is_displayed())
        text = browser.find_element(By.ID, "why").text
        assert "past events" in text
        assert "ad_price" in text
        price = browser.find_element(By.NAME, "ad_price")
        price.clear()
        price.send_keys("cheap")
        button.click()
        wait.until(lambda _: "ad_price" in browser.find_element(By.ID, "fault").text)
        assert not browser.find_element(By.ID, "answer").is_displayed()
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        assert wide <= browser.execute_script("return window.innerWidth")
        asked = [
            one["message"] for one in browser.get_log("performance") if "requestWillBeSent" in one["message"]
        ]
        assert asked
        assert all(
            str(client.base_url) in one or '"url":"data:' in one for one in asked if '"request":' in one
        )
        faults = [
            one
            for one in browser.get_log("browser")
            if " 401 " not in one["message"] and " 422 " not in one["message"]
        ]
        assert not faults
