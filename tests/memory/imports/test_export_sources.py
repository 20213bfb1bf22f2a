"""Files, directories, archives and encodings an import may come in; what is passed over is named."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path

import pytest
from support.exports import claude_chat, claude_message, gpt_chat, gpt_message, ollama_database

from membank_llama.core.errors import InvalidInputError, InvalidTextError
from membank_llama.memory.imports import export_archive
from membank_llama.memory.imports.export_sources import find_exports
from membank_llama.memory.imports.import_plan import read_place
from membank_llama.memory.imports.import_report import ImportReport
from membank_llama.memory.memory_files import NOT_READABLE, read_items

CHATGPT = json.dumps([gpt_chat([gpt_message("user", "My canoe is green. ☂")])], ensure_ascii=False)
CLAUDE = json.dumps([claude_chat([claude_message("human", "My kayak is red.")])])


def read(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    report = ImportReport()
    exports = list(find_exports(str(path), report))
    texts = [message.text for export in exports for chat in export.conversations for message in chat.messages]
    texts += [memory.text for export in exports for memory in export.memories]
    return texts, {reason: one.examples for reason, one in report.left_out.items()}


def zipped(path: Path, **files: str | bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/").replace("_json", ".json"), data)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "conversations.json"
    mark = "\ufeff" if encoding.endswith("e") else ""
    path.write_bytes((mark + CHATGPT).encode(encoding))
    assert read(path)[0] == ["My canoe is green. ☂"]


def test_utf_16_without_a_mark_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes("My canoe is green.".encode("utf-16-le"))
    with pytest.raises(InvalidTextError, match="UTF-16LE without the mark"):
        read(tmp_path / "a.md")
    _, left_out = read(tmp_path)
    assert left_out == {"files that are UTF-16LE without the mark that says so, as far as can be told": ["a.md"]}


def test_the_zip_of_an_export(tmp_path: Path) -> None:
    path = zipped(
        tmp_path / "export.zip",
        export__conversations_json=CHATGPT,
        export__user_json='{"email": "x"}',
        **{"export/file-1.png": b"\0", "__MACOSX/._conversations.json": b"\0", "chat.html": "<html>"},
    )
    texts, left_out = read(path)
    assert texts == ["My canoe is green. ☂"]
    assert left_out["files of no program that is known"] == ["export.zip/export/user.json"]
    assert len(left_out[export_archive.ATTACHED]) == 3


def test_split_exports_in_a_zip_and_in_a_directory(tmp_path: Path) -> None:
    parts = {
        f"conversations-00{n}.json": json.dumps([gpt_chat([gpt_message("user", f"Canoe {n}.")], key=str(n))])
        for n in range(3)
    }
    for name, text in parts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert read(tmp_path)[0] == ["Canoe 0.", "Canoe 1.", "Canoe 2."]
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    assert read(path)[0] == ["Canoe 0.", "Canoe 1.", "Canoe 2."]


def test_a_bomb_is_refused_however_it_lies_about_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_archive, "FREE_BYTES", 1 << 16)
    path = zipped(tmp_path / "bomb.zip", conversations_json=b"[" + b" " * (64 << 20) + b"]")
    with pytest.raises(InvalidInputError, match=r"conversations\.json unpacks to more than"):
        read(path)
    _, left_out = read(tmp_path)
    assert "bomb.zip" in left_out["files that cannot be read"][0]


def test_an_archive_of_more_than_fits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_archive, "MOST_BYTES", len(CHATGPT) + 10)
    with pytest.raises(InvalidInputError, match="unpacks to more than"):
        read(zipped(tmp_path / "a.zip", a_json=CHATGPT, b_json=CHATGPT))
    monkeypatch.setattr(export_archive, "MOST_MEMBERS", 1)
    with pytest.raises(InvalidInputError, match="more than any export"):
        read(tmp_path / "a.zip")


def test_archives_that_are_damaged_or_no_export(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "a.zip", conversations_json=CHATGPT * 50).read_bytes()
    (tmp_path / "a.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read(tmp_path / "a.zip")
    zipped(tmp_path / "a.zip", word__document_json="{}")
    with pytest.raises(InvalidInputError, match="cannot tell what"):
        read(tmp_path / "a.zip")


def test_a_directory_names_what_it_passes_over(tmp_path: Path) -> None:
    (tmp_path / "claude").mkdir()
    (tmp_path / "claude" / "anything.txt").write_text(CLAUDE, encoding="utf-8")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".hidden").write_text("x", encoding="utf-8")
    (tmp_path / "model.gguf").write_bytes(b"GGUF\0\0")
    (tmp_path / "program.py").write_text("print()", encoding="utf-8")
    (tmp_path / "settings.json").write_text('{"a": 1}', encoding="utf-8")
    (tmp_path / "latin.md").write_bytes(b"caf\xe9")
    if sys.platform != "win32":
        (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "other.sqlite").write_bytes(ollama_database(tmp_path / "db.sqlite").read_bytes()[:100])
    texts, left_out = read(tmp_path)
    assert texts == ["My kayak is red.", "My canoe is green.", "A green canoe it is."]
    named = {name for names in left_out.values() for name in names}
    assert {".git/", ".hidden", "model.gguf", "program.py", "settings.json", "latin.md"} <= named
    assert "gone" in named or sys.platform == "win32"
    assert left_out["files that are hidden"] == [".git/", ".hidden"]


def out_of_reach(path: Path) -> None:
    """A file that nobody can read, root neither."""
    memory = Path("/proc/self/mem")
    if memory.exists():
        path.symlink_to(memory)
    else:
        path.write_text("x", encoding="utf-8")
        path.chmod(0)


@pytest.mark.skipif(sys.platform == "win32", reason="modes are none there")
def test_files_out_of_reach_stop_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.md", "b.json", "c.jsonl", "history", "locked/d.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        out_of_reach(tmp_path / name)
    (tmp_path / "z.md").write_text("My canoe is green.", encoding="utf-8")
    scan = os.scandir

    def refused(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    texts, left_out = read(tmp_path)
    assert texts == ["My canoe is green."]
    assert left_out == {"files that are not readable": ["locked/", "a.md", "b.json"]}
    passed: list[tuple[str, str]] = []
    (item,) = read_items(tmp_path, passed_over=lambda *told: passed.append(told))
    assert item.text == "My canoe is green."
    assert {name for name, why in passed if why == NOT_READABLE} == {"locked/", "a.md", "b.json", "c.jsonl", "history"}
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read(tmp_path / "locked")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_a_name_in_no_encoding_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9 2021-01-02.md")
    path.write_text("My canoe is green.", encoding="utf-8")
    for where in (tmp_path, path):
        findings = read_place(str(where))
        ((memory,),) = (one.memories for one in findings.exports)
        (item,) = read_items(where)
        assert memory.source == item.source == "caf\ufffd 2021-01-02.md"
        json.dumps(asdict(memory), ensure_ascii=False).encode()
        findings.file.encode()


@pytest.mark.parametrize("text", [f"{CHATGPT[:-9]}", json.dumps(json.loads(CHATGPT), indent=1)[:-9], CHATGPT[1:-9]])
def test_a_document_that_breaks_off_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "conversations.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"breaks off or is damaged \(.*line \d+"):
        read(path)
    assert read(tmp_path) == ([], {"files of JSON that break off or are damaged": ["conversations.json"]})
    archive = zipped(tmp_path / "a.zip", conversations_json=text)
    with pytest.raises(InvalidInputError, match=r"a\.zip/conversations\.json breaks off"):
        read(archive)
    zipped(archive, conversations_json=text, more_json=CLAUDE)
    assert read(archive)[1] == {"files of JSON that break off or are damaged": ["a.zip/conversations.json"]}


def test_an_empty_file_and_utf_16_without_a_mark_say_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"")
    (tmp_path / "b.json").write_bytes(CHATGPT.encode("utf-16-le"))
    with pytest.raises(InvalidInputError, match="is empty"):
        read(tmp_path / "a.json")
    with pytest.raises(InvalidInputError, match="is UTF-16LE without the mark"):
        read(tmp_path / "b.json")
    assert set(read(tmp_path)[1]) == {
        "files that are empty", "files that are UTF-16LE without the mark that says so, as far as can be told"
    }  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="a file there has all the bytes that it is long")
def test_a_directory_of_a_model_store_is_not_read_through(tmp_path: Path) -> None:
    (tmp_path / "history").write_text("My canoe is green.\n", encoding="utf-8")
    blob = tmp_path / "models" / "blobs" / "sha256-0"
    blob.parent.mkdir(parents=True)
    with blob.open("wb") as file:
        file.write(b"GGUF\0")
        os.truncate(file.fileno(), 1 << 40)
    assert read(tmp_path)[0] == ["My canoe is green."]


@pytest.mark.parametrize("text", ["plain", "[1, 2", '{"a": 1}', "[]", "[" * 100_000])
def test_one_file_that_is_nothing_known_says_what_is(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.log").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"cannot tell what|not JSON|is missing"):
        read(tmp_path / "a.log")


def test_lines_of_conversations(tmp_path: Path) -> None:
    chats = [claude_chat([claude_message("human", f"Canoe {n}.")], uuid=str(n)) for n in range(2)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, chats)) + "\n", encoding="utf-8")
    assert read(tmp_path / "a.jsonl")[0] == ["Canoe 0.", "Canoe 1."]


def test_a_bad_line_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"text": 5}\n', encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"a\.jsonl, line 2"):
        read(tmp_path)


def test_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def given(data: bytes) -> list[str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        return read(Path("-"))[0]

    assert given(CHATGPT.encode()) == ["My canoe is green. ☂"]
    assert given(zipped(tmp_path / "a.zip", a_json=CLAUDE).read_bytes()) == ["My kayak is red."]
    assert given(b'{"text": "a line"}\n') == ["a line"]
    with pytest.raises(InvalidInputError, match="standard input breaks off"):
        given(CHATGPT.encode()[:-9])
