"""Requests that clients make for themselves, and turns of people in the same clients: who is stored and given memory.

    python benchmarks/side_requests.py [--half a|b] [--wrong] [--json FILE]

`side_requests/` holds requests in the shape in which clients send them, written by hand after the clients' public
sources: titles, tags, follow-ups, search queries, summaries, sub-agents, probes, completions of code (`side`), and what
a person asked in those clients (`turn`). Each goes through the proxy into a namespace of its own, which holds memories
on all the topics, with a stand-in behind that answers one sentence in the request's dialect; then it is looked at what
the stand-in was sent and what was stored.

Side requests must leave nothing and be given nothing. Of turns the person's words must be stored and nothing else of
what a client puts around them, and where something in the bank belongs to them they must be given it. `--wrong` names
the requests that went wrong. Half a is for looking at while the proxy is worked on, half b to judge by.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from bankbench import CONSOLE, table, write_json
from recorded_requests import RecordedRequest, load, user_text

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank
from membank_llama.memory.text_splitting import clean_text
from membank_llama.server.proxy.app import Proxy
from membank_llama.server.proxy.proxy_memory import ProxyMemory

HALVES = ("a", "b")
REPLY = "That has been seen to."
CONTEXT = 65_536
DEADLINE = 30.0
QUERY_CHARACTERS = 2000
SLACK = 24
"""Characters of punctuation and the like that a stored text may have beyond the person's words."""


# -- the stand-in


class StandIn:
    """Answers the same sentence in every dialect, streamed or whole, and keeps what it was sent last."""

    def __init__(self) -> None:
        self.seen = b""

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
        self.seen = body
        asked = json.loads(body)
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


# -- one request


@dataclass(frozen=True)
class Outcome:
    """What became of one request.

    Args:
        stored: texts that must not have been.
        missing: words of the person that were not stored.
        given: memories that were put into it.
        wrongly_given: whether it must have got none.
        unserved: whether something belonged to it, and it was given nothing.
        could: whether anything would be given to its newest text if nobody asked what it is.
    """

    id: str
    client: str
    kind: str
    what: str
    path: str
    stored: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    wrongly_given: bool = False
    unserved: bool = False
    could: bool = False

    @property
    def wrong(self) -> bool:
        return bool(self.stored or self.missing or self.wrongly_given or self.unserved)


class Run:
    """A proxy in this process, in front of the stand-in."""

    def __init__(self, bank: MemBank, memories: Sequence[str]) -> None:
        self.bank = bank
        self.memories = memories
        self.behind = StandIn()
        self.memory = ProxyMemory(bank, deadline=DEADLINE, context=CONTEXT)
        self.proxy = Proxy(self.behind, self.memory)

    async def outcomes(self, requests: Sequence[RecordedRequest]) -> list[Outcome]:
        transport = httpx.ASGITransport(self.proxy)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=120) as client:
            found = [await self._outcome(client, request) for request in requests]
        await self.proxy.close()
        return found

    async def _outcome(self, client: httpx.AsyncClient, request: RecordedRequest) -> Outcome:
        space = request.id
        self.bank.ingest_many([NewMemory(text, namespace=space) for text in self.memories])
        text = request.store[-1] if request.store else user_text(request.path, request.body)
        could = self._could(space, text, request)
        headers = {**request.headers, "x-membank-namespace": space}
        for body in request.calls():
            response = await client.post(request.path, json=body, headers=headers)
            response.raise_for_status()
            await asyncio.to_thread(self.memory.ingest_worker.flush)
        given = self._given(request)
        kept = [(m.role, m.text) for m in self.bank.memories(space) if m.text not in self.memories]
        stored, missing = judged(request, kept)
        return Outcome(
            request.id,
            request.client,
            request.kind,
            request.what,
            request.path,
            stored=stored,
            missing=missing,
            given=given,
            wrongly_given=bool(given) and request.recall is False,
            unserved=not given and request.recall is True,
            could=could,
        )

    def _could(self, space: str, text: str, request: RecordedRequest) -> bool:
        shown = plain(*request.texts())
        results = self.bank.recall(clean_text(text[:QUERY_CHARACTERS]) or "-", 12, namespace=space)
        return any(result.relevant and plain(result.text) not in shown for result in results)

    def _given(self, request: RecordedRequest) -> tuple[str, ...]:
        if not self.behind.seen:
            return ()
        seen = plain(*strings(json.loads(self.behind.seen)))
        shown = plain(*request.texts())
        self.behind.seen = b""
        return tuple(text for text in self.memories if plain(text) in seen and plain(text) not in shown)


def judged(request: RecordedRequest, kept: Sequence[tuple[str, str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of what was stored with its roles: what must not have been; and of what must have been, what is missing."""
    if request.kind == "side":
        return tuple(text for _, text in kept), ()
    own = [plain(words) for words in (*request.store, *request.may)]
    wrong = []
    for role, text in kept:
        said = plain(text)
        foreign = any(plain(words) in said for words in request.never)
        if foreign or (role == "user" and not _is_own(said, own)):
            wrong.append(text)
    by_user = [plain(text) for role, text in kept if role == "user"]
    missing = [words for words in request.store if not any(plain(words) in text for text in by_user)]
    return tuple(wrong), tuple(missing)


def _is_own(said: str, own: Sequence[str]) -> bool:
    """Whether a stored text is the person's: their words or a passage of them, and hardly anything beside."""
    if any(said in words for words in own):
        return True
    rest = len(said) - sum(len(words) for words in own if words in said)
    return rest <= SLACK and rest < len(said)


def plain(*texts: str) -> str:
    return " ".join(" ".join(texts).split())


def strings(value: Any) -> Iterable[str]:
    """All strings in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


# -- figures


def measured(half: str) -> list[Outcome]:
    """Send one half of the requests."""
    memories, requests = load(half)
    with tempfile.TemporaryDirectory() as folder, MemBank(MockAdapter(), Path(folder) / "bank") as bank:
        return asyncio.run(Run(bank, memories).outcomes(requests))


def counted(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many of these went wrong, and in which way."""
    return {
        "requests": len(outcomes),
        "stored": sum(bool(one.stored) for one in outcomes),
        "given": sum(one.wrongly_given for one in outcomes),
        "not stored": sum(bool(one.missing) for one in outcomes),
        "not given": sum(one.unserved for one in outcomes),
        "wrong": sum(one.wrong for one in outcomes),
        "would be given": sum(one.could for one in outcomes),
    }


def report(half: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Print the tables of one half; returns its figures."""
    figures: dict[str, Any] = {}
    columns = ["n", "wrongly stored", "wrongly given", "not stored", "not given", "wrong", "would be given"]
    for kind, title in (("side", "for themselves"), ("turn", "for a person")):
        of_kind = [one for one in outcomes if one.kind == kind]
        by_client = _by(of_kind, "client")
        by_what = _by(of_kind, "what")
        rows = [[name, *map(str, counted(group).values())] for name, group in by_client.items()]
        total = counted(of_kind)
        rows.append(["all", *map(str, total.values())])
        shares = ["", *(f"{100 * value / max(1, len(of_kind)):.1f} %" for value in list(total.values())[1:])]
        rows.append(["share", *shares])
        table(f"half {half}: requests that clients make {title}", ["client", *columns], rows)
        rows = [[name, *map(str, counted(group).values())] for name, group in by_what.items()]
        table(f"half {half}: the same, by what they are", ["what", *columns], rows)
        figures[kind] = {
            "all": total,
            "clients": {name: counted(group) for name, group in by_client.items()},
            "what": {name: counted(group) for name, group in by_what.items()},
        }
    return figures


def _by(outcomes: Sequence[Outcome], name: str) -> dict[str, list[Outcome]]:
    groups: dict[str, list[Outcome]] = {}
    for one in sorted(outcomes, key=lambda one: str(getattr(one, name)).casefold()):
        groups.setdefault(getattr(one, name), []).append(one)
    return groups


def name_wrong(outcomes: Sequence[Outcome]) -> None:
    """Print what went wrong with which request."""
    for one in outcomes:
        if one.wrong:
            CONSOLE.print(f"[bold]{one.id}[/] {one.client}, {one.kind}, {one.what}, {one.path}", highlight=False)
            notes = [("stored", one.stored), ("missing", one.missing)]
            notes += [("given", one.given if one.wrongly_given else ()), ("not given", (" ",) if one.unserved else ())]
            for note, texts in notes:
                for text in texts:
                    CONSOLE.print(f"    {note}: {plain(text)[:110]!r}", highlight=False, markup=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=HALVES, help="one half alone")
    parser.add_argument("--wrong", action="store_true", help="name the requests that went wrong")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    logging.getLogger("membank_llama").setLevel(logging.ERROR)
    figures: dict[str, Any] = {}
    for half in HALVES if options.half is None else (options.half,):
        outcomes = measured(half)
        figures[half] = report(half, outcomes)
        if options.wrong:
            name_wrong(outcomes)
            figures[half]["outcomes"] = [asdict(one) for one in outcomes]
    write_json(options.json, figures)


if __name__ == "__main__":
    main()
