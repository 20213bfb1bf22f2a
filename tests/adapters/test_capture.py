"""Hidden states against other routes to the same numbers, and a chat beside them that must not notice."""

from __future__ import annotations

import _thread
import gc
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from support.made_models import make_tiny

from membank_llama.adapters.llama_cpp.capture import CaptureContext, CapturePlan
from membank_llama.adapters.llama_cpp.loaded_model import LoadedModel
from membank_llama.core.errors import EncodingError, InvalidInputError, ModelError, ModelFileError

TEXT = "the house of my mother is large and old"


def plan(layer: int | None, **change: object) -> CapturePlan:
    return CapturePlan(**{"layer": layer, "window": 256, "max_sequences": 4, "n_threads": 1, **change})  # type: ignore[arg-type]


def llama(path: Path, **options: object) -> llama_cpp.Llama:
    return llama_cpp.Llama(str(path), n_ctx=512, n_threads=1, n_threads_batch=1, verbose=False, **options)  # type: ignore[arg-type]


@pytest.fixture
def weights(tiny_gguf: Path) -> Iterator[LoadedModel]:
    opened = LoadedModel(tiny_gguf)
    yield opened
    opened.close()


def final_norm(rows: np.ndarray) -> np.ndarray:
    """What llama.cpp does to the last layer's states before it gives them out; the tiny model's norms are ones."""
    return rows / np.sqrt((rows.astype(np.float64) ** 2).mean(axis=1, keepdims=True) + 1e-5)


def states(weights: LoadedModel, chosen: CapturePlan, *texts: str) -> list[np.ndarray]:
    context = CaptureContext(weights, chosen)
    try:
        return context.states([weights.tokenize(text, specials=False, add=True) for text in texts])
    finally:
        context.close()


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_each_layer_against_a_model_that_ends_there(weights: LoadedModel, tmp_path: Path, depth: int) -> None:
    # with one seed, a shallower model has the same first blocks: its final state is our layer depth - 1
    shallow = make_tiny().make_model(tmp_path / "shallow.gguf", n_layer=depth)
    with_embeddings = llama(shallow, embedding=True, pooling_type=llama_cpp.LLAMA_POOLING_TYPE_NONE)
    theirs = np.array(with_embeddings.embed(TEXT))
    with_embeddings.close()
    (ours,) = states(weights, plan(depth - 1, outputs=depth == 4), TEXT)
    assert ours.shape == theirs.shape == (len(weights.tokenize(TEXT, specials=False, add=True)), 64)
    np.testing.assert_allclose(final_norm(ours), theirs, atol=2e-2)
    assert (final_norm(ours) * theirs).sum() / np.linalg.norm(final_norm(ours)) / np.linalg.norm(theirs) > 0.9999


def test_several_texts_in_one_evaluation_are_as_each_alone(weights: LoadedModel) -> None:
    texts = [TEXT, "dog", "a cat and a letter", "remember the answer"]
    together = states(weights, plan(1), *texts)
    for text, rows in zip(texts, together, strict=True):
        (alone,) = states(weights, plan(1), text)
        assert rows.shape == alone.shape
        np.testing.assert_allclose(rows, alone, atol=2e-2)


def test_nothing_is_left_over_from_the_evaluation_before(weights: LoadedModel) -> None:
    context = CaptureContext(weights, plan(1))
    first = weights.tokenize(TEXT, specials=False, add=True)
    (before,) = context.states([first])
    context.states([weights.tokenize("something else that is longer " * 5, specials=False, add=True)])
    (after,) = context.states([first])
    np.testing.assert_array_equal(before, after)
    context.close()


def test_final_states_of_every_token(weights: LoadedModel) -> None:
    (final,) = states(weights, plan(None, outputs=True), TEXT)
    (last,) = states(weights, plan(3, outputs=True), TEXT)
    np.testing.assert_allclose(final, final_norm(last), atol=1e-4)


def test_a_last_layer_without_outputs_is_an_error_and_not_a_vector(weights: LoadedModel) -> None:
    with pytest.raises(EncodingError):
        states(weights, plan(3), TEXT)


def test_an_error_in_the_callback_is_raised_and_the_context_lives(weights: LoadedModel) -> None:
    context = CaptureContext(weights, plan(1))
    tokens = weights.tokenize(TEXT, specials=False, add=True)
    (right,) = context.states([tokens])
    context._callback._dim = 63
    with pytest.raises(EncodingError, match="rows of 63"):
        context.states([tokens])
    context._callback._dim = 64
    np.testing.assert_array_equal(context.states([tokens])[0], right)
    context.close()


def test_ctrl_c_during_an_evaluation_is_not_lost(stories_gguf: Path) -> None:
    weights = LoadedModel(stories_gguf)
    context = CaptureContext(weights, plan(3, outputs=True))
    tokens = weights.tokenize("Once there was a big red dog. " * 12, specials=False, add=True)[:250]
    (right,) = context.states([tokens])
    # an interrupt that meets a finalizer of an earlier test is lost to Python, not to the capture
    gc.collect()
    # a test run started in the background has SIGINT switched off
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    for _ in range(5):
        timer = threading.Timer(0.05, _thread.interrupt_main)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            for _ in range(1000):
                context.states([tokens])
        timer.join()
        np.testing.assert_array_equal(context.states([tokens])[0], right)
    signal.signal(signal.SIGINT, before)
    context.close()
    weights.close()


@pytest.mark.parametrize("sequences", [[], [[]], [[1], []], [[1]] * 5, [[1] * 600]])
def test_what_is_no_batch_is_refused(weights: LoadedModel, sequences: list[list[int]]) -> None:
    context = CaptureContext(weights, plan(1))
    with pytest.raises(EncodingError):
        context.states(sequences)
    assert len(context.states([[1, 300]])) == 1
    context.close()


def test_closed_means_an_error_and_closing_twice_nothing(weights: LoadedModel) -> None:
    context = CaptureContext(weights, plan(1))
    context.close()
    context.close()
    with pytest.raises(ModelError, match="closed"):
        context.states([[1, 300]])
    weights.close()
    weights.close()
    with pytest.raises(ModelError, match="closed"):
        weights.tokenize("x", specials=False, add=True)


def test_the_owner_may_close_the_llama_first(tiny_gguf: Path) -> None:
    host = llama(tiny_gguf)
    weights = LoadedModel(host)
    context = CaptureContext(weights, plan(1))
    assert len(context.states([[1, 300]])) == 1
    host.close()
    for call in (lambda: context.states([[1, 300]]), lambda: weights.tokenize("x", specials=False, add=True)):
        with pytest.raises(ModelError, match="closed"):
            call()
    context.close()
    weights.close()


def test_closing_ours_leaves_the_llama_open(tiny_gguf: Path) -> None:
    host = llama(tiny_gguf)
    weights = LoadedModel(host)
    context = CaptureContext(weights, plan(1))
    context.close()
    weights.close()
    assert host("the house", max_tokens=3, temperature=0)["choices"][0]["text"]
    host.close()


@pytest.mark.parametrize("last_words", ["", "del a, llm", "llm.close()", "del llm", "a.close(); llm.close()"])
def test_no_order_of_ending_crashes_or_talks(tiny_gguf: Path, last_words: str) -> None:
    code = (
        "import sys, llama_cpp\n"
        "from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter\n"
        "llm = llama_cpp.Llama(sys.argv[1], n_ctx=64, n_threads=1, verbose=False)\n"
        "a, b = LlamaCppAdapter(llm), LlamaCppAdapter(sys.argv[1], n_threads=1)\n"
        f"a.encode('x'); b.encode('x')\n{last_words}\nprint('done')\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tiny_gguf)], capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout, run.stderr) == (0, "done\n", "")


def test_a_thread_that_still_captures_at_exit_does_not_crash(tiny_gguf: Path) -> None:
    code = (
        "import sys, threading, time\n"
        "from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter\n"
        "a = LlamaCppAdapter(sys.argv[1], n_threads=1)\n"
        "work = lambda: [a.encode('the house ' * 300) for _ in range(10**6)]\n"
        "threading.excepthook = lambda args: print(args.exc_type.__name__)\n"
        "threading.Thread(target=work, daemon=True).start()\n"
        "time.sleep(0.3)\n"
    )
    for _ in range(3):
        run = subprocess.run([sys.executable, "-c", code, str(tiny_gguf)], capture_output=True, text=True, timeout=120)
        assert (run.returncode, run.stderr) == (0, ""), run.stderr[-2000:]
        assert run.stdout.strip() in ("", "ModelError")


def test_loading_by_path_is_silent_and_leaves_the_log_level(tiny_gguf: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("llama-cpp-python")
    before = log.level
    try:
        for level in (logging.DEBUG, logging.ERROR):
            log.setLevel(level)
            LoadedModel(tiny_gguf).close()
            assert log.level == level
        log.setLevel(logging.NOTSET)
        weights = LoadedModel(tiny_gguf)
        states(weights, plan(1), TEXT)
        weights.close()
    finally:
        log.setLevel(before)
    assert capfd.readouterr() == ("", "")


def test_not_a_model(tmp_path: Path, tiny_gguf: Path) -> None:
    with pytest.raises(ModelFileError, match="no model file"):
        LoadedModel(tmp_path / "none.gguf")
    with pytest.raises(InvalidInputError, match=r"path or a llama_cpp\.Llama"):
        LoadedModel(42)  # type: ignore[arg-type]
    # the header is good, the contents are of no architecture that llama.cpp knows
    strange = tmp_path / "strange.gguf"
    strange.write_bytes(tiny_gguf.read_bytes().replace(b"llama", b"lhama"))
    with pytest.raises(ModelFileError, match="could not load"):
        LoadedModel(strange)


def say(model: llama_cpp.Llama, *, between: object = None, **options: object) -> list[str]:
    """The pieces of a streamed story, with something done after each."""
    pieces = []
    for chunk in model("Once upon a time", max_tokens=40, stream=True, **options):  # type: ignore[arg-type]
        pieces.append(chunk["choices"][0]["text"])  # type: ignore[index]
        if callable(between):
            between()
    return pieces


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": 0.9, "seed": 7}])
def test_a_chat_is_token_for_token_the_same_with_captures_in_between(stories_gguf: Path, options: dict) -> None:
    plain = llama(stories_gguf)
    expected = say(plain, **options)
    plain.close()
    host = llama(stories_gguf)
    weights = LoadedModel(host)
    context = CaptureContext(weights, plan(2))
    tokens = weights.tokenize("A dog ran to the big house.", specials=False, add=True)
    position = host.n_tokens
    context.states([tokens])
    assert host.n_tokens == position
    assert say(host, between=lambda: context.states([tokens, tokens[:3]]), **options) == expected
    assert len(expected) > 30
    context.close()
    host.close()


def test_two_threads_capture_while_a_third_generates(stories_gguf: Path) -> None:
    host = llama(stories_gguf)
    expected = say(host, temperature=0)
    weights = LoadedModel(host)
    context = CaptureContext(weights, plan(2))
    tokens = [weights.tokenize(text, specials=False, add=True) for text in ("A red bird sang.", "Tom was sad today.")]
    alone = [context.states([one])[0] for one in tokens]
    results: list[list[np.ndarray]] = [[], []]

    def capture(number: int) -> None:
        for _ in range(40):
            results[number].append(context.states([tokens[number]])[0])

    threads = [threading.Thread(target=capture, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    stories = [say(host, temperature=0) for _ in range(3)]
    for thread in threads:
        thread.join()
    assert stories == [expected] * 3
    for number in (0, 1):
        assert len(results[number]) == 40
        for rows in results[number]:
            np.testing.assert_array_equal(rows, alone[number])
    context.close()
    host.close()
