"""`ChatTranscript`: a chat as it was left, and the file it is kept in, which may come from a stranger.

JSON: the messages in order, each user message with the block that stood in it. What is not exactly that is damaged.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from membank_llama.core.errors import BankCorruptError, BankFormatError, BankStorageError
from membank_llama.store.bank_files import read_limited

from .prompt_block import Block, KeptBlock

TRANSCRIPT_FORMAT = 1
MOST_BYTES = 16 << 20


@dataclass(frozen=True)
class ChatTranscript:
    """A chat as it was left.

    Args:
        name: of the conversation, and of its file.
        model: the name of the file that answered.
        begun, used: when, seconds since 1970.
        blocks: what stood in the user messages, by place.
    """

    name: str
    namespace: str
    model: str
    begun: float
    used: float
    messages: tuple[dict[str, str], ...]
    blocks: Mapping[int, KeptBlock]

    @property
    def turns(self) -> int:
        """How often something was said and answered."""
        return sum(message["role"] == "user" for message in self.messages)


def transcript_bytes(chat: ChatTranscript) -> bytes:
    """A chat as its file holds it."""
    messages: list[dict[str, Any]] = [dict(message) for message in chat.messages]
    for place, (block, since) in chat.blocks.items():
        messages[place]["block"] = {"text": block.text, "ids": list(block.ids), "since": since}
    record = {
        "format": TRANSCRIPT_FORMAT,
        "namespace": chat.namespace,
        "model": chat.model,
        "begun": chat.begun,
        "used": chat.used,
        "messages": messages,
    }
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass")


def read_transcript(path: Path) -> ChatTranscript:
    """The chat in a file.

    Raises:
        BankCorruptError: it is none of ours.
        BankFormatError: a later version wrote it, or it is no plain file.
        BankStorageError: the system refused.
    """
    try:
        data = read_limited(path, MOST_BYTES)
    except OSError as exc:
        raise BankStorageError(f"cannot read the chat {path}: {exc.strerror or exc}; check its permissions") from exc
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise _damaged(path) from exc
    version = record.get("format") if isinstance(record, dict) else None
    if isinstance(version, bool) or not isinstance(version, int):
        raise _damaged(path)
    if version > TRANSCRIPT_FORMAT:
        raise BankFormatError(
            f"the chat {path} was written by a later version of membank-llama; use that, or delete the file"
        )
    if version != TRANSCRIPT_FORMAT or not _is_sound(record):
        raise _damaged(path)
    messages = record["messages"]
    blocks = {
        place: (Block(block["text"], ids=tuple(block["ids"])), float(block["since"]))
        for place, message in enumerate(messages)
        if (block := message.get("block")) is not None
    }
    said = tuple({"role": message["role"], "content": message["content"]} for message in messages)
    begun, used = float(record["begun"]), float(record["used"])
    return ChatTranscript(path.stem, record["namespace"], record["model"], begun, used, said, blocks)


def _damaged(path: Path) -> BankCorruptError:
    return BankCorruptError(f"the chat {path} is damaged, or none that membank-llama wrote")


def _is_sound(record: Mapping[str, Any]) -> bool:
    messages = record.get("messages")
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
        return False
    roles = [message["role"] for message in messages]
    said = roles[roles[:1] == ["system"] :]
    return (
        bool(said)
        and said == ["user", "assistant"] * (len(said) // 2)
        and isinstance(record.get("namespace"), str)
        and isinstance(record.get("model"), str)
        and all(map(_is_time, (record.get("begun"), record.get("used"))))
    )


def _is_message(message: Any) -> bool:
    if not isinstance(message, dict) or not isinstance(message.get("content"), str):
        return False
    block = message.get("block")
    return message.get("role") in ("system", "user", "assistant") and (
        block is None or (message["role"] == "user" and _is_block(block))
    )


def _is_block(block: Any) -> bool:
    return (
        isinstance(block, dict)
        and isinstance(block.get("text"), str)
        and _is_time(block.get("since"))
        and isinstance(block.get("ids"), list)
        and all(type(number) is int and 0 < number < 1 << 63 for number in block["ids"])
    )


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) < 1 << 62
