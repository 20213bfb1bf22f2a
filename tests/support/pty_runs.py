"""`membank` in a terminal of its own: what a person would see of it, typed into when a question shows."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from dataclasses import dataclass

from .terminals import environment

PATIENCE = 30


@dataclass(frozen=True)
class Seen:
    """How it ended, what the terminal showed, and what went to a pipe in place of standard output."""

    code: int
    screen: str
    piped: str


def in_terminal(
    *args: object,
    waits_for: str = "",
    typed: str = "",
    then: Sequence[tuple[str, str]] = (),
    piped: bool = False,
    **more: str,
) -> Seen:
    """Run a command with a terminal at its standard input and error, and output unless that is piped; type something
    once a text shows, and `then` more behind other texts."""
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "membank_llama", *map(str, args)],
        stdin=slave,
        stdout=subprocess.PIPE if piped else slave,
        stderr=slave,
        env=environment(TERM="xterm", **more),
        start_new_session=True,
        # for Ctrl-C to reach it
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    shown, end = b"", time.monotonic() + PATIENCE
    waiting = [*([(waits_for, typed)] if typed else []), *then]
    try:
        while time.monotonic() < end:
            if select.select([master], [], [], 0.1)[0]:
                try:
                    data = os.read(master, 65536)
                except OSError:
                    # the other end is closed
                    break
                if not data:
                    break
                shown += data
            if waiting and waiting[0][0].encode() in shown:
                os.write(master, waiting.pop(0)[1].encode())
        out = child.stdout.read().decode() if child.stdout is not None else ""
        code = child.wait(PATIENCE)
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
        os.close(master)
    return Seen(code, shown.decode("utf-8", "replace"), out)
