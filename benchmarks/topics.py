"""Topics: do memories that belong together come together, what are they called, and how long does it take?

    python benchmarks/topics.py --encoder MODEL.gguf|words [--data locomo-dev.json] [--n 100000] [--show] [--json FILE]

`everyday/topics.txt` holds "subject | memory": ten subjects of twelve memories each, and twenty lines of small talk and
questions, which belong to none. `everyday/kinds.txt` has six kinds of twenty facts. Of LoCoMo's conversations the
sessions are taken for subjects, though a session is about several things, and several are about one.

Compared are what `MemBank.topics` finds, spherical k-means with k-means++ over the full vectors (the best of ten by its
own measure, as many clusters), and the sizes of the topics dealt out by chance. NMI is the normalised mutual
information with the labels, ARI the adjusted Rand index, purity the share that lies where its own label is commonest.
With `--n` so many made-up memories are told (bankbench.py), and the processor time of each call is taken.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
from bankbench import Precomputed, falling, sentences, table, write_json

from membank_llama import LlamaCppAdapter, MemBank, NewMemory
from membank_llama.adapters.base import ModelAdapter
from membank_llama.adapters.hashing import WordsAdapter
from membank_llama.cli.bench.locomo import read_conversations
from membank_llama.core.types import Vector

FOLDER = Path(__file__).with_name("everyday")
CHATTER, WORDS = "chatter", "words"
TRIES, ROUNDS = 10, 30
Labels = npt.NDArray[np.intp]


def numbers(labels: Sequence[object]) -> Labels:
    """Labels as numbers from 0."""
    known = {label: place for place, label in enumerate(dict.fromkeys(labels))}
    return np.array([known[label] for label in labels], np.intp)


def counts_of(found: Labels, labels: Labels) -> npt.NDArray[np.float64]:
    counts = np.zeros((found.max() + 1, labels.max() + 1))
    np.add.at(counts, (found, labels), 1)
    return counts


def entropy(shares: npt.NDArray[np.float64]) -> float:
    held = shares[shares > 0]
    return float(-(held * np.log(held)).sum())


def scores(found: Sequence[object], labels: Sequence[object]) -> dict[str, float]:
    """NMI, ARI and purity of groups against labels."""
    counts = counts_of(numbers(found), numbers(labels))
    total = counts.sum()
    ours, theirs = entropy(counts.sum(axis=1) / total), entropy(counts.sum(axis=0) / total)
    shared = ours + theirs - entropy(counts.ravel() / total)

    def pairs(values: npt.NDArray[np.float64]) -> float:
        return float((values * (values - 1) / 2).sum())

    together, apart = pairs(counts.sum(axis=1)), pairs(counts.sum(axis=0))
    expected = together * apart / pairs(np.array([total]))
    return {
        "NMI": shared / max(1e-9, (ours * theirs) ** 0.5),
        "ARI": (pairs(counts) - expected) / max(1e-9, (together + apart) / 2 - expected),
        "purity": float(counts.max(axis=1).sum() / total),
    }


def kmeans(rows: Vector, k: int) -> Labels:
    """Spherical k-means, the best of ten beginnings."""
    best: tuple[float, Labels] | None = None
    for seed in range(TRIES):
        rng = np.random.default_rng(seed)
        centres = rows[rng.integers(len(rows))][np.newaxis]
        while len(centres) < k:
            far = np.maximum(1 - (rows @ centres.T).max(axis=1), 0).astype(np.float64)
            centres = np.concatenate([centres, rows[rng.choice(len(rows), 1, p=far / far.sum())]])
        for _ in range(ROUNDS):
            of = (rows @ centres.T).argmax(axis=1)
            sums = np.zeros_like(centres)
            np.add.at(sums, of, rows)
            centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
        cosines = rows @ centres.T
        if best is None or cosines.max(axis=1).sum() > best[0]:
            best = float(cosines.max(axis=1).sum()), cosines.argmax(axis=1)
    return best[1] if best is not None else np.zeros(0, np.intp)


def compared(bank: MemBank, namespace: str, labels: Mapping[int, str], show: bool) -> dict[str, dict[str, float]]:
    """The scores of each way on one namespace, over what belongs to a topic and is no small talk."""
    topics = bank.topics(namespace)
    of = {memory_id: topic.id for topic in topics for memory_id in topic.ids}
    ids = [memory_id for memory_id, label in labels.items() if label != CHATTER and memory_id in of]
    wanted = [labels[memory_id] for memory_id in ids]
    snapshot = bank.snapshot(namespace)
    codes = bank.store.codes(snapshot.slots[snapshot.places(np.array(ids, np.int64))], 0)
    vectors = bank.store.hierarchy.decode(codes, 0).astype(np.float32)
    found = [of[memory_id] for memory_id in ids]
    told = sum(label != CHATTER for label in labels.values())
    facts = {"topics": float(len(topics)), "in one": len(ids) / told}
    if show:
        for topic in topics:
            subjects = Counter(labels[memory_id] for memory_id in topic.ids).most_common(2)
            print(f"{topic.size:5}  {topic.name:45} {', '.join(f'{name} {count}' for name, count in subjects)}")
    return {
        "topics": scores(found, wanted) | facts,
        "k-means": scores(kmeans(vectors, len(topics)).tolist(), wanted),
        "by chance": scores(np.random.default_rng(0).permutation(np.array(found, object)).tolist(), wanted),
    }


def told(bank: MemBank, namespace: str, pairs: Sequence[tuple[str, str]]) -> dict[int, str]:
    """Tell "subject, memory" pairs; the subject of each id."""
    results = bank.ingest_many([NewMemory(text, namespace=namespace) for _, text in pairs])
    return {result.memory_id: subject for result, (subject, _) in zip(results, pairs, strict=True)}


def measured(encoder: Path, data: Path | None, show: bool) -> dict[str, dict[str, dict[str, float]]]:
    """The scores by set, then by way."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        adapter: ModelAdapter = WordsAdapter()
        if encoder.name != WORDS:
            adapter = stack.enter_context(LlamaCppAdapter(encoder, n_threads=1))
        for name in ("topics", "kinds"):
            lines = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
            pairs = [(line.split(" | ")[0], line.split(" | ")[1]) for line in lines]
            with MemBank(adapter, Path(folder) / name) as bank:
                labels = told(bank, "default", pairs)
                bank.flush()
                found[name] = compared(bank, "default", labels, show)
        if data is None:
            return found
        talks = read_conversations(data)
        with MemBank(adapter, Path(folder) / "talks") as bank:
            sessions = {}
            for talk in talks:
                results = bank.ingest_many(talk.turns)
                sessions[talk.name] = {r.memory_id: s for r, s in zip(results, talk.sessions, strict=True)}
            bank.flush()
            each = [compared(bank, name, labels, show) for name, labels in sessions.items()]
        found["sessions"] = {
            way: {key: float(np.mean([one[way][key] for one in each])) for key in each[0][way]} for way in each[0]
        }
    return found


def timed(count: int) -> dict[str, float]:
    """Processor seconds of the first call, of the next one, of a map, and of the call after a change, in a bank of so
    many."""
    texts = [f"{text} {place}" for place, text in enumerate(sentences(count, 12, 3))]
    adapter = Precomputed(dict(zip(texts, falling(count, 384), strict=True)), 384)
    with tempfile.TemporaryDirectory() as folder, MemBank(adapter, folder) as bank:
        bank.ingest_many(texts, batch_size=2048)
        bank.flush()
        bank.snapshot()
        spent = {"first": spent_on(bank.topics), "again": spent_on(bank.topics), "map": spent_on(bank.topic_map)}
        bank.forget(1)
        return spent | {"after a change": spent_on(bank.topics)}


def spent_on(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, help="a GGUF, or words; without it nothing is compared")
    parser.add_argument("--data", type=Path, help="conversations in the shape of LoCoMo")
    parser.add_argument("--n", type=int, default=0, help="made-up memories to time it with")
    parser.add_argument("--show", action="store_true", help="print the topics")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    figures = measured(options.encoder, options.data, options.show) if options.encoder else {}
    columns = ("NMI", "ARI", "purity", "topics", "in one")
    rows = [
        [f"{name}: {way}", *(f"{kinds[key]:.3f}" if key in kinds else "" for key in columns)]
        for name, ways in figures.items()
        for way, kinds in ways.items()
    ]
    if rows:
        table("topics against labels", ["", *columns], rows)
    times = timed(options.n) if options.n else {}
    if times:
        table(f"{options.n:,} memories", ["", "processor s"], [[key, f"{value:.2f}"] for key, value in times.items()])
    write_json(options.json, {"scores": figures, "seconds": times})


if __name__ == "__main__":
    main()
