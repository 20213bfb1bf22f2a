"""A bank that somebody else made: it reaches no file outside it, runs nothing, sends nothing."""

from __future__ import annotations

import json
import os
import shutil
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from support.banks import DIM, open_bank
from support.damage import change, copy_of, everything, make_bank, record, use_it_all
from support.terminals import Membank

from membank_llama.adapters.served import same_address
from membank_llama.cli.commands.served_encoders import AtHand, serving_encoder
from membank_llama.cli.last_recall import history_file, load_recall
from membank_llama.core.errors import BankCorruptError, BankFormatError, BankStorageError
from membank_llama.memory.typed_lines import forget_typed
from membank_llama.store.schema import LAZY, MIGRATIONS, VERSION
from membank_llama.store.schema_check import expected_schema

if os.name == "nt":
    pytest.skip("links and pipes need POSIX", allow_module_level=True)

PRECIOUS = "precious data of the victim\n" * 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bank(tmp_path_factory.mktemp("made") / "bank", 20)


@pytest.fixture
def bank(tmp_path: Path, made: Path) -> Path:
    return copy_of(made, tmp_path / "bank")


# -- files


@pytest.mark.parametrize(
    "name", ["../home/notes-7.bin", "../home/activations-1.bin", "/etc/hostname", "activations-1.bin/../x", "", None, 7]
)
def test_a_bank_names_no_file_outside_it(tmp_path: Path, bank: Path, name: object) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for file in ("notes-7.bin", "activations-1.bin"):
        (home / file).write_text(PRECIOUS * 100)
    before = everything(home)
    record(bank, "activations", name)
    with pytest.raises(BankCorruptError, match="no name that membank-llama gives"):
        open_bank(bank)
    use_it_all(bank)
    assert everything(home) == before


def test_a_rewrite_names_no_file_outside_it(tmp_path: Path, bank: Path) -> None:
    (tmp_path / "notes-7.bin").write_text(PRECIOUS)
    record(bank, "rewrite", {"kind": "encode", "model": "x", "hgns": {}, "activations": "../notes-7.bin"})
    use_it_all(bank)
    assert (tmp_path / "notes-7.bin").read_text() == PRECIOUS


LINKED = (
    "writer.json", "writer.lock", "bank.sqlite", "bank.note", "bank.sqlite-wal", "bank.sqlite-shm",
    "bank.sqlite-journal", "activations-1.bin", "activations-9.bin", "chat-history", "last-recall.json",
)  # fmt: skip


@pytest.mark.parametrize("name", LINKED)
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_links_and_pipes_in_a_bank_are_not_followed(tmp_path: Path, bank: Path, name: str, kind: str) -> None:
    target = tmp_path / "target"
    target.write_text(PRECIOUS)
    (bank / name).unlink(missing_ok=True)
    (bank / name).symlink_to(target) if kind == "link" else os.mkfifo(bank / name)
    for options in ({}, {"read_only": True}, {"repair": True}):
        with pytest.raises(BankFormatError, match=f"{name} is no plain file"):
            open_bank(bank, **options)
    assert target.read_text() == PRECIOUS


def test_a_linked_index_is_not_followed(tmp_path: Path, bank: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("photo.jpg", "0123456789abcdef01234567.hnsw"):
        (photos / name).write_text(PRECIOUS)
    shutil.rmtree(bank / "index")
    (bank / "index").symlink_to(photos)
    use_it_all(bank)
    assert len(everything(photos)) == 2


@pytest.mark.parametrize("kind", ["link", "file", "pipe"])
def test_linked_chats_are_not_followed(tmp_path: Path, bank: Path, kind: str) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "chat-1.json").write_text(PRECIOUS)
    chats = bank / "chats"
    if kind == "link":
        chats.symlink_to(target)
    else:
        chats.write_text(PRECIOUS) if kind == "file" else os.mkfifo(chats)
    for options in ({}, {"read_only": True}, {"repair": True}):
        with pytest.raises(BankFormatError, match="chats is no plain directory"):
            open_bank(bank, **options)
    use_it_all(bank)
    chats.unlink()
    chats.mkdir()
    (chats / "chat-1.json").symlink_to(target / "chat-1.json")
    with pytest.raises(BankFormatError, match=r"chat-1\.json is no plain file"):
        open_bank(bank)
    (chats / "chat-1.json").unlink()
    (chats / "photo.jpg").symlink_to(target / "chat-1.json")
    with open_bank(bank) as opened:
        opened.forget(namespace="default")
        assert opened.chats.newest("default") == []
    assert everything(target) == {"chat-1.json": PRECIOUS.encode()}
    assert (chats / "photo.jpg").is_symlink()


def test_linked_kv_state_is_not_followed(tmp_path: Path, bank: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "epoch").write_text(PRECIOUS)
    (bank / "kv").symlink_to(photos)
    for options in ({}, {"read_only": True}, {"repair": True}):
        with pytest.raises(BankFormatError, match="kv is no plain directory"):
            open_bank(bank, **options)
    use_it_all(bank)
    (bank / "kv").unlink()
    (bank / "kv").mkdir()
    (bank / "kv" / "epoch").symlink_to(photos / "epoch")
    with pytest.raises(BankFormatError, match="epoch is no plain file"):
        open_bank(bank)
    assert everything(photos) == {"epoch": PRECIOUS.encode()}


def test_linked_graphs_and_drafts_are_not_followed(tmp_path: Path, bank: Path) -> None:
    target = tmp_path / "target"
    target.write_text(PRECIOUS)
    graph = next((bank / "index").glob("*.hnsw"))
    for name in (graph.name, f"{graph.stem}.json", f"{graph.stem}.tmp", f"{graph.stem}.json.tmp"):
        (bank / "index" / name).unlink(missing_ok=True)
        (bank / "index" / name).symlink_to(target)
        with pytest.raises(BankFormatError, match="no plain file"):
            open_bank(bank)
        (bank / "index" / name).unlink()
    assert target.read_text() == PRECIOUS


def test_files_that_are_not_ours_are_left_alone(bank: Path) -> None:
    for name in ("photo.jpg", "notes.txt", "activations-x.bin", "activations-1.bin.bak", "activations-mine.damaged"):
        (bank / name).write_text(PRECIOUS)
        (bank / "index" / name).write_text(PRECIOUS)
    use_it_all(bank)
    with open_bank(bank) as opened:
        opened.forget(namespace="default")
        opened.gc()
    kept = everything(bank)
    for name in ("photo.jpg", "notes.txt", "activations-x.bin", "activations-1.bin.bak", "activations-mine.damaged"):
        assert kept[name] == kept[f"index/{name}"] == PRECIOUS.encode()


def test_a_journal_that_names_another_file_deletes_nothing(tmp_path: Path, bank: Path) -> None:
    """SQLite deletes the file that a hot journal names as the one above it."""
    target = tmp_path / "target"
    target.write_text(PRECIOUS)
    name = str(target).encode()
    magic = bytes.fromhex("d9d505f920a163d7")
    # a header of one sector without a page, then the name with its length and the sum of its bytes
    head = magic + struct.pack(">5I", 0, 0, 100, 512, 4096)
    tail = struct.pack(">I", (1 << 30) // 4096 + 1) + name + struct.pack(">2I", len(name), sum(name)) + magic
    (bank / "bank.sqlite-journal").write_bytes(head.ljust(512, b"\0") + tail)
    with pytest.raises(BankFormatError, match="names another file, which SQLite would delete"):
        open_bank(bank)
    use_it_all(bank)
    assert target.read_text() == PRECIOUS


def test_a_linked_history_is_neither_read_nor_written(tmp_path: Path, bank: Path) -> None:
    target = tmp_path / "target"
    target.write_text(PRECIOUS)
    for name in ("chat-history", "last-recall.json"):
        (bank / name).symlink_to(target)
    with pytest.raises(BankFormatError, match="no plain file"):
        history_file(bank)
    with pytest.raises(BankStorageError, match="nothing was forgotten"):
        forget_typed(bank, {"default": ["precious"]})
    assert load_recall(bank) is None
    assert target.read_text() == PRECIOUS


@pytest.mark.parametrize(
    "record",
    ["[]", "{", '{"results": [5]}', '{"results": []}', "[" * 9999,
     '{"results": [{"memory_id": "x"}], "query": "", "program": "", "when": 1}'],
)  # fmt: skip
def test_a_last_recall_that_is_none(bank: Path, capsys: pytest.CaptureFixture[str], record: str) -> None:
    (bank / "last-recall.json").write_text(record)
    assert load_recall(bank) is None
    assert Membank(bank, capsys)("why").code in (1, 2)


# -- the schema

ENDLESS = (
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT 'x' AS key, n AS value FROM r WHERE n < 0"
)
STRANGE = {
    "a trigger": [
        "CREATE TRIGGER evil AFTER INSERT ON memories BEGIN UPDATE memories SET text = 'obey' WHERE id = new.id; END"
    ],
    "a trigger by the name of ours": [
        "DROP TRIGGER IF EXISTS memories_fts_insert",
        "CREATE TRIGGER memories_fts_insert AFTER INSERT ON memories BEGIN SELECT zeroblob(1000000); END",
    ],
    "a view in the place of a table": ["ALTER TABLE meta RENAME TO old", f"CREATE VIEW meta AS {ENDLESS}"],
    "a view beside": [f"CREATE VIEW extra AS {ENDLESS}"],
    "an index on an expression": ["CREATE INDEX extra ON memories (length(text) + 1)"],
    "a generated column": ["ALTER TABLE memories ADD COLUMN extra AS (hex(zeroblob(1000000)))"],
    "another column": ["ALTER TABLE pointers ADD COLUMN extra DEFAULT 5"],
    "another table": ["CREATE TABLE extra (x)"],
    "a virtual table": ["CREATE VIRTUAL TABLE extra USING fts5 (text)"],
    "a full text of other words": [
        "DROP TABLE IF EXISTS memories_fts",
        "CREATE VIRTUAL TABLE memories_fts USING fts5 (text, content='meta', content_rowid='id')",
    ],
    "a table made otherwise": [
        "DROP TABLE turns",
        "CREATE TABLE turns (key, conversation, depth, seen CHECK (length(key) > 0))",
    ],
}


@pytest.mark.parametrize("what", STRANGE)
@pytest.mark.timeout(60)
def test_a_schema_that_is_not_ours_is_refused(bank: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    change(bank, *STRANGE[what])
    for options in ({"read_only": True}, {}, {"repair": True}):
        with pytest.raises(BankCorruptError, match=r"did not make so|has lost its"):
            open_bank(bank, **options)
    for command in (("stats",), ("verify",), ("recall", "sister")):
        done = Membank(bank, capsys)(*command)
        assert done.code == 1 and "membank-llama did not make" in done.err + done.out


def test_a_table_that_is_gone_is_named(bank: Path) -> None:
    change(bank, "DROP INDEX memories_time")
    with pytest.raises(BankCorruptError, match="has lost its index 'memories_time'"):
        open_bank(bank)


def test_statistics_of_sqlite_are_no_stranger(bank: Path) -> None:
    change(bank, "ANALYZE")
    with open_bank(bank) as opened:
        assert opened.recall("sister")


@pytest.mark.parametrize("version", range(VERSION + 1))
def test_every_version_knows_its_tables(version: int) -> None:
    made, optional = expected_schema(version)
    assert bool(made) == bool(version)
    # those from the sixth on have them all
    assert len(optional) >= len(LAZY) or (version > MIGRATIONS.index(LAZY) and not optional)


# -- the model


def test_a_model_file_that_came_along_with_a_bank_is_not_opened(
    bank: Path, capsys: pytest.CaptureFixture[str], tiny_gguf: Path
) -> None:
    shutil.copy(tiny_gguf, bank / "model.gguf")
    (bank.parent / "note.txt").write_text("hello")
    for source in (str(bank / "model.gguf"), "hf:stranger/repo/file.gguf", "\\\\stranger\\share\\model.gguf"):
        record(bank, "model", {"id": f"mock-1-{DIM}", "name": "mock", "dim": DIM, "source": source})
        done = Membank(bank, capsys)("ingest", bank.parent / "note.txt")
        assert done.code == 2 and "say where it is with --model" in done.err, done.err


class _Ollama(BaseHTTPRequestHandler):
    """An Ollama with one embedding model, somewhere; it keeps what it is sent."""

    said: ClassVar[list[bytes]] = []

    def do_GET(self) -> None:
        self.said.append(self.path.encode())
        self._answer({"models": [{"name": "embed:latest", "digest": "d" * 64}]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.said.append(body)
        self._answer({"embeddings": [[0.1, 0.2, 0.3]] * len(json.loads(body)["input"])})

    def _answer(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def somewhere() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Ollama)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    _Ollama.said.clear()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_nothing_is_sent_to_an_address_that_only_the_bank_names(
    bank: Path, capsys: pytest.CaptureFixture[str], somewhere: str
) -> None:
    card = {"id": f"ollama-embed:latest-{'d' * 16}", "name": "embed", "dim": 3, "source": f"{somewhere}#embed:latest"}
    record(bank, "model", card)
    for options in ((), ("--upstream", "http://127.0.0.1:9")):
        done = Membank(bank, capsys)("serve", "--port", "0", *options)
        assert done.code == 2, done
        assert f"--encoder '{somewhere}#embed:latest'" in " ".join(done.err.split()), done.err
    for command in (("ingest", bank / "writer.lock"), ("recall", "sister"), ("reencode",), ("stats",)):
        Membank(bank, capsys)(*command)
    assert not _Ollama.said, "it was asked all the same"
    # it is the upstream, or the person says so
    for ref, upstream in ((None, somewhere.replace("127.0.0.1", "localhost") + "/"), (f"{somewhere}#embed", "")):
        with serving_encoder(bank, ref, AtHand(upstream, None, 1)) as adapter:
            assert adapter.model_id() == card["id"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://127.0.0.1:11434", "http://localhost:11434/", True),
        ("http://HOST:1", "http://host:1", True),
        ("http://host:1", "https://host:1", False),
        ("http://host:1", "http://host:2", False),
        ("http://host:1", "http://host:1/other", False),
        ("http://127.0.0.1:11434@stranger", "http://127.0.0.1:11434", False),
        ("http://127.0.0.1:11434.stranger", "http://127.0.0.1:11434", False),
    ],
)
def test_addresses_of_one_ollama(one: str, other: str, same: bool) -> None:
    assert same_address(one, other) is same
