"""An import into a bank that another process holds, and taking it away again."""

from __future__ import annotations

from pathlib import Path

from support.banks import open_bank

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.memory.imports.import_records import import_record, import_records, undo_import
from membank_llama.memory.imports.import_run import import_history
from membank_llama.memory.sharing.shared_bank import SharedBank, open_shared


def test_what_is_imported_beside_the_holder_is_undone_beside_it(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "2024-05-01.md").write_text("The canoe is green.\n", encoding="utf-8")
    (notes / "2024-05-02.md").write_text("The kayak is blue.\n", encoding="utf-8")
    path = tmp_path / "bank"
    with open_bank(path) as bank:
        bank.ingest("The raft is red.")
    with open_shared(MockAdapter(64), path) as holder, open_shared(MockAdapter(64), path) as beside:
        assert isinstance(beside, SharedBank) and not beside.holds
        outcome, _ = import_history(beside, str(notes))
        assert outcome.new == 2 and outcome.record is not None
        assert [record.id for record in import_records(holder)] == [outcome.record.id]
        again, _ = import_history(beside, str(notes))
        assert (again.new, again.known) == (0, 2)
        assert undo_import(beside, import_record(beside)) == 2
        assert {memory.text for memory in holder.memories()} == {"The raft is red."}
        assert import_records(holder) == []
