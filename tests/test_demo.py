"""The demo shows what it promises, and fails where the memory is not in the prompt."""

from __future__ import annotations

from pathlib import Path

import pytest
from terminals import membank

from membank_llama import demo


def test_the_demo_in_two_processes(tiny_gguf: Path, minilm_gguf: Path) -> None:
    done = membank("demo", "--fast", "--model", tiny_gguf, "--encoder", minilm_gguf)
    assert done.code == 0, done.out + done.err
    for shown in ("1 · told", "captured", "64 bytes", "2.3 · asked", "<memory>", "4719", "Tomasz feeds the cat"):
        assert shown in done.out
    assert done.out.count("the right memory is in the prompt") == len(demo.QUESTIONS)
    assert done.out.count("process") >= 3


def test_the_demo_with_the_model_that_encodes_for_itself(tiny_gguf: Path) -> None:
    done = membank("demo", "--fast", "--model", tiny_gguf, "--encoder", tiny_gguf)
    assert done.code == 0, done.out + done.err
    assert "residual stream after layer" in done.out


def test_a_missing_memory_is_a_failure(tiny_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.ask(tmp_path / "bank", str(tiny_gguf), "", 2) is False
    assert capsys.readouterr().out.count("the right memory is not in the prompt") == len(demo.QUESTIONS)
    failed = membank("demo-ask", tmp_path / "other", tiny_gguf, "", "2")
    assert failed.code == 1


def test_every_question_has_its_memory() -> None:
    told = [*demo.FACTS, *demo.CONVERSATION]
    for question in demo.QUESTIONS:
        assert sum(question.expected in text for text in told) == 1
