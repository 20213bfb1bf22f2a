"""Imports into a bank: each text once, whatever is told again; killed, gone on with, undone as one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.banks import DIM, files_with, open_bank, python
from support.exports import BEGAN, gpt_chat, gpt_message

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.core.errors import InvalidInputError
from membank_llama.core.types import Vector
from membank_llama.memory.bank import MemBank
from membank_llama.memory.imports.import_records import (
    brought,
    import_record,
    import_records,
    undo_import,
)
from membank_llama.memory.imports.import_run import LABEL, import_history


class Counting(MockAdapter):
    """Counts the texts it encodes."""

    encoded = 0

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        self.encoded += len(texts)
        return super().encode_batch(texts)


def export(path: Path, *texts: str, began: float = BEGAN, key: str = "k1", role: str = "user") -> Path:
    messages = [gpt_message(role, text, at=began + 60 * place) for place, text in enumerate(texts)]
    path.write_text(json.dumps([gpt_chat(messages, key=key, create_time=began)]), encoding="utf-8")
    return path


def texts(bank: MemBank) -> list[str]:
    return [memory.text for memory in bank.memories()]


def test_an_import_told_again_encodes_nothing(tmp_path: Path) -> None:
    path = export(tmp_path / "conversations.json", *(f"canoe {n}" for n in range(150)), "canoe 3")
    adapter = Counting(hidden_dim=DIM)
    with MemBank(adapter, tmp_path / "bank") as bank:
        adapter.encoded = 0
        outcome, plan = import_history(bank, str(path))
        assert (outcome.new, outcome.known, adapter.encoded) == (150, 1, 150)
        assert len(plan.memories) == 151
        record = outcome.record
        assert record is not None
        assert (record.id, record.file, record.kinds, record.done) == (1, "conversations.json", ("chatgpt",), True)
        assert record.ranges == ((1, 150),)
        twice = bank.get(4)
        assert (twice.first_told_at, twice.created_at) == (BEGAN + 180, BEGAN + 150 * 60), "told twice in the export"
        again, _ = import_history(bank, str(path))
        assert (again.new, again.known, again.record, adapter.encoded) == (0, 151, None, 150)
        assert bank.get(4) == twice
        assert import_records(bank) == [record]


def test_undo_takes_what_the_import_brought_and_leaves_no_trace(tmp_path: Path) -> None:
    with open_bank(tmp_path / "bank") as bank:
        bank.ingest("The canoe is green.", created_at=BEGAN - 100)
        import_history(bank, str(export(tmp_path / "a.json", "The canoe is green.", "Kayaks are waterproof.")))
        import_history(bank, str(export(tmp_path / "b.json", "Paddles are of ash.", key="k2")))
        assert [record.id for record in import_records(bank)] == [1, 2]
        assert undo_import(bank, import_record(bank, 1)) == 1
        assert texts(bank) == ["The canoe is green.", "Paddles are of ash."]
        assert files_with(tmp_path / "bank", b"waterproof") == []
        assert [record.id for record in import_records(bank)] == [2]
        with pytest.raises(InvalidInputError, match="no import 1"):
            import_record(bank, 1)
        assert undo_import(bank, import_record(bank)) == 1
        with pytest.raises(InvalidInputError, match="was no import"):
            import_record(bank)
        assert bank.verify().ok
        # what comes after has an id of its own, and no record of what is gone
        outcome, _ = import_history(bank, str(export(tmp_path / "a.json", "Kayaks are waterproof.")))
        assert outcome.record is not None
        assert outcome.record.id == 3
        assert import_records(bank) == [outcome.record]


def test_what_was_told_again_since_is_whoevers_told_it(tmp_path: Path) -> None:
    with open_bank(tmp_path / "bank") as bank:
        import_history(bank, str(export(tmp_path / "a.json", "The canoe is green.", "Kayaks are red.")))
        bank.ingest("The canoe is green.")
        record = import_record(bank)
        assert (brought(bank, record).ids, brought(bank, record).told_since) == ((2,), (1,))
        assert undo_import(bank, record) == 1
        assert texts(bank) == ["The canoe is green."]


def test_what_a_person_says_while_it_runs_is_hers(tmp_path: Path) -> None:
    path = export(tmp_path / "a.json", *(f"canoe {n}" for n in range(130)))

    def progress(label: str, done: int, total: int) -> None:
        if label == LABEL and done == 128:
            bank.ingest("canoe 3")

    with open_bank(tmp_path / "bank") as bank:
        import_history(bank, str(path), progress=progress)
        assert undo_import(bank, import_record(bank)) == 129
        assert texts(bank) == ["canoe 3"]


def test_what_was_corrected_or_forgotten_since_is_no_part_of_it(tmp_path: Path) -> None:
    with open_bank(tmp_path / "bank") as bank:
        import_history(bank, str(export(tmp_path / "a.json", "one", "two", "three")))
        bank.correct(1, "one, but better")
        bank.forget(2)
        assert undo_import(bank, import_record(bank)) == 1
        assert texts(bank) == ["one, but better"]


def test_lines_without_times_are_undone_too(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n', encoding="utf-8")
    with open_bank(tmp_path / "bank") as bank:
        import_history(bank, str(tmp_path / "a.jsonl"))
        assert undo_import(bank, import_record(bank)) == 2
    twice = '{"text": "one", "role": "assistant"}\n{"text": "one"}\n'
    (tmp_path / "a.jsonl").write_text(twice, encoding="utf-8")
    with open_bank(tmp_path / "bank") as bank:
        import_history(bank, str(tmp_path / "a.jsonl"))
        assert bank.get(3).role == "user"
        assert undo_import(bank, import_record(bank)) == 1


def test_a_later_telling_or_a_better_witness_counts(tmp_path: Path) -> None:
    with open_bank(tmp_path / "bank") as bank:
        bank.ingest("The canoe is green.", role="assistant", created_at=BEGAN + 1e6)
        bank.ingest("Kayaks are red.", created_at=BEGAN + 1e6)
        bank.ingest("Paddles are of ash.", created_at=BEGAN - 1e6)
        path = export(tmp_path / "a.json", "The canoe is green.", "Kayaks are red.", "Paddles are of ash.")
        outcome, _ = import_history(bank, str(path))
        assert (outcome.new, outcome.record) == (0, None)
        canoe, kayak, paddle = bank.memories()
        assert canoe.role == "user"
        assert kayak.created_at == BEGAN + 1e6
        assert paddle.created_at == BEGAN + 120
        before = list(bank.memories())
        import_history(bank, str(path))
        assert list(bank.memories()) == before


def test_conversations_of_two_programs_are_told_apart(tmp_path: Path) -> None:
    with open_bank(tmp_path / "bank") as bank:
        bank.ingest("Something here.", conversation="Boats")
        import_history(bank, str(export(tmp_path / "a.json", "one", key="k1-aaaaaaaa")))
        import_history(bank, str(export(tmp_path / "b.json", "two", key="k2-bbbbbbbb")))
        import_history(bank, str(export(tmp_path / "c.json", "one", "three", key="k1-aaaaaaaa")))
        names = {memory.text: memory.conversation for memory in bank.memories()}
    assert names == {
        "Something here.": "Boats",
        "one": "Boats (aaaaaaaa)",
        "two": "Boats (bbbbbbbb)",
        "three": "Boats (aaaaaaaa)",
    }


def test_into_a_namespace(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two", "namespace": "x"}\n', encoding="utf-8")
    with open_bank(tmp_path / "bank") as bank:
        import_history(bank, str(tmp_path / "a.jsonl"))
        assert bank.stats()["namespaces"] == {"default": 1, "x": 1}
        outcome, _ = import_history(bank, str(tmp_path / "a.jsonl"), namespace="work")
        assert outcome.new == 2
        assert bank.count("work") == 2


def test_one_that_cannot_be_stored_stores_none(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"number {n}"}) for n in range(200)] + [json.dumps({"text": "x" * 70_000})]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with open_bank(tmp_path / "bank") as bank:
        with pytest.raises(InvalidInputError):
            import_history(bank, str(tmp_path / "a.jsonl"))
        assert bank.count() == 0


KILLED = """
    import os, sys
    from pathlib import Path
    from support.banks import open_bank
    from membank_llama.memory.imports.import_run import LABEL, import_history

    def progress(label, done, total):
        if label == LABEL and done >= 128:
            os._exit(9)

    with open_bank(Path(sys.argv[1])) as bank:
        import_history(bank, sys.argv[2], progress=progress)
"""


def test_an_import_that_was_killed_is_gone_on_with_and_undone_as_one(tmp_path: Path) -> None:
    path = export(tmp_path / "a.json", *(f"canoe {n}" for n in range(300)))
    child = python(KILLED, tmp_path / "bank", path)
    assert child.communicate()[0] == ""
    assert child.returncode == 9
    with open_bank(tmp_path / "bank") as bank:
        (half,) = import_records(bank)
        assert (half.done, half.new, bank.count()) == (False, 128, 128)
        bank.ingest("Told in between.")
        outcome, _ = import_history(bank, str(path))
        assert (outcome.new, outcome.known) == (172, 128)
        (record,) = import_records(bank)
        assert (record.done, record.new, record.ranges) == (True, 300, ((1, 128), (130, 301)))
        assert undo_import(bank, record) == 300
        assert texts(bank) == ["Told in between."]


def test_another_export_of_the_same_name_is_another_import(tmp_path: Path) -> None:
    mine = export(tmp_path / "conversations.json", *(f"canoe {n}" for n in range(130)))
    (tmp_path / "other").mkdir()
    other = export(tmp_path / "other" / "conversations.json", "A kayak.", key="k2")

    def broken_off(label: str, done: int, total: int) -> None:
        if label == LABEL:
            raise KeyboardInterrupt

    with open_bank(tmp_path / "bank") as bank:
        with pytest.raises(KeyboardInterrupt):
            import_history(bank, str(mine), progress=broken_off)
        import_history(bank, str(other))
        assert [(record.done, record.new) for record in import_records(bank)] == [(False, 64), (True, 1)]
        import_history(bank, str(mine))
        assert [(record.done, record.new) for record in import_records(bank)] == [(True, 130), (True, 1)]
        assert undo_import(bank, import_record(bank, 1)) == 130
        assert texts(bank) == ["A kayak."]


WHOLE = {
    "id": 1, "when": 5.0, "file": "a.json", "kinds": ["chatgpt"], "namespace": None, "new": 1, "known": 0,
    "ranges": [[1, 1]], "done": True, "ended": 6.0,
}  # fmt: skip


@pytest.mark.parametrize(
    "value",
    ["x", 5, [1], {"id": 1}, {"ranges": [[1]]}, None, WHOLE | {"new": "x"}, WHOLE | {"when": []}, WHOLE | {"kinds": 5}],
)
def test_records_that_are_none_are_passed_over(tmp_path: Path, value: object) -> None:
    with open_bank(tmp_path / "bank") as bank:
        bank.store.registry.set_meta("imports", {"ids": [1, "x"], "last": "x"})
        bank.store.registry.set_meta("imports-1", value)
        assert import_records(bank) == []
        outcome, _ = import_history(bank, str(export(tmp_path / "a.json", "one")))
        assert outcome.record in import_records(bank)
        bank.store.registry.set_meta("imports", value)
        assert isinstance(import_records(bank), list)
