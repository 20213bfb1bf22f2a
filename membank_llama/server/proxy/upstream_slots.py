"""`UpstreamSlots`: what a llama-server has read of a conversation outlives the server, in files of its own.

After a reply, in a quiet moment, the slot that gave it is written to a file; before the conversation's next request,
where the server has been started anew, the file is read into an empty slot, never over what another has there, and the
request is sent to that slot. The server compares the tokens itself and reads on from the first that differs, so that no
file can bring another's words into an answer. Whether reading helps a model is decided by what the server says it found
in its cache. All of it is done as well as can be: what fails or is late is left, and the request goes on as it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from membank_llama.core.bounded import keep_newest

from .metrics import Metrics
from .reply_parts import PromptTokens
from .server_slots import ServerSlots
from .slot_calls import ServerSlot, SlotCallError, SlotsRefusedError
from .slot_files import LEAST_APART, SlotFile, SlotFiles
from .upstream_server import UpstreamServer

logger = logging.getLogger("membank_llama")

LOOK_SECONDS = 0.5
"""How long it may take to see what is in the slots; a few milliseconds as a rule."""
RESTORE_SECONDS = 5.0
QUIET_SECONDS = 0.2
CLOSE_SECONDS = 2.0
"""How long a file that is being written is waited for at the end."""
LEAST_TOKENS = 64
"""Tokens of a conversation below which reading them again is as quick."""
NEW_TOKENS, NEW_SHARE = 256, 8
"""A file is written again after so many new tokens, and after this part of what is in it."""
MOST_UNKNOWN = 40
"""How often it is asked who answers, a moment apart, before what was read is not written after all."""
IN_VAIN = 2
"""Files read one after the other of which nothing was used, after which a model's are not read any more."""
USED_SHARE = 10
"""The part of a file's tokens below which nothing was used: all conversations begin alike."""
MOST_KNOWN = 1024


@dataclass
class SlotTurn:
    """One request on its way.

    Args:
        forgets: how often something had been forgotten before its memories were recalled.
        conversation: whose; empty where nothing is to be done for it.
        slot: into which its file was read; None where none was.
        file: what was in that.
        left: tokens that the server should still have in a cache of its own.
    """

    namespace: str
    forgets: int
    conversation: str = ""
    slot: int | None = None
    file: SlotFile | None = None
    left: int = 0


@dataclass(frozen=True)
class _LastAnswer:
    """Of a conversation: the start of the server that gave it, and how many tokens there were then."""

    start: int
    tokens: int


class UpstreamSlots:
    """The slots of one server, used from one event loop.

    Args:
        server: what is known of it.
        files: of the bank.
    """

    def __init__(self, server: UpstreamServer, files: SlotFiles, metrics: Metrics) -> None:
        self._files = files
        self._metrics = metrics
        self._slots = ServerSlots(server)
        self._answers: OrderedDict[str, _LastAnswer] = OrderedDict()
        self._owners: OrderedDict[tuple[int, int, int | None], str] = OrderedDict()
        self._vain: dict[str, int] = {}
        self._under_way = 0
        self._waiting: OrderedDict[str, tuple[SlotTurn, PromptTokens]] = OrderedDict()
        self._worker: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False

    async def close(self) -> None:
        """Finish what is being written, where that is quick, and end."""
        self._loop, self._closing = None, True
        if self._worker is not None:
            await asyncio.wait({self._worker}, timeout=CLOSE_SECONDS)
            self._worker.cancel()
            with suppress(asyncio.CancelledError):
                await self._worker
        await self._slots.close()

    def forget(self, told: Mapping[str, Sequence[str]]) -> None:
        """Memories of these namespaces are about to go; any thread may say so, and no file of theirs is read again."""
        self._files.forget(told)
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):
                # the loop may have ended meanwhile
                loop.call_soon_threadsafe(self._start_work)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Around every request: nothing is written while there is one."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    # -- before a request

    def begin(self, namespace: str) -> SlotTurn:
        """A request has come; its memories are not recalled yet."""
        self._loop = asyncio.get_running_loop()
        return SlotTurn(namespace, self._files.forgets)

    async def before(self, turn: SlotTurn, conversation: str | None, body: Mapping[str, Any]) -> int | None:
        """The slot that a request is to be sent to, which holds what was read of its conversation; None as a rule."""
        if conversation is None or _has_its_own_way(body):
            return None
        # who answers may be known by the time that it has
        turn.conversation = conversation
        if not self._slots.are_on or not self._files.any:
            return None
        try:
            slot = await asyncio.wait_for(self._free_slot(turn), LOOK_SECONDS)
            if slot is not None and turn.file is not None:
                await self._restore(turn, turn.file, slot)
        except asyncio.TimeoutError:
            # it looks up between two steps of its work, of which others may make it do much
            if self._under_way <= 1:
                self._failed(SlotCallError("it is late"))
        except (SlotCallError, SlotsRefusedError) as exc:
            self._failed(exc)
        except Exception:
            logger.exception("a conversation's slot was not restored")
        return turn.slot

    async def _free_slot(self, turn: SlotTurn) -> int | None:
        """An empty slot for a conversation that has a file and no slot; None where that is not so."""
        slots, found = self._slots, self._file(turn)
        if slots.model and (found is None or not self._is_read()):
            return None
        seen = await slots.look(LOOK_SECONDS)
        found, last = self._file(turn), self._answers.get(turn.conversation)
        if found is None or not self._is_read() or _is_warm(found.tokens if last is None else last.tokens, seen):
            return None
        if last is not None and last.start == slots.start and slots.keep_what_they_held:
            turn.left = found.tokens
            return None
        turn.file = found
        return slots.claim(seen)

    def _file(self, turn: SlotTurn) -> SlotFile | None:
        return self._files.get(self._name(turn))

    def _name(self, turn: SlotTurn) -> str:
        return self._files.name_of(turn.namespace, turn.conversation, self._slots.model)

    def _is_read(self) -> bool:
        """Whether files of the model that answers now are read."""
        model = self._slots.model
        return self._files.grows_straight(model) is True and self._vain.get(model, 0) < IN_VAIN

    async def _restore(self, turn: SlotTurn, file: SlotFile, slot: int) -> None:
        name = self._name(turn)
        try:
            found = await self._slots.calls.restore(slot, name, RESTORE_SECONDS)
        except SlotCallError as exc:
            self._files.drop(name)
            if not exc.answered:
                # late: it is filled after all, and nobody sent to it
                raise
            # gone, or damaged: the server has emptied the slot
            self._slots.give_back(slot)
            self._metrics.slot_failures.inc()
            return
        turn.slot = slot
        if found.tokens != file.tokens:
            self._files.drop(name)

    # -- after a reply

    def answered(self, turn: SlotTurn, tokens: PromptTokens | None) -> None:
        """A request was answered to its end."""
        if turn.conversation and tokens is not None:
            if turn.slot is not None and turn.file is not None:
                self._judge(turn, turn.file, tokens.cached)
            elif turn.left and tokens.cached * 2 < turn.left:
                self._slots.keep_what_they_held = False
            last = _LastAnswer(self._slots.start, tokens.total)
            keep_newest(self._answers, turn.conversation, last, MOST_KNOWN)
            if tokens.total >= LEAST_TOKENS:
                keep_newest(self._waiting, turn.conversation, (turn, tokens), MOST_KNOWN)
        self._start_work()

    def _judge(self, turn: SlotTurn, file: SlotFile, cached: int) -> None:
        """See whether what was read from a file was used."""
        if cached * USED_SHARE >= file.tokens:
            self._vain[file.model] = 0
            self._metrics.slot_restores.inc()
            self._metrics.slot_tokens.inc(cached)
            return
        self._metrics.slot_failures.inc()
        self._files.drop(self._name(turn))
        self._vain[file.model] = self._vain.get(file.model, 0) + 1
        if self._vain[file.model] == IN_VAIN:
            logger.warning("%s uses nothing of the slots that are restored: they are no longer", self._slots)

    def _start_work(self) -> None:
        if (self._waiting or self._files.emptying) and (self._worker is None or self._worker.done()):
            self._worker = asyncio.ensure_future(self._work())

    async def _work(self) -> None:
        """Write what waits to be written, one after the other, while nobody asks anything."""
        try:
            while self._waiting or self._files.emptying:
                await asyncio.sleep(QUIET_SECONDS)
                unknown = 0
                while not self._closing and unknown < MOST_UNKNOWN and not await self._slots.is_known():
                    # it has only just come up
                    unknown += 1
                    await asyncio.sleep(QUIET_SECONDS)
                if self._closing or not self._slots.are_on:
                    self._waiting.clear()
                    return
                if self._under_way:
                    continue
                if self._waiting:
                    await self._write(*self._waiting.popitem()[1])
                elif not await self._empty_one():
                    return
        except (SlotCallError, SlotsRefusedError) as exc:
            self._waiting.clear()
            self._failed(exc)
        except Exception:
            logger.exception("a conversation's slot was not saved")

    async def _write(self, turn: SlotTurn, tokens: PromptTokens) -> None:
        slots = self._slots
        start = slots.start
        seen = await slots.look()
        if start and slots.start != start:
            return
        found = self._slot_of(turn, tokens, seen)
        if found is None or self._under_way:
            return
        keep_newest(self._owners, (slots.start, found.number, found.task), turn.conversation, MOST_KNOWN)
        if self._is_due(turn, found.tokens):
            await self._save(turn, found)

    def _slot_of(self, turn: SlotTurn, tokens: PromptTokens, slots: Sequence[ServerSlot]) -> ServerSlot | None:
        """The slot that gave an answer: by what the server says was read and said; None where that fits several."""
        start = self._slots.start
        fitting = [
            slot
            for slot in slots
            if not slot.is_processing
            and _holds(slot, tokens.total)
            and self._owners.get((start, slot.number, slot.task), turn.conversation) == turn.conversation
        ]
        return fitting[0] if len(fitting) == 1 else None

    def _is_due(self, turn: SlotTurn, tokens: int) -> bool:
        straight, file = self._files.grows_straight(self._slots.model), self._file(turn)
        if straight is False or turn.forgets != self._files.forgets:
            return False
        if file is None:
            return True
        least = LEAST_APART if straight is None else max(NEW_TOKENS, file.tokens // NEW_SHARE)
        return abs(tokens - file.tokens) >= least

    async def _save(self, turn: SlotTurn, slot: ServerSlot) -> None:
        files, name, model = self._files, self._name(turn), self._slots.model
        before = files.get(name)
        # until it is known to be whole, it is one of those that are to be emptied
        files.drop(name)
        await asyncio.to_thread(files.keep)
        try:
            written = await self._slots.calls.save(slot.number, name)
        except SlotsRefusedError:
            if before is None:
                files.emptied(name)
            raise
        if written.tokens != slot.tokens:
            # another's request came between
            self._metrics.slot_failures.inc()
            return
        self._metrics.slot_saves.inc()
        files.add(name, SlotFile(turn.namespace, model, written.tokens, written.size), turn.forgets)
        if files.grows_straight(model) is False:
            logger.warning("the slots of %s are not kept: its model looks back only so far", self._slots)
        await asyncio.to_thread(files.keep)

    async def _empty_one(self) -> bool:
        """Write an empty slot over the first file that is to be emptied; whether that was done."""
        name, seen = self._files.emptying, await self._slots.look()
        if name is None:
            return False
        # for what was forgotten a conversation is read once more, and not for order's sake
        chosen = self._slots.to_empty(seen, warm=self._files.is_urgent(name))
        if chosen is None or self._under_way:
            return False
        await self._slots.erase(chosen)
        if (await self._slots.calls.save(chosen, name)).tokens:
            return False
        self._files.emptied(name)
        await asyncio.to_thread(self._files.keep)
        return True

    def _failed(self, exc: Exception) -> None:
        self._metrics.slot_failures.inc()
        self._slots.failed(exc)


def _has_its_own_way(body: Mapping[str, Any]) -> bool:
    """Whether a request says itself which slot it wants, or that nothing is to be reused."""
    return body.get("id_slot", -1) != -1 or body.get("cache_prompt") is False


def _is_warm(tokens: int, slots: Sequence[ServerSlot]) -> bool:
    """Whether a slot holds a conversation still, as far as can be told by how much it holds."""
    return any(_holds(slot, tokens) for slot in slots)


def _holds(slot: ServerSlot, tokens: int) -> bool:
    """Whether a slot holds so many tokens; what was said last comes into the cache once something follows it."""
    return slot.tokens > 0 and tokens - 1 <= slot.tokens <= tokens
