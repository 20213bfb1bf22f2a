"""Chat templates in a child process: the same prompts, and no more time or memory than they may have."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.engines import running, user
from support.hostile_gguf import STRING, changed

from membank_llama.server.asgi import AbandonedError, WireError
from membank_llama.server.engine.generation import template_process
from membank_llama.server.engine.generation.chat_template import ChatTemplate
from membank_llama.server.engine.generation.template_process import MOST_SOURCE, TemplateProcess

TURNS = [user("Hi 🙂"), {"role": "assistant", "content": "Hello."}, user("And \ud800 now?")]
PLAIN = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}{{ eos_token }}\n{% endfor %}"
    "{% if tools %}{{ tools | tojson(indent=2) }}{% endif %}{{ strftime_now('%Y') }}"
    "{% set ns = namespace(n=0) %}{% for i in range(5) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}"
    "{{ enable_thinking }}"
)
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {"é": 1.5}}}
BOMBS = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "macros": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "product": "{{ ('x' * 3000000000) | length }}",
    "width": "{{ '%2000000000d' % 1 }}",
    "centre": "{{ 'x' | center(2000000000) | length }}",
    "power": "{{ 9 ** (9 ** 9) % 7 }}",
    "indent": "{{ messages | tojson(indent=1000000000) }}",
    "doubling": "{% set x = 'x' * 1000 %}" + "{% set x = x ~ x %}" * 30 + "{{ x | length }}",
    "replacing": "{{ ('x' * 100000).replace('', 'y' * 100000) | length }}",
    "prompt": "{{ 'word ' * 30000000 }}",
    "lists": "{{ ([0] * 2000000000) | length }}",
    "batches": "{{ range(90000) | batch(1) | list | string | wordwrap(1) * 10000 }}",
}


@pytest.fixture
def renderer(monkeypatch: pytest.MonkeyPatch) -> Iterator[TemplateProcess]:
    monkeypatch.setattr(template_process, "SECONDS", 1.5)
    made = TemplateProcess()
    made.render(("warm", "", ""), [user("x")], [], {})
    yield made
    made.close()


@pytest.mark.parametrize("source", [PLAIN, None, "{{ messages }}", "{{ messages[0]['content'] }}"])
def test_it_gives_what_the_template_gives(renderer: TemplateProcess, source: str | None) -> None:
    expected = ChatTemplate(source, "<s>", "</s>").render(TURNS, [TOOL], enable_thinking=True)
    assert renderer.render((source, "<s>", "</s>"), TURNS, [TOOL], {"enable_thinking": True}) == expected


@pytest.mark.parametrize("source", ["{{ raise_exception('no system') }}", "{% for m in", "{{ messages.nothing() }}"])
def test_its_errors_are_the_same(renderer: TemplateProcess, source: str) -> None:
    with pytest.raises(WireError) as expected:
        ChatTemplate(source).render(TURNS)
    with pytest.raises(WireError) as told:
        renderer.render((source, "", ""), TURNS, [], {})
    assert (told.value.status, str(told.value)) == (expected.value.status, str(expected.value))


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_an_error(renderer: TemplateProcess, name: str) -> None:
    with pytest.raises(WireError, match=r"than it may|does not accept"):
        renderer.render((BOMBS[name], "", ""), TURNS, [], {})
    assert renderer.render(("fine", "", ""), TURNS, [], {}) == "fine"


def test_a_source_too_long_is_not_read(renderer: TemplateProcess) -> None:
    with pytest.raises(WireError, match="longer than"):
        renderer.render(("{{ 1 }}" * MOST_SOURCE, "", ""), TURNS, [], {})


def test_a_hang_up_ends_it(renderer: TemplateProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_process, "SECONDS", 60.0)
    gone = threading.Event()
    threading.Timer(0.2, gone.set).start()
    with pytest.raises(AbandonedError):
        renderer.render((BOMBS["loops"], "", ""), TURNS, [], {}, gone)


def test_through_the_socket(tmp_path: Path, recall_tiny: Path) -> None:
    bomb = changed(
        recall_tiny, tmp_path / "bomb.gguf", lambda p: p.set("tokenizer.chat_template", BOMBS["product"], STRING)
    )
    with running(tmp_path / "store", bomb) as (_, client):
        asked = {"model": "bomb", "messages": [user("x")], "stream": False, "options": {"num_predict": 2}}
        response = client.post("/api/chat", json=asked)
        assert response.status_code == 500
        assert "chat template takes longer" in response.json()["error"]
        # text as it is needs none
        raw = client.post("/api/generate", json={**asked, "prompt": "x", "raw": True})
        assert raw.status_code == 200
