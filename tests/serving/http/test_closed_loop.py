"""From a server to its feedback, to the value of another policy, to a better model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.serving.bundle import Bundle
from ctrkit.serving.choosing import Chooser
from ctrkit.serving.feedback.journal import Journals
from ctrkit.serving.http.config import ServeConfig
from tests.serving.http.conftest import running, service_of

REQUESTS, DEVICES, HOURS = 1500, ["mobile", "desktop"], [3, 20]


def truth(ads: pl.Series, device: str, hour: int) -> np.ndarray:
    """The law by which users click, which is not that of the logs that the first model has learnt from."""
    odds = -1.5 + (ads.to_numpy() % 4) * (0.8 if device == "mobile" else -0.4) + (hour == 20)
    return np.asarray(1 / (1 + np.exp(-odds)))


@pytest.mark.slow
def test_the_loop_closes(bundle: Bundle, model: ctrkit.Model, rows: pl.DataFrame, tmp_path: Path) -> None:
    rng, service = (
        np.random.default_rng(0),
        service_of(bundle, ServeConfig(time_limit=10, log_requests=False)),
    )
    service.journal, service.chooser = Journals(tmp_path / "journal"), Chooser.of("softmax:temperature=3")
    ads = rows.unique("ad_id", maintain_order=True).select(
        "ad_id", "ad_category", "ad_advertiser", "ad_price"
    )
    uniform = []
    with running(service) as client:
        for place in range(REQUESTS):
            device, hour = str(rng.choice(DEVICES)), int(rng.choice(HOURS))
            some = ads.sample(4, seed=place)
            chances = truth(some["ad_id"], device, hour)
            uniform.append(chances.mean())
            body = {
                "request_id": f"r{place}",
                "context": {"device": device, "hour": hour},
                "candidates": some.to_dicts(),
            }
            chosen = client.post("/v1/score", json=body).json()["choice"]["index"]
            if rng.random() < chances[chosen]:
                event = {"event_id": f"e{place}", "request_id": f"r{place}", "kind": "click"}
                assert client.post("/v1/feedback", json=event).status_code == 200
    # What the uniform policy would have earned.
    log = tmp_path / "log.parquet"
    ctrkit.join_feedback(tmp_path / "journal", out=log)
    [policy] = ctrkit.evaluate_policy(log, ["uniform"], estimators=["snips"]).evaluation.policies
    [estimate] = policy.estimates
    assert estimate.interval.low < np.mean(uniform) < estimate.interval.high
    # A model of what was shown knows the new law, and the one that has served does not.
    shown = tmp_path / "shown.parquet"
    assert ctrkit.join_feedback(tmp_path / "journal", out=shown, rows="impressions").rows == REQUESTS
    features = {
        "timestamp": "timestamp",
        "labels": {"click": "click"},
        "categorical": [{"name": "ad_id"}, {"name": "device"}, {"name": "hour"}],
    }
    learnt = ctrkit.train(
        {"features": features, "model": {"name": "deepfm"}},
        shown, model=tmp_path / "new.pt", out=tmp_path / "run",
    )  # fmt: skip
    later = pl.read_parquet(shown)[-REQUESTS // 10 :]  # test rows of the training
    told = later.select("ad_id", "device", "hour").iter_rows()
    chances = np.array([truth(pl.Series([ad]), device, hour)[0] for ad, device, hour in told])

    def excess(found: pl.Series) -> float:
        """Log loss above that of the law, by the law's probabilities."""
        ratios = chances * np.log(chances / found) + (1 - chances) * np.log((1 - chances) / (1 - found))
        return float(ratios.mean())

    assert excess(ctrkit.load(learnt.model).predict(later)["click"]) < excess(later["served_click"]) / 3
