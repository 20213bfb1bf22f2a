"""`membank`: the command line.

Commands live in `commands/`; this file puts them in order and turns the package's errors into one line and an exit
code (2 for bad input, 1 otherwise), and what the system refuses as well. What else is not of the package's error tree
is a bug and keeps its traceback, as everything does with MEMBANK_DEBUG=1.
"""

from __future__ import annotations

import _thread
import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from membank_llama._version import __version__
from membank_llama.core.errors import InvalidInputError, MembankError
from membank_llama.core.native_lines import native_lines_logged

from .commands import (
    agents,
    backups,
    bench_answers,
    bench_encoder,
    bench_recall,
    chat,
    doctor,
    editing,
    explaining,
    forgetting,
    importing,
    kv,
    looking,
    maintenance,
    memories,
    page,
    serve,
    topics,
    tune,
)
from .commands.completion import bank_names
from .commands.options import Settings
from .help_text import Commands

app = Commands(
    name="membank",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="[dim]membank chat model.gguf[/dim] is the place to start; every command has its own --help.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"membank-llama {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    bank: Annotated[
        Path | None,
        typer.Option(
            "--bank", "-b", envvar="MEMBANK_BANK", show_default=False, autocompletion=bank_names, readable=False,
            help="The bank's directory. Default: one in your user data directory.",
        ),
    ] = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Part of the bank to use.", show_default=False)
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:  # fmt: skip
    """Long-term memory for llama.cpp models, on your own machine."""
    ctx.obj = Settings(bank, namespace)


_TALK, _MEMORIES, _BANK = "Talk", "Memories", "The bank"

app.command("chat", short_help="talk to a model", rich_help_panel=_TALK)(chat.chat)
app.command("serve", short_help="memory for every client", rich_help_panel=_TALK)(serve.serve)
app.command("mcp", short_help="memory for coding agents", rich_help_panel=_TALK)(agents.mcp)
app.command("page", short_help="the bank in a browser", rich_help_panel=_TALK)(page.page)
app.command("demo", short_help="see it work", rich_help_panel=_TALK)(chat.demo)
app.command("demo-tell", hidden=True)(chat.demo_tell)
app.command("demo-ask", hidden=True)(chat.demo_ask)
app.command("ingest", short_help="remember files or texts", rich_help_panel=_MEMORIES)(memories.ingest)
app.command("recall", short_help="find memories", rich_help_panel=_MEMORIES)(memories.recall)
app.command("why", short_help="explain the last recall", rich_help_panel=_MEMORIES)(explaining.why)
app.command("list", short_help="leaf through memories", rich_help_panel=_MEMORIES)(looking.listing)
app.command("show", short_help="all of one memory", rich_help_panel=_MEMORIES)(looking.show)
app.command("topics", short_help="what it is all about", rich_help_panel=_MEMORIES)(topics.topics)
app.command("correct", short_help="say a memory better", rich_help_panel=_MEMORIES)(editing.correct)
app.command("forget", short_help="remove memories for good", rich_help_panel=_MEMORIES)(forgetting.forget)
app.command("undo", short_help="take a change back", rich_help_panel=_MEMORIES)(looking.undo)
app.command("pin", short_help="keep past the expiry", rich_help_panel=_MEMORIES)(editing.pin)
app.command("unpin", short_help="let expire again", rich_help_panel=_MEMORIES)(editing.unpin)
app.command("tune", short_help="fit recall to questions", rich_help_panel=_MEMORIES)(tune.tune)
app.command("export", short_help="all memories as JSONL", rich_help_panel=_MEMORIES)(maintenance.export_command)
app.command("import", short_help="other programs' histories", rich_help_panel=_MEMORIES)(importing.import_command)
app.command("doctor", short_help="what is wrong, and the cure", rich_help_panel=_BANK)(doctor.doctor)
app.command("stats", short_help="what the bank holds", rich_help_panel=_BANK)(maintenance.stats)
app.command("verify", short_help="check every byte", rich_help_panel=_BANK)(maintenance.verify)
app.command("gc", short_help="remove expired, pack files", rich_help_panel=_BANK)(maintenance.gc)
app.command("rebuild", short_help="make the indexes anew", rich_help_panel=_BANK)(maintenance.rebuild)
app.command("reencode", short_help="move to another model", rich_help_panel=_BANK)(maintenance.reencode)
app.command("backup", short_help="copy it while in use", rich_help_panel=_BANK)(backups.backup)
app.command("restore", short_help="go back to a copy", rich_help_panel=_BANK)(backups.restore)

bench = Commands(no_args_is_help=True, rich_markup_mode="rich", help="Measure what a model or a bank is worth.")
app.add_typer(bench, name="bench", short_help="measure a model or a bank", rich_help_panel=_BANK)
bench.command("encoder")(bench_encoder.encoder)
bench.command("recall")(bench_recall.recall)
bench.command("answers")(bench_answers.answers)


kept = Commands(
    no_args_is_help=True, rich_markup_mode="rich", help="Look after the KV state of conversations, which is read once."
)
app.add_typer(kept, name="kv", short_help="saved states of chats", rich_help_panel=_BANK)
kept.command("ls")(kv.ls)
kept.command("gc")(kv.gc)
kept.command("verify")(kv.verify)


class _Notes(logging.Handler):
    """Shows the package's warnings as dim lines."""

    def emit(self, record: logging.LogRecord) -> None:
        from membank_llama.core.logs import one_line

        from .terminal import note

        note(f"note: {one_line(record.getMessage())}")


def _debugging() -> bool:
    return os.environ.get("MEMBANK_DEBUG", "") not in ("", "0")


def _show_native_lines() -> None:
    logger = logging.getLogger("membank_llama.llama_cpp")
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
        logger.propagate = False
    logger.setLevel(logging.DEBUG)


REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)
"""What the system says of a full or broken disk and of what a user may not do: nothing that is wrong in here."""
AGAIN = 0.02
"""Seconds behind a lost Ctrl-C until it comes again."""


@contextmanager
def _interrupts_come_again() -> Iterator[None]:
    """Ctrl-C that meets a callback of a native library, or a finalizer, is lost to Python: it comes once more."""
    before = sys.unraisablehook

    def hook(lost: Any) -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            before(lost)
            return
        again = threading.Timer(AGAIN, _interrupt)
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _interrupt() -> None:
    """As Ctrl-C does: also where the main thread waits in a system call."""
    if sys.platform == "win32":
        _thread.interrupt_main()
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; always ends in SystemExit."""
    logger = logging.getLogger("membank_llama")
    if not any(isinstance(handler, _Notes) for handler in logger.handlers):
        logger.addHandler(_Notes(logging.WARNING))
    if _debugging():
        _show_native_lines()
    for stream in (sys.stdout, sys.stderr):
        # a code page that lacks a letter: it shows as "?", and the command does its work
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        with native_lines_logged(), _interrupts_come_again():
            app(args=list(sys.argv[1:] if args is None else args), prog_name="membank")
    except MembankError as exc:
        if _debugging():
            raise
        from .terminal import fail

        fail(str(exc))
        raise SystemExit(2 if isinstance(exc, InvalidInputError) else 1) from exc
    except KeyboardInterrupt:
        # ahead of where typer looks for it
        raise SystemExit(130) from None
    except OSError as exc:
        if exc.errno not in REFUSALS or _debugging():
            raise
        from .terminal import fail

        where = "" if exc.filename is None else f" at {exc.filename}"
        fail(f"the system refused: {exc.strerror}{where}; check free space and permissions")
        raise SystemExit(1) from exc
