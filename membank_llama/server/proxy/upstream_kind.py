"""Which program answers at an address: Ollama, llama-server, LM Studio, or another that speaks OpenAI's API.

Each is known by an answer that only it gives, and by the shape of that answer: some servers say 200 to whatever they
are asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

OLLAMA, LLAMA_SERVER, LM_STUDIO = "Ollama", "llama-server", "LM Studio"
OPENAI = "OpenAI-compatible server"

_STARTED_BY = {
    OLLAMA: "ollama serve",
    LLAMA_SERVER: "llama-server -m MODEL.gguf",
    LM_STUDIO: "lms server start",
}
_USUAL_PORTS = {11434: OLLAMA, 8080: LLAMA_SERVER, 1234: LM_STUDIO}


@dataclass(frozen=True)
class UpstreamKind:
    """A program: what people call it, and the version it says it is.

    Args:
        routes: it loads several models by name.
        silent: it tells nothing more yet: its model is being loaded, or it wants a key.
    """

    name: str
    version: str = ""
    routes: bool = False
    silent: bool = False

    def __str__(self) -> str:
        said = f"{self.name} {self.version}".rstrip()
        return f"{said} (router)" if self.routes else said


@dataclass(frozen=True)
class Answer:
    """What came back: the status, the name in the header `server`, and the JSON."""

    status: int
    server: str
    said: Any

    @property
    def told(self) -> Mapping[str, Any]:
        """The object of a good answer; empty where it is none."""
        return self.said if self.status == 200 and isinstance(self.said, dict) else {}


Ask = Callable[[str], "Answer | None"]
"""A path to its answer; None where nothing answers."""


def recognised(ask: Ask) -> UpstreamKind | None:
    """The program behind an address; None where nothing answers, or nothing known."""
    version = ask("/api/version")
    if version is None:
        return None
    if isinstance(version.told.get("version"), str):
        return UpstreamKind(OLLAMA, version.told["version"])
    props = ask("/props")
    if props is not None:
        known = _llama_server(props)
        if known is not None:
            return known
    for path, name, shaped in (("/api/v0/models", LM_STUDIO, _is_lm_studios), ("/v1/models", OPENAI, _is_listed)):
        answer = ask(path)
        if answer is not None and shaped(answer.told.get("data")):
            return UpstreamKind(name)
    return None


def _llama_server(props: Answer) -> UpstreamKind | None:
    told = props.told
    if "default_generation_settings" in told:
        # "b11434-5d1bce2e": the number is what people call a version by
        build = str(told.get("build_info") or "").partition("-")[0]
        # one that was built outside a Git checkout has none
        return UpstreamKind(LLAMA_SERVER, build if build != "b0" else "", told.get("role") == "router")
    return UpstreamKind(LLAMA_SERVER, silent=True) if props.server == "llama.cpp" else None


def _is_lm_studios(data: Any) -> bool:
    return _is_listed(data) and all("state" in model or "compatibility_type" in model for model in data)


def _is_listed(data: Any) -> bool:
    return isinstance(data, list) and all(isinstance(model, dict) and "id" in model for model in data)


def unreached(kind: UpstreamKind | None, address: str, port: int | None) -> str:
    """What to say where nothing answers at an address."""
    usual = kind.name if kind is not None else _USUAL_PORTS.get(port or 0)
    if usual is None:
        return f"could not connect to {address}; is the server running there? Name another one with --upstream"
    start = _STARTED_BY.get(usual)
    return f"could not connect to {usual} at {address}; is it running?" + (f" Start it with: {start}" if start else "")
