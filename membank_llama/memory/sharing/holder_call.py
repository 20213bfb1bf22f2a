"""`call_holder`: have the process that holds a bank do something; a connection of its own for each call."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from membank_llama.core.errors import BankLockedError, InvalidInputError, MembankError
from membank_llama.core.types import Progress
from membank_llama.store.lock import WriterLock

from .forwarded import error_from_json
from .frames import MOST_BYTES_OF_A_GREETING, FrameTooLongError, SilentLineError, receive, send
from .meeting_point import PROTOCOL, MeetingPoint, find
from .shared_values import from_json

GREETING_SECONDS = 10.0
"""How long a holder may take until it greets."""

CHANGING_SECONDS = 30.0
"""How long the holder may take to open the bank, or to close it, while others wait."""
SILENT_SECONDS = 0.5
"""The same where the holder's note does not say that it serves others: it may just be writing it."""

READY = "ready"
"""What is asked to wait until the holder has opened the bank."""
GIVE_UP = "give up"
"""What is asked of a holder by whoever has to hold the bank itself; the answer is whether it made way."""


class HolderGoneError(MembankError):
    """Nobody answers where the holder of the bank should: it ends, has ended, or does not listen."""


class HolderUnableError(MembankError):
    """The holder has no model that encodes; `error` is what it said."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def call_holder(bank: Path, name: str, passed: Mapping[str, Any], progress: Progress | None = None) -> Any:
    """Call a method of the bank in the process that holds it; returns what it returned.

    Args:
        passed: its arguments by name, as `to_json` writes them.

    Raises:
        HolderGoneError: there is no answer; whether it was done nobody knows.
        HolderUnableError: it would have to encode, and cannot.
        BankLockedError: it is stopped, and holds the bank.
        InvalidInputError: what is passed is too much.
        Whatever the method raises.
    """
    asked = {"call": name, "given": passed, "progress": progress is not None}
    point = find(bank)
    if point is None:
        raise HolderGoneError(f"the process that holds {bank} does not listen")
    try:
        with point.connect(GREETING_SECONDS) as line:
            _greet(line, point, bank)
            send(line, asked)
            while "progress" in (answer := receive(line)):
                _tell(progress, answer["progress"])
    except SilentLineError as exc:
        raise BankLockedError(f"{bank} is held by a process that does not answer: let it go on, or end it") from exc
    except FrameTooLongError as exc:
        raise InvalidInputError(f"this is too much to hand over at once: {exc}") from exc
    except OSError as exc:
        raise HolderGoneError(f"the process that holds {bank} does not answer: {exc}") from exc
    if "error" in answer:
        error = error_from_json(*answer["error"])
        raise HolderUnableError(error) if answer.get("unable") else error
    return from_json(answer["result"])


def _greet(line: socket.socket, point: MeetingPoint, bank: Path) -> None:
    """Prove to each other that both may read the bank's directory."""
    nonce = secrets.token_hex(16)
    send(line, {"membank": PROTOCOL, "nonce": nonce})
    greeting = receive(line, MOST_BYTES_OF_A_GREETING, GREETING_SECONDS)
    if not point.proves("holder", nonce, greeting.get("proof")):
        raise HolderGoneError(f"whoever listens for {bank} does not hold it")
    send(line, {"proof": point.proof("joiner", str(greeting.get("nonce")))})


def _tell(progress: Progress | None, told: Any) -> None:
    if progress is not None:
        progress(*told)


def patience_with(path: Path) -> float:
    """How long a holder that does not answer may be changing places with another one."""
    return CHANGING_SECONDS if WriterLock(path).is_shared() else SILENT_SECONDS


def nobody_let_in(path: Path, holder: str) -> str:
    """What to say of a bank whose holder serves nobody."""
    return (
        f"{path} is being written by {holder}, which lets nobody else in. Close it there, or open the bank here with "
        "read_only=True (membank recall, why, stats and export do so by themselves)"
    )
