"""What is tried at a model's first use, what comes of it, and what a wrong piece is told by after that."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.own_contexts import KEY, Opened, OwnContext, pieces_of, story

from membank_llama.kv import opening
from membank_llama.kv.agreement import TOLERANCE, agree, distance
from membank_llama.kv.cells import ContextCells, top_of
from membank_llama.kv.piece import Cells, TopLogits, encode
from membank_llama.kv.piece_store import PieceStore
from membank_llama.kv.prefix_cache import PrefixCache
from membank_llama.kv.self_test import NAME
from membank_llama.kv.self_test import tested as tried


class Counted(ContextCells):
    """Says how often it was asked to evaluate."""

    asked = 0

    def evaluate(self, *args: object) -> bool:
        self.asked += 1
        return super().evaluate(*args)  # type: ignore[arg-type]


class Forgetful(ContextCells):
    """Says that it has put cells back, and has not."""

    def put(self, seq: int, cells: Cells, whole: tuple[int, int], begin: int, end: int) -> bool:
        return True


class Careless(ContextCells):
    """Puts back other cells than it was given."""

    def put(self, seq: int, cells: Cells, whole: tuple[int, int], begin: int, end: int) -> bool:
        other = cells.copy()
        other[len(other) // 2 :: 7] ^= 0x55
        return super().put(seq, other, whole, begin, end)


def of(kind: type[ContextCells], context: OwnContext) -> ContextCells:
    return kind(context.ctx, 1, context.n_vocab)


def test_it_holds_and_is_tried_once(opened: Opened, either_gguf: Path, tmp_path: Path) -> None:
    context = opened(either_gguf)
    cells = Counted(context.ctx, 1, context.n_vocab)
    found = tried("key", cells, context.n_vocab, tmp_path)
    assert found.holds and found.drift == 0.0
    assert cells.asked > 0 and cells.span(0) == (0, 0) == cells.span(1)
    cells.asked = 0
    assert tried("key", cells, context.n_vocab, tmp_path) == found
    assert cells.asked == 0
    assert tried("other", cells, context.n_vocab, tmp_path) == found
    assert cells.asked > 0
    assert len(json.loads((tmp_path / NAME).read_text())) == 2


@pytest.mark.parametrize("kind", [Forgetful, Careless])
def test_a_model_that_loses_cells(
    opened: Opened, either_gguf: Path, tmp_path: Path, kind: type[ContextCells], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = opened(either_gguf)
    found = tried("key", of(kind, context), context.n_vocab, tmp_path)
    assert not found.holds and found.reason
    # it is not trusted the next time, nor by whoever opens it
    assert tried("key", of(ContextCells, context), context.n_vocab, tmp_path) == found
    monkeypatch.setenv("MEMBANK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(opening, "ContextCells", kind)
    assert opening.open_prefix_cache(pieces_of(tmp_path / "bank"), context.known) is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "5", "null", '{"KEY": {}}', '{"KEY": []}', '{"KEY": {"holds": true}}', "[" * 20000,
     '{"KEY": {"holds": "no", "drift": 0, "reason": ""}}', '{"KEY": {"holds": true, "drift": [], "reason": ""}}',
     '{"KEY": {"holds": true, "drift": 1%s, "reason": ""}}' % ("0" * 400), "\0", '{"KEY": null}'],
)  # fmt: skip
def test_a_damaged_verdict_is_found_again(opened: Opened, stories_chatml_gguf: Path, tmp_path: Path, text: str) -> None:
    context = opened(stories_chatml_gguf)
    cells = Counted(context.ctx, 1, context.n_vocab)
    tried("key", cells, context.n_vocab, tmp_path)
    (key,) = json.loads((tmp_path / NAME).read_text())
    (tmp_path / NAME).write_text(text.replace("KEY", key))
    cells.asked = 0
    assert tried("key", cells, context.n_vocab, tmp_path).holds
    assert cells.asked > 0
    assert json.loads((tmp_path / NAME).read_text())[key]["holds"] is True


def test_a_verdict_that_cannot_be_kept(opened: Opened, stories_chatml_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    context = opened(stories_chatml_gguf)
    assert tried("key", context.cells, context.n_vocab, tmp_path / "file").holds


@pytest.mark.parametrize("n_batch", [2, 8, 23])
def test_small_batches(opened: Opened, stories_chatml_gguf: Path, tmp_path: Path, n_batch: int) -> None:
    """llama.cpp ends the process where a batch is larger than the context was made for."""
    assert tried(
        "key", (context := opened(stories_chatml_gguf, n_batch=n_batch)).cells, context.n_vocab, tmp_path
    ).holds


# -- after that


def test_distance() -> None:
    logits = np.random.default_rng(1).standard_normal(512).astype(np.float32)
    top = top_of(logits)
    assert distance(top, logits) == 0.0
    assert agree(top, logits + 0.2 * TOLERANCE * logits.std().item())
    assert not agree(top, np.roll(logits, 1))
    assert not agree(top, np.full(512, np.nan, np.float32))
    assert not agree(TopLogits(), logits)
    # of a model of more tokens
    assert not agree(TopLogits(np.array([512], np.int32), np.zeros(1, np.float32)), logits)
    assert not agree(TopLogits(np.array([-1], np.int32), np.zeros(1, np.float32)), logits)


def with_wrong_cells(context: OwnContext, store: PieceStore, path: Path) -> None:
    """A piece that is all in order, but that its cells are of other tokens."""
    piece = store.read(path).piece
    context.cells.drop(0)
    context.evaluate(story(piece.end, seed=77, vocabulary=context.n_vocab))
    cells = context.cells.take(0, piece.start, piece.end)
    assert cells is not None
    path.write_bytes(b"".join(map(bytes, encode(piece, cells, KEY))))


def test_wrong_cells_that_are_signed_are_told_by_their_logits(
    opened: Opened, either_gguf: Path, store: PieceStore
) -> None:
    context = opened(either_gguf, store)
    whole = story(220, vocabulary=context.n_vocab)
    context.read(whole[:100])
    context.keep(whole[:100])
    context.evaluate(whole[100:200], 100)
    context.keep(whole[:200])
    expected = context.evaluate(whole[200:], 200)
    with_wrong_cells(context, store, store.files()[1])
    cache = context.use(pieces_of(store.root.parent))
    assert context.read(whole) == 0
    assert np.argmax(context.logits()) == np.argmax(expected)
    assert cache.counts.rejected == 1
    # any of the two may have been wrong
    assert store.files() == []


def test_a_restore_that_does_not_come_about_leaves_what_was_held(
    opened: Opened, stories_chatml_gguf: Path, store: PieceStore
) -> None:
    context, whole = opened(stories_chatml_gguf, store), story(220)
    context.read(whole[:200])
    context.keep(whole[:200])
    (path,) = store.files()
    with_wrong_cells(context, store, path)
    cache = context.use(pieces_of(store.root.parent))
    context.evaluate(whole[:50])
    held = cache.restore("default", whole, 0, 50)
    assert held < 200 and context.cells.span(0) == (0, held)
    context.evaluate(whole[held:], held)
    plain = opened(stories_chatml_gguf)
    plain.read(whole)
    assert context.greedy(8, 220) == plain.greedy(8, 220)


def test_cells_that_llama_cpp_does_not_take(opened: Opened, stories_chatml_gguf: Path, store: PieceStore) -> None:
    context, whole = opened(stories_chatml_gguf, store), story(220)
    context.read(whole[:200])
    context.keep(whole[:200])
    (path,) = store.files()
    stored = store.read(path)
    for cells in (np.zeros(8, np.uint8), stored.cells()[:-8].copy(), np.zeros(stored.cells_bytes, np.uint8)):
        path.write_bytes(b"".join(map(bytes, encode(stored.piece, cells, KEY))))
        context.use(pieces_of(store.root.parent))
        assert context.read(whole) == 0


def test_a_piece_that_another_has_deleted_meanwhile_is_not_called_damaged(
    opened: Opened, stories_chatml_gguf: Path, store: PieceStore, caplog: pytest.LogCaptureFixture
) -> None:
    context, whole = opened(stories_chatml_gguf, store), story(220)
    context.read(whole[:200])
    context.keep(whole[:200])
    cache = context.use(pieces_of(store.root.parent))
    found = cache.found("default", whole, 0)
    (path,) = store.files()
    path.unlink()
    assert cache.put_back(found, whole, 0, 0) == 0
    assert cache.counts.rejected == 0 and not caplog.records


def test_a_cache_for_a_model_without_positions(stories_chatml_gguf: Path, opened: Opened, tmp_path: Path) -> None:
    context = opened(stories_chatml_gguf)
    assert opening.open_prefix_cache(None, context.known) is None
    assert opening.open_prefix_cache(PieceStore(tmp_path, opening_budget(), key=KEY), context.known) is None
    assert isinstance(opening.open_prefix_cache(pieces_of(tmp_path), context.known), PrefixCache)


def opening_budget() -> object:
    from membank_llama.kv.budget import KVBudget

    return KVBudget(0)
