"""A bank finds its axes, and finds them anew as it grows, from the vectors it holds: no text is encoded again.

Level 0 of every activation is copied as it is, levels 1 and 2 are written along the new axes into the next activation
file, and the bank is switched over in one transaction (`upkeep.Rewrite`). Killed anywhere, the bank is as it was.
"""

from __future__ import annotations

import numpy as np

from .hgns.axes import FEWEST, calibrate
from .hgns.hierarchy import HGNSHierarchy
from .store import Slots, Store
from .types import Progress, Vector
from .upkeep import Rewrite

GROWTH = 8
"""Times as many vectors as the axes were found from, at which they are found anew."""

SETTLED = 16_384
"""Vectors that more of would not move the axes; the sample is never larger."""


def is_due(store: Store) -> bool:
    """Whether the bank has grown so far that its axes should be found anew."""
    if store.read_only or not store.hierarchy.adapts or store.calibrated_at >= SETTLED:
        return False
    return store.registry.next_slot() >= max(FEWEST, GROWTH * store.calibrated_at)


def recalibrate(store: Store, *, correct: bool | None = None, progress: Progress | None = None) -> bool:
    """Find the axes of what the bank holds and write levels 1 and 2 along them; false where it holds too little.

    Threads may recall meanwhile; those that write wait.

    Args:
        correct: whether the model's vectors need correcting (`axes.calibrate`). Better told than guessed from the
            bank: texts that are alike make vectors alike in every model.
    """
    store.check_writable()
    if not store.hierarchy.adapts:
        return False
    with store.write_lock:
        slots = np.array([row[0] for row in store.registry.rows(_IN_USE)], np.int64)
        if len(slots) < FEWEST:
            return False
        old = store.hierarchy
        axes = calibrate(_sample(store, slots), correct=correct)
        hierarchy = HGNSHierarchy(
            old.dim, old.codec_name, k=old.k, gradient_levels=old.spec()["gradient_levels"], axes=axes
        )
        rewrite = Rewrite(store, store.model, hierarchy, kind="calibrate", calibrated_at=min(len(slots), SETTLED))
        rewrite.copy(lambda held: hierarchy.compress(_vectors(store, held)), "calibrating", progress)
    return True


_IN_USE = "SELECT slot FROM pointers WHERE ref_count > 0 ORDER BY slot"


def _sample(store: Store, slots: Slots) -> Vector:
    """Vectors of evenly spaced slots, shape (n, dim)."""
    chosen = slots[np.linspace(0, len(slots) - 1, min(len(slots), SETTLED)).astype(np.intp)]
    return _vectors(store, chosen)


def _vectors(store: Store, slots: Slots) -> Vector:
    """What the model gave for some slots, shape (n, dim)."""
    return store.hierarchy.decode(store.codes(slots, 0), 0)
