"""llama-server's slots outlive it: told, ended, started anew and asked; `timings.cache_n` says what was not read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.chat_models import cache
from support.llama_server import serving
from support.proxies import assistant, user
from support.serve_process import free_port, started

GEMMA = "gemma-3-270m-q4_k_m.gguf"
LONG = "Tell me about the rivers of the north and the towns along them. The miller of Esch kept two grey herons. " * 14
QUESTIONS = ("And what did the miller keep?", "Where did he live? Say it in two sentences.", "Why did he keep them?")


class Server:
    """A llama-server that is started and ended again at one address, with one folder for its slots."""

    def __init__(self, folder: Path, binary: Path, model: Path, *arguments: object, saves: bool = True) -> None:
        self._folder, self._binary, self._port = folder, binary, free_port()
        self.slots = folder / "slots"
        self.slots.mkdir()
        self._arguments = ("--model", model, "--ctx-size", 4096, *arguments)
        self._arguments += ("--slot-save-path", self.slots) if saves else ()
        self.url = f"http://127.0.0.1:{self._port}"

    @contextmanager
    def running(self) -> Iterator[httpx.Client]:
        with (
            serving(self._binary, self._folder, *self._arguments, port=self._port),
            httpx.Client(base_url=self.url, timeout=60) as client,
        ):
            yield client


def say(client: httpx.Client, messages: list[dict[str, Any]], namespace: str = "default") -> tuple[str, dict[str, Any]]:
    """What was answered, and llama-server's timings."""
    body = {"model": "m", "messages": messages, "max_tokens": 16, "temperature": 0, "seed": 1}
    answer = client.post("/v1/chat/completions", json=body, headers={"x-membank-namespace": namespace}).json()
    return answer["choices"][0]["message"]["content"], answer["timings"]


def figure(client: httpx.Client, name: str) -> int:
    lines = client.get("/metrics").text.splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith(f"membank_slot_{name}_total"))))


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def told(client: httpx.Client, about: str = "") -> list[dict[str, Any]]:
    """A conversation whose first two turns were saved, up to its third question."""
    talk, saved = [user(about + LONG)], figure(client, "saves")
    for turn in range(2):
        talk += [assistant(say(client, talk)[0]), user(QUESTIONS[turn])]
        eventually(lambda turn=turn: figure(client, "saves") > saved + turn)  # type: ignore[misc]
    return talk


def test_a_restarted_server_does_not_read_again(
    tmp_path: Path, binary: Path, smollm2_gguf: Path, recall_tiny: Path
) -> None:
    server = Server(tmp_path, binary, smollm2_gguf, "--parallel", 2)
    arguments = ("--upstream", server.url, "--encoder", recall_tiny, "--deadline", 30_000, "--upstream-slots")
    with server.running() as direct:
        with started(tmp_path, *arguments) as (process, client):
            talk = told(client)
            process.kill()
            process.wait(30)
        warm, timings = say(direct, talk)
        held = timings["cache_n"]
        assert held > 300
        (name,) = (file.name for file in server.slots.iterdir())
        assert name.startswith("membank-") and "miller" not in name and "default" not in name
    # another who says the same has what was read to be read again
    with server.running(), started(tmp_path, *arguments) as (_, client):
        _, timings = say(client, talk, "another")
        assert timings["cache_n"] == 0
        assert figure(client, "restores") == 0
    with server.running(), started(tmp_path, *arguments) as (_, client):
        answer, timings = say(client, talk)
        assert timings["cache_n"] == held and timings["prompt_n"] < 64
        # to the letter what the server would have said had it not been away
        assert answer == warm
        assert (figure(client, "restores"), figure(client, "reused_tokens")) == (1, held)
        # and on it goes in that slot
        talk += [assistant(answer), user("Thank you.")]
        assert say(client, talk)[1]["cache_n"] >= held + timings["prompt_n"]
        assert figure(client, "restores") == 1
        assert figure(client, "failures") == 0


@pytest.mark.parametrize("slots", [1, 2])
def test_never_over_what_another_has_in_a_slot(
    tmp_path: Path, binary: Path, smollm2_gguf: Path, recall_tiny: Path, slots: int
) -> None:
    # without a cache beside the slots, so that what is lost is lost
    server = Server(tmp_path, binary, smollm2_gguf, "--parallel", slots, "--cache-ram", 0)
    arguments = ("--upstream", server.url, "--encoder", recall_tiny, "--upstream-slots")
    other = [user("Completely other words. " + LONG)]
    with started(tmp_path, *arguments) as (_, client):
        with server.running():
            talk = told(client)
        with server.running() as direct:
            said, _ = say(direct, other)
            _, timings = say(client, talk)
            if slots == 1:
                # the only slot was another's: nothing is read into it, and the request takes it as it would have
                assert timings["cache_n"] < 64 and figure(client, "restores") == 0
            else:
                assert timings["cache_n"] > 300 and figure(client, "restores") == 1
                assert say(direct, [*other, assistant(said), user("Why?")])[1]["cache_n"] > 300


def test_without_a_folder_for_slots_nothing_is_tried_twice(
    tmp_path: Path, binary: Path, smollm2_gguf: Path, recall_tiny: Path
) -> None:
    server = Server(tmp_path, binary, smollm2_gguf, "--parallel", 1, saves=False)
    arguments = ("--upstream", server.url, "--encoder", recall_tiny, "--upstream-slots")
    with server.running(), started(tmp_path, *arguments) as (_, client):
        talk = [user(LONG)]
        for question in QUESTIONS:
            talk += [assistant(say(client, talk)[0]), user(question)]
            eventually(lambda: figure(client, "failures") == 1)
        time.sleep(1.0)
        assert (figure(client, "failures"), figure(client, "saves")) == (1, 0)
        log = (tmp_path / "serve.log").read_text(encoding="utf-8")
        assert log.count("--slot-save-path") == 1 and "501" in log


def test_a_model_with_a_window_is_left_alone(tmp_path: Path, binary: Path, recall_tiny: Path) -> None:
    model = cache() / GEMMA
    if not model.is_file():
        pytest.skip(f"needs {GEMMA} in {cache()}")
    # with all of the window's layers kept, the server would cut what it has not
    server = Server(tmp_path, binary, model, "--parallel", 2, "--swa-full")
    arguments = ("--upstream", server.url, "--encoder", recall_tiny, "--upstream-slots")
    with started(tmp_path, *arguments) as (_, client):
        with server.running():
            talk = told(client, "Listen. " + LONG * 2)
            # told by how the files grow; they are emptied
            eventually(lambda: all(file.stat().st_size < 1000 for file in server.slots.iterdir()))
            assert list(server.slots.iterdir())
        with server.running():
            assert say(client, talk)[1]["cache_n"] == 0
            assert figure(client, "restores") == 0
    assert "looks back only so far" in (tmp_path / "serve.log").read_text(encoding="utf-8")


def test_without_the_option_nothing_is_written(
    tmp_path: Path, binary: Path, smollm2_gguf: Path, recall_tiny: Path
) -> None:
    server = Server(tmp_path, binary, smollm2_gguf, "--parallel", 1)
    with server.running(), started(tmp_path, "--upstream", server.url, "--encoder", recall_tiny) as (_, client):
        say(client, [user(LONG)])
        time.sleep(1.0)
        assert not list(server.slots.iterdir())
