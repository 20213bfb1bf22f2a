"""What the terminal leaves behind holds no text of a memory, and follows when a memory is forgotten."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.banks import FACTS, files_with, open_bank

from membank_llama.cli.last_recall import (
    LAST_RECALL,
    load_recall,
    recall_rows,
    save_recall,
)


def test_the_last_recall_holds_scores_and_no_text(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
        results = bank.recall("Where does Ana live?", 3)
    rows = recall_rows(results, injected=[results[0].memory_id], skipped={results[1].memory_id: "over the budget"})
    save_recall(tmp_path, "Where does Ana live?", rows, tokens=12, recall_ms=1.5, program="test")
    record = load_recall(tmp_path)
    assert record is not None
    assert record["query"] == "Where does Ana live?"
    assert [row["injected"] for row in record["results"]] == [True, False, False]
    assert record["results"][1]["skipped"] == "over the budget"
    assert record["results"][0]["score_l0"] == results[0].score_l0
    assert LAST_RECALL not in files_with(tmp_path, b"Porto")
    if sys.platform != "win32":
        assert (tmp_path / LAST_RECALL).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "{", "[]", '{"results": 3}', "\xff"])
def test_a_damaged_record_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / LAST_RECALL).write_text(content, encoding="latin-1")
    assert load_recall(tmp_path) is None


def test_a_directory_that_cannot_be_written_to_is_let_be(tmp_path: Path) -> None:
    save_recall(tmp_path / "missing", "?", [], tokens=None, recall_ms=0.0, program="test")
    assert not (tmp_path / "missing").exists()
