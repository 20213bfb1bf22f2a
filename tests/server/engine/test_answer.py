"""Thoughts, calls and split characters, out of a real model that was made to begin with a script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from make_tiny import CHATML, make_model
from support.engines import Scripted, merged, running, user
from support.hostile_gguf import Parts, changed

from membank_llama.core.errors import ModelError
from membank_llama.core.thoughts import HARMONY, TAGS, ThoughtTag
from membank_llama.server.asgi import AbandonedError
from membank_llama.server.engine.generation.answer import GenerationPlan, write_answer
from membank_llama.server.engine.generation.decode import Tally
from membank_llama.server.engine.generation.sampling_options import SamplingOptions
from membank_llama.server.engine.generation.tool_calls import CallStyle, Tools
from membank_llama.server.engine.runtime import model_pool

GREEDY = SamplingOptions(temperature=0, num_predict=200, repeat_penalty=1.0)
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"$ref": "#/$defs/place"}},
                "required": ["city"],
                "$defs": {"place": {"enum": ["Rome", "Paris"]}},
            },
        },
    },
    {"type": "function", "function": {"name": "get_time"}},
]
THINKING = CHATML + "{% if enable_thinking is defined and enable_thinking %}<think>\n{% endif %}"
TOOLED = "{% if tools %}<tool_call>{{ tools | tojson }}{% endif %}" + CHATML


@contextmanager
def scripted(path: Path, script: str) -> Iterator[Scripted]:
    model = Scripted(path, script)
    try:
        yield model
    finally:
        model.close()


def said(path: Path, script: str, **plan: Any) -> tuple[str, str, list[Any], Tally]:
    with scripted(path, script) as model:
        made = GenerationPlan(model.tokenize("hello"), **{"options": GREEDY, **plan})
        *deltas, tally = write_answer(model, made, Event())
        assert isinstance(tally, Tally)
        return *merged(deltas), tally


def until_script_ends(script: str) -> SamplingOptions:
    return SamplingOptions(temperature=0, num_predict=len(script.encode()), repeat_penalty=1.0)


def test_characters_are_whole_however_tokens_split_them(tiny_gguf: Path) -> None:
    script = "né 😀 漢字 e\u0301"
    with scripted(tiny_gguf, script) as model:
        plan = GenerationPlan(model.tokenize("hello"), until_script_ends(script))
        *deltas, _ = write_answer(model, plan, Event())
        texts = [delta.content for delta in deltas]  # type: ignore[union-attr]
        assert "".join(texts) == script
        assert all("\ufffd" not in text for text in texts)


def test_a_thought_is_told_apart(tiny_gguf: Path) -> None:
    script = "<think>\nhm, a cat\n</think>\n\nYes."
    options = until_script_ends(script)
    assert said(tiny_gguf, script, options=options, thinks=True)[:2] == ("Yes.", "hm, a cat")
    assert said(tiny_gguf, script, options=options, thinks=True, shows=False)[:2] == ("Yes.", "")
    assert said(tiny_gguf, script, options=options)[:2] == (script, "")


def test_a_thought_that_the_template_began(tiny_gguf: Path) -> None:
    script = "a cat\n</think>\n\nYes."
    assert said(tiny_gguf, script, options=until_script_ends(script), thinks=True, opened=True)[:2] == ("Yes.", "a cat")
    cut = "a cat"
    content, thinking, _, tally = said(tiny_gguf, cut, options=until_script_ends(cut), thinks=True, opened=True)
    assert (content, thinking, tally.reason) == ("", "a cat", "length")


TAGGED = [pytest.param(tag, id=tag.opening) for tag in (*TAGS, HARMONY)]
FINAL = {HARMONY: "<|start|>assistant<|channel|>final<|message|>"}


@pytest.mark.parametrize("tag", TAGGED)
def test_a_thought_is_told_apart_by_the_models_own_tag(tiny_gguf: Path, tag: ThoughtTag) -> None:
    thought, final = f"{tag.opening}hm, a cat{tag.closing}", FINAL.get(tag, "\n\n")
    for script in (f"{thought}{final}Yes.", f"{final}{thought}{final}Yes."):
        options = until_script_ends(script)
        assert said(tiny_gguf, script, options=options, thinks=True, tag=tag)[:2] == ("Yes.", "hm, a cat")
        assert said(tiny_gguf, script, options=options, thinks=True, tag=tag, shows=False)[:2] == ("Yes.", "")
    twice = f"{thought}{FINAL.get(tag, '')[:18]}{tag.opening}b{tag.closing}{final}Yes."
    assert said(tiny_gguf, twice, options=until_script_ends(twice), thinks=True, tag=tag)[:2] == ("Yes.", "hm, a catb")
    none = f"{final}Yes."
    assert said(tiny_gguf, none, options=until_script_ends(none), thinks=True, tag=tag)[:2] == ("Yes.", "")
    other = "<pondering>hm</pondering>Yes."
    assert said(tiny_gguf, other, options=until_script_ends(other), thinks=True, tag=tag)[:2] == (other, "")


@pytest.mark.parametrize("tag", TAGGED)
def test_a_schema_begins_where_the_answer_does(tiny_gguf: Path, tag: ThoughtTag) -> None:
    grammar = 'root ::= "{" [a-c] "}"'
    script = f"{tag.opening}hm{tag.closing}"
    content, thinking, _, _ = said(tiny_gguf, script, thinks=True, tag=tag, grammar=grammar)
    assert (thinking, content in ("{a}", "{b}", "{c}")) == ("hm", True)


def test_a_thought_about_the_tag_goes_on(tiny_gguf: Path) -> None:
    script = "<think>I end with `</think>` now</think>Yes."
    content, thinking = said(tiny_gguf, script, options=until_script_ends(script), thinks=True)[:2]
    assert (content, thinking) == ("Yes.", "I end with `</think>` now")


def test_a_bare_call_behind_a_thought_is_a_call(tiny_gguf: Path) -> None:
    script = '<think>hm</think>\n{"name": "get_weather"'
    content, thinking, (call, *_), _ = said(tiny_gguf, script, thinks=True, tools=Tools(TOOLS, CallStyle(bare=True)))
    assert (content, thinking) == ("", "hm") and call.name in ("get_weather", "get_time")


def test_a_tag_in_the_middle_is_text(tiny_gguf: Path) -> None:
    script = "Write <think> to think."
    assert said(tiny_gguf, script, options=until_script_ends(script), thinks=True)[:2] == (script, "")


@pytest.mark.parametrize("script", ["<think>\nhm</think>", ""])
def test_a_schema_begins_behind_the_thought(tiny_gguf: Path, script: str) -> None:
    grammar = 'root ::= "{" [a-c] "}"'
    content, thinking, _, tally = said(tiny_gguf, script, thinks=True, grammar=grammar)
    assert content in ("{a}", "{b}", "{c}")
    assert thinking == ("hm" if script else "")
    assert tally.reason == "stop"


@pytest.mark.parametrize(
    ("style", "script"),
    [
        (CallStyle(), "Let me see. <tool_call>"),
        (CallStyle("[TOOL_CALLS]", "", listed=True), "Let me see. [TOOL_CALLS]"),
        (CallStyle("[TOOL_CALLS]", "", named=True), "Let me see. [TOOL_CALLS]"),
        (CallStyle("<TOOLCALL>", "</TOOLCALL>", listed=True), "Let me see. <TOOLCALL>"),
        (CallStyle("<|python_tag|>", "", "parameters", bare=True), "Let me see. <|python_tag|>"),
    ],
)
def test_a_call_is_finished_under_the_grammar(tiny_gguf: Path, style: CallStyle, script: str) -> None:
    content, _, calls, tally = said(
        tiny_gguf, script, tools=Tools(TOOLS, style), options=SamplingOptions(temperature=0.7, seed=2, num_predict=150)
    )
    assert content.startswith("Let me see.")
    assert calls
    for call in calls:
        assert call.name in ("get_weather", "get_time")
        if call.name == "get_weather":
            assert call.arguments["city"] in ("Rome", "Paris")
        else:
            assert isinstance(call.arguments, dict)
    assert len(tally.tokens) <= 150


def test_bare_json_at_the_head_is_a_call_if_it_names_a_tool(tiny_gguf: Path) -> None:
    tools = Tools(TOOLS, CallStyle(bare=True))
    script = '{"name": "get_weather"'
    content, _, (call, *_), _ = said(tiny_gguf, script, tools=tools)
    assert content == ""
    assert call.name in ("get_weather", "get_time")
    other = '{"name": "Bob"}'
    assert said(tiny_gguf, other, tools=tools, options=until_script_ends(other))[0] == other


def test_words_stay_words_where_tools_are(tiny_gguf: Path) -> None:
    script = "It is <b>noon</b>."
    content, _, calls, _ = said(tiny_gguf, script, tools=Tools(TOOLS, CallStyle()), options=until_script_ends(script))
    assert (content, calls) == (script, [])


def test_a_call_that_was_cut_is_text(tiny_gguf: Path) -> None:
    script = "<tool_call>"
    content, _, calls, tally = said(
        tiny_gguf,
        script,
        tools=Tools(TOOLS, CallStyle()),
        options=SamplingOptions(temperature=0, num_predict=len(script) + 3),
    )
    assert calls == []
    assert content
    assert tally.reason == "length"


def test_cancelled_answers_end_at_once(tiny_gguf: Path) -> None:
    cancelled = Event()
    with scripted(tiny_gguf, "") as model:
        running_answer = write_answer(
            model, GenerationPlan(model.tokenize("hello"), SamplingOptions(num_predict=-1)), cancelled
        )
        next(running_answer)
        cancelled.set()
        with pytest.raises(AbandonedError):
            list(running_answer)


def test_a_grammar_that_the_vocabulary_cannot_follow_is_an_error(tmp_path: Path, recall_tiny: Path) -> None:
    def without_a_byte(parts: Parts) -> None:
        tokens = parts.array("tokenizer.ggml.tokens")
        # æ stands for the byte 0xE6 there, with which 漢 begins
        for n, token in enumerate(tokens):
            if "æ".encode() in token:
                tokens[n] = b"<hole%d>" % n

    with scripted(changed(recall_tiny, tmp_path / "holes.gguf", without_a_byte), "") as model:
        plan = GenerationPlan(model.tokenize("hello"), GREEDY, 'root ::= "a" "漢" [a-z]+')
        with pytest.raises(ModelError, match="vocabulary cannot write"):
            list(write_answer(model, plan, Event()))
        plan = GenerationPlan(model.tokenize("hello"), GREEDY, 'root ::= "ab"')
        assert merged(list(write_answer(model, plan, Event()))[:-1])[0] == "ab"


def test_thinking_and_tools_through_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    thinker = make_model(tmp_path / "thinker.gguf", chat_template=THINKING)
    caller = make_model(tmp_path / "caller.gguf", chat_template=TOOLED)
    # its template begins no thought, and says by which tags it is told
    marked = make_model(tmp_path / "marked.gguf", chat_template="{% if '[/THINK]' in messages %}{% endif %}" + CHATML)
    scripts = {thinker: "a cat</think>Yes.", caller: "<tool_call>", marked: "[THINK]a cat[/THINK]Yes."}

    def scripted_model(path: Path, *, n_ctx: int, **_: Any) -> Scripted:
        return Scripted(path, scripts[path], n_ctx=n_ctx)

    monkeypatch.setattr(model_pool, "GenerationContext", scripted_model)
    with running(tmp_path / "store", thinker, caller, marked, max_loaded=2) as (_, client):
        body = {"model": "thinker", "messages": [user("x")], "options": {"num_predict": 17, "temperature": 0}}
        lines = [json.loads(line) for line in client.post("/api/chat", json=body).text.splitlines()]
        assert "".join(line["message"].get("thinking", "") for line in lines) == "a cat"
        assert "".join(line["message"]["content"] for line in lines) == "Yes."
        body = {"model": "marked", "messages": [user("x")], "max_tokens": len(scripts[marked]), "temperature": 0}
        message = client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]
        assert (message["content"], message["reasoning"]) == ("Yes.", "a cat")
        assert "thinking" in client.post("/api/show", json={"model": "marked"}).json()["capabilities"]
        body = {
            "model": "caller",
            "messages": [user("x")],
            "tools": TOOLS,
            "stream": False,
            "options": {"temperature": 0},
        }
        done = client.post("/api/chat", json={**body, "options": {"temperature": 0, "num_predict": 100}}).json()
        (called, *_rest) = done["message"]["tool_calls"]
        assert called["function"]["name"] in ("get_weather", "get_time")
        assert isinstance(called["function"]["arguments"], dict)
