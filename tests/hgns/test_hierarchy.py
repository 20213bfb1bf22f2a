"""The three levels: byte budgets, round trips, the same bytes everywhere, and what each level still knows."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest

from membank_llama.core.errors import BankFormatError, EncodingError, InvalidInputError
from membank_llama.core.types import Vector
from membank_llama.hgns.digits_codec import DigitsCodec
from membank_llama.hgns.hierarchy import CODECS, HGNSHierarchy

DIMS = [32, 64, 100, 128, 256, 384, 576, 768, 1024, 4096]


def clustered(count: int, dim: int, seed: int = 0) -> Vector:
    """Unit rows around a few hundred centres, as texts around topics."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, count // 20), dim))
    rows = centres[rng.integers(0, len(centres), count)] + rng.standard_normal((count, dim))
    unit: Vector = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def written_down(count: int, dim: int) -> Vector:
    """Unit rows from whole numbers, the same to the bit on every machine."""
    grid = (np.arange(count * dim, dtype=np.int64) * 7919 + 104729) % 2003 - 1001
    rows = grid.reshape(count, dim).astype(np.float64)
    unit: Vector = (rows / np.sqrt((rows * rows).sum(axis=1, keepdims=True))).astype(np.float32)
    return unit


def precision(hierarchy: HGNSHierarchy, rows: Vector, level: int, top: int = 5, queries: int = 60) -> float:
    """Share of the true nearest `top` that are among the nearest by one level's codes."""
    codes = hierarchy.compress(rows)[level]
    hits = 0
    for query in range(queries):
        exact = rows @ rows[query]
        scored = hierarchy.score(rows[query], codes, level)
        exact[query] = scored[query] = -2
        hits += len(set(np.argsort(-exact)[:top]) & set(np.argsort(-scored)[:top]))
    return hits / (top * queries)


@pytest.mark.parametrize("codec", sorted(CODECS))
@pytest.mark.parametrize("dim", DIMS)
def test_levels_keep_their_budget(codec: str, dim: int) -> None:
    hierarchy = HGNSHierarchy(dim, codec)
    full, fine, coarse = hierarchy.compress(clustered(3, dim))
    assert full.shape == (3, 4 * dim)
    assert fine.shape[1] <= 0.33 * 4 * dim
    assert coarse.shape[1] <= 0.085 * 4 * dim
    assert [full.shape[1], fine.shape[1], coarse.shape[1]] == [hierarchy.nbytes(level) for level in range(3)]
    assert hierarchy.slot_bytes == full.shape[1] + fine.shape[1] + coarse.shape[1]
    bounds = list(hierarchy.spans)
    assert bounds[0][0] == 0
    assert bounds[0][1] == bounds[1][0]
    assert bounds[1][1] == bounds[2][0]
    assert bounds[2][1] == hierarchy.slot_bytes
    slots = hierarchy.slots(clustered(3, dim))
    for (start, stop), codes in zip(bounds, (full, fine, coarse), strict=True):
        assert (slots[:, start:stop] == codes).all()


@pytest.mark.parametrize(
    ("dim", "k", "expected"),
    [
        (768, 6, [3072, 768, 256]),  # three dimensions to a byte
        (100, 6, [400, 100, 34]),
        (64, 6, [256, 64, 21]),  # 63 dimensions fit
        (768, 2, [3072, 768, 192]),  # two digits, four dimensions to a byte
        (768, 10, [3072, 768, 261]),  # two digits fill a byte: 522 dimensions fit
    ],
)
def test_bytes_of_the_digits_codec(dim: int, k: int, expected: list[int]) -> None:
    assert HGNSHierarchy(dim, "digits", k=k).spec()["bytes"] == expected


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_level_zero_is_float32_to_the_bit(codec: str) -> None:
    rows = clustered(50, 96)
    hierarchy = HGNSHierarchy(96, codec)
    codes = hierarchy.compress(rows)[0]
    assert codes.tobytes() == rows.astype("<f4").tobytes()
    assert hierarchy.decode(codes, 0).tobytes() == rows.tobytes()
    assert hierarchy.score(rows[3], codes, 0) == pytest.approx(rows @ rows[3], abs=1e-6)


@pytest.mark.parametrize("codec", sorted(CODECS))
@pytest.mark.parametrize("level", [0, 1, 2])
def test_score_is_the_cosine_of_what_was_decoded(codec: str, level: int) -> None:
    rows = clustered(40, 100)
    hierarchy = HGNSHierarchy(100, codec)
    codes = hierarchy.compress(rows)[level]
    decoded = hierarchy.decode(codes, level)
    assert decoded.dtype == np.float32
    assert np.linalg.norm(decoded, axis=1) == pytest.approx(np.ones(40), abs=1e-5)
    # selection reduces the query like the rows, digits takes it as it is
    query = decoded[7] if codec == "selection" else rows[7]
    scores = hierarchy.score(rows[7] * 3, codes, level)
    assert scores.dtype == np.float32
    assert scores == pytest.approx(decoded @ query, abs=1e-3 if codec == "selection" else 1e-5)
    strided = np.zeros((40, 2 * codes.shape[1]), np.uint8)[:, ::2]
    strided[:] = codes
    assert (hierarchy.score(rows[7] * 3, strided, level) == scores).all()


@pytest.mark.parametrize("k", [2, 3, 4, 5, 6, 7, 10, 16, 256])
def test_digits_are_those_of_the_companded_number(k: int) -> None:
    codec = DigitsCodec(48, k, 4)
    rows = clustered(200, 48)
    _, fine, coarse = codec.encode(rows)
    edges = codec._quantiser.thresholds
    digits1 = max(count for count in range(1, 9) if k**count <= 256)
    assert len(edges) == k**digits1 - 1
    assert (fine == np.searchsorted(edges, rows, "right")).all()
    # a coarser level is the leading digits of the finer one
    lead = fine[:, : codec._dims2] // k ** (digits1 - codec.digits2)
    per_byte = digits1 // codec.digits2
    unpacked = np.zeros((200, coarse.shape[1] * per_byte), np.int64)
    rest = coarse.astype(np.int64)
    for part in reversed(range(per_byte)):
        rest, unpacked[:, part::per_byte] = np.divmod(rest, k**codec.digits2)
    assert not rest.any()
    assert (unpacked[:, : codec._dims2] == lead).all()


def test_digits_are_exact_at_the_thresholds() -> None:
    codec = DigitsCodec(64, 6, 4)
    edges = codec._quantiser.thresholds
    values = np.concatenate([edges, np.nextafter(edges, np.float32(-1)), np.nextafter(edges, np.float32(1))])
    values = np.concatenate([values, np.array([-1, 1, 0, -0.0, 1e-30, -1e-30], np.float32)])
    assert (codec._quantiser(values[np.newaxis])[0] == np.searchsorted(edges, values, "right")).all()


def test_decoding_and_encoding_again_changes_nothing() -> None:
    rows = clustered(300, 768)
    hierarchy = HGNSHierarchy(768)
    fine = hierarchy.compress(rows)[1]
    again = hierarchy.compress(hierarchy.decode(fine, 1))
    assert (again[1] == fine).all()
    assert (hierarchy.decode(fine, 1) * rows).sum(axis=1).min() > 0.9998


def test_mirrored_vectors_decode_to_mirrored_ones() -> None:
    rows = clustered(20, 384)
    hierarchy = HGNSHierarchy(384)
    for level in (1, 2):
        there = hierarchy.decode(hierarchy.compress(rows)[level], level)
        back = hierarchy.decode(hierarchy.compress(-rows)[level], level)
        assert there == pytest.approx(-back, abs=1e-6)


GOLDEN = {
    # before a bank has axes, the codec of that name writes what `digits` does
    "axes": "6c8c7b38a90ad16e6567c6516ebb6040c4156497a74c7fee3045d76f6f2fe5c3",
    "digits": "6c8c7b38a90ad16e6567c6516ebb6040c4156497a74c7fee3045d76f6f2fe5c3",
    "selection": "9de50b793e0080ca6ba16a406ffbdece65a837fda930157884665f47a0fcc326",
}


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_the_same_bytes_on_every_machine(codec: str) -> None:
    rows = written_down(20, 384)
    levels = HGNSHierarchy(384, codec).compress(rows)
    assert hashlib.sha256(b"".join(codes.tobytes() for codes in levels)).hexdigest() == GOLDEN[codec]
    one_by_one = [HGNSHierarchy(384, codec).compress(row[np.newaxis]) for row in rows]
    for level, codes in enumerate(levels):
        assert (np.concatenate([part[level] for part in one_by_one]) == codes).all()


def test_precision_of_the_levels() -> None:
    rows = clustered(2000, 384)
    digits, selection = HGNSHierarchy(384), HGNSHierarchy(384, "selection")
    assert precision(digits, rows, 0) == 1.0
    assert precision(digits, rows, 1) >= 0.94
    assert precision(digits, rows, 2) >= 0.6
    assert precision(selection, rows, 0) == 1.0
    assert precision(selection, rows, 2) < precision(digits, rows, 2)


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_vectors_of_another_length_are_brought_to_one(codec: str) -> None:
    rows = clustered(10, 64)
    scaled = rows.copy()
    scaled[3:6] *= 17
    hierarchy = HGNSHierarchy(64, codec)
    before = scaled.copy()
    for one, other in zip(hierarchy.compress(rows)[1:], hierarchy.compress(scaled)[1:], strict=True):
        assert (one[:3] == other[:3]).all()
        assert (one != other).mean() < 0.02
    assert (scaled == before).all(), "the caller's rows are not changed"
    huge = np.full((1, 64), 1e30, np.float32)
    assert np.isfinite(hierarchy.decode(hierarchy.compress(huge)[0], 0)).all()


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_vectors_that_cannot_be_encoded(codec: str) -> None:
    hierarchy = HGNSHierarchy(8, codec)
    for bad in (0.0, np.nan, np.inf):
        with pytest.raises(EncodingError, match="nothing was encoded"):
            hierarchy.compress(np.full((2, 8), bad, np.float32))
    for shape in ((8,), (1, 7), (1, 1, 8)):
        with pytest.raises(EncodingError, match="shape"):
            hierarchy.compress(np.ones(shape, np.float32))
    assert [codes.shape[0] for codes in hierarchy.compress(np.zeros((0, 8), np.float32))] == [0, 0, 0]
    with pytest.raises(EncodingError):
        hierarchy.score(np.zeros(8, np.float32), np.zeros((1, 32), np.uint8), 0)


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_codes_that_do_not_fit(codec: str) -> None:
    hierarchy = HGNSHierarchy(8, codec)
    for level in range(3):
        assert hierarchy.decode(np.zeros((0, hierarchy.nbytes(level)), np.uint8), level).shape == (0, 8)
        with pytest.raises(InvalidInputError, match="codes of shape"):
            hierarchy.decode(np.zeros((1, hierarchy.nbytes(level) + 1), np.uint8), level)
    with pytest.raises(InvalidInputError, match="unknown level 3"):
        hierarchy.decode(np.zeros((1, 1), np.uint8), 3)


def test_any_bytes_decode_without_a_fault() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 64), np.uint8)
    hierarchy = HGNSHierarchy(64)
    assert np.isfinite(hierarchy.decode(noise, 1)).all()
    assert np.isfinite(hierarchy.decode(noise[:, :21], 2)).all()
    selection = HGNSHierarchy(64, "selection")
    with pytest.raises(InvalidInputError, match="not made by this codec"):
        selection.decode(np.full((1, selection.nbytes(2)), 255, np.uint8), 2)


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 11])
@pytest.mark.parametrize("codec", sorted(CODECS))
def test_tiny_vectors_work_too(codec: str, dim: int) -> None:
    hierarchy = HGNSHierarchy(dim, codec)
    rows = clustered(4, dim)
    for level, codes in enumerate(hierarchy.compress(rows)):
        assert np.isfinite(hierarchy.decode(codes, level)).all()
        assert np.isfinite(hierarchy.score(rows[0], codes, level)).all()


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_a_spec_survives_json(codec: str) -> None:
    base = 4 if codec == "axes" else 8
    hierarchy = HGNSHierarchy(96, codec, k=base, gradient_levels=3)
    again = HGNSHierarchy.from_spec(json.loads(json.dumps(hierarchy.spec())))
    assert again.spec() == hierarchy.spec()
    assert (again.codec_name, again.k, again.tag) == (codec, base, hierarchy.tag)
    assert len(hierarchy.tag) == 16
    assert hierarchy.tag != HGNSHierarchy(96, codec).tag
    rows = clustered(5, 96)
    assert (again.slots(rows) == hierarchy.slots(rows)).all()


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2}, {"codec": "wavelets"}, {"colour": "blue"}, {"k": 1}, {"k": "six"}, {"dim": 0},
        {"bytes": [1, 2, 3]}, {"dim": None}, {"dim": 96.0}, {"gradient_levels": 0},
    ],
)  # fmt: skip
def test_a_spec_that_is_not_known(change: dict[str, Any]) -> None:
    spec = {**HGNSHierarchy(96).spec(), **change}
    with pytest.raises(BankFormatError, match="membank reencode"):
        HGNSHierarchy.from_spec(spec)


@pytest.mark.parametrize("key", sorted(HGNSHierarchy(96).spec()))
def test_a_spec_that_lacks_something(key: str) -> None:
    spec = HGNSHierarchy(96).spec()
    del spec[key]
    with pytest.raises(BankFormatError, match=key):
        HGNSHierarchy.from_spec(spec)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "dim must be"),
        ({"dim": 8, "codec": "zip"}, "use one of axes, digits, selection"),
        ({"dim": 8, "k": 1}, "k must be"),
        ({"dim": 8, "codec": "digits", "k": 257}, "2 to 256"),
        ({"dim": 8, "k": 3}, "2, 4, 16"),
        ({"dim": 8, "gradient_levels": 0}, "level must be"),
        ({"dim": 65537, "codec": "selection"}, "16 bits"),
        ({"dim": 8, "codec": "selection", "gradient_levels": 30}, "lost in float64"),
    ],
)
def test_impossible_parameters(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        HGNSHierarchy(**arguments)
