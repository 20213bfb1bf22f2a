"""`membank bench encoder`: what it prints, on real models and a handful of questions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.terminals import Membank

from membank_llama.cli.bench.locomo import read_conversations, shares_found

TURNS = (
    "My dog is called Bruno.", "I work as a nurse.", "We moved to Lisbon in March.", "The car is a green Skoda.",
    "I like my coffee black.", "My boss is called Ingrid.", "The shed key is under the flowerpot.",
    "I play the accordion.", "Mia starts school in September.", "The wifi password is maple.", "It rained all day.",
    "My sister has twins.",
)  # fmt: skip


@pytest.fixture
def mb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Membank:
    return Membank(tmp_path / "bank", capsys)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    turns = [{"speaker": "Ana", "dia_id": f"D1:{n}", "text": text} for n, text in enumerate(TURNS)]
    sample = {
        "sample_id": "one",
        "conversation": {"session_2": turns[6:], "session_1": turns[:6], "session_1_date_time": "never"},
        "qa": [
            {"question": "What is my dog called?", "evidence": ["D1:0"]},
            {"question": "Where is the key, and what is the wifi password?", "evidence": ["D1:6; D1:9", "D9:1"]},
            {"question": "Nothing was said of this?", "evidence": ["D9:9"]},
        ],
    }
    path = tmp_path / "talk.json"
    path.write_text(json.dumps([sample, {**sample, "qa": []}]), encoding="utf-8")
    return path


def test_conversations_are_read_in_order_with_what_is_known(data: Path) -> None:
    (one,) = read_conversations(data, 5)
    assert one.texts == [f"Ana: {text}" for text in TURNS]
    assert one.evidence == [frozenset({0}), frozenset({6, 9})]


def test_shares_are_of_the_evidence() -> None:
    turns = np.eye(4, dtype=np.float32)
    asked = np.array([[1, 0.5, 0.2, 0], [0, 0, 0.1, 1]], np.float32)
    found = shares_found(asked, turns, [frozenset({0, 3}), frozenset({2})], (1, 2))
    assert found == {1: [0.5, 0.0], 2: [0.5, 1.0]}


def test_a_decoder_is_tried_at_every_layer(mb: Membank, recall_tiny: Path, data: Path) -> None:
    done = mb("bench", "encoder", recall_tiny, "--data", data, "--threads", 1, "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    kinds = [(row["layer"], row["pooling"], row["template"]) for row in report["tried"]]
    plain = [(n, p, None) for n in range(6) for p in ("mean", "weighted", "last")]
    named = [(n, p, t) for t, p in (("echo", "mean"), ("one-word", "last")) for n in range(6)]
    assert kinds == plain + named
    assert [row["layer"] for row in report["shown"]][:6] == list(range(6)) and len(report["shown"]) == 10
    assert report["questions"] == 2 and -1 <= report["agreement"] <= 1
    assert report["choice"] == report["default"] == {"layer": 2, "pooling": "mean", "template": None}
    for row in report["shown"]:
        assert row["texts_per_second"] > 0
        for way in ("", " centred", " apart"):
            assert 0 <= row[f"R@5{way}"] <= row[f"R@10{way}"] <= 1
    by_layer = {row["layer"]: row for row in report["shown"][:6]}
    assert by_layer[2]["R@5"] == 1.0
    assert by_layer[2]["score"] > by_layer[5]["score"]


def test_the_table_marks_what_is_taken(mb: Membank, recall_tiny: Path) -> None:
    done = mb("bench", "encoder", recall_tiny, "--threads", 1)
    assert done.code == 0, done.err
    (line,) = [line for line in done.out.splitlines() if "●" in line]
    assert line.split()[:4] == ["●", "2", "mean", "–"]
    assert "R@" not in done.out
    assert "half depth, the default" in done.err
    assert not mb.bank.exists()


def test_a_model_that_pools_by_itself_has_one_line(mb: Membank, minilm_gguf: Path, data: Path) -> None:
    report = json.loads(mb("bench", "encoder", minilm_gguf, "--data", data, "--threads", 1, "--json").out)
    (row,) = report["shown"]
    assert (row["layer"], row["pooling"]) == (None, "pooled")
    assert row["R@5"] == row["R@5 centred"] == row["R@5 apart"] == 1.0 and row["mrr"] > 0.85
    assert report["choice"] == report["default"]
    shown = mb("bench", "encoder", minilm_gguf, "--threads", 1)
    assert "own" in shown.out and "nothing to choose" in shown.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read"),
        ("not json", "no list"),
        ("[1]", "no list"),
        ('{"a": 1}', "no list"),
        ("[]", "no question"),
    ],
)
def test_data_of_another_shape_is_refused(
    mb: Membank, recall_tiny: Path, tmp_path: Path, content: str | None, said: str
) -> None:
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    done = mb("bench", "encoder", recall_tiny, "--data", path)
    assert done.code == 2
    assert said in done.err
    assert done.out == ""
