"""A stand-in for whatever stands behind the proxy: one sentence in each of six dialects, and what it was sent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

REPLY = "That has been seen to."


class StandIn:
    """Answers the same sentence in every dialect, streamed or whole, and keeps what it was sent."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    async def close(self) -> None:
        return

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        path = scope["path"]
        if scope["method"] == "GET" or path not in ANSWERS:
            await _send(send, b"application/json", [json.dumps({"models": [], "input_tokens": 1}).encode()])
            return
        asked = json.loads(body)
        self.seen.append(asked)
        streamed = asked.get("stream", path.startswith("/api/"))
        await _send(send, *ANSWERS[path](streamed))


async def _send(send: Any, kind: bytes, pieces: Sequence[bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _ollama(**said: Any) -> Any:
    def answer(streamed: bool) -> tuple[bytes, list[bytes]]:
        head = {"model": "m", "created_at": "2026-01-01T00:00:00Z"}
        ended = {"done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 5}
        if not streamed:
            return b"application/json", [json.dumps(head | said | ended).encode()]
        rows = [head | said | {"done": False}, head | _emptied(said) | ended]
        return b"application/x-ndjson", [json.dumps(row).encode() + b"\n" for row in rows]

    return answer


def _emptied(said: dict[str, Any]) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": ""}} if "message" in said else {"response": ""}


def _openai_chat(streamed: bool) -> tuple[bytes, list[bytes]]:
    head = {"id": "c", "created": 0, "model": "m", "object": f"chat.completion{'.chunk' if streamed else ''}"}
    if not streamed:
        choice = {"index": 0, "message": {"role": "assistant", "content": REPLY}, "finish_reason": "stop"}
        return b"application/json", [json.dumps(head | {"choices": [choice]}).encode()]
    deltas = [({"role": "assistant", "content": REPLY}, None), ({}, "stop")]
    chunks = [head | {"choices": [{"index": 0, "delta": delta, "finish_reason": why}]} for delta, why in deltas]
    return b"text/event-stream", [*_events(chunks), b"data: [DONE]\n\n"]


def _openai_text(streamed: bool) -> tuple[bytes, list[bytes]]:
    head = {"id": "c", "created": 0, "model": "m", "object": "text_completion"}
    whole = head | {"choices": [{"index": 0, "text": REPLY, "finish_reason": "stop"}]}
    if not streamed:
        return b"application/json", [json.dumps(whole).encode()]
    return b"text/event-stream", [*_events([whole]), b"data: [DONE]\n\n"]


def _anthropic(streamed: bool) -> tuple[bytes, list[bytes]]:
    usage = {"input_tokens": 9, "output_tokens": 5}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "usage": usage}
    if not streamed:
        whole = head | {"content": [{"type": "text", "text": REPLY}], "stop_reason": "end_turn", "stop_sequence": None}
        return b"application/json", [json.dumps(whole).encode()]
    events = [
        {"type": "message_start", "message": head | {"content": [], "stop_reason": None, "stop_sequence": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": REPLY}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]
    return b"text/event-stream", _events(events)


def _responses(streamed: bool) -> tuple[bytes, list[bytes]]:
    part = {"type": "output_text", "text": REPLY, "annotations": []}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
    head = {"id": "resp_1", "object": "response", "created_at": 0, "model": "m"}
    done = head | {"status": "completed", "output": [item]}
    if not streamed:
        return b"application/json", [json.dumps(done).encode()]
    where = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events = [
        {"type": "response.created", "response": head | {"status": "in_progress", "output": []}},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": item | {"status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **where, "part": part | {"text": ""}},
        {"type": "response.output_text.delta", **where, "delta": REPLY},
        {"type": "response.output_text.done", **where, "text": REPLY},
        {"type": "response.content_part.done", **where, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": done},
    ]
    return b"text/event-stream", _events([event | {"sequence_number": n} for n, event in enumerate(events)])


def _events(rows: Iterable[dict[str, Any]]) -> list[bytes]:
    named = [(f"event: {row['type']}\n" if "type" in row else "", row) for row in rows]
    return [f"{name}data: {json.dumps(row)}\n\n".encode() for name, row in named]


ANSWERS = {
    "/api/chat": _ollama(message={"role": "assistant", "content": REPLY}),
    "/api/generate": _ollama(response=REPLY),
    "/v1/chat/completions": _openai_chat,
    "/v1/completions": _openai_text,
    "/v1/messages": _anthropic,
    "/v1/responses": _responses,
}
