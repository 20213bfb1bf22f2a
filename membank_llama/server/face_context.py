"""`FaceContext`: what REST, the page and MCP share: the bank, and whose memories a request is for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool

from membank_llama.memory.bank import MemBank
from membank_llama.memory.namespace_memories import NamespaceMemories

from .asgi import NAMESPACE, Scope
from .body_budget import BodyBudget
from .proxy.namespace_auth import Caller, zone_of

MOST_AT_ONCE = 8
"""Of what a bank is asked at the same time, so that chats beside it are answered."""
_P = ParamSpec("_P")
_T = TypeVar("_T")

CALLER, MOUNT = "membank.caller", "membank.mount"
"""Of a scope, beside `NAMESPACE`: who asks, and the path that the namespace was named by (``/ns/work``), or nothing."""


def _no_recalls(namespace: str) -> list[dict[str, Any]]:
    return []


@dataclass(frozen=True)
class FaceContext:
    """What people and programs look at a bank through.

    Args:
        facts: what else is said of this server: what answers, what encodes.
        recalls: the last recalls of a namespace, the newest first, as ``/membank/why`` tells them.
        body_budget: takes the bodies of requests in.
        opens: whether a text is one of the tokens; None where none is asked for.
    """

    bank: MemBank
    facts: Callable[[], Mapping[str, Any]] = dict
    recalls: Callable[[str], list[dict[str, Any]]] = _no_recalls
    body_budget: BodyBudget = field(default_factory=BodyBudget)
    opens: Callable[[str], bool] | None = None
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_AT_ONCE), init=False, repr=False)

    async def in_thread(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Do what blocks in a thread, no more than a few such at once; the rest waits its turn."""
        async with self._turns:
            return await run_in_threadpool(work, *args, **kwargs)

    @property
    def watches(self) -> bool:
        """Whether chats go by here, whose recalls can be looked at."""
        return self.recalls is not _no_recalls

    def memories(self, scope: Scope) -> NamespaceMemories:
        """The memories that a request may see and change.

        Raises:
            WireError: 400, it names a time zone that is none.
        """
        namespace = str(scope[NAMESPACE])
        return NamespaceMemories(self.bank, namespace, uses=self._uses(namespace), zone=zone_of(scope))

    def may_see_all(self, scope: Scope) -> bool:
        """Whether a request may learn which namespaces there are: where nobody needs a token, or it is an
        administrator's."""
        caller: Caller = scope[CALLER]
        return caller.opened is None or caller.is_admin

    def _uses(self, namespace: str) -> Callable[[int], Iterable[Mapping[str, Any]]]:
        def uses(memory_id: int) -> Iterable[Mapping[str, Any]]:
            return (
                {"conversation": one["conversation"], "at": one["when"], "query": one["query"]}
                for one in self.recalls(namespace)
                if memory_id in one["injected"]
            )

        return uses
