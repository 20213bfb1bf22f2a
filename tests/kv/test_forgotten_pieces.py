"""What is forgotten is in no piece of KV state any more, nor in what was evaluated behind it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support.banks import files_with
from support.own_contexts import Opened, OwnContext

from membank_llama import MemBank
from membank_llama.adapters.hashing import WordsAdapter
from membank_llama.core.errors import BankStorageError
from membank_llama.kv.overlap import RUN, ForgottenTexts, letters
from membank_llama.kv.piece import Piece, digest_of
from membank_llama.kv.piece_store import PieceStore
from membank_llama.memory.import_export import export_memories

FACT = "My sister Ana lives in Porto near the river."
LONG = (
    "We walked from the harbour over the hill, past the mill and the old school, and there we met the captain, who "
    "told us of the winter when the ships froze in and the whole town ate bread of bark and slept in one room."
)
OPENING = "Once upon a time there was a little girl. She liked to play in the park with her red ball. "


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    with MemBank(WordsAdapter(), tmp_path / "bank") as bank:
        yield bank


Keep = Callable[..., list[str]]


@pytest.fixture
def context(opened: Opened, stories_chatml_gguf: Path, bank: MemBank) -> OwnContext:
    return opened(stories_chatml_gguf, PieceStore(bank.path))


@pytest.fixture
def keep(context: OwnContext) -> Keep:
    """Evaluates and keeps what is said, a piece for each part; the names of the files it made."""

    def kept(*parts: str, namespace: str = "default") -> list[str]:
        assert context.cache is not None
        tokens: list[int] = []
        names = []
        context.cells.drop(0)
        for part in parts:
            own = context.tokens(part)[(1 if tokens else 0) :]
            context.evaluate(own, len(tokens))
            tokens += own
            before = set(context.cache.store.files())
            context.keep(tokens, namespace)
            names += [path.name for path in set(context.cache.store.files()) - before]
        return names

    return kept


def names(bank: MemBank) -> list[str]:
    return sorted(path.name for path in PieceStore(bank.path).files())


def runs_of(context: OwnContext, text: str) -> list[bytes]:
    """The ids of a text's tokens, as files hold them, four at a time; without its ends, which depend on what is beside
    it."""
    ids = context.tokens(text)[2:-1]
    return [np.array(ids[at : at + 4], "<i4").tobytes() for at in range(len(ids) - 3)]


def test_nothing_of_it_is_left_in_any_file(bank: MemBank, context: OwnContext, keep: Keep) -> None:
    memory = bank.ingest(FACT).memory_id
    other = keep(OPENING + "The dog ran home and slept.")
    keep(OPENING + FACT + " What a nice town it is.")
    assert files_with(bank.path / "kv", b"Porto")
    assert any(files_with(bank.path / "kv", run) for run in runs_of(context, FACT))
    bank.forget(memory)
    assert names(bank) == other
    assert files_with(bank.path, b"Porto") == []
    assert [run for run in runs_of(context, FACT) if files_with(bank.path, run)] == []


QUOTED = {
    "as it is": FACT,
    "a list": f"- {FACT}\n",
    "a quotation": "> My sister Ana\n> lives in Porto\n> near the river.",
    "other case": FACT.upper(),
    "other spaces": FACT.replace(" ", " \n\t "),
    "marks in between": "**My** sister *Ana*, lives (in) Porto; near 'the' river",
    "JSON": '{"text": "My sister Ana lives in Porto\\tnear the river."}'.replace("\\t", " "),
}


@pytest.mark.parametrize("how", QUOTED)
def test_however_it_is_quoted(bank: MemBank, keep: Keep, how: str) -> None:
    memory = bank.ingest(FACT).memory_id
    keep(OPENING + QUOTED[how] + " The end of it.")
    bank.forget(memory)
    assert names(bank) == []


def test_a_text_that_is_split_over_two_pieces(bank: MemBank, keep: Keep) -> None:
    memory = bank.ingest(FACT).memory_id
    for cut in range(4, len(FACT) - 2, 3):
        keep(f"{cut} {OPENING}{FACT[:cut]}", f"{FACT[cut:]} And then they all went home to eat.")
        bank.forget(bank.ingest("Something else that nobody said.").memory_id)
        assert len(names(bank)) == 2
        bank.forget(memory)
        assert names(bank) == [], cut
        memory = bank.ingest(FACT).memory_id


@pytest.mark.parametrize("cut", range(3, 26, 2))
def test_a_text_that_is_split_within_a_letter(bank: MemBank, cut: int) -> None:
    """Tokens are bytes: a letter that takes three may lie in two pieces."""
    told, store = "密码是四七一一八".encode(), PieceStore(bank.path)
    memory = bank.ingest(told.decode()).memory_id
    ahead = OPENING.encode() + told[:cut]
    tokens = np.arange(40, dtype=np.int32)
    first = Piece("default", "key", "model", 0, digest_of(tokens[:0]), tokens[:20], ahead)
    # what is known ahead may begin within a letter too
    known = "海".encode()[1:] + ahead
    second = Piece(
        "default", "key", "model", 20, digest_of(tokens[:20]), tokens[20:], known + told[cut:], (first.id,),
        ahead=len(known),
    )  # fmt: skip
    for piece in (first, second):
        assert store.write(store.announce(piece, np.zeros(8, np.uint8)), store.epoch())
    bank.forget(memory)
    assert names(bank) == []


def test_what_another_said_behind_the_same_beginning_goes_with_a_part_of_it(bank: MemBank, keep: Keep) -> None:
    memory = bank.ingest(FACT).memory_id
    system, told = (
        f"{OPENING}And they all went home to eat their bread. ",
        f"Then they all said it together: {FACT[:20]}",
    )
    (first, *_) = keep(system, told, f"{FACT[20:]} And then they slept.")
    keep(system, told, "No, that is another story, and a long one.")
    assert len(names(bank)) == 4
    bank.forget(memory)
    assert names(bank) == [first]


def test_a_short_text_with_much_between_its_letters(bank: MemBank, keep: Keep) -> None:
    text = "The code is: " + ". " * 150 + "4711"
    memory = bank.ingest(text).memory_id
    keep(OPENING + "The code is: ", ". " * 150, "4711. And they all went home to eat their bread.")
    bank.forget(memory)
    assert names(bank) == []


def test_a_text_without_letters(bank: MemBank, keep: Keep) -> None:
    memory = bank.ingest("♥ ☂ ♥").memory_id
    other = keep(OPENING + "♥ ☂ and so on, and so on, for ever.")
    keep(OPENING + " She wrote:  ♥ ☂ ♥ and went home.")
    bank.forget(memory)
    assert names(bank) == other


@pytest.mark.parametrize(("begin", "end"), [(0, 80), (40, 120), (77, 120), (len(LONG) - 60, len(LONG))])
def test_a_long_memory_that_was_shown_in_part(bank: MemBank, keep: Keep, begin: int, end: int) -> None:
    memory = bank.ingest(LONG).memory_id
    keep(OPENING + f"- …{LONG[begin:end]}… And so on.")
    bank.forget(memory)
    assert names(bank) == []


def test_what_was_evaluated_behind_it_goes_too(bank: MemBank, keep: Keep) -> None:
    memory = bank.ingest(FACT).memory_id
    first, _, _ = keep(OPENING, FACT + " So they went there.", "They bought bread and milk, and then they slept.")
    other = keep(OPENING + "They bought bread and milk, and then they slept.")
    bank.forget(memory)
    assert names(bank) == sorted([first, *other])


def test_what_was_evaluated_behind_a_piece_that_is_gone_goes_too(bank: MemBank, keep: Keep) -> None:
    """Nobody can tell any more whether that one held it."""
    memory = bank.ingest(FACT).memory_id
    keep(OPENING + FACT + " So they went.", "They bought bread and milk, and then they slept.")
    first, second = sorted(PieceStore(bank.path).files())
    first.unlink()
    bank.forget(memory)
    assert not second.exists()


def test_pieces_of_other_namespaces_stay(bank: MemBank, keep: Keep) -> None:
    memory = bank.ingest(FACT, namespace="ana").memory_id
    bank.ingest(FACT, namespace="ben")
    keep(OPENING + FACT, namespace="ana")
    (bens,) = keep(OPENING + FACT, namespace="ben")
    bank.forget(memory)
    store = PieceStore(bank.path)
    assert [store.glance(path).piece.namespace for path in store.files()] == ["ben"]
    assert names(bank) == [bens]


def test_correcting_and_collecting_forget_too(bank: MemBank, keep: Keep) -> None:
    memory = bank.ingest(FACT).memory_id
    bank.ingest("The dentist moved to Maple Street last year.", expires_at=1.0)
    keep(OPENING + FACT)
    bank.correct(memory, "My sister Ana lives in Lisbon now.")
    assert names(bank) == []
    keep(OPENING + "The dentist moved to Maple Street last year.")
    bank.gc()
    assert names(bank) == []


def test_what_is_damaged_or_unfinished_goes_as_nobody_knows_what_it_holds(bank: MemBank, keep: Keep) -> None:
    memory = bank.ingest("Something else that nobody said.").memory_id
    kept = keep(OPENING + "The dog ran home and slept.")
    keep(OPENING + FACT)
    store = PieceStore(bank.path)
    (damaged,) = [path for path in store.files() if path.name not in kept]
    (whole,) = [path for path in store.files() if path.name in kept]
    draft = whole.with_name(f".{damaged.name}-abcd1234")
    draft.write_bytes(damaged.read_bytes()[:-9])
    damaged.write_bytes(b"x" + damaged.read_bytes()[1:])
    bank.forget(memory)
    assert list(whole.parent.iterdir()) == [whole]


def test_an_unfinished_file_that_holds_it_whole_goes(bank: MemBank, keep: Keep) -> None:
    memory = bank.ingest(FACT).memory_id
    keep(OPENING + FACT)
    (path,) = PieceStore(bank.path).files()
    path.rename(path.with_name(f".{path.name}-abcd1234"))
    bank.forget(memory)
    assert list(path.parent.iterdir()) == []


def test_what_waits_to_be_written_is_given_up(bank: MemBank, context: OwnContext, keep: Keep) -> None:
    memory = bank.ingest(FACT).memory_id
    keep(OPENING + FACT)
    store = PieceStore(bank.path)
    (stored,) = map(store.read, store.files())
    cells, epoch = stored.cells().copy(), store.epoch()
    stored.path.unlink()
    waiting = store.announce(stored.piece, cells)
    assert [part.stored for part in store.cover("default", stored.piece.key, stored.piece.tokens)] == [waiting]
    bank.forget(memory)
    assert store.write(waiting, epoch) is False
    assert store.cover("default", stored.piece.key, stored.piece.tokens) == []
    assert files_with(bank.path, b"Porto") == []
    assert store.write(store.announce(stored.piece, cells), store.epoch()) is True


def test_a_piece_that_cannot_be_deleted_stops_the_forgetting(
    bank: MemBank, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = bank.ingest(FACT).memory_id
    keep(OPENING + FACT)
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".kv":
            raise PermissionError(13, "Permission denied")
        unlink(path, missing_ok)

    # permissions stop nobody who is root, as tests often are
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(BankStorageError, match="nothing was forgotten"):
        bank.forget(memory)
    monkeypatch.undo()
    assert bank.get(memory).text == FACT
    bank.forget(memory)
    assert names(bank) == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is refused to root")
def test_a_directory_that_may_not_be_written_stops_the_forgetting(bank: MemBank, keep: Keep) -> None:
    memory = bank.ingest(FACT).memory_id
    keep(OPENING + FACT)
    (path,) = PieceStore(bank.path).files()
    path.parent.chmod(0o500)
    with pytest.raises(BankStorageError, match="nothing was forgotten"):
        bank.forget(memory)
    path.parent.chmod(0o700)
    assert bank.get(memory).text == FACT


def test_a_bank_without_pieces_needs_no_key(bank: MemBank, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    monkeypatch.setenv("MEMBANK_CACHE", str(tmp_path / "file"))
    bank.forget(bank.ingest(FACT).memory_id)


def test_nothing_of_it_leaves_in_an_export(bank: MemBank, keep: Keep, tmp_path: Path) -> None:
    bank.ingest("The dog is called Rex.")
    keep(OPENING + FACT)
    with (tmp_path / "export.jsonl").open("w", encoding="utf-8") as file:
        export_memories(bank, file)
    exported = (tmp_path / "export.jsonl").read_text()
    assert "Rex" in exported and "Porto" not in exported and "kv" not in exported


def test_any_run_of_its_letters_counts() -> None:
    plain, sought = letters(LONG), ForgottenTexts([LONG])
    for at in range(len(plain) - RUN - 3):
        assert sought.are_in(f"xx{plain[at : at + RUN + 3]}yy")
        assert not sought.are_in(f"xx{plain[at : at + RUN - 1]}yy")
    assert not ForgottenTexts([]) and not ForgottenTexts([""])
    assert ForgottenTexts(["Ana"]).are_in(letters("and A. N. A. said"))
