"""What `membank ingest` is given: texts, other programs' exports among them, and files that are passed over."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .importing import store_findings

if TYPE_CHECKING:
    from membank_llama.core.types import NewMemory, Progress
    from membank_llama.memory.bank import MemBank
    from membank_llama.memory.imports.import_plan import Findings
    from membank_llama.memory.imports.import_report import ImportReport

MOST_NAMED = 5


@dataclass
class IngestSources:
    """What was read, ahead of anything that is stored."""

    items: list[NewMemory] = field(default_factory=list)
    findings: list[Findings] = field(default_factory=list)
    passed_over: list[dict[str, str]] = field(default_factory=list)


def read_sources(paths: Sequence[str], role: str, namespace: str, source: str | None) -> IngestSources:
    """Read files, directories and standard input ("-").

    Raises:
        InvalidInputError: one of them cannot be read.
    """
    read = IngestSources()
    for path in paths:
        items, found = _read_place(path, role, namespace, read)
        read.items += items if source is None else [replace(item, source=source) for item in items]
        if found.exports:
            read.findings.append(found)
    return read


def _read_place(path: str, role: str, namespace: str, read: IngestSources) -> tuple[list[NewMemory], Findings]:
    """The texts of a place, and the exports in it."""
    from membank_llama.core.types import NewMemory
    from membank_llama.memory.imports.export_kinds import FoundExport
    from membank_llama.memory.imports.export_sources import STDIN, export_in_file, exports_below, exports_of_bytes
    from membank_llama.memory.imports.import_plan import Findings, name_of
    from membank_llama.memory.imports.import_report import ImportReport
    from membank_llama.memory.memory_files import items_of_text, read_items

    report = ImportReport()
    exports: list[FoundExport] = []
    if path == STDIN:
        data = sys.stdin.buffer.read()
        exports += exports_of_bytes(data, "standard input", report)
        defaults = NewMemory("", role=role, namespace=namespace, source="stdin")
        items = [] if exports else list(items_of_text(data, defaults))
        return items, Findings(name_of(path), tuple(exports), report)
    look = exports_below if Path(path).is_dir() else export_in_file

    def taken(file: Path, name: str) -> bool:
        # lines of memories are read as they are
        found = None if file.suffix.lower() == ".jsonl" else look(file, name, report)
        exports.extend(found or ())
        return bool(found)

    def passed_over(name: str, why: str) -> None:
        read.passed_over.append({"path": name, "reason": why})

    items = list(read_items(path, role=role, namespace=namespace, passed_over=passed_over, taken=taken))
    return items, Findings(name_of(path), tuple(exports), report)


def store_sources(
    bank: MemBank, read: IngestSources, namespace: str, source: str | None, progress: Progress
) -> tuple[int, int, ImportReport]:
    """Store all of it; returns how many memories are new, how many were known, and what of exports was left out."""
    from membank_llama.memory.imports.import_report import ImportReport

    results = bank.ingest_many(read.items, progress=progress)
    new = sum(result.is_new for result in results)
    known, report = len(results) - new, ImportReport()
    for findings in read.findings:
        outcome, plan = store_findings(bank, findings, namespace, progress, source=source)
        new, known = new + outcome.new, known + outcome.known
        report.add(plan.report)
    return new, known, report


def show_passed_over(passed: Sequence[Mapping[str, str]]) -> None:
    """Files that were not read, by reason, in a line each."""
    from .. import terminal

    for reason in dict.fromkeys(one["reason"] for one in passed):
        names = [one["path"] for one in passed if one["reason"] == reason]
        more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
        terminal.note(f"passed over, {reason}: {', '.join(names[:MOST_NAMED])}{more}")
