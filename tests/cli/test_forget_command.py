"""`membank forget`: shown and asked in a terminal, done as said in a script."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.banks import open_bank
from support.terminals import membank

from membank_llama.memory.bank import MemBank
from membank_llama.memory.bank_undo import Change
from membank_llama.memory.sharing.forwarded import FORWARDED
from membank_llama.memory.sharing.shared_bank import open_shared

needs_pty = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    path = tmp_path / "bank"
    with open_bank(path) as opened:
        opened.ingest_many([f"The lamp in room {n} is green." for n in range(1, 14)])
    return path


def count(path: Path) -> int:
    with MemBank(None, path, read_only=True) as opened:
        return opened.count()


def test_a_filter_without_a_terminal_wants_yes(bank: Path) -> None:
    refused = membank("forget", "--before", "0s", "--bank", bank, stdin="y\n")
    assert refused.code == 2
    assert "13 memories" in refused.err and "--yes" in refused.err
    assert count(bank) == 13
    assert membank("forget", "--before", "0s", "--yes", "--bank", bank).code == 0
    assert count(bank) == 0


def test_ids_without_a_terminal_are_forgotten(bank: Path) -> None:
    done = membank("forget", 1, 2, "--bank", bank)
    assert done.code == 0 and "2 memories forgotten" in done.out
    assert count(bank) == 11


def test_an_id_of_another_namespace_is_not_forgotten(bank: Path) -> None:
    for words in (["forget", 1, "--namespace", "work"], ["--namespace", "work", "forget", 1, "--yes"]):
        refused = membank(*words, MEMBANK_BANK=str(bank))
        assert refused.code == 1 and "there is no memory 1 " in refused.err
    assert count(bank) == 13
    assert membank("forget", 1, "--namespace", "default", "--bank", bank).code == 0
    assert count(bank) == 12


@needs_pty
@pytest.mark.parametrize(
    ("what", "piped"), [(["--before", "0s"], True), ([str(n) for n in range(1, 14)], False)], ids=["filter", "ids"]
)
def test_a_person_sees_what_goes_and_is_asked(bank: Path, what: list[str], piped: bool) -> None:
    from support.pty_runs import in_terminal

    command = ("forget", *what, "--bank", bank)
    seen = in_terminal(*command, waits_for="[y/N]", typed="n\n", piped=piped)
    assert seen.code == 1
    assert "The lamp in room 10 is green." in seen.screen and "The lamp in room 11" not in seen.screen
    assert "and 3 more" in seen.screen
    assert "Forget 13 memories for good?" in seen.screen
    assert "nothing was forgotten" in seen.screen
    assert seen.piped == ""
    # the cursor stands behind the question
    assert "\x1b[?25l" not in seen.screen
    assert count(bank) == 13
    if piped:
        # what is agreed upon is brought back by Ctrl-C, also where standard output goes elsewhere
        seen = in_terminal(
            *command, waits_for="[y/N]", typed="y\n", then=[("Ctrl-C brings it back", "\x03")], piped=True
        )
        assert seen.code == 0 and "13 memories brought back" in seen.piped and "Traceback" not in seen.screen
        assert count(bank) == 13
    else:
        seen = in_terminal(*command, waits_for="[y/N]", typed="y\n")
        assert seen.code == 0 and "13 memories forgotten" in seen.screen, seen
        assert count(bank) == 0
    with open_bank(bank) as opened:
        assert opened.changes() == []


@needs_pty
def test_nothing_is_asked_with_yes_and_ctrl_d_is_no(bank: Path) -> None:
    from support.pty_runs import in_terminal

    for typed in ("\x04", "\x03"):
        seen = in_terminal("forget", "1", "--bank", bank, waits_for="[y/N]", typed=typed)
        assert seen.code == 1 and "nothing was forgotten" in seen.screen and "Traceback" not in seen.screen
    seen = in_terminal("forget", "1", "--yes", "--bank", bank)
    assert seen.code == 0 and "[y/N]" not in seen.screen
    assert count(bank) == 12


@needs_pty
def test_what_went_with_the_process_that_held_the_bank_is_not_said_to_be_back(
    bank: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from support.pty_runs import in_terminal

    def hide(held: MemBank, ids: list[int], seconds: float) -> Change:
        """And close at once, as far as what is hidden can tell."""
        change = MemBank.hide(held, ids, seconds)
        assert held.finish_hidden(all_of_it=True) == 1
        return change

    monkeypatch.setitem(FORWARDED, "hide", hide)  # type: ignore[arg-type]
    with open_shared(None, bank):
        seen = in_terminal(
            "forget", "1", "--bank", bank, waits_for="[y/N]", typed="y\n", then=[("Ctrl-C brings it back", "\x03")]
        )
    assert "too late" in seen.screen and "1 memory forgotten" in seen.screen, seen
    assert count(bank) == 12
