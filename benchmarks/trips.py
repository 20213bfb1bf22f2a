"""How far one text, one question and one chat request travel through the package.

    python benchmarks/trips.py            the three trips in a table
    python benchmarks/trips.py --detail   which files call which, and every SQL statement
    python benchmarks/trips.py --json F   the figures into a file too

Counted are files of the package that are entered, moves between them (a call into another file is one, its return
another) and SQL statements. Each trip is made a few times before it is counted, so that nothing is opened, compiled or
read for the first time. Counts and no times: they are the same on every machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

import membank_llama
from membank_llama import MemBank, MockAdapter
from membank_llama.server.proxy.app import Proxy
from membank_llama.server.proxy.proxy_memory import ProxyMemory

PACKAGE = f"{Path(membank_llama.__file__).parent}/"
NOTES = [f"Note {number}: the committee met in room {number} and spoke of boats." for number in range(30)]
FACT = "My sister's name is Ingrid and she lives in Trondheim."
NEW = "I work as a piano tuner in Bergen."
QUESTION = "Where does my sister live?"
BEFORE = 3


@dataclass
class Trip:
    """What was entered on the way."""

    name: str
    files: Counter[str] = field(default_factory=Counter)
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    statements: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, int]:
        """What the table shows."""
        return {"files": len(self.files), "moves": 2 * sum(self.calls.values()), "statements": len(self.statements)}


class Watch:
    """Counts in every thread that is started after it; `trip` of None counts nothing."""

    def __init__(self) -> None:
        self.trip: Trip | None = None
        threading.setprofile(self._entered)
        sys.setprofile(self._entered)
        connect = sqlite3.connect

        def watched(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            connection = connect(*args, **kwargs)
            connection.set_trace_callback(self._asked)
            return connection

        sqlite3.connect = watched  # type: ignore[assignment]

    def _entered(self, frame: FrameType, event: str, _: Any) -> None:
        trip, name = self.trip, _file(frame)
        if trip is None or event != "call" or not name:
            return
        trip.files[name] += 1
        caller = frame.f_back
        while caller is not None and not _file(caller):
            caller = caller.f_back
        if caller is not None and _file(caller) != name:
            trip.calls[_file(caller), name] += 1

    def _asked(self, statement: str) -> None:
        # what FTS5 does within itself is told as comments
        if self.trip is not None and not statement.startswith("--"):
            self.trip.statements.append(" ".join(statement.split()))

    def count(self, name: str, work: Callable[[], object]) -> Trip:
        """What some work enters."""
        self.trip = trip = Trip(name)
        try:
            work()
        finally:
            self.trip = None
        return trip


def _file(frame: FrameType) -> str:
    name = frame.f_code.co_filename
    return name[len(PACKAGE) :] if name.startswith(PACKAGE) else ""


async def upstream(scope: Any, receive: Any, send: Any) -> None:
    """Answers at once, as Ollama does."""
    while (await receive()).get("more_body"):
        pass
    asked = scope["path"] == "/api/chat"
    message = {"role": "assistant", "content": "In Trondheim."}
    answer = {"model": "m", "message": message, "done": True} if asked else {"models": []}
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


upstream.close = None  # type: ignore[attr-defined]


async def chatted(watch: Watch, bank: MemBank) -> Trip:
    """The trip of a chat request, and of what is learned of it."""
    memory = ProxyMemory(bank, deadline=30.0)
    transport = httpx.ASGITransport(Proxy(upstream, memory))  # type: ignore[arg-type]
    trip = Trip("chat request")
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:11434") as client:
        for number in range(BEFORE + 1):
            await asyncio.to_thread(memory.ingest_worker.flush)
            watch.trip = trip if number == BEFORE else None
            message = {"role": "user", "content": f"{QUESTION}{' Again, please.' * number}"}
            body = {"model": "m", "stream": False, "messages": [message]}
            (await client.post("/api/chat", json=body)).raise_for_status()
            await asyncio.to_thread(memory.ingest_worker.flush)
    watch.trip = None
    memory.close()
    return trip


def trips(folder: Path) -> list[Trip]:
    """The three of them, through a bank in this folder."""
    watch = Watch()
    with MemBank(MockAdapter(), folder / "bank") as bank:
        bank.ingest_many([*NOTES, FACT])
        bank.flush()
        for number in range(BEFORE):
            bank.ingest(f"This is remembered before: {number}.")
            bank.recall(QUESTION)
        told = watch.count("ingest", lambda: bank.ingest(NEW))
        bank.recall(QUESTION)
        asked = watch.count("recall", lambda: bank.recall(QUESTION))
        return [told, asked, asyncio.run(chatted(watch, bank))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detail", action="store_true", help="what calls what, and every statement")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = trips(Path(folder))
    if asked.json:
        asked.json.write_text(json.dumps({trip.name: trip.figures() for trip in found}), encoding="utf-8")
    console = Console(width=120)
    table = Table("trip", "files entered", "moves between files", "SQL statements")
    for trip in found:
        table.add_row(trip.name, *map(str, trip.figures().values()))
    console.print(table)
    for trip in found if asked.detail else ():
        console.rule(trip.name)
        for (caller, called), times in trip.calls.most_common():
            console.print(f"{times:4}  {caller} → {called}", highlight=False)
        for statement in trip.statements:
            console.print(f"      {statement[:110]}", highlight=False, markup=False)


if __name__ == "__main__":
    main()
