"""Banks damaged in every file and every region, each opened, asked, verified and rebuilt in a process of its own.

Run as a program it takes a folder, the first case, how many, and a step; it prints a line of JSON for each case. The
cases are the same every time.
"""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from membank_llama.core.errors import MembankError
from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank
from support.banks import open_bank
from support.damage import sign

NOW = 1.75e9
SECONDS = 120
WORDS = (
    "river", "lamp", "violin", "harbour", "ticket", "walnut", "engine", "letter", "garden", "copper", "piano", "bread",
    "winter", "candle", "saddle", "ribbon",
)  # fmt: skip
QUESTIONS = [("a", f"note{n} code", {}) for n in (10, 200, 401, 599)] + [
    ("b", "note9004 river", {}),
    ("a", "longone needle", {}),
    ("a", "violin harbour", {"since": 1.7e9 + 60 * 100, "until": 1.7e9 + 60 * 400}),
    ("a", "copper piano in the garden", {"levels": (0, 1)}),
]


def memories() -> list[NewMemory]:
    chosen = random.Random(1)

    def said(number: int, namespace: str) -> NewMemory:
        words = " ".join(chosen.choice(WORDS) for _ in range(5))
        return NewMemory(
            f"note{number} {words} code{chosen.getrandbits(30):x}",
            {"k": number},
            role="user" if number % 3 else "assistant",
            namespace=namespace,
            conversation=f"c{number // 10}",
            created_at=1.7e9 + 60 * number,
            source="notes.txt",
        )

    long = ". ".join(" ".join(chosen.choice(WORDS) for _ in range(12)) for _ in range(40))
    return [
        *(said(number, "a") for number in range(600)),
        *(said(number, "b") for number in range(9000, 9040)),
        NewMemory(f"longone {long} needle", namespace="a", created_at=1.7e9),
    ]


def make(folder: Path) -> None:
    """A bank with everything in it, and a copy of it whose newest writes are in its log alone."""
    with open_bank(folder / "closed") as bank:
        bank.ingest_many(memories())
        bank.forget([5, 6, 7])
        bank.pin(9)
        bank.recall("warm", namespace="a")
        bank.flush()
    shutil.copytree(folder / "closed", folder / "writing")
    with open_bank(folder / "writing") as bank:
        bank.ingest_many([NewMemory(f"late{n} lantern {n}", namespace="a", created_at=NOW) for n in range(40)])
        bank.forget([20, 21])
        shutil.copytree(folder / "writing", folder / "open")
    for name in ("closed", "open"):
        shutil.copytree(folder / name, folder / "right")
        with open_bank(folder / "right") as bank:
            (folder / f"{name}.json").write_text(json.dumps({"answers": answers(bank), "memories": all_of(bank)}))
        shutil.rmtree(folder / "right")


def answers(bank: MemBank) -> Any:
    found = [
        [
            (result.memory_id, result.text, result.role, result.namespace, result.created_at, result.conversation,
             result.source, dict(result.metadata), result.passage)
            for result in bank.recall(question, 3, namespace=namespace, now=NOW, **options)
        ]
        for namespace, question, options in QUESTIONS
    ]  # fmt: skip
    return json.loads(json.dumps(found))


def all_of(bank: MemBank) -> Any:
    found = sorted(
        [m.id, m.text, m.role, m.namespace, m.conversation, m.created_at, m.source, dict(m.metadata), m.pinned]
        for m in bank.memories()
    )
    return json.loads(json.dumps(found))


# -- the cases


@dataclass(frozen=True)
class Case:
    """`base` is "closed" or "open"; `alive`: damaged while a process has it open."""

    number: int
    base: str
    file: str
    kind: str
    place: float
    read_only: bool
    alive: bool = False

    @property
    def label(self) -> str:
        return f"{self.base}{' and in use' if self.alive else ''}, {self.file.removesuffix('*')}: {self.kind}"


def _bytes_of(kind: str, data: bytearray, at: int, chosen: random.Random) -> bytes:
    length = {"a bit": 1, "64 bytes": 64, "a sector of zeros": 512, "a page of noise": 4096}[kind]
    piece = data[at : at + length]
    if kind == "a bit":
        data[at] ^= 1 << chosen.randrange(8)
    elif kind == "a sector of zeros":
        data[at : at + length] = bytes(len(piece))
    else:
        data[at : at + length] = chosen.randbytes(len(piece))
    return bytes(data)


BYTES = ("a bit", "64 bytes", "a sector of zeros", "a page of noise")
WHOLES = ("cut", "empty", "gone", "noise", "longer", "a directory")
FILES = {
    # file → places for a flipped bit, and for each of the other kinds
    "bank.sqlite": (160, 40),
    "activations-*.bin": (40, 8),
    "index/*.hnsw": (60, 10),
    "index/*.json": (40, 3),
    "bank.note": (20, 1),
    "writer.lock": (1, 1),
}
OPEN_FILES = {"bank.sqlite-wal": (100, 16), "bank.sqlite-shm": (40, 4), "bank.sqlite": (40, 6), "bank.note": (6, 1)}
SIGNED = 160
"""Graphs that a stranger changed and gave a right checksum: they may find too little, and end nothing."""

IN_USE = {
    "activations-*.bin": (6, 3),
    "index/*.hnsw": (4, 1),
    "index/*.json": (4, 1),
    "bank.sqlite": (10, 3),
    "bank.note": (2, 1),
}


def cases() -> list[Case]:
    """All of them, in an order that brings each kind early."""
    found: list[Case] = []
    for base, files, alive in (("closed", FILES, False), ("open", OPEN_FILES, False), ("closed", IN_USE, True)):
        for file, (bits, others) in files.items():
            kinds = [(kind, bits if kind == "a bit" else others) for kind in BYTES]
            kinds += [(kind, max(1, others // 2) if kind == "cut" else 1) for kind in WHOLES]
            for kind, places in kinds:
                for place in range(places):
                    for read_only in (False, True) if kind in WHOLES else (place % 3 == 2,):
                        found.append(Case(0, base, file, kind, (place + 0.5) / places, read_only, alive))
    found += [Case(0, "closed", "index/*.hnsw", "signed", n / SIGNED, n % 3 == 2) for n in range(SIGNED)]
    random.Random(7).shuffle(found)
    return [Case(number, *list(vars(case).values())[1:]) for number, case in enumerate(found)]


def damage(bank: Path, case: Case) -> None:
    chosen = random.Random(case.number)
    files = sorted(bank.glob(case.file))
    path = chosen.choice(files) if files else bank / case.file
    data = path.read_bytes() if path.exists() else b""
    if case.kind in BYTES:
        if data:
            # somewhere in its part of the file
            at = min(len(data) - 1, int(case.place * len(data)) + chosen.randrange(-40, 41))
            path.write_bytes(_bytes_of(case.kind, bytearray(data), max(0, at), chosen))
    elif case.kind == "signed":
        words = np.frombuffer(data[: len(data) // 4 * 4], "<u4").copy()
        # the header, the elements, or the levels above them
        low, high = ((0, 24), (24, len(words)), (len(words) * 9 // 10, len(words)))[chosen.randrange(3)]
        for _ in range(chosen.choice((1, 3, 40))):
            words[chosen.randrange(low, high)] = chosen.choice((0, 1, 7, 600, 65_535, 1 << 24, (1 << 32) - 1))
        path.write_bytes(words.tobytes() + data[len(words) * 4 :])
        sign(path)
    elif case.kind == "a directory":
        path.unlink(missing_ok=True)
        path.mkdir()
    elif case.kind == "gone":
        path.unlink(missing_ok=True)
    else:
        whole = {
            "cut": data[: int(case.place * len(data))],
            "empty": b"",
            "noise": chosen.randbytes(max(100, len(data))),
            "longer": data + chosen.randbytes(5000),
        }
        path.write_bytes(whole[case.kind])


# -- one case


class _Steps:
    """What came of each step: its result, or who complained."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.foreign: list[str] = []

    def __call__(self, name: str, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except MembankError as exc:
            self.told.append(f"{name}: {type(exc).__name__}: {exc}"[:300])
        except BaseException as exc:
            import traceback

            where = traceback.extract_tb(exc.__traceback__)[-1]
            self.foreign.append(
                f"{name}: {type(exc).__name__}: {exc} ({Path(where.filename).name}:{where.lineno})"[:300]
            )
        return None


def try_out(path: Path, case: Case, right: dict[str, Any]) -> dict[str, Any]:
    steps = _Steps()
    wrong: list[str] = []
    bank = None
    if case.alive:
        bank = steps("open", lambda: open_bank(path, read_only=case.read_only))
        steps("ask before", lambda: answers(bank))
        damage(path, case)
    else:
        damage(path, case)
        bank = steps("open", lambda: open_bank(path, read_only=case.read_only))
    if bank is not None:
        _look(bank, right, steps, wrong, "")
        if not case.read_only:
            steps("rebuild", bank.rebuild_indexes)
            _look(bank, right, steps, wrong, " after rebuild")
            steps("ingest", lambda: bank.ingest("one more text", namespace="a"))
        steps("close", bank.close)
        if case.alive:
            # what was damaged under it is what the next one finds
            again = steps("open again", lambda: open_bank(path, read_only=True))
            if again is not None:
                _look(again, right, steps, wrong, " afterwards", more=not case.read_only)
                steps("close again", again.close)
    return {"told": steps.told, "foreign": steps.foreign, "wrong": [] if case.kind == "signed" else wrong}


def _look(bank: MemBank, right: dict[str, Any], steps: _Steps, wrong: list[str], when: str, more: bool = False) -> None:
    found, there = steps(f"ask{when}", lambda: answers(bank)), steps(f"list{when}", lambda: all_of(bank))
    report = steps(f"verify{when}", bank.verify)
    problems = [] if report is None else list(report.problems)
    if problems:
        steps.told.append(f"verify{when}: {problems[0]}"[:300])
    if report is None or problems:
        return
    if more and there is not None:
        there = [entry for entry in there if entry[1] != "one more text"]
    if found is not None and found != right["answers"]:
        wrong.append(f"answers{when}")
    if there is not None and there != right["memories"]:
        wrong.append(f"memories{when}")


def run(folder: Path, case: Case) -> dict[str, Any]:
    """Try a case out in a child process."""
    path = folder / f"case-{os.getpid()}"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(folder / case.base, path)
    right = json.loads((folder / f"{case.base}.json").read_text())
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        signal.alarm(SECONDS)
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        with os.fdopen(writing, "w") as pipe:
            json.dump(try_out(path, case, right), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    status = os.waitpid(child, 0)[1]
    shutil.rmtree(path, ignore_errors=True)
    came = json.loads(said) if said else {"told": [], "foreign": [], "wrong": []}
    return {"case": case.number, "label": case.label, "place": case.place, "read_only": case.read_only,
            "signal": status & 127, "exit": status >> 8, **came}  # fmt: skip


def run_many(folder: Path, first: int, count: int, step: int) -> Iterator[dict[str, Any]]:
    logging.disable(logging.CRITICAL)
    if not (folder / "closed").exists():
        make(folder)
    for case in cases()[first : first + count * step : step]:
        yield run(folder, case)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    for outcome in run_many(Path(sys.argv[1]), *map(int, sys.argv[2:5])):
        sys.stdout.write(json.dumps(outcome) + "\n")
