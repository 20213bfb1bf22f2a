"""A bank alone behind a real socket, and a client of it, for tests of its faces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from membank_llama.memory.bank import MemBank
from membank_llama.server.bank_app import BankApp
from membank_llama.server.face_context import FaceContext
from membank_llama.server.proxy.namespace_auth import BearerTokens
from support.asgi_server import serve


@contextmanager
def bank_client(bank: MemBank, tokens: BearerTokens | None = None, **context: Any) -> Iterator[httpx.Client]:
    """A client of `membank page` over this bank."""
    app = BankApp(FaceContext(bank, **context), tokens)
    with serve(app, lifespan="on") as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client
