"""Open WebUI by its own API, offline, with the proxy as its Ollama: told in one chat, asked in another; and what the
requests leave that it makes for itself."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.client_programs import Served, client_program
from support.serve_process import free_port

FACT = "My sister Ana lives in Porto."
QUESTION = "Where does my sister Ana live?"
ANSWER = "Your sister lives in Porto."
MODEL = "recall-tiny:latest"
NAMESPACE = "webui"
OWN_REQUESTS = ("title", "tags", "follow_up", "queries", "image_prompt", "emoji")
SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "OFFLINE_MODE": "true",
    "WEBUI_SECRET_KEY": "of-a-test",
    "ENABLE_OLLAMA_API": "true",
    "ENABLE_OPENAI_API": "false",
    "ENABLE_PERSISTENT_CONFIG": "false",
    "BYPASS_EMBEDDING_AND_RETRIEVAL": "true",
    "RAG_EMBEDDING_ENGINE": "ollama",
    "ENABLE_VERSION_UPDATE_CHECK": "false",
    "ANONYMIZED_TELEMETRY": "false",
    "SCARF_NO_ANALYTICS": "true",
    "DO_NOT_TRACK": "true",
}


@pytest.fixture(scope="module")
def webui(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client that is signed in."""
    program = client_program("open-webui", "make test-open-webui")
    folder, port = tmp_path_factory.mktemp("webui"), free_port()
    settings = {**SETTINGS, "DATA_DIR": str(folder), "OLLAMA_BASE_URL": f"{served.url}/ns/{NAMESPACE}"}
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **settings}
    command = [program, "serve", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
                until = time.monotonic() + 240
                while not _answers(client):
                    assert process.poll() is None, (folder / "log").read_text()[-2000:]
                    assert time.monotonic() < until
                    time.sleep(0.5)
                person = {"name": "A", "email": "a@example.com", "password": "a-long-password-1"}
                token = client.post("/api/v1/auths/signup", json=person).json()["token"]
                client.headers["Authorization"] = f"Bearer {token}"
                yield client
        finally:
            process.terminate()
            process.wait(60)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def ask(webui: httpx.Client, text: str, *, stream: bool) -> str:
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "stream": stream}
    answer = webui.post("/api/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    if not stream:
        return str(answer.json()["choices"][0]["message"]["content"])
    said = ""
    for line in answer.text.splitlines():
        if line.startswith("data: {"):
            choices: list[Any] = json.loads(line[6:]).get("choices") or []
            said += "".join(choice["delta"].get("content") or "" for choice in choices)
    return said


def test_told_in_one_chat_and_asked_in_another(webui: httpx.Client, served: Served) -> None:
    assert MODEL in [model["id"] for model in webui.get("/api/models").json()["data"]]
    told = ask(webui, FACT, stream=True)
    assert ask(webui, QUESTION, stream=False) == ANSWER
    assert ask(webui, QUESTION, stream=True) == ANSWER
    talk = [{"role": "user", "content": FACT}, {"role": "assistant", "content": told}]
    for name in OWN_REQUESTS:
        body = {"model": MODEL, "messages": talk, "prompt": FACT, "type": "web_search", "stream": False}
        answer = webui.post(f"/api/v1/tasks/{name}/completions", json=body)
        assert answer.status_code == 200, (name, answer.text)
    time.sleep(2)
    assert sorted(set(served.texts(NAMESPACE))) == sorted({FACT, told, QUESTION, ANSWER})
