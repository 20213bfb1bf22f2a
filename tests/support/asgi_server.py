"""A real server around an ASGI app, for tests: streams and hang-ups need a socket.

``with serve(app) as url:`` runs the app with uvicorn in a thread of its own on a free port of the loopback
interface. Leaving the block stops the server, runs the app's async `close()` on its own loop where it has
one, and joins the thread, so that no test leaves a socket behind.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn


@contextmanager
def serve(app: Any, *, lifespan: str = "off", http: Any = "h11") -> Iterator[str]:
    """Serve an ASGI app, over h11 as `membank serve` does; gives its base URL, without a slash at the end."""
    # asyncio sends at once only where the protocol is named; else every answer waits 40 ms for the client's word
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app, log_level="error", lifespan=lifespan, http=http, ws="none", timeout_graceful_shutdown=5
        )
        server = uvicorn.Server(config)
        ready, failures = threading.Event(), []

        async def run() -> None:
            asyncio.get_running_loop().call_soon(ready.set)
            try:
                await server.serve(sockets=[listener])
            finally:
                close = getattr(app, "close", None)
                if close is not None:
                    await close()

        def main() -> None:
            try:
                asyncio.run(run())
            except BaseException as error:
                failures.append(error)
            finally:
                ready.set()

        thread = threading.Thread(target=main, name="test-server")
        thread.start()
        try:
            ready.wait(30)
            while not server.started and thread.is_alive():
                thread.join(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
        if failures:
            raise failures[0]
        if thread.is_alive():
            raise RuntimeError("the test server did not end within 30 s")
