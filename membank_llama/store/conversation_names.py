"""Which conversations a namespace holds, and which of them were imported."""

from __future__ import annotations

from .registry import Registry

CONVERSATION_ID = "conversation_id"
"""Of the metadata of what was imported: how the other program tells its conversation from others."""


def conversation_ids(registry: Registry, namespace: str) -> dict[str, str]:
    """Name of a conversation → the id it has in the program it came from; an empty one of those held here."""
    # of a damaged row neither is read
    sql = (
        "SELECT DISTINCT conversation, CASE WHEN json_valid(metadata) THEN json_extract(metadata, ?2) END"
        " FROM memories WHERE namespace = ?1 AND conversation IS NOT NULL"
    )
    rows = registry.rows(sql, (namespace, f"$.{CONVERSATION_ID}"))
    return {str(name): key if isinstance(key, str) else "" for name, key in rows}
