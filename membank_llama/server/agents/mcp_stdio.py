"""Speaks MCP over standard input and output, to one agent, until it hangs up or the process is told to end.

While it does, standard output is the agent's alone: what llama.cpp or any library prints goes to standard error.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from membank_llama.memory.namespace_memories import NamespaceMemories

from .late_bank import LateBank
from .mcp_sdk import load_sdk
from .mcp_server import McpServer
from .reading_tools import AgentCall

THREADS = 4


def speak_over_stdio(bank: LateBank, namespace: str, *, writable: bool = True) -> None:
    """Serve one agent; closes the bank at its end.

    Raises:
        MissingExtraError: the SDK is not installed.
    """
    threads = ThreadPoolExecutor(THREADS, "membank-agent")

    def open_call(context: Any, client: str) -> AgentCall:
        return AgentCall(NamespaceMemories(bank.get(), namespace), client, writable=writable)

    def finish() -> None:
        threads.shutdown(wait=True)
        bank.close()

    server = McpServer(open_call, writable=writable, executor=threads).sdk_server
    try:
        asyncio.run(_speak(server, bank.start, finish))
    finally:
        finish()


async def _speak(server: Any, begin: Callable[[], Any], finish: Callable[[], None]) -> None:
    def end() -> None:
        # the thread that waits for the agent's next line cannot be ended: the process ends under it
        ending.append(asyncio.get_running_loop().run_in_executor(None, _leave, finish))

    ending: list[Any] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, end)
    async with load_sdk("mcp.server.stdio").stdio_server() as (incoming, outgoing):
        begin()
        await server.run(incoming, outgoing, server.create_initialization_options())


def _leave(finish: Callable[[], None]) -> None:
    try:
        finish()
    finally:
        os._exit(0)
