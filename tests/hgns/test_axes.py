"""A bank's own axes: found, stored, refused when damaged; digits spent where the vectors differ."""

from __future__ import annotations

import json

import numpy as np
import pytest

from membank_llama.core.errors import BankCorruptError, BankFormatError, EncodingError, InvalidInputError
from membank_llama.core.types import Vector
from membank_llama.hgns.axes import DENSE, Axes, anisotropy, calibrate
from membank_llama.hgns.axes_codec import AxesCodec, left_after
from membank_llama.hgns.bit_allocation import pack, spend, spend_packed
from membank_llama.hgns.hierarchy import HGNSHierarchy


def falling(count: int, dim: int, seed: int = 0, common: float = 0.0, power: float = 0.7) -> Vector:
    """Unit rows around topics; their variance falls from axis to axis, and all share `common` of one direction."""
    fixed = np.random.default_rng(1)
    turn = np.linalg.qr(fixed.standard_normal((dim, dim)))[0]
    topics = fixed.standard_normal((200, dim))
    rng = np.random.default_rng(seed)
    rows = (topics[rng.integers(0, 200, count)] + 0.7 * rng.standard_normal((count, dim))) * np.arange(
        1.0, dim + 1
    ) ** -power
    rows = rows @ turn / np.linalg.norm(rows, axis=1, keepdims=True)
    rows[:, 3] += common
    unit: Vector = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def precision(hierarchy: HGNSHierarchy, rows: Vector, level: int, queries: int = 60) -> float:
    """P@5 of one level against cosine in the corrected space."""
    codes, space = hierarchy.compress(rows)[level], hierarchy.corrected(rows)
    hits = 0
    for query in range(queries):
        exact, scored = space @ space[query], hierarchy.score(rows[query], codes, level)
        exact[query] = scored[query] = -2
        hits += len(set(np.argsort(-exact)[:5]) & set(np.argsort(-scored)[:5]))
    return hits / (5 * queries)


@pytest.mark.parametrize("dim", [16, 96, 384])
def test_axes_turn_and_keep_cosines_where_nothing_is_corrected(dim: int) -> None:
    rows = falling(600, dim)
    axes = calibrate(rows, correct=False)
    turned = axes.corrected(rows)
    assert turned @ turned.T == pytest.approx(rows @ rows.T, abs=1e-5)
    assert not axes.corrects
    assert (np.diff(turned.var(axis=0)[: dim // 2]) < 1e-4).all(), "of most energy first"
    assert turned.mean(axis=0) == pytest.approx(axes.centre, abs=1e-4)


def test_beyond_dense_reflections_stand_for_the_matrix() -> None:
    dim = DENSE + 76
    rows = falling(300, dim)
    axes = calibrate(rows, correct=False)
    assert axes.basis.shape == (dim, 0)
    turned = axes.corrected(rows)
    assert turned @ turned.T == pytest.approx(rows @ rows.T, abs=1e-4)
    assert turned.var(axis=0)[:50].sum() > 0.5 * turned.var(axis=0).sum()
    assert len(axes.to_bytes()) < dim * dim * 4
    hierarchy = HGNSHierarchy(dim, axes=axes)
    assert precision(hierarchy, rows, 1) > 0.97


def test_calibrating_twice_gives_the_same_bytes() -> None:
    rows = falling(400, 64)
    assert calibrate(rows).to_bytes() == calibrate(rows.copy()).to_bytes()


def test_axes_survive_their_bytes_and_damage_is_noticed() -> None:
    axes = calibrate(falling(300, 48, common=2.0))
    data = axes.to_bytes()
    again = Axes.from_bytes(data)
    assert again.digest == axes.digest
    assert (again.basis == axes.basis).all()
    for damaged in (b"", data[:-1], data[:100] + bytes([data[100] ^ 1]) + data[101:], b"X" + data[1:]):
        with pytest.raises(BankCorruptError, match="checksum"):
            Axes.from_bytes(damaged)


def test_axes_of_what_cannot_have_any() -> None:
    with pytest.raises(InvalidInputError, match="at least 2 vectors"):
        calibrate(np.ones((1, 8), np.float32))
    with pytest.raises(EncodingError):
        calibrate(np.zeros((5, 8), np.float32))
    axes = calibrate(np.ones((5, 8), np.float32), correct=True)
    assert np.isfinite(axes.corrected(falling(3, 8))).all(), "vectors that are all the same"
    with pytest.raises(InvalidInputError, match="do not fit"):
        HGNSHierarchy(9, axes=axes)
    with pytest.raises(InvalidInputError, match="takes no axes"):
        HGNSHierarchy(8, "digits", axes=axes)


def test_a_rogue_dimension_is_corrected() -> None:
    """Every vector leans the same way, by amounts that say nothing: the cosine follows them, the corrected one not."""
    plain = falling(1500, 96, power=0.0)
    lean = np.random.default_rng(5).normal(1.2, 0.5, len(plain))
    leaning = plain.copy()
    leaning[:, 7] += lean
    leaning = (leaning / np.linalg.norm(leaning, axis=1, keepdims=True)).astype(np.float32)
    assert anisotropy(plain) < 0.1 < 0.5 < anisotropy(leaning)
    axes = calibrate(leaning)
    assert axes.corrects
    assert axes.removed == 1
    assert not calibrate(plain).corrects
    fixed = axes.corrected(leaning)
    wanted, bent, mended = (
        [set(np.argsort(-(space @ space[q]))[1:11]) for q in range(100)] for space in (plain, leaning, fixed)
    )

    def agree(found: list[set[int]]) -> float:
        return sum(len(a & b) for a, b in zip(wanted, found, strict=True)) / 1000

    assert agree(mended) > agree(bent) + 0.1


@pytest.mark.parametrize("dim", [8, 32, 64, 100, 128, 256, 384, 576, 768, 1024, 1100])
@pytest.mark.parametrize("correct", [False, True])
def test_levels_keep_their_budget(dim: int, correct: bool) -> None:
    rows = falling(256, dim)
    hierarchy = HGNSHierarchy(dim, axes=calibrate(rows, correct=correct))
    full, fine, coarse = hierarchy.compress(rows)
    assert full.tobytes() == rows.tobytes()
    assert fine.shape[1] <= 0.33 * 4 * dim
    assert coarse.shape[1] <= max(1, 0.085 * 4 * dim)
    for level, codes in enumerate((full, fine, coarse)):
        assert codes.shape[1] == hierarchy.nbytes(level)
        decoded = hierarchy.decode(codes, level)
        assert np.linalg.norm(decoded, axis=1) == pytest.approx(np.ones(256), abs=1e-4)
        if level:
            scores = hierarchy.score(rows[5] * 3, codes, level)
            assert scores == pytest.approx(decoded @ hierarchy.corrected(rows[5:6])[0], abs=1e-5)
    noise = np.random.default_rng(0).integers(0, 256, (20, hierarchy.nbytes(1)), np.uint8)
    assert np.isfinite(hierarchy.decode(noise, 1)).all()
    assert np.isfinite(hierarchy.score(rows[0], noise[:, : hierarchy.nbytes(2)], 2)).all()


def test_digits_go_where_the_vectors_differ() -> None:
    codec = AxesCodec(384, 2, 4, calibrate(falling(2000, 384), correct=False))
    digits = codec.digits.astype(int)
    assert digits[0] == 8
    assert digits[-1] <= 1
    assert digits[:50].sum() > 2 * digits[-50:].sum()
    assert set(codec._second) <= set(codec._first)
    assert codec._second.max() < 384 // 2


def test_spending_takes_the_steepest_descent() -> None:
    left = np.array([left_after(1 << digits) for digits in range(9)])
    assert (np.diff(left) < 0).all()
    assert (np.diff(left, 2) > 0).all()
    assert spend(np.array([1.0, 1.0, 0.0], np.float32), left, 4).tolist() == [2, 2, 0]
    assert spend(np.array([4.0, 1.0], np.float32), left, 3).tolist() == [3, 0]
    assert spend(np.array([1.0], np.float32), left, 99).tolist() == [8]
    spread = np.linspace(1, 0.2, 40).astype(np.float32)
    digits, shared = spend_packed(spread, left, 1, 13)
    assert len(shared) <= 13
    assert sorted(axis for axes in shared for axis in axes) == np.flatnonzero(digits).tolist()
    assert all(sum(int(digits[axis]) for axis in axes) <= 8 for axes in shared)
    assert int(digits.sum()) >= 0.9 * 13 * 8
    assert pack(np.array([8, 8, 3], np.uint8), 1, 2) == [[0], [1]]


def test_level_two_is_the_beginning_of_level_one() -> None:
    rows = falling(500, 96)
    hierarchy = HGNSHierarchy(96, axes=calibrate(rows))
    _, fine, coarse = hierarchy.compress(rows)
    codec = hierarchy._codec
    assert isinstance(codec, AxesCodec)
    assert (codec._coarse(fine[:, : len(codec._first)]) == coarse).all()


@pytest.mark.parametrize("k", [2, 4, 16])
def test_axes_beat_digits_of_every_dimension(k: int) -> None:
    rows = falling(2000, 192)
    plain, along = HGNSHierarchy(192, "digits"), HGNSHierarchy(192, k=k, axes=calibrate(rows, correct=False))
    assert precision(along, rows, 2) > precision(plain, rows, 2)
    assert precision(along, rows, 1) >= 0.99


def test_leading_axes_rank_as_the_level_does() -> None:
    rows = falling(1000, 96)
    hierarchy = HGNSHierarchy(96, axes=calibrate(rows))
    codes = hierarchy.compress(rows)[2]
    count = hierarchy.axes_holding(0.9)
    assert 1 < count < 96
    for query in rows[:30]:
        whole = hierarchy.index_rows(codes, 96) @ hierarchy.index_query(query, 96)
        assert np.argsort(-whole)[:20].tolist() == np.argsort(-hierarchy.score(query, codes, 2))[:20].tolist()
        part = hierarchy.index_rows(codes, count) @ hierarchy.index_query(query, count)
        assert len(set(np.argsort(-whole)[:5]) & set(np.argsort(-part)[:60])) >= 4


def test_a_spec_names_its_axes() -> None:
    axes, others = calibrate(falling(300, 32)), calibrate(falling(300, 32, seed=2))
    spec = json.loads(json.dumps(HGNSHierarchy(32, axes=axes).spec()))
    assert HGNSHierarchy.from_spec(spec, axes).spec() == spec
    for wrong in (None, others):
        with pytest.raises(BankFormatError, match="membank reencode"):
            HGNSHierarchy.from_spec(spec, wrong)
    assert HGNSHierarchy(32, axes=axes).tag != HGNSHierarchy(32, axes=others).tag
