"""What is exported can be imported: every field, once, and nothing of a file that has a bad line."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from support.banks import open_bank

from membank_llama.core.errors import InvalidInputError
from membank_llama.memory.import_export import export_memories, import_memories, parse_lines
from membank_llama.memory.memory_json import memory_fields

FULL = {
    "role": "assistant",
    "namespace": "work",
    "conversation": "c1",
    "created_at": 1_700_000_000.25,
    "source": "mail",
    "metadata": {"part": 2, "tags": ["a", "b"], "émoji": "🐝"},
    "pinned": True,
    "expires_at": 4_000_000_000.0,
}


def exported(path: Path, namespace: str | None = None) -> list[str]:
    stream = io.StringIO()
    with open_bank(path, read_only=True) as bank:
        export_memories(bank, stream, namespace=namespace)
    # not splitlines(): a text may hold what only looks like the end of a line
    return stream.getvalue().split("\n")[:-1]


def test_every_field_survives_and_ids_are_new(tmp_path: Path) -> None:
    with open_bank(tmp_path / "a") as bank:
        bank.ingest("to be forgotten, so that ids differ")
        bank.forget(1)
        bank.ingest("The bees fly at noon. \u2028 And a line\nbreak.", **FULL)
        bank.ingest("Plain.")
    lines = exported(tmp_path / "a")
    assert len(lines) == 2
    assert json.loads(lines[0])["id"] == 2
    with open_bank(tmp_path / "b") as bank:
        results = import_memories(bank, lines)
        assert [result.is_new for result in results] == [True, True]
        fields = memory_fields(bank.get(1))
        assert bank.get(2).role == "user"
    assert {name: fields[name] for name in FULL} == FULL
    assert fields["text"] == "The bees fly at noon. \u2028 And a line\nbreak."
    assert [{**json.loads(line), "id": 0} for line in exported(tmp_path / "b")] == [
        {**json.loads(line), "id": 0} for line in lines
    ]


def test_what_is_known_is_not_stored_twice(tmp_path: Path) -> None:
    with open_bank(tmp_path / "a") as bank:
        bank.ingest("one")
        bank.ingest("two")
    lines = exported(tmp_path / "a")
    with open_bank(tmp_path / "a") as bank:
        assert not any(result.is_new for result in import_memories(bank, lines))
        assert bank.stats()["memories"] == 2
        assert all(result.is_new for result in import_memories(bank, lines, namespace="other"))
        assert bank.stats()["namespaces"] == {"default": 2, "other": 2}


def test_one_namespace_can_be_exported(tmp_path: Path) -> None:
    with open_bank(tmp_path / "a") as bank:
        bank.ingest("one")
        bank.ingest("two", namespace="work")
    assert [json.loads(line)["text"] for line in exported(tmp_path / "a", "work")] == ["two"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{nonsense", "line 3: not JSON"),
        ("[" * 100_000, "line 3"),
        ('"text"', "line 3: expected an object"),
        ('{"role": "user"}', 'line 3: the key "text" is missing'),
        ('{"text": 5}', 'line 3: "text" must be a string'),
        ('{"text": "  "}', "line 3: the text is empty.*nothing was imported"),
        ('{"text": "x", "created_at": "yesterday"}', "created_at"),
        ('{"text": "x", "created_at": true}', "created_at"),
        ('{"text": "x", "created_at": NaN}', "NaN is not a JSON value"),
        ('{"text": "x", "expires_at": Infinity}', "Infinity is not a JSON value"),
        ('{"text": "x", "expires_at": "soon"}', "expires_at"),
        ('{"text": "x", "metadata": [1]}', "metadata"),
        ('{"text": "x", "pinned": 1}', "pinned"),
        ('{"text": "x", "role": 7}', "role"),
        ('{"text": "x", "namespace": {}}', "namespace"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_imported(tmp_path: Path, line: str, said: str) -> None:
    with open_bank(tmp_path / "a") as bank:
        with pytest.raises(InvalidInputError, match=said):
            import_memories(bank, ['{"text": "good"}', "", line])
        assert bank.stats()["memories"] == 0


@pytest.mark.parametrize("line", ['{"text": "half \\ud83d of a pair"}', '{"text": "a \\u0000 byte"}'])
def test_a_text_that_cannot_be_stored_leaves_the_bank_empty(tmp_path: Path, line: str) -> None:
    with open_bank(tmp_path / "a") as bank:
        with pytest.raises(InvalidInputError):
            import_memories(bank, ['{"text": "good"}', line])
        assert bank.stats()["memories"] == 0


def test_blank_lines_marks_and_foreign_fields_do_no_harm() -> None:
    items = list(parse_lines(["\ufeff" + '{"text": "one", "score": 3}', "", "   ", '{"text": "two", "id": 9}\r']))
    assert [item.text for item in items] == ["one", "two"]
    assert items[0].created_at is None


def test_progress_is_told(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    with open_bank(tmp_path / "a") as bank:
        import_memories(
            bank, [json.dumps({"text": f"number {n}"}) for n in range(70)], progress=lambda *a: seen.append(a)
        )
        assert seen[-1] == ("remembering", 70, 70)
        assert export_memories(bank, io.StringIO()) == 70
