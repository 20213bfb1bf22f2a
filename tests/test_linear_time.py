"""Whatever reads a text from outside does so in time that grows with its length, not with its square.

Every pattern of the package that is compiled where its module is, and every function that takes a text: a new one is
found by itself and tried, or the test says that it is to be entered here.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from support.growth import QUICK, grows_with_the_square, processor_seconds

import membank_llama
from membank_llama.core.thoughts import ThoughtStream, without_thoughts
from membank_llama.memory import prompt_block, prompt_injection, text_splitting
from membank_llama.recall import time_expressions
from membank_llama.server import asgi
from membank_llama.server.engine.generation import grammars, message_format
from membank_llama.server.engine.generation.decode import first_of, longest_overlap
from membank_llama.server.engine.generation.reasoning import Trimmer
from membank_llama.server.engine.generation.tool_calls import CallStyle, Tools
from membank_llama.server.proxy import auxiliary_requests, person_text, reply_reader
from membank_llama.server.proxy.client_request import ChatRequest, RequestShape
from membank_llama.server.proxy.tokenizers import COMMON_CONTROLS, EstimatedTokenizer

SIZE = 100_000

ATOMS = (
    "a", "A", "1", " ", "\n", "\n ", "\t", ".", "…", "。", "!?", '."', "'", "’s", "-", "_", ":", "://", "/",
    "@", "<", "<|", "[", "]", "(", ")", "[(", "[a]", "(a) ", "[a] ?", "{", "{1,2}", "{1,", '{"', "\\", "\\u",
    "\\ud8", "A ", "A B C ", "A'", "A. ", "1 ", "1.", ".1", "12 jan ", "jan ", "may ", "2020-01-", "2020 ",
    "last ", "a few ", "the day before ", "in early ", "one of ", "good ", "good morning", "how are ", "I ",
    "my ", "you ", "you you ", "did you ", "what ", "what were you a ", "your ", "<memory>",
    "<memory>\nNotes from earlier ", "</memory>", "<think>", "</think>", '"done": true', '"done":',
    "\n<think>`</think>`", "`</think>", "\n```\n</think>",
    "data: [DONE]", "data: ", "### Task:\n", "Available Tools: Return ", "JSON", "give ",
    "Based on the chat history", "<|fim_", "<｜fim▁", "<fim", "\u2028", "\u00a0", "\u0301", "e\u0301",
    "\u0301\u0323", "\u200d", "\u202e", "\x00", "\ufffd", "中", "กั", "🙂", "<|im_<|im_start|>start|>", "<s", "<<s>s>",
    "User: ", "Q: ", "[INST] ", "-00001-of-", ".gguf", "hf:a/", "sha256-", "root ::= ", "L1-", "mock-", "-mean", "5m",
    "1h1m", "1ms", "session_", ";", ",", "é", "İ", "ß", "vor 2 ", "am 8. ",
    "letzten ", "il y a ", "hier ", "de mayo ", "el 8 de ", "na sexta ", "2023年5月", "三十", "上", "去年の", "先週の",
)  # fmt: skip


def time_patterns() -> dict[str, re.Pattern[str]]:
    """Those of languages, which are compiled when they are first met."""
    return {
        f"recall.time_expressions.LANGUAGES[{place}].patterns[{n}]": pattern
        for place, language in enumerate(time_expressions.LANGUAGES)
        for n, (pattern, _) in enumerate(language.patterns)
    }


BOUNDED = {
    # these are given a part of a text alone, of so many characters at most
    "core.text_features._ASIDE": 600,
    **dict.fromkeys((f"server.proxy.auxiliary_phrases.{name}" for name in ("WORDED", "SENTINEL")), 600),
    "server.proxy.auxiliary_phrases.INSTRUCTED": 6000,
    "server.proxy.auxiliary_phrases.SUB_AGENT": 6000,
    **dict.fromkeys(
        (f"server.proxy.auxiliary_phrases.{n}" for n in ("ABOUT_ALL", "NAMED", "RESTRICTED", "CONVERSATION")), 300
    ),
    "server.engine.generation.grammars._PATTERN_PART": 1000,
    "server.engine.generation.grammars._unfolded": 1000,
    "server.engine.durations._PART": 64,
    "server.engine.durations._seconds": 64,
    "recall.time_expressions.spans": 8192,
    "recall.time_expressions.spans, all languages": 8192,
    **dict.fromkeys(time_patterns(), 8192),
}
WHOLE = {"store.model_record._CAPTURED", "gguf.references._HUB_REF"}
"""Patterns that a text is only ever held against as a whole."""
NOT_FROM_OUTSIDE = {"cli"}
"""What the user types, writes in files of their own, or the package itself makes."""


def modules() -> list[tuple[str, ModuleType]]:
    found = []
    for info in pkgutil.walk_packages(membank_llama.__path__, "membank_llama."):
        name = info.name.removeprefix("membank_llama.")
        if name.split(".")[0] not in NOT_FROM_OUTSIDE and name not in (
            "__main__",
            "adapters.huggingface",
            "server.agents.mcp_sdk",
        ):
            found.append((name, importlib.import_module(info.name)))
    return found


def patterns() -> Iterator[tuple[str, re.Pattern[Any]]]:
    yield from time_patterns().items()
    for name, module in modules():
        for key, value in vars(module).items():
            if isinstance(value, re.Pattern):
                yield f"{name}.{key}", value
            elif isinstance(value, tuple | list | dict):
                many = value.values() if isinstance(value, dict) else value
                flat = [one for entry in many for one in (entry if isinstance(entry, tuple) else (entry,))]
                yield from ((f"{name}.{key}[{n}]", one) for n, one in enumerate(flat) if isinstance(one, re.Pattern))


def text_functions() -> Iterator[tuple[str, Callable[[str], Any]]]:
    """Functions of a text alone."""
    for name, module in modules():
        for key, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__ and _takes_a_text(value):
                yield f"{name}.{key}", value


def _takes_a_text(function: Callable[..., Any]) -> bool:
    parameters = list(inspect.signature(function).parameters.values())
    needed = [one for one in parameters if one.default is inspect.Parameter.empty]
    return len(needed) == 1 and needed[0].annotation in ("str", str)


def _streamed(text: str) -> None:
    for begun in (False, True):
        stream = ThoughtStream(begun=begun)
        for at in range(0, len(text), 64):
            stream.push(text[at : at + 64])


NEUTRALISE = prompt_block.Neutraliser(COMMON_CONTROLS)
TOOLS = Tools([{"function": {"name": "f"}}], CallStyle(bare=True))
MORE: dict[str, Callable[[str], Any]] = {
    "recall.time_expressions.spans": lambda text: time_expressions.spans(text, 1.7e9),
    "recall.time_expressions.spans, all languages": lambda text: time_expressions.spans(
        f"may mai mayo maio hier 月 8 {text}", 1.7e9
    ),
    "memory.text_splitting.split_passages": text_splitting.split_passages,
    "memory.prompt_block.Neutraliser": NEUTRALISE,
    "memory.prompt_injection._is_shown": lambda text: prompt_injection._is_shown(text, [text + "b", text[1:] + "b"]),
    "memory.prompt_injection._counted": lambda text: prompt_injection._counted(text, EstimatedTokenizer(4096), 10**9),
    "server.asgi.parse_object": lambda text: asgi.parse_object(
        b'{"a": "%b"}' % re.sub(r'[\\"\x00-\x1f]', "", text).encode()
    ),
    "server.engine.generation.message_format.template_messages": lambda text: message_format.template_messages(
        [{"role": "user", "content": text}]
    ),
    "server.engine.generation.message_format, many": lambda text: message_format.template_messages(
        [{"role": "user", "content": text[:9]}] * (len(text) // 20)
    ),
    "server.engine.generation.message_format, calls": lambda text: message_format.template_messages(
        _called(len(text) // 20)
    ),
    "server.engine.generation.reasoning.Trimmer": lambda text: Trimmer().push(text),
    "core.thoughts.without_thoughts, begun": lambda text: without_thoughts(text, begun=True),
    "core.thoughts.ThoughtStream": _streamed,
    "server.engine.generation.tool_calls.read": TOOLS.read,
    "server.engine.generation.tool_calls.leading": TOOLS.leading,
    "server.engine.generation.decode.first_of": lambda text: first_of(text, ["<think>", text + "b"]),
    "server.engine.generation.decode.longest_overlap": lambda text: longest_overlap(
        text[-8192:], ["aaab" * 1024, text[:4096] + "b"]
    ),
    "server.engine.generation.grammars._check": lambda text: (
        grammars._check({"pattern": text[:1000]}) if "{" not in text else None
    ),
    "server.proxy.auxiliary_requests.is_auxiliary": lambda text: auxiliary_requests.is_auxiliary(_asked(text)),
    "server.proxy.person_text.person_text": person_text.person_text,
    "server.proxy.reply_reader.reply_of": lambda text: reply_reader.reply_of(
        "/api/chat", text.encode("utf-8", "replace")
    ),
}


def _asked(text: str) -> ChatRequest:
    messages: list[dict[str, Any]] = [{"role": "user", "content": text}]
    return ChatRequest(messages, lambda told: {}, "m", said=messages, shape=RequestShape(system=text))


def _called(count: int) -> list[dict[str, Any]]:
    call = {"function": {"name": "f", "arguments": {}}}
    results = [{"role": "tool", "content": "r"}] * count
    return [{"role": "assistant", "content": "", "tool_calls": [call] * count}, *results]


def tried(function: Callable[[str], Any], atom: str) -> Callable[[int], None]:
    """`function` with a text of so many characters."""

    def work(size: int) -> None:
        try:
            function((atom * (size // len(atom) + 1))[:size])
        except Exception as exc:  # refusing a text is an answer, if a quick one
            assert not isinstance(exc, RecursionError | MemoryError)

    return work


def assert_linear(name: str, function: Callable[[str], Any], *, all_of_it: bool, size: int = SIZE) -> None:
    """`all_of_it`: every text in its whole length; else in that alone where a quarter of it is not quick enough."""
    for atom in ATOMS:
        work = tried(function, atom)
        if not all_of_it and processor_seconds(work, size // 4) < QUICK / 8:
            continue
        if grows_with_the_square(work, size):
            pytest.fail(f"the time of {name} grows with the square of the text, {size:,} characters of {atom!r}")


thoroughly = pytest.mark.parametrize(
    "all_of_it", [pytest.param(False, id="quarter"), pytest.param(True, id="whole", marks=pytest.mark.attack)]
)


@thoroughly
@pytest.mark.parametrize("name", sorted({name for name, _ in patterns()}))
def test_patterns(name: str, all_of_it: bool) -> None:
    pattern = dict(patterns())[name]
    is_bytes = isinstance(pattern.pattern, bytes)

    def searched(text: str) -> None:
        given: Any = text.encode("utf-8", "surrogatepass") if is_bytes else text
        pattern.fullmatch(given)
        if name not in WHOLE:
            sum(1 for _ in pattern.finditer(given))

    assert_linear(name, searched, all_of_it=all_of_it, size=BOUNDED.get(name, SIZE))


@thoroughly
@pytest.mark.parametrize("name", sorted({*MORE, *(name for name, _ in text_functions())}))
def test_functions(name: str, all_of_it: bool) -> None:
    function = MORE.get(name) or dict(text_functions())[name]
    assert_linear(name, function, all_of_it=all_of_it, size=BOUNDED.get(name, SIZE))


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_patterns_for_whole_texts_are_used_so(name: str) -> None:
    room, _, pattern = name.rpartition(".")
    source = inspect.getsource(importlib.import_module(f"membank_llama.{room}"))
    assert set(re.findall(rf"\b{pattern}\.(\w+)\(", source)) == {"fullmatch"}


def test_a_quadratic_one_would_be_found() -> None:
    quadratic = re.compile(r"<memory>.*?</memory>", re.DOTALL)
    with pytest.raises(pytest.fail.Exception, match="with the square of the text"):
        assert_linear("quadratic", lambda text: quadratic.sub("", text), all_of_it=False, size=60_000)
