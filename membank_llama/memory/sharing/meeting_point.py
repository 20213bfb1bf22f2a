"""`MeetingPoint`: where the holder of a bank listens, and how it and those who come know each other.

A Unix socket in the bank's directory, or in a private one of its own where that cannot be; where a system has none, a
port of 127.0.0.1. A note in the bank says which, and holds a key that both ends prove to know. A bank may come from a
stranger: its note leads nowhere but to a socket of this user's in one of those two places, and whoever holds the bank
has deleted the note that came along.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import socket
import stat
import struct
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from membank_llama.core.errors import BankError
from membank_llama.store.bank_files import HANDS_NOTE, HANDS_SOCKET, read_limited, write_private

PROTOCOL = 1
LONGEST_SOCKET_PATH = 100
"""Bytes of a path that a Unix socket may have everywhere; Linux has room for 107, macOS for 103."""

HAS_UNIX_SOCKETS = hasattr(socket, "AF_UNIX") and sys.platform != "win32"
_PRIVATE = "membank-hands-"
_PRIVATE_NAME = re.compile(rf"{_PRIVATE}\w{{1,32}}")
_NOTE_LIMIT = 4096


@dataclass(frozen=True)
class MeetingPoint:
    """Where a holder listens: the path of a socket, or a port where that is None; and the key."""

    key: bytes
    path: Path | None = None
    port: int = 0

    def connect(self, seconds: float) -> socket.socket:
        """A connection to whoever listens there.

        Raises:
            OSError: nobody does, or it is another user.
        """
        if self.path is None:
            return socket.create_connection(("127.0.0.1", self.port), seconds)
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            line.settimeout(seconds)
            line.connect(os.fspath(self.path))
            if not is_this_users(line):
                raise PermissionError(f"another user listens at {self.path}")
        except BaseException:
            line.close()
            raise
        return line

    def proof(self, who: str, nonce: str) -> str:
        """What only those who know the key can answer."""
        return hmac.new(self.key, f"{who} {nonce}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()

    def proves(self, who: str, nonce: str, answer: object) -> bool:
        """Whether that is the answer."""
        given = answer.encode("utf-8", "replace") if isinstance(answer, str) else b""
        return hmac.compare_digest(self.proof(who, nonce).encode(), given)


def listen(bank: Path, backlog: int, *, unix: bool = HAS_UNIX_SOCKETS) -> tuple[socket.socket, MeetingPoint]:
    """A listening socket for the bank's directory, and its note written; only by whoever holds the writer's lock.

    Raises:
        OSError, BankError: it cannot be made.
    """
    clear(bank)
    key = secrets.token_bytes(32)
    made, point = _unix_socket(bank, key) if unix else _port(key)
    try:
        made.listen(backlog)
        note = {"protocol": PROTOCOL, "key": key.hex()}
        if point.path is None:
            note["port"] = point.port
        elif point.path.parent != bank:
            note["socket"] = os.fspath(point.path)
        write_private(bank / HANDS_NOTE, json.dumps(note).encode())
    except BaseException:
        made.close()
        leave(bank, point)
        raise
    return made, point


def _unix_socket(bank: Path, key: bytes) -> tuple[socket.socket, MeetingPoint]:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path = bank / HANDS_SOCKET
    try:
        try:
            _bind_private(made, path)
        except OSError:
            # too long, or the file system has no sockets
            path = Path(tempfile.mkdtemp(prefix=_PRIVATE)) / HANDS_SOCKET
            try:
                _bind_private(made, path)
            except BaseException:
                path.parent.rmdir()
                raise
    except BaseException:
        made.close()
        raise
    return made, MeetingPoint(key, path=path)


def _bind_private(made: socket.socket, path: Path) -> None:
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        raise OSError(f"{path} is longer than the path of a socket may be")
    # nobody else could connect to it at any moment
    before = os.umask(0o077)
    try:
        made.bind(os.fspath(path))
    finally:
        os.umask(before)
    path.chmod(0o600)


def _port(key: bytes) -> tuple[socket.socket, MeetingPoint]:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.bind(("127.0.0.1", 0))
        return made, MeetingPoint(key, port=made.getsockname()[1])
    except BaseException:
        made.close()
        raise


def find(bank: Path, *, unix: bool = HAS_UNIX_SOCKETS) -> MeetingPoint | None:
    """Where the bank's holder listens; None where it does not, or the note leads anywhere else.

    Asked while another process holds the writer's lock: the note is its own then.
    """
    try:
        note = json.loads(read_limited(bank / HANDS_NOTE, _NOTE_LIMIT))
        if note["protocol"] != PROTOCOL:
            return None
        key, port = bytes.fromhex(note["key"]), note.get("port")
        if not unix:
            return MeetingPoint(key, port=port) if type(port) is int and 0 < port < 1 << 16 else None
        path = bank / HANDS_SOCKET if "socket" not in note else Path(note["socket"])
        return MeetingPoint(key, path=path) if port is None and _is_ours(path, bank) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, BankError):
        return None


def _is_ours(path: Path, bank: Path) -> bool:
    """Whether a path is that of a socket of this user's, in the bank or in a private directory made for it."""
    found = path.lstat()
    if path.name != HANDS_SOCKET or not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        return False
    return path.parent == bank or _is_private(path.parent)


def _is_private(directory: Path) -> bool:
    held = directory.lstat()
    named = directory.is_absolute() and _PRIVATE_NAME.fullmatch(directory.name) is not None
    return named and stat.S_ISDIR(held.st_mode) and held.st_uid == os.geteuid() and stat.S_IMODE(held.st_mode) == 0o700


def leave(bank: Path, point: MeetingPoint) -> None:
    """Take note and socket away."""
    for path in (bank / HANDS_NOTE, point.path):
        if path is not None:
            with suppress(OSError):
                path.unlink(missing_ok=True)
    if point.path is not None and point.path.parent != bank:
        with suppress(OSError):
            if _is_private(point.path.parent):
                point.path.parent.rmdir()


def clear(bank: Path) -> None:
    """Take away what a holder that was killed has left; only by whoever holds the writer's lock."""
    left = find(bank)
    leave(bank, MeetingPoint(b"", path=bank / HANDS_SOCKET))
    if left is not None:
        leave(bank, left)


def is_this_users(line: socket.socket) -> bool:
    """Whether the process at the other end runs as this user; true where the system does not say."""
    if not hasattr(socket, "SO_PEERCRED") or line.family != socket.AF_UNIX:
        return True
    user = struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[1]
    return bool(user == os.geteuid())
