"""What is going on while nothing moves yet: one line with a spinner, gone as soon as there is something to read.

It shows in a terminal alone, and after a moment only, so that what is quick leaves no flicker. It writes to a copy of
standard error of its own: llama-cpp-python turns the streams away while it loads a model.
"""

from __future__ import annotations

import os
import sys
import threading
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from . import terminal

DELAY = 0.15
"""Seconds that something takes before it is said."""


class StatusLine:
    """One line about what goes on; a context manager, after which it is gone. Silent without a terminal."""

    def __init__(self, text: str = "") -> None:
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._console: Console | None = None
        self._timer: threading.Timer | None = None
        self._text = text

    def __enter__(self) -> StatusLine:
        if self._text:
            self.say(self._text)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.clear()

    def say(self, text: str) -> None:
        """Show this in place of what was shown."""
        if not terminal.err.is_terminal:
            return
        with self._lock:
            self._text = text
            if self._live is not None:
                self._live.update(self._line())
            elif self._timer is None:
                self._timer = threading.Timer(DELAY, self._begin)
                self._timer.daemon = True
                self._timer.start()

    def clear(self) -> None:
        """Take it away; what is written next stands in its place."""
        with self._lock:
            timer, self._timer = self._timer, None
            live, self._live = self._live, None
            console, self._console = self._console, None
            if timer is not None:
                timer.cancel()
            if live is not None:
                live.stop()
            if console is not None:
                console.file.close()

    def _begin(self) -> None:
        with self._lock:
            if self._timer is None:
                return
            try:
                stream = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="replace")
            except (OSError, ValueError, AttributeError):
                return
            self._console = Console(file=stream, force_terminal=True, width=terminal.err.width, highlight=False)
            self._live = Live(
                self._line(),
                console=self._console,
                transient=True,
                refresh_per_second=10,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def _line(self) -> Table:
        line = Table.grid(padding=(0, 1, 0, 0))
        line.add_column(no_wrap=True)
        line.add_column(no_wrap=True, overflow="ellipsis")
        line.add_row(Spinner("dots", style=terminal.ACCENT), Text(terminal.visible(self._text), "dim"))
        return line
