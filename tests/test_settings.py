"""Lines of settings, what is made of them, and what help pages say of every registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from pydantic import Field

from ctrkit.api.bidding.config import BiddingConfig
from ctrkit.bidding import STRATEGIES, DualBidding, LinearBidding
from ctrkit.bidding.supply import PRICES, SHOCKS, SyntheticMarket
from ctrkit.config import build, settings_of
from ctrkit.errors import ConfigError
from ctrkit.ope.estimators.registry import ESTIMATORS, describe_estimators
from ctrkit.policies import POLICIES
from ctrkit.settings import (
    NotNegative,
    Positive,
    Registry,
    UnitInterval,
    Whole,
    checked,
    describe,
    line_of,
    made_of,
    read_line,
    values_of,
)

REGISTRIES: tuple[Registry[Any], ...] = (STRATEGIES, SHOCKS, PRICES, POLICIES)


@checked
class Rain:
    """Water that falls.

    More of it is no help.
    """

    what: ClassVar[str] = "weather"
    name: ClassVar[str] = "rain"
    amount: Positive = Field(description="in millimetres")
    gusts: NotNegative = Field(default=0.5, le=9, description="of wind")
    chance: UnitInterval | None = Field(default=None, description="of more")
    hours: Whole = Field(default=2, ge=1, description="how long")
    form: Literal["drops", "drizzle"] = Field(default="drops", description="of the water")
    warm: bool = Field(default=False, description="whether it is")
    cloud: object = Field(default=None, exclude=True)


@pytest.mark.parametrize(
    ("line", "name", "settings"),
    [
        ("rain", "rain", {}),
        ("rain:", "rain", {}),
        ("rain:amount=2", "rain", {"amount": "2"}),
        ("rain,amount=2,form=a=b", "rain", {"amount": "2", "form": "a=b"}),
        (" rain : amount = 2 , hours=3,", "rain", {"amount": "2", "hours": "3"}),
        ("prices:file=a:b.csv", "prices", {"file": "a:b.csv"}),
    ],
)
def test_a_line_is_a_name_and_settings(line: str, name: str, settings: dict[str, str]) -> None:
    assert read_line(line) == (name, settings)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("rain:amount", "'amount' is not of the form key=value. Write amount=VALUE"),
        ("rain:amount=", "Write amount=VALUE"),
        ("rain:=2", "Write KEY=VALUE"),
        ("rain:amount=2,amount=3", "amount is given twice. Leave one out"),
    ],
)
def test_what_is_no_line_is_refused(line: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_line(line)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "amount is missing. Give amount"),
        ({"amount": 1, "amuont": 2}, "unknown key 'amuont'. Did you mean 'amount'"),
        ({"amount": 1, "cloud": 2}, "unknown key 'cloud'"),
        ({"amount": "-1"}, "amount is -1 and must be above 0. Give another value"),
        ({"amount": 5e-324}, "amount: the number is too small"),
        ({"amount": "much"}, "amount is 'much' and must be a number"),
        ({"amount": 1, "gusts": "nan"}, "gusts is nan and must be finite"),
        ({"amount": 1, "gusts": 10}, "gusts is 10 and must be at most 9. .* leave it out for 0.5"),
        ({"amount": 1, "chance": 1.5}, "chance is 1.5 and must be at most 1. .* leave it out"),
        ({"amount": 1, "hours": "2.5"}, "hours is 2.5 and must be a whole number"),
        ({"amount": 1, "hours": 0}, "hours is 0 and must be at least 1"),
        ({"amount": 1, "form": "drop"}, "form: there is no 'drop'. Did you mean 'drops'"),
        ({"amount": 1, "warm": "so"}, "warm is 'so' and must be true or false"),
    ],
)
def test_faults_are_told_the_same_way_however_it_is_made(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=f"^weather 'rain': {says}"):
        made_of(Rain, settings)
    if "cloud" not in settings:
        with pytest.raises(ConfigError, match=f"^weather 'rain': {says}"):
            Rain(**settings)


def test_the_shortest_line_gives_it_back() -> None:
    made = made_of(Rain, {"amount": "2", "hours": "1e1", "warm": "1"})
    assert made == Rain(amount=2.0, hours=10, warm=True)
    assert line_of(made) == "rain:amount=2.0,hours=10,warm=True"
    assert made_of(Rain, read_line(line_of(made))[1]) == made


def test_what_help_pages_say() -> None:
    found = describe(Rain)
    assert (found.name, found.meaning) == ("rain", "Water that falls.")
    assert {one.name: (one.kind, one.default, one.meaning) for one in found.settings} == {
        "amount": ("number above 0", None, "in millimetres"),
        "gusts": ("number at least 0 and at most 9", "0.5", "of wind"),
        "chance": ("number at least 0 and at most 1", "", "of more"),
        "hours": ("whole number at least 1", "2", "how long"),
        "form": ("drops or drizzle", "drops", "of the water"),
        "warm": ("true or false", "False", "whether it is"),
    }
    assert values_of(Positive | Literal["mse"]) == "number above 0 or mse"


@pytest.mark.parametrize("registry", [*REGISTRIES, ESTIMATORS], ids=lambda one: type(one).__name__)
def test_every_kind_and_every_setting_has_a_meaning(registry: Any) -> None:
    found = describe_estimators() if registry is ESTIMATORS else registry.describe()
    assert {one.name for one in found} == set(registry)
    for kind in (*found, describe(SyntheticMarket)):
        assert kind.meaning, kind.name
        for setting in kind.settings:
            assert setting.meaning, f"{kind.name}: {setting.name}"
            assert setting.kind, f"{kind.name}: {setting.name}"


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda one: one.base.__name__)
def test_names_that_there_are_not_are_told_with_the_nearest(registry: Registry[Any]) -> None:
    name = next(iter(registry))
    for given in (f"{name}x", {"name": f"{name}x"}, f"{name}x:a=1"):
        with pytest.raises(ConfigError, match=f"there is no .*'{name}x'. Did you mean '{name}'"):
            registry.read(given)


def test_a_fault_in_a_config_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "bidding.yaml"
    file.write_text("strategies: [linear, {name: dual, stp: 0.5}]")
    with pytest.raises(ConfigError, match=r"'dual': unknown key 'stp'\. Did you mean") as caught:
        settings_of(BiddingConfig, file)
    assert caught.value.file == str(file)
    with pytest.raises(ConfigError, match="Did you mean 'dual'") as caught:
        settings_of(BiddingConfig, file, ["strategies=[duall]"])
    assert caught.value.file is None
    file.write_text("strategies: [linear, {name: dual, step: 0.5}]\nshocks: ['price:factor=2,start=12h']")
    settings = settings_of(BiddingConfig, file)
    assert settings.strategies == (LinearBidding(), DualBidding(step=0.5))
    assert build(BiddingConfig, settings.model_dump(mode="json")) == settings
