"""What REST says of itself is what it does: one table for routes, checks, OpenAPI and the docs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
from support.banks import ROOT
from support.proxies import Running

from membank_llama.memory.memory_json import memory_fields
from membank_llama.server.rest.memory_schemas import ANSWERS
from membank_llama.server.rest.openapi import as_table
from membank_llama.server.rest.operations import OF_THE_PROXY, OPERATIONS, RestOperation
from membank_llama.server.rest.value_check import KEYWORDS, SAYING

ALL = (*OPERATIONS, *OF_THE_PROXY)


def schemas_of(operation: RestOperation) -> Iterator[Any]:
    yield from operation.query.values()
    if operation.body is not None:
        yield operation.body


def nested(schema: Any) -> Iterator[Any]:
    """A schema and those in it."""
    yield schema
    for one in (*schema.get("properties", {}).values(), *schema.get("anyOf", ())):
        yield from nested(one)
    if "items" in schema:
        yield from nested(schema["items"])


@pytest.mark.parametrize("operation", ALL, ids=lambda one: one.name)
def test_what_is_asked_for_is_checked_whole(operation: RestOperation) -> None:
    for schema in schemas_of(operation):
        for one in nested(schema):
            assert one.keys() <= KEYWORDS | SAYING, one


def test_every_operation_is_there_once() -> None:
    assert len({one.name for one in ALL}) == len({(one.method, one.path) for one in ALL}) == len(ALL)
    assert {one.answer for one in ALL} <= ANSWERS.keys()


def test_the_description_is_of_what_is_answered(client: httpx.Client, running: Running) -> None:
    alone = client.get("/membank/openapi.json").json()
    beside = running.client.get("/membank/openapi.json").json()
    for schema in alone["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)
    for described, asked, operations in ((alone, client, OPERATIONS), (beside, running.client, ALL)):
        there = {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}
        assert there == {(one.method, one.path) for one in operations}
        for method, path in there:
            answered = asked.request(method, path.replace("{id}", "1"))
            assert str(answered.status_code) in described["paths"][path][method.lower()]["responses"], path
            assert asked.request("TRACE", path.replace("{id}", "1")).status_code == 405
    assert client.get("/membank/status").status_code == 404


def test_the_description_is_mounted_where_it_was_asked_for(client: httpx.Client) -> None:
    told = client.get("/ns/theirs/membank/openapi.json").json()
    assert told["servers"] == [{"url": "/ns/theirs"}]
    assert "security" not in told


def test_the_schema_of_a_memory_is_its_one_shape(bank: Any) -> None:
    fields = memory_fields(bank.get(1))
    assert list(ANSWERS["Memory"]["properties"]) == list(fields)
    json.dumps(ANSWERS)


def test_the_docs_show_the_table() -> None:
    """``python -c "from membank_llama.server.rest.openapi import *; from membank_llama.server.rest.operations import *;
    print(as_table(OPERATIONS))"`` prints it."""
    assert as_table(OPERATIONS) in (ROOT / "docs" / "proxy.md").read_text(encoding="utf-8")
