"""What a bank's holder does for others: one table of methods, and how one is called from another process.

A method is named here once; its arguments and its result go as shared_values.py writes them, its errors as the same
class with the same message, and what it reports of its progress as it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from membank_llama.core import errors
from membank_llama.core.errors import InvalidInputError, MembankError
from membank_llama.core.types import Progress

from ..bank import MemBank
from ..imports.import_records import drop_import, note_import
from ..imports.import_run import import_batch
from ..transcript_file import ChatTranscript


def save_chat(bank: MemBank, chat: ChatTranscript, seen: float | None) -> bool:
    """Keep the transcript of a chat."""
    return bank.chats.save(chat, seen)


FORWARDED: Mapping[str, Callable[..., Any]] = {
    "ingest_many": MemBank.ingest_many,
    "tell_again": MemBank.tell_again,
    "correct": MemBank.correct,
    "forget": MemBank.forget,
    "pin": MemBank.pin,
    "hide": MemBank.hide,
    "undo": MemBank.undo,
    "finish_hidden": MemBank.finish_hidden,
    "tune": MemBank.tune,
    "gc": MemBank.gc,
    "flush": MemBank.flush,
    "rebuild_indexes": MemBank.rebuild_indexes,
    "save_chat": save_chat,
    "import_batch": import_batch,
    "note_import": note_import,
    "drop_import": drop_import,
}
"""By name, the methods that write. One that is added here is handed to the holder wherever it is called."""

_PASSED_ON = (TypeError, ValueError, KeyError, IndexError, OverflowError, RecursionError)


def reports(name: str) -> bool:
    """Whether a method tells of its progress."""
    return "progress" in signature(FORWARDED[name]).parameters


def arguments_of(name: str, bank: MemBank, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What a method was called with, by name."""
    given = dict(signature(FORWARDED[name]).bind(bank, *args, **kwargs).arguments)
    del given[next(iter(given))]
    return given


def checked_call(name: str, given: Mapping[str, Any], progress: Progress | None) -> dict[str, Any]:
    """The arguments of a call that came from another process, with what is told of its progress.

    Raises:
        InvalidInputError: this version has no such method.
    """
    if name not in FORWARDED:
        raise InvalidInputError(
            f"the process that holds the bank does not know {name[:40]!r}: it runs another version of membank-llama. "
            "Close it and try again"
        )
    if "progress" in given:
        raise InvalidInputError("progress is told and not given")
    return {**given, **({"progress": progress} if reports(name) else {})}


def error_to_json(exc: Exception) -> list[str]:
    """The class and the message of what a method raised."""
    for kind in type(exc).__mro__:
        if getattr(errors, kind.__name__, None) is kind or kind in _PASSED_ON:
            return [kind.__name__, str(exc)]
    return [MembankError.__name__, f"{type(exc).__name__}: {exc}"]


def error_from_json(name: str, message: str) -> Exception:
    """The same in the process that called it."""
    known = {kind.__name__: kind for kind in _PASSED_ON}
    kind = known.get(name) or getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, (MembankError, *_PASSED_ON))):
        kind = MembankError
    error: Exception = kind(message)
    return error
