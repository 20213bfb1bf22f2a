"""`CommitNote`: how far a bank had come, written beside its database after every commit.

SQLite opens a database whose write-ahead log was lost, left out of a copy or damaged as it was before, without a word.
The note tells: it holds the generation of the newest commit, so a database behind it has lost what came since. It is
written after the commit and never flushed: where the power fails it may be behind, and is never ahead.
"""

from __future__ import annotations

import logging
import os
import re
import zlib
from pathlib import Path

from membank_llama.core.errors import BankCorruptError, MembankError

from .bank_files import NOTE, open_plain, read_limited

logger = logging.getLogger("membank_llama")

_LINE = re.compile(rb"generation ([0-9]{20}) ([0-9a-f]{8})\n")


class CommitNote:
    """The note of one bank."""

    def __init__(self, bank: Path) -> None:
        self.path = bank / NOTE
        self._failed = False

    def read(self) -> int:
        """The generation noted; 0 where there is no note, or none that can be read."""
        try:
            found = _LINE.fullmatch(read_limited(self.path, 64))
        except (OSError, MembankError):
            return 0
        return int(found[1]) if found and found[2] == _check(found[1]) else 0

    def check(self, noted: int, generation: int) -> None:
        """Hold a generation of the database against what was noted before it was opened.

        Raises:
            BankCorruptError: commits are missing.
        """
        if generation < noted:
            raise BankCorruptError(
                f"{self.path.parent} has lost its newest memories: its database stands at change {generation}, and "
                f"change {noted} was stored. Its -wal file was lost or damaged, or an older bank.sqlite was put in "
                f"place. Restore the files from one copy; or, to go on without what is missing, delete {self.path}"
            )

    def write(self, generation: int) -> None:
        """Note a commit. A disk that refuses costs the check, no memory: logged, not raised."""
        digits = b"%020d" % generation
        try:
            descriptor = open_plain(self.path, os.O_WRONLY | os.O_CREAT)
            try:
                os.write(descriptor, b"generation " + digits + b" " + _check(digits) + b"\n")
            finally:
                os.close(descriptor)
        except (OSError, MembankError) as exc:
            if not self._failed:
                logger.warning("could not write %s, by which a lost -wal file would be noticed: %s", self.path, exc)
            self._failed = True


def _check(digits: bytes) -> bytes:
    return b"%08x" % zlib.crc32(digits)
