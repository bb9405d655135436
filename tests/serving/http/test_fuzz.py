"""Bodies that nobody meant: the reply is one that the OpenAPI page describes, and no fault of ours."""

from __future__ import annotations

import json
import random

import httpx
import pytest
import schemathesis
from hypothesis import given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
MODES = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]


def asked(client: httpx.Client, examples: int) -> int:
    """Ask every operation of the OpenAPI page with so many bodies of each mode; the number of replies."""
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    count = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in MODES if operation.method == "post" else MODES[:1]:

            @settings(max_examples=examples if operation.method == "post" else 3, database=None)
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: schemathesis.Case) -> None:
                nonlocal count
                count += 1
                response = case.call(base_url=str(client.base_url))
                case.validate_response(response, checks=CHECKS)

            ask()
    return count


def mutated(body: bytes, randomness: random.Random) -> bytes:
    """A body with some bytes changed, removed, doubled or moved."""
    changed = bytearray(body)
    for _ in range(randomness.randint(1, 4)):
        at, length = randomness.randrange(len(changed) + 1), randomness.randint(0, 8)
        piece = changed[at : at + length]
        match randomness.randrange(4):
            case 0:
                changed[at : at + length] = randomness.randbytes(length)
            case 1:
                del changed[at : at + length]
            case 2:
                changed[at:at] = piece
            case _:
                other = randomness.choice(
                    [b"null", b"-1", b"1e400", b"[]", b"{}", b'"\\ud800"', b"99999999999999999999"]
                )
                changed[at : at + length] = other
    return bytes(changed)


def sent(client: httpx.Client, bodies: int) -> set[int]:
    """Send so many mutated bodies; the statuses of the replies."""
    examples = {
        path: json.dumps(one["post"]["requestBody"]["content"]["application/json"]["example"]).encode()
        for path, one in client.get("/openapi.json").json()["paths"].items()
        if "example" in str(one.get("post", {}))
    }
    examples["/v2/models/features/infer"] = (
        b'{"inputs": [{"name": "ad_price", "shape": [2, 1], "datatype": "FP32", "data": [1.5, 2.5]}, '
        b'{"name": "device", "shape": [2], "datatype": "BYTES", "data": ["mobile", "desktop"]}]}'
    )
    randomness, found = random.Random(0), set()
    for place in range(bodies):
        path = list(examples)[place % len(examples)]
        reply = client.post(path, content=mutated(examples[path], randomness))
        found.add(reply.status_code)
        assert reply.status_code == 503 or reply.status_code < 500, (path, reply.text)
    return found


def test_mutated_bodies_are_answered_or_refused(client: httpx.Client) -> None:
    assert sent(client, 200) == {200, 422}


@pytest.mark.thorough
@pytest.mark.slow
def test_10_000_bodies_and_what_the_openapi_page_allows(client: httpx.Client) -> None:
    assert sent(client, 10_000) == {200, 422}
    assert asked(client, 10) > 100
