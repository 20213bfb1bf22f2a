"""Where other people's programs were installed for the tests: in no environment of ours, and of their own versions.

`make test-clients` and `make test-open-webui` install them under `.clients`; MEMBANK_CLIENTS names another folder.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from membank_llama.memory.bank import MemBank

from .places import ROOT

VARIABLE = "MEMBANK_CLIENTS"


@dataclass(frozen=True)
class Served:
    """A process that serves, and the bank that it writes."""

    url: str
    bank: Path

    def texts(self, namespace: str) -> list[str]:
        with MemBank(None, self.bank, read_only=True) as bank:
            return [memory.text for memory in bank.memories(namespace)]


def clients_folder() -> Path:
    return Path(os.environ.get(VARIABLE) or ROOT / ".clients")


def client_program(name: str, how: str = "make test-clients") -> str:
    """The path of a program; the test is skipped, by name, where it is not installed."""
    folder = clients_folder()
    places = [*sorted(folder.glob("*/bin")), *sorted(folder.glob("*/node_modules/.bin"))]
    found = shutil.which(name, path=os.pathsep.join(map(str, places))) if places else None
    if found is None:
        pytest.skip(f"needs {name}: {how}, or {VARIABLE}=the folder it is in")
    return found


def client_python(environment: str, package: str) -> str:
    """The interpreter of an environment that has a package; the test is skipped, by name, where it is not there."""
    folder = clients_folder() / environment
    if not list(folder.glob(f"lib/python*/site-packages/{package}")):
        pytest.skip(f"needs {package}: make test-clients, or {VARIABLE}=the folder with {environment}/")
    return str(folder / "bin" / "python")
