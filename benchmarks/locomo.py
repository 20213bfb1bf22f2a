"""Finds the turns that answer a question: LoCoMo conversations through `MemBank.ingest_many` and `MemBank.recall`.

    python benchmarks/locomo.py DATA.json --encoder GGUF [--conversations N] [--threads N] [--json FILE]

DATA is a list of conversations {sample_id, conversation {session_N: [{speaker, dia_id, text, blip_caption?}],
session_N_date_time}, qa [{question, evidence [dia_id]}]}. Every conversation is a namespace of one bank, every turn a
memory. R@k is the share of a question's evidence among the first k, averaged over the questions that have evidence;
a session counts by its first turn in the ranking. The gate is asked twice: the conversation a question belongs
to, and another one, where nothing should be injected.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from membank_llama import MemBank, NewMemory
from membank_llama.adapters.llama_cpp import LlamaCppAdapter
from membank_llama.lexical import quoted, terms
from membank_llama.recall import RecallResult

CUTS = (5, 10)
INJECTED = 6
RANKINGS = ("dense", "FTS5 BM25", "z-scored dense + BM25", "words", "fused")
DEEP = 100


@dataclass(frozen=True)
class Question:
    """A question, the conversation it belongs to, and the turns that answer it."""

    text: str
    conversation: str
    turns: frozenset[str]

    @property
    def sessions(self) -> frozenset[str]:
        return frozenset(session_of(turn) for turn in self.turns)


def session_of(turn: str) -> str:
    """``D3:12`` → ``D3``."""
    return turn.partition(":")[0]


# -- the data


def when(stamp: str) -> float:
    """``1:56 pm on 8 May, 2023`` in seconds since 1970, UTC."""
    return datetime.strptime(stamp, "%I:%M %p on %d %B, %Y").replace(tzinfo=timezone.utc).timestamp()


def turns_of(sample: dict[str, Any]) -> Iterable[NewMemory]:
    """A conversation's turns in order, a second apart; two with the same words are one memory."""
    talk = sample["conversation"]
    sessions = sorted((key for key in talk if re.fullmatch(r"session_\d+", key)), key=lambda key: int(key[8:]))
    for session in sessions:
        start = when(talk[f"{session}_date_time"])
        for n, turn in enumerate(talk[session]):
            caption = turn.get("blip_caption")
            text = f"{turn['speaker']}: {turn['text']}" + (f" [shares a picture: {caption}]" if caption else "")
            yield NewMemory(
                text,
                {"turn": turn["dia_id"]},
                namespace=sample["sample_id"],
                conversation=sample["sample_id"],
                created_at=start + n,
            )


def questions_of(sample: dict[str, Any]) -> Iterable[Question]:
    """The questions that have evidence; ids of turns that do not exist are left out."""
    known = {item.metadata["turn"] for item in turns_of(sample) if item.metadata}
    for asked in sample["qa"]:
        ids = {part for entry in asked["evidence"] for part in re.split(r"[;,\s]+", entry)} & known
        if ids:
            yield Question(asked["question"], sample["sample_id"], frozenset(ids))


# -- measuring


Ranker = Callable[[Question], Sequence[str]]


def share_found(ranking: Sequence[str], wanted: frozenset[str], cut: int) -> float:
    return len(wanted & set(ranking[:cut])) / len(wanted)


def measure(questions: Sequence[Question], rank: Ranker, step: Callable[[], None]) -> dict[str, float]:
    """Turn and session R@k of one way to rank."""
    scores: dict[str, list[float]] = {}
    for question in questions:
        ranking = rank(question)
        sessions = list(dict.fromkeys(session_of(turn) for turn in ranking))
        for cut in CUTS:
            scores.setdefault(f"turn R@{cut}", []).append(share_found(ranking, question.turns, cut))
            scores.setdefault(f"session R@{cut}", []).append(share_found(sessions, question.sessions, cut))
        step()
    return {name: statistics.fmean(values) for name, values in scores.items()}


def turns_in(results: Iterable[RecallResult]) -> list[str]:
    return [result.metadata["turn"] for result in results]


def by_cosine(results: Iterable[RecallResult]) -> list[RecallResult]:
    return sorted(results, key=lambda result: -result.final_score)


def bm25(bank: MemBank, question: Question) -> dict[str, float]:
    """FTS5's own BM25 of the turns of a conversation that share a word with the question; higher is better."""
    rows = bank.store.registry.rows(
        "SELECT m.metadata, -bm25(memories_fts) FROM memories_fts JOIN memories AS m ON m.id = memories_fts.rowid"
        " WHERE memories_fts MATCH ? AND m.namespace = ?",
        (" OR ".join(map(quoted, terms(question.text))) or '""', question.conversation),
    )
    return {json.loads(metadata)["turn"]: score for metadata, score in rows}


def zscored_sum(bank: MemBank, question: Question, count: int) -> list[str]:
    """The textbook fusion: cosine and BM25, each z-scored over the conversation, added."""
    results = bank.recall(question.text, count, (0,), namespace=question.conversation)
    matched = bm25(bank, question)
    turns = turns_in(results)
    columns = np.array([[r.final_score for r in results], [matched.get(turn, 0.0) for turn in turns]])
    spread = np.maximum(columns.std(axis=1, keepdims=True), 1e-9)
    total = ((columns - columns.mean(axis=1, keepdims=True)) / spread).sum(axis=0)
    return [turns[i] for i in np.argsort(-total, kind="stable")]


def gate_figures(
    bank: MemBank, questions: Sequence[Question], other: dict[str, str], step: Callable[[], None]
) -> dict[str, float]:
    """Shares of questions for which something, an evidence turn, or something of another conversation is injected."""
    something, evidence, elsewhere, count = 0, 0, 0, 0
    for question in questions:
        own = [r for r in bank.recall(question.text, INJECTED, namespace=question.conversation) if r.relevant]
        away = bank.recall(question.text, INJECTED, namespace=other[question.conversation])
        something += bool(own)
        evidence += bool(question.turns & set(turns_in(own)))
        elsewhere += any(result.relevant for result in away)
        count += len(own)
        step()
    n = len(questions)
    return {
        "own conversation, something injected": something / n,
        "own conversation, evidence injected": evidence / n,
        "own conversation, memories injected on average": count / n,
        "another conversation, something injected": elsewhere / n,
    }


def run(samples: Sequence[dict[str, Any]], encoder: Path, threads: int, bars: Progress) -> dict[str, Any]:
    """Every figure of one encoder."""
    questions = [question for sample in samples for question in questions_of(sample)]
    turns = [turn for sample in samples for turn in turns_of(sample)]
    names = [sample["sample_id"] for sample in samples]
    with tempfile.TemporaryDirectory() as place, LlamaCppAdapter(encoder, n_threads=threads) as adapter:
        path = Path(place) / "bank"
        rankings: dict[str, dict[str, float]] = {}
        with MemBank(adapter, path) as bank:
            task = bars.add_task("turns remembered", total=len(turns))
            start = time.perf_counter()
            bank.ingest_many(turns, progress=lambda _label, done, _total: bars.update(task, completed=done))
            seconds = time.perf_counter() - start
            rankings["dense"] = measure(
                questions,
                # all of the namespace, so that words do not choose what the cosine ranks
                lambda q: turns_in(by_cosine(bank.recall(q.text, len(turns), (0,), namespace=q.conversation))),
                stepper(bars, "dense", len(questions)),
            )
            rankings["fused"] = measure(
                questions,
                lambda q: turns_in(bank.recall(q.text, DEEP, namespace=q.conversation)),
                stepper(bars, "fused", len(questions)),
            )
            rankings["FTS5 BM25"] = measure(
                questions,
                lambda q: sorted(found := bm25(bank, q), key=lambda turn: -found[turn]),
                stepper(bars, "FTS5 BM25", len(questions)),
            )
            rankings["z-scored dense + BM25"] = measure(
                questions,
                lambda q: zscored_sum(bank, q, len(turns)),
                stepper(bars, "z-scored sum", len(questions)),
            )
            gate = {}
            if len(names) > 1:
                other = dict(zip(names, [*names[1:], names[0]], strict=True))
                gate = gate_figures(bank, questions, other, stepper(bars, "gate", len(questions)))
        with MemBank(None, path, read_only=True) as bank:
            rankings["words"] = measure(
                questions,
                lambda q: turns_in(bank.recall(q.text, DEEP, namespace=q.conversation)),
                stepper(bars, "words", len(questions)),
            )
        return {
            "encoder": adapter.name,
            "model": adapter.model_id(),
            "threads": threads,
            "turns": len(turns),
            "questions": len(questions),
            "turns_per_second": len(turns) / seconds,
            "rankings": {name: rankings[name] for name in RANKINGS},
            "gate": gate,
        }


def stepper(bars: Progress, label: str, total: int) -> Callable[[], None]:
    task = bars.add_task(label, total=total)
    return lambda: bars.advance(task)


# -- the page


def show(console: Console, figures: dict[str, Any]) -> None:
    head = f"{figures['encoder']}, {figures['threads']} thread(s): {figures['turns']:,} turns, "
    table = Table(title=head + f"{figures['questions']:,} questions")
    columns = [f"{unit} R@{cut}" for unit in ("turn", "session") for cut in CUTS]
    table.add_column("ranked by")
    for column in columns:
        table.add_column(column, justify="right")
    for name, scores in figures["rankings"].items():
        table.add_row(name, *(f"{scores[column]:.3f}" for column in columns))
    console.print(table)
    if figures["gate"]:
        table = Table(title=f"the gate, over the first {INJECTED} memories")
        table.add_column("question asked of")
        table.add_column("share", justify="right")
        for name, value in figures["gate"].items():
            table.add_row(name, f"{value:.2f}" if "average" in name else f"{value:.1%}")
        console.print(table)
    console.print(f"remembered {figures['turns_per_second']:,.0f} turns a second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--encoder", type=Path, required=True, help="a GGUF model")
    parser.add_argument("--conversations", type=int, help="only the first so many; the gate wants two")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    samples = json.loads(options.data.read_text(encoding="utf-8"))[: options.conversations]
    console = Console()
    with Progress(console=Console(stderr=True), transient=True) as bars:
        figures = run(samples, options.encoder, options.threads, bars)
    show(console, figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
