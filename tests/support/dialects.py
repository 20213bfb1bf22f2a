"""The ways in which a client may ask: a request, its answer, and the events of a stream, of each API."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from support.proxies import user

MOST = 24
MODEL = "smollm2"
"""What both servers of the tests call their model; a test may name another."""


@dataclass(frozen=True)
class Dialect:
    """One way to ask.

    Args:
        request: a body that says one thing.
        reply: the text in an answer.
        piece: the text in an event of a stream; empty where there is none.
        events: the kinds of events that a stream must have, where it names them.
    """

    path: str
    request: Callable[[str], dict[str, Any]]
    reply: Callable[[dict[str, Any]], str]
    piece: Callable[[dict[str, Any]], str]
    events: tuple[str, ...] = ()


def _chat(text: str) -> dict[str, Any]:
    return {"model": MODEL, "messages": [user(text)], "max_tokens": MOST, "temperature": 0}


def _prompt(text: str) -> dict[str, Any]:
    prompt = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    return {"model": MODEL, "prompt": prompt, "max_tokens": MOST, "temperature": 0}


def _completion(text: str) -> dict[str, Any]:
    prompt = _prompt(text)["prompt"]
    return {"model": MODEL, "prompt": prompt, "n_predict": MOST, "temperature": 0}


def _responses(text: str) -> dict[str, Any]:
    return {"model": MODEL, "input": text, "max_output_tokens": MOST, "temperature": 0}


def _of_choice(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


def _of_delta(event: dict[str, Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in event.get("choices", ()))


def _of_text(answer: dict[str, Any]) -> str:
    return "".join(choice.get("text") or "" for choice in answer.get("choices", ()))


def _of_content(answer: dict[str, Any]) -> str:
    # llama-server has its own shape at /completions, the engine OpenAI's
    return str(answer["content"]) if "content" in answer else _of_text(answer)


def _of_message(answer: dict[str, Any]) -> str:
    return "".join(block.get("text", "") for block in answer["content"])


def _of_block(event: dict[str, Any]) -> str:
    return str(event["delta"].get("text", "")) if event["type"] == "content_block_delta" else ""


def _of_output(answer: dict[str, Any]) -> str:
    parts = [part for item in answer["output"] for part in item.get("content") or ()]
    return "".join(part.get("text", "") for part in parts)


def _of_output_delta(event: dict[str, Any]) -> str:
    return str(event["delta"]) if event["type"] == "response.output_text.delta" else ""


_ANTHROPIC = ("message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
              "message_stop")  # fmt: skip
_RESPONSES = ("response.created", "response.output_text.delta", "response.completed")

DIALECTS = (
    Dialect("/v1/chat/completions", _chat, _of_choice, _of_delta),
    Dialect("/v1/completions", _prompt, _of_text, _of_text),
    Dialect("/chat/completions", _chat, _of_choice, _of_delta),
    Dialect("/completion", _completion, _of_content, _of_content),
    Dialect("/completions", _completion, _of_content, _of_content),
    Dialect("/v1/messages", _chat, _of_message, _of_block, _ANTHROPIC),
    Dialect("/v1/responses", _responses, _of_output, _of_output_delta, _RESPONSES),
    Dialect("/responses", _responses, _of_output, _of_output_delta, _RESPONSES),
)
BOTH = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
EACH_DIALECT = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.path)


def ask(client: httpx.Client, dialect: Dialect, text: str, *, streamed: bool) -> tuple[str, httpx.Headers]:
    """What was answered, and the headers."""
    body = dialect.request(text)
    if not streamed:
        response = client.post(dialect.path, json=body)
        assert response.status_code == 200, response.text
        return dialect.reply(response.json()), response.headers
    said, kinds = [], []
    with client.stream("POST", dialect.path, json={**body, "stream": True}) as response:
        assert response.status_code == 200, response.read()
        for line in response.iter_lines():
            field, _, value = line.partition(":")
            if field == "data" and value.strip() != "[DONE]":
                event = json.loads(value)
                kinds.append(event.get("type", ""))
                said.append(dialect.piece(event))
    # in this order, others between them
    rest = iter(kinds)
    assert all(kind in rest for kind in dialect.events), kinds
    return "".join(said), response.headers
