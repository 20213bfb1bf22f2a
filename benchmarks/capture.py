"""Capture at a share of the depth against `Llama.embed()`: the same texts, threads and batches, one after the other.

    python benchmarks/capture.py [--quick] [--threads N] [--quantisation q8_0|f16] [--model GGUF] [--json FILE]

Without --model, a random 100-million-parameter model is made in a temporary directory. Its vocabulary is small,
which is to `embed()`'s advantage: with a usual one it would spend more on the output layer that capture never
reaches. Rounds are interleaved, so that a slow moment of the machine falls on all; medians are printed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp
from rich.console import Console
from rich.table import Table

from membank_llama import LlamaCppAdapter

HERE = Path(__file__).resolve().parent
TEXT = (
    "Remember the old house of my mother, number {}: it is where the three of us learned to read and to write, "
    "and where the animals came to the door for water in the first long year."
)
SHARES = (1.0, 0.75, 0.5, 0.25)


def random_model(folder: Path, quantisation: str) -> Path:
    spec = importlib.util.spec_from_file_location("make_tiny", HERE.parent / "models" / "make_tiny.py")
    if spec is None or spec.loader is None:
        raise SystemExit("models/make_tiny.py is missing")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Path = module.make_model(folder / "100m.gguf", quantisation=quantisation, **module.SIZES["100m"])
    return made


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def hosts(path: Path, threads: int) -> dict[str, llama_cpp.Llama]:
    """`Llama.embed()` as it comes, and with the flash attention that capture uses too."""
    return {
        name: llama_cpp.Llama(
            str(path),
            embedding=True,
            n_ctx=512,
            n_threads=threads,
            n_threads_batch=threads,
            flash_attn=flash,
            verbose=False,
        )
        for name, flash in (("embed()", False), ("embed(), flash_attn=True", True))
    }


def measure(path: Path, threads: int, rounds: int, texts: list[str]) -> dict[str, Any]:
    """Median milliseconds a text: each text alone, and all in batches."""
    llamas = hosts(path, threads)
    adapters = {
        f"capture at {share:.0%}": LlamaCppAdapter(path, layer=share, pooling="mean", n_threads=threads)
        for share in SHARES
    }
    bank = LlamaCppAdapter(path, n_threads=threads)
    single: dict[str, Callable[[str], Any]] = {name: llama.embed for name, llama in llamas.items()}
    batch: dict[str, Callable[[list[str]], Any]] = {name: llama.embed for name, llama in llamas.items()}
    for name, adapter in adapters.items():
        single[name], batch[name] = adapter.encode, adapter.encode_batch
    if bank.token_dim:
        name = f"as a bank does, vector and tokens at layer {bank.layer}"
        single[name], batch[name] = lambda text: bank.encode_tokens([text]), bank.encode_tokens
    times: dict[str, dict[str, list[float]]] = {way: {name: [] for name in single} for way in ("alone", "batch")}
    for number in range(rounds + 1):
        spent = dict.fromkeys(single, 0.0)
        for text in texts:
            for name, one in single.items():
                spent[name] += seconds(lambda one=one, text=text: one(text))  # type: ignore[misc]
        for name, many in batch.items():
            taken = seconds(lambda many=many: many(texts))  # type: ignore[misc]
            if number:  # the first round warms up
                times["alone"][name].append(1000 * spent[name] / len(texts))
                times["batch"][name].append(1000 * taken / len(texts))
    host = llamas["embed()"]
    facts = {
        "parameters": int(host._model.n_params()),
        "threads": threads,
        "texts": len(texts),
        "tokens_a_text": len(host.tokenize(texts[0].encode())),
        "rounds": rounds,
    }
    for opened in (*llamas.values(), *adapters.values(), bank):
        opened.close()
    medians = {way: {name: statistics.median(t) for name, t in works.items()} for way, works in times.items()}
    ratios = {way: {name: works["embed()"] / ms for name, ms in works.items()} for way, works in medians.items()}
    return {**facts, "ms_a_text": medians, "times_faster_than_embed": ratios}


def show(result: dict[str, Any]) -> None:
    table = Table(
        title=f"{result['parameters'] / 1e6:.0f}M parameters, {result['texts']} texts of {result['tokens_a_text']} "
        f"tokens, {result['threads']} thread(s), median of {result['rounds']} rounds"
    )
    table.add_column("ms a text")
    for way in ("alone", "faster", "in batches", "faster"):
        table.add_column(way, justify="right")
    for name in result["ms_a_text"]["alone"]:
        row = []
        for way, works in result["ms_a_text"].items():
            row += [f"{works[name]:.1f}", f"{result['times_faster_than_embed'][way][name]:.2f} ×"]
        table.add_row(name, *row, style="bold" if "50%" in name else None)
    Console().print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a GGUF to measure on; default: a random one of 100M parameters")
    parser.add_argument("--quantisation", choices=("q8_0", "f16", "f32"), default="q8_0")
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument("--quick", action="store_true", help="fewer texts and rounds")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    texts = [TEXT.format(number) for number in range(6 if options.quick else 16)]
    with tempfile.TemporaryDirectory() as folder:
        path = options.model or random_model(Path(folder), options.quantisation)
        result = measure(path, options.threads, 3 if options.quick else 7, texts)
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
