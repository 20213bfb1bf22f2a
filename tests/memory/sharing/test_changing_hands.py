"""What becomes of a bank, and of what was forgotten in it, where the process that holds it is another one now."""

from __future__ import annotations

from pathlib import Path

from support.banks import DIM, FACTS, open_bank, python

from membank_llama import MockAdapter, open_shared
from membank_llama.memory.sharing.shared_bank import SharedBank

MADE_WAY = """
    import sys
    from support.banks import DIM
    from membank_llama import MockAdapter, open_shared
    with open_shared(MockAdapter(hidden_dim=DIM), sys.argv[1]) as bank:
        bank.ingest(sys.argv[2])
        print("open", flush=True)
        sys.stdin.readline()
"""


def shared(path: Path, **options: bool) -> SharedBank:
    bank = open_shared(MockAdapter(hidden_dim=DIM), path, **options)
    assert isinstance(bank, SharedBank)
    return bank


def test_a_chat_that_made_way_and_ends_takes_nothing_of_the_server_along(tmp_path: Path) -> None:
    """It still has the database open for writing, and must not take itself for the last when something was forgotten
    by the server meanwhile."""
    with python(MADE_WAY, tmp_path, FACTS[0]) as chat:
        assert chat.stdout is not None
        assert chat.stdout.readline() == "open\n"
        with shared(tmp_path, join=False) as server:
            server.ingest(FACTS[1])
            server.forget(1)
            _, err = chat.communicate("\n")
            assert (chat.returncode, err) == (0, "")
            server.ingest(FACTS[2])
            with open_bank(tmp_path, read_only=True) as reader:
                assert sorted(memory.text for memory in reader.memories()) == sorted(FACTS[1:3])
