"""`IndexPlan`: how much of each vector a graph holds, and how many links."""

from __future__ import annotations

from dataclasses import dataclass

from .vector_index import VectorIndex

LINKS, FEWER_LINKS = 16, 5
"""Neighbours of a vector in the graph (hnswlib's M), and where memory is scarce."""

LARGE = ((524_288, 19), (131_072, 6))
"""Memories above which a graph holds no more than one axis in so many dimensions."""


@dataclass(frozen=True)
class IndexPlan:
    """How much of each vector a graph holds: `axes` of the `full` dimensions, and where it `shrinks` fewer the more
    memories there are, so that a large bank's index stays small beside its vectors."""

    axes: int
    shrinks: bool
    full: int

    def width(self, count: int) -> int:
        """Axes to index of so many memories."""
        for above, part in LARGE if self.shrinks else ():
            if count > above:
                return min(self.axes, max(1, self.full // part))
        return self.axes

    def fits(self, dim: int) -> bool:
        """Whether a graph may hold so many axes."""
        return dim in {self.width(count) for count in (0, *(above + 1 for above, _ in LARGE))}

    def make(self, count: int) -> VectorIndex:
        """An empty index for about so many memories."""
        width = self.width(count)
        return VectorIndex(width, FEWER_LINKS if width < self.axes else LINKS)
