"""The recorded requests of benchmarks/side_requests: read as they stand, complete, and fair to whoever is judged."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
HALVES = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def recorded() -> Iterator[Any]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("recorded_requests")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def runner(recorded: Any) -> Any:
    return importlib.import_module("side_requests")


def plain(texts: Any) -> str:
    return " ".join(" ".join(texts).split())


ROW = {"id": "x1", "client": "C", "path": "/api/chat", "kind": "side", "what": "title"}


@pytest.mark.parametrize("half", HALVES)
def test_a_half_is_read_whole(recorded: Any, half: str) -> None:
    memories, requests = recorded.load(half)
    texts = [memory.casefold() for memory in memories]
    assert len(texts) == len(set(texts)) >= 12
    for request in requests:
        said = plain(request.texts())
        assert "⟦" not in said, request.id
        # what the client shows already is not given once more
        assert not [memory for memory in memories if memory in said], request.id
        assert [words for words in (*request.store, *request.may) if plain([words]) not in said] == [], request.id
        assert [piece for piece in request.never if plain([piece]) not in said] == [], request.id
        assert request.begins is None or len(list(request.calls())) == 2
        # a field of the set itself in the body would never be sent by a client
        assert {"kind", "what", "recall", "never"}.isdisjoint(request.body)


@pytest.mark.parametrize("half", HALVES)
def test_something_belongs_to_every_turn_that_is_to_be_given_memory(
    recorded: Any, runner: Any, half: str, tmp_path: Path
) -> None:
    memories, requests = recorded.load(half)
    with runner.MemBank(runner.MockAdapter(), tmp_path / "bank") as bank:
        run = runner.Run(bank, memories)
        bank.ingest_many([runner.NewMemory(text) for text in memories])
        asked = [request for request in requests if request.recall]
        assert asked
        assert [one.id for one in asked if not run._could("default", one.store[-1], one)] == []
        run.memory.close()


@pytest.mark.parametrize("half", HALVES)
def test_whoever_stores_a_persons_words_alone_is_right(recorded: Any, runner: Any, half: str) -> None:
    for request in recorded.load(half)[1]:
        kept = [("user", words) for words in (*request.store, *request.may)] + [("assistant", "Done.")] * bool(
            request.store
        )
        assert runner.judged(request, kept) == ((), ()), request.id
        # and whoever stores what stands around them is not
        if request.never:
            everything = [("user", plain(request.texts()))]
            assert runner.judged(request, everything)[0], request.id


def test_the_halves_share_no_request(recorded: Any) -> None:
    bodies = [json.dumps(request.body, sort_keys=True) for half in HALVES for request in recorded.load(half)[1]]
    assert len(bodies) == len(set(bodies))


def test_what_is_long_is_written_out_the_same_each_time(recorded: Any) -> None:
    row = ROW | {"body": {"messages": [{"role": "system", "content": "Before. ⟦filler 5000⟧ ⟦filler 90 de⟧ after"}]}}
    first, second = (recorded.read(row).body["messages"][0]["content"] for _ in range(2))
    assert first == second
    assert 5080 <= len(first) <= 5115
    assert first.startswith("Before. ")
    assert first.endswith(" after")
    assert len(set(first.split("."))) > 10


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/api/chat", lambda tool: tool["function"]["name"]),
        ("/v1/messages", lambda tool: tool["name"] if "input_schema" in tool else None),
        ("/v1/responses", lambda tool: tool["name"] if "parameters" in tool else None),
    ],
)
def test_tools_are_in_their_dialects_form(recorded: Any, path: str, named: Any) -> None:
    row = ROW | {"path": path, "body": {"tools": {"⟦tools⟧": ["Read", "Bash"], "characters": 8000}}}
    tools = recorded.read(row).body["tools"]
    assert [named(tool) for tool in tools] == ["Read", "Bash"]
    assert 7000 < len(json.dumps(tools)) < 9000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"body": {}, "wat": 1}, "unknown fields: wat"),
        ({}, "lacks body"),
        ({"body": {}, "kind": "other"}, "of kind 'other'"),
        ({"body": {}, "path": "/api/nothing"}, "at '/api/nothing'"),
        ({"body": {}, "store": ["said"]}, "nobody's words"),
        ({"body": {}, "recall": True}, "nobody's words"),
        ({"body": {}, "kind": "turn"}, "without words"),
    ],
)
def test_a_row_that_is_wrong_is_refused(recorded: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recorded.read(ROW | change)


def test_the_newest_user_text_is_found_in_every_dialect(recorded: Any) -> None:
    parts = [{"type": "text", "text": "old"}, {"type": "tool_result", "content": "no"}, {"type": "text", "text": "new"}]
    assert recorded.user_text("/v1/messages", {"messages": [{"role": "user", "content": parts}]}) == "old\nnew"
    inner = [{"role": "user", "content": [{"type": "input_text", "text": "asked"}]}, {"type": "function_call"}]
    assert recorded.user_text("/v1/responses", {"input": inner}) == "asked"
    assert recorded.user_text("/v1/responses", {"input": "asked"}) == "asked"
    assert recorded.user_text("/api/generate", {"prompt": "asked"}) == "asked"
    assert recorded.user_text("/api/chat", {"messages": []}) == ""


def test_what_was_stored_is_judged(recorded: Any, runner: Any) -> None:
    side = recorded.read(ROW | {"body": {}})
    assert runner.judged(side, [("assistant", "A title")]) == (("A title",), ())
    row = ROW | {"kind": "turn", "body": {}, "store": ["Where does Ana live, and since when?"], "never": ["<env>"]}
    turn = recorded.read(row)
    own = ("user", "Where does Ana live,\nand since when?")
    assert runner.judged(turn, [own, ("assistant", "In Porto.")]) == ((), ())
    assert runner.judged(turn, []) == ((), turn.store)
    # a passage of the person's words is theirs, but not all of them
    assert runner.judged(turn, [("user", "Where does Ana live,")]) == ((), turn.store)
    around = ("user", "Rules to follow in all that you do here. " + own[1])
    assert runner.judged(turn, [around]) == ((around[1],), ())
    assert runner.judged(turn, [own, ("assistant", "<env> linux")]) == (("<env> linux",), ())


def test_the_stand_ins_answers_are_read_as_replies(runner: Any) -> None:
    from membank_llama.server.proxy.chat_requests import GENERATION_PATHS
    from membank_llama.server.proxy.reply_reader import reply_of

    stand_in = importlib.import_module("answering_stand_in")
    for path in sorted(GENERATION_PATHS & set(stand_in.ANSWERS)):
        for streamed in (False, True):
            reply = reply_of(path, b"".join(stand_in.ANSWERS[path](streamed)[1]))
            assert (reply.text, reply.whole) == (stand_in.REPLY, True), (path, streamed)


def test_what_must_stay_as_it_was_is_watched(runner: Any) -> None:
    text = {"type": "text", "text": "Where?", "cache_control": {"type": "ephemeral"}}
    sent = {"system": "Be brief.", "tools": [], "messages": [{"role": "user", "content": [text]}]}
    block = {"type": "text", "text": "A memory."}
    given = sent | {"messages": [{"role": "user", "content": [block, text]}]}
    assert runner.touched([sent], [given]) == ()
    within = sent | {"messages": [{"role": "user", "content": [text | {"text": "A memory. Where?"}]}]}
    assert runner.touched([sent], [within]) == ("what is cached",)
    assert runner.touched([sent], [given | {"system": "A memory. Be brief."}]) == ("system",)
    later = {"role": "assistant", "content": "I look."}
    assert runner.touched([sent, sent], [given, given | {"messages": [*given["messages"], later]}]) == ()
    assert runner.touched([sent, sent], [given, sent]) == ("what was sent before",)
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where?"}]
    moved = [{"role": "system", "content": "A memory."}, asked[1]]
    assert runner.touched([{"messages": asked}], [{"messages": moved}]) == ("system messages",)
