"""Conversations that a chat template refuses, through llama-cpp-python: answered, with memory where it belongs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import pytest
from support.banks import open_bank
from support.hostile_gguf import STRING, changed

from membank_llama.adapters.llama_cpp.chat_formats import make_patient
from membank_llama.core.errors import InvalidInputError
from membank_llama.memory.bank import MemBank
from membank_llama.memory.llama_with_memory import Llama, SafeLlama, remember

STRICT = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{{ '[' + message['role'] + ']' + message['content'] | trim }}{% endfor %}"
)
PARTS_OR_TEXT = (
    "{% for message in messages %}{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}({{ part['text'] }}){% endfor %}{% endif %}{% endfor %}"
)
OPTIONS: dict[str, Any] = {"n_ctx": 512, "n_threads": 1, "n_threads_batch": 1, "seed": 3, "verbose": False}
COLD: dict[str, Any] = {"max_tokens": 4, "temperature": 0.0}
CALL = {"id": "0", "type": "function", "function": {"name": "w", "arguments": "{}"}}


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    with open_bank(tmp_path / "bank") as opened:
        opened.ingest("My mule is called Bardolino.")
        yield opened


@pytest.fixture
def strict_gguf(tmp_path: Path, tiny_gguf: Path) -> Path:
    return changed(tiny_gguf, tmp_path / "strict.gguf", lambda p: p.set("tokenizer.chat_template", STRICT, STRING))


def with_prompts(llm: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prompts that come to be completed from now on."""
    prompts: list[str] = []
    complete = llama_cpp.Llama.create_completion

    def create_completion(self: Any, prompt: Any, *args: Any, **kwargs: Any) -> Any:
        prompts.append(self.detokenize(prompt, special=True).decode("utf-8", "replace"))
        return complete(self, prompt, *args, **kwargs)

    monkeypatch.setattr(llama_cpp.Llama, "create_completion", create_completion)
    return prompts


ASKED = "What is my mule called?"


@pytest.mark.parametrize(
    "before",
    [
        [{"role": "system", "content": "Be brief."}],
        [{"role": "system", "content": "Be brief."}, {"role": "developer", "content": "Be kind."}],
        [{"role": "user", "content": "Hello."}],
        [{"role": "assistant", "content": "How can I help?"}],
        [
            {"role": "user", "content": "Rain?"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "0", "content": "No."},
        ],
        [{"role": "user", "content": "half \ud83d"}, {"role": "assistant", "content": "ok"}],
        [{"role": "user", "content": [{"type": "text", "text": "Hello."}]}, {"role": "assistant", "content": "ok"}],
    ],
)
@pytest.mark.parametrize("asked", [ASKED, [{"type": "text", "text": "Well:"}, {"type": "text", "text": ASKED}]])
def test_a_strict_template_takes_them_and_memory_goes_on(
    strict_gguf: Path, bank: MemBank, monkeypatch: pytest.MonkeyPatch, before: list[Any], asked: Any
) -> None:
    llm: Any = Llama(str(strict_gguf), memory=bank, **OPTIONS)
    try:
        prompts = with_prompts(llm, monkeypatch)
        reply = llm.create_chat_completion([*before, {"role": "user", "content": asked}], **COLD)
        assert reply["choices"][0]["message"]["role"] == "assistant"
        assert llm.memory.last.injected == (1,)
        llm.memory.flush()
    finally:
        llm.close()
    assert "Bardolino" in prompts[0] and "'type'" not in prompts[0]
    assert prompts[0].count("[user]") >= 1 and "[system]" not in prompts[0] and "[tool]" not in prompts[0]
    assert any(ASKED in memory.text for memory in bank.memories())


def test_what_a_template_takes_it_is_given_as_it_came(tmp_path: Path, tiny_gguf: Path) -> None:
    path = changed(tiny_gguf, tmp_path / "p.gguf", lambda p: p.set("tokenizer.chat_template", PARTS_OR_TEXT, STRING))
    talk: Any = [{"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]}]
    with open_bank(tmp_path / "bank") as bank:
        plain: Any = llama_cpp.Llama(str(path), **OPTIONS)
        remembering: Any = Llama(str(path), memory=bank, **OPTIONS)
        try:
            replies = [llm.create_chat_completion(talk, **COLD) for llm in (plain, remembering)]
            assert replies[0]["usage"] == replies[1]["usage"]
            assert replies[0]["choices"] == replies[1]["choices"]
            assert list(plain.input_ids[: plain.n_tokens]) == list(remembering.input_ids[: remembering.n_tokens])
        finally:
            plain.close()
            remembering.close()


def test_a_block_in_parts_is_never_lost_by_a_format_that_drops_parts(stories_gguf: Path, bank: MemBank) -> None:
    # the formats that llama-cpp-python writes itself leave a list of parts out in silence
    llm: Any = Llama(str(stories_gguf), memory=bank, **OPTIONS)
    try:
        llm.create_chat_completion([{"role": "user", "content": [{"type": "text", "text": ASKED}]}], **COLD)
        prompt = llm.detokenize(list(llm.input_ids[: llm.n_tokens])).decode("utf-8", "replace")
    finally:
        llm.close()
    assert "Bardolino" in prompt and ASKED in prompt


def test_one_that_exists_already_and_one_without_memory(strict_gguf: Path, bank: MemBank) -> None:
    talk: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASKED}]
    plain: Any = llama_cpp.Llama(str(strict_gguf), **OPTIONS)
    with pytest.raises(ValueError, match="System role not supported"):
        plain.create_chat_completion(talk, **COLD)
    existing: Any = remember(plain, bank)
    safe: Any = SafeLlama(str(strict_gguf), **OPTIONS)
    try:
        for llm in (existing, safe):
            assert llm.create_chat_completion(talk, **COLD)["choices"]
    finally:
        existing.close()
        safe.close()


def test_what_is_refused_in_every_form_is_said_in_one_line(tmp_path: Path, tiny_gguf: Path) -> None:
    never = "{{ raise_exception('not\\nfor you') }}"
    path = changed(tiny_gguf, tmp_path / "n.gguf", lambda p: p.set("tokenizer.chat_template", never, STRING))
    llm: Any = SafeLlama(str(path), **OPTIONS)
    try:
        with pytest.raises(InvalidInputError, match="does not accept these messages: not for you; leave out") as raised:
            llm.create_chat_completion([{"role": "user", "content": "Hi"}], **COLD)
        assert "\n" not in str(raised.value)
    finally:
        llm.close()


def test_a_handler_or_format_of_the_callers_own_stays(tiny_gguf: Path) -> None:
    llm: Any = llama_cpp.Llama(str(tiny_gguf), chat_format="no-such-format", **OPTIONS)
    try:
        make_patient(llm)
        assert llm._chat_handlers.keys() <= {"chat_template.default"}

        def handler(**given: Any) -> str:
            return "mine"

        llm.chat_handler = handler
        make_patient(llm)
        assert llm.create_chat_completion([], **COLD) == "mine"
    finally:
        llm.close()
