"""What was typed in a chat loses what is forgotten, whoever forgets it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from prompt_toolkit.history import FileHistory
from support.banks import files_with, open_bank

from membank_llama.cli.last_recall import history_file, load_recall, save_recall
from membank_llama.core.errors import BankStorageError
from membank_llama.memory.namespace_memories import NamespaceMemories
from membank_llama.store.bank_files import HISTORY, LAST_RECALL

TYPED = (
    "My code is 4719.", "/correct 3 my  CODE is 4719.", "My code is\n4719.", "/quit", "no code here", "ok", "a book",
)  # fmt: skip


def typed(bank: Path) -> list[str]:
    return list(FileHistory(str(bank / HISTORY)).load_history_strings())[::-1]


def test_lines_that_hold_what_is_forgotten_go_with_it(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        path = history_file(tmp_path)
        for entry in TYPED:
            FileHistory(str(path)).store_string(entry)
        save_recall(tmp_path, "What else is there?", [], tokens=None, recall_ms=0.0, program="test")
        code, short, other = (bank.ingest(text).memory_id for text in ("My code is 4719.", "ok", "Something else."))
        before = path.read_bytes()
        bank.forget(other)
        assert path.read_bytes() == before and load_recall(tmp_path) is None
        save_recall(tmp_path, "What opens it?", [], tokens=None, recall_ms=0.0, program="test")
        # as a page, an agent and a program do
        NamespaceMemories(bank, "default").forget([code, short])
        assert path.read_bytes() == before and load_recall(tmp_path) is not None
        bank.finish_hidden(all_of_it=True)
        assert typed(tmp_path) == ["/quit", "no code here", "a book"]
        assert not (tmp_path / LAST_RECALL).exists()
        assert os.name != "posix" or path.stat().st_mode & 0o777 == 0o600
        FileHistory(str(path)).store_string("and it goes on")
        assert typed(tmp_path)[-1] == "and it goes on"
    assert files_with(tmp_path, b"4719") == []


def test_nothing_is_forgotten_where_a_line_would_stay(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        told = bank.ingest("My code is 4719.").memory_id
        (tmp_path / HISTORY).mkdir()
        with pytest.raises(BankStorageError, match="nothing was forgotten"):
            bank.forget(told)
        assert bank.get(told).text == "My code is 4719."


def test_without_a_history_there_is_nothing_to_do(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        assert bank.forget(bank.ingest("My code is 4719.").memory_id) == 1
        assert not (tmp_path / HISTORY).exists()
