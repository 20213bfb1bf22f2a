"""`forget_typed`: what a terminal leaves in a bank's directory, the lines typed in chats and the question asked last,
loses what is forgotten, whichever program forgets it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from membank_llama.core.atomic_files import write_whole
from membank_llama.core.errors import BankError, BankStorageError
from membank_llama.store.bank_files import HISTORY, LAST_RECALL, open_plain

from .forgotten_turns import which_hold


def forget_typed(bank: Path, texts: Mapping[str, Sequence[str]]) -> None:
    """Take lines that hold these texts, given by namespace, out of the history, and drop the last recall (see
    `removal.Listener`).

    Raises:
        BankStorageError: they are still there; the message names the files.
    """
    try:
        # its question may be about what is forgotten in whatever words
        (bank / LAST_RECALL).unlink(missing_ok=True)
        if os.path.lexists(bank / HISTORY):
            _take_out(bank / HISTORY, [text for some in texts.values() for text in some])
    except (OSError, BankError) as exc:
        raise BankStorageError(
            f"nothing was forgotten, for what was typed in a chat may be in {bank / HISTORY} or {LAST_RECALL}, which "
            f"cannot be changed ({exc}); delete them, then try again"
        ) from exc


def _take_out(path: Path, texts: Collection[str]) -> None:
    with os.fdopen(open_plain(path, os.O_RDONLY), encoding="utf-8", errors="replace") as file:
        blocks = file.read().split("\n\n")
    # prompt_toolkit's format: "# when", then the lines of the entry, each behind a "+", then a blank line
    typed = ["\n".join(line[1:] for line in block.split("\n") if line.startswith("+")) for block in blocks]
    held = which_hold(texts, typed)
    if any(held):
        kept = [block for block, gone in zip(blocks, held, strict=True) if not gone]
        write_whole(path, ("\n\n".join(kept).rstrip("\n") + "\n").encode())
