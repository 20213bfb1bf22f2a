"""Updates: what a person told once and otherwise later; is the current value answered, and last in the block?

    python benchmarks/updates.py --encoder MODEL.gguf [--model MODEL.gguf] [--threads 1] [--json FILE]

`everyday/updates.txt` holds "before | after | question | old value | new value", forty lines. Each is told beside the
notes of everyday.py in three ways: changed once; changed and changed back; and said by the model first, in the same
words, before the person says otherwise. Counted is how often the block that a question is given holds the current
value, how often no other value of it comes after, and with `--model` how often that model answers with it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bankbench import holds, reply_of, table, write_json
from everyday import lines, relevant

from membank_llama import LlamaCppAdapter, MemBank, NewMemory
from membank_llama.memory.llama_with_memory import SafeLlama
from membank_llama.memory.prompt_block import Neutraliser, build_block

DAY = 86_400.0
TOKENS = 40
Fact = tuple[str, str, str, str, str]


def facts() -> list[Fact]:
    """Before, after, question, old value, new value."""
    return [tuple(part.strip() for part in line.split("|")) for line in lines("updates")]  # type: ignore[misc]


def once(fact: Fact) -> tuple[list[tuple[str, str, int]], str, str]:
    """Turns as (role, text, days ago), the current value, the other."""
    return [("user", fact[0], 60), ("user", fact[1], 5)], fact[4], fact[3]


def back(fact: Fact) -> tuple[list[tuple[str, str, int]], str, str]:
    return [("user", fact[0], 90), ("user", fact[1], 30), ("user", fact[0], 2)], fact[3], fact[4]


def model_first(fact: Fact) -> tuple[list[tuple[str, str, int]], str, str]:
    return [("assistant", fact[0], 60), ("user", fact[1], 5)], fact[4], fact[3]


WAYS: dict[str, Callable[[Fact], tuple[list[tuple[str, str, int]], str, str]]] = {
    "changed once": once, "changed back": back, "the model first": model_first,
}  # fmt: skip


def block_for(bank: MemBank, question: str) -> str:
    """The block that a prompt with this question is given."""
    return build_block(relevant(bank, question), 1024, lambda text: len(text) // 3, Neutraliser(())).text


def stands_last(block: str, current: str, outdated: str) -> bool:
    """Whether the last line of a block that holds either value holds the current one."""
    told = [line for line in block.splitlines() if holds(line, current) or holds(line, outdated)]
    return bool(told) and holds(told[-1], current)


def measured(bank: MemBank, way: str, llm: Any, show: bool) -> dict[str, float]:
    """The shares of one way of telling."""
    told: list[NewMemory] = [NewMemory(note, created_at=time.time() - 120 * DAY) for note in lines("notes")]
    for number, fact in enumerate(facts()):
        for role, text, days in WAYS[way](fact)[0]:
            told.append(
                NewMemory(text, role=role, conversation=f"{number}/{days}", created_at=time.time() - days * DAY)
            )
    bank.ingest_many(sorted(told, key=lambda memory: memory.created_at or 0))
    bank.flush()
    in_block, last, right = 0, 0, 0
    for fact in facts():
        _, current, outdated = WAYS[way](fact)
        block = block_for(bank, fact[2])
        in_block += holds(block, current)
        last += stands_last(block, current, outdated)
        if llm is not None:
            reply = reply_of(llm, [{"role": "user", "content": block + fact[2]}], TOKENS)
            right += holds(reply, current)
            if show and not holds(reply, current):
                print(f"{block}> {fact[2]}\n< {reply} [{current}, not {outdated}]\n")
        elif show and not stands_last(block, current, outdated):
            print(f"{block}> {fact[2]} [{current}]\n")
    count = len(facts())
    shares = {"in the block": in_block / count, "and stands last": last / count}
    return shares if llm is None else {**shares, "answered": right / count}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, required=True, help="a GGUF that encodes")
    parser.add_argument("--model", type=Path, help="a GGUF that answers; without it blocks alone are looked at")
    parser.add_argument("--threads", type=int, default=1, help="of llama.cpp")
    parser.add_argument("--show", action="store_true", help="print what went wrong")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args(arguments)
    load = {"n_ctx": 4096, "n_threads": options.threads, "n_threads_batch": options.threads, "verbose": False}
    llm = None if options.model is None else SafeLlama(str(options.model), **load)
    figures: dict[str, dict[str, float]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        LlamaCppAdapter(options.encoder, n_threads=options.threads) as adapter,
    ):
        for way in WAYS:
            with MemBank(adapter, Path(folder) / way.replace(" ", "-")) as bank:
                figures[way] = measured(bank, way, llm, options.show)
    heads = list(next(iter(figures.values())))
    rows = [[way, *(f"{found[head]:.0%}" for head in heads)] for way, found in figures.items()]
    table("forty facts, each told otherwise later: the current value", ["", *heads], rows)
    write_json(options.json, figures)


if __name__ == "__main__":
    main()
