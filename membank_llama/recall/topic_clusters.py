"""Clusters of vectors that have directions: which memories are about the same, found from coarse to fine.

As HGNS spends digits, so topics are spent here: all begin as one, and each further cluster is a split of the one whose
spread falls most steeply by it. Only the leading axes of what there is are looked at, a few more than there may be
clusters, for so many centres span no more. Then every vector goes to the centre that is nearest. Numpy alone, and
nothing is drawn by chance: the same rows give the same clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from membank_llama.core.types import Mask, Rows, Vector

LEAST_AXES = 16
SPARE_AXES = 8
"""Axes looked at beside one for each cluster."""
SAMPLE = 16_384
"""Rows that axes and centres are found from; axes of vectors of many dimensions from as many as `WIDEST`."""
WIDEST = 1024
LEAST_MEMBERS = 3
ALIKE = 0.75
"""Cosine of the centres of two halves from which on they are one cluster."""
_TURNS, _MOVES, _SETTLING = 12, 8, 6

Centres = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LeadingAxes:
    """Where vectors of a namespace differ most: their mean, and orthonormal axes (dim, count), most of it first."""

    mean: Vector
    axes: Vector

    @classmethod
    def of(cls, rows: Vector, weights: Vector, count: int) -> LeadingAxes:
        """Of rows (n, dim), each of some weight; an axis points to where its largest coordinate is positive, so that a
        picture drawn along it does not flip."""
        total = np.float32(max(float(weights.sum()), 1e-9))
        mean: Vector = ((weights @ rows) / total).astype(np.float32)
        turned = less_mean(rows, mean) * np.sqrt(weights / total)[:, np.newaxis]
        wide = turned.shape[1] > len(turned)
        values, basis = np.linalg.eigh((turned @ turned.T if wide else turned.T @ turned).astype(np.float64))
        basis = basis[:, ::-1][:, :count]
        if wide:
            lengths = np.sqrt(np.maximum(values[::-1][:count], 1e-12))
            basis = (turned.T.astype(np.float64) @ basis) / lengths
        top = np.abs(basis).argmax(axis=0)
        signs = np.where(basis[top, np.arange(basis.shape[1])] < 0, -1.0, 1.0)
        return cls(mean, (basis * signs).astype(np.float32))

    def along(self, rows: Vector) -> Vector:
        """Rows (n, dim) along these axes, (n, count)."""
        found: Vector = less_mean(rows, self.mean) @ self.axes
        return found


def sampled(count: int, dim: int = 1) -> Rows:
    """Which of so many rows of this width axes or centres are found from: evenly all over them."""
    most = SAMPLE if dim <= WIDEST else WIDEST
    found: Rows = np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(np.intp)
    return found


def less_mean(rows: Vector, mean: Vector) -> Vector:
    """Rows less their mean, of unit length; what is the mean stays zero."""
    return of_unit_length(rows - mean)


def of_unit_length(rows: Vector) -> Vector:
    """Rows (n, m) of unit length; what is next to nothing is zero."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(lengths > 1e-5, rows / np.maximum(lengths, 1e-5), 0).astype(np.float32)


def axes_for(clusters: int) -> int:
    """How many leading axes tell so many clusters apart."""
    return max(LEAST_AXES, clusters + SPARE_AXES)


def centres_of(rows: Vector, weights: Vector, most: int) -> Centres:
    """The centres of at most so many clusters of unit rows (n, m), (k, m), each of unit length; one at least."""
    leaves = [_Leaf(rows, weights, np.arange(len(rows)))]
    while len(leaves) < most:
        steepest = max(leaves, key=lambda leaf: leaf.gain)
        if steepest.gain <= 0:
            break
        at = leaves.index(steepest)
        leaves[at : at + 1] = [_Leaf(rows, weights, half) for half in steepest.halves]
    centres = np.stack([leaf.centre for leaf in leaves])
    for _ in range(_SETTLING):
        centres = moved(rows, weights, centres)
    return centres


def moved(rows: Vector, weights: Vector, centres: Centres) -> Centres:
    """The centres of what lies nearest to each; one with nothing near it stays."""
    nearest, _ = nearest_centres(rows, centres)
    order = np.argsort(nearest, kind="stable")
    found, starts = np.unique(nearest[order], return_index=True)
    sums = np.zeros(centres.shape, np.float64)
    sums[found] = np.add.reduceat(rows[order] * weights[order, np.newaxis], starts, axis=0)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(lengths > 1e-5, sums / np.maximum(lengths, 1e-5), centres).astype(np.float32)


def nearest_centres(rows: Vector, centres: Centres) -> tuple[Rows, Vector]:
    """For each row its nearest centre, and its cosines with all of them, (n, k)."""
    cosines: Vector = rows @ centres.T
    return cosines.argmax(axis=1), cosines


def undecided(cosines: Vector, within: float) -> Mask:
    """Which rows lie nearly as near to a second centre as to their own: those that a finer level is asked about."""
    if cosines.shape[1] < 2:
        return np.zeros(len(cosines), np.bool_)
    two = np.partition(cosines, -2, axis=1)[:, -2:]
    found: Mask = two[:, 1] - two[:, 0] < within
    return found


class _Leaf:
    """One cluster, and what would be won by splitting it in two: `gain` of 0 where it is better left whole."""

    def __init__(self, rows: Vector, weights: Vector, members: Rows) -> None:
        self.gain = 0.0
        self.halves: tuple[Rows, ...] = ()
        own, weight = rows[members], weights[members][:, np.newaxis]
        total = (own * weight).sum(axis=0)
        length = float(np.linalg.norm(total))
        self.centre: Vector = total / max(length, 1e-9)
        if len(members) < 2 * LEAST_MEMBERS:
            return
        side = _sides(own, weight, total / max(float(weight.sum()), 1e-9))
        first, second = (own[side] * weight[side]).sum(axis=0), (own[~side] * weight[~side]).sum(axis=0)
        lengths = float(np.linalg.norm(first)), float(np.linalg.norm(second))
        few = min(int(side.sum()), int((~side).sum())) < LEAST_MEMBERS
        if few or min(lengths) < 1e-6 or float(first @ second) > ALIKE * lengths[0] * lengths[1]:
            return
        # how much nearer all lie to two centres than to one
        self.gain = sum(lengths) - length
        self.halves = members[side], members[~side]


def _sides(own: Vector, weight: Vector, mean: Vector) -> Mask:
    """Which of a cluster's rows lie on one side of it: along its longest axis first, then by two centres."""
    apart = own - mean
    axis = apart[np.argmax((np.square(apart) * weight).sum(axis=1))]
    for _ in range(_TURNS):
        axis = (apart * weight).T @ (apart @ axis)
        axis = axis / max(float(np.linalg.norm(axis)), 1e-12)
    side: Mask = apart @ axis > 0
    for _ in range(_MOVES):
        if side.all() or not side.any():
            break
        two = of_unit_length(np.stack([(own[half] * weight[half]).sum(axis=0) for half in (side, ~side)]))
        now = own @ two[0] > own @ two[1]
        if (now == side).all():
            break
        side = now
    return side
