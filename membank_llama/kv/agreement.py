"""Whether logits are those that were kept: the last word on cells that were read back.

The same cells give the same logits to the bit where a token is evaluated the same way. In a batch of another size
llama.cpp adds up in another order, so some distance is allowed; cells of anything else are much further away.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .piece import TopLogits

TOLERANCE = 0.2
"""The greatest root mean square difference of the kept logits, in their own spread (`agreement` in
docs/benchmarks.md, where it was measured)."""


def distance(kept: TopLogits, logits: npt.NDArray[np.float32]) -> float:
    """Root mean square of what kept logits and new ones differ by, over the spread of all new ones."""
    if not len(kept.ids) or int(kept.ids.max()) >= len(logits):
        return float("inf")
    difference = logits[kept.ids].astype(np.float64) - kept.values
    spread = float(np.std(logits)) or 1.0
    return float(np.sqrt(np.mean(difference**2))) / spread


def agree(kept: TopLogits, logits: npt.NDArray[np.float32]) -> bool:
    """Whether new logits can be of the same cells."""
    return distance(kept, logits) <= TOLERANCE
