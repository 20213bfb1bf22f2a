"""A conversation as another program kept it: what the readers of all formats come to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from .import_report import UNREADABLE, ImportReport


@dataclass(frozen=True)
class ImportedMessage:
    """One message; its role is `user` or `assistant`."""

    text: str
    role: str
    said_at: float | None = None


@dataclass(frozen=True)
class ImportedConversation:
    """Messages in order. `key`: what tells it from others with the same title, in every export anew."""

    key: str
    title: str
    messages: tuple[ImportedMessage, ...]
    began_at: float | None = None

    @property
    def when(self) -> float | None:
        """When it began, or else the first time of a message."""
        times = (message.said_at for message in self.messages if message.said_at is not None)
        return self.began_at if self.began_at is not None else next(times, None)


ConversationReader: TypeAlias = Callable[[Sequence[Any], str, ImportReport], Iterator[ImportedConversation]]
"""Reads entries of an export; given the name of its file."""

PERSON, MODEL = "user", "assistant"
_TIMES = ("created_at", "createdAt", "create_time", "timestamp")


def entries_read(entries: Iterable[Any], fits: Callable[[Any], bool], name: str, report: ImportReport) -> Iterator[Any]:
    """Those of some entries that are of a format; of the others the report says that they were left out."""
    for entry in entries:
        if fits(entry):
            yield entry
        else:
            report.leave_out(UNREADABLE, name)


def messages_read(messages: Iterable[ImportedMessage | None]) -> tuple[ImportedMessage, ...]:
    """The messages of a conversation that were read."""
    return tuple(message for message in messages if message is not None)


def text_field(entry: Any, *names: str) -> str:
    """The first of some fields that is a text with something in it; else an empty one."""
    for name in names:
        value = entry.get(name) if isinstance(entry, dict) else None
        if isinstance(value, str) and value.strip():
            return value.strip()
    return ""


def time_field(entry: Any) -> Any:
    """When something was said, by the names that programs have for it; None where none of them says anything."""
    named = entry if isinstance(entry, dict) else {}
    return next((named[name] for name in _TIMES if named.get(name)), None)


def list_field(entry: Any, name: str) -> list[Any]:
    """A field that is a list; else an empty one."""
    value = entry.get(name) if isinstance(entry, dict) else None
    return value if isinstance(value, list) else []


def dict_field(entry: Any, name: str) -> dict[str, Any]:
    """A field that is an object; else an empty one."""
    value = entry.get(name) if isinstance(entry, dict) else None
    return value if isinstance(value, dict) else {}
