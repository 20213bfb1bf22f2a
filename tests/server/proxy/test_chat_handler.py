"""Told in one session, asked in another, through every way of asking; and what the way leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.proxies import GREEDY, Running, assistant, engine_of, proxied, user

FACT = "My sister Ana lives in Porto."
QUESTION = "Where does my sister Ana live?"
ANSWER = "Your sister lives in Porto."


def test_told_and_asked(running: Running) -> None:
    assert running.say(QUESTION).startswith("I don't know.")
    running.say(FACT)
    response = running.chat(user(QUESTION))
    assert response.json()["message"]["content"] == ANSWER
    assert response.headers["x-membank"] == "on"
    assert int(response.headers["x-membank-memories"]) >= 1
    assert float(response.headers["x-membank-recall-ms"]) > 0


def test_streamed(running: Running) -> None:
    running.say(FACT)
    body = {"model": "recall-tiny", "messages": [user(QUESTION)], "options": GREEDY}
    with running.client.stream("POST", "/api/chat", json=body) as response:
        parts = [json.loads(line) for line in response.iter_lines()]
    assert "".join(part["message"]["content"] for part in parts) == ANSWER
    assert parts[-1]["done"]
    assert ANSWER in running.texts()


@pytest.mark.parametrize("stream", [False, True])
def test_generate(running: Running, stream: bool) -> None:
    def ask(prompt: str) -> str:
        body = {"model": "recall-tiny", "prompt": prompt, "stream": stream, "options": GREEDY}
        lines = running.client.post("/api/generate", json=body).text.splitlines()
        running.memory.ingest_worker.flush()
        return "".join(json.loads(line)["response"] for line in lines)

    ask(FACT)
    assert ask(QUESTION) == ANSWER
    assert FACT in running.texts()


def test_generate_raw(running: Running) -> None:
    running.say(FACT)
    prompt = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    body = {"model": "recall-tiny", "prompt": prompt, "raw": True, "stream": False, "options": GREEDY}
    assert running.client.post("/api/generate", json=body).json()["response"] == ANSWER
    assert prompt not in running.texts()


def test_generate_goes_on_from_its_context(running: Running) -> None:
    body: dict[str, Any] = {"model": "recall-tiny", "prompt": FACT, "stream": False, "options": GREEDY}
    first = running.client.post("/api/generate", json=body).json()
    running.memory.ingest_worker.flush()
    running.client.post("/api/generate", json={**body, "prompt": QUESTION, "context": first["context"]})
    running.memory.ingest_worker.flush()
    by_text = {memory.text: memory.conversation for memory in running.bank.memories()}
    assert by_text[FACT] == by_text[QUESTION]


def test_openai(running: Running) -> None:
    def ask(text: str) -> str:
        body = {"model": "recall-tiny", "messages": [user(text)], "temperature": 0}
        answer = running.client.post("/v1/chat/completions", json=body).json()
        running.memory.ingest_worker.flush()
        return str(answer["choices"][0]["message"]["content"])

    ask(FACT)
    assert ask(QUESTION) == ANSWER
    assert {FACT, QUESTION, ANSWER} <= set(running.texts())


def test_a_message_is_stored_once(running: Running) -> None:
    first = running.chat(user(FACT)).json()["message"]["content"]
    history = [user(FACT), assistant(first), user(QUESTION)]
    second = running.chat(*history).json()["message"]["content"]
    running.chat(*history, assistant(second), user("Thank you."))
    texts = running.texts()
    assert len(texts) == len(set(texts))
    assert len({memory.conversation for memory in running.bank.memories()}) == 1


def test_what_was_forgotten_stays_forgotten_when_the_client_sends_it_again(running: Running) -> None:
    first = running.chat(user(FACT)).json()["message"]["content"]
    running.memory.ingest_worker.flush()
    (told,) = [memory.id for memory in running.bank.memories() if memory.text == FACT]
    running.bank.forget(told)
    running.chat(user(FACT), assistant(first), user("What time is it?"))
    assert FACT not in running.texts()


def test_what_the_request_shows_is_not_recalled(running: Running) -> None:
    first = running.chat(user(FACT)).json()["message"]["content"]
    response = running.chat(user(FACT), assistant(first), user(QUESTION))
    (newest, *_) = running.memory.last_recalls("default")
    assert not set(newest["injected"]) & {m.id for m in running.bank.memories() if m.text == FACT}
    assert response.status_code == 200


def test_conversations_that_begin_alike_are_two(running: Running) -> None:
    first = running.chat(user("Hello.")).json()["message"]["content"]
    running.chat(user("Hello."), assistant(first), user(FACT))
    running.chat(user("Hello."))
    other = running.chat(user("Hello."), assistant(first + " Other."), user("The boiler was serviced in March."))
    assert other.status_code == 200
    running.memory.ingest_worker.flush()
    by_text = {memory.text: memory.conversation for memory in running.bank.memories()}
    assert by_text[FACT] != by_text["The boiler was serviced in March."]


def test_a_restart_knows_the_turns(tmp_path: Path, recall_tiny: Path) -> None:
    with proxied(tmp_path, engine_of(tmp_path, recall_tiny)) as first:
        reply = first.say(FACT)
    with proxied(tmp_path, engine_of(tmp_path, recall_tiny)) as second:
        second.bank.forget([m.id for m in second.bank.memories()])
        second.chat(user(FACT), assistant(reply), user(QUESTION))
        assert FACT not in second.texts()
        assert QUESTION in second.texts()


@pytest.mark.parametrize(
    "prompt",
    [
        "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.",
        "### Task:\nGenerate 1-3 broad tags categorizing the main themes of the chat history",
        "### Task:\nSuggest 3-5 relevant follow-up questions or prompts",
        "Provide a concise, 5-word-or-less title for the conversation, using its same language",
    ],
)
def test_side_calls_leave_no_memory(running: Running, prompt: str) -> None:
    response = running.chat(user(prompt + f"\n<chat_history>\nUSER: {FACT}\n</chat_history>"))
    assert response.status_code == 200
    assert response.headers["x-membank"] == "none"
    assert running.texts() == []


def test_a_person_who_asks_for_a_title_is_answered(running: Running) -> None:
    running.say("Give my garden a good name.")
    assert "Give my garden a good name." in running.texts()


def test_off_leaves_memory_out(running: Running) -> None:
    running.say(FACT)
    before = running.texts()
    response = running.chat(user(QUESTION), headers={"X-Membank": "off"})
    assert response.json()["message"]["content"].startswith("I don't know.")
    assert response.headers["x-membank"] == "off"
    assert running.texts() == before


def test_tool_results_and_calls_are_no_memories(running: Running) -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "clock", "arguments": {}}}]}
    running.chat(user("What time is it?"), call, {"role": "tool", "content": "twelve o'clock exactly"})
    texts = running.texts()
    assert "What time is it?" in texts
    assert "twelve o'clock exactly" not in texts


def test_why_and_status(running: Running) -> None:
    running.say(FACT)
    running.say(QUESTION)
    why = running.client.get("/membank/why").json()
    assert why["recalls"][0]["query"] == QUESTION
    assert why["recalls"][0]["injected"]
    status = running.client.get("/membank/status").json()
    assert status["memories"] == len(running.texts())
    metrics = running.client.get("/metrics").text
    assert 'membank_recalls_total{state="on"} 1.0' in metrics
    assert 'membank_requests_total{path="/api/chat",status="200"} 2.0' in metrics


def test_recall_and_learn_for_hooks(running: Running) -> None:
    learned = running.client.post("/membank/learn", json={"messages": [user(FACT), assistant("Noted.")]})
    assert learned.json() == {"queued": 2}
    assert set(running.texts()) == {FACT, "Noted."}
    answer = running.client.post("/membank/recall", json={"messages": [user(QUESTION)]}).json()
    assert answer["state"] == "on"
    assert FACT in answer["messages"][0]["content"]
    assert answer["messages"][0]["content"].endswith(QUESTION)
    for body in ({}, {"messages": []}, {"messages": "x"}):
        assert running.client.post("/membank/recall", json=body).status_code == 400
    assert running.client.get("/membank/recall").status_code == 405
    assert running.client.get("/membank/nothing").status_code == 404


def test_the_prompt_cache_survives(tmp_path: Path, recall_tiny: Path) -> None:
    """Eighteen turns, which the context holds: what is evaluated, with memory, without, and with them at the head."""
    facts = [f"The code of locker {n} is {1000 + 37 * n}." for n in range(8)]
    with proxied(tmp_path, engine_of(tmp_path, recall_tiny, n_ctx=8192)) as running:
        for fact in facts:
            running.client.post("/membank/learn", json={"messages": [user(fact)]})
        running.memory.ingest_worker.flush()
        counts = {}
        for name in ("without", "membank", "head"):
            history: list[dict[str, str]] = []
            evaluated = []
            for turn in range(18):
                history.append(user(f"Turn {turn}: what is the code of locker {turn % 8}?"))
                asked: list[dict[str, str]] = list(history)
                if name == "head":
                    told = running.client.post("/membank/recall", json={"messages": [history[-1]]}).json()
                    block = told["messages"][0]["content"].removesuffix(history[-1]["content"])
                    asked = [{"role": "system", "content": block or "-"}, *history]
                body = {
                    "model": "recall-tiny",
                    "messages": asked,
                    "stream": False,
                    "options": {**GREEDY, "num_predict": 8, "num_ctx": 8192},
                }
                url = running.url if name == "membank" else running.upstream
                response = httpx.post(f"{url}/api/chat", json=body, timeout=60)
                answer = response.json()
                assert response.headers["x-membank-cached-tokens"] == str(answer["membank"]["cached_tokens"])
                evaluated.append(answer["prompt_eval_count"] - answer["membank"]["cached_tokens"])
                history.append(assistant(answer["message"]["content"]))
            counts[name] = evaluated[1:]
        half = slice(9, None)
        # what was said before is evaluated once: late turns cost what early ones do, and far less than at the head
        assert max(counts["membank"][half]) < 250
        assert sum(counts["membank"][half]) < 0.5 * sum(counts["head"][half])
        assert max(counts["without"][half]) < 60
