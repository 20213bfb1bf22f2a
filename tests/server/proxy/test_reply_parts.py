"""What the parts of an answer say, in every API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from membank_llama.server.proxy.client_request import ChatReply
from membank_llama.server.proxy.reply_reader import reply_of


def events(*parts: dict[str, Any]) -> bytes:
    return b"".join(b"event: x\ndata: " + json.dumps(part).encode() + b"\n\n" for part in parts)


def test_anthropic_thoughts_and_calls() -> None:
    raw = events(
        {"type": "message_start", "message": {"content": []}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm. text"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "I "}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "look."}},
        {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "name": "f", "input": {}}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"a": '}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '"b"}'}},
    )
    assert reply_of("/v1/messages", raw) == ChatReply("I look.", False, None, ('{"a": "b"}',))
    ended = raw + events({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}, {"type": "message_stop"})
    assert reply_of("/v1/messages", ended).whole


def test_responses_reasoning_and_calls() -> None:
    call = {"type": "function_call", "name": "f", "arguments": '{"a": "b"}'}
    thought = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hm."}]}
    said = {"type": "message", "content": [{"type": "output_text", "text": "I look."}]}
    whole = {"object": "response", "status": "completed", "output": [thought, said, call]}
    expected = ChatReply("I look.", True, None, ('{"a": "b"}',))
    assert reply_of("/v1/responses", json.dumps(whole, indent=1).encode()) == expected
    streamed = events(
        {"type": "response.reasoning_summary_text.delta", "delta": "Hm."},
        {"type": "response.output_text.delta", "delta": "I look."},
        {"type": "response.output_item.done", "output_index": 2, "item": call},
        {"type": "response.completed", "response": whole},
    )
    assert reply_of("/v1/responses", streamed) == expected


@pytest.mark.parametrize(
    "raw",
    [b"", b"data: {", b'data: {"type": 7}', b'{"content": "x", "type": "message"}', b'{"choices": [7, {"delta": []}]}'],
)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", "/completion", "/v1/chat/completions", "/api/chat"])
def test_what_is_no_answer_says_nothing(path: str, raw: bytes) -> None:
    if path != "/completion":
        assert reply_of(path, raw).text == ""
    assert not reply_of(path, raw).whole or path == "/v1/messages"
