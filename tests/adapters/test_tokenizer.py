"""Texts for llama.cpp's tokenizer: whole as ever, or in pieces where a run in them would end the process."""

from __future__ import annotations

import random
from pathlib import Path

import llama_cpp
import pytest
from support.hostile_gguf import STRING, changed
from support.tokenizer_survey import survives

from membank_llama import Llama
from membank_llama.adapters.llama_cpp.file_vocabulary import FileVocabulary
from membank_llama.adapters.llama_cpp.loaded_model import LoadedModel
from membank_llama.adapters.llama_cpp.tokenizer import LONGEST_TOKEN, MOST_DIGITS, MOST_RUN, MOST_STRETCH, needs_cuts

ORDINARY = (
    "",
    "Hello, wörld! It's 3.14159 at 12:30; see https://example.org/a-b_c?d=1 \n\n\tindented\n",
    "中文没有空格，可是有标点。" * 40,
    "def f(x):\n        return {'a': [1, 2, 3]}\n" * 30,
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "a" * MOST_RUN + " " + "b" * MOST_RUN,
    "The quick brown fox, " * 2000,
    "1" * MOST_DIGITS,
)
LONG = ("a" * 10_000, "x" + " " * 9_000 + "y", "!" * 5_000, "1" * 700, "word " * 4_000, "中" * 6_000, "a\u0301" * 4_000)
RECURSIVE = ("deepseek-llm", "tekken", "bloom", "superbpe")


@pytest.fixture(scope="module")
def weights(recall_tiny: Path) -> LoadedModel:
    return LoadedModel(recall_tiny)


def native(weights: LoadedModel, text: str, *, specials: bool, add: bool) -> list[int]:
    """What llama.cpp gives for a whole text."""
    data = text.encode()
    buffer = (llama_cpp.llama_token * (len(data) + 8))()
    vocab = llama_cpp.llama_model_get_vocab(weights.handle)
    count = llama_cpp.llama_tokenize(vocab, data, len(data), buffer, len(buffer), add, specials)
    return list(buffer[:count])


@pytest.mark.parametrize("text", ORDINARY, ids=range(len(ORDINARY)))
def test_an_ordinary_text_goes_over_whole(weights: LoadedModel, text: str) -> None:
    assert not needs_cuts(text)
    for specials in (False, True):
        for add in (False, True):
            whole = native(weights, text, specials=specials, add=add)
            assert weights.tokenize(text, specials=specials, add=add) == whole


@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
def test_a_long_run_goes_over_in_pieces(weights: LoadedModel, text: str) -> None:
    assert needs_cuts(text)
    pieces = list(weights.tokenizer.pieces(text))
    assert "".join(pieces) == text
    assert not any(needs_cuts(piece) for piece in pieces)
    assert max(map(len, pieces)) <= MOST_STRETCH
    # the toy's own pre-tokenizer bears it: whole and in pieces the tokens spell the same, and nearly as many
    tokens, whole = weights.tokenize(text, specials=False, add=True), native(weights, text, specials=False, add=True)
    assert tokens[0] == whole[0]
    assert abs(len(tokens) - len(whole)) <= 3 * len(pieces)


def test_no_control_token_is_cut(weights: LoadedModel) -> None:
    dice = random.Random(5)
    mark = "<|im_start|>"
    (token,) = native(weights, mark, specials=True, add=False)
    for _ in range(200):
        words = "".join(dice.choice(("a", "b1", "-", "_", mark)) for _ in range(3000))
        assert weights.tokenize(words, specials=True, add=False).count(token) == words.count(mark)


def test_a_cut_is_made_where_a_word_ends(weights: LoadedModel) -> None:
    sentence = "这里没有空格，可是有标点。"
    text = sentence * 400
    assert weights.tokenize(text, specials=False, add=False) == native(weights, text, specials=False, add=False)


def test_vocabularies_without_a_pre_tokenizer_are_given_all(stories_gguf: Path) -> None:
    weights = LoadedModel(stories_gguf)
    text = "once" * 4000
    assert list(weights.tokenizer.pieces(text)) == [text]
    assert weights.tokenize(text, specials=False, add=True) == native(weights, text, specials=False, add=True)


def test_the_longest_token(weights: LoadedModel) -> None:
    assert 8 <= weights.tokenizer.longest <= LONGEST_TOKEN


@pytest.mark.parametrize("pre", RECURSIVE)
def test_pre_tokenizers_that_recurse(tmp_path: Path, recall_tiny: Path, pre: str) -> None:
    survives(changed(recall_tiny, tmp_path / f"{pre}.gguf", lambda p: p.set("tokenizer.ggml.pre", pre, STRING)), 40_000)


def test_the_drop_in_and_a_borrowed_llama(tmp_path: Path, recall_tiny: Path) -> None:
    path = changed(recall_tiny, tmp_path / "v3.gguf", lambda p: p.set("tokenizer.ggml.pre", "deepseek-v3", STRING))
    with_memory = Llama(str(path), memory=tmp_path / "bank", n_ctx=512, n_threads=1, verbose=False)
    try:
        for add in (False, True):
            text = "Hello there, <|im_end|>"
            plain = llama_cpp.Llama.tokenize(with_memory, text.encode(), add, True)
            assert with_memory.tokenize(text.encode(), add, True) == plain
        tokens = with_memory.tokenize(b"a" * 100_000, True)
        assert tokens[:1] == with_memory.tokenize(b"", True)[:1]
        with pytest.raises(ValueError, match="exceed context window"):
            with_memory.create_chat_completion([{"role": "user", "content": "a" * 100_000}])
        assert with_memory.create_completion("Hello", max_tokens=2)["choices"]
    finally:
        with_memory.close()


def test_a_control_token_at_a_cut_is_seen(recall_tiny: Path) -> None:
    exact = FileVocabulary(recall_tiny)
    try:
        for at in range(MOST_RUN - 15, MOST_RUN + 3):
            assert not exact.is_clean("a" * at + "<|im_end|>" + "a" * MOST_RUN)
        assert exact.is_clean("a" * (3 * MOST_RUN))
    finally:
        exact.close()
