"""The drop-in goes on from what is stored: the same answers, in this process and the next, for less work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
from support.banks import python

import membank_llama
from membank_llama.adapters.hashing import MockAdapter
from membank_llama.core.errors import InvalidInputError
from membank_llama.gguf.fingerprint import fingerprint
from membank_llama.kv.context_key import context_key
from membank_llama.kv.piece_store import PieceStore
from membank_llama.memory.bank import MemBank
from membank_llama.memory.llama_with_memory import SafeLlama, remember
from membank_llama.memory.prompt_injection import MemoryOptions

OPTIONS: dict[str, Any] = {"n_ctx": 1024, "n_threads": 1, "n_threads_batch": 1, "seed": 3, "verbose": False}
COLD: dict[str, Any] = {"max_tokens": 16, "temperature": 0.0}
# the bank stays empty: what is in the prompts is known
SILENT = MemoryOptions(remember=False)
STORY = (
    "Once upon a time there was a little girl called Lily, who lived in a house by the sea. Every day she went to the "
    "park with her dog and played with a red ball. One day the ball rolled into the water and she was very sad. "
) * 3
Dialogue = list[dict[str, str]]


def said(*texts: str) -> Dialogue:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


class Evaluated:
    """Counts the tokens that a Llama evaluates."""

    def __init__(self, llm: llama_cpp.Llama) -> None:
        self.tokens = 0
        plain = llm.eval

        def counted(tokens: Any) -> None:
            self.tokens += len(tokens)
            plain(tokens)

        llm.eval = counted  # type: ignore[method-assign]

    def take(self) -> int:
        taken, self.tokens = self.tokens, 0
        return taken


Open = Callable[..., Any]


@pytest.fixture
def open_llama(tmp_path: Path, stories_chatml_gguf: Path) -> Iterator[Open]:
    with ExitStack() as stack:

        def opened(**more: Any) -> Any:
            given = {"memory": tmp_path / "bank", "memory_options": SILENT, "encoder": MockAdapter(64), **OPTIONS}
            llm = membank_llama.Llama(str(stories_chatml_gguf), **{**given, **more})
            stack.callback(llm.close)
            return llm

        yield opened


@pytest.fixture
def plain(stories_chatml_gguf: Path) -> Iterator[llama_cpp.Llama]:
    llm = llama_cpp.Llama(str(stories_chatml_gguf), **OPTIONS)
    yield llm
    llm.close()


def reply(llm: Any, messages: Dialogue) -> str:
    return str(llm.create_chat_completion(messages, **COLD)["choices"][0]["message"]["content"])


def fresh_reply(plain: llama_cpp.Llama, messages: Dialogue) -> str:
    plain.reset()
    return reply(plain, messages)


def files(bank: Path) -> list[Path]:
    return sorted((bank / "kv").glob("*/*.kv"))


def test_a_conversation_goes_on_after_a_restart(open_llama: Open, plain: llama_cpp.Llama, tmp_path: Path) -> None:
    first = open_llama()
    answer = reply(first, said(STORY))
    assert answer == fresh_reply(plain, said(STORY))
    first.close()
    assert len(files(tmp_path / "bank")) == 1
    longer = said(STORY, answer, "What did she do then?")
    second = open_llama()
    evaluated = Evaluated(second)
    assert reply(second, longer) == fresh_reply(plain, longer)
    whole = second.n_tokens
    assert evaluated.take() <= 0.25 * whole
    assert second.kv.counts.restores == 1
    assert second.kv.counts.restored_tokens > 0.75 * (whole - 16)


GO_ON = """
    import json, sys
    from pathlib import Path
    import membank_llama
    from membank_llama.adapters.hashing import MockAdapter
    from membank_llama.memory.prompt_injection import MemoryOptions
    model, bank, messages, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
    llm = membank_llama.Llama(
        model, memory=bank, encoder=MockAdapter(64), memory_options=MemoryOptions(remember=False), **options
    )
    evaluated = []
    plain = llm.eval
    llm.eval = lambda tokens: (evaluated.append(len(tokens)), plain(tokens))[1]
    said = llm.create_chat_completion(messages, max_tokens=16, temperature=0.0)["choices"][0]["message"]["content"]
    print(json.dumps({"said": said, "evaluated": sum(evaluated), "restored": llm.kv.counts.restored_tokens}))
    # no close(): what was said is kept all the same
"""


def test_in_another_process(plain: llama_cpp.Llama, tmp_path: Path, stories_chatml_gguf: Path) -> None:
    found = []
    messages = said(STORY)
    for question in ("What did she do then?", "And the dog?", None):
        options = json.dumps({**OPTIONS, "seed": 3})
        child = python(GO_ON, stories_chatml_gguf, tmp_path / "bank", json.dumps(messages), options)
        out, err = child.communicate(timeout=60)
        assert child.returncode == 0, err
        found.append(json.loads(out.splitlines()[-1]))
        assert found[-1]["said"] == fresh_reply(plain, messages)
        if question:
            messages = [*messages, {"role": "assistant", "content": found[-1]["said"]}, *said(question)]
    assert found[0]["restored"] == 0
    assert all(one["restored"] > 150 and one["evaluated"] < 80 for one in found[1:]), found


def test_a_stream_is_kept_too(open_llama: Open, plain: llama_cpp.Llama, tmp_path: Path) -> None:
    first = open_llama()
    chunks = list(first.create_chat_completion(said(STORY), stream=True, **COLD))
    told = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert told == fresh_reply(plain, said(STORY))
    first.kv.flush()
    assert len(files(tmp_path / "bank")) == 1


@pytest.mark.parametrize("kv", [False, 0, "off"])
def test_switched_off_nothing_is_written(open_llama: Open, tmp_path: Path, kv: Any) -> None:
    llm = open_llama(kv=kv)
    reply(llm, said(STORY))
    llm.kv.flush()
    llm.close()
    assert not (tmp_path / "bank" / "kv").exists()


def test_switched_off_by_the_environment(open_llama: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMBANK_KV", "off")
    llm = open_llama()
    reply(llm, said(STORY))
    llm.close()
    assert not (tmp_path / "bank" / "kv").exists()
    monkeypatch.setenv("MEMBANK_KV", "a lot")
    with pytest.raises(InvalidInputError, match="a lot"):
        open_llama()


def test_a_namespace_is_given_its_own_alone(open_llama: Open, plain: llama_cpp.Llama) -> None:
    for namespace, expected in (("ana", False), ("ben", False), ("ana", True)):
        llm = open_llama(memory_options=MemoryOptions(namespace=namespace, remember=False))
        assert reply(llm, said(STORY)) == fresh_reply(plain, said(STORY))
        assert bool(llm.kv.counts.restores) is expected
        llm.close()


def test_a_namespace_that_changes_from_call_to_call(open_llama: Open) -> None:
    llm = open_llama(memory_options=MemoryOptions(namespace="ana", remember=False))
    reply(llm, said(STORY))
    llm.memory.options = MemoryOptions(namespace="ben", remember=False)
    reply(llm, said(STORY + " And then they went to the sea, where the boats were, and looked for shells."))
    llm.kv.flush()
    store = PieceStore(llm.memory.bank.path)
    owners = {store.glance(path).piece.namespace for path in store.files()}
    assert owners == {"ana", "ben"}
    llm.close()


def test_a_namespace_that_changes_while_a_reply_is_open(open_llama: Open) -> None:
    """It is the one that asked whose words are kept and remembered."""
    llm = open_llama(memory_options=MemoryOptions(namespace="ana"))
    bank, store = llm.memory.bank, PieceStore(llm.memory.bank.path)
    stream = llm.create_chat_completion(said(STORY), stream=True, **COLD)
    next(stream)
    llm.memory.options = MemoryOptions(namespace="ben")
    assert len(list(stream)) > 1
    llm.kv.flush()
    assert llm.memory.flush()
    assert {store.glance(path).piece.namespace for path in store.files()} == {"ana"}
    assert (bank.count("ana"), bank.count("ben")) == (2, 0)
    llm.close()


def test_settings_that_change_the_numbers(open_llama: Open, stories_chatml_gguf: Path) -> None:
    """What the context was made with, and what the model was loaded with."""
    first = open_llama()
    reply(first, said(STORY))
    first.close()
    for more in ({"rope_freq_base": 2000.0}, {"kv_overrides": {"llama.rope.freq_base": 2000.0}}, {"flash_attn": True}):
        other = llama_cpp.Llama(str(stories_chatml_gguf), **OPTIONS, **more)
        expected = reply(other, said(STORY))
        other.close()
        llm = open_llama(**more)
        assert reply(llm, said(STORY)) == expected, more
        assert llm.kv.counts.restores == 0, more
        llm.close()


def test_probabilities_of_a_prompt_are_those_of_evaluation(open_llama: Open, stories_chatml_gguf: Path) -> None:
    """With `logits_all` Llama keeps the logits of every token, which no cells bring back."""
    call: dict[str, Any] = {"max_tokens": 4, "temperature": 0.0, "echo": True, "logprobs": 2}
    other = llama_cpp.Llama(str(stories_chatml_gguf), **OPTIONS, logits_all=True)
    expected = other.create_completion(STORY, **call)["choices"][0]["logprobs"]["token_logprobs"]
    other.close()
    for _ in range(2):
        llm = open_llama(logits_all=True)
        found = llm.create_completion(STORY, **call)["choices"][0]["logprobs"]["token_logprobs"]
        assert llm.kv.counts.restores == 0
        assert found[1:] == pytest.approx(expected[1:], abs=1e-4)
        llm.close()


def test_a_model_with_the_same_fingerprint_but_other_weights(
    open_llama: Open, stories_chatml_gguf: Path, tmp_path: Path
) -> None:
    """A fingerprint takes samples; what a file was written as counts as well."""
    changed = tmp_path / "changed.gguf"
    shutil.copy(stories_chatml_gguf, changed)
    changed.chmod(0o600)
    data = bytearray(changed.read_bytes())
    same = fingerprint(changed)
    rng = np.random.default_rng(1)
    for at in range(600_000, 1_000_000, 8192):
        before = data[at : at + 512]
        data[at : at + 512] = rng.permutation(np.frombuffer(before, np.float32)).tobytes()
        changed.write_bytes(data)
        if fingerprint(changed) != same:
            data[at : at + 512] = before
    changed.write_bytes(data)
    assert fingerprint(changed) == same and data != stories_chatml_gguf.read_bytes()
    params = llama_cpp.llama_context_default_params()
    keys = {context_key(path, params, n_ctx=1024, n_gpu_layers=0) for path in (stories_chatml_gguf, changed)}
    assert len(keys) == 2


def test_contexts_beyond_what_a_model_was_trained_for(stories_chatml_gguf: Path) -> None:
    """Where RoPE is scaled by the length of the context."""
    params = llama_cpp.llama_context_default_params()

    def key(n_ctx: int, scaling: str = "") -> str:
        return context_key(stories_chatml_gguf, params, n_ctx=n_ctx, n_gpu_layers=0, rope_scaling=scaling)

    assert key(512) == key(1024)
    assert key(512, "longrope") != key(1024, "longrope")


def test_a_plain_llama_remembers_without_kv_state(stories_chatml_gguf: Path, tmp_path: Path) -> None:
    with MemBank(MockAdapter(64), tmp_path / "bank") as bank:
        llm = remember(llama_cpp.Llama(str(stories_chatml_gguf), **OPTIONS), bank, SILENT)
        assert reply(llm, said(STORY))
        assert llm.kv is not None and llm.kv.counts.kept_pieces == 0  # type: ignore[attr-defined]
        llm.close()
    assert not (tmp_path / "bank" / "kv").exists()


def test_a_safe_llama_is_given_it(stories_chatml_gguf: Path, tmp_path: Path, plain: llama_cpp.Llama) -> None:
    with MemBank(MockAdapter(64), tmp_path / "bank") as bank:
        for expected in (0, 1):
            llm = remember(SafeLlama(str(stories_chatml_gguf), **OPTIONS), bank, SILENT)
            assert reply(llm, said(STORY)) == fresh_reply(plain, said(STORY))
            assert llm.kv is not None and llm.kv.counts.restores == expected
            llm.close()


def test_one_that_holds_something_already_is_not_tried(stories_chatml_gguf: Path, tmp_path: Path) -> None:
    """The trial would take away what is there."""
    with MemBank(MockAdapter(64), tmp_path / "bank") as bank:
        llm = SafeLlama(str(stories_chatml_gguf), **OPTIONS)
        before = llm.create_completion(STORY, **COLD)["choices"][0]["text"]
        remember(llm, bank, SILENT)
        evaluated = Evaluated(llm)
        assert llm.create_completion(STORY, **COLD)["choices"][0]["text"] == before
        assert evaluated.take() <= 17
        llm.close()


def test_a_bank_that_is_read_only(open_llama: Open, tmp_path: Path, stories_chatml_gguf: Path) -> None:
    open_llama().close()
    with MemBank(MockAdapter(64), tmp_path / "bank", read_only=True) as bank:
        llm = remember(SafeLlama(str(stories_chatml_gguf), **OPTIONS), bank, SILENT)
        assert reply(llm, said(STORY))
        llm.close()
    assert files(tmp_path / "bank") == []


def test_a_bank_that_nobody_keeps_leaves_nothing(stories_chatml_gguf: Path) -> None:
    bank = MemBank(MockAdapter(64))
    llm = remember(SafeLlama(str(stories_chatml_gguf), **OPTIONS), bank, SILENT)
    reply(llm, said(STORY))
    bank.close()
    reply(llm, said(STORY, "yes", "and then she went home to her mother"))
    llm.close()
    assert not bank.path.exists()


def test_an_embedding_llama(open_llama: Open, stories_chatml_gguf: Path) -> None:
    other = llama_cpp.Llama(str(stories_chatml_gguf), **OPTIONS, embedding=True)
    expected, answer = other.embed("Lily and the dog"), other.create_completion(STORY, **COLD)["choices"][0]["text"]
    other.close()
    for restored in (0, 1):
        llm = open_llama(embedding=True)
        for _ in range(2):
            assert np.allclose(llm.embed("Lily and the dog"), expected, atol=1e-5)
            assert llm.create_completion(STORY, **COLD)["choices"][0]["text"] == answer
        assert llm.kv.counts.restores == restored + 1
        llm.close()


@pytest.mark.parametrize("n_batch", [1, 2, 8, 64])
def test_small_batches(plain: llama_cpp.Llama, tmp_path: Path, stories_chatml_gguf: Path, n_batch: int) -> None:
    """llama.cpp ends the process where a batch is larger than the context was made for, or smaller than it needs."""
    options = json.dumps({**OPTIONS, "n_batch": n_batch})
    for _ in range(2):
        child = python(GO_ON, stories_chatml_gguf, tmp_path / "bank", json.dumps(said(STORY[:200])), options)
        out, err = child.communicate(timeout=60)
        assert child.returncode == 0, err[-2000:]
    assert (json.loads(out)["restored"] > 0) is (n_batch > 1)


# -- what a person does in between


@pytest.mark.parametrize("resets", [False, True])
def test_the_same_prompt_again(open_llama: Open, plain: llama_cpp.Llama, resets: bool) -> None:
    llm = open_llama()
    evaluated = Evaluated(llm)
    expected = fresh_reply(plain, said(STORY))
    for attempt in range(3):
        assert reply(llm, said(STORY)) == expected
        assert (evaluated.take() < 20) is (attempt > 0)
        if resets:
            llm.reset()
    # where nobody resets it, none of it comes from the disk: it was there
    assert llm.kv.counts.restores == (2 if resets else 0)


def test_other_answers_to_the_same_prompt(open_llama: Open, stories_chatml_gguf: Path) -> None:
    llm, other = open_llama(), llama_cpp.Llama(str(stories_chatml_gguf), **OPTIONS)
    for seed in range(4):
        call: dict[str, Any] = {"max_tokens": 20, "temperature": 0.9, "seed": seed}
        other.reset()
        expected = other.create_completion(STORY, **call)["choices"][0]["text"]
        assert llm.create_completion(STORY, **call)["choices"][0]["text"] == expected
        llm.reset()
    assert llm.kv.counts.restores == 3
    other.close()


def test_states_that_are_saved_and_loaded_in_between(open_llama: Open, plain: llama_cpp.Llama) -> None:
    llm = open_llama()
    other = said("Tell me about the dog and the cat, who lived in the wood with a bear and a bird. " * 5)
    reply(llm, said(STORY))
    state = llm.save_state()
    reply(llm, other)
    llm.load_state(state)
    longer = said(STORY, "She ran home.", "Why?")
    assert reply(llm, longer) == fresh_reply(plain, longer)
    llm.load_state(state)
    assert reply(llm, other) == fresh_reply(plain, other)
    llm.load_state(state)
    llm.kv.keep()
    llm.close()
    again = open_llama()
    for messages in (longer, other, said(STORY)):
        again.reset()
        assert reply(again, messages) == fresh_reply(plain, messages)
    assert again.kv.counts.restores == 3


def test_a_state_without_logits_is_not_kept_with_those_of_another(open_llama: Open) -> None:
    """What was loaded brings no logits; those of the evaluation before it are of other tokens."""
    llm = open_llama()
    answer = reply(llm, said(STORY))
    llm.kv.flush()
    state = llm.save_state()
    bank = llm.memory.bank.path
    reply(llm, said("Tell me about the dog and the cat, who lived in the wood with a bear and a bird. " * 5))
    llm.kv.flush()
    for path in files(bank):
        path.unlink()
    llm.load_state(state)
    llm.kv.keep()
    llm.close()
    again = open_llama()
    reply(again, said(STORY, answer, "And then?"))
    assert (again.kv.counts.restores, again.kv.counts.rejected) == (1, 0)


def test_tokens_that_were_evaluated_by_hand(open_llama: Open, plain: llama_cpp.Llama) -> None:
    llm = open_llama()
    reply(llm, said(STORY))
    llm.reset()
    llm.eval(llm.tokenize(b"The cat sat on the mat and looked at the bird in the tree for a long time."))
    assert reply(llm, said(STORY)) == fresh_reply(plain, said(STORY))
    assert llm.kv.counts.restores == 1


def test_a_prompt_that_parts_early(open_llama: Open, plain: llama_cpp.Llama) -> None:
    llm = open_llama()
    for begin in ("", "Now. ", "Once", STORY[:40] + "But ", STORY[:300] + "Suddenly "):
        messages = said(begin + STORY)
        assert reply(llm, messages) == fresh_reply(plain, messages)
    back = said(STORY)
    evaluated = Evaluated(llm)
    assert reply(llm, back) == fresh_reply(plain, back)
    assert evaluated.take() < 20


def test_two_conversations_that_take_turns(open_llama: Open, plain: llama_cpp.Llama) -> None:
    llm = open_llama()
    one, other = said(STORY), said("Tell me about the dog and the cat, who lived in the wood with a bear. " * 5)
    reply(llm, one)
    reply(llm, other)
    evaluated = Evaluated(llm)
    for turn in range(3):
        for messages in (one, other):
            answer = reply(llm, messages)
            assert answer == fresh_reply(plain, messages)
            assert turn == 0 or evaluated.take() < 90
            evaluated.take()
            messages += [{"role": "assistant", "content": answer}, *said(f"And then? {turn}")]


def test_a_long_prompt_that_is_cut_by_the_context(open_llama: Open) -> None:
    """What llama_cpp refuses is refused, and what was held is right afterwards."""
    llm = open_llama(n_ctx=256)
    short = reply(llm, said(STORY[:200]))
    with pytest.raises(ValueError, match="context window"):
        reply(llm, said(STORY * 4))
    assert reply(llm, said(STORY[:200])) == short


def test_counts(open_llama: Open) -> None:
    llm = open_llama()
    reply(llm, said(STORY))
    assert llm.kv.counts.kept_pieces == 1
    assert llm.kv.counts.kept_tokens == llm.n_tokens
    llm.kv.flush()
    assert llm.memory.bank.stats()["kv_bytes"] == sum(path.stat().st_size for path in files(llm.memory.bank.path))
