"""Off-policy evaluation beside obp, on the same rows: processor time, memory, and that the values agree.

    python benchmarks/ope.py beside-obp          1 M rows, 80 actions, six estimators with intervals
    python benchmarks/ope.py weights             100 M rows of which the weights are given

obp takes all probabilities and predictions at once, `[rows, actions]` each; ctrkit takes them block by block,
as a policy and a reward model give them, and keeps sums. Each library runs in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
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
    runs = {name: [_run(name, rows, actions) for _ in range(repetitions)] for name in ("ctrkit", "obp")}
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
    """IPS and SNIPS of a log that comes in parts, with the weights given."""
    from ctrkit.ope import LoggedRows
    from ctrkit.ope.registry import ESTIMATORS as REGISTRY

    estimators = [REGISTRY[name]((0.0, 1.0)) for name in ("ips", "snips")]
    begun = time.process_time()
    size = 1_000_000
    for part in range(0, rows, size):
        random = np.random.default_rng([3, part])
        weight = random.exponential(size=size)
        reward = (random.random(size) < 0.004).astype(np.float64)
        for estimator in estimators:
            estimator.update(LoggedRows(weight, reward, float(weight.max())))
    shown = Table("estimator", "value", "low", "high")
    for estimator in estimators:
        found = estimator.result()
        numbers = (found.value, found.interval.low, found.interval.high)
        shown.add_row(found.estimator, *(f"{number:.6f}" for number in numbers))
    console.print(shown)
    spent = time.process_time() - begun
    console.print(f"{rows:,} rows: {spent:.1f} s of processor, {_peak():,.0f} MB at most")


def _run(library: str, rows: int, actions: int) -> dict[str, Any]:
    """One library in a process of its own."""
    code = f"import json, ope; print(json.dumps(ope.of_{library}({rows}, {actions})))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, check=True, capture_output=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def of_ctrkit(rows: int, actions: int) -> dict[str, Any]:
    """Block by block; making the blocks does not count."""
    from ctrkit.ope import LoggedRows
    from ctrkit.ope.registry import make_estimator

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
