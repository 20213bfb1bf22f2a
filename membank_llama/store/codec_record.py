"""The encoding of a bank, as its registry records it: the hierarchy's spec, and the axes that it names.

Both are written in the transaction that switches the bank to vectors encoded so; `CALIBRATED_AT` tells from how many
vectors the axes were found.
"""

from __future__ import annotations

from typing import Any

from membank_llama.core.errors import BankCorruptError, InvalidInputError
from membank_llama.hgns.axes import Axes
from membank_llama.hgns.hierarchy import HGNSHierarchy

from .registry import Registry

SPEC = "hgns"
CALIBRATED_AT = "calibrated_at"


def record_encoding(registry: Registry, hierarchy: HGNSHierarchy, calibrated_at: int) -> None:
    """Write down the encoding; the caller's transaction makes it one step with what it belongs to."""
    with registry.transaction() as db:
        registry.set_meta(SPEC, hierarchy.spec())
        registry.set_meta(CALIBRATED_AT, calibrated_at)
        db.execute("DELETE FROM axes")
        if hierarchy.axes is not None:
            db.execute("INSERT INTO axes VALUES (?, ?)", (hierarchy.axes.digest, hierarchy.axes.to_bytes()))


def read_encoding(registry: Registry, dim: int, *, repair: bool = False) -> HGNSHierarchy:
    """The hierarchy that the registry records, for vectors of `dim` dimensions.

    Args:
        repair: where what is recorded is damaged, one without axes, of the same codec where that is known, to
            re-encode the bank with.

    Raises:
        BankCorruptError: the spec or the axes are damaged or missing.
        BankFormatError: the spec is none that this version reads.
    """
    spec: Any = None
    try:
        spec = registry.get_meta(SPEC)
        hierarchy = HGNSHierarchy.from_spec(spec, _axes(registry, spec))
        if hierarchy.dim != dim:
            raise BankCorruptError(f"its encoding has {hierarchy.dim} dimensions and its model {dim}")
        return hierarchy
    except BankCorruptError as exc:
        if repair:
            return _without_axes(spec, dim)
        raise BankCorruptError(
            f"{registry.path.parent}: {exc}. The texts are safe: compute the activations anew with membank reencode "
            "(MemBank(adapter, path, repair=True).reencode())"
        ) from exc


def _without_axes(spec: Any, dim: int) -> HGNSHierarchy:
    try:
        return HGNSHierarchy(dim, spec["codec"], k=spec["k"], gradient_levels=spec["gradient_levels"])
    except (InvalidInputError, TypeError, KeyError):
        return HGNSHierarchy(dim)


def _axes(registry: Registry, spec: Any) -> Axes | None:
    if not isinstance(spec, dict) or "axes" not in spec:
        return None
    saved = registry.scalar("SELECT data FROM axes")
    if not isinstance(saved, bytes):
        raise BankCorruptError("the bank's axes are missing")
    axes = Axes.from_bytes(saved)
    if axes.digest != spec["axes"]:
        raise BankCorruptError("the bank's axes are not those that its encoding names")
    return axes
