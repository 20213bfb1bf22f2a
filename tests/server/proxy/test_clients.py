"""Real clients over a real socket, each told a fact in one session and asked in another, streamed and not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import anthropic
import httpx
import ollama
import openai
import pytest
from langchain_core.messages import HumanMessage
from langchain_ollama import ChatOllama
from support.proxies import GREEDY, Running, user

FACT = "My sister Ana lives in Porto."
QUESTION = "Where does my sister Ana live?"
ANSWER = "Your sister lives in Porto."

Ask = Callable[[str, bool], str]


def with_ollama(url: str) -> Ask:
    def ask(text: str, stream: bool) -> str:
        client = ollama.Client(url)
        try:
            if stream:
                parts = client.chat("recall-tiny", [user(text)], options=GREEDY, stream=True)
                return "".join(part.message.content or "" for part in parts)
            return client.chat("recall-tiny", [user(text)], options=GREEDY).message.content or ""
        finally:
            client._client.close()

    return ask


def with_ollama_generate(url: str) -> Ask:
    def ask(text: str, stream: bool) -> str:
        client = ollama.Client(url)
        try:
            if stream:
                return "".join(p.response for p in client.generate("recall-tiny", text, options=GREEDY, stream=True))
            return client.generate("recall-tiny", text, options=GREEDY).response
        finally:
            client._client.close()

    return ask


def with_openai(url: str) -> Ask:
    def ask(text: str, stream: bool) -> str:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="unused") as client:
            messages = [{"role": "user", "content": text}]
            if stream:
                chunks = client.chat.completions.create(
                    model="recall-tiny",
                    messages=messages,  # type: ignore[arg-type]
                    temperature=0,
                    stream=True,
                )
                return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            answer = client.chat.completions.create(model="recall-tiny", messages=messages, temperature=0)  # type: ignore[arg-type]
            return answer.choices[0].message.content or ""

    return ask


def with_openai_responses(url: str) -> Ask:
    def ask(text: str, stream: bool) -> str:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="unused") as client:
            if stream:
                with client.responses.stream(model="recall-tiny", input=text, temperature=0) as events:
                    return "".join(event.delta for event in events if event.type == "response.output_text.delta")
            return client.responses.create(model="recall-tiny", input=text, temperature=0).output_text

    return ask


def with_anthropic(url: str) -> Ask:
    def ask(text: str, stream: bool) -> str:
        messages = [{"role": "user", "content": text}]
        asked: dict[str, Any] = {"model": "recall-tiny", "max_tokens": 200, "messages": messages}
        # newer versions of the package have no name for the temperature
        asked["extra_body"] = {"temperature": 0}
        with anthropic.Anthropic(base_url=url, api_key="unused") as client:
            if stream:
                with client.messages.stream(**asked) as events:
                    return "".join(events.text_stream)
            return "".join(block.text for block in client.messages.create(**asked).content if block.type == "text")

    return ask


def with_langchain(url: str) -> Ask:
    def ask(text: str, stream: bool) -> str:
        chat = ChatOllama(model="recall-tiny", base_url=url, temperature=0)
        try:
            if stream:
                return "".join(str(chunk.content) for chunk in chat.stream([HumanMessage(text)]))
            return str(chat.invoke([HumanMessage(text)]).content)
        finally:
            chat._client._client.close()

    return ask


def with_curl(url: str) -> Ask:
    def ask(text: str, stream: bool) -> str:
        body = {"model": "recall-tiny", "messages": [user(text)], "options": GREEDY, "stream": stream}
        command = ["curl", "--silent", "--fail", "--no-buffer", f"{url}/api/chat", "--data", json.dumps(body)]
        lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
        return "".join(json.loads(line)["message"]["content"] for line in lines)

    return ask


CLIENTS = {
    "ollama": with_ollama,
    "ollama generate": with_ollama_generate,
    "openai": with_openai,
    "openai responses": with_openai_responses,
    "anthropic": with_anthropic,
    "langchain-ollama": with_langchain,
    "curl": with_curl,
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", CLIENTS)
def test_told_and_asked(running: Running, name: str, stream: bool) -> None:
    if name == "curl" and shutil.which("curl") is None:
        pytest.skip("needs curl")
    # another client object each time: what it remembers is not the client's
    told = CLIENTS[name](running.url)(FACT, stream)
    assert told
    running.memory.ingest_worker.flush()
    assert CLIENTS[name](running.url)(QUESTION, stream) == ANSWER
    running.memory.ingest_worker.flush()
    assert {FACT, told, QUESTION, ANSWER} <= set(running.texts())


def test_one_client_is_told_and_another_asked(running: Running) -> None:
    with_openai(running.url)(FACT, True)
    running.memory.ingest_worker.flush()
    assert with_langchain(running.url)(QUESTION, False) == ANSWER


def test_a_namespace_in_each_clients_way(running: Running) -> None:
    client = ollama.Client(f"{running.url}/ns/work")
    client.chat("recall-tiny", [user(FACT)], options=GREEDY)
    client._client.close()
    running.memory.ingest_worker.flush()
    client = ollama.Client(running.url, headers={"X-Membank-Namespace": "work"})
    assert client.chat("recall-tiny", [user(QUESTION)], options=GREEDY).message.content == ANSWER
    client._client.close()
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="unused") as other:
        answer = other.chat.completions.create(
            model="recall-tiny@work", messages=[{"role": "user", "content": QUESTION}], temperature=0
        )
    assert answer.choices[0].message.content == ANSWER
    assert running.texts("default") == []


def test_errors_are_those_that_clients_know(running: Running) -> None:
    client = ollama.Client(running.url)
    with pytest.raises(ollama.ResponseError) as raised:
        client.chat("no-such-model", [user("hello")])
    client._client.close()
    assert raised.value.status_code == 404
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="unused") as other, pytest.raises(openai.NotFoundError):
        other.chat.completions.create(model="no-such-model", messages=[{"role": "user", "content": "hello"}])
    assert running.texts() == []


def test_python_without_any_client(running: Running) -> None:
    code = (
        "import json, sys, urllib.request as u;"
        "b = json.dumps({'model': 'recall-tiny', 'prompt': sys.argv[2], 'stream': False}).encode();"
        "print(json.load(u.urlopen(sys.argv[1] + '/api/generate', b))['done'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, running.url, FACT], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "True"
    assert FACT in running.texts()


def test_many_at_once_each_in_a_namespace(running: Running) -> None:
    import concurrent.futures

    def one(number: int) -> int:
        with httpx.Client(base_url=running.url, timeout=120) as client:
            body = {
                "model": "recall-tiny",
                "messages": [user(f"The code of locker {number} is {5000 + number}.")],
                "stream": False,
                "options": {**GREEDY, "num_predict": 4},
            }
            return client.post("/api/chat", json=body, headers={"X-Membank-Namespace": f"n{number}"}).status_code

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert set(pool.map(one, range(32))) == {200}
    running.memory.ingest_worker.flush()
    for number in range(32):
        told = f"The code of locker {number} is {5000 + number}."
        assert [text for text in running.texts(f"n{number}") if text.startswith("The code")] == [told]
