"""`membank bench recall`: a small file in the shape of LoCoMo, through a real model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.banks import DIM
from support.terminals import Membank

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.cli.bench.locomo import parse_stamp, read_conversations
from membank_llama.cli.bench.ranking_measures import CUTS
from membank_llama.cli.bench.recall import CachingEncoder, RecallBench, steps
from membank_llama.recall.signals import Weights, default_weights

MEASURES = {"MRR", *(f"{name}@{cut}" for name in ("R", "hit", "all", "NDCG") for cut in CUTS)}
GATE = {
    "own conversation", "own conversation, evidence among it", "memories injected on average", "another conversation",
    "another conversation, names changed to fit it",
}  # fmt: skip


def talk(name: str, sessions: list[tuple[str | None, list[tuple[str, str]]]], qa: list[dict[str, Any]]) -> Any:
    conversation: dict[str, Any] = {}
    for number, (date, turns) in enumerate(sessions, 1):
        conversation[f"session_{number}"] = [
            {"speaker": speaker, "dia_id": f"D{number}:{place}", "text": text}
            for place, (speaker, text) in enumerate(turns, 1)
        ]
        if date is not None:
            conversation[f"session_{number}_date_time"] = date
    return {"sample_id": name, "conversation": conversation, "qa": qa}


def samples() -> list[Any]:
    first = talk(
        "one",
        [
            ("1:56 pm on 8 May, 2023", [
                ("Ana", "My dog is called Bruno."), ("Jon", "What a good name!"), ("Ana", "He is afraid of thunder."),
            ]),
            ("10:00 am on 9 June, 2023", [("Jon", "I bought a red bicycle."), ("Ana", "Is it fast?")]),
            (None, [("Jon", "I sold the bicycle again."), ("Ana", "I play the accordion now.")]),
        ],
        [
            {"question": "What is Ana's dog called and afraid of?", "evidence": ["D1:1; D1:3"], "category": 1},
            {"question": "What did Jon buy in June?", "evidence": ["D2:1"], "category": 2},
            {"question": "Which instrument does Ana play?", "evidence": ["D3:2", "D9:9"], "category": 4},
            {"question": "What did nobody say?", "evidence": ["D9:9"], "category": 4},
            {"question": "And what of this?", "evidence": [], "category": 5},
        ],
    )  # fmt: skip
    first["conversation"]["session_1"][1]["blip_caption"] = "a dog in the snow"
    second = talk(
        "two",
        [
            ("2023-01-02", [("Mia", "I start school in September."), ("Leo", "The wifi password is maple.")]),
            ("2023-02-02 10:30", [("Mia", "My sister has twins."), ("Leo", "Our boat is called Wanda.")]),
        ],
        [
            {"question": "Who in Mia's family has twins?", "evidence": ["D2:1"]},
            {"question": "What is the wifi password?", "evidence": ["D1:2"], "question_date": "2023/06/01 (Thu) 09:00"},
            {"question": "No evidence at all?"},
        ],
    )
    return [first, second]


@pytest.fixture
def mb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Membank:
    return Membank(tmp_path / "bank", capsys)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "talks.json"
    path.write_text(json.dumps(samples()), encoding="utf-8")
    return path


# -- reading


def test_turns_become_memories_as_a_chat_stores_them(data: Path) -> None:
    one, two = read_conversations(data)
    assert (one.name, two.name) == ("one", "two")
    assert one.texts[:2] == [
        "Ana: My dog is called Bruno.",
        "Jon: What a good name! [shares a picture: a dog in the snow]",
    ]
    assert [turn.role for turn in one.turns[:2]] == ["Ana", "Jon"]
    assert {turn.namespace for turn in two.turns} == {"two"}
    assert one.sessions == ("session_1",) * 3 + ("session_2",) * 2 + ("session_3",) * 2
    assert one.turns[3].conversation == "one/session_2"
    began = datetime(2023, 5, 8, 13, 56, tzinfo=timezone.utc).timestamp()
    assert [turn.created_at for turn in one.turns[:3]] == [began, began + 1, began + 2]


def test_a_session_without_a_date_is_a_day_after_the_one_before(data: Path) -> None:
    one, _ = read_conversations(data)
    second, third = one.turns[3].created_at, one.turns[5].created_at
    assert second is not None and third == second + 86400
    assert {question.now for question in one.asked} == {third + 86400}


def test_evidence_is_known_turns_and_the_rest_is_counted(data: Path) -> None:
    one, two = read_conversations(data)
    assert one.evidence == [frozenset({0, 2}), frozenset({3}), frozenset({6})]
    assert [question.category for question in one.asked] == ["1", "2", "4"]
    assert [question.category for question in two.asked] == ["–", "–"]
    assert (one.left_out, two.left_out) == (2, 1)
    assert two.asked[1].now == datetime(2023, 6, 1, 9, tzinfo=timezone.utc).timestamp()
    assert [talk.name for talk in read_conversations(data, 1)] == ["one"]


@pytest.mark.parametrize(
    ("stamp", "iso"),
    [
        ("1:56 pm on 8 May, 2023", "2023-05-08T13:56"),
        ("12:05 am on 1 January, 2024", "2024-01-01T00:05"),
        ("2023/05/20 (Sat) 02:21", "2023-05-20T02:21"),
        ("2023-05-08T13:56:07", "2023-05-08T13:56:07"),
        ("2023-05-08T13:56:07Z", "2023-05-08T13:56:07"),
        ("2023-05-08 13:56:07", "2023-05-08T13:56:07"),
        ("2023-05-08 13:56", "2023-05-08T13:56"),
        ("2023/05/08 13:56", "2023-05-08T13:56"),
        (" 2023-05-08 ", "2023-05-08"),
        ("2023/05/08", "2023-05-08"),
        ("8 May, 2023", "2023-05-08"),
        ("8 May 2023", "2023-05-08"),
        ("May 8, 2023", "2023-05-08"),
    ],
)
def test_dates_are_read_as_such_files_write_them(stamp: str, iso: str) -> None:
    assert parse_stamp(stamp, -1.0) == datetime.fromisoformat(iso).replace(tzinfo=timezone.utc).timestamp()


@pytest.mark.parametrize("stamp", ["never", "", "31 February 2023", None, True, [], {}])
def test_what_is_no_date_falls_back(stamp: object) -> None:
    assert parse_stamp(stamp, 12.5) == 12.5


def test_seconds_are_seconds() -> None:
    assert parse_stamp(1683554160, 0.0) == 1683554160.0


# -- ranking


@pytest.fixture
def bench(data: Path, tmp_path: Path) -> Iterator[RecallBench]:
    opened = RecallBench(read_conversations(data), MockAdapter(hidden_dim=DIM), tmp_path / "bank")
    yield opened
    opened.close()


def test_evidence_is_held_against_the_memories_of_its_turns(bench: RecallBench) -> None:
    wanted = [{bench.bank.get(memory).text for memory in asked.ids} for asked in bench.asked]
    assert wanted[0] == {"Ana: My dog is called Bruno.", "Ana: He is afraid of thunder."}
    assert wanted[4] == {"Leo: The wifi password is maple."}
    assert [asked.sessions for asked in bench.asked[:2]] == [{"session_1"}, {"session_2"}]


def test_every_way_to_rank_stays_in_the_conversation(bench: RecallBench) -> None:
    rankers = {"recall": bench.recalled(), **bench.baselines()}
    for name, rank in rankers.items():
        for asked in bench.asked:
            ranking = list(rank(asked))
            assert len(set(ranking)) == len(ranking)
            assert {bench.bank.get(memory).namespace for memory in ranking} == {asked.namespace}, name
            if name == "BM25" and "wifi" in asked.question.text:
                assert ranking[0] in asked.ids


def test_a_conversation_with_long_turns_is_measured_too(tmp_path: Path) -> None:
    """Passages of a long turn are no memories of their own."""
    long = " ".join(f"And then thing {n} happened on the island." for n in range(80)) + " We ate sardines."
    told = [("Ana", "My dog is called Bruno."), ("Jon", long), ("Ana", "What a holiday!")]
    questions = [{"question": "What did Jon eat on the island?", "evidence": ["D1:2"], "category": 1}]
    path = tmp_path / "long.json"
    path.write_text(json.dumps([talk("one", [("1:56 pm on 8 May, 2023", told)], questions)]), encoding="utf-8")
    made = RecallBench(read_conversations(path), MockAdapter(DIM), tmp_path / "bank")
    try:
        ids = set(made.asked[0].session_of)
        assert len(ids) == 3
        assert made.bank.store.registry.count_vectors() > 3, "the long turn has passages"
        for label, rank in made.baselines().items():
            ranking = rank(made.asked[0])
            assert sorted(ranking) == sorted(ids), label
            assert made.scores(label, rank).turn["R@5"] == 1.0, label
        # FTS5 finds the word, and the best passage is what a long memory is near by
        assert made.baselines()["BM25"](made.asked[0])[0] in made.asked[0].ids
    finally:
        made.close()


@pytest.mark.parametrize("tokens", [False, True])
def test_signals_are_switched_on_one_after_the_other(tokens: bool) -> None:
    found = list(steps(tokens).values())
    on = [{name for name, value in vars(weights).items() if value} for weights in found]
    assert on[0] == {"words"}
    assert all(len(more - less) == 1 and less < more for less, more in pairwise(on))
    assert all(
        getattr(weights, name) in (0, getattr(default_weights(tokens), name))
        for weights in found
        for name in vars(weights)
    )


def test_a_question_is_encoded_once() -> None:
    adapter = CachingEncoder(MockAdapter(hidden_dim=DIM))
    first = adapter.encode("Who?")
    assert adapter.encode("Who?") is first
    assert (adapter.encode_batch(["Who?", "Where?"])[0] == first).all()
    assert len(adapter.seconds) == 2
    assert adapter.model_id() == MockAdapter(hidden_dim=DIM).model_id()


# -- the command


def test_the_report(mb: Membank, data: Path, recall_tiny: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    done = mb(
        "bench", "recall", "--data", data, "--encoder", recall_tiny, "--threads", 1, "--json", "--leave-one-out",
        "--output", output,
    )  # fmt: skip
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert json.loads(output.read_text(encoding="utf-8")) == report
    assert (report["conversations"], report["turns"], report["questions"]) == (2, 11, 5)
    assert (report["questions_without_evidence"], report["threads"]) == (3, 1)
    baselines = ["dense cosine", "BM25", "reciprocal rank fusion", "z-scores added"]
    assert list(report["rankings"]) == [*baselines, *steps(), "recall"]
    for ranking in report["rankings"].values():
        assert set(ranking["turn"]) == set(ranking["session"]) == MEASURES
        assert all(0 <= value <= 1 for value in (*ranking["turn"].values(), *ranking["session"].values()))
        assert {name: group["questions"] for name, group in ranking["categories"].items()} == {
            "1": 1, "2": 1, "4": 1, "–": 2,
        }  # fmt: skip
    # no conversation holds more than ten turns: the first ten are all that recall gives
    assert report["rankings"]["recall"]["turn"]["R@10"] == 1
    assert report["rankings"]["recall"]["turn"]["MRR"] > report["rankings"]["dense cosine"]["turn"]["MRR"] - 0.2
    assert set(report["gate"]) == GATE
    assert all(0 <= value <= 1 for name, value in report["gate"].items() if "average" not in name)
    assert 0 <= report["gate"]["memories injected on average"] <= 6
    found = report["leave_one_out"]
    assert set(found["by conversation"]) == {"one", "two"}
    assert found["tuned on all"] >= found["default weights"]
    assert found["loss"] == pytest.approx(found["tuned on all"] - found["leaving one out"])
    assert set(found["weights tuned on all"]) == set(vars(Weights()))
    assert not mb.bank.exists()


def test_one_conversation_has_no_other_to_be_asked_of(mb: Membank, data: Path, recall_tiny: Path) -> None:
    done = mb(
        "bench", "recall", "--data", data, "-m", recall_tiny, "--threads", 1, "--json", "--conversations", 1,
        "--leave-one-out", "--no-steps",
    )  # fmt: skip
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert (report["conversations"], report["turns"], report["questions"]) == (1, 7, 3)
    assert set(report["gate"]) == {name for name in GATE if "another" not in name}
    assert report["leave_one_out"] == {}
    assert "recall: words" not in report["rankings"] and "recall" in report["rankings"]


def test_the_tables(mb: Membank, data: Path, recall_tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    done = mb("bench", "recall", "--data", data, "-m", recall_tiny, "--threads", 1, "--leave-one-out")
    assert done.code == 0, done.err
    for shown in ("dense cosine", "BM25", "+ speaker", "recall by category", "another conversation", "leaving one out"):
        assert shown in done.out
    assert "5 questions on 11 turns of 2 conversations; 3 questions without evidence left out" in done.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read"),
        ("not json", "no list of conversations"),
        ('{"a": 1}', "no list of conversations"),
        ("[1]", "no list of conversations"),
        ('[{"sample_id": "x", "qa": []}]', "no list of conversations"),
        ('[{"sample_id": "x", "conversation": {}, "qa": [{"evidence": 5, "question": "?"}]}]', "no list of conv"),
        ("[]", "no question with evidence"),
        ('[{"sample_id": "x", "conversation": {}, "qa": []}]', "no question with evidence"),
    ],
)
def test_data_of_another_shape_is_refused(
    mb: Membank, recall_tiny: Path, tmp_path: Path, content: str | None, said: str
) -> None:
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    done = mb("bench", "recall", "--data", path, "--encoder", recall_tiny)
    assert done.code == 2
    assert said in " ".join(done.err.split())
    assert done.out == ""


def test_a_report_that_cannot_be_written_is_said_so(mb: Membank, data: Path, recall_tiny: Path, tmp_path: Path) -> None:
    done = mb(
        "bench", "recall", "--data", data, "-m", recall_tiny, "--threads", 1, "--no-steps",
        "--output", tmp_path / "missing" / "report.json",
    )  # fmt: skip
    assert done.code == 2
    assert "there is no directory" in done.err and "missing" in done.err
    assert done.out == ""
