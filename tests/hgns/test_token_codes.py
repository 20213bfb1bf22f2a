"""A digit a dimension of every token, and the nearest token of a memory for each of the question's."""

from __future__ import annotations

import numpy as np
import pytest

from membank_llama.hgns import token_codes as module
from membank_llama.hgns.token_codes import AskedTokens, best_matches, token_bytes, token_codes


def unit_rows(count: int, dim: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(("dim", "nbytes"), [(1, 8), (64, 8), (65, 16), (384, 48), (576, 72), (896, 112)])
def test_a_token_takes_whole_words(dim: int, nbytes: int) -> None:
    assert token_bytes(dim) == nbytes
    codes = token_codes(unit_rows(3, dim, 1))
    assert codes.shape == (3, nbytes) and codes.dtype == np.uint8
    bits = np.unpackbits(codes, axis=1)
    assert not bits[:, dim:].any()
    assert (bits[:, :dim] == (unit_rows(3, dim, 1) > 0)).all()


@pytest.mark.parametrize("dim", [64, 100, 384])
def test_the_nearest_token_of_each_memory(dim: int) -> None:
    held, asked = unit_rows(40, dim, 2), unit_rows(5, dim, 3)
    counts = np.array([7, 0, 13, 1, 19, 0], np.int32)
    found = best_matches(AskedTokens.of(asked), token_codes(held), counts)
    # the question's coordinates in two sizes each, the memory's in none
    size = np.abs(asked)
    large = size > size.mean(axis=1, keepdims=True)
    two = np.stack(
        [
            np.where(mask, row[mask].mean(), row[~mask].mean()) * np.sign(given)
            for row, mask, given in zip(size, large, asked, strict=True)
        ]
    )
    cosines = two @ np.sign(held).T / np.sqrt(dim)
    ends = np.cumsum(counts)
    for memory, (end, count) in enumerate(zip(ends, counts, strict=True)):
        expected = cosines[:, end - count : end].max(axis=1) if count else np.zeros(5)
        assert np.allclose(found[:, memory], expected, atol=1e-5)


def test_it_is_near_the_cosine_with_what_was_encoded() -> None:
    held, asked = unit_rows(300, 384, 4), unit_rows(6, 384, 5)
    asked[0] = held[17]
    found = best_matches(AskedTokens.of(asked), token_codes(held), np.ones(300, np.int32))
    assert found[0].argmax() == 17 and found[0, 17] > 0.7
    assert np.corrcoef(found.ravel(), (asked @ held.T).ravel())[0, 1] > 0.75


def test_nothing_asked_or_nothing_held() -> None:
    nothing = np.zeros((0, 64), np.float32)
    asked, held = AskedTokens.of(unit_rows(2, 64, 6)), token_codes(unit_rows(2, 64, 7))
    assert best_matches(AskedTokens.of(nothing), held, np.array([2])).shape == (0, 1)
    assert best_matches(asked, held[:0], np.zeros(0, np.int32)).shape == (2, 0)
    assert (best_matches(asked, held[:0], np.zeros(3, np.int32)) == 0).all()
    assert len(asked.only(np.array([True, False]))) == 1


def test_numpy_that_counts_no_bits_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, held, counts = AskedTokens.of(unit_rows(3, 100, 8)), token_codes(unit_rows(9, 100, 9)), np.array([4, 5])
    before = best_matches(asked, held, counts)
    monkeypatch.setattr(module, "bit_counts", module._counted_by_table)
    assert (best_matches(asked, held, counts) == before).all()
