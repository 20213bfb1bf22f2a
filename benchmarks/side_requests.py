"""Requests that clients make for themselves, and turns of people in the same clients: who is stored and given memory.

    python benchmarks/side_requests.py [--half a|b|c] [--encoder GGUF] [--wrong] [--json FILE]

`side_requests/` holds requests in the shape in which clients send them, written by hand after the clients' public
sources: titles, tags, follow-ups, search queries, summaries, sub-agents, probes, completions of code (`side`), and what
a person asked in those clients (`turn`). Each goes through the proxy into a namespace of its own, which holds memories
on all the topics, with a stand-in behind that answers one sentence in the request's dialect; then it is looked at what
the stand-in was sent and what was stored.

Side requests must leave nothing and be given nothing. Of turns the person's words must be stored and nothing else of
what a client puts around them, and where something in the bank belongs to them they must be given it. `--wrong` names
the requests that went wrong. Sets a and b are for looking at while the proxy is worked on. Set c was written by
somebody who had not seen how requests are told apart, and is there to judge by: its rows are not looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from answering_stand_in import StandIn
from bankbench import CONSOLE, table, write_json
from recorded_requests import RecordedRequest, load, strings, user_text

from membank_llama.adapters.base import ModelAdapter
from membank_llama.adapters.hashing import MockAdapter
from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank
from membank_llama.memory.text_splitting import clean_text
from membank_llama.server.proxy.app import Proxy
from membank_llama.server.proxy.proxy_memory import ProxyMemory

HALVES = ("a", "b", "c", "d")
CONTEXT = 65_536
DEADLINE = 30.0
QUERY_CHARACTERS = 2000
SLACK = 32
"""Characters of punctuation and the like that a stored text may have beyond the person's words."""


# -- one request


@dataclass(frozen=True)
class Outcome:
    """What became of one request.

    Args:
        stored: texts that must not have been.
        missing: words of the person that were not stored.
        given: memories that were put into it.
        wrongly_given: whether it must have got none.
        unserved: whether it was given nothing, though the person's words alone would have been.
        touched: what was changed that must stay as it was: the system prompt, tools, what the client has cached, and
            in the middle of tool calls all that was sent before.
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
    touched: tuple[str, ...] = ()
    could: bool = False

    @property
    def wrong(self) -> bool:
        return bool(self.stored or self.missing or self.wrongly_given or self.unserved or self.touched)


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
        self.behind.seen.clear()
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
            unserved=not given and could and request.recall is True,
            touched=touched(list(request.calls()), self.behind.seen),
            could=could,
        )

    def _could(self, space: str, text: str, request: RecordedRequest) -> bool:
        shown = plain(*request.texts())
        results = self.bank.recall(clean_text(text[:QUERY_CHARACTERS]) or "-", 12, namespace=space)
        return any(result.relevant and plain(result.text) not in shown for result in results)

    def _given(self, request: RecordedRequest) -> tuple[str, ...]:
        if not self.behind.seen:
            return ()
        seen = plain(*strings(self.behind.seen[-1]))
        shown = plain(*request.texts())
        return tuple(text for text in self.memories if plain(text) in seen and plain(text) not in shown)


def touched(sent: Sequence[dict[str, Any]], seen: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Of what a client sent and the stand-in saw, call by call, what differs though it never may."""
    found = []
    for before, after in zip(sent, seen, strict=False):
        found += [key for key in ("system", "instructions", "tools", "suffix") if before.get(key) != after.get(key)]
        if list(cached(before)) != list(cached(after)):
            found.append("what is cached")
        if [m for m in turns(before) if m.get("role") == "system"] != [
            m for m in turns(after) if m.get("role") == "system"
        ]:
            found.append("system messages")
    if len(seen) == 2:
        first, second = map(turns, seen)
        if second[: len(first)] != first:
            found.append("what was sent before")
    return tuple(dict.fromkeys(found))


def turns(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of a request in any dialect."""
    said = body.get("messages", body.get("input"))
    return said if isinstance(said, list) else []


def cached(value: Any) -> Iterable[Any]:
    """Every part that the client marks to be cached."""
    if isinstance(value, dict):
        if "cache_control" in value:
            yield value
        for part in value.values():
            yield from cached(part)
    elif isinstance(value, list):
        for part in value:
            yield from cached(part)


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


# -- figures


def measured(half: str, adapter: ModelAdapter) -> list[Outcome]:
    """Send one half of the requests."""
    memories, requests = load(half)
    with tempfile.TemporaryDirectory() as folder, MemBank(adapter, Path(folder) / "bank") as bank:
        return asyncio.run(Run(bank, memories).outcomes(requests))


def counted(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many of these went wrong, and in which way."""
    return {
        "requests": len(outcomes),
        "would be given": sum(one.could for one in outcomes),
        "stored": sum(bool(one.stored) for one in outcomes),
        "given": sum(one.wrongly_given for one in outcomes),
        "not stored": sum(bool(one.missing) for one in outcomes),
        "not given": sum(one.unserved for one in outcomes),
        "touched": sum(bool(one.touched) for one in outcomes),
        "wrong": sum(one.wrong for one in outcomes),
    }


def report(half: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Print the tables of one half; returns its figures."""
    figures: dict[str, Any] = {}
    columns = ["n", "would be given", "wrongly stored", "wrongly given", "not stored", "not given", "touched", "wrong"]
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
            notes = [("stored", one.stored), ("missing", one.missing), ("touched", one.touched)]
            notes += [("given", one.given if one.wrongly_given else ()), ("not given", (" ",) if one.unserved else ())]
            for note, texts in notes:
                for text in texts:
                    CONSOLE.print(f"    {note}: {plain(text)[:110]!r}", highlight=False, markup=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=HALVES, help="one half alone")
    parser.add_argument("--encoder", type=Path, help="a GGUF in place of hashed words")
    parser.add_argument("--wrong", action="store_true", help="name the requests that went wrong")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    logging.getLogger("membank_llama").setLevel(logging.ERROR)
    figures: dict[str, Any] = {"encoder": "hashed words" if options.encoder is None else options.encoder.name}
    adapter = MockAdapter() if options.encoder is None else LlamaCppAdapter(options.encoder, n_threads=1)
    for half in HALVES if options.half is None else (options.half,):
        outcomes = measured(half, adapter)
        figures[half] = report(half, outcomes)
        if options.wrong:
            name_wrong(outcomes)
            figures[half]["outcomes"] = [asdict(one) for one in outcomes]
    write_json(options.json, figures)


if __name__ == "__main__":
    main()
