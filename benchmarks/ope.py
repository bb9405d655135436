"""Off-policy evaluation beside obp, on the same rows: processor time, memory, and that the values agree.

    python benchmarks/ope.py beside-obp          1 M rows, 80 actions, six estimators with intervals
    python benchmarks/ope.py weights             100 M rows of parquet with the policy's probability given
    python benchmarks/ope.py ray                 such a log by one process and by a cluster of two workers
    python benchmarks/ope.py users               1 M rows of 50,000 users, four policies

obp takes all probabilities and predictions at once, `[rows, actions]` each; ctrkit takes them block by block,
as a policy and a reward model give them, and keeps sums. Each library runs in a process of its own, and so
does what reads a log of parquet files, so that writing it does not count.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import polars as pl
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

Floats = NDArray[np.float64]

# name in ctrkit -> class of obp and its settings.
ESTIMATORS: dict[str, tuple[str, dict[str, float]]] = {
    "ips": ("InverseProbabilityWeighting", {}),
    "snips": ("SelfNormalizedInverseProbabilityWeighting", {}),
    "dm": ("DirectMethod", {}),
    "dr": ("DoublyRobust", {}),
    "switch-dr:tau=10": ("SwitchDoublyRobust", {"lambda_": 10.0}),
    "dr-os:lambda=10": ("DoublyRobustWithShrinkage", {"lambda_": 10.0}),
}
BLOCK = 50_000
# Rows of a parquet file, of its row groups, and of an action's rows how many are clicked.
FILE, GROUP, CLICK_RATE = 5_000_000, 1_000_000, 0.004
LOGGED_ACTIONS = 80
WORKERS = 2
TARGETS = ("target_probability", *(f"target_{number}" for number in range(2, 10)))

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
console = Console()


class Block(NamedTuple):
    """Some rows of a log, with what a policy and a reward model say of all actions, `[B, A]` each."""

    action: NDArray[np.int64]
    propensity: Floats
    reward: Floats
    policy: Floats
    q: Floats


def blocks(rows: int, actions: int) -> Iterator[Block]:
    """A uniform logger and a softmax policy at a click rate of some percent."""
    for start in range(0, rows, BLOCK):
        random = np.random.default_rng([7, start])
        size = min(BLOCK, rows - start)
        score = random.normal(size=(size, actions))
        policy = np.exp(2 * score)
        policy /= policy.sum(axis=1, keepdims=True)
        q = 0.02 + 0.02 / (1 + np.exp(-score))
        action = random.integers(0, actions, size)
        reward = (random.random(size) < q[np.arange(size), action]).astype(np.float64)
        yield Block(action, np.full(size, 1 / actions), reward, policy, q)


@app.callback()
def main() -> None:
    """Measurements of off-policy evaluation."""


@app.command("beside-obp")
def beside_obp(
    rows: int = 1_000_000,
    actions: int = 80,
    repetitions: Annotated[int, typer.Option(help="Of which the least processor time is shown.")] = 2,
) -> None:
    """Six estimators with intervals; obp's are bootstrapped 100 times, as it does unasked."""
    runs = {
        name: [_run(f"of_{name}({rows}, {actions})") for _ in range(repetitions)]
        for name in ("ctrkit", "obp")
    }
    best = {name: min(found, key=lambda one: one["cpu"]) for name, found in runs.items()}
    shown = Table("library", "processor, s", "peak memory, MB", title=f"{rows:,} rows, {actions} actions")
    for name, one in best.items():
        shown.add_row(name, f"{one['cpu']:.2f}", f"{one['memory']:,.0f}")
    own, peer = best["ctrkit"], best["obp"]
    shown.add_row(
        "obp over ctrkit", f"{peer['cpu'] / own['cpu']:.1f} x", f"{peer['memory'] / own['memory']:.1f} x"
    )
    console.print(shown)
    values = Table("estimator", "ctrkit", "obp", "difference")
    for estimator in ESTIMATORS:
        ours, theirs = own["values"][estimator], peer["values"][estimator]
        values.add_row(estimator, f"{ours:.6f}", f"{theirs:.6f}", f"{abs(ours - theirs):.1e}")
    console.print(values)


@app.command()
def weights(rows: int = 100_000_000) -> None:
    """`ips` and `snips` of a log of any length, read from parquet as `ctrkit ope` reads it."""
    with _log(rows) as folder:
        found = _run(f"of_log({str(folder)!r}, 'local')")
    shown = Table("estimator", "value", "low", "high", title=f"{rows:,} rows, a probability each")
    for name, numbers in found["estimates"].items():
        shown.add_row(name, *(f"{number:.6f}" for number in numbers))
    console.print(shown)
    speed = rows / found["seconds"]
    console.print(f"{found['seconds']:.1f} s, {found['cpu']:.1f} s of processor, {speed:,.0f} rows a second")
    console.print(f"{found['memory']:,.0f} MB at most, of which {found['before']:,.0f} MB before the log")


@app.command()
def ray(rows: int = 10_000_000) -> None:
    """The same log by one process, and by a cluster of two workers on this machine."""
    with _log(rows) as folder:
        found = {engine: _run(f"of_log({str(folder)!r}, {engine!r})") for engine in ("local", "ray")}
    shown = Table("engine", "seconds", "rows a second", title=f"{rows:,} rows, {WORKERS} workers")
    for engine, one in found.items():
        shown.add_row(engine, f"{one['seconds']:.1f}", f"{rows / one['seconds']:,.0f}")
    console.print(shown)
    local, spread = (np.array(list(one["estimates"].values())) for one in found.values())
    farthest = float(np.abs(spread / local - 1).max())
    console.print(f"largest difference of a value or bound: {farthest:.1e} of itself")


@app.command()
def users(rows: int = 1_000_000, number: int = 50_000, policies: int = 4) -> None:
    """Time and memory of a log whose rows go together by user, and of the same rows taken for themselves."""
    with _log(rows, number, policies) as folder:
        found = {
            unit: _run(f"of_log({str(folder)!r}, 'local', {policies}, {unit!r})")
            for unit in ("user_id", "row")
        }
    shown = Table(
        "units", "CPU s", "MB at most", title=f"{rows:,} rows, {number:,} users, {policies} policies"
    )
    for unit, one in found.items():
        shown.add_row(unit, f"{one['cpu']:.2f}", f"{one['memory'] - one['before']:,.0f}")
    console.print(shown)


@contextmanager
def _log(rows: int, users: int = 0, policies: int = 1) -> Iterator[Path]:
    """A folder of parquet files with a log, written part by part: a logger that leans to some of 80 actions,
    and policies' probabilities of the logged action, near the logger's and up to some ten times as large."""
    with tempfile.TemporaryDirectory() as scratch:
        for number, start in enumerate(range(0, rows, FILE)):
            random = np.random.default_rng([3, number])
            size = min(FILE, rows - start)
            logging = random.uniform(0.5, 1.5, size) / LOGGED_ACTIONS
            part = pl.DataFrame(
                {
                    "timestamp": 1.7e9 + (start + np.arange(size)) / 100,
                    "action": random.integers(0, LOGGED_ACTIONS, size).astype(np.int16),
                    "propensity": logging,
                    "reward": (random.random(size) < CLICK_RATE).astype(np.int8),
                    **{
                        name: np.minimum(logging * random.exponential(size=size), 1.0)
                        for name in TARGETS[:policies]
                    },
                    **({"user_id": random.integers(0, users, size)} if users else {}),
                }
            )
            part.write_parquet(Path(scratch) / f"log_{number:03}.parquet", row_group_size=GROUP)
        yield Path(scratch)


def _run(call: str) -> dict[str, Any]:
    """What a function of this file returns in a process of its own."""
    code = f"import json, ope; print(json.dumps(ope.{call}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def of_log(folder: str, engine: str, policies: int = 1, cluster_by: str | None = None) -> dict[str, Any]:
    """Read and evaluate a log; starting the engine does not count."""
    from ctrkit.ope import evaluate, log_parts
    from ctrkit.ope.evaluation.engine import LocalEngine, RayEngine

    before = _peak()
    worked_by = RayEngine(WORKERS) if engine == "ray" else LocalEngine()
    if engine == "ray":
        # Workers import what they need when they first get work.
        evaluate(
            log_parts(f"{folder}/*.parquet")[:WORKERS], ["target_probability"], ["ips"], engine=worked_by
        )
    begun, cpu = time.perf_counter(), time.process_time()
    parts = log_parts(f"{folder}/*.parquet", cluster_by=cluster_by)
    policy, *_ = evaluate(parts, TARGETS[:policies], ["ips", "snips"], engine=worked_by).policies
    return {
        "seconds": time.perf_counter() - begun,
        "cpu": time.process_time() - cpu,
        "memory": _peak(),
        "before": before,
        "estimates": {
            one.estimator: [one.value, one.interval.low, one.interval.high] for one in policy.estimates
        },
    }


def of_ctrkit(rows: int, actions: int) -> dict[str, Any]:
    """Block by block; making the blocks does not count."""
    from ctrkit.ope import LoggedRows
    from ctrkit.ope.estimators.registry import make_estimator

    estimators = {name: make_estimator(name, (0.0, 1.0)) for name in ESTIMATORS}
    spent = 0.0
    for block in blocks(rows, actions):
        begun = time.process_time()
        place = np.arange(len(block.action))
        weight = block.policy[place, block.action] / block.propensity
        logged = LoggedRows(
            weight,
            block.reward,
            float(weight.max()),
            block.q[place, block.action],
            np.einsum("ba,ba->b", block.policy, block.q),
            counts=np.ones(len(weight)),
        )
        for estimator in estimators.values():
            estimator.update(logged)
        spent += time.process_time() - begun
    begun = time.process_time()
    values = {name: estimator.result().value for name, estimator in estimators.items()}
    return {"cpu": spent + time.process_time() - begun, "memory": _peak(), "values": values}


def of_obp(rows: int, actions: int) -> dict[str, Any]:
    """All at once, as obp takes it; making the inputs does not count for time, and does for memory."""
    from obp import ope

    parts = list(blocks(rows, actions))
    log = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("action", "reward", "propensity")
    }
    policy = np.concatenate([part.policy for part in parts])[:, :, None]
    q = np.concatenate([part.q for part in parts])[:, :, None]
    del parts
    given = {
        "reward": log["reward"],
        "action": log["action"],
        "pscore": log["propensity"],
        "action_dist": policy,
    }
    values, begun = {}, time.process_time()
    for name, (kind, settings) in ESTIMATORS.items():
        estimator = getattr(ope, kind)(**settings)
        inputs = dict(given, position=np.zeros(rows, dtype=int), estimated_rewards_by_reg_model=q)
        values[name] = float(estimator.estimate_policy_value(**inputs))
        estimator.estimate_interval(**inputs, n_bootstrap_samples=100, random_state=0)
    return {"cpu": time.process_time() - begun, "memory": _peak(), "values": values}


def _peak() -> float:
    """Megabytes of memory that the process has had at most; Linux only."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    app()
