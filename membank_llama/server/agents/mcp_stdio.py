"""Speaks MCP over standard input and output, to one agent, until it hangs up or the process is told to end.

A signal to end is as good as its hanging up: what it asked for is done, and the bank is closed.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from membank_llama.memory.namespace_memories import NamespaceMemories

from .agent_pipes import agent_pipes
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

    server = McpServer(open_call, writable=writable, executor=threads, alone=lambda: bank.is_open)
    try:
        asyncio.run(_speak(server, bank.start))
    finally:
        # what an agent asked for is done, whether or not it is there to hear of it
        threads.shutdown(wait=True)
        bank.close()


async def _speak(server: McpServer, begin: Callable[[], Any]) -> None:
    speaking = asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError, AttributeError):
            asyncio.get_running_loop().add_signal_handler(number, speaking.cancel)  # type: ignore[union-attr]
    with suppress(asyncio.CancelledError):
        async with agent_pipes(server.settled) as (own_input, own_output):
            transport = load_sdk("mcp.server.stdio").stdio_server(own_input, own_output)
            async with transport as (incoming, outgoing):
                begin()
                spoken = server.sdk_server
                await spoken.run(incoming, outgoing, spoken.create_initialization_options())
