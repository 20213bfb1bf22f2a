"""However many are forgotten at once: the replies that only repeat one of them are found."""

from __future__ import annotations

from pathlib import Path

from support.banks import numbered, open_bank

from membank_llama.memory.bank_editing import SEARCHED_FOR

NOW = 1_700_000_000.0


def test_replies_that_repeat_one_of_many_are_found_too(tmp_path: Path) -> None:
    with open_bank(tmp_path / "bank") as bank:
        sailboat = "I bought a sailboat, she is called Nordlys."
        ids = [entry.memory_id for entry in bank.ingest_many([*numbered(SEARCHED_FOR), sailboat])]
        turns = [
            ("user", "What is my sailboat called?"),
            ("assistant", "Your sailboat is called Nordlys."),
            ("user", "And what do violins want?"),
            ("assistant", "Violins want moist air, and no sun at all."),
        ]
        _, again, *_ = [
            bank.ingest(text, role=role, conversation="c", created_at=NOW + n).memory_id
            for n, (role, text) in enumerate(turns)
        ]
        bank.ingest("Your sailboat is called Nordlys, as I said.", namespace="other", role="assistant")
        for some in (ids, ids[-1:], [*ids, ids[-1]]):
            assert [memory.id for memory in bank.repeats(some)] == [again]
        assert bank.repeats([*ids, again]) == []
        hidden = bank.hide([again], 1000)
        assert bank.repeats(ids) == []
        bank.undo(hidden.id)
        assert [memory.id for memory in bank.repeats(ids)] == [again]
