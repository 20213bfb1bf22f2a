"""A bank finds its axes, and finds them anew as it grows, from the vectors it holds: no text is encoded again.

Level 0 of every activation is copied as it is, levels 1 and 2 are written along the new axes into the next activation
file, and the bank is switched over in one transaction (`rewriting.Rewrite`). Killed anywhere, the bank is as it was.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from membank_llama.core.types import Codes, Progress, Vector
from membank_llama.hgns.axes import FEWEST, calibrate
from membank_llama.hgns.hierarchy import HGNSHierarchy

from ..bank_records import read_rewrite
from ..store import Slots, Store
from .rewrite import CALIBRATING, Rewrite

logger = logging.getLogger("membank_llama")

BATCH = 64
"""Vectors written along new axes in one transaction: those who tell something meanwhile wait for no more."""

GROWTH = 8
"""Times as many vectors as the axes were found from, at which they are found anew."""

SETTLED = 16_384
"""Vectors that more of would not move the axes; the sample is never larger."""


def is_due(store: Store) -> bool:
    """Whether the bank has grown so far that its axes should be found anew."""
    if store.read_only or not store.hierarchy.adapts or store.calibrated_at >= SETTLED:
        return False
    if until_due(store) > 0:
        return False
    # to be encoded anew is more than to be calibrated, and may have been interrupted
    return bool(read_rewrite(store.registry).get("kind") != "encode")


def until_due(store: Store) -> int:
    """How many vectors more there must be at least until the axes are found anew."""
    return max(FEWEST, GROWTH * store.calibrated_at) - store.registry.next_slot()


def recalibrating(store: Store, *, correct: bool | None = None) -> Iterator[tuple[int, int]]:
    """Find the axes of what the bank holds and write levels 1 and 2 along them, a little at a time; nothing where it
    holds too little. Threads may recall and write meanwhile.

    Args:
        correct: whether the model's vectors need correcting (`axes.calibrate`). Better told than guessed from the
            bank: texts that are alike make vectors alike in every model.
    """
    store.check_writable()
    if not store.hierarchy.adapts:
        return
    slots = np.array([row[0] for row in store.registry.rows(_IN_USE)], np.int64)
    if len(slots) < FEWEST:
        return
    old = store.hierarchy
    sample = _sample(store, slots)
    yield 0, len(slots)
    if len(sample) < 2:
        logger.warning("%s: nearly all activations are damaged; run membank verify", store.path)
        return
    axes = calibrate(sample, correct=correct)
    hierarchy = HGNSHierarchy(
        old.dim, old.codec_name, k=old.k, gradient_levels=old.spec()["gradient_levels"], axes=axes, full=old.full
    )
    yield 0, len(slots)
    with store.write_lock:
        if store.hierarchy is not old or (isinstance(store.unfinished, Rewrite) and not store.unfinished.calibrates):
            # it was encoded otherwise meanwhile, or is just being: that is calibrated afterwards
            return
        rewrite = Rewrite(store, store.model, hierarchy, kind="calibrate", calibrated_at=min(len(slots), SETTLED))
    yield from rewrite.copying(lambda held: _along(store, hierarchy, held), (0,), BATCH)


def recalibrate(store: Store, *, correct: bool | None = None, progress: Progress | None = None) -> bool:
    """The same at once; false where the bank holds too little."""
    store.worker.cancel(CALIBRATING, wait=True)
    before = store.hierarchy
    for done, total in recalibrating(store, correct=correct):
        if progress is not None and done:
            progress("calibrating", done, total)
    return store.hierarchy is not before


_IN_USE = "SELECT slot FROM pointers WHERE ref_count > 0 ORDER BY slot"


def _sample(store: Store, slots: Slots) -> Vector:
    """Vectors of evenly spaced slots, shape (n, dim), without those that are damaged."""
    chosen = slots[np.linspace(0, len(slots) - 1, min(len(slots), SETTLED)).astype(np.intp)]
    codes = store.codes(chosen, 0)
    return store.hierarchy.decode(codes[_sound(store, chosen, codes)], 0)


def _sound(store: Store, slots: Slots, codes: Codes) -> npt.NDArray[np.bool_]:
    """Which slots hold at level 0 what their pointers name, a vector with a direction."""
    recorded = store.registry.pointers(slots.tolist())
    whole = np.array(
        [
            slot in recorded and hashlib.sha256(row.data).digest() == recorded[slot][0][:32]
            for slot, row in zip(slots.tolist(), codes, strict=True)
        ],
        bool,
    )
    rows = store.hierarchy.decode(codes[whole], 0)
    whole[whole] = np.isfinite(rows).all(axis=1) & rows.any(axis=1)
    return whole


def _along(store: Store, hierarchy: HGNSHierarchy, slots: Slots) -> tuple[Codes, Codes, Codes]:
    """Level 0 of some slots as it is, levels 1 and 2 along the axes of `hierarchy`; damaged ones point anywhere."""
    codes = store.codes(slots, 0)
    sound = _sound(store, slots, codes)
    rows = np.zeros((len(slots), hierarchy.dim), np.float32)
    rows[~sound, 0] = 1
    rows[sound] = store.hierarchy.decode(codes[sound], 0)
    _, first, second = hierarchy.compress(rows)
    return codes, first, second
