"""A long memory: one in all that is told and kept, several vectors, found and injected by its best passage."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.banks import FACTS, as_format, files_with, open_bank

from membank_llama.adapters.base import ModelAdapter
from membank_llama.adapters.hashing import MockAdapter
from membank_llama.adapters.llama_cpp.adapter import LlamaCppAdapter
from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank
from membank_llama.memory.chat_memory import ChatMemory
from membank_llama.memory.conversation_keys import text_of
from membank_llama.memory.import_export import export_memories, import_memories
from membank_llama.memory.prompt_block import Neutraliser, build_block, excerpted
from membank_llama.memory.prompt_injection import MemoryOptions
from membank_llama.memory.text_splitting import LONG, MAX_CHARS, passage_spans, passages_of_texts
from membank_llama.recall.query import RecallResult
from membank_llama.store.memory_writer import Places

DIM = 256
NEEDLE = "The spare key of the cottage lies beneath the blue flowerpot on the veranda."
KEYS = (
    "Whoever arrives first at the cottage will find the front door locked, since the neighbours are away all "
    "summer. The spare key lies beneath the blue flowerpot on the veranda; put it back there before you leave, or "
    "the next guests stand outside. Should the pot have been moved, ask the gardener, who has a second one. The "
    "lock is stiff: pull the door towards you while you turn the key. At the back there is another entrance, "
    "through the shed, which opens with the same key. Please lock both doors at night, and switch off the light "
    "on the veranda. If you lose the key, ring the owner; he brings another one from the village within an hour, "
    "whatever the weather."
)
QUESTION = "Where is the spare key of the cottage?"
OTHERS = (
    "The key of the office drawer is on the desk.",
    "The cottage by the lake was painted last spring.",
    "A spare tyre is in the boot of the car.",
    "The garden gate needs a new lock.",
)
TOPICS = (
    "river valley bridge stone water mill path meadow",
    "violin concert orchestra tune melody hall audience piano",
    "harbour ship captain sail anchor storm rope deck",
    "bakery oven flour bread yeast butter crust morning",
    "train station ticket platform carriage window tunnel signal",
)


def long_text(length: int = 10_000, needle: str = NEEDLE, seed: int = 0) -> str:
    """Paragraphs about other things, with the needle in a paragraph of its own in the middle."""
    draw = random.Random(seed)
    paragraphs: list[str] = []
    while sum(map(len, paragraphs)) < length:
        words = TOPICS[len(paragraphs) % len(TOPICS)].split()
        said = (f"The {' '.join(draw.choices(words, k=7))} of number {draw.randrange(10**6)}." for _ in range(8))
        paragraphs.append(" ".join(said))
    paragraphs.insert(len(paragraphs) // 2, needle)
    return "\n\n".join(paragraphs)


TEXT = long_text()
COUNT = len(passage_spans(TEXT))


def rows_of(bank: MemBank) -> list[tuple[int, int, int, int, int]]:
    return bank.store.registry.rows("SELECT id, memory_id, start, stop, slot FROM passages ORDER BY id")


def references(bank: MemBank) -> int:
    return int(bank.store.registry.scalar("SELECT sum(max(ref_count, 0)) FROM pointers"))


def found(bank: MemBank, question: str = QUESTION, **options: object) -> RecallResult:
    results = bank.recall(question, 3, **options)  # type: ignore[arg-type]
    assert len({result.memory_id for result in results}) == len(results), "one result a memory"
    return results[0]


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    with open_bank(tmp_path, DIM) as opened:
        yield opened


# -- cutting


@pytest.mark.parametrize("text", ["short", "x" * LONG, "a b " * 400, " " * LONG + "end"])
def test_a_short_text_is_one_passage(text: str) -> None:
    assert len(passage_spans(text)) == 1
    assert passages_of_texts([text]) == ([passage_spans(text)], [text])


@pytest.mark.parametrize(
    "text",
    [TEXT, "x" * 5000, "词。" * 3000, "👩‍👩‍👧‍👧" * 900, "a\n\n" * 3000, "word " * 2000, f"\n\n  {TEXT}\n"],
)
def test_passages_are_all_of_the_text_in_order(text: str) -> None:
    spans = passage_spans(text)
    assert len(spans) > 1
    assert "".join(text[start:stop] for start, stop in spans) == text
    assert spans[0][0] == 0
    for piece in passages_of_texts([text])[1]:
        assert 0 < len(piece) <= MAX_CHARS
        assert piece == piece.strip()


# -- finding


def test_it_is_found_by_its_best_passage(bank: MemBank) -> None:
    bank.ingest_many([*OTHERS, TEXT, *FACTS])
    best = found(bank)
    assert best.text == TEXT
    assert best.passage is not None
    assert NEEDLE in best.passage_text
    assert len(best.passage_text) <= MAX_CHARS + 2
    assert best.passage[0] in best.borders and len(best.borders) == COUNT
    assert best.relevant
    assert bytes(bank.store.deref(best.ptr_level0)) == bank.store.codes(_slots(bank, best), 0).tobytes()
    # the vector of the whole says nothing of the needle
    adapter = MockAdapter(DIM)
    question = adapter.encode(QUESTION)
    whole, short = float(adapter.encode(TEXT) @ question), max(float(adapter.encode(t) @ question) for t in OTHERS)
    assert whole < short
    assert best.final_score > whole + 0.1


def _slots(bank: MemBank, result: RecallResult) -> np.ndarray:  # type: ignore[type-arg]
    at = result.borders.index(result.passage[0] if result.passage else 0)
    snapshot = bank.store.snapshots.get("default")
    return snapshot.slots[snapshot.all_of(np.array([result.memory_id]))[at : at + 1]]


@pytest.mark.parametrize("model", ["minilm_gguf", "recall_tiny"])
def test_a_real_encoder_finds_the_needle(model: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with LlamaCppAdapter(request.getfixturevalue(model), n_threads=1) as adapter, MemBank(adapter, tmp_path) as bank:
        bank.ingest_many([*OTHERS, TEXT, *FACTS])
        best = found(bank)
        assert best.text == TEXT
        assert NEEDLE in best.passage_text
        assert bank.verify().ok
        if model == "minilm_gguf":
            # in other words, and by meaning alone
            question = "How can I get into the cabin when nobody is at home?"
            text = long_text(needle=KEYS, seed=1)
            bank.ingest(text)
            best = found(bank, question)
            assert best.text == text
            assert KEYS in best.passage_text
            whole, *short = adapter.encode_batch([text, *OTHERS]) @ adapter.encode(question)
            assert whole < max(short) < best.final_score


def test_words_alone_find_the_passage(bank: MemBank, tmp_path: Path) -> None:
    bank.ingest_many([*OTHERS, TEXT])
    with MemBank(None, tmp_path, read_only=True) as reader:
        best = found(reader, "beneath which flowerpots?")
        assert NEEDLE in best.passage_text
        assert best.score_l0 is None


def test_one_long_memory_leaves_room_for_others(bank: MemBank) -> None:
    repeated = "\n\n".join(f"{NEEDLE} {' '.join(TOPICS)} {n} " * 5 for n in range(30))
    bank.ingest_many([repeated, *(f"The spare key number {n} of the cottage hangs on hook {n}." for n in range(600))])
    assert len(bank.store.snapshots.get("default")) > 620
    for levels in ((2, 1, 0), (0,)):
        results = bank.recall(QUESTION, 20, levels)
        assert len(results) == 20
        assert len({result.memory_id for result in results}) == 20


def test_what_is_barred_is_barred_with_its_passages(bank: MemBank) -> None:
    memory_id = bank.ingest(TEXT, expires_at=1.0, pinned=True, created_at=50.0).memory_id
    bank.ingest_many(OTHERS)
    assert found(bank).memory_id == memory_id
    assert found(bank, until=60.0).memory_id == memory_id
    for options in ({"exclude": [memory_id]}, {"since": 60.0}):
        assert memory_id not in {result.memory_id for result in bank.recall(QUESTION, 9, **options)}  # type: ignore[arg-type]
    bank.pin(memory_id, False)
    assert memory_id not in {result.memory_id for result in bank.recall(QUESTION, 9)}
    bank.gc()
    assert rows_of(bank) == []


def test_tuning_sees_each_memory_once(bank: MemBank) -> None:
    from membank_llama.recall.query import RecallQuery

    bank.ingest_many([*OTHERS, TEXT])
    ids = bank.measured(RecallQuery(QUESTION, 50)).ids.tolist()
    assert sorted(ids) == [1, 2, 3, 4, 5]


# -- storing


def test_rows_slots_and_ids(bank: MemBank) -> None:
    first = bank.ingest(OTHERS[0])
    long = bank.ingest(TEXT)
    after = bank.ingest(OTHERS[1])
    assert (first.memory_id, long.memory_id, after.memory_id) == (1, 2, 2 + COUNT)
    passages = rows_of(bank)
    assert [row[0] for row in passages] == list(range(3, 2 + COUNT))
    assert {row[1] for row in passages} == {2}
    assert [(0, passages[0][2]), *(row[2:4] for row in passages)] == list(passage_spans(TEXT))
    assert bank.get(2).text == TEXT
    assert Places(bank.store.registry.db, 0).next_id == 3 + COUNT
    assert references(bank) == 2 + COUNT
    stats = bank.stats()
    assert stats["memories"] == 3
    assert stats["namespaces"] == {"default": 3}
    assert stats["slots"] == {"total": 2 + COUNT, "free": 0}
    snapshot = bank.store.snapshots.get("default")
    assert snapshot.owner.tolist() == [1, *[2] * COUNT, 2 + COUNT]
    assert snapshot.after.tolist() == [-1, *range(2, COUNT + 1), -1, -1], "passages are neighbours, others are not"
    assert bank.verify().ok


def test_in_a_conversation_passages_stand_between_what_came_before_and_after(bank: MemBank) -> None:
    items = [NewMemory(text, conversation="c", created_at=5.0) for text in (OTHERS[0], TEXT, OTHERS[1])]
    bank.ingest_many(items)
    snapshot = bank.store.snapshots.get("default")
    assert snapshot.after.tolist() == [*range(1, COUNT + 2), -1]
    assert set(snapshot.session.tolist()) == {0}
    bank.forget(2)
    snapshot = bank.store.snapshots.get("default")
    assert (snapshot.passages, snapshot.after.tolist()) == (0, [1, -1])


def test_short_memories_take_no_extra_row(bank: MemBank) -> None:
    bank.ingest_many([*FACTS, "x" * LONG])
    assert rows_of(bank) == []
    assert all(result.passage is None and result.borders == () for result in bank.recall("Porto", 9))


def test_duplicates_are_stored_once(bank: MemBank) -> None:
    results = bank.ingest_many([TEXT, OTHERS[0], TEXT])
    assert [result.is_new for result in results] == [True, True, False]
    assert results[0].ptr_ids == results[2].ptr_ids
    assert not bank.ingest(TEXT).is_new
    assert len(rows_of(bank)) == COUNT - 1
    # the same text elsewhere shares the slots and has rows of its own
    bank.ingest(TEXT, namespace="work")
    assert bank.stats()["slots"]["total"] == COUNT + 1
    assert references(bank) == 2 * COUNT + 1
    assert found(bank, namespace="work").memory_id != found(bank).memory_id
    bank.forget(namespace="default")
    assert bank.verify().ok
    assert NEEDLE in found(bank, namespace="work").passage_text


def test_forgetting_frees_and_zeroes_every_slot(bank: MemBank, tmp_path: Path) -> None:
    memory_id = bank.ingest(TEXT).memory_id
    bank.ingest_many(OTHERS)
    bank.rebuild_indexes()
    slots = bank.store.snapshots.get("default").slots[:COUNT].copy()
    assert bank.store.codes(slots, 0).any(axis=1).all()
    assert bank.forget(memory_id + 1) == 0, "the id of a passage is no memory's"
    assert bank.verify().ok
    assert found(bank).memory_id == memory_id
    assert bank.forget(memory_id) == 1
    assert rows_of(bank) == []
    assert not bank.store.codes(slots, 0).any()
    assert bank.stats()["slots"]["free"] == COUNT
    assert bank.verify().ok
    assert {result.text for result in bank.recall(QUESTION, 20)} == set(OTHERS)
    assert bank.gc()["freed_slots"] == COUNT
    assert bank.verify().ok
    assert files_with(tmp_path, b"flowerpot") == []


def test_a_failure_leaves_nothing(bank: MemBank, monkeypatch: pytest.MonkeyPatch) -> None:
    bank.ingest(OTHERS[0])
    before = bank.stats()

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("membank_llama.store.memory_writer.insert_passages", fail)
        with pytest.raises(OSError, match="full"):
            bank.ingest(TEXT)
    after = bank.stats()
    for name in ("memories", "slots", "generation"):
        assert after[name] == before[name]
    assert rows_of(bank) == []
    assert bank.verify().ok
    assert bank.ingest(TEXT).memory_id == 2
    assert bank.verify().ok


def test_a_reader_follows(bank: MemBank, tmp_path: Path) -> None:
    bank.ingest_many(OTHERS)
    with open_bank(tmp_path, DIM, read_only=True) as reader:
        assert found(reader).text in OTHERS
        memory_id = bank.ingest(TEXT).memory_id
        assert NEEDLE in found(reader).passage_text
        bank.forget(memory_id)
        assert found(reader).text in OTHERS
        bank.ingest(TEXT)
        bank.gc()
        assert NEEDLE in found(reader).passage_text
        assert reader.verify().ok


def test_it_is_there_after_opening_again(tmp_path: Path) -> None:
    with open_bank(tmp_path, DIM) as bank:
        bank.ingest_many([*OTHERS, TEXT, *(long_text(4000, f"Note {n}.", n) for n in range(1, 60))])
        # the same moment for both: what is older counts a little less
        now = time.time()
        before = found(bank, now=now)
        bank.flush()
    with open_bank(tmp_path, DIM) as bank:
        assert found(bank, now=now) == before
        assert len(bank.store.indexes.get("default")) == bank.store.registry.count_vectors("default")
        assert bank.verify().ok


# -- upkeep


def test_packing_encoding_and_calibrating_carry_the_passages(bank: MemBank) -> None:
    first = bank.ingest("to be forgotten").memory_id
    bank.ingest_many([*OTHERS, TEXT])
    before = found(bank)
    bank.ingest_many([long_text(6000, f"Note {n}.", n) for n in range(1, 60)])
    bank.flush()
    assert bank.store.calibrated_at > 0, "it has found its axes meanwhile"
    assert bank.verify().ok
    assert found(bank).ptr_level0.ptr_id == before.ptr_level0.ptr_id
    assert NEEDLE in before.passage_text
    bank.forget(first)
    bank.gc()
    assert bank.verify().ok
    assert found(bank).ptr_level0.ptr_id == before.ptr_level0.ptr_id
    vectors = bank.store.registry.count_vectors()
    assert bank.reencode(MockAdapter(DIM)) == vectors
    assert bank.verify().ok
    # of the same texts come the same vectors
    assert found(bank).ptr_level0.ptr_id == before.ptr_level0.ptr_id
    assert bank.reencode(MockAdapter(DIM // 2)) == vectors
    assert bank.verify().ok
    assert NEEDLE in found(bank).passage_text
    assert references(bank) == vectors


def test_a_rewrite_forgets_what_was_forgotten_meanwhile(bank: MemBank) -> None:
    bank.ingest_many([TEXT, *OTHERS])

    class Forgetful(MockAdapter):
        def encode_batch(self, texts: object) -> np.ndarray:  # type: ignore[type-arg]
            vectors = super().encode_batch(texts)  # type: ignore[arg-type]
            bank.forget(1)
            return vectors

    bank.reencode(Forgetful(DIM))
    assert rows_of(bank) == []
    assert bank.verify().ok
    assert bank.recall(QUESTION, 1)[0].text in OTHERS


def test_verify_counts_passages(bank: MemBank) -> None:
    bank.ingest(TEXT)
    with bank.store.registry.transaction() as db:
        db.execute("UPDATE pointers SET ref_count = 2 WHERE slot = 3")
        db.execute("UPDATE passages SET slot = 999 WHERE slot = 4")
    problems = " ".join(bank.verify().problems)
    assert "slot 3: 2 references counted" in problems
    assert "of memory 1: its memory or its pointer is missing" in problems


def test_export_is_whole_and_import_cuts_again(bank: MemBank, tmp_path: Path) -> None:
    bank.ingest_many([TEXT, *OTHERS])
    stream = io.StringIO()
    assert export_memories(bank, stream) == 5
    with open_bank(tmp_path / "other", DIM) as other:
        import_memories(other, stream.getvalue().splitlines())
        assert [memory.text for memory in other.memories()] == [TEXT, *OTHERS]
        assert rows_of(other) == rows_of(bank)


def test_a_bank_of_the_format_before_opens(tmp_path: Path) -> None:
    with open_bank(tmp_path, DIM) as bank:
        adapter = MockAdapter(DIM)
        bank.store.add([NewMemory(TEXT), NewMemory(OTHERS[0])], adapter.encode_batch([TEXT, OTHERS[0]]))
    as_format(tmp_path, 2)
    with open_bank(tmp_path, DIM) as bank:
        assert bank.verify().ok
        old = next(result for result in bank.recall(QUESTION) if result.text == TEXT)
        assert old.passage is None, "it keeps its one vector"
        bank.ingest(long_text(seed=3))
        assert NEEDLE in found(bank).passage_text
        assert bank.verify().ok


# -- injection


def words(text: str) -> int:
    return len(text.split())


def block_of(result: RecallResult, budget: int) -> str:
    return build_block([excerpted(result, budget, words)], budget, words, Neutraliser(())).text


@pytest.mark.parametrize(("budget", "beside"), [(2400, 2), (800, 1), (450, 0)])
def test_the_passage_and_its_neighbours_are_injected(bank: MemBank, budget: int, beside: int) -> None:
    bank.ingest_many([*OTHERS, TEXT])
    best = found(bank)
    line = block_of(best, budget).splitlines()[2]
    assert NEEDLE in line
    assert line.count("…") == 2 and line.endswith(" …")
    for far in (TEXT[:60], TEXT[-60:]):
        assert far not in line
    at = best.borders.index(best.passage[0] if best.passage else 0)
    pieces = [" ".join(piece.split()) for piece in passages_of_texts([TEXT])[1]]
    assert [place for place, piece in enumerate(pieces) if piece in line] == {
        2: [at - 1, at, at + 1], 1: [at, at + 1], 0: [at]
    }[beside]  # fmt: skip


def test_nothing_is_marked_as_left_out_at_the_ends(bank: MemBank) -> None:
    bank.ingest(f"{TEXT}\n\nThe closing words are zanzibar.")
    best = found(bank, "closing words zanzibar")
    line = block_of(best, 10_000).splitlines()[2]
    assert line.endswith("zanzibar.")
    assert ": … " in line


def test_a_short_memory_is_injected_as_before(bank: MemBank) -> None:
    bank.ingest(FACTS[0])
    result = found(bank, "Where does my sister live?")
    assert excerpted(result, 10, words) is result


class Words:
    n_ctx = 4000
    controls = ("<|im_end|>",)

    def count(self, text: str) -> int:
        return words(text)

    def is_clean(self, text: str) -> bool:
        return True


def test_a_conversation_gets_the_passage(bank: MemBank) -> None:
    memory_id = bank.ingest(TEXT).memory_id
    memory = ChatMemory(bank, Words(), MemoryOptions(remember=False))
    prepared, _ = memory.for_messages([{"role": "user", "content": QUESTION}])
    content = text_of(prepared[0]["content"])
    assert NEEDLE in content
    assert TEXT[:60] not in content and TEXT[-60:] not in content
    assert memory.last is not None and memory.last.injected == (memory_id,)
    # a passage that the conversation shows already is not told again
    shown = [{"role": "user", "content": TEXT[3000:8000]}, {"role": "assistant", "content": "Yes."}]
    prepared, _ = memory.for_messages([*shown, {"role": "user", "content": QUESTION}])
    assert text_of(prepared[-1]["content"]) == QUESTION
    assert NEEDLE in bank.integrate(QUESTION).augmented_prompt
    memory.close()


def test_encoders_are_asked_for_passages_alone(tmp_path: Path) -> None:
    class Short(MockAdapter):
        """As a model of a short context would."""

        def encode(self, text: str) -> np.ndarray:  # type: ignore[type-arg]
            assert len(text) <= LONG
            return super().encode(text)

    adapter: ModelAdapter = Short(DIM)
    with MemBank(adapter, tmp_path) as bank:
        bank.ingest_many([TEXT, "x" * 60_000])
        bank.reencode()
        assert bank.verify().ok


def test_passages_of_what_stands_alone_stay_neighbours(bank: MemBank) -> None:
    bank.ingest_many([OTHERS[0], TEXT, OTHERS[1], long_text(3000, seed=5)])
    before = bank.store.snapshots.get("default")
    assert set(before.session.tolist()) == {-1}
    assert before.after[before.all_of(np.array([2]))].tolist() == [*range(2, COUNT + 1), -1]
    bank.forget([1])
    snapshot = bank.store.snapshots.get("default")
    assert snapshot.after[: COUNT + 1].tolist() == [*range(1, COUNT), -1, -1]
    assert snapshot.before[: COUNT + 1].tolist() == [-1, *range(COUNT - 1), -1]
    assert snapshot.passages == before.passages
