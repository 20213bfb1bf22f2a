"""Pages from elsewhere and rebound names are not answered."""

from __future__ import annotations

from typing import Any

import pytest

from membank_llama.server.asgi import WireError
from membank_llama.server.origins import check_host, check_origin


def scope(server: str = "127.0.0.1", **headers: str) -> dict[str, Any]:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "server": (server, 11435), "headers": raw}


@pytest.mark.parametrize(
    "host", ["localhost:11435", "127.0.0.1:11435", "[::1]:11435", "192.168.1.5", "desk.local", "x.localhost", ""]
)
def test_names_of_this_machine(host: str) -> None:
    check_host(scope(host=host))


def test_a_rebound_name() -> None:
    with pytest.raises(WireError):
        check_host(scope(host="evil.example:11435"))
    for odd in ("evil.example/.local", "evil.example#.local", "127.0.0.1:99@evil.example", "a b.local"):
        with pytest.raises(WireError):
            check_host(scope(host=odd))
    # who listens for a network is called by names of that network
    check_host(scope("192.168.1.5", host="memory.example"))


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "http://127.0.0.1", "app://obsidian.md", "tauri://localhost"]
)
def test_pages_of_this_machine(origin: str) -> None:
    check_origin(scope(origin=origin))
    check_origin(scope())


def test_pages_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for origin in ("https://evil.example", "http://localhost.evil.example", "null"):
        with pytest.raises(WireError):
            check_origin(scope(origin=origin))
    monkeypatch.setenv("OLLAMA_ORIGINS", "https://chat.example, https://*.mine.example")
    check_origin(scope(origin="https://chat.example"))
    check_origin(scope(origin="https://a.mine.example"))
    with pytest.raises(WireError):
        check_origin(scope(origin="https://evil.example"))
