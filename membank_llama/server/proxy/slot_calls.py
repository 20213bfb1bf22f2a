"""`SlotCalls`: llama-server's slots over HTTP: what is in them, written to a file, read from one, emptied.

A slot is one sequence of the server's KV cache. Files lie with the server, under the folder of `--slot-save-path`; a
file can be written over and not deleted. No call waits longer than it is given.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

CALL_SECONDS = 5.0
SAVE_SECONDS = 30.0
_REFUSALS = (401, 403, 404, 405, 501)
_PROPS = ("build_info", "chat_template", "model_alias", "model_ftype", "model_path", "modalities")
"""Of what a server says of itself, what the numbers in a file depend on."""


class SlotsRefusedError(Exception):
    """The server has no slots to be saved, or not for us."""


class SlotCallError(Exception):
    """A call failed, or took too long.

    Args:
        answered: the server itself says that it failed.
    """

    def __init__(self, message: str, *, answered: bool = False) -> None:
        super().__init__(message)
        self.answered = answered


@dataclass(frozen=True)
class ServerSlot:
    """A slot as it is now.

    Args:
        task: the number of the request that was in it last, rising since the server's start; None where none was.
        tokens: in its cache, as far as the server tells; 0 where none are, or it has had no request yet.
    """

    number: int
    is_processing: bool
    task: int | None
    tokens: int

    @property
    def is_empty(self) -> bool:
        """Whether it holds nothing, but for what was read from a file since its last request."""
        return not self.is_processing and not self.tokens


@dataclass(frozen=True)
class SlotFileSize:
    """What a call wrote or read: tokens, and bytes."""

    tokens: int
    size: int


class SlotCalls:
    """Asks one llama-server; used from one event loop.

    Args:
        address: as in ``http://127.0.0.1:8080``.
    """

    def __init__(self, address: str) -> None:
        # certificates take their time to be read, and are of no use to an address without them
        self._client = httpx.AsyncClient(base_url=address, trust_env=False, verify=address.startswith("https:"))

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()

    async def look(self, seconds: float) -> tuple[ServerSlot, ...]:
        """All slots.

        Raises:
            SlotsRefusedError, SlotCallError
        """
        told = await self._told("GET", "/slots", seconds=seconds)
        slots = tuple(_slot(one) for one in told) if isinstance(told, list) else ()
        if not slots:
            raise SlotsRefusedError("it does not list its slots")
        return slots

    async def save(self, slot: int, name: str, seconds: float = SAVE_SECONDS) -> SlotFileSize:
        """Write a slot to a file; raises as `look`."""
        told = await self._act(slot, "save", name, seconds)
        return SlotFileSize(_number(told, "n_saved"), _number(told, "n_written"))

    async def restore(self, slot: int, name: str, seconds: float = CALL_SECONDS) -> SlotFileSize:
        """Fill a slot from a file, whatever was in it; raises as `look`."""
        told = await self._act(slot, "restore", name, seconds)
        return SlotFileSize(_number(told, "n_restored"), _number(told, "n_read"))

    async def erase(self, slot: int, seconds: float = CALL_SECONDS) -> None:
        """Empty a slot; raises as `look`."""
        await self._told("POST", f"/slots/{slot}?action=erase", {}, seconds)

    async def fingerprint(self, seconds: float = CALL_SECONDS) -> str:
        """A mark of the model that answers and of the program, as far as the server tells them; raises as `look`."""
        props = _mapping(await self._told("GET", "/props", seconds=seconds))
        told = {name: props.get(name) for name in _PROPS}
        listed = _mapping(await self._told("GET", "/v1/models", seconds=seconds)).get("data")
        told["meta"] = [_mapping(one).get("meta") for one in listed] if isinstance(listed, list) else None
        told["adapters"] = await self._told("GET", "/lora-adapters", seconds=seconds)
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]

    async def _act(self, slot: int, action: str, name: str, seconds: float) -> Mapping[str, Any]:
        return _mapping(await self._told("POST", f"/slots/{slot}?action={action}", {"filename": name}, seconds))

    async def _told(self, method: str, path: str, body: Any = None, seconds: float = CALL_SECONDS) -> Any:
        try:
            answer = await self._client.request(method, path, json=body, timeout=seconds)
            if answer.status_code in _REFUSALS:
                raise SlotsRefusedError(f"it answers {answer.status_code} to {path.partition('?')[0]}")
            if answer.status_code != 200:
                raise SlotCallError(f"it answers {answer.status_code} to {path}", answered=True)
            return answer.json()
        except (httpx.HTTPError, ValueError, RecursionError) as exc:
            raise SlotCallError(f"{path}: {str(exc) or type(exc).__name__}") from exc


def _slot(told: Any) -> ServerSlot:
    task = _mapping(told).get("id_task")
    number = _mapping(told).get("id")
    if not isinstance(number, int):
        raise SlotsRefusedError("it does not list its slots")
    known = isinstance(task, int)
    tokens = told.get("n_prompt_tokens", -1) if known else 0
    if not isinstance(tokens, int) or tokens < 0:
        # an older program does not say how much is in a slot, by which alone they are told apart
        raise SlotsRefusedError("it does not say what is in its slots")
    return ServerSlot(number, bool(told.get("is_processing")), task if known else None, tokens)


def _number(told: Mapping[str, Any], name: str) -> int:
    value = told.get(name)
    if not isinstance(value, int):
        raise SlotCallError(f"it does not say {name}")
    return value


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
