"""`membank import` and `ingest` on what other programs exported, as a person types them."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.banks import files_with, open_bank, wait_for
from support.exports import BEGAN, claude_chat, claude_message, gpt_chat, gpt_message
from support.terminals import Membank, environment, membank

from membank_llama.cli import terminal
from membank_llama.core.errors import BankError
from membank_llama.memory.bank import MemBank

PICTURE = {"content_type": "image_asset_pointer"}


@pytest.fixture
def mb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Membank:
    return Membank(tmp_path / "bank", capsys)


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    path = tmp_path / "conversations.json"
    said = [
        gpt_message("system", "Be kind."),
        gpt_message("user", "My canoe is green.", PICTURE, at=BEGAN + 1),
        gpt_message("assistant", "A green canoe it is.", at=BEGAN + 2),
        gpt_message("user", "My sister sails.", at=BEGAN + 86400 * 40),
    ]
    path.write_text(json.dumps([gpt_chat(said, title="Boats [bold]")]), encoding="utf-8")
    return path


def memories(bank: Path) -> list[tuple[str, str]]:
    with MemBank(None, bank, read_only=True) as opened:
        return [(memory.role, memory.text) for memory in opened.memories()]


def test_preview_import_list_and_undo(mb: Membank, chats: Path, recall_tiny: Path) -> None:
    shown = mb("import", chats, "--dry-run")
    assert shown.code == 0
    assert shown.out.splitlines()[1].split() == ["ChatGPT", "1", "3", "2024-12-24", "2025-02-02"]
    assert "images, files and sound" in shown.out
    assert "Boats [bold]" in shown.out
    assert "3 memories would be new; nothing was stored" in shown.out
    assert not mb.bank.exists()

    done = mb("import", chats, "--model", recall_tiny, "--threads", 1)
    assert "3 memories imported in" in done.out
    assert "left out 1 × instructions of the program: Boats [bold]" in done.err
    assert "membank import --undo 1" in done.err
    assert memories(mb.bank)[0] == ("user", "My canoe is green.")

    again = mb("import", chats, "--threads", 1)
    assert "0 memories imported, 3 known already" in again.out
    assert "--undo" not in again.err
    assert "0 memories would be new, 3 known already" in mb("import", chats, "--dry-run").out

    listed = mb("import", "--list")
    assert "conversations.json" in listed.out
    assert json.loads(mb("import", "--list", "--json").out)[0]["new"] == 3

    undone = mb("import", "--undo", "1")
    assert undone.code == 0, undone.err
    assert "import 1 undone: 3 memories forgotten" in undone.out
    assert memories(mb.bank) == []
    assert files_with(mb.bank, b"canoe") == []
    assert mb("import", "--undo").code == 2
    assert "nothing was imported" in mb("import", "--list").err


def test_undo_asks_in_a_terminal(mb: Membank, chats: Path, recall_tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert mb("import", chats, "--model", recall_tiny, "--threads", 1).code == 0
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    monkeypatch.setattr(terminal.err, "_force_terminal", True)
    asked = mb("import", "--undo")
    assert asked.code == 1
    told = asked.err.replace("\n", " ")
    assert "Forget 3 memories for good, which came from conversations.json?" in told
    assert "nothing was forgotten" in told
    assert len(memories(mb.bank)) == 3
    assert mb("import", "--undo", "--yes").code == 0
    assert memories(mb.bank) == []


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ((), "name what to import"),
        (("--undo", "canoe"), "--undo takes the id of an import"),
        (("missing.json",), "nothing was imported"),
        (("missing.json", "--dry-run"), "nothing was imported"),
    ],
)
def test_what_cannot_be_done_says_so(
    mb: Membank, chats: Path, recall_tiny: Path, arguments: tuple[str, ...], advice: str
) -> None:
    done = mb("import", *arguments)
    assert done.code == 2
    assert advice in done.err


def test_json(mb: Membank, chats: Path, recall_tiny: Path) -> None:
    shown = json.loads(mb("import", chats, "--dry-run", "--json").out)
    assert (shown["new"], shown["known"]) == (3, 0)
    (kind,) = shown["kinds"]
    assert (kind["kind"], kind["conversations"], kind["messages"]) == ("chatgpt", 1, 3)
    assert kind["first"] == BEGAN
    assert {"reason": "images, files and sound", "count": 1, "examples": ["Boats [bold]"]} in shown["left_out"]
    done = json.loads(mb("import", chats, "--model", recall_tiny, "--threads", 1, "--json").out)
    assert (done["new"], done["known"], done["import"]) == (3, 0, 1)
    undone = json.loads(mb("import", "--undo", "--yes", "--json").out)
    assert undone == {"undone": 1, "forgotten": 3, "kept": 0}


def test_ingest_takes_exports_as_import_does(mb: Membank, chats: Path, recall_tiny: Path) -> None:
    done = mb("ingest", chats, "--model", recall_tiny, "--threads", 1, "--source", "old laptop")
    assert "3 memories new" in done.out
    assert "left out 1 × instructions of the program" in done.err
    with MemBank(None, mb.bank, read_only=True) as bank:
        first = next(bank.memories())
        assert (first.text, first.conversation, first.source) == ("My canoe is green.", "Boats [bold]", "old laptop")
        assert first.created_at == BEGAN + 1
    assert "3 memories forgotten" in mb("import", "--undo").out


def test_ingest_of_a_directory_with_everything_in_it(mb: Membank, tmp_path: Path, recall_tiny: Path) -> None:
    root = tmp_path / "home"
    root.mkdir()
    exported = [claude_chat([claude_message("human", "My kayak is red.")])]
    (root / "data.json").write_text(json.dumps(exported), encoding="utf-16")
    (root / "settings.json").write_text('{"colour": "blue"}', encoding="utf-8")
    (root / "lines.jsonl").write_text(
        '{"text": "A line.", "created_at": 1758344479729}\n{"text": "B.", "created_at": 1758344479729000000}\n',
        encoding="utf-16",
    )
    (root / "notes.md").write_text("Paddles are of ash.", encoding="utf-32")
    (root / "latin.txt").write_bytes(b"caf\xe9")
    for n in range(7):
        (root / f"picture{n}.png").write_bytes(b"\0\1\2")
    (root / ".secret").write_text("x", encoding="utf-8")
    done = mb("ingest", root, "--model", recall_tiny, "--threads", 1)
    assert done.code == 0, done.err
    said = [text for _, text in memories(mb.bank)]
    assert said == ["A line.", "B.", "Paddles are of ash.", '{"colour": "blue"}', "My kayak is red."]
    assert "passed over, hidden: .secret" in done.err
    assert "passed over, not UTF-8: latin.txt" in done.err
    assert "passed over, not a text file: picture0.png, picture1.png" in done.err
    assert "and 2 more" in done.err
    with MemBank(None, mb.bank, read_only=True) as bank:
        assert [memory.created_at for memory in bank.memories()][:2] == pytest.approx([1758344479.729] * 2)
    again = json.loads(mb("ingest", root, "--threads", 1, "--json").out)
    assert (again["new"], again["known"]) == (0, 5)
    assert {"path": "latin.txt", "reason": "not UTF-8"} in again["passed_over"]


def test_ingest_of_an_export_from_a_pipe(tmp_path: Path, chats: Path, recall_tiny: Path) -> None:
    given = ("--bank", tmp_path / "bank", "ingest", "-", "--model", recall_tiny, "--threads", 1)
    done = membank(*given, stdin=chats.read_bytes())
    assert "3 memories new" in done.out, done.err


@pytest.mark.parametrize("created", ["57689000000000000000000", '"57689-01-01"', "-1e25", '"0000-01-01"'])
def test_a_line_of_no_year_is_refused_by_name(mb: Membank, tmp_path: Path, created: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"text": "good"}}\n{{"text": "x", "created_at": {created}}}\n', "utf-8")
    for command in ("ingest", "import"):
        done = mb(command, tmp_path / "a.jsonl", "--threads", 1)
        assert done.code == 2
        assert "line 2" in done.err
        assert "created_at" in done.err
        assert not mb.bank.exists()


def test_an_export_of_a_bank_is_imported_whole(mb: Membank, tmp_path: Path, recall_tiny: Path) -> None:
    with open_bank(tmp_path / "old") as bank:
        bank.ingest("Far ahead.", created_at=2.5e10, expires_at=2.5e11, pinned=True)
    exported = membank("--bank", tmp_path / "old", "export", "-").out
    (tmp_path / "all.jsonl").write_text(exported, encoding="utf-8")
    assert mb("import", tmp_path / "all.jsonl", "--model", recall_tiny, "--threads", 1).code == 0
    again = json.loads(membank("--bank", mb.bank, "export", "-").out)
    assert again == json.loads(exported)


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent in another way there")
def test_an_import_that_is_broken_off_says_how_to_go_on(mb: Membank, tmp_path: Path, recall_tiny: Path) -> None:
    said = [gpt_message("user", f"Canoe number {n} is green.", at=BEGAN + n) for n in range(4000)]
    (tmp_path / "a.json").write_text(json.dumps([gpt_chat(said)]), encoding="utf-8")
    arguments = ("--bank", mb.bank, "import", tmp_path / "a.json", "--model", recall_tiny, "--threads", "1")
    process = subprocess.Popen(
        [sys.executable, "-m", "membank_llama", *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    wait_for(lambda: _has_begun(mb.bank), 60)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on with it" in told
    assert "Traceback" not in told
    assert "broken off" in mb("import", "--list").out
    assert 0 < len(memories(mb.bank)) < 4000
    assert mb("import", "--undo").code == 0
    assert memories(mb.bank) == []


def _has_begun(bank: Path) -> bool:
    with contextlib.suppress(BankError):
        return len(memories(bank)) > 0
    return False
