"""Serving an app until somebody stops it, as `membank serve` and `membank page` do."""

from __future__ import annotations

import logging
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
    # it is told below, with what to do
    logging.getLogger("uvicorn.error").addFilter(_is_no_system_error)
    with suppress(KeyboardInterrupt):
        server.run()


def _is_no_system_error(record: logging.LogRecord) -> bool:
    return not isinstance(record.msg, OSError)


class _Announcing(uvicorn.Server):
    """A server that says where it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit as exc:
            refused = exc.__context__
            if not isinstance(refused, OSError):
                raise
            why = str(refused.strerror or refused).rpartition("): ")[2]
            raise InvalidInputError(
                f"{self.config.host}:{self.config.port} cannot be listened on: {why}; choose another --port"
            ) from refused
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
            self._ready(f"http://{host}:{port}")
