"""What a memory's own text and fields say: who speaks, and whether it only asks."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.banks import open_bank

from membank_llama.core.text_features import is_question, speaker_of
from membank_llama.core.types import NewMemory


@pytest.mark.parametrize(
    ("text", "role", "metadata", "speaker"),
    [
        ("I like tea.", "user", None, None),
        ("I like tea.", "Assistant", None, None),
        ("I like tea.", "Melanie", None, "Melanie"),
        ("Melanie: I like tea.", "user", None, "Melanie"),
        ("Mary Ann O'Neil: I like tea.", "user", None, "Mary Ann O'Neil"),
        ("Ærø: jeg kan lide te.", "user", {}, "Ærø"),
        ("Melanie: I like tea.", "Caroline", None, "Caroline"),
        ("I like tea.", "Caroline", {"speaker": " Jon "}, "Jon"),
        ("I like tea.", "user", {"speaker": "  "}, None),
        ("I like tea.", "user", {"speaker": 7}, None),
        ("melanie: I like tea.", "user", None, None),
        ("Melanie:", "user", None, None),
        ("Meet at 10:30 sharp.", "user", None, None),
        ("The List Of Many Things: one, two", "user", None, None),
        ("", "", None, None),
    ],
)
def test_who_speaks(text: str, role: str, metadata: dict[str, object] | None, speaker: str | None) -> None:
    assert speaker_of(text, role, metadata) == speaker


@pytest.mark.parametrize(
    ("text", "only_asks"),
    [
        ("Where do you live?", True),
        ("I moved. And you?  ", True),
        ("Look! Is it pretty? [shares a picture: a lake (in winter)]", True),
        ("Is it? (just wondering) [smiles]", True),
        ("何ですか？", True),
        ("أين؟", True),
        ("Who knows? I do.", False),
        ("I moved to Porto.", False),
        ("[what is this?]", False),
        ("", False),
    ],
)
def test_whether_it_only_asks(text: str, only_asks: bool) -> None:
    assert is_question(text) is only_asks


def test_a_long_text_is_judged_by_its_end() -> None:
    assert is_question("word " * 10_000 + "really?")
    assert not is_question("(" * 20_000)


def test_both_are_kept_with_the_memory(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many([NewMemory("Do you sing?", role="Ana"), "Jon: I do.", "I hum."])
        kept = bank.store.registry.rows("SELECT speaker, asks FROM memories ORDER BY id")
        snapshot = bank.store.snapshots.get("default")
    assert kept == [("Ana", 1), ("Jon", 0), (None, 0)]
    named = {number: name for name, number in snapshot.speakers.items()}
    assert [named[number] for number in snapshot.speaker.tolist()] == ["Ana", "Jon", "user"]
    assert snapshot.asks.tolist() == [True, False, False]
