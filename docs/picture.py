"""Draw docs/demo.svg from a real run of `membank demo`: ``python docs/picture.py``."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS = 104
HERE = Path(__file__).resolve().parent


def main() -> int:
    shown = subprocess.run(
        [sys.executable, "-m", "membank_llama", "demo", "--fast"],
        env={
            **os.environ,
            "FORCE_COLOR": "1",
            "COLUMNS": str(COLUMNS),
            "PYTHONUTF8": "1",
            "PYTHONPATH": str(HERE.parent),
        },
        capture_output=True,
        check=True,
    ).stdout.decode()
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text("$ membank demo", style="bold"))
    console.print(Text.from_ansi(shown))
    drawn = console.export_svg(title="membank demo", theme=MONOKAI)
    # rich names a font on somebody's server; whoever looks has a monospaced one
    (HERE / "demo.svg").write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL), encoding="utf-8")
    print(HERE / "demo.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
