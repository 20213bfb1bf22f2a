"""What the embedded model is trained on keeps its promises; with torch, training can be stopped and goes on."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from recall_tiny import phrasings
from recall_tiny.dialogues import KINDS, Dialogues, block_of
from recall_tiny.facts import make
from recall_tiny.words import RESERVED, Words, held_out

from membank_llama.cli import demo
from membank_llama.gguf.builtin import NOTED, UNKNOWN
from membank_llama.memory.prompt_block import BLOCK_CLOSE, BLOCK_OPEN, HEADER, Excerpt, strip_block

ENOUGH = 2000


def conversations(count: int, seed: int = 0) -> list[str]:
    dialogues = Dialogues(Words(random.Random(seed)))
    return ["\n".join(turn.content for turn in dialogues.conversation()) for _ in range(count)]


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("make_one", ["name", "place", "digits", "date", "time", "invented", "year", "amount"])
def test_words_keep_to_their_side(held: bool, make_one: str) -> None:
    words = Words(random.Random(5), held=held)
    assert {held_out(getattr(words, make_one)()) for _ in range(200)} == {held}


def test_training_never_meets_what_the_demo_tells() -> None:
    # on which day a line of the block was said is nothing told
    seen = re.sub(r"\(\d+ \w+ \d{4}\)", "", " ".join(conversations(ENOUGH))).lower()
    tokens = {token.strip(".,?!'\"") for token in seen.split()}
    assert not tokens & (RESERVED - {"14_march"})
    assert "14 march" not in seen
    for question in demo.QUESTIONS:
        expected = question.expected.lower()
        assert not expected or expected.replace(" ", "_") in RESERVED


def test_unseen_phrasings_are_not_in_training() -> None:
    for kind in KINDS:
        fact = make(kind, Words(random.Random(1)))
        for ways in (kind.tells, *(ask.ways for ask in kind.asks)):
            seen = {one for line in ways.seen for one in line}
            assert ways.unseen, kind.name
            assert not seen & {*ways.unseen, *ways.free}
            assert all(one.format_map(fact.values) for one in (*seen, *ways.unseen, *ways.free))


def test_phrasings_keep_their_meaning() -> None:
    ways = phrasings.asked("Where did I park the car?")
    assert "Do you remember where I parked the car?" in ways
    assert "Tell me what my {k} is called." in phrasings.asked("What is my {k} called?")
    assert "Remind me of my {k} number." in phrasings.asked("What is my {k} number?")
    assert "Can you tell me where {who} lives?" in phrasings.asked("Where does {who} live?")
    assert "Remember that my {k} is called {v}." in phrasings.told("My {k} is called {v}.")
    assert phrasings.asked("I need the code.") == ["I need the code."]


def test_the_block_is_the_one_that_is_injected() -> None:
    block = block_of([Excerpt(1, "My sister is called Marit.", "user", 1.7e9), Excerpt(2, NOTED, "assistant", 1.7e9)])
    assert block.startswith(f"{BLOCK_OPEN}\n{HEADER}\n- 2023-11-1")
    assert block.endswith(f"{BLOCK_CLOSE}\n\n")
    assert strip_block(block + "Hello") == "Hello"


def test_every_answer_can_be_given() -> None:
    """Whatever an answer copies stands in the conversation ahead of it."""
    dialogues = Dialogues(Words(random.Random(9)))
    answered = unknown = 0
    for _ in range(ENOUGH):
        before = ""
        for turn in dialogues.conversation():
            if turn.role == "assistant" and "Repeat" not in before:
                unknown += turn.content == UNKNOWN
                digits = {token for token in turn.content.replace(".", " ").split() if token.isdigit()}
                assert all(token in before for token in digits), turn.content
                answered += bool(digits)
            before += turn.content + "\n"
    assert answered > 100
    assert unknown > 100


def test_the_newer_of_two_values_is_the_answer() -> None:
    dialogues = Dialogues(Words(random.Random(4)))
    for _ in range(200):
        facts = dialogues.distinct(3)
        block, held, _ = dialogues.block(facts, 0.9)
        for fact in facts:
            for slot in fact.kind.slots:
                if slot == "v":
                    assert fact.values["v"].lower() in block.lower()
        assert len({fact.key for fact in held}) == len(held)


def test_the_same_seed_gives_the_same_conversations() -> None:
    assert conversations(20) == conversations(20)
    assert conversations(20) != conversations(20, seed=1)


# -- with torch


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs torch, of the extra train")
    pytest.importorskip("tokenizers")
    from recall_tiny import vocabulary
    from recall_tiny.network import Shape
    from recall_tiny.training import Plan, Training
    from rich.console import Console

    dialogues = Dialogues(Words(random.Random(1)))
    tokenizer = vocabulary.train((vocabulary.chatml(dialogues.conversation()) for _ in range(300)), 320)
    shape = Shape(320, n_layer=2, n_embd=32, n_head=2, n_ff=64)
    plan, quiet = Plan(steps=6, tokens=2048, pairs=8), Console(quiet=True)

    def run(name: str, *stops: int) -> Training:
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        for stop in stops:
            training = Training(directory, plan, shape, tokenizer, "cpu")
            training.resume()
            training.run(quiet, stop)
        return training

    whole, pieces = run("whole", 6), run("pieces", 2, 5, 6)
    assert whole.step == pieces.step == 6
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(tensor, pieces.model.state_dict()[name], msg=name)
    with pytest.raises(ValueError, match="other settings"):
        Training(tmp_path / "whole", Plan(steps=7), shape, tokenizer, "cpu").resume()
