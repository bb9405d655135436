"""How often intervals hold the truth of a log of which rows were dropped at random: `p_drop` tells how many.

    python benchmarks/ope_thinned.py [DRAWS]

Three actions, a logging and a new policy that read no context, and logs of which one row in ten without a
reward is kept, or one row in five of all. For each interval and estimator: how often it holds the policy's
value, and its width over that value.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from ctrkit.ope import LoggedRows
from ctrkit.ope.estimators.interval_methods import INTERVALS, make_interval_method
from ctrkit.ope.estimators.registry import make_estimator

LOGGING, POLICY = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
RARE, COMMON = np.array([0.01, 0.015, 0.03]), np.array([0.2, 0.1, 0.3])
# Reward rates of the actions, decisions, and the shares of rows that are kept without and with a reward.
PROBLEMS = {
    "rewards of 2 %, 5,000 decisions, a tenth of the rest kept": (RARE, 5000, (0.1, 1.0)),
    "rewards of 23 %, 1,500 decisions, a tenth of the rest kept": (COMMON, 1500, (0.1, 1.0)),
    "rewards of 2 %, 10,000 decisions, a fifth of all kept": (RARE, 10_000, (0.2, 0.2)),
}
ESTIMATORS = ("ips", "snips", "dr")


def thinned(
    rates: NDArray[np.float64], decisions: int, kept: tuple[float, float], random: np.random.Generator
) -> LoggedRows:
    """The rows that are left, and how many decisions each stands for."""
    action = random.choice(3, decisions, p=LOGGING)
    reward = (random.random(decisions) < rates[action]).astype(np.float64)
    share = np.array(kept)[reward.astype(int)]
    here = random.random(decisions) < share
    action, reward, share = action[here], reward[here], share[here]
    model = 0.7 * rates
    return LoggedRows(
        (POLICY / LOGGING)[action],
        reward,
        float((POLICY / LOGGING).max()),
        model[action],
        np.full(len(action), POLICY @ model),
        units=np.arange(len(action)).astype(np.uint64),
        counts=1 / share,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="how often intervals hold the truth of a thinned log")
    parser.add_argument("draws", type=int, nargs="?", default=1000)
    draws = parser.parse_args().draws
    for name, (rates, decisions, kept) in PROBLEMS.items():
        truth, logging = float(POLICY @ rates), float(LOGGING @ rates)
        held, differences, missed, width = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
        for draw in range(draws):
            rows = thinned(rates, decisions, kept, np.random.default_rng([1, draw]))
            for method in INTERVALS:
                for spec in ESTIMATORS:
                    estimator = make_estimator(spec, (0.0, 1.0))
                    estimator.method = make_interval_method(method, (0.0, 1.0))
                    estimator.update(rows)
                    found = estimator.result()
                    key, difference = f"{method:20} {spec:6}", found.difference_interval
                    held[key] += found.interval.low <= truth <= found.interval.high
                    differences[key] += difference.low <= truth - logging <= difference.high
                    missed[key] += found.interval.missed or difference.missed
                    width[key] += found.interval.high - found.interval.low  # type: ignore[assignment]
        print(f"{name}; {draws} draws")
        for key in held:
            print(
                f"  {key} value {held[key] / draws:.1%}, difference {differences[key] / draws:.1%}, "
                f"width {width[key] / draws / truth:.2f}, left out its estimate {missed[key]}"
            )


if __name__ == "__main__":
    main()
