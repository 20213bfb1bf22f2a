"""What a bank records of the model that made it, read without opening the bank.

A bank keeps the id of its model, which names what was captured: layer, pooling and template. From it the same
states are asked for again, so that nobody has to say twice, and no choice is made anew.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from membank_llama.adapters.prompt_templates import TEMPLATES, template_mark
from membank_llama.core.errors import BankCorruptError, BankFormatError, InvalidInputError
from membank_llama.gguf.fingerprint import fingerprint

from .bank_files import DATABASE, check_files
from .bank_records import model_card
from .database import BankDatabase, translate, translating
from .schema import VERSION, version_of
from .schema_check import checked_version

_CAPTURED = re.compile(
    r".+-(?:pooled|(?:final|L(?P<layer>\d+))-(?P<pooling>content|mean|last|weighted))"
    rf"(?:-(?P<named>{'|'.join(TEMPLATES)})|(?P<hashed>-t[0-9a-f]{{8}}))?"
)


def recorded_model(path: Path) -> dict[str, Any] | None:
    """The model card that a bank keeps; None where there is no bank, or none written to yet.

    Raises:
        BankError: what is there is no bank, or cannot be read.
    """
    card = _read(path, lambda database: database.scalar("SELECT value FROM meta WHERE key = 'model'"))
    try:
        return None if card is None else vars(model_card(json.loads(card)))
    except (ValueError, TypeError, RecursionError) as exc:
        raise BankCorruptError(f"what {path} records of the model that made it is damaged ({exc})") from exc


def is_empty(path: Path) -> bool:
    """Whether there is no bank, or one without a memory: it takes whatever model comes.

    Raises:
        BankError: what is there is no bank, or cannot be read.
    """
    return not _read(path, lambda database: database.scalar("SELECT EXISTS (SELECT 1 FROM memories)"))


def is_outdated(path: Path) -> bool:
    """Whether a bank is of an earlier format, which can be read only after it was opened for writing once.

    Raises:
        BankError: what is there is no bank, or cannot be read.
    """
    return bool(_read(path, lambda database: version_of(database.db.conn) < VERSION))


def _read(path: Path, asked: Callable[[BankDatabase], Any]) -> Any:
    # no registry: that would want the newest format, and whoever asks may be about to bring the bank there
    name = path / DATABASE
    check_files(path)
    try:
        # empty: whoever began it was stopped at once, and the next to write begins it again
        if not name.exists() or not name.stat().st_size:
            return None
        with closing(BankDatabase(name, read_only=True)) as database, translating(name):
            if not checked_version(database.db.conn, str(path)):
                raise BankFormatError(f"{name} is not a bank of membank-llama")
            return asked(database)
    except (sqlite3.OperationalError, OSError) as exc:
        raise translate(exc, name) from exc


def made_by(card: dict[str, Any], path: Path) -> bool:
    """Whether a bank was made by this file, under whatever name."""
    return fingerprint(path)[:16] in card["id"]


def captured_as(card: dict[str, Any] | None, path: Path, template: str | None = None) -> dict[str, Any]:
    """Layer, pooling and template that a bank was made with, from its model's id; empty where another file made it.

    Args:
        template: a text of one's own, where the bank was made with one: only its hash is recorded.

    Raises:
        InvalidInputError: the bank was made with a text of one's own, and not with the one given.
    """
    if card is None or not made_by(card, path):
        return {}
    match = _CAPTURED.fullmatch(card["id"])
    if match is None:
        return {}
    options: dict[str, Any] = {}
    if match["layer"]:
        options["layer"] = int(match["layer"])
    if match["pooling"]:
        options["pooling"] = match["pooling"]
    if match["named"]:
        options["template"] = match["named"]
    if match["hashed"]:
        if template is None or template_mark(template) != match["hashed"]:
            raise InvalidInputError(
                "the bank was made with a template of its own, of which only a hash is recorded; open it from Python "
                "with LlamaCppAdapter(…, template=…), or move it over with: membank reencode MODEL"
            )
        options["template"] = template
    return options
