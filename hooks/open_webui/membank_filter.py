"""
title: membank
author: membank-llama contributors
version: 1.0.0
license: MIT
required_open_webui_version: 0.5.0
description: Long-term memory by a membank server, each user's own. Where the server is away, chats go on without it.
"""

# What `inlet` returns is what the model sees; Open WebUI's own history keeps the message as it was typed. `outlet`
# gives the conversation back untouched. Where the server is slow, away or at odds with a request, the chat goes on
# without memory and the log says why.

import asyncio
import hashlib
import logging
import re
from typing import Any

import httpx
from pydantic import BaseModel, Field

log = logging.getLogger("membank_filter")

# what Open WebUI folds away on the screen and takes out again before the model sees the next message
FOLDED = re.compile(r'<details\b[^>]*\btype="(?:reasoning|code_interpreter|tool_calls)".*?</details>\s*', re.DOTALL)
UNSAVED = ("temporary:", "local:")


class Filter:
    class Valves(BaseModel):
        url: str = Field("http://127.0.0.1:11435", description="Where `membank serve` listens, seen from Open WebUI.")
        namespace_per_user: bool = Field(True, description="A memory for each user; off: `namespace` for all of them.")
        namespace: str = Field("default", description="The memory of all users where `namespace_per_user` is off.")
        token: str = Field(
            "", description="For `membank serve --tokens`: its namespace is everybody's, whatever is above."
        )
        timeout: float = Field(1.0, gt=0, description="Seconds to wait; after that the chat goes on without memory.")
        max_tokens: int = Field(
            0, ge=0, description="The most that memories may take of a prompt; 0: the server decides."
        )
        learn_temporary_chats: bool = Field(False, description="Whether temporary chats are remembered, too.")
        priority: int = Field(10, description="Filters of lower numbers run first.")

    class UserValves(BaseModel):
        enabled: bool = Field(
            True, description="Whether membank reminds the model of earlier chats, and keeps new ones."
        )

    def __init__(self) -> None:
        self.valves = self.Valves()
        self._tls = httpx.create_ssl_context()

    async def inlet(
        self,
        body: dict,
        __user__: dict | None = None,
        __metadata__: dict | None = None,
        __task__: str | None = None,
    ) -> dict:
        if _is_task(body, __metadata__, __task__) or not _wanted(__user__):
            return body
        try:
            mine = body["messages"]
            request: dict[str, Any] = {"messages": [_plain(message) for message in mine]}
            if self.valves.max_tokens:
                request["max_tokens"] = self.valves.max_tokens
            reply = await self._post("recall", request, __user__)
            body["messages"] = [
                _with_text(message, sent["content"], got["content"])
                for message, sent, got in zip(mine, request["messages"], reply["messages"], strict=True)
            ]
        except Exception as exc:  # noqa: BLE001 - a chat never fails because of its memory
            log.warning("membank: answering without memory: %s", _reason(exc))
        return body

    async def outlet(
        self,
        body: dict,
        __user__: dict | None = None,
        __metadata__: dict | None = None,
        __task__: str | None = None,
    ) -> dict:
        if _is_task(body, __metadata__, __task__) or not _wanted(__user__):
            return body
        chat = str(body.get("chat_id") or (__metadata__ or {}).get("chat_id") or "")
        if chat.startswith(UNSAVED) and not self.valves.learn_temporary_chats:
            return body
        try:
            messages = [_plain(message) for message in body["messages"]]
            if messages and messages[-1]["role"] == "assistant" and messages[-1]["content"]:
                await self._post("learn", {"messages": messages}, __user__)
        except Exception as exc:  # noqa: BLE001 - nor because it cannot be remembered
            log.warning("membank: this turn is not remembered: %s", _reason(exc))
        return body

    async def _post(self, verb: str, request: dict, user: dict | None) -> dict:
        url = f"{self.valves.url.rstrip('/')}/membank/{verb}"
        async with httpx.AsyncClient(verify=self._tls, trust_env=False) as client:
            sending = client.post(url, json=request, headers=self._headers(user), timeout=self.valves.timeout)
            # httpx counts silences; this counts all of it
            response = await asyncio.wait_for(sending, self.valves.timeout)
        response.raise_for_status()
        return response.json()

    def _headers(self, user: dict | None) -> dict[str, str]:
        if self.valves.token:
            return {"Authorization": f"Bearer {self.valves.token}"}
        name = _namespace(user) if self.valves.namespace_per_user else self.valves.namespace
        return {"X-Membank-Namespace": name}


def _is_task(body: dict, metadata: dict | None, task: str | None) -> bool:
    """Whether this writes a title, tags, a search query …: nothing that anybody said."""
    return bool(task or (metadata or {}).get("task") or (body.get("metadata") or {}).get("task"))


def _wanted(user: dict | None) -> bool:
    valves = (user or {}).get("valves")
    return bool(valves.get("enabled", True) if isinstance(valves, dict) else getattr(valves, "enabled", True))


def _namespace(user: dict | None) -> str:
    """The user's id (or e-mail) as a namespace; two users never get the same one."""
    who = str((user or {}).get("id") or (user or {}).get("email") or "")
    if not who:
        raise ValueError("the user has neither id nor e-mail; switch `namespace_per_user` off to share one memory")
    safe = re.sub(r"[^A-Za-z0-9._-]", "-", who).lstrip("._-")[:48]
    return safe if safe == who else f"{safe or 'user'}-{hashlib.sha256(who.encode()).hexdigest()[:12]}"


def _plain(message: dict) -> dict[str, str]:
    """Role and text; pictures stay where they are, thoughts and tool calls are not said to anybody."""
    content = message.get("content")
    if isinstance(content, list):
        content = "\n".join(part["text"] for part in content if part.get("type") == "text")
    if not content:  # since 0.10 an answer may stand in its output items alone
        items = [item for item in message.get("output") or [] if item.get("type") == "message"]
        parts = [part for item in items for part in item.get("content") or []]
        content = "\n".join(part["text"] for part in parts if part.get("text"))
    if message["role"] == "assistant":
        content = FOLDED.sub("", content)
    return {"role": message["role"], "content": content}


def _with_text(message: dict, before: str, after: str) -> dict:
    """The message with another text, where the server changed it; all else as it was."""
    if after == before:
        return message
    content = message.get("content")
    if not isinstance(content, list):
        return {**message, "content": after}
    others = [part for part in content if part.get("type") != "text"]
    return {**message, "content": [{"type": "text", "text": after}, *others]}


def _reason(exc: Exception) -> str:
    if isinstance(exc, httpx.HTTPStatusError):
        return f"HTTP {exc.response.status_code}: {exc.response.text[:200]}"
    return f"{type(exc).__name__} {exc}".strip()
