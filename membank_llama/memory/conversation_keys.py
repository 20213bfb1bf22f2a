"""What was said in a conversation, turn by turn, and the key by which each turn is known again.

Clients send the whole conversation with every call and do not say which one it is. The key of a turn is a hash of all
that users and assistants said up to it, so that a turn seen before is recognised: the block that stood in it is put
back, and its text is not remembered twice. One chain of keys serves both. It leaves out what clients change between two
calls, and what nobody said: white space, system prompts, tool results, thoughts, and the blocks themselves.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from membank_llama.core.thoughts import without_thoughts

from .block_echo import without_continued_block
from .prompt_block import holds_block, strip_block

ChatMessage: TypeAlias = Mapping[str, Any]
TEXT_PARTS = ("text", "input_text", "output_text")
"""Parts of a content that are text; the latter two are those of OpenAI's Responses API."""

_MAY_THINK = re.compile(r"[<\[◁]|analysis|commentary")
_MAY_ECHO = re.compile(r"[-–—•*]\s(?:\d{4}-\d\d|undated)|memory>|Notes from earlier")
"""Signs that a reply is to be looked through; most have none."""


@dataclass(frozen=True)
class ConversationTurn:
    """One thing that was said.

    Args:
        key: of everything up to and with this turn.
        depth: turns up to and with this one.
        place: of its message in the request; -1 for a reply.
        said_at: when, where that is known.
    """

    role: str
    text: str
    key: bytes = b""
    depth: int = 0
    place: int = -1
    said_at: float | None = None


@dataclass(frozen=True)
class ConversationKeys:
    """The turns of one request; `start`: the key of what came before the first, of the namespace alone as a rule."""

    start: bytes
    turns: tuple[ConversationTurn, ...]

    @classmethod
    def of(
        cls, messages: Sequence[ChatMessage], namespace: str, *, salt: bytes = b"", context: bytes | None = None
    ) -> ConversationKeys:
        """Read a request's messages.

        Args:
            salt: keeps keys that are written down from telling what was said.
            context: of a generate call that goes on from another, what that one gave back.
        """
        key = start = start_key(salt, namespace, context)
        turns: list[ConversationTurn] = []
        for place, message in enumerate(messages):
            role, text = str(message.get("role")), strip_block(text_of(message.get("content")))
            if role == "assistant":
                text = without_echo(without_thinking(text))
            if role in ("user", "assistant") and text.strip():
                key = _key(key, role, _plain(text))
                turns.append(ConversationTurn(role, text, key, len(turns) + 1, place))
        return cls(start, tuple(turns))

    def at(self, place: int | None) -> ConversationTurn | None:
        """The turn that a message of the request is; None where nothing is said in it."""
        return next((turn for turn in reversed(self.turns) if turn.place == place), None)

    def reply(self, text: str) -> ConversationTurn:
        """The turn that the reply to this request is; the next request will hold it."""
        last = self.turns[-1].key if self.turns else self.start
        return ConversationTurn("assistant", text, _key(last, "assistant", _plain(text)), len(self.turns) + 1)


def start_key(salt: bytes, namespace: str, context: bytes | None) -> bytes:
    """The key from which a request's turns go on."""
    return _key(salt, namespace, context.decode() if context else "")


def _key(before: bytes, *parts: str) -> bytes:
    digest = hashlib.sha256(before)
    for part in parts:
        digest.update(b"\0" + part.encode("utf-8", "replace"))
    return digest.digest()[:16]


def _plain(text: str) -> str:
    return " ".join(text.split())


# -- messages


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        parts = (
            part.get("text", "") for part in content if isinstance(part, Mapping) and part.get("type") in TEXT_PARTS
        )
        return "\n".join(part for part in parts if isinstance(part, str))
    return ""


def newest_user(messages: Sequence[ChatMessage]) -> int | None:
    """The user message that is to be answered: nothing but tool calls and their results may follow it."""
    for index in range(len(messages) - 1, -1, -1):
        role = messages[index].get("role")
        if role == "user":
            return index
        if role == "assistant" and not messages[index].get("tool_calls"):
            return None
    return None


def without_thinking(text: str, *, begun: bool = False) -> str:
    """A reply without what the model thought aloud. `begun`: the prompt ended within a thought."""
    return without_thoughts(text, begun=begun) if begun or _MAY_THINK.search(text) else text


def without_echo(text: str) -> str:
    """A reply without a block that the model repeats or goes on writing."""
    return without_continued_block(strip_block(text)) if _MAY_ECHO.search(text) else text


def blocks_in(messages: Sequence[ChatMessage]) -> str:
    """The texts of the user messages that a block stands in; empty where there is none."""
    texts = (text_of(message.get("content")) for message in messages if message.get("role") == "user")
    return "\n".join(text for text in texts if holds_block(text))
