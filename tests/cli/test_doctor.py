"""`membank doctor`: what is wrong is named with the line that mends it, and nothing is changed or waited for."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.banks import FACTS, open_bank, python
from support.engines import running
from support.terminals import Membank

from membank_llama.adapters.hashing import WordsAdapter
from membank_llama.adapters.llama_cpp.build_report import build_report
from membank_llama.cli import bank_checks, health_checks
from membank_llama.cli.app import main
from membank_llama.cli.health_checks import encoder_check, engine_check
from membank_llama.cli.health_table import NOTE, WRONG, HealthCheck
from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank


@pytest.fixture
def mb(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Membank:
    monkeypatch.delenv("MEMBANK_BANK", raising=False)
    monkeypatch.setattr(health_checks, "ENGINES", {"Ollama": _closed_port()})
    monkeypatch.setattr(health_checks, "build_check", lambda: HealthCheck("installed", "llama.cpp", "AVX"))
    with MemBank(WordsAdapter(), tmp_path / "a bank") as bank:
        bank.ingest_many(FACTS)
    return Membank(tmp_path / "a bank", capsys)


def _closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def checked(mb: Membank) -> dict[str, HealthCheck]:
    told = json.loads(mb("doctor", "--json").out)
    checks = [HealthCheck(**check) for check in told["checks"]]
    assert told["ok"] == all(check.state != WRONG for check in checks)
    return {f"{check.area}/{check.name}": check for check in checks}


def test_where_all_is_well_it_says_so(mb: Membank) -> None:
    shown = mb("doctor")
    assert shown.code == 0, shown.out
    assert "all is well" in shown.out and "6 memories" in shown.out and "llama-cpp-python" in shown.out
    found = checked(mb)
    assert not {name for name, check in found.items() if check.state == WRONG}
    assert found["engines/Ollama"].state == NOTE


def test_without_a_bank_nothing_is_made(mb: Membank, tmp_path: Path) -> None:
    shown = Membank(tmp_path / "nowhere", mb.capsys)("doctor")
    assert shown.code == 0 and "there is no bank yet" in shown.out
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="modes of files are POSIX's")
def test_what_others_may_read_is_wrong_and_mended_by_one_line(mb: Membank) -> None:
    mb.bank.chmod(0o755)
    shown = mb("doctor")
    assert shown.code == 1 and shown.out.endswith(f'(mode 0755)\n  → chmod -R go= "{mb.bank}"\n')
    mb.bank.chmod(0o700)
    assert mb("doctor").code == 0


def test_a_damaged_bank_is_wrong(mb: Membank) -> None:
    (mb.bank / "activations-1.bin").unlink()
    found = checked(mb)
    assert found["bank/memories"].state == WRONG
    assert found["bank/memories"].mend == f'membank reencode --bank "{mb.bank}"'
    assert mb("reencode").code == 0
    assert mb("doctor").code == 0


def test_a_bank_whose_texts_are_gone_is_told_of_once(mb: Membank) -> None:
    database = mb.bank / "bank.sqlite"
    database.write_bytes(database.read_bytes()[:16384] + b"\xff" * 65536)
    found = checked(mb)
    assert [name for name, check in found.items() if check.state == WRONG] == ["bank/memories"]
    assert found["bank/memories"].mend == f'membank restore BACKUP --bank "{mb.bank}" --force'
    database.write_bytes(b"no database at all" * 99)
    wrong = [check for check in checked(mb).values() if check.state == WRONG]
    assert ["choose another directory" in check.value for check in wrong] == [True]
    assert mb("doctor").code == 1


def test_why_a_bank_is_looked_at(mb: Membank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked(mb)["bank/place"].value == f"{mb.bank} (named by --bank)"
    data = tmp_path / "data"
    data.mkdir()
    mb.bank.rename(data / "recall-tiny")
    monkeypatch.setattr("membank_llama.core.paths.platformdirs.user_data_path", lambda *_, **__: data)
    for where, why in (("recall-tiny", "used last; there is no default one yet"), ("default", "the default one")):
        if where == "default":
            (data / "recall-tiny").rename(data / "default")
        shown = membank_here(mb, "doctor", "--json")
        places = [check["value"] for check in json.loads(shown)["checks"] if check["name"] == "place"]
        assert places == [f"{data / where} ({why})"]


def membank_here(mb: Membank, *words: str) -> str:
    """The output of a command that names no bank."""
    mb.capsys.readouterr()
    with pytest.raises(SystemExit):
        main(words)
    return mb.capsys.readouterr().out


def test_who_writes_it_is_named(mb: Membank) -> None:
    code = """
        import sys
        from membank_llama.adapters.hashing import WordsAdapter
        from membank_llama.memory.bank import MemBank
        with MemBank(WordsAdapter(), sys.argv[1]):
            print("open", flush=True)
            sys.stdin.read()
    """
    with python(code, mb.bank) as child:
        assert child.stdout is not None and child.stdout.readline() == "open\n"
        assert f"process {child.pid} " in checked(mb)["bank/written by"].value
        child.communicate()
    assert checked(mb)["bank/written by"].value == "nobody now"


def test_a_full_disk_and_a_missing_package(mb: Membank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_checks, "FEWEST_FREE", 1 << 60)
    monkeypatch.setattr(health_checks, "_required", lambda: {"numpy", "no-such-package-here"})
    found = checked(mb)
    assert found["bank/disk"].state == WRONG
    assert found["installed/missing"].mend.endswith("-m pip install no-such-package-here")


def test_what_llama_cpp_was_built_for() -> None:
    asked = health_checks.build_check()
    report = build_report()
    assert asked.state != WRONG
    assert all(feature in asked.value for feature in report["features"][:12])
    assert ("no graphics card" in asked.value) != report["gpu"]


def test_a_llama_cpp_that_dies_is_told_of_and_ends_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_checks, "_BUILD", "support.ending_worker_that_is_not_there")
    check = health_checks.build_check()
    assert check.state == WRONG and "--force-reinstall" in check.mend


# -- engines


def test_an_engine_of_our_own_is_known(tmp_path: Path, tiny_gguf: Path) -> None:
    with running(tmp_path, tiny_gguf) as (_, client):
        assert engine_check("Ollama", str(client.base_url)).state == "good"


@pytest.fixture
def mute() -> Iterator[str]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen(8)
        yield f"http://127.0.0.1:{one.getsockname()[1]}"


def test_a_port_that_never_answers_is_not_waited_for(mute: str) -> None:
    assert engine_check("LM Studio", mute) == HealthCheck("engines", "LM Studio", f"nothing answers at {mute}", NOTE)


# -- which model


def test_the_model_of_the_bank_and_what_became_of_it(tmp_path: Path, tiny_gguf: Path) -> None:
    own = tmp_path / "own.gguf"
    own.write_bytes(tiny_gguf.read_bytes())
    from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter

    with LlamaCppAdapter(own, n_threads=1) as adapter, MemBank(adapter, tmp_path / "bank") as bank:
        bank.ingest_many([NewMemory(FACTS[0])])
    there = encoder_check(tmp_path / "bank", [])
    assert there.state == "good" and str(own) in there.value
    own.unlink()
    gone = encoder_check(tmp_path / "bank", [])
    assert gone.state == WRONG and "is gone" in gone.value and "membank reencode" in gone.mend
    own.write_bytes(b"GGUF" + b"\0" * 64)
    assert "is another file now" in encoder_check(tmp_path / "bank", []).value


def test_a_bank_of_another_encoder_is_not_called_well(tmp_path: Path) -> None:
    with open_bank(tmp_path / "bank") as bank:
        bank.ingest(FACTS[0])
    assert encoder_check(tmp_path / "bank", []).state == WRONG
