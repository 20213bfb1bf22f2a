"""What importing a history costs beside the encoder alone, told again, and undone.

    python benchmarks/imports.py --encoder FILE.gguf [--messages 5000] [--threads 1] [--json FILE]

A made-up ChatGPT export. The same texts go through the encoder alone and into a bank, in chunks that take turns within
one process; reading the file, sorting it out and the last bookkeeping count as part of the import, spread over its
chunks. The encoder runs in the caller's thread and threads of its own (`--threads`); beside it `membank-index` looks
for the bank's axes. With one thread the share is told by the processor time of the caller's thread too, which other
programs on the machine leave alone.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bankbench import seconds, table, write_json
from made_up_chats import made_up_export

from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import BATCH_SIZE, MemBank
from membank_llama.memory.imports.import_plan import read_place
from membank_llama.memory.imports.import_records import ImportRecord, begin_record, import_record, undo_import
from membank_llama.memory.imports.import_run import BATCH, import_batch, plan_for, run_import, sort_out

CHUNK = 256


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of this thread's processor time."""
    clock, own = time.perf_counter(), time.thread_time()
    work()
    return time.perf_counter() - clock, time.thread_time() - own


def alone(encoder: LlamaCppAdapter, items: list[NewMemory]) -> None:
    for start in range(0, len(items), BATCH_SIZE):
        encoder.encode_batch([item.text for item in items[start : start + BATCH_SIZE]])


def with_tokens(encoder: LlamaCppAdapter, items: list[NewMemory]) -> None:
    for start in range(0, len(items), BATCH_SIZE):
        encoder.encode_tokens([item.text for item in items[start : start + BATCH_SIZE]])


class Import:
    """One import, a chunk at a time."""

    def __init__(self, bank: MemBank) -> None:
        self.bank = bank
        self.record: ImportRecord = begin_record(bank, "conversations.json", ("chatgpt",), None, ())

    def store(self, items: list[NewMemory]) -> None:
        for start in range(0, len(items), BATCH):
            self.record = import_batch(self.bank, self.record, items[start : start + BATCH])


def main() -> int:
    arguments = ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("--encoder", type=Path, required=True)
    arguments.add_argument("--messages", type=int, default=5000)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--json", type=Path)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="membank-bench-") as folder:
        figures = measured(Path(folder), options.encoder, options.messages, options.threads)
    write_json(options.json, figures)
    return 0


def measured(directory: Path, model: Path, messages: int, threads: int) -> dict[str, Any]:
    path = directory / "conversations.json"
    path.write_text(json.dumps(made_up_export(messages)), encoding="utf-8")
    with LlamaCppAdapter(model, n_threads=threads) as encoder, MemBank(encoder, directory / "bank") as bank:
        start = time.perf_counter(), time.thread_time()
        plan = plan_for(bank, read_place(str(path)))
        new = sort_out(bank, plan.memories).new
        before = time.perf_counter() - start[0], time.thread_time() - start[1]
        one, chunks = Import(bank), [new[at : at + CHUNK] for at in range(0, len(new), CHUNK)]
        times: dict[str, list[tuple[float, float]]] = {"alone": [], "tokens": [], "import": []}
        alone(encoder, new[:CHUNK])
        for turn, chunk in enumerate(chunks):
            ways = [
                ("alone", partial(alone, encoder, chunk)),
                ("tokens", partial(with_tokens, encoder, chunk)),
                ("import", partial(one.store, chunk)),
            ]
            for name, work in ways[turn % 3 :] + ways[: turn % 3]:
                times[name].append(spent(work))
        flush = seconds(bank.flush)
        again = seconds(lambda: run_import(bank, plan_for(bank, read_place(str(path)))))
        count, undo = bank.count(), seconds(lambda: undo_import(bank, import_record(bank)))
        name = bank.model.name
    whole = [chunk for chunk in range(len(chunks)) if len(chunks[chunk]) == CHUNK] or [0]
    share = {
        f"{key}, {kind}": statistics.median(
            times[key][n][by] / (times["import"][n][by] + before[by] / len(chunks)) for n in whole
        )
        for key in ("alone", "tokens")
        for by, kind in enumerate(("clock", "processor"))
    }
    rates = {key: CHUNK / statistics.median(times[key][n][0] for n in whole) for key in times}
    table(
        f"a ChatGPT export of {messages:,} messages, {count:,} memories ({name}, {threads} thread)",
        ("", "texts/s", "share by the clock", "by processor time", "goal"),
        [
            ("encoder alone: vectors", f"{rates['alone']:,.0f}", "1", "1", ""),
            ("encoder alone: vectors and tokens", f"{rates['tokens']:,.0f}", "", "", ""),
            ("import, of vectors", f"{rates['import']:,.0f}", *_shown(share, "alone"), ">= .85"),
            ("import, of vectors and tokens", "", *_shown(share, "tokens"), ""),
        ],
    )
    table(
        "the rest of it",
        ("", "seconds"),
        [
            ("reading, planning, looking up", f"{before[0]:.2f}"),
            ("axes, index and gate behind it", f"{flush:.2f}"),
            ("the same import again", f"{again:.2f}"),
            ("undone", f"{undo:.2f}"),
        ],
    )
    return {
        "messages": messages, "memories": count, "encoder": name, "threads": threads, "texts_per_s": rates,
        "share": share, "before_s": before[0], "flush_s": flush, "again_s": again, "undo_s": undo,
    }  # fmt: skip


def _shown(share: dict[str, float], key: str) -> tuple[str, str]:
    return f"{share[f'{key}, clock']:.3f}", f"{share[f'{key}, processor']:.3f}"


if __name__ == "__main__":
    sys.exit(main())
