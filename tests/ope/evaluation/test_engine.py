"""The engines: the same sums from a Ray cluster of two workers as from this process, whoever dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ctrkit.errors import ConfigError, DataError
from ctrkit.ope import evaluate, log_parts
from ctrkit.ope.evaluation.engine import Engine, LocalEngine, RayEngine, make_engine
from ctrkit.policies import Policy, SoftmaxPolicy, UniformPolicy, candidate_mask
from tests.ope.evaluation.test_parts import rates, same, small, table, write

__all__ = ["small"]  # a fixture


@pytest.fixture(scope="module")
def ray_engine() -> Iterator[Engine]:
    ray = pytest.importorskip("ray")
    yield RayEngine(workers=2)
    ray.shutdown()


class Slow(Policy):
    """Uniform, and tells which process it runs in."""

    name = "slow"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def probabilities(self, context: pl.DataFrame, candidates: pl.Series) -> np.ndarray:
        (self.folder / str(os.getpid())).touch()
        time.sleep(0.5)
        mask = candidate_mask(candidates)
        return mask / mask.sum(axis=1, keepdims=True)


@pytest.mark.slow
@pytest.mark.parametrize("users", [None, 400])
def test_ray_gives_what_one_process_gives(
    tmp_path: Path, small: None, ray_engine: Engine, users: int | None
) -> None:
    parts = log_parts(write(tmp_path, table(users=users)))
    assert len(parts) == 4
    policies = [SoftmaxPolicy(rates, 0.1), UniformPolicy(), "target_probability"]
    told: list[int] = []
    local = evaluate(parts, policies, ["ips", "snips", "dr"], engine=LocalEngine())
    spread = evaluate(
        parts, policies, ["ips", "snips", "dr"], engine=ray_engine, on_step=lambda n, *_: told.append(n)
    )
    same(local.to_dict(), spread.to_dict())
    for one, two in zip(local.policies, spread.policies, strict=True):
        for a, b in zip(one.estimates, two.estimates, strict=True):
            assert a.value == pytest.approx(b.value, rel=1e-12)
    assert told[-1] == sum(part.rows for part in parts)


@pytest.mark.slow
def test_a_killed_worker_is_replaced(tmp_path: Path, small: None, ray_engine: Engine) -> None:
    parts = log_parts(write(tmp_path, table()))
    seen = tmp_path / "workers"
    seen.mkdir()
    killed: list[int] = []

    def kill() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until and not killed:
            # The file's name is the id of a worker that the engine started.
            for file in seen.iterdir():
                if int(file.name) != os.getpid():
                    os.kill(int(file.name), signal.SIGKILL)
                    killed.append(int(file.name))
                    return
            time.sleep(0.01)

    thread = threading.Thread(target=kill)
    thread.start()
    found = evaluate(parts, [Slow(seen)], ["ips"], engine=ray_engine)
    thread.join()
    assert killed
    assert len(list(seen.iterdir())) >= 2
    expected = evaluate(parts, [UniformPolicy()], ["ips"])
    same(found.to_dict()["policies"][0]["estimates"], expected.to_dict()["policies"][0]["estimates"])


@pytest.mark.slow
def test_errors_of_workers_are_those_of_one_process(tmp_path: Path, small: None, ray_engine: Engine) -> None:
    names = write(tmp_path, table().with_columns(propensity=pl.lit(0.0)))
    with pytest.raises(DataError) as caught:
        evaluate(log_parts(names), ["target_probability"], ["ips"], engine=ray_engine)
    assert (caught.value.file, caught.value.column, caught.value.row) == (names[0], "propensity", 0)
    assert str(caught.value).count(names[0]) == 1


def test_unknown_engine() -> None:
    assert isinstance(make_engine("local"), LocalEngine)
    with pytest.raises(ConfigError, match="Did you mean 'local'"):
        make_engine("locale")
