"""A prompt with memory in it only ever grows at its end: llama-server says itself what it evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from support.proxies import assistant, user
from support.serve_process import started
from test_told_and_asked import FACT, stored

HISTORY = "Tell me about rivers, at some length. " * 20


def say(client: httpx.Client, messages: list[dict[str, Any]], **options: Any) -> tuple[str, dict[str, int], int]:
    """The reply, llama-server's timings, and how many memories were in the prompt."""
    body = {"model": "smollm2", "messages": messages, "max_tokens": 16, "temperature": 0, **options}
    response = client.post("/v1/chat/completions", json=body)
    answer = response.json()
    return answer["choices"][0]["message"]["content"], answer["timings"], int(response.headers["x-membank-memories"])


def test_only_the_end_of_a_prompt_is_evaluated(tmp_path: Path, smollm2_server: str, recall_tiny: Path) -> None:
    arguments = ("--upstream", smollm2_server, "--encoder", recall_tiny, "--deadline", 30_000)
    with started(tmp_path, *arguments) as (_, client):
        say(client, [user(FACT)])
        say(client, [user("The boiler in the cellar was serviced in March.")])
        assert stored(client) >= 2
        talk = [user(f"{HISTORY}And where does my sister Ana live?")]
        seen = []
        for question in ("What is the name of my sister?", "When was the boiler in the cellar serviced?", "Thank you."):
            reply, timings, memories = say(client, talk)
            seen.append((timings["cache_n"], timings["prompt_n"], memories))
            talk += [assistant(reply), user(question)]
    first, second, third = seen
    assert first[2] >= 1 and third[2] >= 1, "there was no memory in it"
    total = first[0] + first[1]
    assert total > 150
    # all of the first prompt was in the cache, but for the last tokens, which end differently where a reply was cut
    for before, after in ((first, second), (second, third)):
        kept = before[0] + before[1]
        assert after[0] >= kept - 8, seen
        assert after[1] <= after[0] / 2, seen
