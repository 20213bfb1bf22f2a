"""Tell it, ask it, close it, open it again: the bank from outside, across threads and processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.banks import DIM, FACTS, numbered, open_bank, python, texts

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.core.errors import (
    BankClosedError,
    BankLockedError,
    BankNotFoundError,
    BankReadOnlyError,
    EncodingError,
    InvalidInputError,
    MemoryNotFoundError,
    ModelError,
    ModelMismatchError,
)
from membank_llama.core.types import NewMemory, Vector
from membank_llama.memory.bank import MemBank
from membank_llama.store import snapshot_keeper


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    with open_bank(tmp_path / "bank") as opened:
        yield opened


def test_told_closed_opened_asked(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
    with open_bank(tmp_path) as bank:
        assert texts(bank.recall("Where does my sister live?", 1)) == [FACTS[0]]
        assert texts(bank.recall("When does the flight leave?", 1)) == [FACTS[4]]
        assert bank.verify().ok


def test_told_in_one_process_asked_in_another(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
    code = """
        import sys
        from pathlib import Path
        from support.banks import open_bank
        with open_bank(Path(sys.argv[1])) as bank:
            print(bank.recall("Where does my sister live?", 1)[0].text)
    """
    with python(code, tmp_path) as other:
        out, err = other.communicate()
    assert out.strip() == FACTS[0], err


def test_ingest_tells_what_became_of_it(bank: MemBank) -> None:
    result = bank.ingest(FACTS[0], {"mood": "glad"}, role="assistant", conversation="c", created_at=5.0, source="s")
    assert result.is_new
    assert result.dims == DIM
    assert result.ingest_ms > 0
    assert result["ptr_ids"] == result.ptr_ids
    assert [len(name) for name in result.ptr_ids] == [64, 64, 64]
    memory = bank.get(result.memory_id)
    assert (memory.text, memory.role, memory.conversation, memory.created_at, memory.source) == (
        FACTS[0], "assistant", "c", 5.0, "s",
    )  # fmt: skip
    assert memory.metadata == {"mood": "glad"}
    again = bank.ingest(FACTS[0])
    assert (again.is_new, again.memory_id, again.ptr_ids) == (False, result.memory_id, result.ptr_ids)
    found = bank.recall("sister")[0]
    assert found.ptr_level0.ptr_id == result.ptr_ids[0]
    assert found.metadata == {"mood": "glad"}


def test_a_text_is_one_memory_a_namespace(bank: MemBank) -> None:
    ids = [bank.ingest(FACTS[0], namespace=name).memory_id for name in ("a", "b", "a")]
    assert ids[0] == ids[2] != ids[1]
    assert bank.stats()["namespaces"] == {"a": 1, "b": 1}


def test_many_at_once_in_batches(bank: MemBank) -> None:
    steps: list[tuple[str, int, int]] = []
    results = bank.ingest_many(numbered(70), batch_size=32, progress=lambda *step: steps.append(step))
    assert [result.memory_id for result in results] == list(range(1, 71))
    assert steps == [("remembering", 32, 70), ("remembering", 64, 70), ("remembering", 70, 70)]
    assert len(bank.ingest_many(item for item in numbered(5, start=100))) == 5
    assert bank.ingest_many([]) == []
    with pytest.raises(InvalidInputError, match="batch_size"):
        bank.ingest_many(["x"], batch_size=0)
    assert bank.verify().ok


def test_a_bad_text_stops_before_its_batch(bank: MemBank) -> None:
    items = [*(item.text for item in numbered(10)), " ", "never reached"]
    with pytest.raises(InvalidInputError):
        bank.ingest_many(items, batch_size=4)
    assert [memory.text for memory in bank.memories()] == items[:8]
    assert bank.verify().ok


def test_a_model_that_fails_stores_nothing(tmp_path: Path) -> None:
    class Broken(MockAdapter):
        def encode_batch(self, texts: object) -> Vector:
            return np.full((len(texts), DIM), np.nan, np.float32)  # type: ignore[arg-type]

    with MemBank(Broken(DIM), tmp_path) as bank:
        with pytest.raises(EncodingError, match="NaN"):
            bank.ingest("text")
        assert bank.stats()["memories"] == 0
        assert bank.verify().ok


def test_integrate_recalls_then_remembers(bank: MemBank) -> None:
    bank.ingest_many(FACTS)
    made = bank.integrate("Does my sister Ana live in Porto?")
    assert made["query"] == "Does my sister Ana live in Porto?"
    assert FACTS[0] in made["augmented_prompt"]
    assert made.augmented_prompt.endswith(made.query)
    assert made["recalled"][0].text == FACTS[0]
    assert made["ingest_result"].is_new
    assert bank.get(made.ingest_result.memory_id).text == made.query
    nothing = bank.integrate("Quantum lattice chromodynamics")
    assert nothing.augmented_prompt == nothing.query


def test_forget_by_id_conversation_namespace_and_time(bank: MemBank) -> None:
    bank.ingest_many(
        [
            NewMemory("one", conversation="x", created_at=1.0),
            NewMemory("two", conversation="y", created_at=2.0),
            NewMemory("three", conversation="x", created_at=3.0, namespace="work"),
            NewMemory("four", created_at=4.0),
            NewMemory("five", created_at=5.0),
        ]
    )
    left = lambda: [memory.text for memory in bank.memories()]  # noqa: E731
    assert bank.forget(5) == 1
    assert bank.forget([5, 77]) == 0
    assert bank.forget([]) == 0
    assert bank.forget(conversation="x", namespace="work") == 1
    assert left() == ["one", "two", "four"]
    assert bank.forget(before=2.0) == 1
    assert bank.forget(conversation="y") == 1
    assert bank.forget(namespace="default") == 1
    assert left() == []
    assert bank.recall("one two three four five") == []
    assert bank.verify().ok
    for wrong in ({}, {"ids": 1, "before": 2.0}):
        with pytest.raises(InvalidInputError, match="nothing was forgotten"):
            bank.forget(**wrong)  # type: ignore[arg-type]


def test_what_is_not_there(bank: MemBank) -> None:
    for ask in (lambda: bank.get(3), lambda: bank.pin(3)):
        with pytest.raises(MemoryNotFoundError, match="no memory 3"):
            ask()


def test_memories_by_namespace(bank: MemBank) -> None:
    bank.ingest_many([*numbered(3), *numbered(2, "work")])
    assert len(list(bank.memories())) == 5
    assert [memory.namespace for memory in bank.memories("work")] == ["work", "work"]


def test_stats(bank: MemBank) -> None:
    bank.ingest_many(FACTS)
    bank.recall("sister")
    stats = bank.stats()
    assert stats["memories"] == len(FACTS)
    assert stats["namespaces"] == {"default": len(FACTS)}
    assert stats["path"] == str(bank.path)
    assert stats["model"] == {"id": f"mock-1-{DIM}", "name": "mock", "dim": DIM, "source": None, "token_dim": 0}
    assert stats["codec"]["codec"] == "axes"
    assert set(stats["bytes"]) == {"database", "activations", "tokens", "index"}
    assert stats["level_bytes"][0] == 4 * DIM
    assert stats["level_share"][0] == 1
    assert stats["level_share"][1] <= 0.33
    assert stats["level_share"][2] <= 0.085
    assert stats["slots"] == {"total": len(FACTS), "free": 0}
    # a small namespace is searched whole and needs no index
    assert stats["indexes"] == {}
    assert stats["generation"] == 1


def test_without_a_path_it_is_gone_after_close() -> None:
    with MemBank(MockAdapter(hidden_dim=DIM)) as bank:
        path = bank.path
        bank.ingest(FACTS[0])
        assert bank.recall("sister")
    assert not path.exists()


def test_without_an_encoder_nothing_is_told(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
    with MemBank(None, tmp_path) as bank:
        with pytest.raises(ModelError, match="adapter of mock"):
            bank.ingest("text")
        assert bank.forget(1) == 1
        assert bank.stats()["memories"] == len(FACTS) - 1
    with pytest.raises(ModelError):
        MemBank(None)


def test_read_only(tmp_path: Path) -> None:
    with pytest.raises(BankNotFoundError, match="membank ingest"):
        open_bank(tmp_path / "none", read_only=True)
    assert not (tmp_path / "none").exists()
    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
    with open_bank(tmp_path, read_only=True) as reader:
        assert reader.read_only
        assert texts(reader.recall("sister", 1)) == [FACTS[0]]
        for write in (lambda: reader.ingest("x"), lambda: reader.ingest_many(["x"]), lambda: reader.integrate("x")):
            with pytest.raises(BankReadOnlyError, match="read_only=True"):
                write()
    with open_bank(tmp_path) as bank:
        assert bank.stats()["memories"] == len(FACTS)


def test_another_model_is_refused(tmp_path: Path) -> None:
    with open_bank(tmp_path, 64) as bank:
        bank.ingest(FACTS[0])
    for read_only in (False, True):
        with pytest.raises(ModelMismatchError, match=r"mock-1-64.*mock-1-32"):
            open_bank(tmp_path, 32, read_only=read_only)


def test_a_bank_that_holds_nothing_takes_the_model_that_comes(tmp_path: Path, recall_tiny: Path) -> None:
    with open_bank(tmp_path, 64) as bank:
        (stored,) = bank.ingest_many([FACTS[0]])
        bank.forget([stored.memory_id])
    with pytest.raises(ModelMismatchError):
        open_bank(tmp_path, 32, read_only=True)
    with LlamaCppAdapter(recall_tiny, n_threads=1) as tiny:
        for adapter in (MockAdapter(32), tiny, MockAdapter(64)):
            with MemBank(adapter, tmp_path) as bank:
                assert bank.model.id == adapter.model_id()
                assert bank.count() == 0
    with open_bank(tmp_path, 64) as bank:
        bank.ingest(FACTS[1])
        assert bank.recall(FACTS[1], 1)[0].text == FACTS[1]
        assert bank.verify().problems == ()
    assert len(list(tmp_path.glob("activations-*.bin"))) == 1


def test_a_second_writer_is_refused_by_name(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from support.banks import open_bank
        with open_bank(Path(sys.argv[1])):
            print("open", flush=True)
            sys.stdin.readline()
    """
    with python(code, tmp_path) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(BankLockedError, match=f"process {holder.pid} "):
            open_bank(tmp_path)
        holder.communicate("\n")
    open_bank(tmp_path).close()


def test_a_reading_process_sees_what_the_writer_does(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from support.banks import open_bank
        with open_bank(Path(sys.argv[1]), read_only=True) as bank:
            for question in sys.stdin:
                print("|".join(r.text for r in bank.recall(question.strip(), 50) if r.relevant), flush=True)
    """
    with open_bank(tmp_path) as bank, python(code, tmp_path) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None

        def ask(question: str) -> str:
            print(question, file=reader.stdin, flush=True)
            return str(reader.stdout.readline().strip())  # type: ignore[union-attr]

        first = bank.ingest("The violin is in the attic.")
        assert ask("Where is the violin?") == "The violin is in the attic."
        bank.ingest("The trumpet is in the cellar.")
        assert ask("Where is the trumpet?") == "The trumpet is in the cellar."
        bank.forget(first.memory_id)
        assert ask("Where is the violin?") == ""
        bank.ingest_many(numbered(300))
        bank.gc()
        bank.rebuild_indexes()
        assert ask("Where is the trumpet?") == "The trumpet is in the cellar."
        assert bank.ingest("The piano is sold.").is_new
        assert ask("Where is the piano?") == "The piano is sold."
        reader.communicate()
    assert reader.returncode == 0


def test_threads_recall_beside_a_writing_thread(bank: MemBank) -> None:
    bank.ingest_many(FACTS)
    done = threading.Event()
    failures: list[BaseException] = []
    asked = [0, 0]

    def ask(place: int) -> None:
        try:
            while not done.is_set():
                n = place % len(FACTS)
                assert texts(bank.recall(FACTS[n], 1)) == [FACTS[n]]
                asked[place] += 1
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(2)]
    for thread in threads:
        thread.start()
    end, count = time.monotonic() + 3, 0
    while time.monotonic() < end or (min(asked) <= 10 and not failures):
        told = bank.ingest_many(numbered(16, start=count))
        count += 16
        bank.forget(told[0].memory_id)
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert min(asked) > 10
    assert bank.stats()["memories"] == len(FACTS) + count - count // 16
    assert bank.verify().ok


def test_closed_means_closed(tmp_path: Path) -> None:
    bank = open_bank(tmp_path)
    bank.ingest_many(FACTS)
    bank.close()
    bank.close()
    for use in (
        lambda: bank.ingest("x"),
        lambda: bank.recall("x"),
        lambda: bank.integrate("x"),
        lambda: bank.get(1),
        lambda: list(bank.memories()),
        lambda: bank.forget(1),
        lambda: bank.pin(1),
        bank.gc,
        bank.verify,
        bank.rebuild_indexes,
        bank.reencode,
        bank.stats,
        bank.flush,
    ):
        with pytest.raises(BankClosedError, match="open the bank again"):
            use()
    with open_bank(tmp_path) as again:
        assert again.stats()["memories"] == len(FACTS)
        assert again.verify().ok


def test_closing_under_threads_that_recall(tmp_path: Path) -> None:
    for _ in range(5):
        bank = open_bank(tmp_path)
        bank.ingest_many(FACTS)
        failures: list[BaseException] = []

        def ask(bank: MemBank = bank, failures: list[BaseException] = failures) -> None:
            try:
                while True:
                    bank.recall("sister")
            except BankClosedError:
                pass
            except BaseException as exc:
                failures.append(exc)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        bank.close()
        for thread in threads:
            thread.join()
        assert failures == []


def test_flush_completes_and_saves_the_index(bank: MemBank) -> None:
    bank.ingest_many(numbered(100))
    bank.recall("note")
    bank.flush()
    assert bank.stats()["indexes"] == {"default": {"graph": 100, "tail": 0, "removed": 0}}
    assert len(list((bank.path / "index").iterdir())) == 2


def test_expired_memories_are_known_however_their_lives_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [time.time()]
    monkeypatch.setattr(snapshot_keeper, "time", SimpleNamespace(time=lambda: clock[0]))
    with open_bank(tmp_path) as bank, open_bank(tmp_path, read_only=True) as reader:
        bank.ingest_many(numbered(600))
        gone = bank.ingest("The lamp is green.", expires_at=clock[0] - 10).memory_id
        bank.ingest("The lamp is heavy.", expires_at=clock[0] + 500)

        def seen() -> set[str]:
            found = [set(texts(opened.recall("The lamp is", 6))) for opened in (bank, reader)]
            assert found[0] == found[1]
            return {text for text in found[0] if text.startswith("The lamp")}

        assert seen() == {"The lamp is heavy."}
        clock[0] += 600
        assert seen() == set()
        bank.pin(gone)
        assert seen() == {"The lamp is green."}
        bank.pin(gone, False)
        assert seen() == set()
        bank.ingest("The lamp is heavy.", expires_at=clock[0] + 1000)
        assert seen() == {"The lamp is heavy."}, "told again it lives on"
        bank.ingest("The lamp is old.", expires_at=clock[0] - 700)
        assert seen() == {"The lamp is heavy."}
        clock[0] -= 600
        assert seen() == {"The lamp is heavy."}, "a clock that was set back"


def test_many_expired_memories_leave_the_others_to_be_found(tmp_path: Path) -> None:
    """Nobody collects them, and they are nearer than anything else."""
    with open_bank(tmp_path) as bank:
        past = time.time() - 10
        bank.ingest_many(
            [NewMemory(f"The lamp beside the door, number {n}", expires_at=past) for n in range(700)], batch_size=256
        )
        bank.ingest_many(numbered(700), batch_size=256)
        bank.flush()
        found = bank.recall("The lamp beside the door", 5)
        assert len(found) == 5
        assert all(text.startswith("note") and "lamp" in text for text in texts(found))


@pytest.mark.parametrize("between", ["gc", "forget"])
def test_whoever_tidies_up_while_something_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    """What `ingest` hands back is known before it lets others write."""
    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
        original = bank.store.add

        def add(*given: Any, **more: Any) -> Any:
            stored = original(*given, **more)
            bank.forget(1 if between == "gc" else stored[0].memory_id)
            bank.gc()
            return stored

        monkeypatch.setattr(bank.store, "add", add)
        result = bank.ingest("The lamp is green.")
        assert result.is_new
        assert len(result.ptr_ids) == 3
        assert len(set(result.ptr_ids)) == 3
        if between == "gc":
            memory = bank.get(result.memory_id)
            assert bank.store.pointer_ids([memory.slot])[memory.slot] == result.ptr_ids
