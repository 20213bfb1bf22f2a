"""The states of a text's tokens: standardised, with the word that each is part of, in one pass with the vector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.made_models import make_tiny

from membank_llama.adapters.base import check_tokens
from membank_llama.adapters.hashing import MockAdapter
from membank_llama.adapters.llama_cpp.adapter import DEEP, LlamaCppAdapter
from membank_llama.adapters.pooling import content_layer
from membank_llama.adapters.token_states import Standard, TokenStates, content_pooled, content_weights, words_of
from membank_llama.core.errors import EncodingError, InvalidInputError

TEXTS = ("I work as a piano tuner.", "My piano, my beautiful piano!", "What is my job?")


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([" Bal", "th", "asar", " is", " here", "."], ("balthasar",) * 3 + ("is", "here", "")),
        (["don", "'", "t", " go"], ("don", "", "t", "go")),
        ([" It", "'s", " 20", "24"], ("it", "s", "2024", "2024")),
        (["\n", "Straße"], ("", "strasse")),
        ([" naïve", ",", " café"], ("naïve", "", "café")),
        (["猫", "叫", "豆"], ("猫叫豆",) * 3),
        ([], ()),
    ],
)
def test_tokens_know_their_words(pieces: list[str], words: tuple[str, ...]) -> None:
    assert words_of(pieces) == words


def states(words: tuple[str, ...]) -> TokenStates:
    rows = np.eye(len(words), 8, dtype=np.float32)
    return TokenStates(rows[0], rows, words)


def test_marks_and_repetitions_are_not_worth_keeping() -> None:
    kept = states(("no", "", "no", "way", "way", "no", "no")).worth_keeping()
    # "way" of two tokens is said once; "no no" is "no" again, and a token more of it
    assert kept.words == ("no", "way", "way", "no")
    assert states(("", "", "")).worth_keeping().words == ("", "", "")
    assert kept.states.shape == (4, 8)


def test_stop_words_and_marks_weigh_little() -> None:
    weights = content_weights(("what", "", "piano"))
    assert weights[1] < weights[0] < weights[2] == 1
    pooled = content_pooled(np.eye(3, dtype=np.float32), ("what", "", "piano"))
    assert pooled.argmax() == 2


def test_dimensions_are_standardised_and_one_that_never_moves_says_nothing() -> None:
    rows = np.random.default_rng(1).standard_normal((500, 6)).astype(np.float32) * [1, 100, 1, 1, 1, 0] + [
        0,
        7,
        0,
        0,
        0,
        3,
    ]
    standard = Standard.of(rows.astype(np.float32))
    found = standard.rows(rows.astype(np.float32))
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.abs(found.mean(axis=0)).max() < 0.1 and (found[:, 5] == 0).all()
    # no dimension rules the others
    assert found.std(axis=0)[:5].max() < 1.3 * found.std(axis=0)[:5].min()
    with pytest.raises(EncodingError, match="NaN"):
        Standard.of(np.full((2, 2), np.nan, np.float32))


@pytest.mark.parametrize(("depth", "layer"), [(4, 1), (12, 5), (14, 6), (18, 6), (24, 6), (30, 6), (32, 6), (80, 16)])
def test_the_layer_is_a_fifth_of_the_depth_and_the_seventh_at_least(depth: int, layer: int) -> None:
    assert content_layer(depth) == layer


def test_a_deep_decoder_gives_tokens_and_a_shallow_one_vectors_alone(tmp_path: Path, tiny_gguf: Path) -> None:
    tiny = make_tiny()
    deep = tmp_path / "deep.gguf"
    tiny.make_model(deep, n_layer=DEEP)
    with LlamaCppAdapter(deep, n_threads=1) as model:
        assert model.model_id().endswith("-L6-content") and model.token_dim == model.hidden_dim
        found = check_tokens(model.encode_tokens(TEXTS), len(TEXTS), model.hidden_dim, model.token_dim, "deep")
        assert np.allclose([one.vector for one in found], model.encode_batch(TEXTS), atol=1e-5)
        assert np.allclose(model.encode_tokens([TEXTS[0]])[0].states, found[0].states, atol=1e-3)
        assert "piano" in found[0].words and len(found[0].words) == len(found[0].states)
        # longer than the window: every token of every window, in order
        long = model.encode_tokens([" ".join(["piano tuner"] * 700)])[0]
        assert len(long.words) == len(long.states) > 512
    with LlamaCppAdapter(deep, n_threads=1, layer=3, pooling="mean") as model:
        assert model.model_id().endswith("-L3-mean") and model.token_dim
    with LlamaCppAdapter(tiny_gguf, n_threads=1) as model:
        assert model.token_dim == 0 and "-mean" in model.model_id()
        with pytest.raises(EncodingError, match="one vector a text"):
            model.encode_tokens(TEXTS)


def test_an_embedding_model_shows_what_it_pools(minilm_gguf: Path) -> None:
    with LlamaCppAdapter(minilm_gguf, n_threads=1) as model:
        assert model.pooled and model.token_dim == 384
        found = model.encode_tokens(TEXTS)
        assert np.allclose([one.vector for one in found], model.encode_batch(TEXTS), atol=1e-6)
        assert found[0].words == ("i", "work", "as", "a", "piano", "tuner", "tuner", "")
        piano, job = found[0].states[4], found[2].states[3]
        assert found[0].states[1] @ job > 1.5 * max(0.05, float(piano @ job))


def test_what_gives_vectors_alone_says_so() -> None:
    adapter = MockAdapter()
    assert adapter.token_dim == 0
    with pytest.raises(EncodingError, match="one vector a text"):
        adapter.encode_tokens(["x"])


@pytest.mark.parametrize("wrong", [None, [], [states(("a", "b"))] * 2])
def test_other_than_promised_is_refused(wrong: object) -> None:
    with pytest.raises(EncodingError):
        check_tokens(wrong, 1, 8, 8, "mine")


def test_content_pooling_is_llama_cpps() -> None:
    pytest.importorskip("torch")
    from membank_llama.adapters.huggingface import HuggingFaceAdapter

    with pytest.raises(InvalidInputError, match="content"):
        HuggingFaceAdapter("nowhere", pooling="content")
