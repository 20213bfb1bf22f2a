"""Letters: memories and questions that write the same word otherwise, in scripts of many kinds.

    python benchmarks/letters.py [--encoder MODEL.gguf] [--threads 1] [--json FILE]

`everyday/letters.txt` holds "kind | told | asked": accents in one piece or two, ß and ss, dotted and dotless i, full
width, ligatures, Greek in capitals, ё and е, marks of vowels, jamo, and terms within scripts that write no spaces. They
lie in one bank beside two hundred English notes. For each kind: how often what was told comes first, and how often it
comes first and reaches the prompt. Without an encoder words alone tell.
"""

from __future__ import annotations

import argparse
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bankbench import table, write_json

from membank_llama import LlamaCppAdapter, MemBank
from membank_llama.adapters.hashing import WordsAdapter

FOLDER = Path(__file__).with_name("everyday")

SPELLED: dict[str, Callable[[str], str]] = {
    # an editor may write these in one piece
    kind: lambda text: unicodedata.normalize("NFD", text)
    for kind in ("latin, decomposed", "cyrillic", "devanagari", "hangul")
}
"""How a kind's questions are written, where that differs from the file."""

Pair = tuple[str, str, str]
"""Kind, what was told, what is asked."""


def pairs() -> list[Pair]:
    """The pairs, each question as its kind is written."""
    lines = (FOLDER / "letters.txt").read_text(encoding="utf-8").splitlines()
    split = [line.split(" | ") for line in lines]
    return [(kind, told, SPELLED.get(kind, str)(asked)) for kind, told, asked in split]


@contextmanager
def filled(encoder: Path | None, threads: int | None) -> Iterator[MemBank]:
    """A bank of what was told and of the notes."""
    adapter = WordsAdapter() if encoder is None else LlamaCppAdapter(encoder, n_threads=threads)
    notes = (FOLDER / "notes.txt").read_text(encoding="utf-8").splitlines()
    with tempfile.TemporaryDirectory() as folder, adapter, MemBank(adapter, Path(folder) / "bank") as bank:
        bank.ingest_many([*(told for _, told, _ in pairs()), *notes])
        bank.flush()
        yield bank


def measured(bank: MemBank) -> dict[str, dict[str, float]]:
    """The shares by kind and of all."""
    found: dict[str, list[tuple[bool, bool]]] = {}
    for kind, told, asked in pairs():
        best = bank.recall(asked, 1)
        first = bool(best) and best[0].text == told
        for group in (kind, "all"):
            found.setdefault(group, []).append((first, first and best[0].relevant))
    return {
        kind: {
            "pairs": len(hits),
            "first": sum(first for first, _ in hits) / len(hits),
            "first and relevant": sum(relevant for _, relevant in hits) / len(hits),
        }
        for kind, hits in sorted(found.items(), key=lambda item: item[0] == "all")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, help="a GGUF; words alone without it")
    parser.add_argument("--threads", type=int, help="of llama.cpp")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    with filled(options.encoder, options.threads) as bank:
        figures = measured(bank)
    rows = [
        [kind, str(shares["pairs"]), f"{shares['first']:.0%}", f"{shares['first and relevant']:.0%}"]
        for kind, shares in figures.items()
    ]
    table("the same word in other letters, beside 200 notes", ["", "pairs", "first", "and relevant"], rows)
    write_json(options.json, {"letters": figures})


if __name__ == "__main__":
    main()
