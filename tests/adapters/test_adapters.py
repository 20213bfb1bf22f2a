"""The adapters: what every one of them promises, and what each does of its own."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
from support.made_models import make_tiny, mamba

import membank_llama.adapters.llama_cpp.adapter as llama_cpp_module
from membank_llama.adapters import LlamaCppAdapter, MockAdapter
from membank_llama.adapters.huggingface import HuggingFaceAdapter
from membank_llama.adapters.pooling import Reader, groups, pool, resolve_layer, unit_length
from membank_llama.core.errors import EncodingError, InvalidInputError, MissingExtraError, ModelError, ModelFileError

TEXTS = [
    "My sister lives in Lisbon.",
    "dog",
    "The old house by the water was sold last year, and nobody knows who lives there now.",
    "What did mother say?",
    "Numbers: 12, 345 and 6.",
]
ODD = ["\U0001f600\U0001f680", "a\x00b", "lone \ud800 surrogate", "   ", "", "ÿ", "<|im_start|>", "x" * 3000]


def adapter(path: Path | str, **options: Any) -> LlamaCppAdapter:
    return LlamaCppAdapter(path, **{"n_threads": 1, **options})


@pytest.fixture(scope="module")
def stories(stories_gguf: Path) -> Iterator[LlamaCppAdapter]:
    with adapter(stories_gguf) as opened:
        assert isinstance(opened, LlamaCppAdapter)
        yield opened


@pytest.fixture(scope="module")
def minilm(minilm_gguf: Path) -> Iterator[LlamaCppAdapter]:
    with adapter(minilm_gguf) as opened:
        assert isinstance(opened, LlamaCppAdapter)
        yield opened


# --- the mock ---------------------------------------------------------------------------------------------------


def test_mock_is_near_where_words_are_shared() -> None:
    mock = MockAdapter(512)
    cat, kitten, tax = mock.encode_batch(["The cat sleeps", "a cat was sleeping", "income tax forms"])
    assert cat @ kitten > 0.3 > abs(cat @ tax)
    assert mock.encode("Cats, cats!") @ mock.encode("cat") == pytest.approx(1.0)
    np.testing.assert_allclose(np.linalg.norm(mock.encode_batch(["", "...", *ODD]), axis=1), 1, atol=1e-5)
    mock.validate()


def test_mock_is_the_same_in_every_process() -> None:
    code = "from membank_llama import MockAdapter; print(MockAdapter(8).encode('hello world').tobytes().hex())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == MockAdapter(8).encode("hello world").tobytes().hex()
    assert MockAdapter(8).model_id() == MockAdapter(8).model_id() != MockAdapter(9).model_id()
    with pytest.raises(InvalidInputError):
        MockAdapter(0)


# --- windows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "depth", "index"),
    [("auto", 30, 14), ("auto", 5, 1), ("auto", 1, 0), (0, 4, 0), (3, 4, 3), (-1, 4, 3), (-4, 4, 0),
     (0.5, 30, 14), (1.0, 30, 29), (0.0, 30, 0), (0.1, 30, 2), (0.75, 12, 8)],
)  # fmt: skip
def test_layers(layer: str | int | float, depth: int, index: int) -> None:
    assert resolve_layer(layer, depth) == index


@pytest.mark.parametrize("layer", [4, -5, 1.01, -0.1, float("nan"), "half", None, True, [1]])
def test_layers_out_of_range_name_the_range(layer: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"-4 to 3.*0\.0 to 1\.0"):
        resolve_layer(layer, 4)


def letters(text: str, *, specials: bool, add: bool) -> list[int]:
    """A tokenizer for tests of pure functions: a letter a token, 1 before and 2 after."""
    return ([1] if add else []) + [ord(letter) for letter in text] + ([2] if add else [])


def bare_letters(text: str, *, specials: bool, add: bool) -> list[int]:
    return [ord(letter) for letter in text]


@pytest.mark.parametrize("tokenize", [letters, bare_letters])
@pytest.mark.parametrize("template", [None, "<{text}>", "to:{text}"])
@pytest.mark.parametrize("length", [1, 2, 9, 10, 11, 97])
def test_windows_hold_every_token_once(tokenize: Any, template: str | None, length: int) -> None:
    text = "".join(chr(200 + n) for n in range(length))
    windows = list(Reader.of(tokenize, template, 14).windows(3, text))
    assert all(len(window.tokens) <= 14 and window.text == 3 for window in windows)
    pooled = [(w.position + n, w.tokens[w.start + n]) for w in windows for n in range(w.end - w.start)]
    framed = tokenize is letters or template is not None
    first = 0 if framed or length == 1 else 1  # with nothing before it, the text's own first position is the one left
    assert pooled == [(n + 1, 200 + n) for n in range(first, length)]
    if framed:
        assert len({(tuple(w.tokens[: w.start]), tuple(w.tokens[w.end :])) for w in windows}) == 1


def test_pooling_over_windows_is_pooling_over_the_text() -> None:
    rng = np.random.default_rng(0)
    text = "".join(chr(200 + n) for n in range(40))
    state = {ord(letter): rng.standard_normal(8) for letter in text} | {1: np.full(8, 1e3), 2: np.full(8, 1e3)}
    rows = np.array([state[ord(letter)] for letter in text])
    for size in (16, 400):
        windows = list(Reader.of(letters, None, size).windows(0, text))
        for pooling, whole in (("mean", rows.sum(0)), ("weighted", (np.arange(1, 41)[:, None] * rows).sum(0))):
            parts = sum(pool(w, np.array([state[t] for t in w.tokens]), pooling) for w in windows)  # type: ignore[arg-type]
            np.testing.assert_allclose(parts, whole)


@pytest.mark.parametrize("tokenize", [letters, bare_letters])
@pytest.mark.parametrize("length", [1, 4, 5, 9, 41])
def test_what_is_said_twice_is_pooled_the_second_time(tokenize: Any, length: int) -> None:
    text = "".join(chr(200 + n) for n in range(length))
    windows = list(Reader.of(tokenize, "<{text}|{text}>", 14).windows(0, text))
    pooled = []
    for window in windows:
        body = window.tokens[window.start : window.end]
        assert len(window.tokens) <= 14
        between = window.tokens.index(ord("|"))
        assert window.tokens[between - len(body) : between] == body and window.start == between + 1
        assert window.tokens[window.end] == ord(">")
        pooled += [(window.position + n, token) for n, token in enumerate(body)]
    assert pooled == [(n + 1, 200 + n) for n in range(length)]


def test_a_template_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="leaves 3 of 14 tokens"):
        Reader.of(letters, "123456789{text}", 14)


def test_groups_hold_all_and_fit() -> None:
    windows = [w for n in range(60) for w in Reader.of(letters, None, 100).windows(n, "x" * (1 + n * 7 % 90))]
    made = list(groups(windows, 100, 4))
    assert sorted(w.text for group in made for w in group) == list(range(60))
    assert all(len(group) <= 4 and sum(len(w.tokens) for w in group) <= 100 for group in made)
    assert len(made) < 50
    assert list(groups([], 100, 4)) == []


def test_unusable_sums_are_an_error() -> None:
    for bad in (0.0, np.nan, np.inf):
        with pytest.raises(EncodingError, match=r"1 of 2 texts .first: number 1"):
            unit_length(np.array([[1.0, 2.0], [bad, bad]]), "model")


# --- llama.cpp --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fixture", ["stories", "minilm"])
def test_contract_order_and_batches(fixture: str, request: pytest.FixtureRequest) -> None:
    model: LlamaCppAdapter = request.getfixturevalue(fixture)
    model.warmup()
    model.validate()
    texts = [f"{text} {number}" for number in range(9) for text in TEXTS]
    batch = model.encode_batch(texts)
    assert batch.shape == (45, model.hidden_dim) and batch.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(batch, axis=1), 1, atol=1e-5)
    singles = np.stack([model.encode(text) for text in texts])
    # llama.cpp rounds differently in batches of another size; the direction is the same
    np.testing.assert_allclose(batch, singles, atol=5e-3)
    assert (batch * singles).sum(axis=1).min() > 0.9995
    assert (np.argmax(batch @ singles.T, axis=1) == np.arange(45)).all()
    np.testing.assert_array_equal(model.encode_batch(texts[:1])[0], singles[0])
    np.testing.assert_array_equal(model.encode(texts[0]), singles[0])
    assert model.encode_batch([]).shape == (0, model.hidden_dim)


@pytest.mark.parametrize("fixture", ["stories", "minilm"])
def test_odd_texts_have_vectors(fixture: str, request: pytest.FixtureRequest) -> None:
    model: LlamaCppAdapter = request.getfixturevalue(fixture)
    vectors = model.encode_batch(ODD)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_minilm_gives_its_own_pooled_output_and_knows_meaning(minilm: LlamaCppAdapter) -> None:
    assert minilm.layer is None and minilm.hidden_dim == 384 and minilm.name == "all-MiniLM-L6-v2"
    host = llama_cpp.Llama(minilm.source or "", embedding=True, n_ctx=512, n_threads=1, verbose=False)
    theirs = np.array([host.embed(text, normalize=True) for text in TEXTS])
    host.close()
    assert (minilm.encode_batch(TEXTS) * theirs).sum(axis=1).min() > 0.999
    ask, fact, other = minilm.encode_batch(["Where does she live?", "My sister lives in Lisbon.", "The tax is due."])
    assert ask @ fact > ask @ other + 0.1


def test_stories_are_near_where_they_are_alike(stories: LlamaCppAdapter) -> None:
    assert stories.layer == 1 and stories.hidden_dim == 64
    one, two, other = stories.encode_batch(["Tom saw a big dog.", "Tom saw a big cat.", "It rained all day in June."])
    assert one @ two > one @ other + 0.1


@pytest.mark.parametrize("pooling", ["mean", "weighted", "last"])
def test_a_long_text_is_pooled_over_all_of_its_windows(stories_gguf: Path, pooling: Any) -> None:
    text = "Lily had a red ball. The ball was big. " * 16 + "Then a fox came to play with Lily and her mom."
    with adapter(stories_gguf, window=64, pooling=pooling) as model:
        assert isinstance(model, LlamaCppAdapter)
        body = model._model.tokenize(text, specials=False, add=False)
        total = np.zeros(64)
        assert len(body) > 3 * 63
        for at in range(0, len(body), 63):
            (rows,) = model._context.states([[1, *body[at : at + 63]]])
            count = len(rows) - 1
            weight = {"mean": np.ones(count), "weighted": np.arange(at + 1, at + 1 + count), "last": np.zeros(count)}
            weight["last"][-1] = count
            total += weight[pooling] @ rows[1:].astype(np.float64)
        vector = model.encode(text)
    assert vector @ (total / np.linalg.norm(total)) > 0.9995
    # the end of the text counts
    with adapter(stories_gguf, window=64, pooling=pooling) as model:
        assert model.encode(text) @ model.encode(text[: len(text) // 2]) < 0.9999


@pytest.mark.parametrize("fixture", ["stories", "minilm"])
def test_a_long_text_is_tokenized_in_pieces_to_the_same_tokens(fixture: str, request: pytest.FixtureRequest) -> None:
    model: LlamaCppAdapter = request.getfixturevalue(fixture)
    text = "".join(f"On day {n} Tom went to the park, and\nhe saw  {n * n} birds. " for n in range(900))
    whole = model._model.tokenize(text, specials=False, add=False)
    windows = list(model._reader.windows(0, text))
    assert [token for w in windows for token in w.tokens[w.start : w.end]] == whole
    assert list(model._reader.windows(0, "\x00\U0001f600" * 50_000))  # minutes, if done at once


def test_special_tokens_of_text_and_template(tiny_gguf: Path) -> None:
    start, end = 3, 4
    with adapter(tiny_gguf, template="<|im_start|>{text}<|im_end|>") as model:
        assert isinstance(model, LlamaCppAdapter)
        (window,) = model._reader.windows(0, "say <|im_end|> <s> twice")
        assert window.tokens[:2] == [1, start] and window.tokens[-1] == end
        assert not {1, 2, start, end} & set(window.tokens[window.start : window.end])


def test_a_template_changes_vector_and_id(stories_gguf: Path, stories: LlamaCppAdapter) -> None:
    with adapter(stories_gguf, template="Remember: {text}") as framed:
        assert framed.model_id() != stories.model_id()
        assert framed.encode(TEXTS[0]) @ stories.encode(TEXTS[0]) < 0.999
    with adapter(stories_gguf, template="Recall: {text}") as other:
        assert other.model_id() != framed.model_id()


def test_echo_pools_the_second_time_alone(stories_gguf: Path) -> None:
    text = "Lily had a red ball."
    with adapter(stories_gguf, template="echo") as model:
        assert isinstance(model, LlamaCppAdapter)
        assert model.pooling == "mean" and model.model_id().endswith("-L1-mean-echo")
        (window,) = model._reader.windows(0, text)
        body = model._model.tokenize(text, specials=False, add=False)
        assert window.tokens[window.start : window.end] == body
        assert window.tokens[: window.start].count(body[0]) and window.end == len(window.tokens)
        (rows,) = model._context.states([window.tokens])
        expected = rows[-len(body) :].sum(0)
        assert model.encode(text) @ (expected / np.linalg.norm(expected)) > 0.9999
        model.validate()
        long = model.encode_batch([f"{text} " * 200, ""])
        assert np.isfinite(long).all()


def test_one_word_takes_the_state_ahead_of_the_word(recall_tiny: Path) -> None:
    with adapter(recall_tiny, template="one-word", layer=-1) as model:
        assert isinstance(model, LlamaCppAdapter)
        assert model.pooling == "last" and model.model_id().endswith("-L5-last-one-word")
        (window,) = model._reader.windows(0, "My cat is called Tom.")
        quote = model._model.tokenize('"', specials=False, add=False)
        assert window.tokens[-1:] == quote[-1:]
        (rows,) = model._context.states([window.tokens])
        assert model.encode("My cat is called Tom.") @ (rows[-1] / np.linalg.norm(rows[-1])) > 0.9999
    with adapter(recall_tiny, template="one-word", pooling="mean", layer=-1) as other:
        assert other.model_id().endswith("-L5-mean-one-word")


def test_a_model_that_pools_by_itself_takes_no_such_template(minilm_gguf: Path) -> None:
    for template in ("echo", "one-word", "{text} {text}"):
        with pytest.raises(InvalidInputError, match="pools its states itself"):
            adapter(minilm_gguf, template=template)
    with adapter(minilm_gguf, template="query: {text}") as model:
        model.validate()


def test_model_id_knows_the_model_and_not_its_name(stories_gguf: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(stories_gguf, tmp_path / "another name.gguf"))
    ids = {}
    for key, path, options in (
        ("plain", stories_gguf, {}),
        ("renamed", copy, {"name": "mine"}),
        ("layer", stories_gguf, {"layer": 2}),
        ("pooling", stories_gguf, {"pooling": "weighted"}),
    ):
        with adapter(path, **options) as model:
            ids[key] = model.model_id()
            assert model.name == ("mine" if key == "renamed" else "llama")
            assert model.source == str(path.resolve())
    assert ids["plain"] == ids["renamed"]
    assert len(set(ids.values())) == 3
    assert ids["plain"].startswith("llama-") and ids["plain"].endswith("-L1-mean")
    host = llama_cpp.Llama(str(copy), n_ctx=64, n_threads=1, verbose=False)
    with LlamaCppAdapter(host) as model:
        assert model.model_id() == ids["plain"]
    host.close()


def test_another_quantisation_is_another_model_near_the_first(tmp_path: Path) -> None:
    made = [make_tiny().make_model(tmp_path / f"{kind}.gguf", quantisation=kind) for kind in ("f16", "q8_0")]
    with adapter(made[0]) as one, adapter(made[1]) as two:
        assert one.model_id() != two.model_id()
        assert one.encode(TEXTS[0]) @ two.encode(TEXTS[0]) > 0.99


def test_a_graph_without_layer_names_falls_back_and_says_so_once(
    minilm_gguf: Path, minilm: LlamaCppAdapter, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_cpp_module, "_told", set())
    with caplog.at_level(logging.WARNING, "membank_llama"):
        for layer in (2, 0.5):
            with adapter(minilm_gguf, layer=layer) as model:
                assert model.layer is None and model.model_id() == minilm.model_id()
                np.testing.assert_array_equal(model.encode(TEXTS[0]), minilm.encode(TEXTS[0]))
    assert [record.name for record in caplog.records] == ["membank_llama"]
    assert "bert" in caplog.text


def test_the_last_layer_and_an_embedding_decoder(tmp_path: Path) -> None:
    embedder = make_tiny().make_model(tmp_path / "embedder.gguf", pooling_type=llama_cpp.LLAMA_POOLING_TYPE_LAST)
    host = llama_cpp.Llama(str(embedder), embedding=True, n_ctx=512, n_threads=1, verbose=False)
    theirs = np.array([host.embed(text, normalize=True) for text in TEXTS])
    host.close()
    with adapter(embedder) as model:  # what the file asks for
        assert model.layer is None and model.model_id().endswith("-pooled")
        assert (model.encode_batch(TEXTS) * theirs).sum(axis=1).min() > 0.999
    with adapter(embedder, layer=-1, pooling="last") as model:  # norms are ones: the same direction by another way
        assert model.layer == 3 and model.model_id().endswith("-L3-last")
        assert (model.encode_batch(TEXTS) * theirs).sum(axis=1).min() > 0.999


def test_a_reranker_is_refused(tmp_path: Path) -> None:
    path = make_tiny().make_model(tmp_path / "ranks.gguf", pooling_type=llama_cpp.LLAMA_POOLING_TYPE_RANK)
    with pytest.raises(ModelError, match="ranks pairs"):
        adapter(path)


def test_nan_weights_give_an_error(tiny_gguf: Path, tmp_path: Path) -> None:
    sick = make_tiny().make_model(tmp_path / "sick.gguf", quantisation="f32")
    norm = np.ones(64, np.float32).tobytes()
    sick.write_bytes(sick.read_bytes().replace(norm, np.full(64, np.nan, np.float32).tobytes(), 1))
    with adapter(sick) as model, pytest.raises(EncodingError, match="NaN"):
        model.encode(TEXTS[0])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layer": 9}, "-4 to 3"),
        ({"pooling": "max"}, "mean, last, weighted"),
        ({"template": "no place"}, r"\{text\}"),
        ({"template": "{text} {text} {text}"}, r"\{text\}"),
        ({"template": "eco"}, "echo, one-word"),
        ({"window": 4}, "window"),
        ({"max_sequences": 0}, "max_sequences"),
        ({"n_threads": 0}, "n_threads"),
        ({"template": "word " * 600 + "{text}"}, "shorten"),
    ],
)
def test_bad_options_say_what_is_allowed(tiny_gguf: Path, options: dict, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        adapter(tiny_gguf, **options)


def test_bad_files_are_errors_of_ours(tiny_gguf: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.gguf"
    short.write_bytes(tiny_gguf.read_bytes()[:-1000])
    for path, says in ((tmp_path / "none.gguf", "no model file"), (short, "cut short"), (Path(__file__), "not a GGUF")):
        with pytest.raises(ModelFileError, match=says):
            adapter(str(path))


def test_damage_that_the_header_hides_never_ends_the_process(tiny_gguf: Path, tmp_path: Path) -> None:
    code = (
        "import random, sys\n"
        "from pathlib import Path\n"
        "from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter\n"
        "from membank_llama.core.errors import MembankError\n"
        "good, path, rng = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]), random.Random(3)\n"
        "for _ in range(60):\n"
        "    bad = bytearray(good)\n"
        "    bad[rng.choice((rng.randrange(24, 700), rng.randrange(18000, 21000)))] = rng.randrange(256)\n"
        "    path.write_bytes(bad)\n"
        "    try:\n"
        "        LlamaCppAdapter(path, n_threads=1).encode('the house')\n"
        "    except MembankError:\n"
        "        pass\n"
        "print('lived')\n"
    )
    command = [sys.executable, "-c", code, str(tiny_gguf), str(tmp_path / "bad.gguf")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert (run.returncode, run.stdout) == (0, "lived\n"), run.stderr[-2000:]


def test_a_model_with_a_running_state_takes_one_text_at_a_time(tmp_path: Path) -> None:
    with adapter(mamba(tmp_path / "mamba.gguf")) as model:
        assert isinstance(model, LlamaCppAdapter)
        assert model._context.plan.max_sequences == 1 and model.layer == 1
        batch = model.encode_batch(TEXTS)
        for text, vector in zip(TEXTS, batch, strict=True):
            assert vector @ model.encode(text) > 0.9999
        assert batch[0] @ batch[2] < 0.999


def test_threads_share_an_adapter(stories: LlamaCppAdapter) -> None:
    expected = {text: stories.encode(text) for text in TEXTS}
    wrong: list[str] = []

    def work() -> None:
        for _ in range(10):
            wrong.extend(text for text in TEXTS if not np.array_equal(stories.encode(text), expected[text]))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_closed_adapters_say_so(tiny_gguf: Path) -> None:
    model = adapter(tiny_gguf)
    model.close()
    model.close()
    with pytest.raises(ModelError, match="closed"):
        model.encode("x")
    assert model.hidden_dim == 64 and model.name == "membank tiny random"


# --- Hugging Face -----------------------------------------------------------------------------------------------


def gpt2(**change: Any) -> tuple[Any, Any]:
    """A tiny random GPT-2 and a tokenizer of whole words."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    said = "my sister lives in lisbon dog what did mother say a b c the old house"
    words = ["<unk>", "<end>", *said.split()]
    inner = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>")
    )
    inner.normalizer = tokenizers.normalizers.Lowercase()
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="<end>")
    torch.manual_seed(0)
    config = {"vocab_size": len(words), "n_positions": 32, "n_embd": 24, "n_layer": 4, "n_head": 2, **change}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**config)).eval(), tokenizer


def test_hugging_face_states_are_the_model_s_own() -> None:
    model, tokenizer = gpt2()
    torch = pytest.importorskip("torch")
    ids = torch.tensor([tokenizer.encode("my sister lives in lisbon")])
    with torch.inference_mode():
        hidden = model(input_ids=ids, output_hidden_states=True).hidden_states
    for layer, state in (("auto", hidden[2]), (0, hidden[1]), (2, hidden[3])):
        for pooling in ("mean", "last", "weighted"):
            rows = state[0].double().numpy()
            weights = {"mean": [0, 1, 1, 1, 1], "last": [0, 0, 0, 0, 1], "weighted": [0, 2, 3, 4, 5]}[pooling]
            expected = np.array(weights) @ rows
            with HuggingFaceAdapter(model, tokenizer=tokenizer, layer=layer, pooling=pooling) as hugging:  # type: ignore[arg-type]
                vector = hugging.encode("My sister lives in Lisbon")
            np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-5)
    with torch.inference_mode():  # no hook is left behind
        assert len(model(input_ids=ids, output_hidden_states=True).hidden_states) == 5


def test_hugging_face_contract() -> None:
    model, tokenizer = gpt2()
    with HuggingFaceAdapter(model, tokenizer=tokenizer) as hugging:
        hugging.validate()
        texts = ["my sister", "dog dog dog dog dog", "what did mother say my sister " * 20, "the old house", "a b"]
        batch = hugging.encode_batch(texts)
        np.testing.assert_allclose(batch, np.stack([hugging.encode(text) for text in texts]), atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(batch, axis=1), 1, atol=1e-5)
        assert hugging.hidden_dim == 24 and hugging.model_id().endswith("-L1-mean")
        with pytest.raises(EncodingError, match="leave it out"):
            hugging.encode("")
        same, other = gpt2()[0], gpt2(n_embd=32)[0]
        assert HuggingFaceAdapter(same, tokenizer=tokenizer).model_id() == hugging.model_id()
        assert HuggingFaceAdapter(other, tokenizer=tokenizer).model_id() != hugging.model_id()
    with pytest.raises(ModelError, match="closed"):
        hugging.encode("dog")
    with pytest.raises(InvalidInputError, match="tokenizer"):
        HuggingFaceAdapter(model)


def test_hugging_face_by_folder(tmp_path: Path) -> None:
    model, tokenizer = gpt2()
    model.transformer.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with HuggingFaceAdapter(str(tmp_path)) as loaded, HuggingFaceAdapter(model, tokenizer=tokenizer) as given:
        assert loaded.source == loaded.name == str(tmp_path)
        np.testing.assert_allclose(loaded.encode("the old dog"), given.encode("the old dog"), atol=1e-5)


def test_without_the_extra_the_message_has_the_command() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from membank_llama.adapters.huggingface import HuggingFaceAdapter\n"
        "HuggingFaceAdapter('gpt2')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert MissingExtraError.__name__ in run.stderr and "pip install 'membank-llama[hf]'" in run.stderr
