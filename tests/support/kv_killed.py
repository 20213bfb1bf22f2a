"""A process that keeps KV state without a pause is killed, again and again; each time another one restores.

Run as a program it takes a folder, the model and how many rounds; it prints what was found as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from membank_llama.kv.shelf import draft_files
from support.own_contexts import OwnContext, pieces_of, story

PROMPTS = 3
LENGTH = 300
TOKENS = 4


def main() -> None:
    folder, model, rounds = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    found = {"killed": 0, "wrong": 0, "drafts": 0, "restored": 0}
    expected = folder / "expected.json"
    _forked(lambda: expected.write_text(json.dumps(_answers(model, None)[0])), wait=True)
    chosen = random.Random(1)
    for number in range(rounds):
        child = _forked(lambda number=number: _keep_on(folder / "bank", model, number))
        ready = folder / f"ready-{number}"
        while not ready.exists():
            time.sleep(0.001)
        time.sleep(chosen.random() * 0.05)
        os.kill(child, signal.SIGKILL)
        found["killed"] += os.waitpid(child, 0)[1] == signal.SIGKILL
        store = pieces_of(folder / "bank")
        found["drafts"] += sum(len(draft_files(directory)) for directory in store.directories())
        result = folder / "result.json"
        _forked(lambda result=result: result.write_text(json.dumps(_answers(model, folder / "bank"))), wait=True)
        answers, restored = json.loads(result.read_text())
        result.unlink()
        found["wrong"] += answers != json.loads(expected.read_text())
        found["restored"] += restored
    store = pieces_of(folder / "bank")
    store.collect()
    left = [path.name for path in store.root.rglob(".*")]
    sys.stdout.write(json.dumps({**found, "left": left}) + "\n")


def _forked(task: object, *, wait: bool = False) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            task()  # type: ignore[operator]
            code = 0
        finally:
            os._exit(code)
    if wait:
        assert os.waitpid(child, 0)[1] == 0
    return child


def _answers(model: Path, bank: Path | None) -> tuple[list[list[int]], int]:
    said, restored = [], 0
    with OwnContext(model, None if bank is None else pieces_of(bank), n_ctx=512) as context:
        for seed in range(PROMPTS):
            prompt = story(LENGTH + 20, seed)
            restored += context.read(prompt)
            said.append(context.greedy(TOKENS, len(prompt)))
    return said, restored


def _keep_on(bank: Path, model: Path, number: int) -> None:
    store, chosen = pieces_of(bank), random.Random(number)
    with OwnContext(model, store, n_ctx=512) as context:
        prompt = story(LENGTH, number % PROMPTS)
        context.read(prompt)
        context.keep(prompt)
        pieces = [(stored.piece, stored.cells().copy()) for stored in map(store.read, store.files())]
        (bank.parent / f"ready-{number}").touch()
        while True:
            for piece, cells in pieces:
                waiting = store.announce(piece, cells)
                if chosen.random() < 0.5:
                    waiting.path.unlink(missing_ok=True)
                store.write(waiting, store.epoch())


if __name__ == "__main__":
    main()
