"""`ServerSlots`: what is known of the slots of one llama-server: which are empty, and whether it was started anew."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from .slot_calls import ServerSlot, SlotCalls, SlotsRefusedError
from .upstream_kind import LLAMA_SERVER
from .upstream_server import UpstreamServer

logger = logging.getLogger("membank_llama")

BACKGROUND_SECONDS = 5.0
PAUSE_SECONDS = 30.0
"""How long a server that failed, or was late, is left alone."""


class ServerSlots:
    """Looks at the slots of one server, from one event loop."""

    def __init__(self, server: UpstreamServer) -> None:
        self.calls = SlotCalls(server.address)
        self.model = ""
        """A mark of the model that answers; empty until it is known."""
        self.start = 0
        """Counts how often the server was seen to be started."""
        self.keep_what_they_held = True
        """Whether the server puts aside what it takes out of a slot; it says nothing of that, and as a rule does."""
        self._server = server
        self._tasks: dict[int, int | None] = {}
        self._filled: set[int] = set()
        self._refused: int | None = None
        self._paused_until = 0.0

    def __str__(self) -> str:
        return str(self._server)

    async def close(self) -> None:
        """Let go of the connections."""
        await self.calls.close()

    @property
    def are_on(self) -> bool:
        """Whether they can be used: of a llama-server with one model, which neither refused nor failed just now."""
        kind = self._server.kind
        fits = kind is not None and kind.name == LLAMA_SERVER and not kind.routes
        return fits and self._refused != self._server.generation and time.monotonic() >= self._paused_until

    async def is_known(self) -> bool:
        """Whether it has been found out who answers, which is asked again where it has not."""
        return await asyncio.to_thread(self._server.recognise) is not None

    def failed(self, exc: Exception) -> None:
        """A call failed."""
        if isinstance(exc, SlotsRefusedError):
            self._refused = self._server.generation
            logger.warning("the slots of %s are not kept: %s; is it started with --slot-save-path?", self, exc)
        else:
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            logger.warning("the slots of %s are left alone for a while: %s", self, exc)

    async def look(self, seconds: float = BACKGROUND_SECONDS) -> tuple[ServerSlot, ...]:
        """All slots; raises as the calls do."""
        slots = await self.calls.look(seconds)
        tasks = {slot.number: slot.task for slot in slots}
        # what was read from a file is seen in no other way than by the request that follows
        self._filled = {number for number in self._filled if self._tasks.get(number) == tasks.get(number)}
        if self._is_anew(tasks):
            self.model = ""
        self._tasks = tasks
        if not self.model:
            model = await self.calls.fingerprint(seconds)
            self.model, self.start, self.keep_what_they_held = model, self.start + 1, True
            self._filled.clear()
        return slots

    def _is_anew(self, tasks: dict[int, int | None]) -> bool:
        """Whether requests are numbered from the beginning again."""
        seen = {number: task for number, task in self._tasks.items() if task is not None}
        now = {number: task for number, task in tasks.items() if task is not None}
        return any(now.get(number, -1) < task for number, task in seen.items())

    def claim(self, slots: Sequence[ServerSlot]) -> int | None:
        """A slot that nothing is in, which is about to be filled; None where there is none."""
        free = [slot.number for slot in slots if slot.is_empty and slot.number not in self._filled]
        self._filled.update(free[:1])
        return free[0] if free else None

    def give_back(self, slot: int) -> None:
        """One that was to be filled is empty after all."""
        self._filled.discard(slot)

    def to_empty(self, slots: Sequence[ServerSlot], *, warm: bool) -> int | None:
        """A slot that may be emptied; `warm`: be there something in it, the least that can be had."""
        fitting = [slot for slot in slots if not slot.is_processing]
        if not warm:
            fitting = [slot for slot in fitting if slot.is_empty and slot.number not in self._filled]
        return min(fitting, key=lambda slot: (slot.number in self._filled, slot.tokens)).number if fitting else None

    async def erase(self, slot: int) -> None:
        """Empty one."""
        await self.calls.erase(slot)
        self._filled.discard(slot)
