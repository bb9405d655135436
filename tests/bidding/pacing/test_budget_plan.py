from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from ctrkit.bidding.pacing.budget_plan import BudgetPlan, PlanLimits, PlanLine, plan_budget
from ctrkit.bidding.pacing.response import ResponseCurve, auction_curve
from ctrkit.errors import ConfigError


def whole_number_lines(seed: int, campaigns: int = 2, hours: int = 2) -> list[PlanLine]:
    """Knots at whole spends, so that limits in whole numbers have a best plan in whole numbers."""
    rng = np.random.default_rng(seed)

    def curve() -> ResponseCurve:
        knots = np.concatenate(([0.0], np.cumsum(rng.integers(1, 4, 3))))
        slopes = np.sort(rng.uniform(0.1, 5, 3))[::-1]
        return ResponseCurve(knots, np.concatenate(([0.0], np.cumsum(slopes * np.diff(knots)))))

    return [PlanLine("abc"[c], h, curve()) for c in range(campaigns) for h in range(hours)]


def many_lines(seed: int, campaigns: int = 3, hours: int = 6) -> list[PlanLine]:
    rng = np.random.default_rng(seed)
    return [
        PlanLine(
            "abc"[c], h, auction_curve(rng.lognormal(c / 2, 1, 200), rng.lognormal(np.sin(h), 1, 200), 12)
        )
        for c in range(campaigns)
        for h in range(hours)
    ]


@pytest.mark.parametrize(
    "limits",
    [
        PlanLimits(9.0),
        PlanLimits(12.0, minimum={"a": 7}),
        PlanLimits(12.0, maximum={"a": 4}, minimum={"b": 3}),
        PlanLimits(12.0, hour_maximum=5.0),
        PlanLimits(9.0, maximum={"b": 5}, hour_maximum={1: 3.0}),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_no_plan_in_whole_numbers_is_worth_more(seed: int, limits: PlanLimits) -> None:
    lines = whole_number_lines(seed)
    best = -np.inf
    for spends in itertools.product(*(range(int(line.curve.largest_spend) + 1) for line in lines)):
        campaign, hour = {"a": 0, "b": 0}, {0: 0, 1: 0}
        for line, spend in zip(lines, spends, strict=True):
            campaign[line.campaign] += spend
            hour[line.hour] += spend
        caps = limits.hour_maximum
        caps = caps if isinstance(caps, dict) else dict.fromkeys(hour, np.inf if caps is None else caps)
        if (
            sum(spends) <= limits.budget
            and all(campaign[c] >= least for c, least in limits.minimum.items())
            and all(campaign[c] <= most for c, most in limits.maximum.items())
            and all(hour[h] <= most for h, most in caps.items())
        ):
            best = max(best, sum(float(ln.curve(s)) for ln, s in zip(lines, spends, strict=True)))
    plan = plan_budget(lines, limits)
    assert np.isfinite(best)
    assert plan.value == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("part", [0.02, 0.3, 0.8])
def test_without_other_limits_it_is_greedy_and_marginal_values_are_equal(part: float) -> None:
    lines = many_lines(0)
    budget = part * sum(line.curve.largest_spend for line in lines)
    # Greedy: buy the best pieces of all curves until the money is gone.
    pieces = sorted(
        ((s, w) for ln in lines for s, w in zip(ln.curve.slopes, np.diff(ln.curve.spend), strict=True)),
        reverse=True,
    )
    left, value, price = budget, 0.0, 0.0
    for slope, width in pieces:
        take = min(width, left)
        value, left, price = value + slope * take, left - take, slope
        if left <= 0:
            break
    plan = plan_budget(lines, PlanLimits(budget))
    assert plan.value == pytest.approx(value, rel=1e-9)
    assert plan.spend == pytest.approx(budget, rel=1e-9)
    assert plan.budget_price == pytest.approx(price, rel=1e-6)
    assert (plan.lines["marginal_value"].to_numpy() <= plan.budget_price * (1 + 1e-6)).all()
    for line, spend in zip(lines, plan.lines["spend"], strict=True):
        assert line.curve.marginal(spend * (1 - 1e-6) - 1e-9) >= plan.budget_price * (1 - 1e-6) or spend == 0
    assert [one.limit for one in plan.bindings] == [f"budget ({budget:g})"]


LIMITS = {
    "minimum": {"minimum": {"a": 900.0}},
    "share": {"minimum_share": {"a": 0.5, "b": 0.3}},
    "even": {"evenness": 0.1},
    "ramp": {"ramp": 0.15},
    "hours": {"hour_maximum": {2: 50.0, 3: 80.0}},
    "all": {
        "minimum": {"a": 400.0}, "maximum": {"c": 500.0}, "minimum_share": {"b": 0.2},
        "hour_maximum": 400.0, "evenness": 0.5, "ramp": 0.3,
    },
}  # fmt: skip


def by_epigraph(lines: list[PlanLine], limits: PlanLimits) -> float:
    """The plan's value by another program: values below all tangents of the curves, in SciPy."""
    n = len(lines)
    hours = sorted({line.hour for line in lines})
    rows: list[np.ndarray] = []
    bounds: list[float] = []

    def at_most(weights: np.ndarray, bound: float) -> None:
        rows.append(np.concatenate([weights, np.zeros(n)]))
        bounds.append(bound)

    for i, line in enumerate(lines):
        for slope, s, v in zip(line.curve.slopes, line.curve.spend, line.curve.value, strict=False):
            row = np.zeros(2 * n)
            row[i], row[n + i] = -slope, 1.0
            rows.append(row)
            bounds.append(v - slope * s)
    total = np.ones(n)
    campaign = {c: np.array([float(ln.campaign == c) for ln in lines]) for c in "abc"}
    hour = {h: np.array([float(ln.hour == h) for ln in lines]) for h in hours}
    at_most(total, limits.budget)
    for c, amount in limits.minimum.items():
        at_most(-campaign[c], -amount)
    for c, amount in limits.maximum.items():
        at_most(campaign[c], amount)
    for c, share in limits.minimum_share.items():
        at_most(share * total - campaign[c], 0)
    caps = limits.hour_maximum
    for h, cap in (caps if isinstance(caps, dict) else dict.fromkeys(hours, caps)).items():
        if cap is not None:
            at_most(hour[h], cap)
    mean = total / len(hours)
    for h in hours:
        if limits.evenness is not None:
            at_most(hour[h] - (1 + limits.evenness) * mean, 0)
            at_most((1 - limits.evenness) * mean - hour[h], 0)
        if limits.ramp is not None and h > hours[0]:
            at_most(hour[h] - hour[h - 1] - limits.ramp * mean, 0)
            at_most(hour[h - 1] - hour[h] - limits.ramp * mean, 0)
    box = [(0, ln.curve.largest_spend) for ln in lines] + [(None, None)] * n
    solved = linprog(np.repeat([0.0, -1.0], n), A_ub=np.array(rows), b_ub=bounds, bounds=box)
    assert solved.success
    return float(-solved.fun)


@pytest.mark.parametrize("given", LIMITS.values(), ids=LIMITS)
def test_every_limit_against_another_program(given: dict[str, object]) -> None:
    lines, limits = many_lines(1), PlanLimits(1500.0, **given)  # type: ignore[arg-type]
    plan = plan_budget(lines, limits)
    assert plan.value == pytest.approx(by_epigraph(lines, limits), rel=1e-7)
    assert plan.value < plan_budget(lines, PlanLimits(1500.0)).value
    assert_kept(plan, limits)


def assert_kept(plan: BudgetPlan, limits: PlanLimits) -> None:
    spend = dict(plan.by_campaign().select("campaign", "spend").rows())
    hours = plan.by_hour()["spend"].to_numpy()
    slack = 1e-6 * plan.spend
    assert plan.spend <= limits.budget + slack
    assert all(spend[c] >= least - slack for c, least in limits.minimum.items())
    assert all(spend[c] <= most + slack for c, most in limits.maximum.items())
    assert all(spend[c] >= share * plan.spend - slack for c, share in limits.minimum_share.items())
    if limits.evenness is not None:
        assert (np.abs(hours - hours.mean()) <= limits.evenness * hours.mean() + slack).all()
    if limits.ramp is not None:
        assert (np.abs(np.diff(hours)) <= limits.ramp * hours.mean() + slack).all()


def test_prices_are_what_loosening_a_limit_by_one_unit_adds() -> None:
    lines = many_lines(2)

    def worth(**changed: float) -> BudgetPlan:
        amount = {"budget": 1200.0, "a": 500.0, "c": 350.0, "hour": 200.0, **changed}
        return plan_budget(
            lines,
            PlanLimits(
                amount["budget"], {"a": amount["a"]}, {"c": amount["c"]}, hour_maximum={3: amount["hour"]}
            ),
        )

    plan = worth()
    prices = {one.limit.split(" (")[0]: one.price for one in plan.bindings}
    assert set(prices) == {"budget", "minimum of a", "maximum of c", "maximum of hour 3"}
    assert plan.budget_price == prices["budget"]
    for name, change, limit in (
        ("budget", 1.0, "budget"), ("a", -1.0, "minimum of a"), ("c", 1.0, "maximum of c"),
        ("hour", 1.0, "maximum of hour 3"),
    ):  # fmt: skip
        step = 0.01 * change
        now = {"budget": 1200.0, "a": 500.0, "c": 350.0, "hour": 200.0}[name]
        added = (worth(**{name: now + step}).value - plan.value) / 0.01
        assert added == pytest.approx(prices[limit], rel=1e-3)


def test_a_budget_above_all_there_is_to_buy_is_worth_nothing_more() -> None:
    lines = many_lines(3)
    plan = plan_budget(lines, PlanLimits(1e6))
    assert plan.spend == pytest.approx(sum(line.curve.largest_spend for line in lines))
    assert (plan.budget_price, plan.bindings) == (0.0, ())
    assert plan.by_hour()["share"].sum() == pytest.approx(1.0)


def test_campaigns_with_nothing_to_buy() -> None:
    nothing = ResponseCurve(np.zeros(1), np.zeros(1))
    plan = plan_budget([PlanLine("a", 0, nothing)], PlanLimits(5.0))
    assert (plan.spend, plan.value) == (0.0, 0.0)
    with pytest.raises(ConfigError, match="only 0 can be spent there"):
        plan_budget([PlanLine("a", 0, nothing)], PlanLimits(5.0, minimum={"a": 1.0}))


@pytest.mark.parametrize(
    ("limits", "said", "not_said"),
    [
        (
            {"minimum": {"a": 900.0, "b": 400.0}, "maximum": {"c": 10.0}},
            ["budget (1200), minimum of a (900), minimum of b (400)", "at least 1300"],
            "maximum",
        ),
        (
            {"minimum": {"a": 10.0}, "maximum": {"a": 5.0}, "ramp": 0.2},
            ["minimum of a (10), maximum of a (5)", "Loosen one"],
            "budget",
        ),
        ({"minimum": {"a": 1e6}}, ["minimum of a (1e+06) cannot be met", "only"], "budget"),
        ({"minimum": {"a": 300.0}, "hour_maximum": 20.0}, ["maximum of each hour (20)"], "budget"),
        ({"minimum": {"shoes": 1.0}}, ["no campaign 'shoes'"], "contradict"),
        ({"hour_maximum": {99: 1.0}}, ["no hour '99'"], "contradict"),
    ],
)  # fmt: skip
def test_limits_that_no_plan_keeps_are_named(limits: dict, said: list[str], not_said: str) -> None:
    with pytest.raises(ConfigError) as error:
        plan_budget(many_lines(2), PlanLimits(1200.0, **limits))
    for words in said:
        assert words in str(error.value)
    assert not_said not in str(error.value)


def test_the_budget_that_is_named_is_enough_and_less_is_not() -> None:
    limits = {"minimum": {"a": 400.0}, "minimum_share": {"b": 0.37, "c": 0.21}}
    with pytest.raises(ConfigError, match="Give a budget of at least") as error:
        plan_budget(many_lines(2), PlanLimits(600.0, **limits))
    enough = float(str(error.value).split("at least ")[1].split(",")[0])
    assert plan_budget(many_lines(2), PlanLimits(enough, **limits)).spend == pytest.approx(enough, rel=1e-4)
    with pytest.raises(ConfigError, match="contradict"):
        plan_budget(many_lines(2), PlanLimits(0.999 * enough, **limits))


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"budget": 0.0}, "the budget is 0 and must be above 0"),
        ({"budget": np.nan}, "must be above 0"),
        ({"budget": 1.0, "minimum": {"a": -1.0}}, "minimum of a is -1"),
        ({"budget": 1.0, "evenness": -0.1}, "evenness is -0.1"),
        ({"budget": 1.0, "minimum_share": {"a": 0.7, "b": 0.6}}, "add up to 1.3"),
    ],
)
def test_limits_out_of_range(limits: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PlanLimits(**limits)  # type: ignore[arg-type]


def test_lines_that_make_no_plan() -> None:
    with pytest.raises(ConfigError, match="no curves"):
        plan_budget([], PlanLimits(1.0))
    with pytest.raises(ConfigError, match="two curves for one hour"):
        plan_budget([*whole_number_lines(0), whole_number_lines(0)[0]], PlanLimits(1.0))
