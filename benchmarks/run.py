"""All benchmarks, one after the other: small versions by default, the published ones with --full.

python benchmarks/run.py [--full] [--models DIR] [--data FILE] [--json DIR]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


def plan(models: Path, data: Path, full: bool) -> list[tuple[str, list[str], list[Path]]]:
    """(script, arguments, files it needs) of every benchmark."""
    encoder, chat = models / "all-MiniLM-L6-v2-q8_0.gguf", models / "stories260K-chatml.gguf"
    story = models / "stories260K.gguf"
    size = "100000" if full else "5000"
    return [
        ("benchmarks/trips.py", [], []),
        ("benchmarks/capture.py", [] if full else ["--quick"], []),
        ("benchmarks/store.py", ["--encoder", str(encoder), *(["--full"] if full else ["--n", size])], [encoder]),
        ("benchmarks/recall.py", ["--full"] if full else ["--n", size], []),
        ("benchmarks/stalls.py", ["--full"] if full else ["--n", "2000"], []),
        ("benchmarks/sharing.py", ["--full"] if full else [], []),
        ("benchmarks/faces.py", ["--n", "100000", "--requests", "100"] if full else ["--n", size], []),
        ("benchmarks/page_latency.py", ["--memories", "100000" if full else size], []),
        ("benchmarks/mcp_latency.py", [], []),
        (
            "benchmarks/imports.py",
            ["--encoder", str(encoder), "--messages", "50000" if full else "500"],
            [encoder],
        ),
        ("benchmarks/backup.py", ["--memories", "100000" if full else size], []),
        ("benchmarks/topics.py", ["--encoder", str(encoder), "--data", str(data)], [encoder, data]),
        ("models/eval_recall_tiny.py", [] if full else ["--count", "100", "--rounds", "4"], []),
        ("benchmarks/prompt_cache.py", [str(chat), "--encoder", str(encoder)], [chat, encoder]),
        ("benchmarks/memory.py", ["--full"] if full else ["--n", size], []),
        (
            "benchmarks/levels.py",
            [str(data), "--encoder", str(encoder), "--encoder", str(story), *([] if full else ["--turns", "900"])],
            [data, encoder, story],
        ),
        ("benchmarks/everyday.py", ["--encoder", str(encoder), "--threads", "1"], [encoder]),
        ("benchmarks/updates.py", ["--encoder", str(encoder)], [encoder]),
        ("benchmarks/letters.py", ["--encoder", str(encoder)], [encoder]),
        ("benchmarks/time_words.py", [], []),
        ("benchmarks/proxy.py", ["--full"] if full else ["--rounds", "200", "--seconds", "5"], []),
        ("benchmarks/corrections.py", [str(data), "--encoder", str(story)], [data, story]),
        (
            "membank bench recall",
            [
                "--data",
                str(data),
                "--encoder",
                str(encoder),
                "--threads",
                "1",
                *(["--leave-one-out"] if full else ["--conversations", "1", "--no-steps"]),
            ],
            [data, encoder],
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the sizes of docs/benchmarks.md; takes an hour or two")
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "locomo-dev.json")
    parser.add_argument("--json", type=Path, help="a directory for the figures as JSON")
    options = parser.parse_args()
    if options.json:
        options.json.mkdir(parents=True, exist_ok=True)
    failed = 0
    for script, arguments, needed in plan(options.models, options.data, options.full):
        missing = [path.name for path in needed if not path.exists()]
        if missing:
            print(f"skipped {script}: needs {', '.join(missing)} (--models, --data)")
            continue
        is_command = script.startswith("membank ")
        command = [
            sys.executable,
            *(["-m", "membank_llama", *script.split()[1:]] if is_command else [str(ROOT / script)]),
        ]
        command += arguments
        if options.json:
            name = script.replace(" ", "-") if is_command else Path(script).stem
            command += ["--output" if is_command else "--json", str(options.json / f"{name}.json")]
        shown = " ".join(Path(a).name if Path(a).exists() else a for a in arguments)
        print(f"\n$ {'' if is_command else 'python '}{script} {shown}", flush=True)
        failed += subprocess.run(command, check=False).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
