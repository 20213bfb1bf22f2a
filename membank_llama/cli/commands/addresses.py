"""A server's address in the place of a model: as in http://127.0.0.1:8081 or http://127.0.0.1:11434#nomic-embed-text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from membank_llama.adapters.base import ModelAdapter
    from membank_llama.server.proxy.upstream_server import UpstreamServer


def is_address(ref: str) -> bool:
    """Whether it is a server's address, with or without a model's name after a #."""
    return ref.startswith(("http://", "https://"))


def split_address(ref: str) -> tuple[str, str | None]:
    """Address and model of such a reference."""
    address, _, model = ref.partition("#")
    return address.rstrip("/").removesuffix("/v1").rstrip("/"), model or None


def served_model(
    address: str, model: str | None = None, *, server: UpstreamServer | None = None, recorded: str = ""
) -> ModelAdapter:
    """A model that the server at an address has; without a name the one it has for embeddings.

    Args:
        server: what is known of it already.
        recorded: the model's id in the bank that it made, which tells how it was asked then.

    Raises:
        ModelError: nothing answers there, or it gives no vectors.
    """
    from membank_llama.adapters.ollama_client import PREFIX, OllamaAdapter
    from membank_llama.adapters.openai_client import OPENAI_PREFIX, OpenAIAdapter
    from membank_llama.server.proxy.upstream_kind import OLLAMA as BY_OLLAMA
    from membank_llama.server.proxy.upstream_server import UpstreamServer

    asked = server or UpstreamServer(address)
    try:
        kind = asked.recognise()
    finally:
        if server is None:
            asked.close()
    by_ollama = recorded.startswith(PREFIX) or kind is None or kind.name == BY_OLLAMA
    if by_ollama and not recorded.startswith(OPENAI_PREFIX):
        return OllamaAdapter(address, model)
    return OpenAIAdapter(address, model, server="its server" if kind is None else kind.name)
