"""What a bank records of the model that made it, read without opening the bank.

A bank keeps the id of its model, which names what was captured: layer, pooling and template. From it the same
states are asked for again, so that nobody has to say twice, and no choice is made anew.
"""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

from .adapters.templates import TEMPLATES, template_mark
from .database import translate
from .errors import InvalidInputError
from .gguf_file import fingerprint
from .registry import Registry
from .store import DATABASE

_CAPTURED = re.compile(
    r".+-(?:pooled|(?:final|L(?P<layer>\d+))-(?P<pooling>mean|last|weighted))"
    rf"(?:-(?P<named>{'|'.join(TEMPLATES)})|(?P<hashed>-t[0-9a-f]{{8}}))?"
)


def recorded_model(path: Path) -> dict[str, Any] | None:
    """The model card that a bank keeps; None where there is no bank, or none written to yet.

    Raises:
        BankError: what is there is no bank, or cannot be read.
    """
    database = path / DATABASE
    try:
        # empty: whoever began it was stopped at once, and the next to write begins it again
        if not database.exists() or not database.stat().st_size:
            return None
        registry = Registry(database, read_only=True)
        try:
            card = registry.get_meta("model")
        finally:
            registry.close()
    except (sqlite3.OperationalError, OSError) as exc:
        raise translate(exc, database) from exc
    return card if isinstance(card, dict) else None


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
