"""The context of a model is what the upstream says of it, once it has answered."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from support.proxies import engine_of, proxied, user

from membank_llama.server.proxy.tokenizers import ContextLengths


def test_it_is_learned_from_what_is_behind(tmp_path: Path, recall_tiny: Path) -> None:
    with proxied(tmp_path, engine_of(tmp_path, recall_tiny, n_ctx=768)) as running:
        assert running.memory.context_of("recall-tiny") == 4096
        running.chat(user("Hello."))
        deadline = time.monotonic() + 30
        while running.memory.context_of("recall-tiny") == 4096 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert running.memory.context_of("recall-tiny") == running.memory.context_of("recall-tiny:latest") == 768
        assert running.memory.context_of("other") == 4096


def test_answers_that_hold_none() -> None:
    answers = iter([b"no JSON", b"[]", b'{"models": 5}', b'{"models": [{"model": "m", "context_length": "x"}, 7]}'])

    class Odd:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            body = next(answers) if scope["path"] == "/api/ps" else b'{"done": true, "response": "yes"}'
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})

        async def close(self) -> None:
            return

    async def look() -> None:
        contexts = ContextLengths(Odd(), 1000)
        for number in range(4):
            contexts.answered(f"m{number}")
            await asyncio.sleep(0.01)
        assert contexts.of("m") == 1000
        await contexts.close()

    asyncio.run(look())
