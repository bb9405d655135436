"""Shared by all tests: one thread a worker, and a small market to run the road on."""

from __future__ import annotations

import os

# Two test workers with two threads each on two cores wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import fcntl
import gc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]

# How long a busy machine takes to draw an example is no fault of a test. `make tests-properties` draws more.
settings.register_profile(
    "quick", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=100)
settings.load_profile("quick")

# A model small enough to train in seconds, on the sample logs' features.
SMALL = (
    "model.embedding=4",
    "model.width=8",
    "model.heads.towers=[8]",
    "model.history.encoder.blocks=1",
    "model.history.encoder.state=4",
    "training.epochs=2",
    "training.batch_size=256",
    "training.optimizer.learning_rate=0.005",
)


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small logs of a small market: impressions.parquet, bandit.parquet, auctions.parquet."""
    from ctrkit.data.synthetic import Market
    from ctrkit.tables import write_table

    folder = tmp_path_factory.mktemp("logs")
    market = Market(seed=3, users=300, ads=40, advertisers=8)
    write_table(market.impressions(12_000), folder / "impressions.parquet")
    write_table(market.bandit_log(3000), folder / "bandit.parquet")
    write_table(market.auction_log(3000), folder / "auctions.parquet")
    return folder


@pytest.fixture(scope="session")
def small() -> tuple[str, ...]:
    """Overrides that make the sample config's model small and its training short."""
    return SMALL


@pytest.fixture(scope="session")
def trained(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated artifact trained on the small logs; copy it before changing it."""
    import ctrkit
    from ctrkit.calibration import CalibrationWarning

    folder = tmp_path_factory.mktemp("trained")
    model = folder / "model.pt"
    ctrkit.train(data=logs / "impressions.parquet", model=model, out=folder / "train", overrides=SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)  # conversions are few in so small a log
        ctrkit.calibrate(model, out=folder / "calibrate", overrides=["method=platt"])
    return model


@pytest.fixture(autouse=True, scope="session")
def _no_wait_for_disks() -> Iterator[None]:
    """A file that a test writes need not outlive the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The first of several workers compiles a loop, and the others wait to find it in the cache."""
    from ctrkit import compiled

    compile_, place = compiled._compile, tmp_path_factory.getbasetemp().parent

    def alone(signature: Any, function: Any, version: str, options: Any) -> Any:
        with open(place / f"{function.__module__}.{function.__name__}.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return compile_(signature, function, version, options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "_compile", alone)
        yield


def pytest_collection_finish() -> None:
    """What is there before the first test stays there: nobody need look through it for garbage again."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest test comes first, so that other workers do not wait for it at the end."""
    items.sort(key=lambda item: "test_pages_show_what_commands_print" not in item.name)
