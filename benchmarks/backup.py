"""A backup of a bank that another process writes: how long a write waits for it, and whether anything is lost.

    python benchmarks/backup.py [--memories 10000] [--forget] [--json FILE] [--folder DIR]

A writer stores four memories every few milliseconds, each batch committed and on the disk, for as long as `membank
backup` takes, and as long again without one. One thread a process. What a write waited for is also told without the
time in which it was ready to run and had no processor, where the system tells it: on a busy machine that is most of it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bankbench import Precomputed, clustered, sentences, table, write_json

from membank_llama.memory.bank import MemBank

BATCH, PAUSE, MOST = 4, 0.005, 20_000


def unscheduled() -> float:
    """Seconds that this thread was ready to run and had no processor; 0 where the system does not say."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def write(path: Path, start: int, forget: bool) -> None:
    """Store batches until standard input ends; tell how long each took, and what was stored."""
    texts = [f"{start + at} {text}" for at, text in enumerate(sentences(MOST, 15, seed=9 + start % MOST))]
    adapter = Precomputed(dict(zip(texts, clustered(MOST, seed=10 + start % MOST), strict=True)))
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    waits, own, forgetting, ids = [], [], [], []
    with MemBank(adapter, path) as bank:
        bank.ingest_many(texts[:BATCH])
        print("ready", flush=True)
        for at in range(BATCH, MOST - BATCH, BATCH):
            if over.is_set():
                break
            begin, queued = time.perf_counter(), unscheduled()
            ids += [stored.memory_id for stored in bank.ingest_many(texts[at : at + BATCH])]
            waits.append(time.perf_counter() - begin)
            own.append(waits[-1] - (unscheduled() - queued))
            if forget and at % (400 * BATCH) == 0:
                begin = time.perf_counter()
                bank.forget(ids.pop())
                forgetting.append(time.perf_counter() - begin)
            time.sleep(PAUSE)
    print(json.dumps({"waits": waits, "own": own, "forgetting": forgetting, "ids": ids}))


def writing(path: Path, start: int, forget: bool) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--writer", str(path), str(start), *(["--forget"] if forget else [])]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child


def ended(child: subprocess.Popen[str]) -> dict[str, Any]:
    return json.loads(child.communicate("")[0])  # type: ignore[no-any-return]


def milliseconds(waits: list[float]) -> list[str]:
    if not waits:
        return ["–"] * 4
    rising = sorted(waits)
    found = [f"{1000 * rising[int(share * (len(rising) - 1))]:.1f}" for share in (0.5, 0.99, 1)]
    return [*found, f"{sum(wait > 0.05 for wait in waits) / len(waits):.2%}"]


def measure(folder: Path, memories: int, forget: bool) -> dict[str, Any]:
    texts = [f"{at} {text}" for at, text in enumerate(sentences(memories, 15, seed=5))]
    adapter = Precomputed(dict(zip(texts, clustered(memories, seed=6), strict=True)))
    path = folder / "bank"
    if not path.exists():
        with MemBank(adapter, path) as bank:
            bank.ingest_many(texts, batch_size=512)
            bank.flush()
    first = time.time_ns() // 1_000_000
    child = writing(path, first, forget)
    begin = time.perf_counter()
    command = [sys.executable, "-m", "membank_llama", "backup", str(folder / "backups"), "--bank", str(path), "--json"]
    made = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ).stdout)
    took = time.perf_counter() - begin
    beside = ended(child)
    child = writing(path, first + MOST, forget)
    time.sleep(took)
    alone = ended(child)
    with MemBank(None, path, read_only=True) as bank:
        there = bank.exists(beside["ids"] + alone["ids"])
    with MemBank(None, Path(made["backup"]), read_only=True) as copy:
        copied = {memory.id for memory in copy.memories()}
        ok = copy.verify().ok
    lost = len(beside["ids"]) + len(alone["ids"]) - len(there)
    # what was told before the newest memory of the copy, and is still there
    missing = len([one for one in beside["ids"] if one < max(copied) and one not in copied])
    missing += len(set(range(1, memories + 1)) - copied)
    table(
        f"{memories:,} memories backed up in {took:.1f} s ({made['bytes'] >> 20:,} MiB), verified; "
        f"{len(beside['ids']):,} stored meanwhile, {len(copied & set(beside['ids'])):,} of them in the copy",
        ("a write of four", "p50 ms", "p99 ms", "longest ms", "above 50 ms"),
        [
            ("beside the backup", *milliseconds(beside["waits"])),
            ("without one", *milliseconds(alone["waits"])),
            ("beside it, while it had a processor", *milliseconds(beside["own"])),
            ("without one, while it had a processor", *milliseconds(alone["own"])),
            ("forgetting one, beside it", *milliseconds(beside["forgetting"])),
            ("forgetting one, without", *milliseconds(alone["forgetting"])),
        ],
    )
    print(f"lost in the bank: {lost}; missing in the copy: {missing}; the copy verifies: {ok}")
    return {
        "memories": memories, "seconds": took, "bytes": made["bytes"], "lost": lost, "missing": missing, "ok": ok,
        "longest_ms": {
            name: 1000 * max(run[kind])
            for run, kind, name in (
                (beside, "waits", "beside"), (alone, "waits", "alone"),
                (beside, "own", "beside_scheduled"), (alone, "own", "alone_scheduled"),
            )
        },
    }  # fmt: skip


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--memories", type=int, default=10_000)
    arguments.add_argument("--forget", action="store_true", help="the writer forgets a memory now and then")
    arguments.add_argument("--json", type=Path)
    arguments.add_argument("--folder", type=Path, help="where the bank is made and kept, to measure it again")
    arguments.add_argument("--writer", nargs=2, metavar=("BANK", "START"), help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.writer:
        write(Path(options.writer[0]), int(options.writer[1]), options.forget)
        return 0
    with tempfile.TemporaryDirectory(prefix="membank-bench-") as folder:
        figures = measure(options.folder or Path(folder), options.memories, options.forget)
    write_json(options.json, figures)
    return 0 if figures["ok"] and not figures["lost"] and not figures["missing"] else 1


if __name__ == "__main__":
    sys.exit(main())
