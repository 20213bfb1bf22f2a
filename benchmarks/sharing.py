"""What it costs to write through the process that holds a bank, and what it costs a bank that nobody joins to listen.

    python benchmarks/sharing.py [--n 300 | --full] [--json FILE]

The mock encoder, so encoding costs nothing, and a bank of 1,000 memories. Single calls, one after the other: in a plain
`MemBank`, in the process that holds a shared bank, and in another process that hands them to it. Rounds of each take
turns, so that a disk that slows down slows down all of them; the medians of all rounds are told. Opening and closing
are of the plain and of the shared bank.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bankbench import parser, table, write_json

from membank_llama import MemBank, MockAdapter, open_shared
from membank_llama.memory.sharing.holder_call import READY, call_holder

DIM = 384
HELD = 1000
ROUNDS = 5

HOLDER = """
import sys
from membank_llama import MockAdapter, open_shared
with open_shared(MockAdapter(hidden_dim=384), sys.argv[1]) as bank:
    print("open", flush=True)
    sys.stdin.readline()
"""


def times_of(call: Callable[[int], object], count: int, start: int) -> list[float]:
    """Milliseconds of each call."""
    spent = []
    for n in range(start, start + count):
        began = time.perf_counter()
        call(n)
        spent.append(1000 * (time.perf_counter() - began))
    return spent


def filled(path: Path) -> None:
    with MemBank(MockAdapter(hidden_dim=DIM), path) as bank:
        bank.ingest_many([f"memory number {n} of what was there" for n in range(HELD)])
        bank.flush()


def calls(path: Path, count: int) -> dict[str, dict[str, float]]:
    """Medians of `ingest` and `pin` by where they are called."""
    each = max(1, count // ROUNDS)
    spent: dict[str, dict[str, list[float]]] = {}
    pinned: set[int] = set()

    def turn(bank: MemBank, n: int) -> None:
        # each call changes something
        memory_id = 1 + n % HELD
        pinned.symmetric_difference_update((memory_id,))
        bank.pin(memory_id, memory_id in pinned)

    def measure(name: str, bank: MemBank, start: int) -> None:
        kept = spent.setdefault(name, {"ingest": [], "pin": [], "recall": []})
        kept["ingest"] += times_of(lambda n: bank.ingest(f"{name} tells text number {n}"), each, start)
        kept["pin"] += times_of(lambda n: turn(bank, n), each, start)
        kept["recall"] += times_of(lambda n: bank.recall(f"memory number {n % HELD}"), each, start)

    for number in range(ROUNDS):
        start = number * each
        with MemBank(MockAdapter(hidden_dim=DIM), path) as bank:
            measure("plain", bank, start)
        with open_shared(MockAdapter(hidden_dim=DIM), path) as bank:
            measure("holder", bank, start)
        pipe = subprocess.PIPE
        with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdin=pipe, stdout=pipe, text=True) as holder:
            if holder.stdout is None or holder.stdout.readline() != "open\n":
                raise SystemExit("the process that holds the bank did not start")
            with open_shared(MockAdapter(hidden_dim=DIM), path) as bank:
                measure("joined", bank, start)
                there = spent["joined"].setdefault("nothing", [])
                there += times_of(lambda n: call_holder(path, READY, {}), each, 0)
            holder.communicate("go\n")
    return {name: {what: statistics.median(one) for what, one in kept.items()} for name, kept in spent.items()}


def openings(path: Path, count: int) -> dict[str, float]:
    """Medians of opening and closing."""
    plain, shared = [], []
    for _ in range(count):
        plain += times_of(lambda n: MemBank(MockAdapter(hidden_dim=DIM), path).close(), 1, 0)
        shared += times_of(lambda n: open_shared(MockAdapter(hidden_dim=DIM), path).close(), 1, 0)
    return {"plain": statistics.median(plain), "shared": statistics.median(shared)}


def main() -> None:
    options = parser(__doc__, 300, 2000).parse_args()
    with tempfile.TemporaryDirectory(prefix="membank-sharing-") as directory:
        path = Path(directory) / "bank"
        filled(path)
        figures: dict[str, Any] = {"n": options.n, "calls": calls(path, options.n), "opening": openings(path, 20)}
    whose = {"plain": "plain MemBank", "holder": "the holder of a shared bank", "joined": "another process"}
    rows = [
        [f"{what}, {whose[name]}", f"{spent:.2f} ms"]
        for what in ("ingest", "pin", "recall", "nothing")
        for name, kept in figures["calls"].items()
        if (spent := kept.get(what)) is not None
    ]
    rows += [[f"opened and closed, {name}", f"{spent:.1f} ms"] for name, spent in figures["opening"].items()]
    table(f"One call, median of {options.n:,}", ["call", "p50"], rows)
    write_json(options.json, figures)


if __name__ == "__main__":
    main()
