"""`PieceStore`: the pieces of a bank, in `kv/` of its directory; the files are the truth and the index.

A directory for each namespace and key, under a name that only this machine can work out; in it a file a piece. Files
are written whole, never changed, and deleted by whoever likes: several processes share them without a lock. What is
forgotten while a piece is on its way into a file is told by the epoch, which every forgetting moves on.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from membank_llama.core.atomic_files import replacing
from membank_llama.core.byte_sizes import size
from membank_llama.core.errors import BankCorruptError, BankStorageError
from membank_llama.core.plain_files import open_unfollowed

from . import DIRECTORY, EPOCH
from .budget import KVBudget, kv_budget
from .counts import KVCounts
from .cover import CoverPart, common_length, covering
from .forgotten_pieces import pieces_holding
from .machine_key import machine_key
from .overlap import ForgottenTexts
from .piece import Cells, Piece, StoredPiece, Tokens, digest_of, encode, is_gone, read_piece
from .shelf import Shelf, draft_files, nbytes_in, piece_directories, piece_files

logger = logging.getLogger("membank_llama")

_EPOCH_BYTES = 64


class PieceStore:
    """Writes, finds and deletes pieces.

    Args:
        bank: the bank's directory.
        budget: what they may take; what was used longest ago goes.
        key: in place of this machine's.

    Raises:
        BankStorageError: this machine's key can't be had.
    """

    def __init__(self, bank: Path, budget: KVBudget | None = None, *, key: bytes | None = None) -> None:
        self.root = bank / DIRECTORY
        self.budget = KVBudget() if budget is None else budget
        self.counts = KVCounts()
        self._secret = machine_key() if key is None else key
        self._lock = threading.RLock()
        self._has_told = False
        self._shelves: dict[Path, Shelf] = {}

    # -- finding

    def cover(self, namespace: str, key: str, tokens: Tokens) -> list[CoverPart]:
        """The pieces that stand for the beginning of a prompt; see cover.py."""
        if self.root.is_symlink():
            return []
        with self._lock:
            return covering(self._shelf(self._directory(namespace, key)).look().by_prefix, tokens)

    def longest_whole(self, namespace: str, key: str, tokens: Tokens) -> StoredPiece | None:
        """The longest piece from the first token on of which a prompt begins with every token."""
        if self.root.is_symlink():
            return None
        with self._lock:
            first = (
                self._shelf(self._directory(namespace, key)).look().by_prefix.get(0, {}).get(digest_of(tokens[:0]), ())
            )
            fitting = [one for one in first if common_length(one.piece.tokens, tokens) == one.piece.end]
        return max(fitting, key=lambda one: one.piece.end, default=None)

    def used(self, pieces: Sequence[StoredPiece]) -> None:
        """Note that pieces were of use, in the order of their chain."""
        _renew([stored.path for stored in pieces])

    def _directory(self, namespace: str, key: str) -> Path:
        name = hmac.new(self._secret, f"{namespace}\0{key}".encode("utf-8", "surrogatepass"), hashlib.sha256)
        return self.root / name.hexdigest()[:24]

    def _shelf(self, directory: Path) -> Shelf:
        return self._shelves.setdefault(directory, Shelf(directory, self.glance))

    # -- writing

    def announce(self, piece: Piece, cells: Cells) -> StoredPiece:
        """Have a piece found from now on, before it is in its file."""
        directory = self._directory(piece.namespace, piece.key)
        waiting = StoredPiece(piece, directory / piece.filename, cells.nbytes, waiting=cells)
        with self._lock:
            self._shelf(directory).look().put(waiting)
        return waiting

    def write(self, waiting: StoredPiece, epoch: str) -> bool:
        """Put an announced piece into its file; whether it is there.

        Args:
            epoch: as it was ahead of the prompt; where it has moved on, the piece is given up.
        """
        path, cells = waiting.path, waiting.waiting
        written: StoredPiece | None = None
        try:
            if cells is not None and self._admits(path.parent, cells.nbytes):
                written = self._write(waiting.piece, path, cells, epoch)
                self._has_told = False
        except (OSError, BankStorageError, BankCorruptError) as exc:
            self._tell(str(exc))
        with self._lock:
            shelf = self._shelf(path.parent)
            if written is None:
                shelf.remove(path.name)
            else:
                shelf.put(written)
                _renew(shelf.paths(written.piece.ancestors))
        return written is not None

    def _write(self, piece: Piece, path: Path, cells: Cells, epoch: str) -> StoredPiece | None:
        if self.epoch() != epoch:
            return None
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with replacing(path) as file:
            for data in encode(piece, cells, self._secret):
                file.write(data)
        if self.epoch() != epoch:
            path.unlink(missing_ok=True)
            return None
        return self.glance(path)

    def _admits(self, directory: Path, nbytes: int) -> bool:
        """Make room; whether there is enough."""
        # not with its parents: a bank that is gone stays gone
        self.root.mkdir(mode=0o700, exist_ok=True)
        if self.root.is_symlink() or directory.is_symlink():
            return False
        if nbytes > self.budget.nbytes:
            self._tell(f"one turn takes {size(nbytes)}, and all may take {size(self.budget.nbytes)} (--kv)")
            return False
        self.evict(nbytes)
        if self.budget.admits(nbytes, self.root):
            return True
        self._tell(f"the disk of {self.root} is nearly full, and what is left of it stays free")
        return False

    def _tell(self, reason: str) -> None:
        """Say why nothing is kept: once, until something is, and not at every turn."""
        level = logging.DEBUG if self._has_told else logging.WARNING
        self._has_told = True
        logger.log(level, "KV state was not kept, and is evaluated again next time: %s", reason)

    def evict(self, coming: int = 0) -> int:
        """Delete what was used longest ago until what is left, with so many bytes to come, is within the budget; bytes
        freed."""
        found = []
        for path in self.files():
            with suppress(OSError):
                status = path.lstat()
                found.append((status.st_mtime_ns, status.st_size, path))
        excess = self.budget.excess(sum(nbytes for _, nbytes, _ in found), coming, self.root) if found else 0
        freed = 0
        # of those of one moment what stands further back
        found.sort(key=lambda one: one[2].name, reverse=True)
        for _, nbytes, path in sorted(found, key=lambda one: one[0]):
            if freed >= excess:
                break
            with suppress(OSError):
                path.unlink()
                freed += nbytes
        return freed

    # -- forgetting

    def begin(self) -> str:
        """The epoch, asked for ahead of a prompt: whatever is forgotten from now on moves it on."""
        # a bank in which nothing was kept has none that could be moved; not with its parents: one that is gone stays so
        with suppress(OSError):
            self.root.mkdir(mode=0o700, exist_ok=True)
        return self.epoch()

    def epoch(self) -> str:
        """Changes whenever something is forgotten, by whatever process."""
        try:
            with os.fdopen(open_unfollowed(self.root / EPOCH), "rb") as file:
                return file.read(_EPOCH_BYTES).hex()
        except OSError:
            return ""

    def forget(self, texts: Mapping[str, Sequence[str]]) -> int:
        """Delete every piece that holds one of these texts, by namespace, and what was evaluated behind it; how many.

        Raises:
            BankStorageError: one cannot be deleted.
        """
        if self.root.is_symlink() or not self.root.is_dir():
            return 0
        gone = 0
        sought = {namespace: ForgottenTexts(some) for namespace, some in texts.items()}
        with self._lock:
            self._move_on()
            for directory in self.directories():
                for stored in pieces_holding(self._all_of(directory), sought):
                    _delete(stored.path)
                    gone += 1
            self._shelves.clear()
        return gone

    def _move_on(self) -> None:
        try:
            with replacing(self.root / EPOCH, "w") as file:
                file.write(secrets.token_hex(16))
        except OSError as exc:
            raise _not_deleted(self.root, exc) from exc

    def _all_of(self, directory: Path) -> list[StoredPiece]:
        """The pieces in a directory; what cannot be read is deleted, as nobody knows what it holds."""
        pieces = []
        for path in [*piece_files(directory), *draft_files(directory)]:
            try:
                pieces.append(self.glance(path))
            except BankCorruptError:
                _delete(path)
        return pieces

    # -- all of it

    def directories(self) -> list[Path]:
        """The directories of namespaces and keys; what else lies there is nothing of ours."""
        return piece_directories(self.root)

    def files(self) -> list[Path]:
        """All files of pieces."""
        return [path for directory in self.directories() for path in piece_files(directory)]

    def nbytes(self) -> int:
        """Bytes of all files."""
        return nbytes_in(self.root)

    def glance(self, path: Path) -> StoredPiece:
        """A file without its cells.

        Raises:
            BankCorruptError: it is damaged, was not written here, or lies where it does not belong.
        """
        stored = read_piece(path, self._secret)
        piece = stored.piece
        at_home = self._directory(piece.namespace, piece.key) / piece.filename
        if path != at_home and not path.name.startswith("."):
            raise BankCorruptError(f"{path} is not where it was written; membank kv gc deletes it")
        return stored

    def read(self, path: Path) -> StoredPiece:
        """A file, its cells checked too; raises as `glance`."""
        stored = self.glance(path)
        stored.cells()
        return stored

    def collect(self) -> dict[str, int]:
        """Delete what is damaged, unfinished or beyond the budget: ``{"damaged", "freed_bytes"}``."""
        before, damaged = self.nbytes(), 0
        for directory in self.directories():
            for path in draft_files(directory):
                with suppress(OSError):
                    path.unlink()
        for path in self.files():
            try:
                self.read(path)
            except BankCorruptError as exc:
                damaged += not is_gone(exc)
                _delete(path)
        self.evict()
        for directory in self.directories():
            with suppress(OSError):
                directory.rmdir()
        return {"damaged": damaged, "freed_bytes": max(0, before - self.nbytes())}

    def drop(self, stored: StoredPiece) -> None:
        """Delete a piece that turned out to be wrong."""
        with suppress(OSError):
            stored.path.unlink()
        with self._lock:
            self._shelf(stored.path.parent).remove(stored.path.name)


def open_pieces(bank: Path, kv: str | int | bool | None) -> PieceStore | None:
    """Where the KV state of a bank's conversations is kept; None for nowhere.

    Args:
        kv: what it may take, as `kv_budget` reads it.

    Raises:
        InvalidInputError: that is no size.
    """
    budget = kv_budget(kv)
    if not budget:
        return None
    try:
        return PieceStore(bank, budget)
    except BankStorageError as exc:
        logger.warning("KV state is not kept: %s", exc)
        return None


def forget_pieces(bank: Path, texts: Mapping[str, Sequence[str]]) -> None:
    """Delete the pieces of a bank that hold one of these texts, by namespace; a listener of `Store.on_forget`.

    Raises:
        BankStorageError: one cannot be deleted.
    """
    if (bank / DIRECTORY).is_dir():
        PieceStore(bank).forget(texts)


def pieces_nbytes(bank: Path) -> int:
    """Bytes that the pieces of a bank take on disk."""
    return nbytes_in(bank / DIRECTORY)


def _renew(paths: Sequence[Path]) -> None:
    """Note that files were used just now: of a chain the first as the newest, so that none goes ahead of what was
    evaluated behind it."""
    now = time.time_ns()
    for later, path in enumerate(reversed(paths)):
        with suppress(OSError):
            os.utime(path, ns=(now + later, now + later))


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise _not_deleted(path, exc) from exc


def _not_deleted(path: Path, exc: OSError) -> BankStorageError:
    return BankStorageError(
        f"cannot delete {path}, which may hold the text: {exc.strerror or exc}; nothing was forgotten, check the "
        "permissions of the bank's directory"
    )
