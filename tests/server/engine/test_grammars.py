"""Schemas and grammars of a stranger: refused, or followed where only a child process can end of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.engines import running, user

from membank_llama.server.asgi import AbandonedError, WireError
from membank_llama.server.engine.generation import grammars
from membank_llama.server.engine.generation.decode import Tally, generate_text
from membank_llama.server.engine.generation.generation_context import GenerationContext
from membank_llama.server.engine.generation.grammars import of_format, of_schema
from membank_llama.server.engine.generation.sampling_options import SamplingOptions
from membank_llama.server.engine.generation.tool_calls import CallStyle, Tools

A = {"$ref": "#/$defs/a"}
TWO_WAYS = {"anyOf": [{"type": "array", "items": A}, {"type": "array", "items": A}]}
AMBIGUOUS = {"$defs": {"a": TWO_WAYS}, "type": "object", "properties": {"x": A}, "required": ["x"]}
UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


def pattern(text: str) -> dict[str, str]:
    return {"type": "string", "pattern": text}


def nested(depth: int) -> Any:
    schema: Any = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema, "minItems": 1, "maxItems": 2000}
    return schema


REFUSED: dict[str, Any] = {
    "a repetition of 30,000": pattern("^.{1,30000}$"),
    "a repetition of a number without end": pattern("^a{99999999999999999999999}$"),
    "repetitions within repetitions": pattern("^((.{0,999}){0,999}){0,99}$"),
    "a long pattern": pattern("^" + "a?" * 100_000 + "$"),
    "100,000 values": {"enum": [f"v{n}" for n in range(100_000)]},
    "a value of 1 MB": {"enum": ["x" * 1_000_000]},
    "900 optional properties": {"type": "object", "properties": {f"p{n}": {} for n in range(900)}},
    "a great many parts": {"anyOf": [{"type": "string"}] * 30_000},
    "a deep one": nested(70),
    "one that unfolds": nested(20),
    "maxItems of 10**9": {"type": "array", "items": {}, "maxItems": 1e9},
    "maxLength without end": {"type": "string", "maxLength": float("inf")},
    "a minimum of 1,000 digits": {"type": "integer", "minimum": 10**1000},
    "a minimum beyond 64 bits": {"type": "number", "maximum": 1e300},
}


@pytest.fixture(scope="module")
def model(recall_tiny: Path) -> Iterator[GenerationContext]:
    made = GenerationContext(recall_tiny, n_ctx=256, n_threads=1, n_gpu_layers=0)
    yield made
    made.close()


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_model_could_follow_is_refused(model: GenerationContext, name: str) -> None:
    with pytest.raises(WireError, match="invalid JSON schema in format"):
        of_schema(REFUSED[name])
    tools = [
        {"function": {"name": "f", "parameters": {"properties": {"x": REFUSED[name]}}}},
        {"function": {"name": "g", "parameters": {"properties": {"only_here": {"type": "integer"}}}}},
    ]
    # a tool with such a schema is called with any object, the others as before
    grammar = Tools(tools, CallStyle()).grammar
    assert "only_here" in grammar
    constraint = model.constraint(grammar, threading.Event())
    for token in model.tokenize('{"name": "f", "arguments": {"x": [1]}}</tool_call>', whole=False):
        assert constraint.take(token) is None


@pytest.mark.parametrize(
    "schema",
    [
        pattern(UUID),
        pattern(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?Z$"),
        {"type": "string", "maxLength": 2000},
        {"enum": [f"country {n}" for n in range(250)]},
        {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(60)}},
        {"type": "integer", "minimum": -(2**53), "maximum": 2**53},
    ],
)
def test_what_people_ask_for_is_made(schema: dict[str, Any]) -> None:
    assert "root ::=" in of_schema(schema)


def test_the_converter_is_killed_where_it_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    of_schema({"type": "string"})
    monkeypatch.setattr(grammars, "_CONVERT_SECONDS", 0.0)
    with pytest.raises(WireError, match="simplify it"):
        # now and then the answer is there before anybody looks at the clock
        for _ in range(50):
            of_schema(nested(3))
    monkeypatch.undo()
    assert "root ::=" in of_schema({"type": "string"})


def follow(model: GenerationContext, schema: dict[str, Any], text: str) -> None:
    constraint = model.constraint(of_schema(schema), threading.Event())
    for token in model.tokenize(text, whole=False):
        assert constraint.take(token) is None


def test_a_grammar_with_too_many_ways_on_ends_its_child(
    model: GenerationContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grammars, "_STEP_SECONDS", 1.0)
    follow(model, AMBIGUOUS, '{"x":[[')
    with pytest.raises(WireError, match="too long or too much memory"):
        follow(model, AMBIGUOUS, '{"x":' + "[" * 60)
    with pytest.raises(WireError, match="too long or too much memory"):
        follow(model, pattern("^((a?){50}){39}$"), '"' + "a" * 20)
    # and the next answer has a child of its own
    follow(model, {"type": "string"}, '"hello"')


def test_a_grammar_that_is_slow_at_every_token(model: GenerationContext, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(model, pattern("^(a|b)*$"), '"' + "ab" * 20)
    monkeypatch.setattr(grammars, "_SPARE_SECONDS", 0.0)
    monkeypatch.setattr(grammars, "_TOKEN_SECONDS", 0.0)
    with pytest.raises(WireError, match="too long"):
        follow(model, pattern("^(a|b)*$"), '"ab')


def test_a_hang_up_ends_the_grammar_too(model: GenerationContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammars, "_STEP_SECONDS", 60.0)
    gone = threading.Event()
    constraint = model.constraint(of_schema(pattern("^((a?){50}){39}$")), gone)
    threading.Timer(0.3, gone.set).start()
    with pytest.raises(AbandonedError):
        for token in model.tokenize('"' + "a" * 20, whole=False):
            constraint.take(token)


def test_a_child_that_was_ended_is_no_silence(model: GenerationContext) -> None:
    constraint = model.constraint('root ::= "a"+', threading.Event())
    model._follower.close()
    with pytest.raises(WireError, match="was ended"):
        constraint.take(model.tokenize("a", whole=False)[0])


def test_answers_under_a_grammar(model: GenerationContext) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    options = SamplingOptions(temperature=0, num_predict=100, seed=1)
    grammar = of_format(schema)
    text = "".join(generate_text(model, model.tokenize("the"), options, threading.Event(), Tally(), grammar=grammar))
    assert isinstance(json.loads(text)["n"], int)


def test_through_the_socket(tmp_path: Path, recall_tiny: Path) -> None:
    with running(tmp_path, recall_tiny) as (_, client):
        asked = {"model": "recall-tiny", "messages": [user("x")], "stream": False, "options": {"num_predict": 9}}
        for name in ("a repetition of 30,000", "100,000 values", "900 optional properties"):
            response = client.post("/api/chat", json={**asked, "format": REFUSED[name]})
            assert response.status_code == 400
            assert "invalid JSON schema" in response.json()["error"]
        assert client.post("/api/chat", json={**asked, "format": "json"}).status_code == 200
