"""Tokens and their file."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from ctrkit.errors import ConfigError
from ctrkit.serving.bundle import Bundle
from ctrkit.serving.http.config import ServeConfig
from ctrkit.serving.http.security import Tokens
from tests.serving.http.conftest import running, service_of

SECRET, OTHER = "a-long-secret-token", "another-secret-token"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    hashed = sha256(OTHER.encode()).hexdigest()
    path.write_text(f"# who: what: token\n\nads:score,feedback:{SECRET}\nops: admin :sha256={hashed}\n")
    return path


def test_tokens_have_scopes(bundle: Bundle, file: Path) -> None:
    with running(service_of(bundle, ServeConfig(tokens=file))) as client:
        asked = [
            (client.post("/v1/score", json={}, headers=headers), client.get("/metrics", headers=headers))
            for token in (None, "nonsense", SECRET, OTHER)
            for headers in [{} if token is None else {"Authorization": f"Bearer {token}"}]
        ]
        assert [tuple(one.status_code for one in pair) for pair in asked] == [
            (401, 401), (401, 401), (422, 403), (403, 200),
        ]  # fmt: skip
        assert asked[0][0].headers["www-authenticate"] == "Bearer"
        assert "scope 'score'" in asked[3][0].json()["error"]["message"]
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        assert client.get("/v1/model", headers={"Authorization": f"Basic {SECRET}"}).status_code == 401


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no tokens"),
        ("# nothing", "no tokens"),
        ("ads:score", "row index 0: the line is not of the form NAME:SCOPES:TOKEN"),
        (f"ads:scores:{SECRET}", "no scope 'scores'. Did you mean 'score'"),
        (f"ads::{SECRET}", "not of the form"),
        ("ads:score:short", "fewer than 16 characters"),
        ("ads:score:sha256=12", "64 hexadecimal digits"),
        (f"ads:score:{SECRET}\nads:admin:{OTHER}", "the same name"),
        (f"ads:score:{SECRET}\nops:admin:{SECRET}", "the same token"),
    ],
)
def test_a_faulty_file_is_told_without_its_tokens(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        Tokens.read(path)
    assert SECRET not in str(caught.value)
    with pytest.raises(ConfigError, match="no such config file"):
        Tokens.read(tmp_path / "absent")
