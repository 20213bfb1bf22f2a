"""`ImportPlan`: what would be stored of a file or directory, ahead of any encoding, and what of it is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from membank_llama.core.types import DEFAULT_NAMESPACE, NewMemory
from membank_llama.memory.text_splitting import clean_text

from .conversation_memories import ConversationNames, kept_memories
from .export_kinds import TITLES, FoundExport
from .export_sources import STDIN, find_exports
from .import_report import ImportReport
from .imported_conversation import ImportedConversation


@dataclass
class KindCount:
    """How much there is of one kind, and of which time."""

    kind: str
    files: int = 0
    conversations: int = 0
    messages: int = 0
    first: float | None = None
    last: float | None = None

    @property
    def title(self) -> str:
        """What people call it."""
        return TITLES.get(self.kind, self.kind)

    def add_time(self, when: float | None) -> None:
        if when is not None:
            self.first = when if self.first is None else min(self.first, when)
            self.last = when if self.last is None else max(self.last, when)


@dataclass
class ImportPlan:
    """Memories in the order in which they were said.

    Args:
        file: what is imported, as people named it.
    """

    file: str
    memories: list[NewMemory] = field(default_factory=list)
    kinds: dict[str, KindCount] = field(default_factory=dict)
    report: ImportReport = field(default_factory=ImportReport)

    def fields(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "file": self.file,
            "kinds": [vars(one) for one in self.kinds.values()],
            "memories": len(self.memories),
            **self.report.fields(),
        }


@dataclass(frozen=True)
class Findings:
    """What was read of a place, and what of it was left out."""

    file: str
    exports: tuple[FoundExport, ...]
    report: ImportReport


def read_place(where: str) -> Findings:
    """Read all that can be imported from a file, a directory or standard input ("-").

    Raises:
        InvalidInputError: it cannot be read, or nothing in it is known.
    """
    report = ImportReport()
    exports = tuple(find_exports(where, report))
    return Findings(name_of(where), exports, report)


def name_of(where: str) -> str:
    """What to call a place in a record: it is named without the directories that lead there."""
    return "standard input" if where == STDIN else clean_text(Path(where).expanduser().absolute().name)


def plan_import(
    findings: Findings, *, namespace: str | None = None, taken: Mapping[str, str] | None = None
) -> ImportPlan:
    """The plan of what was read.

    Args:
        namespace: where everything goes; by default, where each line of JSON Lines says, or the default one.
        taken: names of conversations that the bank holds (store/conversation_names.py).
    """
    report = findings.report
    plan = ImportPlan(findings.file, report=report)
    names = ConversationNames(taken)
    chats: list[tuple[str, ImportedConversation]] = []
    for one in findings.exports:
        count = plan.kinds.setdefault(one.kind, KindCount(one.kind))
        count.files += 1
        chats += [(one.kind, conversation) for conversation in one.conversations if conversation.messages]
        for memory in one.memories:
            count.messages += 1
            count.add_time(memory.created_at)
            plan.memories.append(memory if namespace is None else replace(memory, namespace=namespace))
    # what was told first is stored first, and of two conversations of one title the older keeps it
    for kind, conversation in sorted(chats, key=lambda chat: (chat[1].when or report.now, chat[1].key)):
        count = plan.kinds[kind]
        count.conversations += 1
        count.messages += len(conversation.messages)
        count.add_time(conversation.when)
        for message in conversation.messages:
            count.add_time(message.said_at)
        name = names.name(conversation, kind)
        plan.memories += kept_memories(conversation, kind, name, namespace or DEFAULT_NAMESPACE, report)
    return plan
