"""Measure the embedded model in llama.cpp: ``python models/eval_recall_tiny.py models/recall-tiny.gguf``.

Names, numbers and dates are those that training never generates; phrasings are seen, unseen or free as each row says.
An answer counts where it is the right one to the letter. Needs the package and `gguf`, not torch.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "models")]

import llama_cpp  # noqa: E402
import numpy as np  # noqa: E402
from recall_tiny.dialogues import UNSEEN_ASK_FRAMES, UNSEEN_TELL_FRAMES, Dialogues, Line, block_of  # noqa: E402
from recall_tiny.facts import Fact, make  # noqa: E402
from recall_tiny.words import Words  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import track  # noqa: E402
from rich.table import Table  # noqa: E402

from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter  # noqa: E402
from membank_llama.gguf.builtin import NOTED, UNKNOWN  # noqa: E402

Case = tuple[list[dict[str, str]], str]
FIFTY = 50
SPEED_TOKENS = 256


class Cases:
    """Questions with the one right answer.

    Args:
        phrasing: tell and ask in "seen", "unseen" or "free" ways, see `recall_tiny.phrasings`.
    """

    def __init__(self, seed: str, phrasing: str) -> None:
        self.dialogues = Dialogues(Words(random.Random(seed), held=True))
        self.words, self.rng, self.phrasing = self.dialogues.words, self.dialogues.rng, phrasing

    def tell(self, fact: Fact) -> str:
        if self.phrasing == "seen":
            return self.dialogues.telling(fact)
        told = fact.tell(self.words, self.phrasing)
        return self.rng.choice(UNSEEN_TELL_FRAMES).format(told) if self.rng.random() < 0.2 else told

    def ask(self, fact: Fact) -> tuple[str, str]:
        if self.phrasing == "seen":
            return self.dialogues.question(fact)
        asked, answer = fact.ask(self.words, self.phrasing)
        lower = asked[:1].lower() + asked[1:] if not asked.startswith("I ") else asked
        framed = self.rng.choice(UNSEEN_ASK_FRAMES).format(asked, lower=lower)
        return (framed if self.rng.random() < 0.2 else asked), answer

    def block(self, texts: list[str]) -> str:
        first = self.dialogues.day()
        return block_of([Line(n, text, "user", first + n * 86400.0) for n, text in enumerate(texts)])

    def known(self, memories: int) -> Case:
        """A block of so many facts, and a question that one of them answers."""
        facts = self.dialogues.distinct(memories)
        asked, answer = self.ask(self.rng.choice(facts))
        return _user(self.block([self.tell(fact) for fact in facts]) + asked), answer

    def unknown(self, memories: int) -> Case:
        """A question that nothing in the block answers, about a kind or a person that is in it where it can be."""
        facts = self.dialogues.distinct(memories)
        keys = {fact.key for fact in facts}
        asked = self.dialogues.fact_apart(facts)
        for _ in range(20):
            near = make(self.rng.choice(facts).kind, self.words) if facts else asked
            if near.key not in keys:
                asked = near
                break
        block = self.block([self.tell(fact) for fact in facts]) if facts else ""
        return _user(block + self.ask(asked)[0]), UNKNOWN

    def updated(self, memories: int) -> Case:
        """Two values of one fact in the block: the newer one holds."""
        facts = self.dialogues.distinct(memories)
        old = self.rng.choice(facts)
        new = self.dialogues.fact(old)
        rest = [self.tell(fact) for fact in facts if fact is not old]
        at = sorted(self.rng.sample(range(len(rest) + 2), 2))
        for place, fact in zip(at, (old, new), strict=True):
            rest.insert(place, self.tell(fact))
        asked, answer = self.ask(new)
        return _user(self.block(rest) + asked), answer

    def told(self, memories: int) -> Case:
        """Told in the window, without a block."""
        facts = self.dialogues.distinct(memories)
        messages = []
        for fact in facts:
            messages += [*_user(self.tell(fact)), {"role": "assistant", "content": NOTED}]
        asked, answer = self.ask(self.rng.choice(facts))
        return [*messages, *_user(asked)], answer

    def noted(self, memories: int) -> Case:
        """A new fact, with others in the block."""
        facts = self.dialogues.distinct(memories)
        block = self.block([self.tell(fact) for fact in facts[1:]]) if memories > 1 else ""
        return _user(block + self.tell(facts[0])), NOTED


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def suites() -> list[tuple[str, str, Callable[[Cases, int], Case]]]:
    """Name, phrasing, and how the n-th case is made."""
    return [
        ("held-out names, 1–8 memories", "seen", lambda c, n: c.known(1 + n % 8)),
        ("unseen phrasings, 1–8 memories", "unseen", lambda c, n: c.known(1 + n % 8)),
        ("free phrasings, 1–8 memories", "free", lambda c, n: c.known(1 + n % 8)),
        ("with five distractors", "seen", lambda c, n: c.known(6)),
        ("1 memory", "seen", lambda c, n: c.known(1)),
        ("2 memories", "seen", lambda c, n: c.known(2)),
        ("4 memories", "seen", lambda c, n: c.known(4)),
        ("8 memories", "seen", lambda c, n: c.known(8)),
        ("without memory: don't know", "seen", lambda c, n: c.unknown(0)),
        ("without memory, unseen phrasings: don't know", "unseen", lambda c, n: c.unknown(0)),
        ("the wrong memories, 1–8: don't know", "seen", lambda c, n: c.unknown(1 + n % 8)),
        ("updated, the newer holds", "seen", lambda c, n: c.updated(1 + n % 4)),
        ("told in the window, 1–4 facts", "seen", lambda c, n: c.told(1 + n % 4)),
        ("takes note", "seen", lambda c, n: c.noted(1 + n % 4)),
    ]


def exact_match(llm: Any, name: str, count: int, seed: int, wrong: list[dict[str, str]]) -> float:
    """Share of right answers in one suite; what was wrong is appended to `wrong`."""
    _, phrasing, case = next(suite for suite in suites() if suite[0] == name)
    cases = Cases(f"{seed}/{name}", phrasing)
    right = 0
    for number in range(count):
        messages, expected = case(cases, number)
        answer = reply(llm, messages)
        right += answer == expected
        if answer != expected:
            wrong.append({"suite": name, "asked": messages[-1]["content"], "expected": expected, "answer": answer})
    return right / count


def reply(llm: Any, messages: list[dict[str, str]]) -> str:
    answer = llm.create_chat_completion(messages=messages, max_tokens=64, temperature=0.0)
    return str(answer["choices"][0]["message"]["content"])


def first_of_fifty(llm: Any, rounds: int, seed: int, phrasing: str) -> float:
    """Share of questions whose memory has the highest cosine of fifty, by the captured hidden state alone."""
    adapter = LlamaCppAdapter(llm, n_threads=1)
    cases = Cases(f"{seed}/fifty/{phrasing}", phrasing)
    hits = []
    try:
        for _ in track(range(rounds), description="fifty", transient=True):
            facts = cases.dialogues.distinct(FIFTY)
            memories = adapter.encode_batch([cases.tell(fact) for fact in facts])
            questions = adapter.encode_batch([cases.ask(fact)[0] for fact in facts])
            hits += list(np.argmax(questions @ memories.T, axis=1) == np.arange(FIFTY))
    finally:
        adapter.close()
    return float(np.mean(hits))


def speed(path: Path) -> float:
    """Tokens generated in a second on one thread, median of five."""
    llm = llama_cpp.Llama(str(path), n_ctx=1024, n_threads=1, n_threads_batch=1, verbose=False)
    rates = []
    for _ in range(5):
        llm.reset()
        llm.eval(llm.tokenize(b"What is the code of my bicycle lock?"))
        started = time.perf_counter()
        for _ in range(SPEED_TOKENS):
            llm.eval([llm.sample(temp=0.0)])
        rates.append(SPEED_TOKENS / (time.perf_counter() - started))
    llm.close()
    return statistics.median(rates)


def measure(path: Path, count: int, rounds: int, seed: int, wrong: list[dict[str, str]]) -> dict[str, float]:
    """All figures of one file."""
    llm = llama_cpp.Llama(str(path), n_ctx=1024, n_threads=1, n_threads_batch=1, verbose=False)
    figures = {
        name: exact_match(llm, name, count, seed, wrong)
        for name, *_ in track(suites(), description="questions", transient=True)
    }
    figures["first of fifty by hidden states"] = first_of_fifty(llm, rounds, seed, "seen")
    figures["first of fifty, unseen phrasings"] = first_of_fifty(llm, rounds, seed, "unseen")
    llm.close()
    figures["tokens a second, one thread"] = speed(path)
    figures["bytes"] = float(path.stat().st_size)
    return figures


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", default=ROOT / "models" / "recall-tiny.gguf")
    parser.add_argument("--count", type=int, default=400, help="questions a row")
    parser.add_argument("--rounds", type=int, default=10, help="of fifty questions against fifty memories")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--wrong", type=int, default=0, help="print so many wrong answers")
    parser.add_argument("--record", action="store_true", help="write the figures into the file's metadata")
    args = parser.parse_args(argv)
    wrong: list[dict[str, str]] = []
    figures = measure(args.model, args.count, args.rounds, args.seed, wrong)
    table = Table("what", "figure", title=f"{args.model.name}, {args.count} questions a row, llama.cpp, greedy")
    for name, value in figures.items():
        table.add_row(name, f"{value:.1%}" if value <= 1 else f"{value:,.0f}")
    console = Console()
    console.print(table)
    for row in wrong[: args.wrong]:
        console.print_json(json.dumps(row))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if args.record:
        from recall_tiny.record import record

        record(args.model, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
