"""Prompt tokens evaluated a turn over a chat: no memory, our injection, injection into the system message.

    python benchmarks/prompt_cache.py MODEL.gguf [--encoder GGUF] [--turns 20] [--json FILE]

llama.cpp keeps the part of the last prompt that the next one begins with; what is evaluated is the rest. The same
questions are asked three times of the same model; replies are its own. Tokens are counted where they are evaluated,
so the figures do not depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
from rich.console import Console
from rich.table import Table

import membank_llama
from membank_llama.adapters.base import ModelAdapter
from membank_llama.memory.prompt_block import Neutraliser, build_block

NAMES = [
    "Ana",
    "Ben",
    "Carla",
    "Dmitri",
    "Elena",
    "Farid",
    "Greta",
    "Hugo",
    "Ines",
    "Jonas",
    "Kira",
    "Luis",
    "Mona",
    "Nils",
    "Olga",
    "Pavel",
    "Rosa",
    "Sven",
    "Tara",
    "Umar",
]
FACTS = [
    template.format(name=name, number=index)
    for index, name in enumerate(NAMES)
    for template in (
        "{name} lives in a house with {number} windows near the harbour.",
        "{name} works as a baker and starts at {number} in the morning.",
        "The birthday of {name} is on day {number} of March.",
    )
]
QUESTIONS = [
    ("Where does {name} live?", "What does {name} work as?", "When is the birthday of {name}?")[index % 3].format(
        name=name
    )
    for index, name in enumerate(NAMES)
]
SYSTEM = "You are a kind assistant who answers in one sentence."
REPLY_TOKENS = 24


class Counter:
    """Counts the tokens a model evaluates, by phase."""

    def __init__(self, llm: llama_cpp.Llama) -> None:
        self.total = 0
        evaluate = llm.eval

        def counting(tokens: Sequence[int]) -> None:
            self.total += len(tokens)
            evaluate(tokens)

        llm.eval = counting  # type: ignore[method-assign]


def chat(llm: llama_cpp.Llama, turns: int, system: Any = None) -> list[int]:
    """Prompt tokens evaluated in each turn; `system(question)` gives the system message's memory, if any."""
    counter, history, spent = Counter(llm), [], []
    for question in QUESTIONS[:turns]:
        history.append({"role": "user", "content": question})
        head = {"role": "system", "content": SYSTEM + (system(question) if system else "")}
        before = counter.total
        result: Any = llm.create_chat_completion([head, *history], max_tokens=REPLY_TOKENS, temperature=0.0)
        # the first reply token comes from the prompt's own evaluation, the others are evaluated one by one
        spent.append(counter.total - before - max(0, result["usage"]["completion_tokens"] - 1))
        history.append({"role": "assistant", "content": result["choices"][0]["message"]["content"]})
    return spent


def measure(model: Path, encoder: Path | None, turns: int, threads: int, n_ctx: int) -> dict[str, list[int]]:
    options: dict[str, Any] = {"n_ctx": n_ctx, "n_threads": threads, "n_threads_batch": threads, "verbose": False}
    found: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as directory:
        plain = llama_cpp.Llama(str(model), **options)
        found["no memory"] = chat(plain, turns)
        plain.close()

        ours = membank_llama.Llama(str(model), memory=Path(directory) / "bank", encoder=encoder, **options)
        ours.memory.bank.ingest_many(FACTS)
        found["newest user message (membank-llama)"] = chat(ours, turns)
        ours.close()

        head = llama_cpp.Llama(str(model), **options)
        adapter: ModelAdapter = membank_llama.LlamaCppAdapter(encoder or model, n_threads=threads)
        with membank_llama.MemBank(adapter, Path(directory) / "second") as bank:
            bank.ingest_many(FACTS)

            def block(question: str) -> str:
                hits = [hit for hit in bank.recall(question, 6) if hit.relevant]
                count = lambda text: len(head.tokenize(text.encode(), add_bos=False))  # noqa: E731
                return "\n\n" + build_block(hits, n_ctx // 4, count, Neutraliser(())).text

            found["system message"] = chat(head, turns, block)
        head.close()
        adapter.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--turns", type=int, default=20, choices=range(1, len(QUESTIONS) + 1), metavar="1-20")
    parser.add_argument("--ctx", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options.model, options.encoder, options.turns, options.threads, options.ctx)
    table = Table(
        title=f"Prompt tokens evaluated, {options.turns} turns, {options.model.name}, {options.threads} thread(s)"
    )
    for heading in ("memory goes into", "median a turn", "last turn", "all turns", "against no memory"):
        table.add_column(heading, justify="left" if heading.startswith("memory") else "right")
    base = sum(found["no memory"])
    for name, spent in found.items():
        table.add_row(
            name, f"{statistics.median(spent):.0f}", str(spent[-1]), str(sum(spent)), f"{sum(spent) / base:.2f}×"
        )
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
