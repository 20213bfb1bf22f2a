"""`HandsServer`: the bank's holder serves those who come; a thread that lets them in, and one for each call.

It listens from the moment the lock is held, and those who come early wait until the bank is open. A client that is
silent, slow or mad ends its own connection: it holds no lock of the bank, and what it is told of a call's progress is
dropped where it does not listen. Closing waits for the calls that run; whose answer is lost asks the next holder.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import selectors
import socket
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Protocol

from membank_llama.adapters.base import ModelAdapter
from membank_llama.core.errors import BankError, ModelError
from membank_llama.store.lock import WriterLock

from .forwarded import checked_call, error_to_json
from .frames import (
    FRAME_SECONDS,
    MOST_BYTES_OF_A_GREETING,
    BrokenLineError,
    FrameTooLongError,
    receive,
    send,
    takes_more,
)
from .holder_call import GIVE_UP, READY
from .meeting_point import PROTOCOL, is_this_users, leave, listen
from .shared_values import from_json, to_json

logger = logging.getLogger("membank_llama")

MOST_CONNECTIONS = 64
"""At once; one that is turned away tries again."""
GREETING_WAIT = 5.0
"""Seconds that a client has to say who it is and what it wants."""
PAUSE_SECONDS = 0.1
IDLE_SECONDS = 30.0
"""How long a thread waits for the next client."""
LAST_SECONDS = 1.0
"""How long a client may take to take something while others wait."""


class HeldBank(Protocol):
    """A bank that is served."""

    adapter: ModelAdapter | None

    def hand(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any: ...
    def give_up(self) -> bool: ...


class HandsServer:
    """Of one bank, whose lock this process holds.

    Raises:
        OSError, BankError, RuntimeError: nothing can listen here, or not any more.
    """

    def __init__(self, bank: Path) -> None:
        self._path = bank
        self._pid = os.getpid()
        self._socket, self.point = listen(bank, MOST_CONNECTIONS)
        self._woken, self._wake = socket.socketpair()
        self._bank: weakref.ref[HeldBank] | None = None
        self._is_open = threading.Event()
        self._closing = False
        self._guard = threading.Lock()
        self._lines: list[socket.socket] = []
        self._greeting: dict[socket.socket, None] = {}
        self._calling: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._arrived: Queue[socket.socket | None] = Queue()
        self._thread = threading.Thread(target=self._let_in, name="membank-hands", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            # the interpreter is on its way out
            leave(bank, self.point)
            self._close_sockets()
            raise
        # a thread within native code must not outlive the interpreter
        atexit.register(self.close)

    def serve(self, bank: HeldBank) -> None:
        """Serve this bank from now on; it is not kept alive by that."""
        self._bank = weakref.ref(bank)
        self._is_open.set()

    # -- letting in

    def _let_in(self) -> None:
        with selectors.DefaultSelector() as coming:
            coming.register(self._socket, selectors.EVENT_READ)
            coming.register(self._woken, selectors.EVENT_READ)
            while not self._is_wanted_closed(coming):
                try:
                    line, _ = self._socket.accept()
                except OSError as exc:
                    # a client that went at once; or no file descriptor is left, and one may be soon
                    logger.debug("nobody could be let in: %s", exc)
                    time.sleep(PAUSE_SECONDS)
                    continue
                self._begin(line)
        self.close()

    def _is_wanted_closed(self, coming: selectors.BaseSelector) -> bool:
        """Wait for the next client; whether there is to be none."""
        return any(key.fileobj is self._woken for key, _ in coming.select()) or self._closing

    def _begin(self, line: socket.socket) -> None:
        thread: threading.Thread | None = None
        with self._guard:
            if self._closing or not self._has_room():
                line.close()
                return
            self._lines.append(line)
            self._greeting[line] = None
            if self._idle:
                # a thread that has opened the database already
                self._idle -= 1
                self._arrived.put(line)
                return
            thread = threading.Thread(target=self._attend, args=(line,), name="membank-hand", daemon=True)
            self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:
            # no more threads, or the interpreter is on its way out
            with self._guard:
                self._threads.discard(thread)
                self._let_go(line)
            line.close()

    def _has_room(self) -> bool:
        """Whether one more may come in; among too many the one goes that has said nothing yet for the longest time."""
        if len(self._lines) < MOST_CONNECTIONS:
            return True
        silent = next(iter(self._greeting), None)
        if silent is not None:
            del self._greeting[silent]
            with suppress(OSError):
                silent.shutdown(socket.SHUT_RDWR)
        return silent is not None

    def _let_go(self, line: socket.socket) -> None:
        self._calling.discard(line)
        self._greeting.pop(line, None)
        self._lines.remove(line)

    # -- one client after another

    def _attend(self, line: socket.socket | None) -> None:
        while line is not None:
            try:
                with line:
                    if is_this_users(line):
                        self._answer(line)
            except (OSError, FrameTooLongError) as exc:
                # the thread lives: it is counted on for the next one
                logger.debug("a process that uses %s was not answered: %s", self._path, exc)
            finally:
                with self._guard:
                    self._let_go(line)
                    self._idle += not self._closing
            line = self._next()
        with self._guard:
            self._threads.discard(threading.current_thread())

    def _next(self) -> socket.socket | None:
        """The next client for this thread; None where none came for some time."""
        with suppress(Empty):
            return None if self._closing else self._arrived.get(timeout=IDLE_SECONDS)
        with self._guard:
            with suppress(Empty):
                return self._arrived.get_nowait()
            self._idle -= 1
            return None

    def _answer(self, line: socket.socket) -> None:
        greeting = receive(line, MOST_BYTES_OF_A_GREETING, GREETING_WAIT)
        nonce = secrets.token_hex(16)
        proof = self.point.proof("holder", str(greeting.get("nonce")))
        send(line, {"membank": PROTOCOL, "proof": proof, "nonce": nonce}, GREETING_WAIT)
        shown = receive(line, MOST_BYTES_OF_A_GREETING, GREETING_WAIT)
        if not self.point.proves("joiner", nonce, shown.get("proof")):
            raise BrokenLineError("a client does not know the bank's key")
        with self._guard:
            self._greeting.pop(line, None)
        asked = receive(line, seconds=GREETING_WAIT)
        self._is_open.wait()
        bank = None if self._bank is None else self._bank()
        with self._guard:
            if self._closing or bank is None:
                return
            self._calling.add(line)
        answer = self._result(line, bank, asked)
        del bank
        with self._guard:
            self._calling.discard(line)
        patience = LAST_SECONDS if self._closing else FRAME_SECONDS
        try:
            send(line, answer, patience)
        except FrameTooLongError as exc:
            send(line, {"error": error_to_json(exc)}, patience)

    def _result(self, line: socket.socket, bank: HeldBank, asked: dict[str, Any]) -> dict[str, Any]:
        listens = bool(asked.get("progress"))

        def tell(label: str, done: int, total: int) -> None:
            nonlocal listens
            # whoever does not read is told nothing more, and holds nobody up
            listens = listens and takes_more(line)
            if listens:
                try:
                    send(line, {"progress": [label, done, total]}, LAST_SECONDS)
                except OSError:
                    listens = False

        name = asked.get("call")
        if name == READY:
            return {"result": None}
        try:
            if name == GIVE_UP:
                return {"result": bank.give_up()}
            given = checked_call(str(name), from_json(asked["given"]), tell if listens else None)
            return {"result": to_json(bank.hand(str(name), (), given))}
        except Exception as exc:  # noqa: BLE001  whatever it is, it is the caller's to see
            unable = isinstance(exc, ModelError) and bank.adapter is None
            return {"error": error_to_json(exc), "unable": unable}

    # -- ending

    def abandon(self) -> None:
        """Close soon: nothing here waits or takes a lock, for the collector may call it at any moment."""
        with suppress(OSError):
            self._wake.send(b"x")

    def close(self) -> None:
        """Let nobody in any more and wait for the calls that run. May be called twice, from any thread."""
        atexit.unregister(self.close)
        with self._guard:
            if self._closing:
                return
            self._closing = True
        if os.getpid() == self._pid:
            self._end()
        # in a child process that was forked all else is its parent's
        self._close_sockets()

    def _close_sockets(self) -> None:
        for one in (self._socket, self._woken, self._wake):
            one.close()

    def _end(self) -> None:
        self.abandon()
        if self._thread is not threading.current_thread():
            self._thread.join()
        leave(self._path, self.point)
        self._socket.close()
        self._is_open.set()
        with self._guard:
            threads = list(self._threads)
            for line in self._lines:
                if line not in self._calling:
                    with suppress(OSError):
                        line.shutdown(socket.SHUT_RDWR)
        for _ in threads:
            self._arrived.put(None)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()


def listening(path: Path, lock: WriterLock) -> HandsServer | None:
    """What serves others; None where nothing can listen: the bank can be used here all the same, and nobody waits to be
    let in."""
    try:
        return HandsServer(path)
    except (OSError, BankError, RuntimeError) as exc:
        logger.warning("%s is not shared with other processes: nothing can listen for them (%s)", path, exc)
        lock.serves_nobody()
        return None
