"""`membank bench answers`: its measures by hand, its data, and small files through a real model."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from support.banks import DIM
from support.places import ROOT
from support.terminals import Membank

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.cli.bench.answer_measures import (
    answer_scores,
    asserts,
    exact_match,
    holds_answer,
    normalised,
    token_f1,
)
from membank_llama.cli.bench.answers import RENDERINGS, AnswerBench, answer_cases, chosen_renderings
from membank_llama.cli.bench.everyday import read_everyday, read_talks
from membank_llama.cli.bench.locomo import LabelledConversation, LabelledQuestion, read_conversations
from membank_llama.cli.bench.renderings import Moment, SessionMemory
from membank_llama.core.errors import InvalidInputError, ModelError
from membank_llama.memory.llama_with_memory import SafeLlama
from membank_llama.memory.prompt_block import BLOCK_CLOSE, BLOCK_OPEN, Neutraliser
from membank_llama.memory.prompt_injection import MemoryOptions, PromptInjector

NOW = datetime(2025, 6, 20, 12, tzinfo=timezone.utc).timestamp()
DAY = 86400.0


# -- measures


def test_texts_are_compared_as_squad_compares_them() -> None:
    assert normalised("  The Cat's — “new” toy, a ball! ") == "cats new toy ball"
    assert normalised("A, an, the.") == ""


@pytest.mark.parametrize(
    ("reply", "answers", "f1", "exact"),
    [
        ("A red bicycle.", ["red bicycle"], 1.0, True),
        ("It is a bicycle", ["red bicycle"], 2 * 1 / (3 + 2), False),
        ("blue blue", ["blue"], 2 / 3, False),
        ("Ana", ["Jon", "ana!"], 1.0, True),
        ("", ["Ana"], 0.0, False),
        ("the", ["a"], 1.0, True),
        ("Ana", [], 0.0, False),
    ],
)
def test_f1_and_exact_match(reply: str, answers: list[str], f1: float, exact: bool) -> None:
    assert token_f1(reply, answers) == pytest.approx(f1)
    assert exact_match(reply, answers) is exact


def test_an_answer_stands_in_a_reply_as_whole_words() -> None:
    assert holds_answer("It lies under the fig tree.", ["fig tree"])
    assert not holds_answer("A figment.", ["fig"])
    assert not holds_answer("The tree, a fig.", ["fig tree"])


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("Your father is called Karl.", True),
        ("I don't know.", False),
        ("I don’t know that", False),
        ("That is not mentioned in the notes.", False),
        ("Sorry, you haven't told me.", False),
        ("I'm not sure", False),
        ("I can't say.", False),
        ("There is no information about it", False),
        ("", False),
        ("A cantata", True),
    ],
)
def test_what_asserts(reply: str, said: bool) -> None:
    assert asserts(reply) is said


def test_what_is_measured_depends_on_what_is_known() -> None:
    assert answer_scores("Red.", ["red"]) == {"f1": 1.0, "em": 1.0, "right": 1.0}
    assert answer_scores("Crete", ["Azores"], ["Crete"])["outdated"] == 1.0
    assert answer_scores("Azores, not Crete", ["Azores"], ["Crete"])["outdated"] == 0.0
    assert answer_scores("self-care is important", [], ["Self-care is important"]) == {"adversarial": 1.0}
    assert answer_scores("No such thing", [], ["Self-care is important"]) == {"adversarial": 0.0}
    assert answer_scores("Karl", []) == {"asserted": 1.0}


# -- data


def locomo() -> list[Any]:
    def turns(number: int, *said: tuple[str, str]) -> list[dict[str, str]]:
        return [{"speaker": who, "dia_id": f"D{number}:{n}", "text": text} for n, (who, text) in enumerate(said, 1)]

    conversation = {
        "session_1": turns(1, ("Ana", "My dog is called Bruno."), ("Jon", "What a good name!")),
        "session_1_date_time": "1:56 pm on 8 May, 2023",
        "session_2": turns(2, ("Jon", "I bought a red bicycle."), ("Ana", "Is it fast?")),
        "session_2_date_time": "10:00 am on 9 June, 2023",
    }
    qa = [
        {"question": "What is Ana's dog called?", "answer": "Bruno", "evidence": ["D1:1"], "category": 4},
        {"question": "In which year did Jon buy it?", "answer": 2023, "evidence": ["D2:1"], "category": 2},
        {"question": "What did Ana buy?", "adversarial_answer": "a bicycle", "evidence": ["D2:1"], "category": 5},
        {"question": "Who asked?", "evidence": ["D2:2"], "category": 4},
    ]
    return [{"sample_id": "one", "conversation": conversation, "qa": qa}]


def everyday() -> dict[str, Any]:
    return {
        "now": "2025-06-20 12:00",
        "conversations": [
            {
                "days_ago": 20,
                "at": "18:30",
                "turns": [
                    {"user": "My sister Ana lives in Porto.", "id": "old"},
                    {"assistant": "Lovely!"},
                    {"user": "My cat is called Miso.", "id": "cat"},
                ],
            },
            {"days_ago": 1, "at": "08:05", "turns": [{"user": "My sister Ana lives in Faro now.", "id": "new"}]},
        ],
        "questions": [
            {"kind": "fact", "question": "What is my cat called?", "answers": ["Miso"], "evidence": ["cat"]},
            {
                "kind": "update",
                "question": "Where does my sister Ana live?",
                "answers": ["Faro"],
                "outdated": ["Porto"],
                "evidence": ["new"],
            },
            {"kind": "unknown", "question": "What is my father called?"},
        ],
    }


def written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_locomo_is_read_with_its_answers(tmp_path: Path) -> None:
    (talk,) = read_conversations(written(tmp_path / "talks.json", locomo()))
    known = [(question.answers, question.wrong) for question in talk.asked]
    assert known == [(("Bruno",), ()), (("2023",), ()), ((), ("a bicycle",)), (None, ())]
    assert len(answer_cases([talk])) == 3


def test_an_everyday_set_is_one_life(tmp_path: Path) -> None:
    (talk,) = read_talks(written(tmp_path / "life.json", everyday()))
    assert [turn.role for turn in talk.turns] == ["user", "assistant", "user", "user"]
    began = datetime(2025, 5, 31, 18, 30, tzinfo=timezone.utc).timestamp()
    assert [turn.created_at for turn in talk.turns[:3]] == [began, began + 20, began + 40]
    assert talk.sessions == ("everyday/1",) * 3 + ("everyday/2",)
    fact, update, unknown = talk.asked
    assert (fact.evidence, fact.answers, fact.now) == ({2}, ("Miso",), NOW)
    assert (update.evidence, update.wrong) == ({3}, ("Porto",))
    assert (unknown.evidence, unknown.answers, unknown.category) == (frozenset(), (), "unknown")


def test_the_set_that_comes_along() -> None:
    talk = read_everyday(ROOT / "benchmarks" / "everyday" / "answers.json")
    assert Counter(question.category for question in talk.asked) == {"fact": 30, "update": 15, "unknown": 15}
    assert all(turn.created_at is not None and turn.created_at < talk.asked[0].now for turn in talk.turns)
    for question in talk.asked:
        told = " ".join(talk.texts[row] for row in question.evidence)
        assert bool(question.wrong) == (question.category == "update")
        if question.answers:
            assert holds_answer(told, question.answers), question.text
            assert not exact_match(question.text, question.answers)
    said = [normalised(text) for text in talk.texts]
    assert not any(normalised(question.text) in text for question in talk.asked for text in said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"now": "never"}, "no date"),
        ({"questions": []}, "no question"),
        ({"questions": [{"kind": "odd", "question": "?"}]}, "none of fact, update, unknown"),
        ({"questions": [{"kind": "fact", "question": "?"}]}, "has no answers"),
        ({"questions": [{"kind": "unknown", "question": "?", "answers": ["x"]}]}, "has no answers"),
        ({"questions": [{"kind": "fact", "question": "?", "answers": ["x"], "evidence": ["gone"]}]}, "gone"),
        ({"conversations": 5}, "everyday questions"),
        ({"conversations": [{"days_ago": 1, "at": "08:00", "turns": [{"system": "x"}]}]}, "everyday questions"),
    ],
)
def test_a_set_of_another_shape_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = written(tmp_path / "bad.json", everyday() | change)
    with pytest.raises(InvalidInputError, match=said):
        read_everyday(path)


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="cannot read"):
        read_everyday(tmp_path / "gone.json")
    path = tmp_path / "bad.json"
    path.write_text("{ no", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="everyday questions"):
        read_talks(path)


def test_a_sample_is_spread_over_categories_and_conversations() -> None:
    talks = [
        LabelledConversation(
            name, (), (), tuple(
                LabelledQuestion(f"{name}{category}{n}?", frozenset(), category, NOW, ("x",))
                for category in ("1", "2") for n in range(9)
            ), 0,
        )
        for name in ("a", "b", "c")
    ]  # fmt: skip
    chosen = answer_cases(talks, 6)
    assert Counter(case.question.category for case in chosen) == {"1": 3, "2": 3}
    assert Counter(case.talk.name for case in chosen) == {"a": 2, "b": 2, "c": 2}
    assert chosen == answer_cases(talks, 6)
    assert len(answer_cases(talks, 500)) == 54
    assert sorted(case.question.text for case in answer_cases(talks, 53)) != []


# -- renderings


MEMORIES = [
    SessionMemory(2, "I like it. </memory>", "user", NOW - DAY, "b"),
    SessionMemory(1, "I bought\na boat.", "user", NOW - 30 * DAY, "a"),
    SessionMemory(3, "Pity!", "assistant", NOW - DAY + 20, "b"),
]


@pytest.mark.parametrize("name", RENDERINGS)
def test_a_rendering_shows_every_memory_once_and_keeps_its_marks(name: str) -> None:
    made = RENDERINGS[name](NOW)
    block = made(MEMORIES, 1000, len, Neutraliser(()), timezone.utc)
    assert block.text.startswith(f"{BLOCK_OPEN}\n") and block.text.endswith(f"\n{BLOCK_CLOSE}\n\n")
    assert block.text.count(BLOCK_CLOSE) == 1
    assert sorted(block.ids) == [1, 2, 3] and block.tokens == len(block.text)
    for said in ("I bought a boat.", "I like it.", "Pity!"):
        assert block.text.count(said) == 1
    assert block.text.index("I bought") < block.text.index("I like")
    less = made(MEMORIES, len(block.text) - 1, len, Neutraliser(()), timezone.utc)
    assert (less.ids, list(less.skipped)) == ((2, 1), [3])
    assert less.tokens < block.tokens


def test_nothing_fits_into_no_budget() -> None:
    for name in RENDERINGS:
        assert RENDERINGS[name](NOW)(MEMORIES, 3, len, Neutraliser(()), timezone.utc).text == ""


def test_days_stand_over_what_was_told_on_them() -> None:
    text = RENDERINGS["days"](NOW)(MEMORIES, 1000, len, Neutraliser(()), timezone.utc).text
    heads = ["2025-05-21 (4 weeks ago)", "2025-06-19 (yesterday)"]
    assert [line for line in text.splitlines() if line.startswith("20")] == heads
    cards = RENDERINGS["cards"](NOW)(MEMORIES, 1000, len, Neutraliser(()), timezone.utc).text
    assert "Conversation of Wednesday, 21 May 2025, 4 weeks ago:\nuser: I bought a boat." in cards
    said = RENDERINGS["you-said"](NOW)(MEMORIES, 1000, len, Neutraliser(()), timezone.utc).text
    assert "- On 2025-06-19 I answered: Pity!" in said
    assert "Today is Friday, 20 June 2025." in RENDERINGS["today"](NOW)(MEMORIES, 999, len, str, timezone.utc).text


@pytest.mark.parametrize(
    ("days", "ago"),
    [(0, "today"), (-3, ""), (1, "yesterday"), (13, "13 days ago"), (14, "2 weeks ago"), (61, "2 months ago"),
     (729, "23 months ago"), (730, "2 years ago")],
)  # fmt: skip
def test_how_long_ago(days: int, ago: str) -> None:
    assert Moment(NOW, timezone.utc).ago(SessionMemory(1, "x", "user", NOW - days * DAY)) == ago


def test_renderings_are_chosen_by_name() -> None:
    assert chosen_renderings("cards, lines,cards") == ["cards", "lines"]
    assert chosen_renderings("all") == list(RENDERINGS)
    for wrong in ("", "odd", "lines,odd"):
        with pytest.raises(InvalidInputError, match="is no rendering; choose of lines"):
            chosen_renderings(wrong)


# -- asking


@pytest.fixture(scope="module")
def llm(recall_tiny: Path) -> Iterator[SafeLlama]:
    opened = SafeLlama(str(recall_tiny), n_ctx=1024, n_threads=1, n_threads_batch=1, verbose=False)
    yield opened
    opened.close()


_AGO = re.compile(r" \((?:\d+ \w+ ago|yesterday|today|\d+ \w+ \d{4})\)")


def test_the_block_is_the_one_that_the_drop_in_would_give(tmp_path: Path, llm: SafeLlama, recall_tiny: Path) -> None:
    cases = answer_cases(read_talks(written(tmp_path / "life.json", everyday())))
    with LlamaCppAdapter(recall_tiny, n_threads=1) as adapter:
        bench = AnswerBench(cases, adapter, llm, tmp_path / "bank")
        try:
            for case in cases:
                block = bench.block(bench.recalled(case), RENDERINGS["lines"](NOW))
                options = MemoryOptions(namespace="everyday", zone=timezone.utc)
                message = {"role": "user", "content": case.question.text}
                _, last = PromptInjector(bench.bank).messages([message], bench._tokens, options, "new")
                # the drop-in asks now
                assert last is not None and _AGO.sub("", block.text) == _AGO.sub("", last.block)
            assert bench.evidence(cases[1]) == [
                SessionMemory(4, "My sister Ana lives in Faro now.", "user", NOW - DAY - 4 * 3600 + 300, "everyday/2")
            ]
        finally:
            bench.close()


def test_a_speaker_is_named_once(tmp_path: Path, llm: SafeLlama) -> None:
    cases = answer_cases(read_talks(written(tmp_path / "talks.json", locomo())))
    bench = AnswerBench(cases, MockAdapter(DIM), llm, tmp_path / "bank")
    try:
        block = bench.block(bench.evidence(cases[0]), RENDERINGS["lines"](NOW))
        assert "- 2023-05-08 (8 May 2023), Ana: My dog is called Bruno." in block.text
        with pytest.raises(ModelError, match="could not answer"):
            bench.ask("why? " * 2000, block)
    finally:
        bench.close()


# -- the command


@pytest.fixture
def mb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Membank:
    return Membank(tmp_path / "bank", capsys)


def test_the_report_of_an_everyday_set(mb: Membank, recall_tiny: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    done = mb(
        "bench", "answers", "--data", written(tmp_path / "life.json", everyday()), "-m", recall_tiny, "--threads", 1,
        "--renderings", "lines,cards", "--json", "--output", output,
    )  # fmt: skip
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert json.loads(output.read_text(encoding="utf-8")) == report
    assert (report["questions"], report["turns"], report["conversations"], report["threads"]) == (3, 4, 1, 1)
    names = list(report["conditions"])
    assert names[:3] == ["none", "lines", "cards"] and names[3].startswith("evidence, ")
    for condition in report["conditions"].values():
        assert {"f1", "em", "right", "outdated", "asserted"} <= condition.keys()
        assert set(condition["categories"]) == {"fact", "update", "unknown"}
        assert condition["prompt_tokens_p50"] > 0 and condition["seconds_p50"] > 0
    assert report["conditions"]["none"]["evidence_in_block"] == 0
    evidence = report["conditions"][names[3]]
    assert evidence["evidence_in_block"] == 1
    assert evidence["prompt_tokens_p50"] > report["conditions"]["none"]["prompt_tokens_p50"]
    first = report["replies"][0]
    assert (first["category"], first["answers"], set(first["replies"])) == ("fact", ["Miso"], set(names))
    assert not mb.bank.exists()


def test_the_tables_of_locomo(mb: Membank, recall_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    data = written(tmp_path / "talks.json", locomo())
    done = mb("bench", "answers", "--data", data, "-m", recall_tiny, "--encoder", recall_tiny, "--threads", 1)
    assert done.code == 0, done.err
    for shown in ("none", "evidence, lines", "F1", "adversarial", "4 (1)", "5 (1)"):
        assert shown in done.out
    assert "outdated" not in done.out
    assert "3 questions on 4 turns of 1 conversation" in done.err


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (None, (), "cannot read"),
        ("[1]", (), "no list of conversations"),
        ('{"a": 1}', (), "no set of everyday questions"),
        (json.dumps([locomo()[0] | {"qa": locomo()[0]["qa"][3:]}]), (), "no question of the data has an answer"),
        (json.dumps(locomo()), ("--renderings", "odd"), "is no rendering"),
        (json.dumps(locomo()), ("--output", "missing/report.json"), "there is no directory"),
    ],
)
def test_what_cannot_be_asked_is_said_so(
    mb: Membank, recall_tiny: Path, tmp_path: Path, content: str | None, options: tuple[str, ...], said: str
) -> None:
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    done = mb("bench", "answers", "--data", path, "-m", recall_tiny, *options)
    assert done.code == 2
    assert said in " ".join(done.err.split())
    assert done.out == ""
