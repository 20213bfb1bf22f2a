"""Told, restarted, asked, in front of the engine, by every API that it speaks."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.dialects import BOTH, EACH_DIALECT, MODEL, Dialect, ask
from support.proxies import engine_of, proxied

FACT = "My sister Ana lives in Porto."
QUESTION = "Where does my sister Ana live?"
ANSWER = "Your sister lives in Porto."


@BOTH
@EACH_DIALECT
def test_told_restarted_asked(tmp_path: Path, recall_tiny: Path, dialect: Dialect, streamed: bool) -> None:
    model = Path(shutil.copy(recall_tiny, tmp_path / f"{MODEL}.gguf"))
    with proxied(tmp_path, engine_of(tmp_path, model)) as running:
        ask(running.client, dialect, FACT, streamed=streamed)
        assert FACT in running.texts()
    with proxied(tmp_path, engine_of(tmp_path, model)) as running:
        said, headers = ask(running.client, dialect, QUESTION, streamed=streamed)
        assert headers["x-membank"] == "on"
        assert said.strip() == ANSWER
        assert ANSWER in running.texts()
