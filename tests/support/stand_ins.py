"""An upstream that speaks every API and says what a test wants, whole and streamed, and keeps what it was sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

CALL = {"name": "read_file", "arguments": {"path": "notes.txt"}}
"""What it calls where a test wants a call of a tool."""


async def whole_body(receive: Any) -> bytes:
    """All that a client sends."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


Said = str | Mapping[str, Any] | None
"""What is answered: a text, a call of a tool as in `CALL`, or None for that one."""


class StandIn:
    """Says `said`, one after the other, then "Noted."; None is a call of a tool."""

    def __init__(self, *said: Said) -> None:
        self.said: list[Said] = list(said)
        self.seen: list[dict[str, Any]] = []
        self.paths: list[str] = []

    async def close(self) -> None:
        return

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = await whole_body(receive)
        path = scope["path"]
        if scope["method"] == "GET" and path == "/v1/models":
            listed = {"object": "list", "data": [{"id": "stand-in", "object": "model"}]}
            await _send(send, 200, "application/json", json.dumps(listed).encode())
            return
        if scope["method"] != "POST":
            await _send(send, 404, "application/json", b"{}")
            return
        if path not in ANSWERS and not path.endswith("/count_tokens"):
            await _send(send, 404, "application/json", b"{}")
            return
        asked = json.loads(body)
        self.seen.append(asked)
        self.paths.append(path)
        if path.endswith("/count_tokens"):
            await _send(send, 200, "application/json", json.dumps({"input_tokens": len(body)}).encode())
            return
        said = self.next_said(asked)
        streamed = bool(asked.get("stream", path in ("/api/chat", "/api/generate")))
        kind, answer = ANSWERS[path](said, streamed)
        await _send(send, 200, kind, answer)

    def next_said(self, asked: Mapping[str, Any]) -> Said:
        """What this request is answered with."""
        return self.said.pop(0) if self.said else "Noted."


def _call_of(said: Said) -> Mapping[str, Any] | None:
    """The call of a tool that is answered; None where it is a text."""
    return None if isinstance(said, str) else said or CALL


async def _send(send: Any, status: int, kind: str, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind.encode())]})
    for at in range(0, len(body), 37):
        # cut anywhere, as networks do
        await send({"type": "http.response.body", "body": body[at : at + 37], "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _lines(*parts: Mapping[str, Any]) -> tuple[str, bytes]:
    return "application/x-ndjson", b"".join(json.dumps(part).encode() + b"\n" for part in parts)


def _events(*parts: Mapping[str, Any], named: bool = True) -> tuple[str, bytes]:
    made = b""
    for part in parts:
        made += f"event: {part['type']}\n".encode() if named else b""
        made += b"data: " + json.dumps(part).encode() + b"\n\n"
    return "text/event-stream", made


def _whole(part: Mapping[str, Any]) -> tuple[str, bytes]:
    return "application/json", json.dumps(part).encode()


def _ollama_chat(said: Said, streamed: bool) -> tuple[str, bytes]:
    call = _call_of(said)
    message: dict[str, Any] = {"role": "assistant", "content": "" if call else said}
    if call:
        message["tool_calls"] = [{"function": call}]
    whole = {"model": "stand-in", "message": message, "done": True}
    done = {**whole, "message": {"role": "assistant", "content": ""}}
    return _lines({**whole, "done": False}, done) if streamed else _lines(whole)


def _generate(said: Said, streamed: bool) -> tuple[str, bytes]:
    done = {"response": "", "done": True}
    return _lines({"response": said, "done": False}, done) if streamed else _lines({"response": said, "done": True})


def _openai_chat(said: Said, streamed: bool) -> tuple[str, bytes]:
    call = _call_of(said)
    message: dict[str, Any] = {"role": "assistant", "content": None if call else said}
    if call:
        function = {"name": call["name"], "arguments": json.dumps(call["arguments"])}
        message["tool_calls"] = [{"index": 0, "id": "call_1", "type": "function", "function": function}]
    if not streamed:
        return _whole({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    kind, made = _events(
        {"choices": [{"index": 0, "delta": message, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        named=False,
    )
    return kind, made + b"data: [DONE]\n\n"


def _completions(said: Said, streamed: bool) -> tuple[str, bytes]:
    choice = {"index": 0, "text": said, "finish_reason": "stop"}
    return _events({"choices": [choice]}, named=False) if streamed else _whole({"choices": [choice]})


def _llama_server(said: Said, streamed: bool) -> tuple[str, bytes]:
    if not streamed:
        return _whole({"content": said, "stop": True})
    return _events({"content": said, "stop": False}, {"content": "", "stop": True}, named=False)


def _anthropic(said: Said, streamed: bool) -> tuple[str, bytes]:
    called = _call_of(said) or {}
    call = {
        "type": "tool_use",
        "id": f"toolu_{len(json.dumps(called))}",
        "name": called.get("name"),
        "input": called.get("arguments"),
    }
    block = call if called else {"type": "text", "text": said}
    reason = "tool_use" if called else "end_turn"
    if not streamed:
        return _whole({"type": "message", "role": "assistant", "content": [block], "stop_reason": reason})
    piece = json.dumps(called.get("arguments"))
    delta: dict[str, Any] = {"type": "text_delta", "text": said}
    if called:
        delta = {"type": "input_json_delta", "partial_json": piece}
    empty = {**call, "input": {}} if called else {"type": "text", "text": ""}
    return _events(
        {"type": "message_start", "message": {"type": "message", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": empty},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": reason}},
        {"type": "message_stop"},
    )


def _responses(said: Said, streamed: bool) -> tuple[str, bytes]:
    content = [{"type": "output_text", "text": said}]
    item: dict[str, Any] = {"type": "message", "id": "msg_1", "role": "assistant", "content": content}
    call = _call_of(said)
    if call:
        item = {
            "type": "function_call",
            "call_id": f"call_{len(json.dumps(call))}",
            "arguments": json.dumps(call["arguments"]),
        }
        item |= {name: call[name] for name in ("name", "namespace") if name in call}
    response = {"id": "resp_1", "object": "response", "status": "completed", "output": [item]}
    if not streamed:
        return _whole(response)
    delta = [] if call else [{"type": "response.output_text.delta", "delta": said}]
    return _events(
        {"type": "response.created", "response": {**response, "status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        *delta,
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": response},
    )


Answer = Callable[[Said, bool], tuple[str, bytes]]
ANSWERS: dict[str, Answer] = {
    "/api/chat": _ollama_chat,
    "/api/generate": _generate,
    **dict.fromkeys(("/v1/chat/completions", "/chat/completions", "/api/v0/chat/completions"), _openai_chat),
    **dict.fromkeys(("/v1/completions", "/completions", "/api/v0/completions"), _completions),
    "/completion": _llama_server,
    **dict.fromkeys(("/v1/messages", "/messages"), _anthropic),
    **dict.fromkeys(("/v1/responses", "/responses"), _responses),
}
