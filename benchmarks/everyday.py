"""Everyday questions: a hundred facts about a person, asked for in other words, beside two hundred notes.

    python benchmarks/everyday.py --encoder MODEL.gguf [--encoder ...] [--threads 1] [--json FILE]

`everyday/facts.txt` holds "fact | question", no question in the words of its fact; `notes.txt` what lies beside them in
the bank; `unrelated.txt` questions and small talk that nothing in it answers. For each encoder: how often the right
fact is among the first six, how often it reaches the prompt, and how often an unrelated question is given anything.
What is chosen on the even lines is to be judged on the odd ones: both are printed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bankbench import table, write_json

from membank_llama import LlamaCppAdapter, MemBank
from membank_llama.memory.prompt_injection import MemoryOptions

FOLDER = Path(__file__).with_name("everyday")
INJECTED = MemoryOptions().top_k


def lines(name: str) -> list[str]:
    """The lines of one of the lists."""
    return (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def injected(bank: MemBank, question: str) -> list[str]:
    """What a prompt with this question would be given."""
    return [result.text for result in bank.recall(question, 2 * INJECTED) if result.relevant][:INJECTED]


def shares(bank: MemBank, pairs: Sequence[tuple[str, str]], unrelated: Sequence[str]) -> dict[str, float]:
    """Of some facts and unrelated questions the shares that are found, injected, and given anything."""
    found = [fact in (result.text for result in bank.recall(question, INJECTED)) for fact, question in pairs]
    told = [fact in injected(bank, question) for fact, question in pairs]
    given = [bool(injected(bank, question)) for question in unrelated]
    return {
        "first six": sum(found) / len(found),
        "in the prompt": sum(told) / len(told),
        "unrelated given any": sum(given) / len(given),
    }


def measured(encoder: Path, threads: int | None) -> dict[str, dict[str, float]]:
    """The shares of one encoder, for the even lines, the odd ones and all."""
    pairs = [(fact, question) for fact, question in (line.split(" | ") for line in lines("facts"))]
    unrelated = lines("unrelated")
    with (
        tempfile.TemporaryDirectory() as folder,
        LlamaCppAdapter(encoder, n_threads=threads) as adapter,
        MemBank(adapter, Path(folder) / "bank") as bank,
    ):
        bank.ingest_many([*(fact for fact, _ in pairs), *lines("notes")])
        bank.flush()
        return {
            "even lines": shares(bank, pairs[::2], unrelated[::2]),
            "odd lines": shares(bank, pairs[1::2], unrelated[1::2]),
            "all": shares(bank, pairs, unrelated),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, action="append", required=True, help="a GGUF; may be given again")
    parser.add_argument("--threads", type=int, help="of llama.cpp")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    figures = {encoder.name: measured(encoder, options.threads) for encoder in options.encoder}
    rows = [
        [name if part == "even lines" else "", part, *(f"{share:.0%}" for share in found.values())]
        for name, parts in figures.items()
        for part, found in parts.items()
    ]
    table("100 facts in other words, beside 200 notes", ["", "", *next(iter(figures.values()))["all"]], rows)
    write_json(options.json, figures)


if __name__ == "__main__":
    main()
