"""Standard input and output as the agent's alone: whatever else reads or prints in this process, or in one that it
starts, reads nothing and prints to standard error, llama.cpp too.

Lines come and go on the event loop. Where it cannot wait for them, as for a file or on Windows, the SDK's own way is
taken, which is the same with threads.
"""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from io import FileIO

from ..asgi import repaired_json

LONGEST_LINE_BYTES = 8 << 20


class AgentInput:
    """Lines of an agent.

    Args:
        settled: waited for behind the last line, before it is said that there are no more.
    """

    def __init__(self, reader: asyncio.StreamReader, settled: Callable[[], Awaitable[None]]) -> None:
        self._reader = reader
        self._settled = settled

    def __aiter__(self) -> AgentInput:
        return self

    async def __anext__(self) -> str:
        try:
            line = await self._reader.readline()
        except ValueError:
            # longer than any message: what is left of it is no JSON, which the agent is told
            return "a line too long"
        if not line:
            await self._settled()
            raise StopAsyncIteration
        return repaired_json(line.rstrip()).decode("utf-8", "replace")


class AgentOutput:
    """Takes lines for an agent."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def write(self, text: str) -> None:
        """Put a line in the queue."""
        self._writer.write(text.encode("utf-8", "replace"))

    async def flush(self) -> None:
        """Wait while too much is in the queue."""
        with suppress(ConnectionError):
            await self._writer.drain()


@asynccontextmanager
async def agent_pipes(
    settled: Callable[[], Awaitable[None]],
) -> AsyncIterator[tuple[AgentInput, AgentOutput] | tuple[None, None]]:
    """Both, for as long as this lasts; None where the event loop cannot wait for them.

    Args:
        settled: comes back when all that was asked for is done.
    """
    if sys.platform == "win32" or not (_is_pipe(0) and _is_pipe(1)):
        yield None, None
        return
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        incoming, outgoing = _moved_away(stack, 0, os.devnull), _moved_away(stack, 1, None)
        reader = asyncio.StreamReader(LONGEST_LINE_BYTES)
        source, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), incoming)
        stack.callback(source.close)
        sink, protocol = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), outgoing
        )
        stack.callback(sink.close)
        yield AgentInput(reader, settled), AgentOutput(asyncio.StreamWriter(sink, protocol, None, loop))


def _is_pipe(number: int) -> bool:
    try:
        kind = os.fstat(number).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)


def _moved_away(stack: ExitStack, number: int, instead: str | None) -> FileIO:
    """A standard stream under another number; in its place is a file, or standard error, until the end."""
    moved = os.dup(number)
    place = os.open(instead, os.O_RDONLY) if instead is not None else os.dup(2)
    os.dup2(place, number)
    os.close(place)
    stack.callback(_moved_back, os.dup(moved), number)
    return FileIO(moved, "rb" if instead is not None else "wb")


def _moved_back(moved: int, number: int) -> None:
    os.set_blocking(moved, True)
    os.dup2(moved, number)
    os.close(moved)
