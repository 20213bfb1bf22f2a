"""Level 0 in a byte a dimension."""

from __future__ import annotations

import numpy as np
import pytest

from membank_llama.core.errors import BankFormatError, InvalidInputError
from membank_llama.hgns.byte_vectors import byte_vector_bytes, from_bytes, to_bytes
from membank_llama.hgns.hierarchy import HGNSHierarchy


def unit_rows(count: int, dim: int) -> np.ndarray:
    rows = np.random.default_rng(dim).standard_normal((count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("dim", [1, 7, 384])
def test_a_vector_comes_back_nearly_as_it_was(dim: int) -> None:
    rows = unit_rows(50, dim)
    codes = to_bytes(rows)
    assert codes.shape == (50, byte_vector_bytes(dim)) == (50, dim + 4)
    again = from_bytes(codes, dim)
    assert np.allclose(np.linalg.norm(again, axis=1), 1, atol=1e-5)
    assert (np.einsum("ij,ij->i", rows, again) > 0.9999).all()
    assert np.allclose(to_bytes(again)[:, 4:], codes[:, 4:])


def test_the_hierarchy_writes_it_and_knows_it_again() -> None:
    plain, small = HGNSHierarchy(384), HGNSHierarchy(384, full="int8")
    assert small.nbytes(0) == 388 and plain.nbytes(0) == 1536
    assert small.dtypes[0] == "int8" and plain.dtypes[0] == "float32"
    assert small.tag != plain.tag
    rows, query = unit_rows(200, 384), unit_rows(3, 384)[0]
    zero, one, two = small.compress(rows)
    assert all((mine == other).all() for mine, other in zip((one, two), plain.compress(rows)[1:], strict=True))
    exact = rows @ query
    assert np.abs(small.score(query, zero, 0) - exact).max() < 1e-3
    assert np.abs(small.decode(zero, 0) @ query - exact).max() < 1e-3
    again = HGNSHierarchy.from_spec(small.spec())
    assert again.spec() == small.spec() and again.full == "int8"
    assert "full" not in plain.spec()


def test_what_is_no_level_0_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="float32, int8"):
        HGNSHierarchy(8, full="int4")
    with pytest.raises(BankFormatError, match="membank reencode"):
        HGNSHierarchy.from_spec(HGNSHierarchy(8, full="int8").spec() | {"full": "int4"})


def test_damage_is_near_to_nothing_and_raises_nothing() -> None:
    hierarchy = HGNSHierarchy(16, full="int8")
    codes = hierarchy.compress(unit_rows(2, 16))[0].copy()
    codes[0, :4] = np.frombuffer(np.float32(np.nan).tobytes(), np.uint8)
    codes[1] = 0
    assert (hierarchy.score(unit_rows(1, 16)[0], codes, 0) == 0).all()
