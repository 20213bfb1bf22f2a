"""The ways through the package stay short: what was won once is not lost file by file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "trips.py"

MOST = {
    "ingest": {"files": 29, "moves": 100, "statements": 22},
    "recall": {"files": 34, "moves": 280, "statements": 5},
    "chat request": {"files": 77, "moves": 800, "statements": 40},
}
"""Where a change needs more, it says why here. Token states brought encoding.py (vectors and tokens in one pass),
question_kind.py (what of a message is the question) and common_words.py: two files and six moves a question. Letters
that are compared (core/letters.py) brought a file to a text, and with what a question is held against by its script
(script_cohorts.py) two to a question, with ten calls. What a
memory is worth (core/dialogue_acts.py, core/provenance.py, recall/evidence.py) is asked of each one stored and found;
what a later one replaced (recall/replacements.py), how long ago it was and who said it in words (memory/block_lines.py)
of each line of a block.
A request through the proxy stands in line for its recall (server/proxy/recall_queue.py) and goes on over a connection
of the proxy's own (server/proxy/upstream_connection.py), which were calls into libraries before.
Files are opened without following links in one place (core/plain_files.py): a file more wherever something is
stored."""


@pytest.fixture(scope="module")
def trips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    figures = tmp_path_factory.mktemp("trips") / "figures.json"
    subprocess.run([sys.executable, str(SCRIPT), "--json", str(figures)], capture_output=True, check=True)
    found: dict[str, dict[str, int]] = json.loads(figures.read_text())
    return found


@pytest.mark.parametrize("trip", MOST)
def test_a_trip_is_no_longer_than_it_was(trips: dict[str, dict[str, int]], trip: str) -> None:
    assert all(trips[trip][figure] <= most for figure, most in MOST[trip].items()), trips[trip]
