"""The tokens of activations: written with them, found by them, gone with them, and as sure to survive."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from support.banks import FACTS, numbered, open_bank, python
from support.token_adapter import TOKEN_DIM, TokenMockAdapter, open_token_bank, token_state

from membank_llama.core.errors import BankCorruptError, BankFormatError, EncodingError
from membank_llama.hgns.token_codes import token_bytes, token_codes
from membank_llama.memory.bank import MemBank
from membank_llama.store.bank_files import HEADER_BYTES
from membank_llama.store.token_runs import TokenRuns

LONG = " ".join(
    f"The {word} stood beside the gate." for word in ("lantern", "barrel", "ladder", "anvil", "kettle") * 20
)


def tokens_of(bank: MemBank) -> TokenRuns:
    runs = bank.store.tokens
    assert runs is not None
    return runs


def held(bank: MemBank, word: str) -> bool:
    """Whether the file holds this word's token."""
    path = tokens_of(bank).buffer.path
    return token_codes(token_state(word)[np.newaxis]).tobytes() in path.read_bytes()


def test_each_memory_has_its_tokens_and_no_marks_or_repetitions(tmp_path: Path) -> None:
    with open_token_bank(tmp_path) as bank:
        bank.ingest("Oh no, no, the tap!")
        bank.ingest("Marta sold the violin.")
        snapshot = bank.snapshot()
        assert snapshot.tokens.tolist() == [4, 4]
        runs = tokens_of(bank).runs(snapshot.slots.tolist())
        for run, words in zip(runs, (("oh", "no", "the", "tap"), ("marta", "sold", "the", "violin")), strict=True):
            assert (run == token_codes(np.stack([token_state(word) for word in words]))).all()
        assert bank.verify().ok
        assert bank.stats()["bytes"]["tokens"] == HEADER_BYTES + 8 * token_bytes(TOKEN_DIM)
        assert bank.stats()["model"]["token_dim"] == TOKEN_DIM


def test_passages_of_a_long_memory_have_tokens_of_their_own(tmp_path: Path) -> None:
    with open_token_bank(tmp_path) as bank:
        bank.ingest(LONG)
        snapshot = bank.snapshot()
        assert snapshot.passages and (snapshot.tokens > 0).all()
        assert bank.verify().ok


def test_the_same_activation_is_stored_once(tmp_path: Path) -> None:
    with open_token_bank(tmp_path) as bank:
        bank.ingest(FACTS[0])
        before = tokens_of(bank).next_row()
        bank.ingest(FACTS[0], namespace="work")
        assert tokens_of(bank).next_row() == before
        assert bank.snapshot("work").token.tolist() == bank.snapshot().token.tolist()


def test_the_same_vector_with_other_tokens_is_another_activation(tmp_path: Path) -> None:
    class Blind(TokenMockAdapter):
        def encode_batch(self, texts):  # type: ignore[no-untyped-def]
            return np.tile(super().encode_batch(["all the same"]), (len(texts), 1))

    with MemBank(Blind(hidden_dim=64), tmp_path) as bank:
        bank.ingest_many([*FACTS, *FACTS[:2]])
        bank.ingest(FACTS[0], namespace="work")
        snapshot = bank.snapshot()
        assert len(set(snapshot.slots.tolist())) == len(FACTS)
        assert bank.snapshot("work").slots.tolist() == snapshot.slots[:1].tolist()
        bank.forget(2)
        bank.gc()
        assert len(set(bank.snapshot().slots.tolist())) == len(FACTS) - 1 and bank.verify().ok
        bank.reencode()
        assert len(set(bank.snapshot().slots.tolist())) == len(FACTS) - 1 and bank.verify().ok


def test_what_is_forgotten_is_gone_from_the_file(tmp_path: Path) -> None:
    with open_token_bank(tmp_path) as bank:
        gone, kept = (bank.ingest(text).memory_id for text in (FACTS[1], FACTS[0]))
        assert held(bank, "tyres") and held(bank, "porto")
        bank.forget(gone)
        assert not held(bank, "tyres") and held(bank, "porto")
        assert bank.verify().ok and tokens_of(bank).garbage() > 0
        # the freed slot is used again, its old rows are not
        bank.ingest(FACTS[2])
        assert bank.verify().ok
        before = tokens_of(bank).garbage()
        bank.gc()
        assert before > 0 and tokens_of(bank).garbage() == 0 and bank.verify().ok
        assert bank.get(kept).text == FACTS[0]
        assert held(bank, "porto") and held(bank, "rye") and not held(bank, "tyres")
        assert len(list(tmp_path.glob("tokens-*.bin"))) == 1


def test_damage_is_told_and_mended(tmp_path: Path) -> None:
    with open_token_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
        path = tokens_of(bank).buffer.path
    data = bytearray(path.read_bytes())
    data[HEADER_BYTES + 3] ^= 0xFF
    path.write_bytes(data)
    with open_token_bank(tmp_path) as bank:
        report = bank.verify()
        assert not report.ok and "tokens: bytes do not match their SHA-256" in report.problems[0]
        assert bank.recall("sister Ana Porto", 1)
        assert bank.reencode() == len(FACTS)
        assert bank.verify().ok


def test_a_file_that_was_cut_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with open_token_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
        path = tokens_of(bank).buffer.path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BankCorruptError, match=r"cut.*membank reencode"):
        open_token_bank(tmp_path)
    path.unlink()
    with pytest.raises(BankCorruptError, match="membank reencode"):
        open_token_bank(tmp_path, read_only=True)
    with open_token_bank(tmp_path, repair=True) as bank:
        bank.reencode()
    with open_token_bank(tmp_path) as bank:
        assert bank.verify().ok and len(bank.recall("sister Ana Porto", 1)) == 1


@pytest.mark.parametrize("name", ["../tokens-1.bin", "activations-1.bin", 7, None])
def test_a_name_that_is_none_of_ours_is_not_opened(tmp_path: Path, name: object) -> None:
    with open_token_bank(tmp_path / "bank") as bank:
        bank.ingest_many(FACTS)
        bank.store.registry.set_meta("tokens", name)
    (tmp_path / "tokens-1.bin").write_bytes((tmp_path / "bank" / "tokens-1.bin").read_bytes())
    with pytest.raises(BankCorruptError, match="membank reencode"):
        open_token_bank(tmp_path / "bank")


def test_a_link_in_the_place_of_the_tokens_is_not_followed(tmp_path: Path) -> None:
    with open_token_bank(tmp_path / "bank") as bank:
        bank.ingest_many(FACTS)
    path = tmp_path / "bank" / "tokens-1.bin"
    path.rename(tmp_path / "elsewhere.bin")
    path.symlink_to(tmp_path / "elsewhere.bin")
    with pytest.raises(BankFormatError, match="no plain file"):
        open_token_bank(tmp_path / "bank")


def test_reencoding_goes_on_where_it_stopped_and_forgetting_reaches_the_next_file(tmp_path: Path) -> None:
    class Stops(TokenMockAdapter):
        calls = 0

        def encode_tokens(self, texts):  # type: ignore[no-untyped-def]
            if len(texts) > 1:
                self.calls += 1
                if self.calls > 1:
                    raise KeyboardInterrupt
            return super().encode_tokens(texts)

    with open_bank(tmp_path) as bank:
        bank.ingest_many([*FACTS, *numbered(40)])
    stopping = Stops(hidden_dim=64)
    with MemBank(stopping, tmp_path, repair=True) as bank:
        with pytest.raises(KeyboardInterrupt):
            bank.reencode()
        bank.forget(2)
        next_file = next(tmp_path.glob("tokens-*.bin"))
        assert token_codes(token_state("tyres")[np.newaxis]).tobytes() not in next_file.read_bytes()
    with open_bank(tmp_path) as bank:
        bank.forget(3)
        assert token_codes(token_state("rye")[np.newaxis]).tobytes() not in next_file.read_bytes()
    with open_token_bank(tmp_path, repair=True) as bank:
        assert bank.reencode() < 46
        assert bank.verify().ok and bank.count() == 44 and not held(bank, "tyres") and held(bank, "porto")


def test_a_bank_of_vectors_alone_gets_its_tokens_by_reencoding(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
        assert bank.store.tokens is None
    with open_token_bank(tmp_path, repair=True) as bank:
        assert bank.reencode() == len(FACTS)
    with open_token_bank(tmp_path) as bank:
        assert bank.verify().ok and (bank.snapshot().tokens > 0).all()
        assert bank.stats()["codec"]["full"] == "int8"
    # and goes back to a model without
    with open_bank(tmp_path, repair=True) as bank:
        bank.reencode()
    with open_bank(tmp_path) as bank:
        assert bank.verify().ok and bank.store.tokens is None and not list(tmp_path.glob("tokens-*"))


def test_a_reader_beside_the_writer_sees_what_was_told_and_packed(tmp_path: Path) -> None:
    with open_token_bank(tmp_path) as bank:
        ids = [bank.ingest(text).memory_id for text in FACTS]
        with open_token_bank(tmp_path, read_only=True) as reader:
            assert reader.recall("dentist Maple Street", 1)[0].text == FACTS[5]
            bank.forget(ids[:3])
            bank.gc()
            assert reader.recall("dentist Maple Street", 1)[0].text == FACTS[5]
            bank.ingest("The spare fuse is in the red tin.")
            assert reader.recall("spare fuse", 1)[0].text == "The spare fuse is in the red tin."


def test_axes_are_found_without_touching_tokens(tmp_path: Path) -> None:
    with open_token_bank(tmp_path) as bank:
        bank.ingest_many(numbered(300))
        before = tokens_of(bank).buffer.path.name
        bank.flush()
        assert bank.stats()["axes"] is not None
        assert tokens_of(bank).buffer.path.name == before and bank.verify().ok


WRITER = """
    import sys
    from pathlib import Path
    from support.banks import numbered
    from support.token_adapter import open_token_bank
    bank = open_token_bank(Path(sys.argv[1]))
    at = 0
    while True:
        bank.ingest_many(numbered(8, start=at), batch_size=8)
        if at % 24 == 16:
            bank.forget(range(at - 8, at))
        at += 8
        print(at, flush=True)
"""


def test_a_killed_writer_leaves_a_bank_whose_tokens_verify(tmp_path: Path) -> None:
    for round_ in range(3):
        path = tmp_path / str(round_)
        writer = python(WRITER, path)
        assert writer.stdout is not None
        for _ in range(4 + 3 * round_):
            writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
        writer.communicate()
        with open_token_bank(path) as bank:
            assert bank.count() and bank.verify().ok
            bank.ingest("after the kill")
            bank.gc()
            assert bank.verify().ok


def test_an_adapter_that_breaks_its_word_stores_nothing(tmp_path: Path) -> None:
    class Broken(TokenMockAdapter):
        def encode_tokens(self, texts):  # type: ignore[no-untyped-def]
            return super().encode_tokens(texts)[:-1]

    with pytest.raises(EncodingError, match="TokenStates"):
        MemBank(Broken(hidden_dim=64), tmp_path / "other")
    with MemBank(Broken(hidden_dim=64), tmp_path, auto_validate_adapter=False) as bank:
        with pytest.raises(EncodingError, match="TokenStates"):
            bank.ingest("nothing of this")
        assert bank.count() == 0 and bank.verify().ok
