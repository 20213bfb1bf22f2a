"""`McpServer`: the tools and two resources behind the protocol, whatever carries it.

Whatever goes wrong in a tool is its answer, marked as an error, and says what to do: an agent reads it and tries again.
The bank is asked on threads, and on the event loop only where nobody but the one agent waits for that.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Any

from membank_llama._version import __version__
from membank_llama.core.errors import InvalidInputError, MembankError, MemoryNotFoundError

from ..asgi import WireError, outward
from .agent_tools import INSTRUCTIONS, AgentTool, tools_for
from .mcp_sdk import load_sdk
from .reading_tools import AgentCall, tell_recent, tell_show

logger = logging.getLogger("membank_llama")

NAME, TITLE = "membank", "membank: long-term memory"
RECENT_URI, ONE_URI = "membank://recent", "membank://memory/{id}"
_ONE = re.compile(r"membank://memory/(\d{1,18})")
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")
LONGEST_NAME, LONGEST_COMPLAINT = 40, 200
RESOURCE_TOKENS = 4000
BEGIN_SECONDS = 0.05
"""What the SDK may take to hand a request over, and an answer."""

OpenCall = Callable[[Any, str], AgentCall]
"""Whose memories a request is for, of the SDK's context and the client's name; may wait, and may raise MembankError."""


class McpServer:
    """What an agent finds here.

    Args:
        open_call: finds the memories of a request, on a thread.
        writable: whether tools that change something are offered.
        executor: where the bank is asked; None for the event loop's own threads.
        alone: whether nobody else waits and the bank is open: then what is quick is asked without a thread between.

    Raises:
        MissingExtraError: the SDK is not installed.
    """

    def __init__(
        self,
        open_call: OpenCall,
        *,
        writable: bool = True,
        executor: Executor | None = None,
        alone: Callable[[], bool] = lambda: False,
    ) -> None:
        self._types = load_sdk("mcp_types")
        self._open_call = open_call
        self._executor = executor
        self._alone = alone
        self._running: set[asyncio.Future[Any]] = set()
        self._tools = {tool.name: tool for tool in tools_for(writable)}
        checker = load_sdk("jsonschema").Draft202012Validator
        self._checkers = {tool.name: checker(tool.takes) for tool in self._tools.values()}
        self._listed = self._types.ListToolsResult(tools=[self._as_listed(tool) for tool in self._tools.values()])
        self.sdk_server = load_sdk("mcp.server.lowlevel").Server(
            NAME,
            version=__version__,
            title=TITLE,
            instructions=INSTRUCTIONS,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read_resource,
        )
        # spans for a tracer, which nobody has here
        self.sdk_server.middleware.clear()

    def _as_listed(self, tool: AgentTool) -> Any:
        hints = self._types.ToolAnnotations(
            title=tool.title,
            read_only_hint=tool.reads,
            destructive_hint=tool.destroys,
            idempotent_hint=tool.repeatable,
            open_world_hint=False,
        )
        return self._types.Tool(
            name=tool.name,
            title=tool.title,
            description=tool.description,
            input_schema=tool.takes,
            output_schema=tool.gives,
            annotations=hints,
        )

    # -- tools

    async def _list_tools(self, context: Any, params: Any) -> Any:
        return self._listed

    async def settled(self) -> None:
        """Once all that was asked for so far is answered."""
        await asyncio.sleep(BEGIN_SECONDS)
        while self._running:
            await asyncio.wait(list(self._running))
        await asyncio.sleep(BEGIN_SECONDS)

    async def _call_tool(self, context: Any, params: Any) -> Any:
        tool = self._tools.get(params.name)
        if tool is None:
            raise self._refusal(f"there is no tool {params.name[:LONGEST_NAME]!r}; there are {', '.join(self._tools)}")
        given = params.arguments or {}
        complaint = self._complaint(tool, given)
        if complaint:
            return self._failed(complaint)
        try:
            work = partial(self._answer, tool, context, given)
            at_once = tool.is_quick and "topic" not in given and self._alone()
            answer = work() if at_once else await self._on_thread(work)
        except (MembankError, WireError) as exc:
            return self._failed(_for_agents(exc))
        except Exception:
            logger.exception("%s failed", tool.name)
            return self._failed(f"{tool.name} failed for a reason of its own; membank's log says which. Go on without.")
        return self._types.CallToolResult(
            content=[self._types.TextContent(type="text", text=answer.text)], structured_content=dict(answer.fields)
        )

    def _answer(self, tool: AgentTool, context: Any, given: Mapping[str, Any]) -> Any:
        return tool.run(self._open_call(context, client_name(context)), given)

    async def _on_thread(self, work: Callable[[], Any]) -> Any:
        doing = asyncio.get_running_loop().run_in_executor(self._executor, work)
        self._running.add(doing)
        doing.add_done_callback(self._running.discard)
        return await doing

    def _complaint(self, tool: AgentTool, given: Mapping[str, Any]) -> str:
        """What is wrong with what a tool was given; empty where nothing is."""
        found = next(iter(sorted(self._checkers[tool.name].iter_errors(given), key=lambda one: len(one.path))), None)
        if found is None:
            return ""
        where = ".".join(map(str, found.absolute_path))
        return f"{tool.name}{f', {where}' if where else ''}: {_what_is_wrong(found)}"

    def _failed(self, message: str) -> Any:
        return self._types.CallToolResult(content=[self._types.TextContent(type="text", text=message)], is_error=True)

    def _refusal(self, message: str) -> Exception:
        refused: Exception = load_sdk("mcp.shared.exceptions").MCPError(self._types.INVALID_PARAMS, message)
        return refused

    # -- resources

    async def _list_resources(self, context: Any, params: Any) -> Any:
        told = "What was remembered last, the newest first."
        recent_ones = self._types.Resource(
            uri=RECENT_URI, name="recent", title="Recent memories", description=told, mime_type="text/plain"
        )
        return self._types.ListResourcesResult(resources=[recent_ones])

    async def _list_templates(self, context: Any, params: Any) -> Any:
        one = self._types.ResourceTemplate(
            uri_template=ONE_URI, name="memory", title="A memory", description="One memory by its id.",
            mime_type="application/json",
        )  # fmt: skip
        return self._types.ListResourceTemplatesResult(resource_templates=[one])

    async def _read_resource(self, context: Any, params: Any) -> Any:
        uri = str(params.uri)
        try:
            kind, text = await self._on_thread(partial(self._resource, context, uri))
        except (MembankError, WireError) as exc:
            raise self._refusal(_for_agents(exc)) from exc
        held = self._types.TextResourceContents(uri=uri, mime_type=kind, text=text)
        return self._types.ReadResourceResult(contents=[held])

    def _resource(self, context: Any, uri: str) -> tuple[str, str]:
        call = self._open_call(context, client_name(context))
        if uri == RECENT_URI:
            return "text/plain", tell_recent(call, {"limit": 50, "max_tokens": RESOURCE_TOKENS}).text
        one = _ONE.fullmatch(uri)
        if one is None:
            raise InvalidInputError(f"there is no resource {uri[:LONGEST_COMPLAINT]!r}; read {RECENT_URI} or {ONE_URI}")
        fields = tell_show(call, {"id": int(one[1]), "max_tokens": RESOURCE_TOKENS}).fields
        return "application/json", json.dumps(fields, ensure_ascii=False)


def _what_is_wrong(found: Any) -> str:
    """What a check of the SDK's found, without all of a long value, behind which it says what is wrong with it."""
    if found.validator == "maxLength":
        return f"{len(found.instance):,} characters; {found.validator_value:,} are the most"
    said, half = str(found.message), LONGEST_COMPLAINT // 2
    return said if len(said) <= LONGEST_COMPLAINT else f"{said[:half]} … {said[-half:]}"


def _for_agents(exc: MembankError | WireError) -> str:
    """An error with what an agent can do about it."""
    if isinstance(exc, MemoryNotFoundError):
        return f"{outward(exc).partition(';')[0]}; memory_search and memory_recent show ids"
    return outward(exc)


def client_name(context: Any) -> str:
    """What an agent's program calls itself, in letters that may stand in a source."""
    known = context.session.client_params
    name = None if known is None else known.client_info.name
    if name is None and context.request is not None:
        name = context.request.headers.get("user-agent", "").partition("/")[0]
    return _UNFIT.sub("-", str(name or "").strip().lower()).strip("-.")[:LONGEST_NAME] or "agent"
