"""A process as Windows has it, as far as that can be had: run as a program, it takes away what only POSIX has.

What others wrote is imported first and goes on as here; the package is imported anew after, and sees an `os`, a
`signal` and modules from which all that is missing there is gone, so that whatever it asks for ends in an error.
"""

# ruff: noqa: T201 (what it prints is its report)
from __future__ import annotations

import importlib
import os
import pkgutil
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix", "readline", "curses")
NAMES = (
    "fork", "forkpty", "getuid", "geteuid", "getgid", "getegid", "getgroups", "setsid", "setuid", "getpgid", "killpg",
    "O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_SYNC", "fchmod", "fchown", "chown", "lchown",
    "sysconf", "confstr", "posix_fadvise", "posix_fallocate", "mkfifo", "mknod", "statvfs", "fstatvfs", "getloadavg",
    "sched_getaffinity", "pread", "pwrite", "preadv", "pwritev", "readv", "writev", "fdatasync", "sync", "nice",
    "uname", "openpty", "ctermid", "ttyname", "chroot", "sendfile", "lockf", "getpriority", "setpriority",
    "register_at_fork", "copy_file_range", "memfd_create", "eventfd", "splice", "pidfd_open",
)  # fmt: skip
SIGNALS = ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGCHLD", "SIGQUIT", "SIGTSTP", "SIGWINCH")
SOCKETS = ("AF_UNIX", "AF_NETLINK", "SO_PEERCRED", "SO_REUSEPORT", "SCM_RIGHTS", "MSG_DONTWAIT", "MSG_NOSIGNAL")
SIGNAL_CALLS = ("setitimer", "alarm", "pause", "pthread_sigmask", "sigwait", "siginterrupt", "set_wakeup_fd")


def modules() -> Iterator[str]:
    """Every module of the package."""
    import membank_llama

    yield "membank_llama"
    for found in pkgutil.walk_packages(membank_llama.__path__, "membank_llama."):
        if not found.name.endswith("__main__"):
            yield found.name


def take_away() -> list[str]:
    """Import everything, take POSIX away, and import our own modules anew; returns their names."""
    names = list(modules())
    for name in names:
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.split(".")[0] == "membank_llama"]:
        del sys.modules[name]
    gone: dict[str, None] = dict.fromkeys(MODULES)
    sys.modules.update(gone)  # type: ignore[arg-type]
    for module, names_gone in ((os, NAMES), (signal, SIGNALS + SIGNAL_CALLS), (socket, SOCKETS)):
        sys.modules[module.__name__] = _without(module, names_gone)
    sys.modules["sys"] = _Windows("sys")
    for name in names:
        importlib.import_module(name)
    return names


def _without(module: ModuleType, names: Sequence[str]) -> ModuleType:
    """A module as it is, without some names."""
    left = ModuleType(module.__name__)
    left.__dict__.update({name: value for name, value in vars(module).items() if name not in names})
    return left


class _Windows(ModuleType):
    """`sys` as it is, on another platform: llama.cpp's own binding would look for libraries that are not here."""

    platform = "win32"

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


def main(folder: Path) -> None:
    print("modules:", len(take_away()))
    from membank_llama.adapters.hashing import WordsAdapter
    from membank_llama.memory.bank import MemBank
    from membank_llama.store.maintenance.restore import restore_backup

    path = folder / "eine Bank für Zoë"
    with MemBank(WordsAdapter(), path) as bank:
        told = bank.ingest_many([f"note {n}: the lamp stands in room {n}" for n in range(60)])
        secret = bank.ingest("The zanzibarquux is under the willow.")
        assert bank.recall("Where is the zanzibarquux?", 1)[0].memory_id == secret.memory_id
        assert bank.forget(secret.memory_id) == 1
        bank.pin(told[0].memory_id)
        bank.correct(told[1].memory_id, "The lamp of room 1 is broken.")
        made = bank.backup(folder / "backups", keep=1)
        assert bank.gc()["freed_slots"] >= 1
        bank.rebuild_indexes()
        assert bank.verify().ok
        with MemBank(None, path, read_only=True) as reader:
            assert reader.recall("lamp", 1)
    restored = restore_backup(made.path, path, force=True)
    assert restored.set_aside is not None
    with MemBank(WordsAdapter(), path) as bank:
        assert bank.count() == 60 and bank.verify().ok
    print("bank: well")
    commands(folder)


def commands(folder: Path) -> None:
    """The commands, with the model that comes along."""
    from membank_llama.cli.app import main as membank
    from membank_llama.core.child_process import ChildProcess
    from membank_llama.gguf.builtin import embedded_model
    from membank_llama.server.proxy.uvicorn_config import most_connections
    from membank_llama.store import bank_files, lock

    assert not hasattr(bank_files.os, "O_NOFOLLOW") and lock.sys.platform == "win32"
    assert most_connections() > 0
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    child = ChildProcess("support.child_tasks:answer", memory=1 << 30)
    assert child.ask(b"print", 30) == b"printed"
    child.close()
    notes, bank = folder / "Notizen für Zoë.txt", folder / "zweite Bank"
    notes.write_text("My sister Ana lives in Porto.", encoding="utf-8")
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123
    for line in (
        ["ingest", notes, "--model", embedded_model(), "--threads", "1"], ["recall", "sister"], ["why", "sister"],
        ["stats"], ["doctor"], ["export", folder / "all.jsonl"], ["pin", "1"], ["gc"], ["kv", "ls"],
        ["backup", folder / "more"], ["forget", "1", "--yes"], ["import", folder / "all.jsonl"], ["verify"],
    ):  # fmt: skip
        try:
            membank(["--bank", str(bank), *map(str, line)])
        except SystemExit as ended:
            assert not ended.code, line
    print("commands: well")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
