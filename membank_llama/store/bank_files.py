"""The files of a bank, which may come from a stranger: their names, and opening them without following links.

A bank that was downloaded or shared names its own files and may hold links. A name is used only where it is one that
we give, and a file or directory in a bank is opened, written or deleted only where it is a plain one. Only the bank's
own directory may be a link: that is the person's choice.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from membank_llama.core.errors import BankCorruptError, BankFormatError, BankStorageError, InvalidInputError
from membank_llama.core.plain_files import open_unfollowed
from membank_llama.kv import DIRECTORY as KV
from membank_llama.kv import EPOCH as KV_EPOCH

DATABASE = "bank.sqlite"
INDEX = "index"
FIRST_ACTIVATIONS, FIRST_TOKENS = "activations-1.bin", "tokens-1.bin"
NOTE = "bank.note"
WRITER_LOCK, WRITER_NOTE = "writer.lock", "writer.json"
LAST_RECALL, HISTORY = "last-recall.json", "chat-history"
HANDS_SOCKET, HANDS_NOTE = "hands.sock", "hands.json"
"""Where the holder of the bank listens for others (memory/sharing): no part of what a bank holds, never copied."""
CHATS = "chats"
HEADER_BYTES = 4096
"""Bytes of an activation file ahead of its slots."""

_ACTIVATIONS = re.compile(r"activations-[0-9]{1,18}\.bin")
_TOKENS = re.compile(r"tokens-[0-9]{1,18}\.bin")
_INDEX_FILE = re.compile(r"[0-9a-f]{24}\.(?:hnsw|json|tmp|json\.tmp)")
_CHAT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
_CHAT_FILE = re.compile(rf"{_CHAT.pattern}\.json")
_CHAT_DRAFT = re.compile(rf"\.{_CHAT_FILE.pattern}-\w{{1,16}}")
_FIXED = (
    DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal", WRITER_LOCK, WRITER_NOTE, NOTE, LAST_RECALL,
    HISTORY, HANDS_NOTE,
)  # fmt: skip
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")


def activation_name(name: Any) -> str:
    """A name that the bank records for its activation file.

    Raises:
        BankCorruptError: it is none that we give, and might lead out of the bank.
    """
    if not isinstance(name, str) or not _ACTIVATIONS.fullmatch(name):
        raise BankCorruptError(
            f"the bank names {str(name)[:80]!r} as its activation file, which is no name that membank-llama gives: the "
            "bank is damaged, or was made to reach files outside it. Use another copy of it"
        )
    return name


def token_name(name: Any) -> str:
    """The same of its file of tokens; raises as `activation_name`."""
    if not isinstance(name, str) or not _TOKENS.fullmatch(name):
        raise BankCorruptError(
            f"the bank names {str(name)[:80]!r} as its file of tokens, which is no name that membank-llama gives: the "
            "bank is damaged, or was made to reach files outside it. The texts are safe: membank reencode"
        )
    return name


def activation_number(name: Any) -> int:
    """The number in such a name; raises as `activation_name`."""
    return int(activation_name(name).removesuffix(".bin").rsplit("-", 1)[1])


def activation_files(bank: Path) -> list[Path]:
    """The activation files in a bank's directory, links and directories left out."""
    return [path for path in bank.glob("activations-*.bin") if _ACTIVATIONS.fullmatch(path.name) and is_plain(path)]


def token_files(bank: Path) -> list[Path]:
    """The same for files of tokens."""
    return [path for path in bank.glob("tokens-*.bin") if _TOKENS.fullmatch(path.name) and is_plain(path)]


def damaged_files(bank: Path) -> list[Path]:
    """Activation files that were set aside."""
    found = bank.glob("activations-*.damaged")
    return [path for path in found if _ACTIVATIONS.fullmatch(f"{path.stem}.bin") and is_plain(path)]


def remove_leftovers(bank: Path, keep: set[str]) -> None:
    """Delete the activation files and files of tokens that an interrupted switch left behind, all but these."""
    for path in [*activation_files(bank), *token_files(bank)]:
        if path.name not in keep:
            # not where another process still reads it and such a file cannot be deleted
            with suppress(OSError):
                path.unlink()


def remove(path: Path) -> None:
    """Delete a file of the bank, where it is there.

    Raises:
        BankStorageError: the system refused.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise BankStorageError(
            f"could not delete {path}: {exc.strerror or exc}; check the permissions of the bank's directory"
        ) from exc


def set_aside(damaged: Path) -> None:
    """Keep a damaged activation file under another name, the first time that there is something in it."""
    kept = damaged.with_suffix(".damaged")
    if os.path.lexists(kept) or size_of(damaged) <= HEADER_BYTES:
        remove(damaged)
        return
    try:
        damaged.replace(kept)
    except OSError as exc:
        raise BankStorageError(f"could not set {damaged} aside: {exc.strerror or exc}; move it away by hand") from exc


def index_files(directory: Path) -> list[Path]:
    """Graphs, notes and drafts in the directory of the indexes; what else lies there is nothing of ours."""
    if not is_plain(directory, directory=True):
        return []
    return [path for path in directory.glob("*") if _INDEX_FILE.fullmatch(path.name) and is_plain(path)]


def chat_file(bank: Path, name: str) -> Path:
    """Where the transcript of a chat lies.

    Raises:
        InvalidInputError: no chat is named so.
    """
    if not _CHAT.fullmatch(name):
        raise InvalidInputError(f"{name[:80]!r} is no name of a chat; they are letters, digits, - and _")
    return bank / CHATS / f"{name}.json"


def chat_files(bank: Path, *, drafts: bool = False) -> list[Path]:
    """The transcripts of a bank's chats, or what an interrupted write left of some; links and directories left out.

    Raises:
        OSError: the directory cannot be read.
    """
    if not is_plain(bank / CHATS, directory=True):
        return []
    named = _CHAT_DRAFT if drafts else _CHAT_FILE
    return [path for path in (bank / CHATS).iterdir() if named.fullmatch(path.name) and is_plain(path)]


def is_plain(path: Path, *, directory: bool = False) -> bool:
    """Whether there is a plain file, or directory, and no link to one."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False
    return stat.S_ISDIR(mode) if directory else stat.S_ISREG(mode)


def check_files(bank: Path) -> None:
    """Refuse a bank in which a link, a pipe or the like stands in the place of one of its files.

    Raises:
        BankFormatError: with the name.
    """
    for path in _named(bank):
        directory = path.name in (INDEX, KV, CHATS)
        if os.path.lexists(path) and not is_plain(path, directory=directory):
            raise BankFormatError(
                f"{path} is no plain {'directory' if directory else 'file'} but a link or something else: whoever made "
                "this bank may want files outside it written or deleted. Put the file itself there, or remove it"
            )
    hands = bank / HANDS_SOCKET
    if os.path.lexists(hands) and not stat.S_ISSOCK(hands.lstat().st_mode):
        raise BankFormatError(f"{hands} is no socket, which belongs there while a bank is open; remove it")
    _check_journal(bank / f"{DATABASE}-journal")


def _named(bank: Path) -> Iterator[Path]:
    yield from (bank / INDEX, bank / KV, bank / KV / KV_EPOCH, bank / CHATS)
    for name in _FIXED:
        yield bank / name
    try:
        yield from (path for path in bank.glob("activations-*.bin") if _ACTIVATIONS.fullmatch(path.name))
        yield from (path for path in bank.glob("tokens-*.bin") if _TOKENS.fullmatch(path.name))
        yield from (path for path in (bank / INDEX).glob("*") if _INDEX_FILE.fullmatch(path.name))
        yield from (path for path in (bank / CHATS).glob("*") if _CHAT_FILE.fullmatch(path.name))
    except OSError:
        # whoever opens it says what is wrong
        return


def _check_journal(journal: Path) -> None:
    """SQLite deletes the file that a journal names as the one above it: ours never names any."""
    try:
        with journal.open("rb") as file:
            file.seek(-len(_JOURNAL_MAGIC), os.SEEK_END)
            names_another = file.read() == _JOURNAL_MAGIC
    except OSError:
        return
    if names_another:
        raise BankFormatError(
            f"{journal} names another file, which SQLite would delete; membank-llama writes no such journal. "
            "Use another copy of the bank"
        )


def check_database_is_there(bank: Path) -> None:
    """Refuse a bank whose database is gone while its memories' activations are there.

    Raises:
        BankCorruptError: with what to do; nothing is changed.
    """
    if size_of(bank / DATABASE):
        return
    log = bank / f"{DATABASE}-wal"
    if size_of(log):
        raise _lost_database(bank, [log.name])
    check_is_new(bank)


def check_is_new(bank: Path) -> None:
    """Refuse to begin a bank where activations or graphs of another one lie; raises as `check_database_is_there`."""
    files = [*activation_files(bank), *token_files(bank)]
    held = [path.name for path in files if size_of(path) > HEADER_BYTES]
    held += [path.name for path in index_files(bank / INDEX) if path.suffix == ".hnsw"]
    if held:
        raise _lost_database(bank, held)


def _lost_database(bank: Path, left: list[str]) -> BankCorruptError:
    return BankCorruptError(
        f"{bank} holds {left[0]}{' and more' if len(left) > 1 else ''}, but its {DATABASE}, which held the memories, "
        "is missing or empty: nothing was changed. Restore that file from a copy, or import an export into another "
        "directory (membank import); to start anew here, empty the directory first"
    )


def open_plain(path: Path, flags: int, mode: int = 0o600) -> int:
    """Like `os.open`, but for plain files only.

    Raises:
        BankFormatError: a link or something else is in its place.
        OSError: as `os.open`.
    """
    try:
        descriptor = open_unfollowed(path, flags, mode)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):
            raise _no_file(path) from exc
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_file(path)
    return descriptor


def write_private(path: Path, data: bytes) -> None:
    """Write a whole file, mode 0600; raises as `open_plain`."""
    with os.fdopen(open_plain(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
        file.write(data)


def read_limited(path: Path, limit: int) -> bytes:
    """A whole file of no more than `limit` bytes; raises as `open_plain`, and BankCorruptError where it is longer."""
    with os.fdopen(open_plain(path, os.O_RDONLY), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise BankCorruptError(f"{path} is longer than {limit:,} bytes, which none of ours is")
    return data


def sync_directory(directory: Path) -> None:
    """Return when the disk knows the names in a directory; where a system cannot, it does so by itself."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_bank_directory(path: Path) -> None:
    """The bank's own directory, mode 0700 where it is new or empty; raises as `make_directory`."""
    with _making(path, "a bank is a directory", "choose a directory you may write to"):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not any(path.iterdir()):
            path.chmod(0o700)


def temporary_directory() -> str:
    """A directory for a bank that nobody keeps; raises as `make_directory`."""
    try:
        return tempfile.mkdtemp(prefix="membank-")
    except OSError as exc:
        raise BankStorageError(
            f"there is no room for a bank in {tempfile.gettempdir()}: {exc.strerror or exc}; name a directory for it"
        ) from exc


def make_directory(path: Path) -> None:
    """A directory of the bank, mode 0700, where it is missing.

    Raises:
        BankFormatError: something else is in its place.
        BankStorageError: the system refused.
    """
    with _making(path, "a directory belongs there: remove it", "check the disk and its permissions"):
        path.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def _making(path: Path, taken: str, refused: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError as exc:
        raise BankFormatError(f"{path} is a file; {taken}") from exc
    except OSError as exc:
        raise BankStorageError(f"cannot make {path}: {exc.strerror or exc}; {refused}") from exc


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none: SQLite and the indexes replace theirs at any time."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _no_file(path: Path) -> BankFormatError:
    return BankFormatError(f"{path} is no plain file but a link or something else; put the file itself there")
