"""Wrong addresses, servers that are down, files that are something else."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from ctrkit.errors import ConfigError, DataError
from ctrkit.online import FeatureRow, FeatureSet, StoreError, open_store
from tests.online.conftest import free_port

FEATURES = FeatureSet("features", "v1", "user_id")
ROW = FeatureRow("u", 1.0, {"n": 1})


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("features.db", "Give an address such as"),
        ("sqlit:features.db", "Did you mean 'sqlite'"),
        ("sqlite:", "no file"),
        ("redis://", "no host"),
        ("redis://user:hunter2@localhost/0", "REDIS_PASSWORD"),
        ("dynamodb:table?endpoint=http://user:hunter2@localhost", "user or a password"),
        ("dynamodb:?region=eu-west-1", "no table"),
        ("dynamodb:table?secret=hunter2", "no option 'secret'"),
        ("feast+http://localhost/view", "names no features"),
        ("feast+http://localhost/view?service=a&features=b", "names no features"),
        ("feast+http://localhost/view?features=b&keys=float", "keys=float"),
        ("tecton+https://host/workspace", "names no service"),
        ("tecton+http://far.example/w/s", "unprotected"),
    ],
)
def test_a_wrong_address_is_named_without_its_secrets(address: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        open_store(address)
    assert "hunter2" not in str(caught.value)


def test_tecton_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TECTON_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="TECTON_API_KEY"):
        open_store("tecton+https://host/workspace/service")


@pytest.mark.parametrize(
    "address",
    [
        "redis://127.0.0.1:{port}/0",
        "dynamodb:table?region=eu-west-1&endpoint=http://127.0.0.1:{port}",
        "feast+http://127.0.0.1:{port}/view?features=a",
        "tecton+http://127.0.0.1:{port}/w/s",
    ],
)
def test_a_server_that_is_down_is_an_error_and_not_a_miss(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TECTON_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "hunter2")
    with pytest.raises(StoreError, match="does not answer") as caught:
        open_store(address.format(port=free_port())).get_many(FEATURES, ["u"])
    assert "hunter2" not in str(caught.value)


def test_files_that_are_no_stores_stay_as_they_are(tmp_path: Path) -> None:
    text, other = tmp_path / "notes.txt", tmp_path / "other.db"
    text.write_text("a" * 2000)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE features (name TEXT)")
    connection.close()
    for path, said in ((text, "no file of SQLite"), (other, "another database")):
        before = path.read_bytes()
        with pytest.raises(DataError, match=said):
            open_store(f"sqlite:{path}").put_many(FEATURES, [ROW])
        assert path.read_bytes() == before
    with pytest.raises(DataError, match="no such online store"):
        open_store(f"sqlite:{tmp_path / 'none.db'}").get_many(FEATURES, ["u"])
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(StoreError, match="unable to open"):
        open_store(f"sqlite:{tmp_path / 'none' / 'none.db'}").put_many(FEATURES, [ROW])


@pytest.mark.parametrize("part", ["name", "version", "key"])
def test_a_set_has_plain_names(part: str) -> None:
    with pytest.raises(ConfigError, match=f"the {part} of a feature set is 'a:b'"):
        FeatureSet(**{"name": "features", "version": "v1", "key": "user_id", part: "a:b"})
