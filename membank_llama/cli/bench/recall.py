"""Whether recall finds the turns that answer: conversations through `MemBank.ingest_many` and `MemBank.recall`.

Every conversation is a namespace of one bank, every turn a memory. A question searches its own conversation; a session
counts by its first turn in the ranking. Baselines stand beside recall: the cosine of the whole question, SQLite's
BM25 over the same stems, their reciprocal ranks fused, and their z-scores added. The gate is asked three times: in the
question's own conversation; in another one, where nothing should be injected; and there once more with the names in the
question changed to those who speak there.
"""

from __future__ import annotations

import re
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from membank_llama.adapters.base import ModelAdapter
from membank_llama.adapters.token_states import TokenStates
from membank_llama.core.types import Progress, Vector
from membank_llama.memory.bank import MemBank
from membank_llama.memory.tuning import Labelled, fit, measure, quality
from membank_llama.recall.query_terms import looked_up
from membank_llama.recall.signals import Weights, default_weights
from membank_llama.store.full_text import TOKENIZER
from membank_llama.store.namespace_snapshot import NamespaceSnapshot

from .locomo import LabelledConversation, LabelledQuestion
from .ranking_measures import measures

DEEP = 100
"""So many results are asked for: the first ten sessions may stand far down."""

INJECTED = 6
RANK_CONSTANT = 60
"""Of reciprocal rank fusion (Cormack et al. 2009, doi:10.1145/1571941.1572114)."""

_OFF: dict[str, float] = dict.fromkeys(vars(Weights()), 0.0)
_STEPS = (
    "words", "dense", "tokens", "nearby_words", "nearby_dense", "nearby_tokens", "session", "time", "speaker", "asks"
)  # fmt: skip


def steps(tokens: bool = False) -> dict[str, Weights]:
    """Recall with its signals switched on one after the other, each with its default weight; of a bank that keeps
    `tokens`, or of one that does not."""
    default, names, found = vars(default_weights(tokens)), list[str](), dict[str, Weights]()
    for name in (step for step in _STEPS if default[step]):
        names.append(name)
        label = "recall: words" if len(names) == 1 else f"  + {name}"
        found[label] = Weights.of(_OFF | {signal: default[signal] for signal in names})
    return found


@dataclass
class BenchQuestion:
    """One question with all that is needed to judge a ranking of memory ids."""

    question: LabelledQuestion
    namespace: str
    ids: frozenset[int]
    session_of: Mapping[int, str]

    @property
    def sessions(self) -> frozenset[str]:
        return frozenset(self.session_of[memory] for memory in self.ids)


@dataclass
class RankingScores:
    """Means over the questions of one way to rank: of turns, of sessions, and by category; seconds a question."""

    turn: dict[str, float]
    session: dict[str, float]
    categories: dict[str, dict[str, float]]
    seconds: list[float] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        p50, p95 = np.percentile(self.seconds, [50, 95]) * 1000
        return {
            "turn": self.turn, "session": self.session, "categories": self.categories,
            "p50_ms": float(p50), "p95_ms": float(p95),
        }  # fmt: skip


Ranker = Callable[[BenchQuestion], Sequence[int]]


class CachingEncoder(ModelAdapter):
    """An adapter that encodes each question once, so that every way to rank can ask them all."""

    def __init__(self, adapter: ModelAdapter) -> None:
        self._adapter = adapter
        self._known: dict[str, Vector] = {}
        self._tokens: dict[str, TokenStates] = {}
        self.seconds: list[float] = []

    @property
    def hidden_dim(self) -> int:
        return self._adapter.hidden_dim

    @property
    def name(self) -> str:
        return self._adapter.name

    def model_id(self) -> str:
        return self._adapter.model_id()

    def encode(self, text: str) -> Vector:
        if text not in self._known:
            start = time.perf_counter()
            self._known[text] = self._adapter.encode(text)
            self.seconds.append(time.perf_counter() - start)
        return self._known[text]

    @property
    def token_dim(self) -> int:
        return self._adapter.token_dim

    def encode_tokens(self, texts: Sequence[str]) -> list[TokenStates]:
        if len(texts) > 2:
            return self._adapter.encode_tokens(texts)
        for text in texts:
            if text not in self._tokens:
                start = time.perf_counter()
                self._tokens[text] = self._adapter.encode_tokens([text])[0]
                self.seconds.append(time.perf_counter() - start)
        return [self._tokens[text] for text in texts]

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        if len(texts) > 2:
            return self._adapter.encode_batch(texts)
        return np.stack([self.encode(text) for text in texts])


class RecallBench:
    """A bank of conversations, and the questions about them.

    Args:
        path: where the bank is made; it must hold none yet.
    """

    def __init__(
        self,
        conversations: Sequence[LabelledConversation],
        adapter: ModelAdapter,
        path: Path,
        progress: Progress | None = None,
        **options: Any,
    ) -> None:
        self._progress = progress
        self.adapter = CachingEncoder(adapter)
        self.bank = MemBank(self.adapter, path, **options)
        turns = [turn for talk in conversations for turn in talk.turns]
        start = time.perf_counter()
        stored = [result.memory_id for result in self.bank.ingest_many(turns, progress=progress)]
        self.turns_per_second = len(turns) / (time.perf_counter() - start)
        self.bank.flush()
        self.asked: list[BenchQuestion] = []
        for talk in conversations:
            ids, stored = stored[: len(talk.turns)], stored[len(talk.turns) :]
            sessions = dict(zip(reversed(ids), reversed(talk.sessions), strict=True))
            self.asked += [
                BenchQuestion(q, talk.name, frozenset(ids[row] for row in q.evidence), sessions) for q in talk.asked
            ]
        self.turns = len(turns)
        self.left_out = sum(talk.left_out for talk in conversations)

    def close(self) -> None:
        if "_full_text" in vars(self):
            self._full_text.close()
        self.bank.close()

    # -- ways to rank

    def recalled(self, weights: Weights | None = None, top_k: int = DEEP) -> Ranker:
        """`MemBank.recall` itself."""

        def rank(asked: BenchQuestion) -> list[int]:
            results = self.bank.recall(
                asked.question.text,
                top_k,
                namespace=asked.namespace,
                now=asked.question.now,
                weights=weights,
                zone=timezone.utc,
            )
            return [result.memory_id for result in results]

        return rank

    def _snapshot(self, asked: BenchQuestion) -> NamespaceSnapshot:
        return self.bank.snapshot(asked.namespace)

    def _memories(self, asked: BenchQuestion) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Ids of the memories asked, rising."""
        return np.unique(self._snapshot(asked).owner)

    def _cosines(self, asked: BenchQuestion) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The cosine of each memory, of a long one that of its best passage."""
        snapshot = self._snapshot(asked)
        vector = self.adapter.encode(asked.question.text)
        cosines = self.bank.store.scores(vector, snapshot.slots, 0).astype(np.float64)
        return np.maximum.reduceat(cosines, np.searchsorted(snapshot.owner, self._memories(asked)))

    @cached_property
    def _full_text(self) -> sqlite3.Connection:
        """All memories in FTS5: the bank's own index of words ranks nothing."""
        db = sqlite3.connect(":memory:")
        db.execute(f"CREATE VIRTUAL TABLE plain USING fts5 (text, content='', tokenize='{TOKENIZER}')")
        db.executemany("INSERT INTO plain (rowid, text) VALUES (?, ?)", ((m.id, m.text) for m in self.bank.memories()))
        return db

    def _bm25(self, asked: BenchQuestion) -> np.ndarray[Any, np.dtype[np.float64]]:
        forms = [form.replace('"', '""') for term in looked_up(asked.question.text) for form in term.forms]
        words = " OR ".join(f'"{form}"' for form in forms) or '""'
        found = dict(self._full_text.execute("SELECT rowid, -bm25(plain) FROM plain WHERE plain MATCH ?", (words,)))
        return np.array([found.get(memory, 0.0) for memory in self._memories(asked).tolist()])

    def baselines(self) -> dict[str, Ranker]:
        """What others do: each alone, and two plain fusions."""

        def ranked(score: Callable[[BenchQuestion], Any]) -> Ranker:
            return lambda asked: self._memories(asked)[np.argsort(-score(asked), kind="stable")].tolist()

        def reciprocal(asked: BenchQuestion) -> Any:
            ranks = [np.argsort(np.argsort(-s, kind="stable")) for s in (self._cosines(asked), self._bm25(asked))]
            return sum(1 / (RANK_CONSTANT + 1 + rank) for rank in ranks)

        def standardised(asked: BenchQuestion) -> Any:
            return sum((s - s.mean()) / max(s.std(), 1e-9) for s in (self._cosines(asked), self._bm25(asked)))

        return {
            "dense cosine": ranked(self._cosines),
            "BM25": ranked(self._bm25),
            "reciprocal rank fusion": ranked(reciprocal),
            "z-scores added": ranked(standardised),
        }

    # -- judging

    def scores(self, label: str, rank: Ranker) -> RankingScores:
        """Ask every question."""
        turns, sessions, seconds = [], [], []
        for number, asked in enumerate(self.asked, 1):
            start = time.perf_counter()
            ranking = rank(asked)
            seconds.append(time.perf_counter() - start)
            turns.append(measures(ranking, asked.ids))
            order = list(dict.fromkeys(asked.session_of[memory] for memory in ranking))
            sessions.append(measures(order, asked.sessions))
            if self._progress is not None:
                self._progress(label.strip(" +"), number, len(self.asked))
        groups: dict[str, list[int]] = {}
        for row, asked in enumerate(self.asked):
            groups.setdefault(asked.question.category, []).append(row)
        categories = {
            name: {"questions": float(len(rows))}
            | {f"turn {k}": v for k, v in _means([turns[row] for row in rows]).items()}
            | {f"session {k}": v for k, v in _means([sessions[row] for row in rows]).items()}
            for name, rows in sorted(groups.items())
        }
        return RankingScores(_means(turns), _means(sessions), categories, seconds)

    def gate(self) -> dict[str, float]:
        """Shares of questions for which something is injected, by what they are asked of."""
        names = list(dict.fromkeys(asked.namespace for asked in self.asked))
        other = dict(zip(names, [*names[1:], *names[:1]], strict=True))
        counts: dict[str, list[float]] = {}
        for number, asked in enumerate(self.asked, 1):
            own = self._injected(asked.question.text, asked.namespace, asked.question.now)
            counts.setdefault("own conversation", []).append(bool(own))
            counts.setdefault("own conversation, evidence among it", []).append(bool(asked.ids & set(own)))
            counts.setdefault("memories injected on average", []).append(len(own))
            if len(names) > 1:
                away = other[asked.namespace]
                found = self._injected(asked.question.text, away, asked.question.now)
                counts.setdefault("another conversation", []).append(bool(found))
                renamed = self._renamed(asked.question.text, asked.namespace, away)
                if renamed is not None:
                    found = self._injected(renamed, away, asked.question.now)
                    counts.setdefault("another conversation, names changed to fit it", []).append(bool(found))
            if self._progress is not None:
                self._progress("gate", number, len(self.asked))
        return {name: statistics.fmean(values) for name, values in counts.items()}

    def _injected(self, text: str, namespace: str, now: float) -> list[int]:
        results = self.bank.recall(text, INJECTED, namespace=namespace, now=now, zone=timezone.utc)
        return [result.memory_id for result in results if result.relevant]

    def _renamed(self, text: str, home: str, away: str) -> str | None:
        """The question with the names of those who speak at home changed to those who speak away."""
        here, there = (self.bank.snapshot(name).names for name in (home, away))
        changed = text
        for old, new in zip(here, there, strict=False):
            changed = re.sub(rf"\b{re.escape(old)}\b", new, changed)
        return changed if changed != text else None

    # -- tuning

    def leave_one_out(self) -> dict[str, Any]:
        """Weights fitted to all conversations but one and judged on that one, against weights fitted to all."""
        labelled = [Labelled(a.question.text, a.ids, a.namespace, a.question.now) for a in self.asked]
        cases = measure(self.bank, labelled, self._progress)
        names = [asked.namespace for asked in self.asked]
        default = self.bank.weights()
        tuned, total, parts = fit(cases, default, self._progress), 0.0, {}
        for name in dict.fromkeys(names):
            inside = [case for case, of in zip(cases, names, strict=True) if of == name]
            outside = [case for case, of in zip(cases, names, strict=True) if of != name]
            if not outside:
                return {}
            parts[name] = quality(inside, fit(outside, default, self._progress))
            total += parts[name] * len(inside)
        return {
            "default weights": quality(cases, default),
            "tuned on all": quality(cases, tuned),
            "leaving one out": total / len(cases),
            "loss": quality(cases, tuned) - total / len(cases),
            "by conversation": parts,
            "weights tuned on all": vars(tuned),
        }


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.fmean(row[name] for row in rows) for name in rows[0]}


def report(
    conversations: Sequence[LabelledConversation],
    adapter: ModelAdapter,
    *,
    progress: Progress | None = None,
    leave_one_out: bool = False,
    step_by_step: bool = True,
) -> dict[str, Any]:
    """Every figure, JSON-able."""
    with tempfile.TemporaryDirectory(prefix="membank-bench-") as folder:
        bench = RecallBench(conversations, adapter, Path(folder) / "bank", progress)
        try:
            for asked in bench.asked:
                # what is timed is recall, not encoding
                bench.recalled(top_k=1)(asked)
                bench.adapter.encode(asked.question.text)
            rankers = bench.baselines()
            found_steps = steps(bench.bank.keeps_tokens) if step_by_step else {}
            rankers |= {label: bench.recalled(weights) for label, weights in found_steps.items()}
            rankers["recall"] = bench.recalled()
            found = {label: bench.scores(label, rank).as_dict() for label, rank in rankers.items()}
            five = bench.scores("top 5", bench.recalled(top_k=5))
            return {
                "encoder": adapter.name,
                "model": adapter.model_id(),
                "conversations": len(conversations),
                "turns": bench.turns,
                "turns_per_second": bench.turns_per_second,
                "questions": len(bench.asked),
                "questions_without_evidence": bench.left_out,
                "rankings": found,
                "top_5": {name: five.as_dict()[name] for name in ("p50_ms", "p95_ms")},
                "encoding_p50_ms": 1000 * statistics.median(bench.adapter.seconds),
                "gate": bench.gate(),
                "leave_one_out": bench.leave_one_out() if leave_one_out else {},
            }
        finally:
            bench.close()
