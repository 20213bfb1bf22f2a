"""Serving an app until somebody stops it, as `membank serve` and `membank page` do."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from socket import socket

import uvicorn

from membank_llama.core.errors import InvalidInputError

from .asgi import ASGIApp
from .proxy.uvicorn_config import configured


def serve_until_stopped(
    app: ASGIApp, host: str, port: int, ready: Callable[[str], None] = lambda address: None
) -> None:
    """Serve an app at an address, until SIGINT or SIGTERM.

    Args:
        port: 0 takes any that is free.
        ready: called with the app's address once it is listened on.

    Raises:
        InvalidInputError: it cannot be listened on.
    """
    server = _Announcing(configured(app, host, port), ready)
    # uvicorn raises the signal that ended it once more; the bank is to be closed all the same
    signal.signal(signal.SIGTERM, lambda *_: None)
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        raise InvalidInputError(f"{host}:{port} cannot be listened on; is something else there? Choose another --port")


class _Announcing(uvicorn.Server):
    """A server that says where it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
            self._ready(f"http://{host}:{port}")
