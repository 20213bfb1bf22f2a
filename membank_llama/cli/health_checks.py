"""What `membank doctor` looks at beside the bank: what is installed, which engines answer, which model would encode.

Only the usual addresses on this machine are asked, briefly and at once. A check never raises: what it meets is told,
with the one line that mends it.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx

from membank_llama._version import __version__
from membank_llama.adapters.hashing import WORDS_PREFIX
from membank_llama.adapters.served import same_address
from membank_llama.core.errors import BankError, MembankError
from membank_llama.gguf.capabilities import read_facts
from membank_llama.gguf.ollama_store import list_ollama_models
from membank_llama.server.proxy.upstream_kind import Answer, recognised
from membank_llama.store.model_record import is_empty, made_by, recorded_model

from .commands.addresses import is_address, split_address
from .commands.encoders import own_file
from .health_table import GOOD, NOTE, WRONG, HealthCheck

ENGINES = {"Ollama": 11434, "llama-server": 8080, "LM Studio": 1234, "membank serve": 11435}
BRIEFLY = httpx.Timeout(1.0, connect=0.5)
CHILD_SECONDS = 60

_PACKAGES = ("llama-cpp-python", "hnswlib", "numpy", "sqlite-utils", "starlette", "uvicorn", "huggingface-hub")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_BUILD = "membank_llama.adapters.llama_cpp.build_report"


def all_checks(bank: Path, bank_checks: Sequence[HealthCheck], addresses: Mapping[str, str]) -> list[HealthCheck]:
    """Everything, in the order that it is read: what is installed, what answers, what encodes, the bank.

    Args:
        addresses: of the engines, by what they are called.
    """
    with ThreadPoolExecutor(1 + len(addresses)) as pool:
        built = pool.submit(build_check)
        engines = list(pool.map(engine_check, addresses.keys(), addresses.values()))
        installed = [*package_checks(), built.result()]
    answering = [addresses[check.name] for check in engines if check.state == GOOD]
    return [*installed, *engines, encoder_check(bank, answering), *bank_checks]


def usual_addresses() -> dict[str, str]:
    """Where engines are looked for: the usual ports of this machine."""
    return {name: f"http://127.0.0.1:{port}" for name, port in ENGINES.items()}


# -- what is installed


def package_checks() -> list[HealthCheck]:
    """The program, Python, and the packages it stands on."""
    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    found = {name: _version_of(name) for name in _PACKAGES}
    there = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    missing = sorted(_required() - {name for name in _required() if _version_of(name)})
    checks = [
        HealthCheck("installed", "membank-llama", f"{__version__}, Python {python}"),
        HealthCheck("installed", "packages", there),
    ]
    if missing:
        mend = f"{_quoted(sys.executable)} -m pip install {' '.join(missing)}"
        checks.append(HealthCheck("installed", "missing", ", ".join(missing), WRONG, mend))
    return checks


def _version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _required() -> set[str]:
    """The packages that ours asks for, without extras."""
    try:
        lines = metadata.requires("membank-llama") or []
    except metadata.PackageNotFoundError:
        # run out of a checkout
        return set(_PACKAGES)
    names = (line.partition(";") for line in lines)
    return {found[0] for line, _, condition in names if "extra" not in condition and (found := _NAME.match(line))}


def build_check() -> HealthCheck:
    """What llama.cpp was built for, asked in a process of its own."""
    again = f"{_quoted(sys.executable)} -m pip install --force-reinstall --no-cache-dir llama-cpp-python"
    try:
        # our own interpreter and our own module
        command = [sys.executable, "-m", _BUILD]
        done = subprocess.run(command, capture_output=True, timeout=CHILD_SECONDS, check=False)  # noqa: S603
        report = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, ValueError):
        report, done = None, None
    if report is None:
        died = done is not None and done.returncode < 0
        why = f"ends by signal {-done.returncode}" if done is not None and died else "cannot be loaded"
        mend = _built_with("-DGGML_NATIVE=OFF", again) if died else again
        return HealthCheck("installed", "llama.cpp", f"{why}; no GGUF can encode or chat", WRONG, mend)
    card = "graphics card" if report["gpu"] else "no graphics card"
    value = f"{', '.join(report['features'][:12]) or 'plain processor'}; {card}"
    if not report["gpu"] and shutil.which("nvidia-smi"):
        mend = _built_with("-DGGML_CUDA=on", again)
        return HealthCheck("installed", "llama.cpp", f"{value}, though this machine has one of NVIDIA's", NOTE, mend)
    return HealthCheck("installed", "llama.cpp", value)


def _built_with(option: str, install: str) -> str:
    return f'set "CMAKE_ARGS={option}" && {install}' if sys.platform == "win32" else f"CMAKE_ARGS={option} {install}"


# -- which engines answer


def engine_check(name: str, address: str) -> HealthCheck:
    """Who answers at an address."""
    with httpx.Client(base_url=address, timeout=BRIEFLY, trust_env=False) as client:

        def ask(path: str) -> Answer | None:
            try:
                reply = client.get(path)
                return Answer(reply.status_code, reply.headers.get("server", ""), _json_of(reply))
            except (httpx.HTTPError, httpx.InvalidURL):
                return None

        status = ask("/membank/status")
        if status is None:
            return HealthCheck("engines", name, f"nothing answers at {address}", NOTE)
        if "deadline_ms" in status.told:
            told = status.told
            value = (
                f"membank serve {told.get('version')} at {address}, in front of {told.get('upstream') or 'no other'}"
            )
            return HealthCheck("engines", name, value)
        kind = recognised(ask)
    if kind is None:
        return HealthCheck("engines", name, f"something else answers at {address}", NOTE)
    value = f"{kind} at {address}" + (", which is still loading or wants a key" if kind.silent else "")
    return HealthCheck("engines", name, value)


def _json_of(reply: httpx.Response) -> Any:
    try:
        return reply.json()
    except (ValueError, RecursionError):
        return None


# -- which model encodes


def encoder_check(bank: Path, answering: Sequence[str]) -> HealthCheck:
    """The model that would encode for a bank, and why that one."""
    try:
        card = recorded_model(bank)
        if card is None or is_empty(bank):
            return _of_new_bank(answering)
        return _of_bank(bank, card, answering)
    except BankError:
        # told where the bank is looked at
        return HealthCheck("encoder", "model", "not known, as the bank cannot be read", NOTE)
    except MembankError as exc:
        return HealthCheck("encoder", "model", f"not known: {exc}", WRONG)


def _of_bank(bank: Path, card: Mapping[str, Any], answering: Sequence[str]) -> HealthCheck:
    name, source = card["name"], card.get("source") or ""
    if card["id"].startswith(WORDS_PREFIX):
        value = "words alone: no model was at hand when the bank was made"
        return HealthCheck("encoder", "model", value, NOTE, "membank reencode MODEL.gguf")
    if is_address(source):
        address = split_address(source)[0]
        if any(same_address(address, there) for there in answering):
            return HealthCheck("encoder", "model", f"{name} of {address}, which made the bank")
        if not any(same_address(address, there) for there in usual_addresses().values()):
            return HealthCheck("encoder", "model", f"{name} of {address}, which made the bank and was not asked", NOTE)
        value = f"{name} of {address}, which made the bank and does not answer"
        return HealthCheck("encoder", "model", value, WRONG, f"start that server, or: {_reencode(bank)}")
    path = own_file(dict(card), bank)
    if path is not None and _is_its_own(card, path):
        return HealthCheck("encoder", "model", f"{name}, which made the bank: {path}")
    gone = "is another file now" if path is not None else "is gone"
    value = f"{name} made the bank; {source or 'its file, which is not recorded,'} {gone}"
    return HealthCheck("encoder", "model", value, WRONG, f"name it with --model FILE, or: {_reencode(bank)}")


def _is_its_own(card: Mapping[str, Any], path: Path) -> bool:
    try:
        return made_by(dict(card), path)
    except (MembankError, OSError):
        return False


def _of_new_bank(answering: Sequence[str]) -> HealthCheck:
    files = [(model.name, model.path) for model in list_ollama_models()]
    for name, path in files:
        if _embeds(path):
            return HealthCheck(
                "encoder", "model", f"{name} of Ollama's store, for a new bank: it is made for embeddings"
            )
    if any(address.endswith(f":{ENGINES['Ollama']}") for address in answering):
        mend = "ollama pull all-minilm"
        return HealthCheck(
            "encoder", "model", "Ollama has no embedding model; the chat model's states it is", NOTE, mend
        )
    value = "the chat model's own states, for a new bank; membank serve without a model finds by words alone"
    return HealthCheck("encoder", "model", value, NOTE, "membank chat MODEL.gguf --encoder EMBEDDING.gguf finds more")


def _embeds(path: Path) -> bool:
    try:
        return read_facts(path).embeds
    except (MembankError, OSError):
        return False


def _reencode(bank: Path) -> str:
    return f"membank reencode MODEL.gguf --bank {_quoted(str(bank))}"


def _quoted(path: str) -> str:
    return f'"{path}"' if " " in path else path
