"""Calls that a client makes for itself: a title for the chat, tags, suggestions, code to complete.

They hold the conversation again or no user at all, so they leave no memory and get none. They are known by how the
clients word them; a person who asks for a title in words of their own is answered as always.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from membank_llama.memory.prompt_injection import text_of

_BEGINNING = 600

_WORDED = re.compile(
    "|".join(
        (
            # Open WebUI: title, tags, follow-ups, search queries, image prompts, autocompletion, emoji
            r"\A### Task:\s*\n(?:Generate|Suggest|Analyze|Create|You are an autocompletion|Your task is to reflect)",
            r"\A### Task:.*?<chat_history>",
            r"\ABased on the chat history, determine whether a search is necessary",
            r"\AAvailable Tools: .*Return .* JSON",
            r"\AYour task is to reflect the speaker's likely facial expression",
            # LibreChat, LobeChat, Chatbox, Continue and others: names for a conversation
            r"\A(?:Please )?(?:provide|generate|create|write|give)\b[^.\n]{0,60}\b(?:title|name|headline)\b"
            r"[^.\n]{0,40}\b(?:conversation|chat|dialogue|thread|session)\b",
            r"\ABased on the (?:chat history|conversation)[^.\n]{0,80}\b(?:title|name)\b",
            r"\ASummari[sz]e (?:the|this|our) (?:conversation|chat|dialogue)\b[^.\n]{0,40}\b(?:title|words)\b",
            r"\AGiven the following[^.\n]{0,60}(?:please )?reply with a title for the chat",
        )
    ),
    re.DOTALL | re.IGNORECASE,
)
_INFILL = re.compile(
    r"<\|?fim[_▁-]?(?:prefix|begin|suffix|hole|middle|end)\|?>|<｜fim▁\w+｜>|<PRE> |\[SUFFIX\]|\[PREFIX\]"
)


def is_side_call(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether nobody but the client itself asked this."""
    users = [message for message in messages if message.get("role") == "user"]
    if len(users) != 1:
        return False
    text = text_of(users[0].get("content")).lstrip()
    return bool(_WORDED.search(text[:_BEGINNING]) or _INFILL.search(text))
