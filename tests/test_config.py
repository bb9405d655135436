from __future__ import annotations

from pathlib import Path

import pytest

from ctrkit.config import Config, apply_overrides, build, settings_of
from ctrkit.errors import ConfigError


class Inner(Config):
    rate: float = 0.1
    names: tuple[str, ...] = ()


class Outer(Config):
    inner: Inner = Inner()
    several: tuple[Inner, ...] = ()
    epochs: int = 1


def test_overrides_reach_nested_keys_and_leave_the_given_mapping_alone() -> None:
    content = {"inner": {"rate": 0.5}}
    config = build(Outer, apply_overrides(content, ["inner.rate=1e-2", "epochs=3", "inner.names=[a, b]"]))
    assert config == Outer(inner=Inner(rate=0.01, names=("a", "b")), epochs=3)
    assert content == {"inner": {"rate": 0.5}}


def test_a_part_that_gets_another_name_starts_from_nothing() -> None:
    content = {"model": {"name": "a", "width": 3}, "name": "run"}
    assert apply_overrides(content, ["model.name=b", "model.depth=2"])["model"] == {"name": "b", "depth": 2}
    assert apply_overrides(content, ["model.name=a"])["model"] == {"name": "a", "width": 3}
    assert apply_overrides(content, ["name=other"]) == {**content, "name": "other"}


@pytest.mark.parametrize(
    "given",
    [
        ["model.depth=2", "model.name=b"],
        ["model.name=c", "model.depth=2", "model.name=b"],
        ["model={name: c, width: 9}", "model.name=b", "model.depth=2"],
    ],
    ids=["settings first", "two names", "a mapping before"],
)
def test_settings_of_a_part_with_another_name_are_kept_in_any_order(given: list[str]) -> None:
    content = {"name": "x", "model": {"name": "a", "width": 3}}
    assert apply_overrides(content, given)["model"] == {"name": "b", "depth": 2}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"epoch": 2}, "unknown key 'epoch'. Did you mean 'epochs'"),
        ({"inner": {"rates": 2}}, "unknown key 'inner.rates'. Did you mean 'rate'"),
        ({"several": [{"rat": 2}]}, "unknown key 'several.0.rat'. Did you mean 'rate'"),
        ({"epochs": "many"}, "key 'epochs'"),
        (
            {"inner": 3},
            "key 'inner' is 3 and must be a mapping of keys to values. Give another value, or leave it out.",
        ),
    ],
)
def test_errors_name_the_key_and_the_nearest_valid_one(content: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(Outer, content, "some.yaml")
    assert said in str(caught.value)
    assert str(caught.value).startswith("some.yaml: ")


def test_an_unknown_key_is_named_before_a_missing_one() -> None:
    class Needs(Config):
        epochs: int

    with pytest.raises(ConfigError, match=r"unknown key 'epoch'\. Did you mean 'epochs'"):
        build(Needs, {"epoch": 2})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "not YAML"),
        ("- a", "mapping of keys"),
        ("epochs: 1\nepochs: 2", "the key 'epochs' occurs twice in .* line 2"),
        ("several:\n- {rate: 1, rate: 2}", "the key 'rate' occurs twice"),
    ],
)
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        settings_of(Outer, file)


def test_a_missing_file_and_a_malformed_override_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such config file"):
        settings_of(Outer, tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"not of the form key\.path=value"):
        settings_of(Outer, None, ["epochs"])


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("epochs: !!python/object/apply:os.getpid []")
    with pytest.raises(ConfigError, match="not YAML"):
        settings_of(Outer, file)


def test_a_merged_key_may_be_replaced(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("inner: &base {rate: 1, names: [a]}\nseveral:\n- {<<: *base, rate: 2}")
    assert settings_of(Outer, file).several == (Inner(rate=2.0, names=("a",)),)


@pytest.mark.parametrize(
    ("text", "override", "blamed", "key"),
    [
        ("epochs: 3", "epoch=2", False, "epoch"),
        ("inner: {rate: 0.5}", "inner.rates=1", False, "inner.rates"),
        ("inner: {rat: 0.5}", "inner.rate=1", True, "inner.rat"),
        ("epoch: 3", "inner.rate=1", True, "epoch"),
    ],
)
def test_a_key_that_an_override_has_set_is_not_blamed_on_the_file(
    tmp_path: Path, text: str, override: str, blamed: bool, key: str
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=f"unknown key '{key}'") as caught:
        settings_of(Outer, file, [override])
    assert str(caught.value).startswith(str(file)) == blamed
