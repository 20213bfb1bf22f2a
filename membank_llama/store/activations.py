"""`MemMapBuffer`: the activation file, a header and then slots of one size.

Many slots are gathered through a read-only memory map, single ones are read. Writes go through the file handle and
never through the map, so a full disk is an error that can be caught and not a bus error that ends the process. The
file only grows: a larger map replaces the old one when a slot beyond it is asked for. We never truncate it; half a
slot left at the end by a crash does not count and is written over. Another program may cut the file while it is open,
and touching the map beyond its end would end the process: the size is looked at before each gathering, so only a
cut in the microseconds between that look and the copy still does. Which slots mean something is for the registry to
know.

    bytes       field
    0–7         magic "MBKACT1\\n"
    8–11        u32 version (1)
    12–15       u32 bytes per slot
    16–19       u32 dimensions of the vectors, 0 where not told
    20–35       16 bytes that name the encoding
    4092–4095   u32 CRC-32 of bytes 0–4091, in every version
    4096–       slots
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
import threading
import zlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from membank_llama.core.errors import (
    BankClosedError,
    BankCorruptError,
    BankFormatError,
    BankNotFoundError,
    BankReadOnlyError,
    BankStorageError,
    InvalidInputError,
)
from membank_llama.core.types import Codes

from .bank_files import HEADER_BYTES, open_plain, sync_directory

BUFFER_VERSION = 1
SCATTERED = 16
"""Slots spanned for each one wanted, from which on rows are read one by one."""

LARGE_FILE = 1 << 28
"""Bytes of slots up to which the whole file may become resident: a read costs more than a look into the map."""

MOST_READS = 4096
PAGES_AROUND = 32
"""Slots that become resident around a touched one, about: the system maps 64 KiB at once."""

RESIDENT_BYTES = 32 << 20
_MAGIC = b"MBKACT1\n"
_HEAD = struct.Struct("<8sIII16s")
_CRC = struct.Struct("<I")


class MemMapBuffer:
    """One activation file. One thread may write while others read."""

    def __init__(
        self,
        path: str | Path,
        slot_bytes: int,
        *,
        spec_tag: bytes = b"",
        dims: int = 0,
        read_only: bool = False,
    ) -> None:
        """Open the file at `path`, making it (mode 0600) where it is missing and `read_only` is false.

        Args:
            slot_bytes: bytes of one slot, 1 to 2**32 - 1.
            spec_tag: up to 16 bytes that name the encoding; padded with zeros and compared on open.
            dims: dimensions of the vectors; compared on open where both sides tell it.

        Raises:
            BankNotFoundError: no such file, and `read_only`.
            BankFormatError: written by a newer version.
            BankCorruptError: the header is damaged or is that of other slots.
            BankStorageError: the operating system refused.
        """
        if not 0 < slot_bytes < 2**32 or not 0 <= dims < 2**32 or len(spec_tag) > 16:
            raise InvalidInputError("slot_bytes must be 1 to 2**32 - 1, dims below 2**32, spec_tag at most 16 bytes")
        self.path = Path(path)
        self.slot_bytes = slot_bytes
        self.read_only = read_only
        self._lock = threading.Lock()
        self._fd = -1
        self._touched = 0
        self._area: mmap.mmap | None = None
        self._mapped: Codes = np.zeros((0, slot_bytes), np.uint8)
        header = _header(slot_bytes, dims, spec_tag)
        self._fd = self._open()
        try:
            self._check_header(header)
        except BaseException:
            self.close()
            raise

    @property
    def n_slots(self) -> int:
        """Whole slots in the file now, written by whichever process."""
        return max(0, (self._size() - HEADER_BYTES) // self.slot_bytes)

    def offset(self, slot: int) -> int:
        """Byte position of a slot in the file."""
        return HEADER_BYTES + slot * self.slot_bytes

    def write(self, slot: int, rows: Codes) -> None:
        """Write `rows` (n, slot_bytes) from slot `slot` on; raises as `write_at`."""
        self.write_at(np.arange(slot, slot + len(rows), dtype=np.int64), rows)

    def write_at(self, slots: npt.NDArray[np.int64], rows: Codes) -> None:
        """Write row i to slot `slots[i]`; neighbouring slots go in one call to the system.

        Slots past the end extend the file; any that are skipped read as zeros. After an error the slots named
        here hold old, new or half-written bytes, all others are as they were.

        Args:
            slots: int64, shape (n,), none negative.
            rows: uint8, shape (n, slot_bytes).

        Raises:
            BankStorageError: the disk is full or failing.
            BankReadOnlyError: opened with `read_only`.
        """
        slots = np.asarray(slots, np.int64)
        if rows.dtype != np.uint8 or rows.shape != (len(slots), self.slot_bytes):
            raise InvalidInputError(
                f"rows must be uint8 ({len(slots)}, {self.slot_bytes}), got {rows.dtype} {rows.shape}"
            )
        if len(slots) == 0:
            return
        if int(slots.min()) < 0:
            raise InvalidInputError(f"slot {int(slots.min())} is negative")
        rows = np.ascontiguousarray(rows)
        bounds = np.flatnonzero(np.diff(slots) != 1) + 1
        starts = [0, *bounds.tolist(), len(slots)]
        with self._lock:
            self._check_open()
            if self.read_only:
                raise BankReadOnlyError(f"{self.path} was opened for reading only; open the bank without read_only")
            for first, end in pairwise(starts):
                self._write_bytes(rows[first:end].data.cast("B"), self.offset(int(slots[first])))

    def blank(self, slots: Sequence[int]) -> None:
        """Overwrite slots with zeros, down to the disk; raises as `write_at`."""
        rows = np.zeros((len(slots), self.slot_bytes), np.uint8)
        self.write_at(np.array(sorted(slots), np.int64), rows)
        self.flush()

    def read(self, slot: int, start: int = 0, stop: int | None = None) -> Codes:
        """Bytes [start, stop) of one slot, uint8.

        Raises:
            BankCorruptError: the file ends before this slot.
        """
        if slot < 0:
            raise InvalidInputError(f"slot {slot} is negative")
        self._check_there(slot + 1)
        first, end, _ = slice(start, stop).indices(self.slot_bytes)
        row: Codes = self._read_each(np.array([slot], np.int64), first, max(0, end - first))[0]
        return row

    def rows(self, slots: npt.NDArray[np.int64], start: int = 0, stop: int | None = None) -> Codes:
        """Bytes [start, stop) of many slots, copied into one array (n, stop - start); raises as `read`."""
        slots = np.asarray(slots, np.int64)
        if len(slots) == 0:
            self._check_open()
            return np.zeros((0, len(range(self.slot_bytes)[start:stop])), np.uint8)
        if int(slots.min()) < 0:
            raise InvalidInputError(f"slot {int(slots.min())} is negative")
        mapped = self._map(int(slots.max()) + 1)
        first, end, _ = slice(start, stop).indices(self.slot_bytes)
        large = len(mapped) * self.slot_bytes > LARGE_FILE
        self._check_there(int(slots.max()) + 1)
        scattered = large and int(slots.max()) - int(slots.min()) > SCATTERED * len(slots)
        if scattered and len(slots) <= MOST_READS and hasattr(os, "pread"):
            return self._read_each(slots, first, max(0, end - first))
        gathered: Codes = mapped[:, start:stop][slots]
        if large:
            self._release(min(int(slots.max()) - int(slots.min()), PAGES_AROUND * len(slots)))
        return gathered

    def _read_each(self, slots: npt.NDArray[np.int64], first: int, width: int) -> Codes:
        """Rows one by one: touching the map would make the pages around each of them resident."""
        offsets = (HEADER_BYTES + first + slots * self.slot_bytes).tolist()
        try:
            parts = b"".join([self._read_at(width, offset) for offset in offsets])
        except OSError as error:
            self._check_open()
            raise _storage_error(self.path, "read", error) from error
        if len(parts) != width * len(slots):
            raise _was_cut(self.path, int(slots.max()), self.n_slots)
        return np.frombuffer(parts, np.uint8).reshape(len(slots), width)

    def _read_at(self, count: int, offset: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._fd, count, offset)
        with self._lock:
            os.lseek(self._fd, offset, os.SEEK_SET)
            return os.read(self._fd, count)

    def _check_there(self, count: int) -> None:
        """See that the file holds so many slots now."""
        try:
            held = self.n_slots
        except BankClosedError:
            # by another thread meanwhile: what is mapped stays valid, and reading says so itself
            return
        if count > held and self._fd >= 0:
            raise _was_cut(self.path, count - 1, held)

    def _release(self, touched: int) -> None:
        """Give pages back once many have been touched: they stay in the system's cache, but count no more as ours."""
        self._touched += touched
        if self._touched * self.slot_bytes > RESIDENT_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            self._touched = 0
            if self._area is not None:
                self._area.madvise(mmap.MADV_DONTNEED)

    def view(self) -> Codes:
        """All slots, shape (n_slots, slot_bytes): a read-only view into the file, not a copy. Not to be kept: where
        another program cuts the file, touching it ends the process."""
        count = self.n_slots
        return self._map(count)[:count]

    def flush(self) -> None:
        """Return when the disk has everything that was written.

        Raises:
            BankStorageError: it could not take it.
        """
        self._check_open()
        if self.read_only:
            return
        sync = getattr(os, "fdatasync", os.fsync)
        try:
            sync(self._fd)
        except OSError as error:
            raise _storage_error(self.path, "flush", error) from error

    def close(self) -> None:
        """Let go of file and map; views that are still held keep their map alive."""
        with self._lock:
            fd, self._fd = self._fd, -1
            self._area = None
            self._mapped = np.zeros((0, self.slot_bytes), np.uint8)
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> MemMapBuffer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _open(self) -> int:
        flags = os.O_RDONLY if self.read_only else os.O_RDWR | os.O_CREAT
        try:
            return open_plain(self.path, flags)
        except FileNotFoundError as error:
            raise BankNotFoundError(
                f"there is no activation file at {self.path}; check the path of the bank"
            ) from error
        except OSError as error:
            raise _storage_error(self.path, "open", error) from error

    def _check_header(self, expected: bytes) -> None:
        try:
            with os.fdopen(os.dup(self._fd), "rb") as file:
                file.seek(0)
                found = file.read(HEADER_BYTES)
        except OSError as error:
            raise _storage_error(self.path, "read", error) from error
        # a crash while the file was made leaves the beginning of a header and no slot: make it again
        if len(found) < HEADER_BYTES and expected.startswith(found) and not self.read_only:
            self._write_bytes(memoryview(expected), 0)
            self.flush()
            # the database may name the file from now on: the disk has to know it by then
            sync_directory(self.path.parent)
            return
        if len(found) < HEADER_BYTES or found[: len(_MAGIC)] != _MAGIC or _crc(found) != found[-_CRC.size :]:
            raise BankCorruptError(
                f"{self.path} has no valid header: it is damaged or no activation file; "
                "run `membank verify`, or restore it from a copy"
            )
        _, version, slot_bytes, dims, tag = _HEAD.unpack_from(found)
        if version > BUFFER_VERSION:
            raise BankFormatError(
                f"{self.path} has format {version}, this program reads up to {BUFFER_VERSION}; upgrade membank-llama"
            )
        _, _, want_bytes, want_dims, want_tag = _HEAD.unpack_from(expected)
        if slot_bytes != want_bytes or tag != want_tag or (dims and want_dims and dims != want_dims):
            raise BankCorruptError(
                f"{self.path} holds {slot_bytes} bytes for {dims or '?'} dimensions, encoding {tag.hex()}; "
                f"expected {want_bytes} bytes for {want_dims or '?'} dimensions, encoding {want_tag.hex()}: "
                "the file belongs to another bank or encoding"
            )

    def _map(self, count: int) -> Codes:
        """The mapped slots, at least `count` of them."""
        mapped = self._mapped
        if count <= len(mapped) and self._fd >= 0:
            return mapped
        with self._lock:
            available = self.n_slots
            if count > available:
                raise _was_cut(self.path, count - 1, available)
            if len(self._mapped) < available:
                self._mapped = self._remap(available)
            return self._mapped

    def _remap(self, count: int) -> Codes:
        length = HEADER_BYTES + count * self.slot_bytes
        try:
            area = mmap.mmap(self._fd, length, access=mmap.ACCESS_READ)
        except OSError as error:
            raise _storage_error(self.path, "map", error) from error
        self._area = area
        # the map is never closed by hand: it goes with the last view into it
        flat: Codes = np.frombuffer(area, np.uint8, count * self.slot_bytes, HEADER_BYTES)
        return flat.reshape(count, self.slot_bytes)

    def _write_bytes(self, data: memoryview, offset: int) -> None:
        pwrite = getattr(os, "pwrite", None)
        try:
            if pwrite is None:
                os.lseek(self._fd, offset, os.SEEK_SET)
            while data:
                done = os.write(self._fd, data) if pwrite is None else pwrite(self._fd, data, offset)
                data, offset = data[done:], offset + done
        except OSError as error:
            raise _storage_error(self.path, "write", error) from error

    def _size(self) -> int:
        self._check_open()
        try:
            return os.fstat(self._fd).st_size
        except OSError as error:
            # closed by another thread meanwhile
            self._check_open()
            raise _storage_error(self.path, "look at", error) from error

    def _check_open(self) -> None:
        if self._fd < 0:
            raise BankClosedError(f"{self.path} is closed; open the bank again")


def _was_cut(path: Path, wanted: int, held: int) -> BankCorruptError:
    return BankCorruptError(
        f"slot {wanted} lies beyond {path}, which holds {held}: the file was cut, or what leads there is damaged. The "
        "texts are safe: restore the file from a copy, or compute the activations anew with membank reencode"
    )


def _header(slot_bytes: int, dims: int, spec_tag: bytes) -> bytes:
    head = _HEAD.pack(_MAGIC, BUFFER_VERSION, slot_bytes, dims, spec_tag)
    padded = head.ljust(HEADER_BYTES, b"\0")
    return padded[: -_CRC.size] + _crc(padded)


def _crc(header: bytes) -> bytes:
    return _CRC.pack(zlib.crc32(header[: HEADER_BYTES - _CRC.size]))


def _storage_error(path: Path, action: str, error: OSError) -> BankStorageError:
    advice = {
        errno.ENOSPC: "the disk is full: free some space and try again",
        errno.EDQUOT: "the disk quota is used up: free some space and try again",
        errno.EFBIG: "the file may not grow further: raise the file size limit, or forget memories",
        errno.EROFS: "the disk is read-only: move the bank, or open it with read_only",
        errno.EACCES: "no permission: check the owner and mode of the bank's directory",
        errno.EPERM: "no permission: check the owner and mode of the bank's directory",
        errno.EISDIR: "a directory is in its place",
    }.get(error.errno or 0, "check the disk and try again")
    return BankStorageError(f"could not {action} {path}: {error.strerror or error}; {advice}")
