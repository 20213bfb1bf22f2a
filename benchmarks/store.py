"""What storing costs: beside a real encoder, alone, on disk, and when a bank is opened again.

    python benchmarks/store.py [--encoder FILE.gguf] [--n 10000 | --full] [--json FILE]

One thread throughout. Ratios come from runs that alternate within one process.
"""

from __future__ import annotations

import gc
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from bankbench import CONSOLE, DIM, Precomputed, clustered, parser, seconds, sentences, table, write_json

from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.core.types import LEVELS
from membank_llama.memory.bank import MemBank

BATCH = 32
PAIRS = 40


def beside_an_encoder(model: Path, directory: Path) -> dict[str, Any]:
    """Throughput of `ingest_many` against that of the encoder alone: batch by batch, the same texts, taking turns."""
    texts = sentences(BATCH * PAIRS, 15, seed=3)
    alone: list[float] = []
    stored: list[float] = []
    with LlamaCppAdapter(model, n_threads=1) as encoder, MemBank(encoder, directory / "encoder") as bank:
        encoder.encode_batch(sentences(BATCH, 15, seed=4))
        for turn in range(PAIRS):
            batch = texts[turn * BATCH : (turn + 1) * BATCH]
            pair = [(partial(encoder.encode_batch, batch), alone), (partial(bank.ingest_many, batch), stored)]
            for work, times in pair if turn % 2 else reversed(pair):
                times.append(seconds(work))
        name = bank.model.name
    share = statistics.median(a / b for a, b in zip(alone, stored, strict=True))
    rates = {"encoder": BATCH / statistics.median(alone), "ingest": BATCH / statistics.median(stored)}
    table(
        f"ingest_many beside a real encoder ({name}, {PAIRS} batches of {BATCH} texts)",
        ("", "texts/s", "share", "bar"),
        [
            ("encoder alone", f"{rates['encoder']:,.0f}", "100 %", ""),
            ("ingest_many", f"{rates['ingest']:,.0f}", f"{share:.1%}", ">= 90 %"),
        ],
    )
    return {"encoder": name, "texts_per_s": rates, "ingest_share_of_encoder": share}


def alone(bank: MemBank, texts: list[str]) -> dict[str, Any]:
    """Memories a second with vectors at hand, each batch committed and on the disk."""
    rates: dict[int, float] = {}
    share = len(texts) // 4
    for place, size in enumerate((32, 128, 512)):
        piece = texts[place * share : (place + 1) * share]
        rates[size] = len(piece) / seconds(lambda piece=piece, size=size: bank.ingest_many(piece, batch_size=size))
    bank.ingest_many(texts[3 * share :], batch_size=512)
    table(
        f"store alone ({DIM} dimensions, vectors at hand, every batch synchronised to disk)",
        ("batch size", "memories/s", "bar"),
        [(str(size), f"{rate:,.0f}", ">= 3,000") for size, rate in rates.items()],
    )
    return {"store_memories_per_s": {str(size): rate for size, rate in rates.items()}}


def reopening(adapter: Precomputed, path: Path, question: str, rebuild: float, count: int) -> dict[str, Any]:
    """From opening to the first answer, with the index as it was saved and with the index gone."""

    def first_answer() -> float:
        gc.collect()
        start = time.perf_counter()
        bank = MemBank(adapter, path)
        bank.recall(question)
        spent = time.perf_counter() - start
        bank.close()
        return spent

    loaded = statistics.median(first_answer() for _ in range(3))
    for saved in (path / "index").iterdir():
        saved.unlink()
    missing = first_answer()
    table(
        f"reopening a bank of {count:,} memories, to the first answer",
        ("", "seconds", "ratio", "bar"),
        [
            ("index loaded", f"{loaded:.2f}", "1", "<= 1 s"),
            (
                "index missing: searched exactly, rebuilt in the background",
                f"{missing:.2f}",
                f"{missing / loaded:.1f}",
                "",
            ),
            ("rebuilding the index first", f"{rebuild:.1f}", f"{rebuild / loaded:.0f}", ""),
        ],
    )
    return {"reopen_s": loaded, "reopen_without_index_s": missing, "rebuild_s": rebuild}


def on_disk(bank: MemBank, count: int) -> dict[str, Any]:
    """Bytes a memory, by part, against the float32 vector alone."""
    stats = bank.stats()
    vector = 4 * DIM
    parts = {f"level {level}": stats["level_bytes"][level] for level in LEVELS}
    parts |= {name: size / count for name, size in stats["bytes"].items()}
    parts["total"] = sum(stats["bytes"].values()) / count
    table(
        f"bytes on disk a memory ({DIM} dimensions; float32 is {vector:,})",
        ("part", "bytes", "share of float32"),
        [(name, f"{size:,.0f}", f"{size / vector:.1%}") for name, size in parts.items()],
    )
    return {"bytes_per_memory": parts, "float32_bytes": vector}


def main() -> int:
    arguments = parser(__doc__, 10_000, 100_000)
    arguments.add_argument("--encoder", type=Path, help="an embedding GGUF for the comparison with a real encoder")
    options = arguments.parse_args()
    figures: dict[str, Any] = {"n": options.n}
    with tempfile.TemporaryDirectory(prefix="membank-bench-") as folder:
        directory = Path(folder)
        if options.encoder is not None:
            figures |= beside_an_encoder(options.encoder, directory)
        texts = sentences(options.n, 15, seed=5)
        vectors = clustered(options.n, seed=6)
        question = sentences(1, 8, seed=7)[0] + "?"
        adapter = Precomputed(dict(zip(texts, vectors, strict=False)) | {question: clustered(1, seed=8)[0]})
        with MemBank(adapter, directory / "bank") as bank:
            figures |= alone(bank, texts)
            count = bank.stats()["memories"]
            CONSOLE.print(f"building the index of {count:,} memories once …")
            flush = seconds(bank.flush)
            bank.recall(question)
        with MemBank(adapter, directory / "bank") as bank:
            figures |= on_disk(bank, count)
        figures |= reopening(adapter, directory / "bank", question, flush, count)
    write_json(options.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
