"""`ChildProcess`: work that may run away, in a process of its own, with limits of time and memory.

What comes from a stranger and is run, not only read, goes there: a chat template, a grammar, a model file that was
never loaded before. Whatever it does, it ends the child alone. A child takes one request after the other as frames of
bytes; it is killed where an answer takes too long or nobody waits for it, and started anew for the next. It ends by
itself with its parent, and where it is still at work then, by its own alarm.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

_log = logging.getLogger("membank_llama")

_HEAD = struct.Struct("<Q")
_MOST_BYTES = 256 * 1024 * 1024
_PIPE = 32 * 1024
_LOOK_SECONDS = 0.05
_START_SECONDS = 60.0
_BOOT = (
    "import json, sys; worker, path, memory = sys.argv[1:]; sys.path[:] = json.loads(path); "
    "from importlib import import_module; from membank_llama.core.child_process import serve_frames; "
    "module, _, name = worker.partition(':'); serve_frames(lambda: getattr(import_module(module), name), int(memory))"
)
# no graphics card is touched, and nobody writes a core or a backtrace of it
_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "", "GGML_NO_BACKTRACE": "1",
    "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1",
}  # fmt: skip


class ChildError(Exception):
    """The child gave no answer. `why` is ``"slow"``, ``"ended"`` or ``"cancelled"``."""

    def __init__(self, why: str) -> None:
        super().__init__(f"a child process gave no answer: {why}")
        self.why = why


class Flag(Protocol):
    """What is asked whether anybody still waits; a `threading.Event` is one."""

    def is_set(self) -> bool: ...


class ChildProcess:
    """A process that answers frames by one function; may be asked from any thread, one at a time.

    Args:
        worker: ``package.module:function``, from bytes to bytes.
        memory: bytes that it may take beyond what it starts with; where the system can't say, no limit.
    """

    def __init__(self, worker: str, memory: int) -> None:
        self._worker = worker
        self._memory = memory
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._frames: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.starts = 0

    def ask(self, request: bytes, seconds: float, cancelled: Flag | None = None) -> bytes:
        """The answer to one request.

        Raises:
            ChildError: it took longer than `seconds`, nobody waits for it any more, or the child died of it.
        """
        with self._lock:
            try:
                process = self._started(cancelled)
                self._send(process, struct.pack("<d", seconds) + request, seconds)
                return self._received(time.monotonic() + seconds, cancelled)
            except BaseException:
                self._kill()
                raise

    @property
    def is_running(self) -> bool:
        """Whether it has been started and not ended, so that it still knows what it was told."""
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        """End it; it starts again where it is asked once more."""
        # whoever waits for an answer meets the end of the stream
        process = self._process
        if process is not None:
            process.kill()
        with self._lock:
            self._kill()

    def _started(self, cancelled: Flag | None) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._kill()
        path = json.dumps([entry or str(Path.cwd()) for entry in sys.path])
        try:
            self._process = process = subprocess.Popen(  # noqa: S603  our own interpreter, our own module
                [sys.executable, "-I", "-c", _BOOT, self._worker, path, str(self._memory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **_ENVIRONMENT},
                # Ctrl-C in a terminal is for the parent, which ends it
                start_new_session=True,
            )
        except OSError as exc:
            _log.error("no child process could be started with %s: %s", sys.executable or "no interpreter", exc)
            raise ChildError("ended") from exc
        self.starts += 1
        frames: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._frames = frames
        threading.Thread(target=_read, args=(process.stdout, frames), name="membank-child", daemon=True).start()
        self._received(time.monotonic() + _START_SECONDS, cancelled)
        return process

    def _send(self, process: subprocess.Popen[bytes], frame: bytes, seconds: float) -> None:
        # a pipe takes a short frame at once; a long one waits for the child to read it
        timer = threading.Timer(seconds, process.kill) if len(frame) > _PIPE else None
        if timer is not None:
            timer.start()
        try:
            if process.stdin is not None:
                process.stdin.write(_HEAD.pack(len(frame)) + frame)
                process.stdin.flush()
        except OSError as exc:
            raise ChildError("ended") from exc
        finally:
            if timer is not None:
                timer.cancel()

    def _received(self, deadline: float, cancelled: Flag | None) -> bytes:
        while True:
            left = deadline - time.monotonic()
            try:
                frame = self._frames.get(timeout=max(0.0, min(left, _LOOK_SECONDS)))
            except queue.Empty:
                if cancelled is not None and cancelled.is_set():
                    raise ChildError("cancelled") from None
                if left <= 0:
                    raise ChildError("slow") from None
                continue
            if frame is None:
                raise ChildError("ended")
            return frame

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def _read(stream: BinaryIO, frames: queue.SimpleQueue[bytes | None]) -> None:
    """Frames into the queue, None at their end."""
    with suppress(OSError, ValueError):
        while (frame := _frame(stream)) is not None:
            frames.put(frame)
    frames.put(None)


def _frame(stream: BinaryIO) -> bytes | None:
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    (size,) = _HEAD.unpack(head)
    if size > _MOST_BYTES:
        return None
    body = stream.read(size)
    return body if len(body) == size else None


# -- in the child


def serve_frames(load: Callable[[], Callable[[bytes], bytes]], memory: int) -> None:
    """Answer frames of standard input until it ends."""
    with os.fdopen(os.dup(0), "rb") as requests, os.fdopen(os.dup(1), "wb") as answers:
        # what native code prints must not stand among the answers
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 0)
        os.dup2(nowhere, 1)
        answer = load()
        _limit(memory)
        _put(answers, b"")
        while (frame := _frame(requests)) is not None:
            (seconds,) = struct.unpack_from("<d", frame)
            _alarm(seconds + 1)
            reply = answer(frame[8:])
            _alarm(0)
            _put(answers, reply)


def _put(stream: BinaryIO, frame: bytes) -> None:
    stream.write(_HEAD.pack(len(frame)) + frame)
    stream.flush()


def _limit(memory: int) -> None:
    with suppress(ImportError, OSError, ValueError):
        import resource  # not on every system

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _alarm(seconds: float) -> None:
    with suppress(ImportError, AttributeError):
        import signal

        # not caught: it ends native code too
        signal.setitimer(signal.ITIMER_REAL, seconds)
