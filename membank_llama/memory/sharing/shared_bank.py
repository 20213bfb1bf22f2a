"""`SharedBank`: a bank that several processes of one person have open, all of which may write.

One of them holds the writer's lock and serves the others (hands_server.py). The others read by themselves and hand over
whatever writes (forwarded.py). When the holder ends, the next of them that writes takes its place: it opens the bank
for writing beside what its readers still use, and serves in turn. Nothing that is being said is lost: what was handed
to a holder that ended is handed to the next one, and writing the same twice stores it once.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

from membank_llama.adapters.base import ModelAdapter
from membank_llama.core.errors import BankLockedError, BankNotFoundError, InvalidInputError, MemoryNotFoundError
from membank_llama.core.types import NewMemory, Progress
from membank_llama.core.validation import check_memories
from membank_llama.store.bank_files import check_database_is_there, check_files, make_bank_directory
from membank_llama.store.database import Database
from membank_llama.store.lock import WriterLock
from membank_llama.store.memory_writer import ModelCard
from membank_llama.store.store import Store

from ..bank import BATCH_SIZE, MemBank
from ..ingest_results import IngestResult
from ..transcript_file import ChatTranscript
from .forwarded import FORWARDED, arguments_of, checked_call
from .handed_transcripts import HandedTranscripts
from .hands_server import HandsServer, listening
from .holder_call import GIVE_UP, READY, HolderGoneError, HolderUnableError, call_holder, nobody_let_in, patience_with
from .local_writes import LocalWrites
from .shared_values import from_json, handed_batches, to_json

Encoder: TypeAlias = ModelAdapter | Callable[[], ModelAdapter] | None
"""What encodes, or what opens it once it is needed; None where nothing does."""

_T = TypeVar("_T")

UNABLE_SECONDS = 10.0
"""How long to wait for a holder to end that has no model to encode with."""
GIVING_UP_SECONDS = 5.0
"""How long what is being written here may take where another process wants to hold the bank."""
OUT_SECONDS = 1.0
"""For so long whoever gave the bank up does not take it again."""


class SharedBank(MemBank):
    """A bank that this process holds and serves to others, or whose holder does the writing; see `open_shared`.

    Args:
        lock: of the bank, held; None where another process holds it.
        server: that serves others while this process holds it; None where nothing can.
        stays: whether it stays the holder when another process would be it.
    """

    def __init__(
        self,
        encoder: Encoder,
        path: Path,
        *,
        lock: WriterLock | None,
        server: HandsServer | None = None,
        stays: bool = False,
        **options: Any,
    ) -> None:
        adapter = encoder if isinstance(encoder, ModelAdapter) else None
        self._open_encoder = None if isinstance(encoder, ModelAdapter) else encoder
        self._lock = lock
        self._server: HandsServer | None = None
        self._stays = stays
        self._out_until = 0.0
        self._changing = threading.RLock()
        self._writes = LocalWrites()
        self._ended = False
        self._waited_in_vain = False
        super().__init__(adapter, path, read_only=lock is None, **options)
        if server is not None:
            self._let_in(server)

    @property
    def holds(self) -> bool:
        """Whether this process holds the bank; where it does not, it hands writes to the one that does."""
        return self._lock is not None

    @property
    def holder(self) -> str:
        """Who holds the bank, as a person would say it."""
        return "this process" if self.holds else WriterLock(self.path).holder()

    @property
    def read_only(self) -> bool:
        """Never: what this process cannot write itself the holder writes."""
        return False

    def _open_store(self, card: ModelCard | None, **options: Any) -> Store:
        return Store(self.path, card, lock=self._lock, **options)

    def _take(self, store: Store) -> None:
        super()._take(store)
        if store.read_only:
            this = weakref.ref(self)

            def keep(chat: ChatTranscript, seen: float | None) -> bool:
                bank = this()
                return bank is None or bool(bank.hand("save_chat", (chat, seen), {}))

            self.chats = HandedTranscripts(self.path, store.registry, keep)

    def _open_hidden(self) -> None:
        if self.holds:
            super()._open_hidden()

    def _let_in(self, server: HandsServer) -> None:
        self._server = server
        # a bank that nobody closes goes with whoever had it
        weakref.finalize(self, server.abandon).atexit = False
        server.serve(self)

    def need_adapter(self) -> ModelAdapter:
        """The adapter that encodes, opened where that was left until now; raises as `MemBank.need_adapter`."""
        if self.adapter is None and self._open_encoder is not None:
            with self._changing:
                if self.adapter is None:
                    self.use(self._open_encoder())
        return super().need_adapter()

    # -- writing

    def ingest_many(
        self,
        items: Iterable[str | NewMemory],
        *,
        batch_size: int = BATCH_SIZE,
        progress: Progress | None = None,
        beside: Callable[[Database], None] | None = None,
    ) -> list[IngestResult]:
        """As `MemBank.ingest_many`; what is handed to the holder goes batch by batch, so that it lets others through.

        Raises:
            BankLockedError: something is to be written `beside`, and another process holds the bank.
        """
        with self._writes.one():
            if self.holds:
                return super().ingest_many(items, batch_size=batch_size, progress=progress, beside=beside)
        self._store.registry.check_open()
        if batch_size < 1:
            raise InvalidInputError(f"batch_size is {batch_size}; use 1 or more")
        if beside is not None:
            raise BankLockedError(f"{self.path} is held by {self.holder}, and only there can more be written beside")
        total = len(items) if isinstance(items, Sequence) else 0
        results: list[IngestResult] = []
        for batch in handed_batches(items, batch_size):
            check_memories(batch, self.max_text_bytes)
            results += self._hand("ingest_many", {"items": batch, "batch_size": batch_size}, None)
            if progress is not None:
                progress("remembering", len(results), total)
        return results

    def correct(self, memory_id: int, text: str) -> IngestResult:
        """As `MemBank.correct`."""
        with self._writes.one():
            if self.holds:
                return super().correct(memory_id, text)
        old = self.get(memory_id)
        try:
            return cast(IngestResult, self._hand("correct", {"memory_id": memory_id, "text": text}, None))
        except MemoryNotFoundError:
            known = self._store.registry.holding(old.namespace, [text]).get(text)
            if known is None or old.text not in [version["text"] for version in self.history(known)]:
                raise
            # a holder did so and ended before it could say so
            return self.ingest_many([NewMemory(text, role=old.role, namespace=old.namespace)])[0]

    def run_where_held(self, work: Callable[..., _T], *args: Any) -> _T:
        """As `MemBank.run_where_held`; what is handed to another process is named in `FORWARDED`."""
        return cast(_T, self.hand(work.__name__, args, {}))

    def reencode(self, adapter: ModelAdapter | None = None, progress: Progress | None = None) -> int:
        """As `MemBank.reencode`, by whoever holds the bank.

        Raises:
            BankLockedError: that is another process.
        """
        with self._writes.one():
            if self.holds or self._take_over():
                return super().reencode(adapter, progress)
        raise BankLockedError(
            f"{self.path} is held by {self.holder}, and its memories are moved to another model only by the process "
            "that holds it. Close it there, then try again"
        )

    def close(self) -> None:
        """As `MemBank.close`; what others have begun is finished first."""
        with self._changing:
            self._ended = True
            server, self._server = self._server, None
        if server is not None:
            server.close()
        super().close()

    # -- handing over

    def hand(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call one of the `FORWARDED` methods where the bank is held, here or elsewhere."""
        with self._writes.one():
            if self.holds:
                return FORWARDED[name](self, *args, **kwargs)
        self._store.registry.check_open()
        given = arguments_of(name, self, args, kwargs)
        return self._hand(name, given, given.pop("progress", None))

    def _hand(self, name: str, given: Mapping[str, Any], progress: Progress | None) -> Any:
        passed = {key: to_json(value) for key, value in given.items()}
        gone, unable, pause = 0.0, 0.0, 0.005
        while True:
            with self._writes.one():
                if self.holds or self._take_over():
                    own = {key: from_json(value) for key, value in passed.items()}
                    return FORWARDED[name](self, **checked_call(name, own, progress))
            began = time.monotonic()
            try:
                return call_holder(self.path, name, passed, progress)
            except HolderGoneError as exc:
                now = time.monotonic()
                # one that worked on it for long and then ended is another one
                gone = gone if gone and now - began < 1 else now
                if now - gone > patience_with(self.path) and now > self._out_until:
                    raise BankLockedError(nobody_let_in(self.path, self.holder)) from exc
            except HolderUnableError as exc:
                unable = unable or time.monotonic()
                could = (self.adapter or self._open_encoder) is not None
                if not could or self._waited_in_vain or time.monotonic() - unable > UNABLE_SECONDS:
                    # once is enough: a holder may be there for long
                    self._waited_in_vain = True
                    raise exc.error from exc
            time.sleep(pause)
            pause = min(0.1, 2 * pause)

    # -- taking the holder's place

    def _take_over(self) -> bool:
        """Become the holder where there is none; returns whether this process is it now."""
        with self._changing:
            if self.holds or self._ended or time.monotonic() < self._out_until:
                return self.holds
            lock = WriterLock(self.path, shares=True)
            try:
                lock.acquire()
            except BankLockedError:
                return False
            server: HandsServer | None = None
            try:
                server = listening(self.path, lock)
                card = None if self.adapter is None else self._card
                store = Store(self.path, card, lock=lock)
            except BaseException:
                if server is not None:
                    server.close()
                lock.release()
                raise
            self._stack.callback(store.close)
            self._stack.callback(self._close_hidden)
            # those who are reading go on with what they read from, which is closed with the bank
            self._store.worker.close()
            self._take(store)
            self.use(self.adapter)
            self._lock = lock
            self._open_hidden()
            if server is not None:
                self._let_in(server)
        self._calibrator.soon()
        return True

    def give_up(self) -> bool:
        """Let another process hold the bank that wants to, between two writes; returns whether it may.

        This one goes on as one of the others. Those who are reading go on with what they read from.
        """
        with self._changing:
            if self._stays or self._ended or not self.holds:
                return False
            server, self._server = self._server, None
        if server is not None:
            server.close()
        try:
            with suppress(TimeoutError), self._writes.none(GIVING_UP_SECONDS), self._changing:
                if self.holds and not self._ended:
                    self._step_back()
        finally:
            self._serve_on()
        return not self.holds

    def _serve_on(self) -> None:
        """Let others in again, where this process holds the bank still."""
        with self._changing:
            if self._lock is None or self._ended:
                return
            server = listening(self.path, self._lock)
            if server is not None:
                self._let_in(server)

    def _step_back(self) -> None:
        old, lock = self._store, self._lock
        store = Store(self.path, self._card, read_only=True)
        self._stack.callback(store.close)
        old.worker.close()
        with old.write_lock:
            old.indexes.save()
            # what it reads may be behind from now on, and is saved over nothing
            old.read_only = old.registry.read_only = True
        self._lock, self._out_until = None, time.monotonic() + OUT_SECONDS
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._take(store)
        self.use(self.adapter)
        if lock is not None:
            lock.release()


def _handed(name: str) -> Callable[..., Any]:
    """The method of `MemBank` of this name, called where the bank is held."""

    @wraps(getattr(MemBank, name))
    def method(self: SharedBank, *args: Any, **kwargs: Any) -> Any:
        return self.hand(name, args, kwargs)

    return method


for _name in FORWARDED:
    if hasattr(MemBank, _name) and _name not in vars(SharedBank):
        setattr(SharedBank, _name, _handed(_name))


def open_shared(encoder: Encoder, path: str | Path, *, join: bool = True, **options: Any) -> MemBank:
    """A bank that other processes of the same person may have open as well, and all of them write.

    The first holds it and serves the others; when it ends, another one takes its place. Reading is each one's own.

    Args:
        encoder: encodes texts, or opens what does once it is needed, which it is not where the holder encodes.
        join: False to be the holder and to stay it; another one makes way, but for what is opened to be repaired.
        options: those of `MemBank`, `read_only` left out.

    Raises:
        BankLockedError: another process holds it and serves nobody, or makes no way where `join` is false.
        BankNotFoundError, …: as `MemBank`.
    """
    bank = Path(path)
    if not (bank.exists() or encoder is None or isinstance(encoder, ModelAdapter)):
        # nobody holds what is not there, and without a model nothing is to be made
        encoder = encoder()
    began, pause = time.monotonic(), 0.005
    while True:
        check_files(bank)
        check_database_is_there(bank)
        make_bank_directory(bank)
        lock = WriterLock(bank, shares=True)
        try:
            lock.acquire()
        except BankLockedError as exc:
            locked = exc
            if not join and (options.get("repair") or not lock.is_shared()):
                raise
        else:
            return _held(encoder, bank, lock, {**options, "stays": not join})
        try:
            if not join:
                if call_holder(bank, GIVE_UP, {}):
                    continue
                raise locked
            call_holder(bank, READY, {})
            return SharedBank(encoder, bank, lock=None, **options)
        except (HolderGoneError, BankNotFoundError) as exc:
            if time.monotonic() - began > patience_with(bank):
                raise BankLockedError(nobody_let_in(bank, lock.holder())) from exc
        time.sleep(pause)
        pause = min(0.1, 2 * pause)


def _held(encoder: Encoder, path: Path, lock: WriterLock, options: Mapping[str, Any]) -> SharedBank:
    """The bank of a process that has just got its lock."""
    server: HandsServer | None = None
    try:
        server = listening(path, lock)
        opened = encoder if encoder is None or isinstance(encoder, ModelAdapter) else encoder()
        return SharedBank(opened, path, lock=lock, server=server, **options)
    except BaseException:
        if server is not None:
            server.close()
        lock.release()
        raise
