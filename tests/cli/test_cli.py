"""The command line: what it prints where, how it exits, and what it leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.banks import FACTS, open_bank
from support.terminals import ROOT, Membank, environment, membank

from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.adapters.prompt_templates import template_mark
from membank_llama.cli import app
from membank_llama.cli.commands.options import layer_value, parse_time
from membank_llama.core.errors import InvalidInputError
from membank_llama.core.types import NewMemory
from membank_llama.gguf.fingerprint import fingerprint
from membank_llama.memory.bank import MemBank
from membank_llama.store.model_record import captured_as

COMMANDS = (
    "chat", "page", "demo", "ingest", "recall", "list", "show", "undo", "why", "topics", "correct", "forget", "pin",
    "unpin", "tune", "export", "import", "stats", "verify", "gc", "rebuild", "reencode", "bench", "backup", "restore",
    "doctor",
)  # fmt: skip


@pytest.fixture
def mb(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Membank:
    for name in ("MEMBANK_BANK", "MEMBANK_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    return Membank(tmp_path / "bank", capsys)


@pytest.fixture
def told(mb: Membank, tiny_gguf: Path, tmp_path: Path) -> Membank:
    """A bank that was told the facts with the tiny model."""
    notes = tmp_path / "facts.jsonl"
    notes.write_text("".join(json.dumps({"text": fact}) + "\n" for fact in FACTS), encoding="utf-8")
    done = mb("ingest", notes, "--model", tiny_gguf, "--threads", 1)
    assert done.code == 0, done.err
    return mb


def memories(path: Path) -> list[str]:
    with MemBank(None, path, read_only=True) as bank:
        return [memory.text for memory in bank.memories()]


# -- help


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    shown = membank("--help")
    assert shown.code == 0
    assert all(f" {name} " in shown.out for name in COMMANDS)
    assert "demo-tell" not in shown.out
    code = "import sys, membank_llama.cli.app; sys.exit('llama_cpp' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment(), check=False).returncode == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(mb: Membank, command: str) -> None:
    done = mb(command, "--help")
    assert done.code == 0
    assert f"membank {command}" in done.out


def test_alone_it_shows_help_and_it_knows_its_version(mb: Membank, capsys: pytest.CaptureFixture[str]) -> None:
    from membank_llama import __version__

    with pytest.raises(SystemExit):
        app.main([])
    assert "ingest" in capsys.readouterr().out
    assert mb("--version").out.strip() == f"membank-llama {__version__}"


# -- ingest


def test_ingest_files_directories_and_again(mb: Membank, tmp_path: Path, tiny_gguf: Path) -> None:
    notes = tmp_path / "notes"
    (notes / "deep").mkdir(parents=True)
    (notes / "one.md").write_text("The lamp is green.", encoding="utf-8")
    (notes / "deep" / "two.txt").write_text("The door is red.", encoding="utf-8")
    (notes / "three.jsonl").write_text('{"text": "The roof is blue.", "role": "assistant"}\n', encoding="utf-8")
    done = mb("ingest", notes, "--model", tiny_gguf, "--role", "me", "--threads", 1)
    assert done.code == 0, done.err
    assert "3 memories new" in done.out
    with MemBank(None, mb.bank, read_only=True) as bank:
        found = {memory.text: memory for memory in bank.memories()}
    assert found["The lamp is green."].source == "one.md"
    assert found["The door is red."].role == "me"
    assert found["The roof is blue."].role == "assistant"
    again = mb("ingest", notes, "--json", "--source", "elsewhere")
    assert json.loads(again.out) | {"seconds": 0} == {
        "new": 0, "known": 3, "seconds": 0, "bank": str(mb.bank), "passed_over": [], "left_out": [], "remarks": [],
    }  # fmt: skip


def test_ingest_from_a_pipe(tmp_path: Path, tiny_gguf: Path) -> None:
    done = membank("--bank", tmp_path, "ingest", "-", "-m", tiny_gguf, "--source", "mail", stdin="Ünïcode 🐝\n")
    assert done.code == 0, done.err
    with MemBank(None, tmp_path, read_only=True) as bank:
        (memory,) = bank.memories()
    assert (memory.text, memory.source) == ("Ünïcode 🐝", "mail")


def test_a_new_bank_wants_a_model(mb: Membank, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("something", encoding="utf-8")
    done = mb("ingest", tmp_path / "a.txt")
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert "--model" in done.err
    assert done.out == ""
    assert not mb.bank.exists()


@pytest.mark.parametrize(
    ("content", "said"), [(b"caf\xe9", "not UTF-8"), (b"a\0b", "not a text"), (b"  \n ", "nothing to remember")]
)
def test_a_bad_file_leaves_no_bank(mb: Membank, tmp_path: Path, tiny_gguf: Path, content: bytes, said: str) -> None:
    (tmp_path / "bad.txt").write_bytes(content)
    done = mb("ingest", tmp_path / "bad.txt", "--model", tiny_gguf)
    assert done.code == 2
    assert said in done.err
    assert not mb.bank.exists()


def test_a_long_file_is_cut_into_passages(mb: Membank, tmp_path: Path, tiny_gguf: Path) -> None:
    (tmp_path / "long.txt").write_text("The river is long. " * 300, encoding="utf-8")
    done = mb("ingest", tmp_path / "long.txt", "--model", tiny_gguf, "--threads", 1)
    assert done.code == 0, done.err
    assert len(memories(mb.bank)) > 1


# -- recall and why


def test_recall_shows_a_table_and_json(told: Membank) -> None:
    shown = told("recall", "Where does Ana live?", "--threads", 1)
    assert shown.code == 0, shown.err
    assert "Ana lives in Porto" in shown.out
    assert "relevant" in shown.err
    found = json.loads(told("recall", "Porto", "--json", "-k", 2, "--threads", 1, "--level", 2, "--level", 1).out)
    assert len(found) == 2
    assert found[0]["text"] == FACTS[0]
    assert found[0]["score_l0"] is None
    assert found[0]["score_l1"] is not None
    assert len(found[0]["pointers"]) == 3


def test_recall_keeps_to_times_and_namespaces(told: Membank) -> None:
    assert json.loads(told("recall", "Porto", "--since", "1h", "--json").out)
    assert json.loads(told("recall", "Porto", "--until", "1h", "--json").out) == []
    assert json.loads(told("recall", "Porto", "--until", "2020-01-31", "--json").out) == []
    assert json.loads(told("recall", "Porto", "--namespace", "work", "--json").out) == []
    assert "nothing found" in told("recall", "Porto", "--namespace", "work").err


def test_recall_among_one_conversation(mb: Membank) -> None:
    with open_bank(mb.bank) as bank:
        told = [NewMemory(f"The wool socks of drawer {n} are grey.", conversation="drawers") for n in range(9)]
        bank.ingest_many(told)
        bank.ingest("Grey wool was bought.", conversation="attic")
    found = json.loads(mb("recall", "grey wool socks drawer", "-k", 3, "--conversation", "attic", "--json").out)
    assert [one["text"] for one in found] == ["Grey wool was bought."]
    assert "nothing found" in mb("recall", "grey wool", "--conversation", "none such").err


@pytest.mark.parametrize(
    "arguments",
    [("-k", "0"), ("--since", "soon"), ("--level", "7"), ("--since", "1d", "--until", "2d"), ("--namespace", "")],
)
def test_recall_refuses_what_cannot_be_meant(told: Membank, arguments: tuple[str, ...]) -> None:
    done = told("recall", "Porto", *arguments)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert done.out == ""


def test_why_explains_the_last_recall_and_a_question(told: Membank) -> None:
    nothing = told("why")
    assert nothing.code == 2
    assert "nothing was recalled" in nothing.err
    told("recall", "Where does Ana live?")
    last = told("why")
    assert "Where does Ana live?" in last.out
    assert "relevant: " in last.out and "short of" in last.out
    assert "spreads" in told("why", "--all").err
    asked = json.loads(told("why", "bread with rye", "--json").out)
    assert asked["query"] == "bread with rye"
    assert asked["results"][0]["text"] == FACTS[2]
    told("forget", 3)
    assert "nothing was recalled" in told("why").err


def test_without_the_model_words_alone_are_searched(mb: Membank) -> None:
    with open_bank(mb.bank) as bank:
        bank.ingest_many(FACTS)
    done = mb("recall", "Porto")
    assert done.code == 0
    assert "Porto" in done.out
    assert "words alone" in done.err
    refused = mb("ingest", ROOT / "LICENSE")
    assert refused.code == 2
    assert "reencode" in refused.err


def test_a_model_that_changed_is_not_used(mb: Membank, tmp_path: Path, tiny_gguf: Path) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(tiny_gguf.read_bytes())
    (tmp_path / "a.txt").write_text("The lamp is green.", encoding="utf-8")
    assert mb("ingest", tmp_path / "a.txt", "--model", copy, "--threads", 1).code == 0
    data = bytearray(copy.read_bytes())
    data[-200_000:] = bytes(200_000)
    copy.write_bytes(data)
    done = mb("recall", "lamp")
    assert done.code == 0
    assert "words alone" in done.err
    assert "lamp is green" in done.out


def test_a_bank_of_another_layer_is_opened_as_it_was_made(mb: Membank, tmp_path: Path, tiny_gguf: Path) -> None:
    with (
        LlamaCppAdapter(tiny_gguf, layer=0, pooling="weighted", n_threads=1) as adapter,
        MemBank(adapter, mb.bank) as bank,
    ):
        bank.ingest("The lamp is green.")
    done = mb("recall", "lamp", "--threads", 1)
    assert done.code == 0, done.err
    assert "words alone" not in done.err
    (tmp_path / "a.txt").write_text("The door is red.", encoding="utf-8")
    assert mb("ingest", tmp_path / "a.txt", "--model", tiny_gguf, "--threads", 1).code == 0
    chat = membank("--bank", mb.bank, "chat", tiny_gguf, "--threads", "1", "--max-tokens", "2", stdin="hello\n")
    assert chat.code == 0, chat.err


def test_what_is_captured_is_chosen_once_and_kept(mb: Membank, tmp_path: Path, recall_tiny: Path) -> None:
    (tmp_path / "a.txt").write_text("My sister is called Ilse.", encoding="utf-8")
    made = mb(
        "ingest", tmp_path / "a.txt", "-m", recall_tiny, "--layer", "-1", "--template", "one-word", "--threads", 1
    )
    assert made.code == 0, made.err
    assert mb("stats", "--json").out.count("-L5-last-one-word") == 1
    (tmp_path / "b.txt").write_text("The door is red.", encoding="utf-8")
    assert mb("ingest", tmp_path / "b.txt", "--threads", 1).code == 0
    found = mb("recall", "What is my sister called?", "--threads", 1)
    assert "words alone" not in found.err and "Ilse" in found.out
    chat = membank("--bank", mb.bank, "chat", recall_tiny, "--threads", 1, stdin="What is my sister called?\n")
    assert "Ilse" in chat.out, chat.err
    for options in (("--layer", 1), ("--pooling", "mean"), ("--template", "echo")):
        refused = mb("ingest", tmp_path / "b.txt", *options, "--threads", 1)
        assert refused.code == 1
        assert "L5-last-one-word" in refused.err and "membank reencode" in refused.err
    moved = mb("reencode", "--layer", "best", "--template", "echo", "--pooling", "mean", "--threads", 1)
    assert moved.code == 0, moved.err
    assert "40 sentences" in moved.err
    assert mb("stats", "--json").out.count("-mean-echo") == 1
    assert "words alone" not in mb("recall", "What is my sister called?", "--threads", 1).err


def test_a_template_of_ones_own_is_given_again(mb: Membank, tmp_path: Path, tiny_gguf: Path) -> None:
    (tmp_path / "a.txt").write_text("The lamp is green.", encoding="utf-8")
    again = ("ingest", tmp_path / "a.txt", "--model", tiny_gguf, "--threads", 1)
    own = ("--template", "Remember: {text}")
    assert mb(*again, *own).code == 0
    assert mb(*again, *own).code == 0
    refused = mb(*again)
    assert refused.code == 2
    assert "only a hash" in refused.err


@pytest.mark.parametrize(
    ("options", "said"),
    [(("--layer", "top"), "--layer is 'top'"), (("--layer", 99), "-4 to 3"), (("--pooling", "max"), "mean, last"),
     (("--template", "eco"), "echo, one-word")],
)  # fmt: skip
def test_a_choice_that_cannot_be_leaves_no_bank(
    mb: Membank, tmp_path: Path, tiny_gguf: Path, options: tuple[object, ...], said: str
) -> None:
    (tmp_path / "a.txt").write_text("The lamp is green.", encoding="utf-8")
    done = mb("ingest", tmp_path / "a.txt", "--model", tiny_gguf, *options)
    assert done.code == 2
    assert said in done.err
    assert not mb.bank.exists()


def test_a_model_that_pools_by_itself_has_no_layer_to_choose(mb: Membank, tmp_path: Path, minilm_gguf: Path) -> None:
    (tmp_path / "a.txt").write_text("The lamp is green.", encoding="utf-8")
    for options in (("--layer", "best"), ("--pooling", "last")):
        done = mb("ingest", tmp_path / "a.txt", "--model", minilm_gguf, *options, "--threads", 1)
        assert done.code == 2
        assert "pools its states itself" in done.err


def test_layers_as_typed() -> None:
    typed = ("7", "-1", "0.5", ".25", "auto", "best")
    assert [layer_value(text) for text in (None, *typed)] == [None, 7, -1, 0.5, 0.25, "auto", "best"]
    for wrong in ("", "half", "1e3", "0.5.1", "--1"):
        with pytest.raises(InvalidInputError, match="write a layer"):
            layer_value(wrong)


def test_another_model_is_refused_by_name(told: Membank, tmp_path: Path, minilm_gguf: Path) -> None:
    (tmp_path / "a.txt").write_text("The door is red.", encoding="utf-8")
    done = told("ingest", tmp_path / "a.txt", "--model", minilm_gguf, "--threads", 1)
    assert done.code == 1
    assert "tiny" in done.err
    assert "all-MiniLM-L6-v2" in done.err
    assert "membank reencode" in done.err
    assert len(memories(told.bank)) == len(FACTS)


# -- correcting


def test_correct_takes_the_place_and_why_shows_what_it_said(told: Membank) -> None:
    assert "memory 6 is now 7" in told("correct", 6, "The dentist moved to Elm Street.").out
    found = told("recall", "Where is the dentist?", "--json")
    assert json.loads(found.out)[0]["text"] == "The dentist moved to Elm Street."
    assert "7 said before it was corrected: The dentist moved to Maple Street." in told("why").err
    assert told("correct", 6, "Again.").code != 0
    same = told("correct", 7, "The dentist moved to Elm Street.")
    assert same.code == 2 and "says that already" in same.err


def test_forget_takes_the_replies_that_repeat_it_and_shows_them(told: Membank, tmp_path: Path) -> None:
    turns = [("user", "Which street is the dentist in?"), ("assistant", "The dentist moved to Maple Street, yes.")]
    talk = tmp_path / "talk.jsonl"
    lines = [json.dumps({"role": role, "text": text, "conversation": "c"}) for role, text in turns]
    talk.write_text("\n".join(lines), encoding="utf-8")
    assert told("ingest", talk).code == 0
    assert "1 memory forgotten" in told("forget", 6, "--keep-replies").out
    again = tmp_path / "again.txt"
    again.write_text(FACTS[5], encoding="utf-8")
    assert told("ingest", again).code == 0
    done = told("forget", 9)
    assert "with it goes what repeats it: The dentist moved to Maple Street, yes." in done.err
    assert "2 memories forgotten" in done.out


def test_a_provenance_that_is_none_is_refused(mb: Membank) -> None:
    for command in ("chat", "serve"):
        done = mb(command, "--without", "robots")
        assert done.code == 2 and "no provenance 'robots'" in done.err


# -- forgetting and keeping


def test_forget_by_id_and_by_condition(told: Membank) -> None:
    assert "1 memory forgotten" in told("forget", 2).out
    missing = told("forget", 1, 2)
    assert missing.code == 1
    assert "no memory 2" in missing.err
    assert len(memories(told.bank)) == 5
    assert told("forget").code == 2
    assert told("forget", 1, "--before", "1d").code == 2
    assert "nothing like that" in told("forget", "--before", "1d").err
    assert "nothing like that" in told("forget", "--namespace", "work", "--yes").err
    done = told("forget", "--before", "0s", "--yes")
    assert done.code == 0
    assert memories(told.bank) == []


def test_pin_and_unpin(told: Membank) -> None:
    assert told("pin", 1, 2).code == 0
    with MemBank(None, told.bank, read_only=True) as bank:
        assert [memory.pinned for memory in bank.memories()][:3] == [True, True, False]
    assert told("unpin", 1).code == 0
    assert told("pin", 2, 99).code == 1
    with MemBank(None, told.bank, read_only=True) as bank:
        assert [memory.pinned for memory in bank.memories()][:3] == [False, True, False]


# -- the bank


def test_stats_verify_gc_rebuild(told: Membank) -> None:
    assert "tiny" in told("stats").out
    assert json.loads(told("stats", "--json").out)["memories"] == 6
    assert "all is well: 6 activations" in told("verify").out
    told("forget", 1)
    assert json.loads(told("gc", "--json").out)["freed_slots"] == 1
    assert "5 memories" in told("rebuild").out
    assert json.loads(told("verify", "--json").out) == {"ok": True, "checked": 5, "problems": []}


def test_verify_says_what_is_wrong_and_reencode_mends_it(told: Membank) -> None:
    activations = told.bank / "activations-1.bin"
    data = bytearray(activations.read_bytes())
    data[-40] ^= 0xFF
    activations.write_bytes(data)
    # wherever the byte lies in the last slot, one level no longer matches
    wrong = told("verify")
    if wrong.code == 0:
        activations.write_bytes(data[:-64])
        wrong = told("verify")
    assert wrong.code == 1
    assert "✗" in wrong.out
    assert not json.loads(told("verify", "--json").out)["ok"]
    assert told("reencode", "--threads", 1).code == 0
    assert told("verify").code == 0
    assert len(memories(told.bank)) == 6


def test_reencode_moves_to_another_model(told: Membank, minilm_gguf: Path) -> None:
    done = told("reencode", minilm_gguf, "--threads", 1)
    assert done.code == 0, done.err
    assert "6 memories now encoded by all-MiniLM-L6-v2-q8_0" in done.out
    found = json.loads(told("recall", "In which town is my sibling?", "--json", "-k", 1, "--threads", 1).out)
    assert found[0]["text"] == FACTS[0]


def test_verify_works_beside_a_writer(told: Membank, tiny_gguf: Path) -> None:
    with MemBank(None, told.bank):
        assert told("verify").code == 0
        assert told("stats").code == 0
        refused = told("gc")
    assert refused.code == 1
    assert "being written by process" in refused.err


@pytest.mark.parametrize(
    "command",
    [("recall", "x"), ("why",), ("forget", "1"), ("pin", "1"), ("stats",), ("verify",), ("gc",), ("rebuild",),
     ("reencode",), ("export", "-")],
)  # fmt: skip
def test_no_command_makes_a_bank_by_looking(mb: Membank, command: tuple[str, ...]) -> None:
    done = mb(*command)
    assert done.code == 1
    assert "there is no bank at" in done.err
    assert not mb.bank.exists()


# -- export and import


def test_export_and_import_by_file_and_pipe(told: Membank, tmp_path: Path, tiny_gguf: Path) -> None:
    target = tmp_path / "out.jsonl"
    assert "6 memories written" in told("export", target).out
    if sys.platform != "win32":
        assert target.stat().st_mode & 0o777 == 0o600
    before = target.read_bytes()
    refused = told("export", target)
    assert refused.code == 2
    assert "--force" in refused.err
    assert target.read_bytes() == before
    assert told("export", target, "--force").code == 0
    piped = membank("--bank", told.bank, "export", "-")
    assert piped.out.encode() == before
    other = tmp_path / "other"
    imported = membank("--bank", other, "import", "-", "--model", tiny_gguf, "--threads", "1", stdin=piped.out)
    assert "6 memories imported" in imported.out, imported.err
    assert memories(other) == list(FACTS)
    again = membank("--bank", other, "import", target, "--json", "--threads", "1")
    assert json.loads(again.out)["known"] == 6


def test_export_into_a_missing_directory(told: Membank, tmp_path: Path) -> None:
    done = told("export", tmp_path / "missing" / "out.jsonl")
    assert done.code == 1
    assert "cannot write" in done.err


def test_an_export_can_be_ingested_too(told: Membank, tmp_path: Path) -> None:
    told("export", tmp_path / "all.jsonl")
    done = told("ingest", tmp_path / "all.jsonl", "--namespace", "again", "--threads", 1)
    assert done.code == 0, done.err


@pytest.mark.parametrize("content", [b'{"text": "good"}\nnonsense\n', b'{"text": "caf\xe9"}\n'])
def test_import_takes_all_or_nothing(told: Membank, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.jsonl").write_bytes(content)
    done = told("import", tmp_path / "bad.jsonl", "--threads", 1)
    assert done.code == 2
    assert "nothing was imported" in done.err
    assert len(memories(told.bank)) == 6


# -- errors and the environment


def test_errors_are_one_line_and_a_traceback_only_when_asked_for(tmp_path: Path) -> None:
    quiet = membank("--bank", tmp_path / "none", "stats")
    assert quiet.code == 1
    assert quiet.err.count("\n") == 1
    loud = membank("--bank", tmp_path / "none", "stats", MEMBANK_DEBUG="1")
    assert loud.code == 1
    assert "Traceback" in loud.err
    assert "BankNotFoundError" in loud.err


def test_the_environment_names_the_bank(told: Membank) -> None:
    assert membank("stats", "--json", MEMBANK_BANK=str(told.bank)).code == 0
    own = membank("stats", "--bank", told.bank, MEMBANK_BANK=str(told.bank / "other"))
    assert own.code == 0, own.err


@pytest.mark.parametrize("name", ["missing.gguf", "nothing.gguf", "cut.gguf"])
def test_a_model_that_is_none(mb: Membank, tmp_path: Path, tiny_gguf: Path, name: str) -> None:
    (tmp_path / "nothing.gguf").write_bytes(b"not a model at all")
    (tmp_path / "cut.gguf").write_bytes(tiny_gguf.read_bytes()[:100_000])
    for command in (("chat", tmp_path / name), ("ingest", ROOT / "LICENSE", "--model", tmp_path / name)):
        done = mb(*command)
        assert done.code == 1
        assert name in done.err
        assert "Traceback" not in done.err
        assert not mb.bank.exists()


def test_an_encoder_cannot_chat(mb: Membank, minilm_gguf: Path) -> None:
    done = mb("chat", minilm_gguf)
    assert done.code == 1
    assert "--encoder" in done.err


def test_usage_mistakes_exit_with_two(mb: Membank) -> None:
    assert mb("nonsense").code == 2
    assert mb("recall").code == 2
    assert mb("forget", "abc").code == 2


# -- values


def test_moments() -> None:
    now = 1_700_000_000.0
    assert parse_time(None, now) is None
    assert parse_time("now", now) == now
    assert parse_time("7d", now) == now - 7 * 86400
    assert parse_time("1.5 h", now) == now - 5400
    assert parse_time("2023-11-14T22:13:20+00:00", now) == now
    assert parse_time("2023-11-14T22:13:20Z", now) == now
    for wrong in ("", "d", "7 fortnights", "2023-13-01", "-3d"):
        with pytest.raises(InvalidInputError):
            parse_time(wrong, now)


def test_how_a_bank_was_captured_is_read_from_its_model(tiny_gguf: Path) -> None:
    mark = f"llama-{fingerprint(tiny_gguf)[:16]}"

    def read(kind: str) -> dict[str, object]:
        return captured_as({"id": f"{mark}-{kind}"}, tiny_gguf)

    assert read("pooled") == {}
    assert read("L3-weighted") == {"layer": 3, "pooling": "weighted"}
    assert read("final-last") == {"pooling": "last"}
    assert captured_as({"id": "llama-0000000000000000-L3-mean"}, tiny_gguf) == {}
    assert captured_as(None, tiny_gguf) == {}
    assert read("L3-mean-echo") == {"layer": 3, "pooling": "mean", "template": "echo"}
    assert read("L11-last-one-word") == {"layer": 11, "pooling": "last", "template": "one-word"}
    for kind in ("L3-mean-t0123abcd", "pooled-t0123abcd"):
        with pytest.raises(InvalidInputError, match="template"):
            read(kind)
    own = "Remember: {text}"
    made = {"id": f"{mark}-L3-mean{template_mark(own)}"}
    assert captured_as(made, tiny_gguf, own) == {"layer": 3, "pooling": "mean", "template": own}
    with pytest.raises(InvalidInputError, match="only a hash"):
        captured_as(made, tiny_gguf, "Another: {text}")
