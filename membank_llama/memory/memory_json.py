"""A memory as JSON, the same wherever one is shown: by export, REST, MCP, the page and the terminal."""

from __future__ import annotations

from typing import Any

from membank_llama.core.types import Memory
from membank_llama.recall.topic_finder import Topic


def memory_fields(memory: Memory) -> dict[str, Any]:
    """A memory as JSON-able fields; times are seconds since 1970. `import` reads them again and leaves out what a bank
    gives itself."""
    return {
        "id": memory.id,
        "text": memory.text,
        "role": memory.role,
        "namespace": memory.namespace,
        "conversation": memory.conversation,
        "created_at": memory.created_at,
        "first_told_at": memory.first_told_at,
        "source": memory.source,
        "provenance": memory.provenance.name.lower(),
        "metadata": dict(memory.metadata),
        "pinned": memory.pinned,
        "expires_at": memory.expires_at,
        "text_hash": memory.text_hash,
    }


def topic_fields(topic: Topic, example: str) -> dict[str, Any]:
    """A topic as JSON-able fields; `example`: the text of its typical memory."""
    return {
        "id": topic.id,
        "name": topic.name,
        "words": list(topic.words),
        "memories": topic.size,
        "oldest": topic.oldest,
        "newest": topic.newest,
        "example": {"id": topic.example, "text": example},
    }
