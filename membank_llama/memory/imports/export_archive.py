"""The zip in which a program hands out its export: its JSON files are read where they lie, none is unpacked.

Sizes are bounded by what is read and not by what the archive says, so a small file cannot fill the memory.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from membank_llama.core.errors import InvalidInputError

from .import_report import ATTACHED, ImportReport

MAGIC_BYTES = b"PK\x03\x04"
MOST_BYTES = 1 << 30
"""Of JSON in an archive, and of one file outside of one."""
MOST_MEMBERS = 200_000
MOST_SHRUNK, FREE_BYTES = 200, 16 << 20
"""How many times smaller a large text may be in an archive; chats are about ten times."""
_JSON = (".json", ".jsonl")


def archive_texts(source: Path | IO[bytes], name: str, report: ImportReport) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the JSON files in an archive, in order of their names.

    Raises:
        InvalidInputError: it is damaged, locked by a password, or larger than any export.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            members = [one for one in archive.infolist() if not one.is_dir()]
            if len(members) > MOST_MEMBERS:
                raise InvalidInputError(f"{name} holds {len(members):,} files, more than any export; unpack it first")
            left = MOST_BYTES
            for member in sorted(members, key=lambda one: one.filename):
                if _is_read(member.filename):
                    data = _read(archive, member, left, name)
                    left -= len(data)
                    yield f"{name}/{member.filename}", data
                else:
                    report.leave_out(ATTACHED, f"{name}/{member.filename}")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as exc:
        raise InvalidInputError(
            f"{name} is a zip that cannot be read: {exc}; unpack it and import what is in it"
        ) from exc


def _is_read(name: str) -> bool:
    parts = name.lower().split("/")
    # what macOS puts beside every file
    return parts[-1].endswith(_JSON) and not any(part.startswith((".", "__macosx")) for part in parts)


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, left: int, name: str) -> bytes:
    most = min(left, max(FREE_BYTES, MOST_SHRUNK * member.compress_size))
    with archive.open(member) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise InvalidInputError(
            f"{name}: {member.filename} unpacks to more than {most:,} bytes, as no export does; nothing of it is read"
        )
    return data
