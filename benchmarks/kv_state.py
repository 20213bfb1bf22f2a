"""What keeping KV state on disk is worth: first tokens, bytes, what it costs, and whether answers stay the same.

    python benchmarks/kv_state.py MODEL.gguf resume [--sizes 2048,8192] [--threads 1]
    python benchmarks/kv_state.py MODEL.gguf identical evaluated [--conversations 200]
    python benchmarks/kv_state.py MODEL.gguf bytes
    python benchmarks/kv_state.py MODEL.gguf cost
    python benchmarks/kv_state.py MODEL.gguf turns
    python benchmarks/kv_state.py MODEL.gguf drift agreement --conversations 40

`resume`: seconds to the first token behind so many tokens of history, alone and with a short question behind them, in
the engine's context and in the drop-in's, evaluated from its first token, restored from files in the page cache, and
restored from files that were dropped from it; each in a context of its own. `identical`: greedy tokens of
conversations that are resumed from files, against the context that was never closed, and against one that evaluates
all of it from the first token. `bytes`: a token on disk against the KV state's own size, and a turn of 60 tokens
behind 8,000 against the whole. `cost`: tokens a second of a chat with and without writing, in turns. `turns`: two
conversations of 20 turns each that take turns in one context, prompt tokens evaluated against each alone. `drift`:
logits with a KV cache of q8_0 against one of f16. `agreement`: how far logits behind the same cells and behind others
are apart. Prompts are made of the documents of this project.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

import llama_cpp
import numpy as np
from bankbench import table, write_json

from membank_llama.kv.agreement import TOLERANCE, distance
from membank_llama.kv.cells import top_of
from membank_llama.kv.llama_prefix import LlamaPrefix
from membank_llama.kv.piece_store import PieceStore
from membank_llama.memory.llama_with_memory import SafeLlama
from membank_llama.server.engine.generation.generation_context import GenerationContext

DOCS = Path(__file__).resolve().parent.parent / "docs"
QUESTION = " And now, in one short sentence: what was the most important point of all this?"
NAMESPACE = "bench"
TURN, BEFORE, TURNS = 60, 8000, 20
GREEDY = 32


class Bench:
    """A model, and contexts of it with and without a place for KV state."""

    def __init__(self, model: Path, threads: int) -> None:
        self.model, self.threads = model, threads
        self.bank = Path(tempfile.mkdtemp(prefix="membank-kv-"))
        self.text = "\n\n".join(path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md")))

    @contextmanager
    def context(
        self, n_ctx: int, *, store: PieceStore | None = None, kv_type: str = "f16"
    ) -> Iterator[GenerationContext]:
        """A context that holds nothing."""
        made = GenerationContext(
            self.model, n_ctx=n_ctx, n_threads=self.threads, n_gpu_layers=0, kv_store=store, kv_type=kv_type
        )
        made.namespace = NAMESPACE
        made.threads(self.threads)
        try:
            yield made
        finally:
            made.close()
            gc.collect()

    def store(self, name: str) -> PieceStore:
        """A place for KV state, empty at first."""
        (self.bank / name).mkdir(exist_ok=True)
        return PieceStore(self.bank / name)

    def tokens(self, context: GenerationContext, count: int, start: int = 0) -> list[int]:
        """So many tokens of running text."""
        begin = 4 * start % len(self.text)
        text = self.text[begin:] + self.text
        while len(text) < 8 * count:
            text += self.text
        return context.tokenize(text[: 8 * count + 64])[:count]


def greedy(context: GenerationContext, count: int) -> list[int]:
    """The likeliest tokens that follow."""
    said = []
    for _ in range(count):
        token = int(np.argmax(context.logits()))
        said.append(token)
        context.push(token)
    return said


def first_token(context: GenerationContext, tokens: list[int]) -> tuple[float, int, int]:
    """Seconds to a prompt's first token, tokens that were not evaluated for it, and the token."""
    since = time.perf_counter()
    cost = context.evaluate(tokens, Event())
    token = int(np.argmax(context.logits()))
    return time.perf_counter() - since, cost.cached, token


def drop_from_page_cache(store: PieceStore) -> None:
    """Have the next reading of the files come from the disk."""
    for path in store.files():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


class EngineFace:
    """The engine's context, flash attention where llama.cpp thinks it best."""

    def __init__(self, bench: Bench, n_ctx: int, store: PieceStore | None) -> None:
        self._context = bench.context(n_ctx, store=store)
        self._engine = self._context.__enter__()
        self.tokenize = self._engine.tokenize
        self.keep = self._engine.keep

    def first_token(self, tokens: list[int]) -> tuple[float, int, int]:
        return first_token(self._engine, tokens)

    def close(self) -> None:
        self._context.__exit__(None, None, None)


class DropInFace:
    """A `llama_cpp.Llama` as the drop-in and the chat have it, without flash attention."""

    def __init__(self, bench: Bench, n_ctx: int, store: PieceStore | None) -> None:
        threads = bench.threads
        self._llm = SafeLlama(str(bench.model), n_ctx=n_ctx, n_threads=threads, n_threads_batch=threads, verbose=False)
        self._llm.kv = LlamaPrefix(self._llm, store, lambda: NAMESPACE)
        self.keep = self._llm.kv.keep

    def tokenize(self, text: str, *, whole: bool = True) -> list[int]:
        return self._llm.tokenize(text.encode(), add_bos=whole)

    def first_token(self, tokens: list[int]) -> tuple[float, int, int]:
        before = self._llm.kv.counts.restored_tokens  # type: ignore[union-attr]
        since = time.perf_counter()
        token = next(self._llm.generate(tokens, temp=0.0))
        spent = time.perf_counter() - since
        return spent, self._llm.kv.counts.restored_tokens - before, int(token)  # type: ignore[union-attr]

    def answer(self, prompt: list[int], count: int) -> tuple[list[int], int]:
        """The likeliest tokens that follow, and how many of the prompt's were restored."""
        before = self._llm.kv.counts.restored_tokens  # type: ignore[union-attr]
        said = list(islice(self._llm.generate(prompt, temp=0.0), count))
        return said, self._llm.kv.counts.restored_tokens - before  # type: ignore[union-attr]

    def empty(self) -> None:
        """Hold nothing."""
        self._llm.reset()

    def close(self) -> None:
        self._llm.kv.close()  # type: ignore[union-attr]
        self._llm.close()
        gc.collect()


def resume(bench: Bench, args: argparse.Namespace) -> list[dict[str, Any]]:
    """First tokens."""
    rows = []
    for face in (EngineFace, DropInFace):
        for size in map(int, args.sizes.split(",")):
            rows += _resumed(bench, face, size, args.repeats)
    return rows


def _resumed(bench: Bench, face: Any, size: int, repeats: int) -> list[dict[str, Any]]:
    n_ctx, store = size + 256, bench.store(f"resume-{face.__name__}-{size}")
    evaluated: dict[str, list[float]] = {"history alone": [], "and a question": []}
    said: dict[str, set[int]] = {"history alone": set(), "and a question": set()}
    for repeat in range(repeats):
        made = face(bench, n_ctx, store if repeat == 0 else None)
        text = bench.text * (1 + 8 * size // len(bench.text))
        history = made.tokenize(text[: 8 * size])[:size]
        prompts = {"history alone": history, "and a question": history + made.tokenize(QUESTION, whole=False)}
        spent = 0.0
        for name, prompt in prompts.items():
            # the question behind the history, as what evaluating both at once takes
            one, _, token = made.first_token(prompt)
            spent += one
            evaluated[name].append(spent)
            said[name].add(token)
            if repeat == 0 and name == "history alone":
                made.keep()
        made.close()
    rows = []
    for name, prompt in prompts.items():
        times: dict[str, list[float]] = {"page cache": [], "cold file": []}
        for place in ("page cache", "cold file") * 3:
            if place == "cold file":
                drop_from_page_cache(store)
            made = face(bench, n_ctx, store)
            spent, restored, token = made.first_token(prompt)
            times[place].append(spent)
            said[name].add(token)
            made.close()
        anew = statistics.median(evaluated[name])
        warm, cold = (statistics.median(times[place]) for place in ("page cache", "cold file"))
        rows.append(
            {
                "face": face.__name__.removesuffix("Face"),
                "history": size,
                "prompt": name,
                "restored": restored,
                "evaluated s": round(anew, 3),
                "page cache s": round(warm, 4),
                "cold file s": round(cold, 4),
                "page cache ×": round(anew / warm, 1),
                "cold file ×": round(anew / cold, 1),
                "first tokens": len(said[name]),
                "MB": round(store.nbytes() / 1e6, 1),
            }
        )
    return rows


def identical(bench: Bench, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Greedy answers of resumed conversations."""
    store = bench.store("identical")
    n_ctx, rng = 1024, np.random.default_rng(7)
    same_held = same_anew = shared = restored_all = 0
    parted: list[float] = []
    with bench.context(n_ctx) as plain, bench.context(n_ctx, store=store) as live:
        for n in range(args.conversations):
            start = int(rng.integers(0, 20000))
            size = int(rng.integers(96, 257))
            history = bench.tokens(live, size, start)
            live.evaluate(history, Event())
            # an answer, as it was written token by token
            history = history + greedy(live, GREEDY)
            live.keep()
            prompt = history + live.tokenize(f" Question {n}:{QUESTION}", whole=False)
            live.evaluate(prompt, Event())
            held = greedy(live, GREEDY)
            live._sequences.clear()
            restored = live.evaluate(prompt, Event()).cached
            resumed = greedy(live, GREEDY)
            live._sequences.clear()
            plain.evaluate(prompt, Event())
            logits = plain.logits().copy()
            anew = greedy(plain, GREEDY)
            plain._sequences.clear()
            restored_all += restored == len(history)
            same_held += resumed == held
            same_anew += resumed == anew
            shared += sum(a == b for a, b in zip(resumed, anew, strict=True))
            if resumed != anew:
                top = np.sort(logits)[-2:]
                parted.append(float(top[1] - top[0]))
    count = args.conversations
    return [
        {
            "conversations": count,
            "whole history restored": restored_all,
            "as never closed": f"{same_held}/{count}",
            "as evaluated anew": f"{same_anew}/{count}",
            "tokens as evaluated anew": round(shared / (count * GREEDY), 4),
        }
    ]


def evaluated(bench: Bench, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Greedy answers behind histories that were evaluated at once, without flash attention."""
    rows = []
    for step in (8, 1):
        store, rng = bench.store(f"evaluated-{step}"), np.random.default_rng(11)
        live, plain = DropInFace(bench, 1024, store), DropInFace(bench, 1024, None)
        same = whole = 0
        for n in range(args.conversations):
            text = bench.text[int(rng.integers(0, 80_000)) :]
            size = int(rng.integers(96, 257)) // step * step
            history = live.tokenize(text[:4000])[:size]
            prompt = history + live.tokenize(f" Question {n}:{QUESTION}", whole=False)
            live.first_token(history)
            live.keep()
            live.empty()
            resumed, restored = live.answer(prompt, GREEDY // 2)
            plain.empty()
            same += resumed == plain.answer(prompt, GREEDY // 2)[0]
            whole += restored == size
            live.empty()
        live.close()
        plain.close()
        count = args.conversations
        rows.append(
            {
                "history": f"of {step} × n tokens" if step > 1 else "of any length",
                "whole history restored": f"{whole}/{count}",
                "as evaluated anew": f"{same}/{count}",
            }
        )
    return rows


def bytes_on_disk(bench: Bench, _: argparse.Namespace) -> list[dict[str, Any]]:
    """Bytes a token and a turn."""
    rows, own = [], 0
    for kv_type in ("f16", "q8_0"):
        store = bench.store(f"bytes-{kv_type}")
        with bench.context(BEFORE + 256, store=store, kv_type=kv_type) as context:
            history = bench.tokens(context, BEFORE)
            own = context._cache_bytes(1) if kv_type == "f16" else own
            context.evaluate(history, Event())
            context.keep()
            context._kv.writer.flush()  # type: ignore[union-attr]
            before = store.nbytes()
            context.evaluate(history + bench.tokens(context, TURN, BEFORE + 500), Event())
            context.keep()
            whole = int(llama_cpp.llama_state_seq_get_size(context.ctx, context._sequences.current.seq))
            context._kv.writer.flush()  # type: ignore[union-attr]
            written = store.nbytes() - before
        rows.append(
            {
                "KV cache": kv_type,
                "bytes a token": round(before / BEFORE),
                "of its f16 size": round(before / BEFORE / own, 4),
                f"a turn of {TURN}": written,
                "of the whole state": f"{written / whole:.2%}",
            }
        )
    return rows


def cost(bench: Bench, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Tokens a second of a chat, with writing and without."""
    rates: dict[str, list[float]] = {"without": [], "with": []}
    for round_ in range(args.repeats * 2 + 1):
        for name in ("without", "with") if round_ % 2 else ("with", "without"):
            store = bench.store(f"cost-{round_}") if name == "with" else None
            with bench.context(2048, store=store) as context:
                prompt = bench.tokens(context, 256)
                since, count = time.perf_counter(), 0
                for turn in range(8):
                    context.evaluate(prompt, Event())
                    said = greedy(context, 40)
                    if store is not None:
                        context.keep()
                    prompt = prompt + said + bench.tokens(context, 20, 500 + 20 * turn)
                    count += 60
                rates[name].append(count / (time.perf_counter() - since))
    medians = {name: statistics.median(some) for name, some in rates.items()}
    share = statistics.median(w / o for w, o in zip(rates["with"], rates["without"], strict=True))
    return [
        {"without, tokens/s": round(medians["without"], 1), "with": round(medians["with"], 1), "ratio": round(share, 4)}
    ]


def turns(bench: Bench, _: argparse.Namespace) -> list[dict[str, Any]]:
    """Two conversations in one context."""

    def talk(context: GenerationContext, which: int, said: dict[int, list[int]], turn: int) -> int:
        said[which] = said[which] + bench.tokens(context, 25, 3000 * (which + 1) + 25 * turn)
        fresh = context.evaluate(said[which], Event()).fresh
        said[which] = said[which] + greedy(context, 16)
        return fresh

    rows = []
    for n_ctx, note in ((4096, "both fit into the context"), (1280, "they do not: the disk is asked")):
        alone = together = 0
        for which in (0, 1):
            with bench.context(n_ctx) as context:
                said = {which: bench.tokens(context, 100, 1000 * which)}
                alone += sum(talk(context, which, said, turn) for turn in range(TURNS))
        with bench.context(n_ctx, store=bench.store(f"turns-{n_ctx}")) as context:
            said = {which: bench.tokens(context, 100, 1000 * which) for which in (0, 1)}
            for turn in range(TURNS):
                for which in (0, 1):
                    together += talk(context, which, said, turn)
                    context.keep()
        rows.append(
            {"context": f"{n_ctx:,}: {note}", "alone": alone, "taking turns": together, "×": round(together / alone, 4)}
        )
    return rows


def drift(bench: Bench, args: argparse.Namespace) -> list[dict[str, Any]]:
    """What a cache of q8_0 does to logits."""
    rows, same = [], 0
    differences = []
    with bench.context(1024) as full, bench.context(1024, kv_type="q8_0") as small:
        for n in range(args.conversations):
            tokens = bench.tokens(full, 300, 97 * n)
            for context in (full, small):
                context.evaluate(tokens, Event())
            one, other = full.logits(), small.logits()
            differences.append(float(np.sqrt(np.mean((one - other) ** 2)) / np.std(one)))
            same += int(np.argmax(one)) == int(np.argmax(other))
            for context in (full, small):
                context._sequences.clear()
    rows.append(
        {
            "prompts": args.conversations,
            "logits: rms of the difference, of their spread": round(statistics.median(differences), 4),
            "worst": round(max(differences), 4),
            "same likeliest token": f"{same}/{args.conversations}",
        }
    )
    return rows


def agreement(bench: Bench, args: argparse.Namespace) -> list[dict[str, Any]]:
    """What `kv/agreement.py` tells apart: the distance of logits behind the same cells, and behind others."""
    same, other = [], []
    with bench.context(1024) as context:
        for n in range(args.conversations):
            tokens = bench.tokens(context, 300, 97 * n)
            context.evaluate(tokens, Event())
            kept = top_of(context.logits())
            cells, seq = context._sequences._cells, context._sequences.current.seq
            again = cells.logits_behind(seq, tokens[-1], len(tokens) - 1)
            same.append(distance(kept, again))
            # another history of the same length, that ends in the same words
            context.evaluate(bench.tokens(context, 284, 97 * n + 5000) + tokens[-16:], Event())
            other.append(distance(kept, context.logits()))
            context._sequences.clear()
    row: dict[str, Any] = {"prompts": args.conversations, "tolerance": TOLERANCE}
    for name, found in (("same cells", same), ("another history", other)):
        row |= {f"{name}, median": round(statistics.median(found), 3)}
    row |= {"same cells, worst": round(max(same), 3), "another history, least": round(min(other), 3)}
    row |= {
        "refused of the same": sum(d > TOLERANCE for d in same),
        "refused of others": sum(d > TOLERANCE for d in other),
    }
    return [row]


MEASURES: dict[str, Callable[[Bench, argparse.Namespace], list[dict[str, Any]]]] = {
    "resume": resume,
    "identical": identical,
    "evaluated": evaluated,
    "bytes": bytes_on_disk,
    "cost": cost,
    "turns": turns,
    "drift": drift,
    "agreement": agreement,
}


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("measures", nargs="+", choices=MEASURES)
    parser.add_argument("--sizes", default="2048,8192")
    parser.add_argument("--conversations", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    bench = Bench(args.model, args.threads)
    found: dict[str, Any] = {}
    for name in args.measures:
        found[name] = rows = MEASURES[name](bench, args)
        table(f"{name}: {args.model.stem}", list(rows[0]), [[str(value) for value in row.values()] for row in rows])
    write_json(args.json, found)


if __name__ == "__main__":
    main()
