"""Where an import comes from: a file, a directory, or standard input; what is in it, and what of it is passed over."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

from membank_llama.core.errors import InvalidInputError, InvalidTextError
from membank_llama.core.text_encodings import UNMARKED, beginning_of, decoded_text, is_binary, what_it_is
from membank_llama.core.types import NewMemory
from membank_llama.memory.import_export import parse_lines
from membank_llama.memory.memory_files import (
    HEAD,
    NOT_READABLE,
    UnreadableFileError,
    files_below,
    name_below,
    read_bytes,
    reason_of,
)
from membank_llama.memory.text_splitting import clean_text
from membank_llama.store.foreign_tables import MAGIC

from .dated_markdown import MARKDOWN, has_date, read_dated_note
from .export_archive import MAGIC_BYTES, MOST_BYTES, archive_texts
from .export_kinds import KNOWN, FoundExport, json_damage, parse_document, read_document
from .import_report import ImportReport
from .ollama_history import (
    OLLAMA,
    is_ollama_database,
    is_prompt_history,
    read_ollama_database,
    read_prompt_history,
)

STDIN = "-"
_LINES = (".jsonl", ".ndjson")
DAMAGED_FILE = "files that cannot be read"
EMPTY_FILE = "files that are empty"
BROKEN_JSON = "files of JSON that break off or are damaged"
_UNKNOWN = "files of no program that is known"


def find_exports(where: str, report: ImportReport) -> Iterator[FoundExport]:
    """All that can be imported from a place.

    Raises:
        InvalidInputError: it cannot be read; or it is one file, and nothing that is known.
    """
    if where == STDIN:
        data = sys.stdin.buffer.read()
        found = exports_of_bytes(data, "standard input", report)
        if not found:
            text = decoded_text(data, "standard input")
            if text.lstrip()[:1] in ("{", "[") and (damage := json_damage(text.split("\n", 1)[0])):
                raise InvalidInputError(_broken("standard input", damage))
            found = [_lines_of(text, "standard input")]
        yield from found
        return
    root = Path(where).expanduser()
    if root.is_dir():
        yield from _below(root, report)
        return
    name = clean_text(root.name)
    found = export_in_file(root, name, report) or _note_in_file(root, name, report, alone=True)
    if not found:
        raise InvalidInputError(_nothing_known(root))
    yield from found


def _nothing_known(path: Path) -> str:
    """What to say of a file that is named and nothing that is known."""
    what, damage = _what_else(path)
    if what == EMPTY_FILE:
        return f"{path} is empty"
    if damage:
        return _broken(str(path), damage)
    if what.endswith(UNMARKED):
        return f"{path} is {what.removeprefix('files that are ')}; save it as UTF-8"
    return f"cannot tell what {path} is. What can be imported: {KNOWN}. Plain text is taken in with membank ingest"


def _broken(where: str, damage: str) -> str:
    return f"{where} breaks off or is damaged ({damage}); download it, or export it, once more"


def _what_else(path: Path) -> tuple[str, str | None]:
    """Why nothing is taken of a file in which nothing known was found, and what is wrong with it as JSON.

    Raises:
        UnreadableFileError, InvalidTextError: it cannot be read.
    """
    head = read_bytes(path, HEAD)
    if not head:
        return EMPTY_FILE, None
    if is_binary(head):
        return f"files that are {what_it_is(head).partition(' (')[0]}", None
    is_json = path.suffix.lower() == ".json"
    damage = json_damage(decoded_text(read_bytes(path), str(path))) if is_json else None
    return (BROKEN_JSON if damage else _UNKNOWN), damage


def _below(root: Path, report: ImportReport) -> Iterator[FoundExport]:
    def passed(name: str, why: str) -> None:
        report.leave_out(f"files that are {why}", name)

    for path in files_below(root, passed):
        name = name_below(root, path)
        try:
            found = exports_below(path, name, report)
            if found is None:
                continue
            found = found or _note_in_file(path, name, report, alone=False)
            if not found:
                report.leave_out(_what_else(path)[0], name)
        except UnreadableFileError:
            passed(name, NOT_READABLE)
            continue
        except InvalidTextError as error:
            passed(name, reason_of(error, path))
            continue
        yield from found


def exports_below(path: Path, name: str, report: ImportReport) -> list[FoundExport] | None:
    """`export_in_file` of a file in a directory; None of a damaged one, which is left out by name. What is no text, or
    out of reach, is for whoever reads it next to name."""
    try:
        return export_in_file(path, name, report)
    except (InvalidTextError, UnreadableFileError):
        return []
    except InvalidInputError as error:
        report.leave_out(DAMAGED_FILE, f"{name}: {str(error).removeprefix(str(path)).strip()}")
        return None


def export_in_file(path: Path, name: str, report: ImportReport) -> list[FoundExport]:
    """What a file holds of other programs' conversations or memories; empty where it is nothing of the kind.

    Raises:
        InvalidInputError: it is, and cannot be read.
    """
    head = read_bytes(path, HEAD)
    if head.startswith(MAGIC):
        if not is_ollama_database(path):
            return []
        return [FoundExport(OLLAMA, name, conversations=tuple(read_ollama_database(path, report)))]
    if head.startswith(MAGIC_BYTES):
        return _in_archive(path, name, report)
    if is_binary(head) or not _may_be_json(head, name):
        return []
    if path.stat().st_size > MOST_BYTES:
        raise InvalidInputError(f"{path} is larger than {MOST_BYTES:,} bytes; export a part of it at a time")
    return exports_of_bytes(read_bytes(path), name, report)


def _may_be_json(head: bytes, name: str) -> bool:
    return beginning_of(head)[:1] in ("{", "[") or Path(name).suffix.lower() in _LINES


def exports_of_bytes(data: bytes, name: str, report: ImportReport) -> list[FoundExport]:
    """The same of what is at hand."""
    if data.startswith(MAGIC_BYTES):
        return _in_archive(io.BytesIO(data), name, report)
    if is_binary(data):
        return []
    document = parse_document(decoded_text(data, name))
    found = None if document is None else read_document(document, name, report)
    return [] if found is None else [found]


def _in_archive(source: Path | io.BytesIO, name: str, report: ImportReport) -> list[FoundExport]:
    # another zip, as a document of an office program is one, leaves nothing in the report
    inside, found = ImportReport(report.now), []
    for member, data in archive_texts(source, name, inside):
        text = decoded_text(data, member)
        document = parse_document(text)
        one = None if document is None else read_document(document, member, inside)
        if one is None:
            inside.leave_out(BROKEN_JSON if json_damage(text) else _UNKNOWN, member)
        else:
            found.append(one)
    if found:
        report.add(inside)
    elif BROKEN_JSON in inside.left_out:
        (first, *_) = inside.left_out[BROKEN_JSON].examples
        raise InvalidInputError(f"{first} breaks off or is damaged; download {name}, or export it, once more")
    return found


def _note_in_file(path: Path, name: str, report: ImportReport, *, alone: bool) -> list[FoundExport]:
    """Lines of memories, prompts or a note, by the name of the file: they have no shape of their own."""
    suffix = path.suffix.lower()
    dated = suffix in MARKDOWN or (suffix == ".txt" and (alone or has_date(name)))
    if not (suffix in _LINES or dated or is_prompt_history(path)) and not (alone and _has_lines(path)):
        return []
    data = read_bytes(path)
    if is_binary(data):
        raise InvalidTextError(f"{path} is {what_it_is(data)}; convert it to UTF-8 text first")
    text, changed = decoded_text(data, str(path)), path.stat().st_mtime
    if dated:
        return [FoundExport("markdown", name, memories=tuple(read_dated_note(text, name, changed, report)))]
    if is_prompt_history(path) and suffix not in _LINES:
        return [FoundExport(OLLAMA, name, memories=tuple(read_prompt_history(text, changed, report)))]
    try:
        return [_lines_of(text, name)]
    except InvalidInputError as error:
        if suffix == ".json" and json_damage(text.split("\n", 1)[0]):
            # one document, and not whole
            return []
        raise type(error)(f"{name}, {error}") from error


def _has_lines(path: Path) -> bool:
    head = read_bytes(path, HEAD)
    return not is_binary(head) and beginning_of(head).startswith("{")


def _lines_of(text: str, name: str) -> FoundExport:
    memories: tuple[NewMemory, ...] = tuple(parse_lines(text.split("\n")))
    return FoundExport("membank", name, memories=memories)
