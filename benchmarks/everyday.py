"""Everyday questions: facts about a person, asked for in other words, beside two hundred notes.

    python benchmarks/everyday.py --encoder MODEL.gguf [--encoder ...] [--threads 1] [--json FILE]

`everyday/facts.txt` holds "fact | question", no question in the words of its fact; `notes.txt` what lies beside them in
the bank; `unrelated.txt` questions and small talk that nothing in it answers. For each encoder: how often the right
fact is among the first six, how often it reaches the prompt, and how often an unrelated question is given anything.
`kinds*.txt` are a second set, written by another hand and harder: "kind | fact | question" of six kinds (family, an
assistant, plans, shopping, code, several people), and as unrelated ones general questions and tasks, tasks that sound
personal, questions about oneself that nobody ever told the answer to, and small talk.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bankbench import table, write_json

from membank_llama import LlamaCppAdapter, MemBank, RecallResult
from membank_llama.memory.prompt_injection import MemoryOptions

FOLDER = Path(__file__).with_name("everyday")
INJECTED = MemoryOptions().top_k
UNRELATED = (("general", 0, 40), ("tasks", 40, 80), ("never told", 80, 100), ("small talk", 100, 120))
"""Parts of `kinds_unrelated.txt`, by line."""


def lines(name: str) -> list[str]:
    """The lines of one of the lists."""
    return (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def relevant(bank: MemBank, question: str) -> list[RecallResult]:
    """What a prompt with this question would be given."""
    return [result for result in bank.recall(question, 2 * INJECTED) if result.relevant][:INJECTED]


def injected(bank: MemBank, question: str) -> list[str]:
    """The same as texts."""
    return [result.text for result in relevant(bank, question)]


def shares(bank: MemBank, pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Of some facts the shares that are found and injected."""
    found = [fact in (result.text for result in bank.recall(question, INJECTED)) for fact, question in pairs]
    told = [fact in injected(bank, question) for fact, question in pairs]
    return {"first six": sum(found) / len(found), "in the prompt": sum(told) / len(told)}


def given(bank: MemBank, unrelated: Sequence[str]) -> float:
    """The share of unrelated questions that are given anything."""
    return sum(bool(injected(bank, question)) for question in unrelated) / len(unrelated)


def measured(encoder: Path, threads: int | None) -> dict[str, dict[str, float]]:
    """The shares of one encoder, of both sets and of the second one's parts."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder, LlamaCppAdapter(encoder, n_threads=threads) as adapter:
        pairs = [(fact, question) for fact, question in (line.split(" | ") for line in lines("facts"))]
        with MemBank(adapter, Path(folder) / "facts") as bank:
            bank.ingest_many([*(fact for fact, _ in pairs), *lines("notes")])
            bank.flush()
            found["100 facts"] = shares(bank, pairs) | {"unrelated given any": given(bank, lines("unrelated"))}
        kinds = [tuple(line.split(" | ")) for line in lines("kinds")]
        unrelated = lines("kinds_unrelated")
        with MemBank(adapter, Path(folder) / "kinds") as bank:
            bank.ingest_many([*(fact for _, fact, _ in kinds), *lines("kinds_notes")])
            bank.flush()
            of = shares(bank, [(fact, question) for _, fact, question in kinds])
            for name, first, end in UNRELATED:
                found[f"six kinds; {name}"] = of | {"unrelated given any": given(bank, unrelated[first:end])}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, action="append", required=True, help="a GGUF; may be given again")
    parser.add_argument("--threads", type=int, help="of llama.cpp")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    figures = {encoder.name: measured(encoder, options.threads) for encoder in options.encoder}
    rows = [
        [name if part == "100 facts" else "", part, *(f"{share:.0%}" for share in found.values())]
        for name, parts in figures.items()
        for part, found in parts.items()
    ]
    table("facts in other words, beside 200 notes", ["", "", *next(iter(figures.values()))["100 facts"]], rows)
    write_json(options.json, figures)


if __name__ == "__main__":
    main()
