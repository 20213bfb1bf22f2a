"""Memories of other memory programs, and notes with dates."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

import pytest
from support.exports import NOW, found, planned

from membank_llama.core.days import parse_instant
from membank_llama.core.provenance import Provenance, provenance_of
from membank_llama.core.types import NewMemory
from membank_llama.core.validation import check_memories
from membank_llama.memory.bank import MAX_TEXT_BYTES
from membank_llama.memory.imports.dated_markdown import UNDATED
from membank_llama.memory.imports.export_kinds import parse_document
from membank_llama.memory.imports.export_sources import find_exports
from membank_llama.memory.imports.import_report import ImportReport

MEM0 = [
    {
        "id": "bf4d4092", "memory": "Likes canoes", "hash": "x", "metadata": {"category": "hobby", "history": [1]},
        "created_at": "2024-07-20T01:30:36.275141-07:00", "updated_at": None, "user_id": "alex",
    },
    {"id": "2", "memory": "Has a sister in Porto", "created_at": 1721464236, "user_id": "sam", "run_id": "r1"},
    {"id": "3", "memory": " "},
]  # fmt: skip


@pytest.mark.parametrize("document", [{"results": MEM0, "relations": []}, MEM0, {"memories": MEM0}])
def test_mem0(document: object) -> None:
    plan = planned(document, "mem0.json", namespace="old")
    first, second = plan.memories
    assert (first.text, first.role, first.source, first.namespace) == ("Likes canoes", "note", "mem0", "old")
    assert first.created_at == datetime(2024, 7, 20, 8, 30, 36, 275141, tzinfo=timezone.utc).timestamp()
    assert first.metadata == {"category": "hobby", "user_id": "alex", "provenance": "import"}
    assert provenance_of(first.role, first.source, first.metadata) == Provenance.IMPORT
    assert (second.conversation, second.created_at) == ("r1", 1721464236)
    assert sum(one.count for one in plan.report.left_out.values()) == 1
    (several,) = plan.report.remarks.values()
    assert several.examples == ["alex, sam"]


def test_what_cannot_be_stored_as_it_is_stops_no_import() -> None:
    broken = {
        "id": "1",
        "memory": "Likes\0 canoes \ud83d",
        "run_id": "\ud83d",
        "metadata": {"\ud83d": ["\udc00"], "n": 1},
    }
    plan = planned({"results": [broken, {"id": "2", "memory": "A word. " * 20_000}]}, "mem0.json")
    first, *rest = plan.memories
    assert (first.text, first.conversation) == ("Likes\ufffd canoes \ufffd", "\ufffd")
    assert first.metadata == {"\ufffd": ["\ufffd"], "n": 1, "provenance": "import"}
    assert len(rest) > 1
    check_memories(plan.memories, MAX_TEXT_BYTES)
    plan = planned({"observations": [{"id": 1, "title": "Paint\0", "content": "Green"}]}, "engram.json")
    assert [memory.text for memory in plan.memories] == ["Paint\ufffd\nGreen"]


def test_a_number_that_is_none_is_nothing() -> None:
    document = parse_document('{"results": [{"id": 1, "memory": "Likes canoes", "metadata": {"score": NaN}}]}')
    (memory,) = planned(document, "mem0.json").memories
    assert memory.metadata == {"score": None, "provenance": "import"}


def test_texts_of_a_document_that_is_no_export_are_none() -> None:
    for document in ([{"text": "x"}], {"results": [{"text": "x"}]}, {"memories": []}, {"memory": "x"}, [], {}, "x", 5):
        with pytest.raises(AssertionError):
            found(document)
    export, _ = found({"memories": [{"id": 1, "content": "Likes canoes", "timestamp": 1721464236000}]})
    assert export.memories[0].created_at == 1721464236


def test_engram() -> None:
    document = {
        "version": "0.1.0", "exported_at": "2026-01-01 00:00:00",
        "sessions": [
            {"id": "s1", "project": "boats", "started_at": "2026-01-01 00:00:00", "summary": "Built a canoe."},
        ],
        "observations": [
            {"id": 1, "session_id": "s1", "type": "decision", "title": "Green paint", "content": "The hull is green.",
             "project": "boats", "created_at": "2026-01-01 10:00:00"},
            {"id": 2, "title": "Old", "content": "Old one", "deleted_at": "2026-01-02 00:00:00"},
            {"id": 3, "title": "", "content": ""},
        ],
        "prompts": [{"id": 1, "session_id": "s1", "content": "Paint it green.", "created_at": "2026-01-01 09:00:00"}],
    }  # fmt: skip
    export, report = found(document, "engram.json")
    report.now = NOW * 2
    summary, observation, prompt = export.memories
    assert (summary.text, summary.conversation) == ("Built a canoe.", "s1")
    assert observation.text == "Green paint\nThe hull is green."
    assert observation.metadata == {"type": "decision", "project": "boats", "provenance": "import"}
    assert (prompt.role, prompt.text) == ("user", "Paint it green.")
    assert provenance_of(prompt.role, prompt.source, prompt.metadata) == Provenance.PERSON
    assert report.left_out["what was deleted there"].examples == ["Old"]


def notes(path: Path) -> dict[str, NewMemory]:
    (*exports,) = find_exports(str(path), ImportReport())
    return {memory.source or "": memory for export in exports for memory in export.memories}


def test_markdown_with_dates(tmp_path: Path) -> None:
    for name, text in {
        "front.md": '---\ntitle: Boats\ndate: "2024-03-02T10:00"  # when\n---\nThe canoe is green.',
        "2024-05-01 canoe.md": "It leaks.",
        "journal/2024_05_02.md": "Mended it.",
        "2024/06/03.md": "Sold it.",
        "20240504.txt": "Bought a kayak.",
        "linked.md": '---\ncreated: "[[2024-03-03]]"\n---\nBought a rope.',
        "undated.md": "---\nno front matter here",
        "2099-01-01.md": "Not yet.",
        "1944-06-06.md": "Grandmother's diary.",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    for name in ("undated.md", "2099-01-01.md"):
        os.utime(tmp_path / name, (1.7e9, 1.7e9))
    found = notes(tmp_path)
    assert {name: memory.created_at for name, memory in found.items()} == {
        "front.md": parse_instant("2024-03-02T10:00"),
        "2024-05-01 canoe.md": parse_instant("2024-05-01"),
        "journal/2024_05_02.md": parse_instant("2024-05-02"),
        "2024/06/03.md": parse_instant("2024-06-03"),
        "20240504.txt": parse_instant("2024-05-04"),
        "linked.md": parse_instant("2024-03-03"),
        "undated.md": 1.7e9,
        "2099-01-01.md": 1.7e9,
        "1944-06-06.md": parse_instant("1944-06-06"),
    }
    canoe = found["front.md"]
    assert (canoe.text, canoe.role, canoe.metadata) == ("The canoe is green.", "note", {"part": 0})
    assert provenance_of(canoe.role, canoe.source, canoe.metadata) == Provenance.DOCUMENT


def test_undated_notes_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("Something.", encoding="utf-8")
    report = ImportReport()
    list(find_exports(str(tmp_path), report))
    assert report.remarks[UNDATED].examples == ["a.md"]
