"""Agents for tests: the SDK's client, to `membank mcp` as a process, to a server by HTTP, or to one in this process.

The client lives on an event loop of a thread of its own, so that a test can do other things between two calls, and
several agents can be there at once.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
from mcp import StdioServerParameters, stdio_client
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import Implementation

from support.places import ROOT
from support.serve_process import environment

PATIENCE = 120.0


class Agent:
    """A client that is connected."""

    def __init__(self, client: Client, loop: asyncio.AbstractEventLoop) -> None:
        self.client = client
        self._loop = loop

    def wait(self, doing: Any) -> Any:
        """What a coroutine of the client comes to."""
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(PATIENCE)

    def answer(self, name: str, **given: Any) -> Any:
        """All that a tool answers, also where it is an error."""
        return self.wait(self.client.call_tool(name, given))

    def call(self, name: str, **given: Any) -> dict[str, Any]:
        """The fields that a tool answers."""
        answer = self.answer(name, **given)
        assert not answer.is_error, answer.content[0].text
        return dict(answer.structured_content)

    def refused(self, name: str, **given: Any) -> str:
        """What a tool says where it refuses."""
        answer = self.answer(name, **given)
        assert answer.is_error, answer.structured_content
        return str(answer.content[0].text)

    def tools(self) -> list[Any]:
        return list(self.wait(self.client.list_tools()).tools)

    def found(self, query: str, **given: Any) -> list[str]:
        """The texts of what a search finds relevant."""
        memories = self.call("memory_search", query=query, **given)["memories"]
        return [one["text"] for one in memories if one.get("relevant", True)]


@contextmanager
def _living(opened: AbstractAsyncContextManager[Client]) -> Iterator[Agent]:
    ready: Future[Agent] = Future()

    async def live() -> None:
        over = asyncio.Event()
        async with opened as client:
            agent = Agent(client, asyncio.get_running_loop())
            agent.over = over  # type: ignore[attr-defined]
            ready.set_result(agent)
            await over.wait()

    def main() -> None:
        try:
            asyncio.run(live())
        except BaseException as error:
            if ready.done():
                failures.append(error)
            else:
                ready.set_exception(error)

    failures: list[BaseException] = []
    thread = Thread(target=main, name="test-agent")
    thread.start()
    agent = ready.result(PATIENCE)
    try:
        yield agent
    finally:
        agent._loop.call_soon_threadsafe(agent.over.set)  # type: ignore[attr-defined]
        thread.join(PATIENCE)
    if failures:
        raise failures[0]


@asynccontextmanager
async def _over_stdio(command: StdioServerParameters, log: Path, **options: Any) -> AsyncIterator[Client]:
    with log.open("a", encoding="utf-8") as errors:
        async with Client(stdio_client(command, errors), **options) as client:
            yield client


def agent_over_stdio(bank: Path, *arguments: object, name: str = "tester", **options: Any) -> Any:
    """An agent that has started `membank mcp`; what that prints to standard error is in mcp.log beside the bank."""
    words = ["-m", "membank_llama", "mcp", "--bank", str(bank), "--threads", "1", *map(str, arguments)]
    env = {**environment(bank.parent), "PYTHONPATH": str(ROOT), "MEMBANK_DEBUG": ""}
    command = StdioServerParameters(command=sys.executable, args=words, env=env, cwd=str(bank.parent))
    options.setdefault("client_info", Implementation(name=name, version="1.0"))
    return _living(_over_stdio(command, bank.parent / "mcp.log", **options))


@asynccontextmanager
async def _over_http(url: str, headers: dict[str, str], **options: Any) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers=headers, timeout=PATIENCE) as http,
        Client(streamable_http_client(url, http_client=http), **options) as client,
    ):
        yield client


def agent_over_http(url: str, token: str | None = None, **options: Any) -> Any:
    """An agent that speaks to an address that ends in /mcp."""
    return _living(_over_http(url, {} if token is None else {"authorization": f"Bearer {token}"}, **options))


def agent_here(server: Any, name: str = "tester") -> Any:
    """An agent of a server in this process."""
    return _living(Client(server, client_info=Implementation(name=name, version="1.0")))
