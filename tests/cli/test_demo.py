"""The demo shows what it promises, answers rightly, and fails where an answer is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.terminals import membank

from membank_llama.cli import demo
from membank_llama.gguf.builtin import UNKNOWN, embedded_model


def test_the_demo_in_two_processes() -> None:
    done = membank("demo", "--fast")
    assert done.code == 0, done.out + done.err
    for shown in (
        "1 · told", "captured", "residual stream after layer", "64 bytes", "2 · asked", "recalled", "<memory>",
        "without memory", "with memory", "6 of 6 answers as they should be", "toy", "membank chat",
    ):  # fmt: skip
        assert shown in done.out
    assert done.out.count("process") >= 3


def test_the_demo_answers_to_the_letter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(embedded_model())
    demo.tell(tmp_path / "bank", model, "", fast=True)
    assert demo.ask(tmp_path / "bank", model, "", fast=True) is True
    words = " ".join(capsys.readouterr().out.split())
    assert "The code of your bicycle lock is 4719." in words


def test_a_missing_memory_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = embedded_model()
    assert demo.ask(tmp_path / "bank", str(model), "", fast=True) is False
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("with memory is not as it should be") == sum(bool(q.expected) for q in demo.QUESTIONS)
    failed = membank("demo-ask", tmp_path / "other", model, "", "--fast")
    assert failed.code == 1


def test_a_model_that_cannot_answer_is_a_failure(tiny_gguf: Path, minilm_gguf: Path) -> None:
    done = membank("demo", "--fast", "--model", tiny_gguf, "--encoder", minilm_gguf)
    assert done.code == 1
    assert "- 20" in done.out, "the right memory was in the prompt all the same"


@pytest.mark.parametrize(
    ("without", "answer", "right", "ignorant"),
    [
        (UNKNOWN, "Your sister is called Ilse.", True, True),
        (UNKNOWN, UNKNOWN, False, True),
        ("Your sister is called Ilse.", "Your sister is called Ilse.", True, False),
        ("Who knows?", "Your sister is called Ilse.", True, False),
    ],
)
def test_what_counts_as_right(without: str, answer: str, right: bool, ignorant: bool) -> None:
    asked = demo.DemoAnswer(demo.DemoQuestion("What is my sister called?", "Ilse"), without, answer, None, toy=True)
    assert (asked.right, asked.ignorant) == (right, ignorant)


def test_a_real_model_may_say_it_in_its_own_words() -> None:
    asked = demo.DemoAnswer(demo.DemoQuestion("?", "Ilse"), "I have no idea.", "She is Ilse!", None, toy=False)
    assert asked.right
    assert asked.ignorant


def test_every_question_has_its_memory() -> None:
    for question in demo.QUESTIONS:
        if question.expected:
            assert sum(question.expected in text for text in demo.FACTS) == 1
