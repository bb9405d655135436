"""A registry: what its commands do, what they refuse, and what of it stays when processes meet or die."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

import ctrkit
from ctrkit.cli import app
from ctrkit.errors import ArtifactError, ConfigError, RunError
from ctrkit.serving.bundle import open_bundle
from ctrkit.serving.registry import storage as places
from ctrkit.serving.registry.registry import Registry
from ctrkit.serving.registry.storage import StorageError
from tests.serving.exports import line_export

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Version -> folder of three exported models."""
    home = tmp_path_factory.mktemp("exports")
    return {line_export(home / f"{number}", float(number)): home / f"{number}" for number in range(3)}


@pytest.fixture(params=["folder", "memory"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A registry in a folder, and one at an address of fsspec."""
    if request.param == "folder":
        yield str(tmp_path / "registry")
        return
    fsspec = pytest.importorskip("fsspec")
    yield f"memory://{tmp_path.name}/models"
    fsspec.filesystem("memory").store.clear()


def filled(address: str, exports: dict[str, Path]) -> list[str]:
    for folder in exports.values():
        ctrkit.push_model(folder, registry=address)
    return [*exports]


def test_versions_are_pushed_promoted_and_rolled_back(
    address: str, exports: dict[str, Path], tmp_path: Path
) -> None:
    first, second, third = filled(address, exports)
    assert ctrkit.list_versions(address).live is None
    for version in (first, second, third):
        assert ctrkit.promote_model(version, registry=address, note="why").live == version
    assert ctrkit.rollback_model(registry=address).live == second
    assert ctrkit.promote_model(first, registry=address).live == first
    assert ctrkit.rollback_model(registry=address).live == second
    assert ctrkit.rollback_model(second, registry=address).live == first
    with pytest.raises(ConfigError, match="no version to roll back to"):
        ctrkit.rollback_model(registry=address)
    registry = Registry.at(address)
    changes = [registry.state(number).change for number in range(4, 10)]
    assert changes == [
        *(f"promote {version}: why" for version in (first, second, third)),
        f"rollback {third}",
        f"promote {first}",
        f"rollback {first}",
    ]
    found = ctrkit.list_versions(address)
    assert [one["version"] for one in found.to_dict()["versions"]] == [first, second, third]
    assert [one["role"] for one in found.to_dict()["versions"]] == ["live", None, None]
    folder = Registry.at(address).export(second, tmp_path / "cache")
    assert open_bundle(folder).known["version"] == second


def test_a_version_has_one_role(address: str, exports: dict[str, Path]) -> None:
    first, second, third = filled(address, exports)
    ctrkit.promote_model(first, registry=address)
    ctrkit.promote_model(second, registry=address, share=0.1)
    ctrkit.promote_model(third, registry=address, share=0.9)
    grown = ctrkit.promote_model(second, registry=address, share=0.1).state
    assert grown.candidates == {second: 0.1, third: 0.9}
    assert ctrkit.promote_model(third, registry=address, shadow=True).state.roles == {
        first: "live", second: "candidate", third: "shadow",
    }  # fmt: skip
    assert ctrkit.promote_model(third, registry=address, share=0.2).state.shadow is None
    state = ctrkit.promote_model(second, registry=address).state
    assert (state.live, state.candidates) == (second, {third: 0.2})
    ctrkit.promote_model(first, registry=address, share=0.3)
    assert ctrkit.rollback_model(registry=address).state.candidates == {third: 0.2}  # and `first` is live
    assert ctrkit.rollback_model(third, registry=address).state.roles == {first: "live"}


def test_a_version_that_is_pushed_or_promoted_again_is_the_same(
    address: str, exports: dict[str, Path], tmp_path: Path
) -> None:
    registry = Registry.at(address)
    version, folder = next(iter(exports.items()))
    ctrkit.push_model(folder, registry=address, note="a note")
    before = registry.state(registry.newest())
    ctrkit.push_model(folder, registry=address, note="another")
    assert registry.state(registry.newest()) == before
    ctrkit.promote_model(version, registry=address)
    number = registry.newest()
    assert len(ctrkit.promote_model(version, registry=address).state.promotions) == 1
    assert registry.newest() == number + 1  # so that servers that have refused it try again


def test_what_is_wrong_is_told(address: str, exports: dict[str, Path], tmp_path: Path) -> None:
    first, second, _ = exports
    with pytest.raises(ConfigError, match="there is no registry"):
        ctrkit.list_versions(address)
    ctrkit.push_model(exports[first], registry=address)
    ctrkit.push_model(exports[second], registry=address)
    with pytest.raises(ConfigError, match="no version is live"):
        ctrkit.promote_model(first, registry=address, share=0.1)
    ctrkit.promote_model(first, registry=address)
    for share in (-1.0, 1.5, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="is not to be had"):
            ctrkit.promote_model(second, registry=address, share=share)
    for keywords in ({"share": 0.1}, {"shadow": True}):
        with pytest.raises(ConfigError, match="is live already"):
            ctrkit.promote_model(first, registry=address, **keywords)
    with pytest.raises(ConfigError, match="serves nobody"):
        ctrkit.rollback_model(second, registry=address)
    with pytest.raises(ConfigError, match=r"no version 'ähm'\. Known"):
        ctrkit.promote_model("ähm", registry=address)
    with pytest.raises(ConfigError, match="has one role"):
        ctrkit.promote_model(second, registry=address, share=0.1, shadow=True)
    (tmp_path / "model.pt").write_bytes(b"weights")
    with pytest.raises(ArtifactError, match="ctrkit export"):
        ctrkit.push_model(tmp_path / "model.pt", registry=address)
    with pytest.raises(ArtifactError, match="no such model"):
        ctrkit.push_model(tmp_path / "absent", registry=address)


def test_shares_sum_to_one_at_most(address: str, exports: dict[str, Path]) -> None:
    first, second, third = filled(address, exports)
    ctrkit.promote_model(first, registry=address)
    ctrkit.promote_model(second, registry=address, share=0.7)
    with pytest.raises(ConfigError, match="is not to be had"):
        ctrkit.promote_model(third, registry=address, share=0.4)
    assert ctrkit.promote_model(third, registry=address, share=0.3).state.candidates[third] == 0.3
    state = ctrkit.promote_model(second, registry=address, share=0).state
    assert state.candidates == {third: 0.3}


def test_users_keep_their_version_in_a_trial_and_each_trial_has_others(
    address: str, exports: dict[str, Path]
) -> None:
    first, second, _ = filled(address, exports)
    ctrkit.promote_model(first, registry=address)
    users = [f"user {number}" for number in range(1000)]

    def served(share: float) -> set[str]:
        ctrkit.promote_model(second, registry=address, share=share)
        state = ctrkit.list_versions(address).state
        arms = state.assignment.arms(pl.Series(users))
        return {user for user, arm in zip(users, arms, strict=True) if arm == second}

    few, more = served(0.1), served(0.3)
    assert 60 < len(few) < 140
    assert few < more
    assert served(0.1) == few
    ctrkit.rollback_model(second, registry=address)
    assert served(0.1) != few


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_export_is_not_pushed(
    address: str, exports: dict[str, Path], tmp_path: Path, damage: str
) -> None:
    folder = next(iter(exports.values()))
    for file in sorted(folder.iterdir()):
        copy = Path(shutil.copytree(folder, tmp_path / file.stem))
        if damage == "missing":
            (copy / file.name).unlink()
        else:
            (copy / file.name).write_bytes(file.read_bytes()[:-2])
        with pytest.raises(ArtifactError):
            ctrkit.push_model(copy, registry=address)
    assert not Registry.at(address).newest()


def _killed_push(home: Path, folder: Path) -> None:
    def copied(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:10])
        if source.name == "encoder.zip":
            os.kill(os.getpid(), signal.SIGKILL)

    places.shutil.copyfile = copied  # type: ignore[attr-defined]
    ctrkit.push_model(folder, registry=home)


def test_a_push_that_is_killed_leaves_no_version_and_may_come_again(
    exports: dict[str, Path], tmp_path: Path
) -> None:
    (first, folder), (second, other), _ = exports.items()
    home = tmp_path / "registry"
    ctrkit.push_model(folder, registry=home)
    push = multiprocessing.get_context("fork").Process(target=_killed_push, args=(home, other))
    push.start()
    push.join(30)
    assert push.exitcode == -signal.SIGKILL
    assert list((home / "versions" / second).iterdir())
    assert [*ctrkit.list_versions(home).state.versions] == [first]
    with pytest.raises(ConfigError, match="no version"):
        ctrkit.promote_model(second, registry=home)
    ctrkit.push_model(other, registry=home)
    left = sorted(path.name for path in (home / "versions" / second).iterdir())
    assert left == sorted(path.name for path in other.iterdir())
    assert open_bundle(home / "versions" / second).known["version"] == second


def test_changes_of_two_processes_are_all_kept(exports: dict[str, Path], tmp_path: Path) -> None:
    first, second, third = filled(str(tmp_path), exports)
    ctrkit.promote_model(first, registry=tmp_path)
    registry = Registry.at(tmp_path)
    before = registry.newest()
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=_share, args=(tmp_path, one)) for one in (second, third)]
    for one in others:
        one.start()
    for one in others:
        one.join(30)
    after = registry.newest()
    assert after == before + 40
    changes = [registry.state(number).change for number in range(before + 1, after + 1)]
    for version in (second, third):
        assert [one for one in changes if version in one] == [
            f"promote {version} --share {share / 100:g}" for share in range(1, 21)
        ]
    assert registry.state(after).candidates == {second: 0.2, third: 0.2}


def _share(home: Path, version: str) -> None:
    for share in range(1, 21):
        ctrkit.promote_model(version, registry=home, share=share / 100)


def test_changes_of_two_threads_at_an_address_are_all_kept(
    address: str, exports: dict[str, Path], tmp_path: Path
) -> None:
    first, second, third = filled(address, exports)
    ctrkit.promote_model(first, registry=address)
    before, start = Registry.at(address).newest(), threading.Barrier(2)

    def share(version: str) -> None:
        start.wait()
        for share in range(1, 11):
            ctrkit.promote_model(version, registry=address, share=share / 100)

    with ThreadPoolExecutor(2) as both:
        list(both.map(share, (second, third)))
    assert Registry.at(address).newest() == before + 20
    assert ctrkit.list_versions(address).state.candidates == {second: 0.1, third: 0.1}


def test_a_damaged_state_is_told_and_the_one_before_it_can_be_had(
    exports: dict[str, Path], tmp_path: Path
) -> None:
    first, _, _ = filled(str(tmp_path), exports)
    newest = sorted((tmp_path / "states").iterdir())[-1]
    for content in (b"", b"{", b"[]", b'{"format": 2}', b'{"versions": {"../..": {}}}', b"\xff"):
        newest.write_bytes(content)
        with pytest.raises(ArtifactError, match="damaged, or of a newer ctrkit"):
            ctrkit.promote_model(first, registry=tmp_path)
    newest.unlink()
    assert len(ctrkit.promote_model(first, registry=tmp_path).state.versions) == 2


def test_copies_of_an_address_are_kept_and_made_again_when_damaged(
    exports: dict[str, Path], tmp_path: Path
) -> None:
    fsspec = pytest.importorskip("fsspec")
    address = f"memory://{tmp_path.name}/models"
    version, *_ = filled(address, exports)
    registry, files = Registry.at(address), fsspec.filesystem("memory")
    folder = registry.export(version, tmp_path)
    files.rm(f"/{tmp_path.name}/models/versions/{version}/rows.onnx")
    assert registry.export(version, tmp_path) == folder  # nothing is copied again
    (folder / "rows.onnx").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="the file is missing"):
        registry.export(version, tmp_path)
    ctrkit.push_model(exports[version], registry=address)
    assert open_bundle(registry.export(version, tmp_path)).known["version"] == version
    assert [path.name for path in folder.parent.iterdir()] == [version]
    files.store.clear()


def test_a_wrong_address_and_a_store_that_fails_are_told(
    exports: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="cannot be opened"):
        ctrkit.list_versions("nonsense://models")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        ctrkit.push_model(next(iter(exports.values())), registry=tmp_path / "file" / "registry")
    fsspec = pytest.importorskip("fsspec")

    def failing(*_: object, **__: object) -> None:
        raise TimeoutError("no route")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "ls", failing)
    with pytest.raises(StorageError, match="TimeoutError: no route"):
        ctrkit.list_versions("memory://models")


def test_the_commands(exports: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (first, folder), (second, other), _ = exports.items()

    def call(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["registry", *arguments])
        return result.exit_code, result.stdout, result.stderr

    assert call("push", str(folder), "--note", "the first", "--quiet")[:2] == (0, "")
    assert json.loads(call("push", str(other), "--json")[1])["version"] == second
    assert call("promote", first, "--note", "as agreed")[0] == 0
    assert "10% of users" not in call("list")[1]
    told = call("promote", second, "--share", "0.1")[1]
    assert "candidate, 0.1 of users" in told
    assert f"Version {second} serves 0.1 of users." in told
    found = json.loads(call("list", "--json")[1])
    assert (found["live"], found["candidates"]) == (first, {second: 0.1})
    assert found["versions"][0]["note"] == "the first"
    assert found["promotions"][0]["note"] == "as agreed"
    assert call("promote", second, "--shadow")[0] == 0
    assert call("rollback", second)[0] == 0
    code, _, error = call("rollback")
    assert (code, "no version to roll back to" in error) == (2, True)
    assert call("list", "--registry", "elsewhere")[0] == 2
