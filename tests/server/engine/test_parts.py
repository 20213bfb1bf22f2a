"""The small parts of the engine, each by itself."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from make_tiny import make_model

from membank_llama.gguf.capabilities import read_facts
from membank_llama.server.asgi import WireError, parse_object
from membank_llama.server.engine import durations, fields
from membank_llama.server.engine.exchange import SSE, Exchange
from membank_llama.server.engine.generation.chat_template import ChatTemplate
from membank_llama.server.engine.generation.context_window import fitting
from membank_llama.server.engine.generation.conversation_request import ConversationRequest, RequestedModel
from membank_llama.server.engine.generation.decode import longest_overlap
from membank_llama.server.engine.generation.generation_context import GenerationContext
from membank_llama.server.engine.generation.grammars import of_schema
from membank_llama.server.engine.generation.message_format import template_messages
from membank_llama.server.engine.generation.reasoning import Think, Trimmer
from membank_llama.server.engine.generation.sampling_options import SamplingOptions, resolve
from membank_llama.server.engine.generation.tool_calls import CallStyle, Tools, style_of
from membank_llama.server.engine.library.served_model import ServedModel
from membank_llama.server.engine.runtime.async_bridge import AsyncBridge


def test_options_are_the_requests_over_the_models_over_ollamas() -> None:
    made = resolve({"temperature": 0.1, "stop": ["x"], "top_k": 5}, {"top_k": 7.0, "unknown": 1, "min_p": None})
    assert (made.temperature, made.top_k, made.stop, made.min_p) == (0.1, 7, ("x",), 0.0)
    assert resolve({}, None) == SamplingOptions()
    assert (SamplingOptions().temperature, SamplingOptions().top_p, SamplingOptions().repeat_penalty) == (0.8, 0.9, 1.1)
    with pytest.raises(WireError):
        resolve({}, {"temperature": float("nan")})


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("5m", 300), (300, 300), ("1h30m", 5400), (0, 0), ("0", 0), ("0s", 0), (-1, -1), ("-1m", -1), ("250ms", 0.25)],
)
def test_keep_alive(given: object, seconds: float) -> None:
    assert durations.keep_alive(given) == seconds
    assert durations.keep_alive(None) is None


@pytest.mark.parametrize("given", ["5", "m", "5 m", "", True, [], float("inf")])
def test_keep_alive_refuses(given: object) -> None:
    with pytest.raises(WireError):
        durations.keep_alive(given)


def test_fields_name_what_is_wrong() -> None:
    assert fields.text({"a": None}, "a", "x") == "x"
    for call in (fields.text, fields.integer, fields.mapping, fields.objects):
        with pytest.raises(WireError, match='"a" must be'):
            call({"a": True}, "a")
    with pytest.raises(WireError, match='"a" must be a boolean'):
        fields.flag({"a": "no"}, "a", True)
    assert parse_object(b'{"a": ["\\ud83d\\ude00 \\ud800"]}') == {"a": ["😀 \ufffd"]}


def test_overlap_holds_back_what_may_become_a_stop() -> None:
    assert longest_overlap("abc<to", ["<tool>"]) == 3
    assert longest_overlap("abc", ["<tool>"]) == 0
    assert longest_overlap("aab", ["aabaab", "bx"]) == 3


def test_trimmer_leaves_out_white_space_at_both_ends() -> None:
    trimmer = Trimmer()
    assert [trimmer.push(text) for text in (" \n", " a", " b ", " ", "c\n")] == ["", "a", " b", "", "  c"]


def test_templates_are_run_as_their_makers_meant() -> None:
    source = (
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        "{% if tools %}{{ tools | tojson }}{% endif %}{{ strftime_now('%Y') | length }}"
        "{% if add_generation_prompt %}>{% endif %}"
    )
    template = ChatTemplate(source, "<s>", "</s>")
    assert template.render([{"role": "user", "content": "<é>"}]) == "<s>[user]<é>4>"
    assert '{"a": "<é>"}' in template.render([{"role": "user", "content": ""}], [{"a": "<é>"}])


def test_a_last_word_of_the_assistant_is_gone_on_with() -> None:
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hel"}]
    assert ChatTemplate(None).render(said).endswith("<|im_start|>assistant\nHel")


def test_a_template_without_system_gets_it_in_the_first_message() -> None:
    source = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    said = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    assert ChatTemplate(source).render(said) == "S\n\nU"
    assert ChatTemplate(source).render([{"role": "system", "content": "S"}]) == "S"


def test_what_a_template_takes_in_no_form_is_refused_with_its_own_words() -> None:
    with pytest.raises(WireError, match="does not accept these messages: never"):
        ChatTemplate("{{ raise_exception('never') }}").render([{"role": "system", "content": "S"}])


def test_a_template_that_joins_arguments_as_text_gets_them_so() -> None:
    source = (
        "{% for m in messages %}{% for c in m.tool_calls %}{{ 'x' + c.function.arguments }}{% endfor %}{% endfor %}"
    )
    call = {"function": {"name": "f", "arguments": {"a": 1}}}
    assert ChatTemplate(source).render([{"role": "assistant", "content": "", "tool_calls": [call]}]) == 'x{"a": 1}'


def test_a_template_that_cannot_do_with_tools_of_none_gets_none_at_all() -> None:
    source = "{% if tools is defined %}{% for t in tools %}{{ t }}{% endfor %}{% endif %}ok"
    assert ChatTemplate(source).render([{"role": "user", "content": ""}]) == "ok"


def test_a_template_cannot_reach_out() -> None:
    with pytest.raises(WireError):
        ChatTemplate("{{ messages.__class__.__mro__[1].__subclasses__() }}").render([{"role": "user", "content": ""}])
    with pytest.raises(WireError, match="can't be read"):
        ChatTemplate("{% if %}").render([{"role": "user", "content": ""}])


def test_messages_are_normalised() -> None:
    call = {"function": {"name": "f", "arguments": '{"a": 1}'}}
    made = template_messages(
        [
            {"role": "developer", "content": "S"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "tool_calls": [call], "thinking": "hm"},
            {"role": "tool", "tool_name": "f", "content": "1"},
        ]
    )
    assert [m["role"] for m in made] == ["system", "user", "assistant", "tool"]
    assert made[1]["content"] == "a\nb"
    function = {"name": "f", "arguments": {"a": 1}}
    assert made[2]["tool_calls"] == [{"type": "function", "function": function, "id": "call00000"}]
    assert made[3]["tool_call_id"] == "call00000"
    assert made[2]["reasoning_content"] == "hm"
    assert made[3]["name"] == "f"


def test_think_values() -> None:
    assert Think.parse(None) == Think()
    assert Think.parse("low") == Think(True, "low")
    with pytest.raises(WireError):
        Think.parse(1.5)


def test_styles_of_calls() -> None:
    assert style_of(None).bare
    assert style_of("{{ tools }}<tool_call>").opener == "<tool_call>"
    assert style_of("{{ tools }}[TOOL_CALLS][ARGS]").named
    assert style_of("{{ tools }}[TOOL_CALLS]").listed
    assert style_of("{{ tools }}<|tool_call|>x<|/tool_call|>").closer == "<|/tool_call|>"
    assert style_of('{{ tools }}{"name": x, "parameters": y}').key == "parameters"


def test_calls_are_read_in_every_style() -> None:
    given = [{"type": "function", "function": {"name": "f"}}]
    for style, text in (
        (CallStyle(), ' {"name": "f", "arguments": {"a": 1}} '),
        (CallStyle(key="parameters"), '{"name": "f", "parameters": {"a": 1}}'),
        (CallStyle(listed=True), '[{"name": "f", "arguments": {"a": 1}}]'),
        (CallStyle(named=True), 'f[ARGS]{"a": 1}'),
    ):
        (call,) = Tools(given, style).read(text)
        assert (call.name, call.arguments) == ("f", {"a": 1})
        assert call.id.startswith("call_")
    assert Tools(given, CallStyle()).read('{"name": "f", "arg') == []


def test_schemas_nested_too_deep_or_impossible_are_refused() -> None:
    deep: dict[str, object] = {"type": "integer"}
    for _ in range(100):
        deep = {"type": "object", "properties": {"a": deep}}
    long = {"type": "array", "items": {"type": "integer"}, "maxItems": 10**9}
    for schema in (deep, long, {"type": "no"}, {"$ref": "http://x"}, {"type": "string", "pattern": "("}):
        with pytest.raises(WireError) as caught:
            of_schema(schema)
        assert caught.value.status == 400


def test_strings_hold_no_raw_control_characters() -> None:
    assert r"\x00-\x1F" in of_schema({"type": "object"})


def test_facts_are_read_from_the_header(tmp_path: Path, recall_tiny: Path) -> None:
    facts = read_facts(recall_tiny)
    assert facts.writes and not facts.embeds and not facts.thinks
    assert facts.n_ctx_train == 1024
    pooled = read_facts(make_model(tmp_path / "pooled.gguf", pooling_type=1))
    assert pooled.embeds and not pooled.writes
    ranker = read_facts(make_model(tmp_path / "ranker.gguf", pooling_type=4))
    assert not ranker.embeds and not ranker.writes


def test_what_is_dropped_is_the_oldest_and_never_the_system(recall_tiny: Path) -> None:
    model = GenerationContext(recall_tiny, n_ctx=128, n_threads=1, n_gpu_layers=0)
    try:
        said = [{"role": "system", "content": "SYSTEM"}]
        for n in range(30):
            said += [{"role": "user", "content": f"Q{n}"}, {"role": "assistant", "content": f"A{n}"}]
        said.append({"role": "user", "content": "LAST"})
        seen: list[list[str]] = []

        def render(some: object) -> str:
            seen.append([m["content"] for m in some])  # type: ignore[attr-defined]
            return ChatTemplate(None).render(some)  # type: ignore[arg-type]

        tokens = fitting(model, said, render, -1)
        assert len(tokens) < 128 - 16
        kept = next(
            some
            for some in seen
            if model.tokenize(ChatTemplate(None).render([m for m in said if m["content"] in some])) == tokens
        )
        assert kept[0] == "SYSTEM"
        assert kept[1].startswith("Q")
        assert kept[-1] == "LAST"
        assert len(kept) > 3
    finally:
        model.close()


def test_the_modelfiles_system_and_a_note_on_tools(recall_tiny: Path) -> None:
    served = ServedModel("m:latest", recall_tiny, "0" * 64, 1, 0.0, system="Be kind.")
    model = GenerationContext(recall_tiny, n_ctx=512, n_threads=1, n_gpu_layers=0)
    try:
        from membank_llama.server.engine.generation.conversation_request import conversation

        target = RequestedModel("m", served, read_facts(recall_tiny))
        said = conversation(target, [{"role": "user", "content": "x"}])
        assert said[0] == {"role": "system", "content": "Be kind."}
        own = [{"role": "system", "content": "Own."}, {"role": "user", "content": "x"}]
        assert conversation(target, own) == own
        tools = Tools([{"type": "function", "function": {"name": "get_time"}}], CallStyle(bare=True))
        tokens = ConversationRequest(target, said, SamplingOptions(), tools=tools).plan(model).tokens
        text = b"".join(model.piece(token) for token in tokens).decode()
        assert "Be kind." in text
        assert "get_time" in text
    finally:
        model.close()


def test_the_bridge_drops_nothing_and_raises_what_went_wrong() -> None:
    async def run() -> tuple[list[int], str]:
        with ThreadPoolExecutor(1) as executor:

            def many(_: threading.Event) -> Iterator[int]:
                yield from range(1000)
                raise ValueError("at the end")

            got = []
            try:
                async for item in AsyncBridge(executor, many):
                    got.append(item)
                    if item % 100 == 0:
                        await asyncio.sleep(0.001)
            except ValueError as error:
                return got, str(error)
            return got, ""

    got, error = asyncio.run(run())
    assert got == list(range(1000))
    assert error == "at the end"


def test_the_bridge_is_bounded_and_ends_when_nobody_listens() -> None:
    made = []

    async def run() -> None:
        with ThreadPoolExecutor(1) as executor:

            def endless(cancelled: threading.Event) -> Iterator[int]:
                while not cancelled.is_set():
                    made.append(0)
                    yield 0

            stream = AsyncBridge(executor, endless)
            async for _ in stream:
                break
            await asyncio.sleep(0.05)
            stream.cancel()

    asyncio.run(run())
    assert 1 <= len(made) < 200


def test_an_error_in_a_stream_is_told_in_it() -> None:
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    async def run() -> None:
        x = Exchange({"path": "/v1/chat/completions"}, send)  # type: ignore[arg-type]
        await x.push({"a": "é"}, SSE)
        await x.fail(500, "broken")

    asyncio.run(run())
    assert sent[1]["body"] == 'data: {"a":"é"}\n\n'.encode()
    assert json.loads(bytes(sent[2]["body"])[6:])["error"]["message"] == "broken"  # type: ignore[arg-type]
    assert sent[-1]["more_body"] is False
