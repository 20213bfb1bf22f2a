"""Messages that are kept as a tree, a branch for every edit and every new try: the branch that was shown last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def shown_branch(
    nodes: Mapping[str, Any], leaf: Any, parent_of: Callable[[Any], Any], time_of: Callable[[Any], Any]
) -> list[Any]:
    """The nodes from the root to a leaf; where there is no such leaf, to the newest of those that nothing follows."""
    if not isinstance(leaf, str) or leaf not in nodes:
        leaf = _newest_leaf(nodes, parent_of, time_of)
    branch: list[Any] = []
    seen: set[str] = set()
    # a damaged tree may run in a circle
    while isinstance(leaf, str) and leaf in nodes and leaf not in seen:
        seen.add(leaf)
        branch.append(nodes[leaf])
        leaf = parent_of(nodes[leaf])
    return branch[::-1]


def _newest_leaf(
    nodes: Mapping[str, Any], parent_of: Callable[[Any], Any], time_of: Callable[[Any], Any]
) -> str | None:
    parents = {parent for node in nodes.values() if isinstance(parent := parent_of(node), str)}
    leaves = [key for key in nodes if key not in parents]
    # of equal times the last that the file names
    return max(reversed(leaves), key=lambda key: _number(time_of(nodes[key])), default=None)


def _number(when: Any) -> float:
    return float(when) if isinstance(when, int | float) and abs(when) < 1e30 else 0.0
