"""The encoding of a bank, as its registry records it: the hierarchy's spec, and the axes that it names.

Both are written in the transaction that switches the bank to vectors encoded so; `CALIBRATED_AT` tells from how many
vectors the axes were found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import BankCorruptError
from .hgns.axes import Axes
from .hgns.hierarchy import HGNSHierarchy
from .registry import Registry
from .schema import AXES

SPEC = "hgns"
CALIBRATED_AT = "calibrated_at"


def record_encoding(registry: Registry, hierarchy: HGNSHierarchy, calibrated_at: int) -> None:
    """Write down the encoding; the caller's transaction makes it one step with what it belongs to."""
    with registry.transaction() as db:
        registry.set_meta(SPEC, hierarchy.spec())
        registry.set_meta(CALIBRATED_AT, calibrated_at)
        db.execute(AXES)
        db.execute("DELETE FROM axes")
        if hierarchy.axes is not None:
            db.execute("INSERT INTO axes VALUES (?, ?)", (hierarchy.axes.digest, hierarchy.axes.to_bytes()))


def read_encoding(registry: Registry, *, repair: bool = False) -> HGNSHierarchy:
    """The hierarchy that the registry records.

    Args:
        repair: where the axes are damaged, one without axes of the same codec, to re-encode the bank with.

    Raises:
        BankCorruptError: the axes are damaged or missing.
        BankFormatError: the spec is none that this version reads.
    """
    spec = registry.get_meta(SPEC)
    try:
        return HGNSHierarchy.from_spec(spec, _axes(registry, spec))
    except BankCorruptError as exc:
        if repair:
            return HGNSHierarchy(spec["dim"], spec["codec"], k=spec["k"], gradient_levels=spec["gradient_levels"])
        raise BankCorruptError(
            f"{registry.path.parent}: {exc}. The texts are safe: compute the activations anew with membank reencode "
            "(MemBank(adapter, path, repair=True).reencode())"
        ) from exc


def _axes(registry: Registry, spec: Mapping[str, Any]) -> Axes | None:
    if "axes" not in spec:
        return None
    saved = registry.scalar("SELECT data FROM axes")
    if not isinstance(saved, bytes):
        raise BankCorruptError("the bank's axes are missing")
    axes = Axes.from_bytes(saved)
    if axes.digest != spec["axes"]:
        raise BankCorruptError("the bank's axes are not those that its encoding names")
    return axes
