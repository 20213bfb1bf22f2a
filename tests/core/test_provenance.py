"""Where a memory is from, and what is made of several."""

from __future__ import annotations

import pytest

from membank_llama.core.errors import InvalidInputError
from membank_llama.core.provenance import Provenance, least, provenance_named, provenance_of


@pytest.mark.parametrize(
    ("role", "source", "metadata", "expected"),
    [
        ("user", "chat", {}, Provenance.PERSON),
        ("Ana", None, None, Provenance.PERSON),
        ("Assistant", "chat", {}, Provenance.MODEL),
        ("tool", None, {}, Provenance.TOOL),
        ("note", "notes.md", {"part": 0}, Provenance.DOCUMENT),
        ("user", "chats.json", {"provenance": "import"}, Provenance.IMPORT),
        # what is written there can only take away
        ("assistant", None, {"provenance": "person"}, Provenance.MODEL),
        ("user", None, {"provenance": "model"}, Provenance.MODEL),
        ("user", None, {"provenance": ["nonsense"]}, Provenance.PERSON),
    ],
)
def test_of_its_fields(role: str, source: str | None, metadata: dict[str, object], expected: Provenance) -> None:
    assert provenance_of(role, source, metadata) is expected


def test_the_least_of_several() -> None:
    assert least([Provenance.PERSON, Provenance.TOOL, Provenance.DOCUMENT]) is Provenance.TOOL
    assert least([]) is Provenance.PERSON


def test_a_name_that_is_none_is_refused_with_those_there_are() -> None:
    assert provenance_named("model") is Provenance.MODEL
    with pytest.raises(InvalidInputError, match="no provenance 'robot'; there are model, tool"):
        provenance_named("robot")
