"""Measures of a ranking against what is relevant, each over one question; averages are the caller's."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Sequence

CUTS = (1, 5, 10, 20)


def measures(ranking: Sequence[Hashable], wanted: Collection[Hashable]) -> dict[str, float]:
    """Recall, hit, all, and normalised discounted cumulative gain at each of `CUTS`, and the reciprocal rank.

    R@k: the share of what is wanted among the first k. hit@k: 1 where any is, all@k: 1 where all are. NDCG@k: gains of
    1 at rank r discounted by log2(r + 1), over the best that k places can give (Järvelin and Kekäläinen 2002,
    doi:10.1145/582415.582418). MRR: 1 over the rank of the first, 0 where none is found.
    """
    ranks = [rank for rank, found in enumerate(ranking, 1) if found in wanted]
    result = {"MRR": 1 / ranks[0] if ranks else 0.0}
    for cut in CUTS:
        within = [rank for rank in ranks if rank <= cut]
        best = sum(1 / math.log2(rank + 1) for rank in range(1, min(cut, len(wanted)) + 1))
        result[f"R@{cut}"] = len(within) / len(wanted)
        result[f"hit@{cut}"] = float(bool(within))
        result[f"all@{cut}"] = float(len(within) == len(wanted))
        result[f"NDCG@{cut}"] = sum(1 / math.log2(rank + 1) for rank in within) / best
    return result
