"""A server that answers as llama-server does where its slots are concerned, and fails where a test wants it to."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from .stand_ins import whole_body

PROPS = {"default_generation_settings": {"n_ctx": 4096}, "build_info": "b1-x", "model_path": "/m.gguf"}
BYTES_A_TOKEN = 1000
WINDOW = 100


@dataclass
class FakeSlot:
    task: int | None = None
    words: list[str] = field(default_factory=list)


class FakeSlots:
    """Words are its tokens. `files` outlive `restart`, as on a disk.

    Args:
        refuses: a status for whatever is done with slots, by action.
        late: actions that are not answered for as long as they stand here.
        forgetful: it finds nothing of a slot that was restored.
        windowed: its files hold the last words alone.
    """

    def __init__(self, slots: int = 2) -> None:
        self.refuses: dict[str, int] = {}
        self.late: set[str] = set()
        self.forgetful = False
        self.windowed = False
        self.model = "/m.gguf"
        self.files: dict[str, list[str]] = {}
        self.done: list[tuple[str, int, str]] = []
        self.asked: list[dict[str, Any]] = []
        self.looks = 0
        self._count = slots
        self.restart()

    def restart(self) -> None:
        self.slots = [FakeSlot() for _ in range(self._count)]
        self._task = 0

    def actions(self, name: str) -> list[tuple[int, str]]:
        """What was done by this name: slot, file."""
        return [(slot, file) for action, slot, file in self.done if action == name]

    async def close(self) -> None:
        return

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = await whole_body(receive)
        status, said = await self._answer(scope, json.loads(body or b"{}"))
        data = json.dumps(said).encode()
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]}
        )
        await send({"type": "http.response.body", "body": data})

    async def _answer(self, scope: Any, body: dict[str, Any]) -> tuple[int, Any]:
        path = scope["path"]
        if path == "/props":
            return 200, {**PROPS, "model_path": self.model}
        if path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": "m", "meta": {"n_params": 1}}]}
        if path == "/lora-adapters":
            return 200, []
        if path == "/v1/chat/completions":
            return 200, self._chat(body)
        if not path.startswith("/slots"):
            return 404, {}
        action = parse_qs(scope["query_string"].decode()).get("action", ["look"])[0]
        while action in self.late:
            await asyncio.sleep(0.01)
        if action == "look":
            self.looks += 1
        else:
            self.done.append((action, int(path.rpartition("/")[2]), body.get("filename", "")))
        if action in self.refuses:
            return self.refuses[action], {"error": {"message": "no"}}
        return self._act(action, path, body.get("filename", ""))

    def _act(self, action: str, path: str, file: str) -> tuple[int, Any]:
        if action == "look":
            return 200, [self._shown(number, slot) for number, slot in enumerate(self.slots)]
        slot = self.slots[int(path.rpartition("/")[2])]
        if action == "erase":
            slot.words = []
            return 200, {}
        if action == "save":
            self.files[file] = list(slot.words)
            return 200, {"n_saved": len(slot.words), "n_written": self._size(slot.words)}
        if file not in self.files:
            slot.words = []
            return 400, {"error": {"message": "Unable to restore slot"}}
        slot.words = [] if self.forgetful else list(self.files[file])
        return 200, {"n_restored": len(self.files[file]), "n_read": self._size(self.files[file])}

    def _size(self, words: list[str]) -> int:
        return BYTES_A_TOKEN * (min(len(words), WINDOW) if self.windowed else len(words))

    def _shown(self, number: int, slot: FakeSlot) -> dict[str, Any]:
        used = {} if slot.task is None else {"id_task": slot.task, "n_prompt_tokens": len(slot.words)}
        return {"id": number, "is_processing": False, **used}

    def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        words = [word for message in body["messages"] for word in f"{message['role']} {message['content']}".split()]
        slot = self.slots[body["id_slot"]] if "id_slot" in body else max(self.slots, key=lambda s: _common(s, words))
        cached = _common(slot, words)
        self._task += 1
        slot.task, slot.words = self._task, [*words, "assistant", "Noted."]
        timings = {"cache_n": cached, "prompt_n": len(words) - cached, "predicted_n": 2}
        message = {"role": "assistant", "content": "Noted."}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "timings": timings}


def _common(slot: FakeSlot, words: list[str]) -> int:
    pairs = enumerate(zip(slot.words, words, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(slot.words), len(words)))
