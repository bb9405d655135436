"""Tecton: its feature server, read over HTTP.

Source of the call: `POST /api/v1/feature-service/get-features` of Tecton's HTTP API 1.0
(https://docs.tecton.ai/http-api). The service is commercial: this is tested against a local server that
speaks the documented format, and not against Tecton itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from ctrkit.errors import ConfigError, reason
from ctrkit.online.http import post
from ctrkit.online.store import FeatureRow, FeatureSet, StoreError, read_only

# Requests at a time: the documented call takes one key.
_AT_ONCE = 8
_HERE = ("127.0.0.1", "localhost", "::1")


class TectonStore:
    """The feature server of Tecton; read only. The API key comes from the variable TECTON_API_KEY.

    Args:
        url: the server.
        workspace: the workspace.
        service: the feature service.

    Raises:
        ConfigError: there is no key, or it would travel over HTTP to another machine.
    """

    read_only = True

    def __init__(self, url: str, workspace: str, service: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in _HERE:
            raise ConfigError(
                "the key of the API would travel unprotected over HTTP", hint="Give tecton+https://…"
            )
        key = os.environ.get("TECTON_API_KEY")
        if not key:
            raise ConfigError("there is no key for Tecton", hint="Put it into the variable TECTON_API_KEY")
        self.url = f"{url}/api/v1/feature-service/get-features"
        self._headers = {"Authorization": f"Tecton-key {key}"}
        self._service = {"featureServiceName": service, "workspaceName": workspace}

    def get_many(self, features: FeatureSet, keys: Sequence[str]) -> list[Mapping[str, object] | None]:
        """As in `OnlineStore`: one round trip for each key, eight at a time."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return [*pool.map(lambda key: self._get(features.key, key), keys)]

    def _get(self, column: str, key: str) -> dict[str, object] | None:
        options = {"includeNames": True, "includeDataTypes": True, "includeServingStatus": True}
        params = {**self._service, "joinKeyMap": {column: key}, "metadataOptions": options}
        answer = post(self.url, {"params": params}, self._headers)
        try:
            described = answer["metadata"]["features"]
            found = [*zip(described, answer["result"]["features"], strict=True)]
            if all(one["status"] != "PRESENT" for one, _ in found):
                return None
            # A name is `view.feature`, as two views may have features of one name.
            return {one["name"]: _typed(value, one["dataType"]) for one, value in found}
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{self.url} answers in another form: {reason(error)}") from error

    def put_many(self, features: FeatureSet, rows: Sequence[FeatureRow], *, ttl: float | None = None) -> int:
        """Refused: Tecton fills its store itself."""
        raise read_only("a feature service of Tecton")


def _typed(value: Any, kind: Mapping[str, Any]) -> object:
    """A value of its data type: Tecton writes whole numbers as texts."""
    if value is None:
        return None
    if kind["type"] == "array":
        return [_typed(one, kind["elementType"]) for one in value]
    if kind["type"] == "int64":
        return int(value)
    return float(value) if kind["type"] in ("float64", "float32") else value
