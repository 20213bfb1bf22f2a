"""Memories that another memory program exports: mem0's `get_all`, engram's `export`, and lists of their kind.

What such a program derived from what it was told, mostly by a model, is known to be said there and no more: its
provenance is `import`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timezone
from typing import Any

from membank_llama.core.provenance import KEY
from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MAX_TEXT_BYTES
from membank_llama.memory.text_splitting import clean_text, split_passages

from .import_report import UNREADABLE, ImportReport
from .imported_conversation import PERSON, dict_field, list_field, text_field, time_field
from .told_times import told_at

MEM0, ENGRAM = "mem0", "engram"
_LISTS = ("results", "memories")
_TEXTS = ("memory", "content", "text")
_OWN = {KEY, "history", "part", "derived_from", "speaker"}
"""Keys of a memory's metadata that mean something here."""
_DELETED = "what was deleted there"


def memory_list(document: Any) -> list[Any]:
    """The memories of an export like mem0's; empty of anything else."""
    found = (
        document if isinstance(document, list) else next(filter(None, (list_field(document, n) for n in _LISTS)), [])
    )
    if any(text_field(one, "memory") for one in found):
        return found
    # a bare list of texts may be anything's; under such a name, each with its id and time, it is one of memories
    alike = [one for one in found if text_field(one, *_TEXTS) and one.get("id") and time_field(one)]
    return found if alike and not isinstance(document, list) else []


def storable(memories: Iterable[NewMemory]) -> Iterator[NewMemory]:
    """Memories without what cannot be stored; one that is too long in passages."""
    for memory in memories:
        text, conversation = clean_text(memory.text), memory.conversation and clean_text(memory.conversation)
        metadata = json.loads(clean_text(json.dumps(dict(memory.metadata or {}), ensure_ascii=False)))
        too_long = len(text.encode("utf-8")) > MAX_TEXT_BYTES
        for passage in split_passages(text) if too_long else [text]:
            yield replace(memory, text=passage, conversation=conversation, metadata=metadata)


def read_memory_list(entries: Sequence[Any], name: str, report: ImportReport) -> Iterator[NewMemory]:
    """Memories of an export like mem0's."""
    people = set()
    for entry in entries:
        text = text_field(entry, *_TEXTS)
        if not text:
            report.leave_out(UNREADABLE, name)
            continue
        if person := text_field(entry, "user_id"):
            people.add(person)
        yield NewMemory(
            text,
            _metadata(entry, ("user_id", "agent_id", "app_id", "categories")),
            role="note",
            conversation=text_field(entry, "run_id") or None,
            created_at=told_at(time_field(entry), report, text),
            source=MEM0,
        )
    if len(people) > 1:
        report.remark("memories of several people, all of which go into one namespace", ", ".join(sorted(people)))


def _metadata(entry: dict[str, Any], more: Sequence[str]) -> dict[str, Any]:
    kept = {key: value for key, value in dict_field(entry, "metadata").items() if key not in _OWN}
    named = {key: entry[key] for key in more if entry.get(key)}
    return {**kept, **named, KEY: "import"}


def is_engram(document: Any) -> bool:
    """Whether a document is an export of engram's."""
    return bool(list_field(document, "observations")) or (
        isinstance(document, dict) and {"sessions", "observations", "prompts"} <= document.keys()
    )


def read_engram(document: dict[str, Any], name: str, report: ImportReport) -> Iterator[NewMemory]:
    """Summaries of sessions, observations, and what the person typed."""
    for entry in list_field(document, "sessions"):
        if text_field(entry, "summary"):
            yield _observation(entry, text_field(entry, "summary"), "started_at", text_field(entry, "id"), report)
    for entry in list_field(document, "observations"):
        content, title = text_field(entry, "content", "narrative", "text"), text_field(entry, "title")
        if not (content or title):
            report.leave_out(UNREADABLE, name)
        elif entry.get("deleted_at"):
            report.leave_out(_DELETED, title or content)
        else:
            text = content if content.startswith(title) else f"{title}\n{content}".strip()
            yield _observation(entry, text, "created_at", text_field(entry, "session_id"), report)
    for entry in list_field(document, "prompts"):
        text = text_field(entry, "content")
        if text:
            session = text_field(entry, "session_id") or None
            when = told_at(entry.get("created_at"), report, text)
            yield NewMemory(text, role=PERSON, conversation=session, created_at=when, source=ENGRAM)


def _observation(entry: dict[str, Any], text: str, when: str, session: str, report: ImportReport) -> NewMemory:
    return NewMemory(
        text,
        _metadata(entry, ("type", "project", "topic_key")),
        role="note",
        conversation=session or None,
        created_at=told_at(entry.get(when), report, text, zone=timezone.utc),
        source=ENGRAM,
    )
