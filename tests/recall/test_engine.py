"""From question to ranked memories: levels, fusion, filters, and what each parameter means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from support.banks import DIM, FACTS, card, numbered, open_bank, texts, unit_vectors

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.core.errors import InvalidQueryError
from membank_llama.core.types import NewMemory, Vector
from membank_llama.memory.bank import MemBank
from membank_llama.recall.engine import RecallEngine
from membank_llama.recall.query import RecallQuery, RecallResult
from membank_llama.recall.question_encoder import Question, QuestionEncoder
from membank_llama.store.namespace_snapshot import NamespaceSnapshot
from membank_llama.store.pointers import PointerRecord
from membank_llama.store.store import Store

HOUR = 3600.0


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    with open_bank(tmp_path / "bank") as opened:
        opened.ingest_many([NewMemory(text, created_at=HOUR * n) for n, text in enumerate(FACTS)])
        yield opened


def test_the_right_memory_comes_first_and_is_explained(bank: MemBank) -> None:
    best = bank.recall("Where does my sister live?")[0]
    assert best.text == FACTS[0]
    assert best.relevant
    assert best.reason.startswith("relevant")
    assert best.lexical_score > 0
    assert (best.rank, best.role, best.namespace, best.created_at) == (0, "user", "default", 0.0)
    assert best.source_text_hash == bank.get(best.memory_id).text_hash


def test_ranks_follow_the_fused_score(bank: MemBank) -> None:
    results = bank.recall("new tyres for the car or a flight to Lisbon?", 6)
    assert [result.rank for result in results] == list(range(6))
    fused = [result.fused_score for result in results]
    assert fused == sorted(fused, reverse=True)
    assert {results[0].text, results[1].text} == {FACTS[1], FACTS[4]}


def test_what_shares_nothing_is_not_relevant(bank: MemBank) -> None:
    assert not any(result.relevant for result in bank.recall("Quantum chromodynamics lattice simulations"))


@pytest.mark.parametrize("levels", [(0,), (1,), (2,), (0, 1), (0, 2), (2, 1), (0, 1, 2), None])
def test_levels_asked_for_are_scored_and_no_others(bank: MemBank, levels: tuple[int, ...] | None) -> None:
    best = bank.recall("Where does my sister live?", levels=levels)[0]
    assert best.text == FACTS[0]
    scores = (best.score_l0, best.score_l1, best.score_l2)
    wanted = (0, 1, 2) if levels is None else levels
    for level, score in enumerate(scores):
        assert (score is not None) == (level in wanted)
    assert best.final_score == scores[min(wanted)]
    assert best.best_ptr == (best.ptr_level0, best.ptr_level1, best.ptr_level2)[min(wanted)]


def test_level_scores_are_cosines(bank: MemBank) -> None:
    query = MockAdapter(hidden_dim=DIM).encode("Where does my sister live?")
    for result in bank.recall("Where does my sister live?"):
        exact = float(query @ MockAdapter(hidden_dim=DIM).encode(result.text))
        assert result.score_l0 == pytest.approx(exact, abs=1e-5)
        assert result.score_l1 == pytest.approx(exact, abs=0.06)
        assert result.score_l2 == pytest.approx(exact, abs=0.3)


def test_results_are_read_like_the_dicts_of_the_first_api(bank: MemBank) -> None:
    result = bank.recall("sister")[0]
    assert list(result.keys()) == [field.name for field in fields(RecallResult)]
    assert dict(result)["text"] == result["text"] == FACTS[0]
    assert result["final_score"] == result.final_score
    with pytest.raises(KeyError):
        result["nothing"]
    assert isinstance(result["ptr_level0"], PointerRecord)
    assert len(result["ptr_level0"].pack()) == 64


def clustered(count: int, dim: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((40, dim))[rng.integers(0, 40, count)] + 0.7 * rng.standard_normal((count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class OneVector(QuestionEncoder):
    """Encodes every question as the same vector."""

    def __init__(self, store: Store, vector: Vector) -> None:
        super().__init__(store, None, 1 << 16)
        self._vector = vector

    def question(self, query: RecallQuery, snapshot: NamespaceSnapshot) -> Question:
        return replace(super().question(query, snapshot), vector=self._vector, whole=self._vector)


def asked_with(store: Store, vector: Vector) -> RecallEngine:
    return RecallEngine(store, OneVector(store, vector))


@pytest.mark.parametrize("merged", [False, True])
def test_drilling_down_finds_what_exact_search_finds(tmp_path: Path, merged: bool) -> None:
    dim, vectors = 256, clustered(2000, 256, 1)
    store = Store(tmp_path, card(dim))
    for start in range(0, 2000, 500):
        store.add(numbered(500, start=start), vectors[start : start + 500])
    if merged:
        store.indexes.rebuild()
    shared = 0
    noise = clustered(30, dim, 2)
    for query in (vectors[:30] + 0.7 * noise) / np.linalg.norm(vectors[:30] + 0.7 * noise, axis=1, keepdims=True):
        # no words: the order is that of the cosines alone
        found = [r.memory_id for r in asked_with(store, query).search(RecallQuery("?"))]
        exact = [r.memory_id for r in asked_with(store, query).search(RecallQuery("?", levels=(0,)))]
        assert exact == (np.argsort(-(vectors @ query))[:5] + 1).tolist()
        shared += len(set(found) & set(exact))
        assert found[0] == exact[0]
    assert shared >= 0.97 * 150
    store.close()


def test_words_find_what_the_activations_do_not(tmp_path: Path) -> None:
    store = Store(tmp_path, card())
    rows = unit_vectors(300)
    store.add([*numbered(299), NewMemory("the gate code is 7341")], rows)
    question = unit_vectors(1, seed=8)[0]
    found = asked_with(store, question).search(RecallQuery("what was 7341?"))
    (hit,) = [result for result in found if result.text == "the gate code is 7341"]
    assert hit.lexical_score > 0
    assert hit.final_score < np.median(rows @ question), "most others are nearer"
    store.close()


def test_namespaces_never_leak(bank: MemBank) -> None:
    bank.ingest("My sister Ana lives in Oslo.", namespace="work")
    for levels in (None, (0,), (2,)):
        home = bank.recall("Where does my sister live?", 50, levels)
        work = bank.recall("Where does my sister live?", 50, levels, namespace="work")
        assert {result.namespace for result in home} == {"default"}
        assert texts(work) == ["My sister Ana lives in Oslo."]
    assert bank.recall("sister", namespace="nowhere") == []
    assert bank.recall("sister", namespace="defaul_") == []


def test_times_are_half_open(bank: MemBank) -> None:
    for levels in (None, (0,)):
        found = bank.recall("anything at all", 50, levels, since=HOUR, until=3 * HOUR)
        assert sorted(result.created_at for result in found) == [HOUR, 2 * HOUR]
    assert len(bank.recall("anything", 50, since=4 * HOUR)) == 2
    assert len(bank.recall("anything", 50, until=HOUR)) == 1
    assert bank.recall("anything", since=99 * HOUR) == []


def test_excluded_ids_are_not_returned(bank: MemBank) -> None:
    first = bank.recall("Where does my sister live?")[0].memory_id
    for levels in (None, (0,)):
        results = bank.recall("Where does my sister live?", 50, levels, exclude=[first, 999])
        assert first not in {result.memory_id for result in results}
        assert len(results) == len(FACTS) - 1


def test_min_score_and_top_k(bank: MemBank) -> None:
    results = bank.recall("Where does my sister live?", 50)
    bar = results[1].final_score + 1e-6
    assert texts(bank.recall("Where does my sister live?", 50, min_score=bar)) == [FACTS[0]]
    assert bank.recall("Where does my sister live?", min_score=2.0) == []
    assert len(bank.recall("sister", 2)) == 2
    assert len(bank.recall("sister", 10_000)) == len(FACTS)


def test_min_score_looks_beyond_the_first_few(tmp_path: Path) -> None:
    store = Store(tmp_path, card())
    base = clustered(1, DIM, 5)[0]
    near = base + 0.05 * clustered(40, DIM, 6)
    far = -base + 0.05 * clustered(40, DIM, 7)
    items = [*(NewMemory(f"plain {n}") for n in range(40)), *(NewMemory(f"harbour harbour {n}") for n in range(40))]
    store.add(items, np.concatenate([near, far]).astype(np.float32))
    found = asked_with(store, base).search(RecallQuery("harbour", min_score=0.5))
    assert len(found) == 5
    assert all(result.final_score >= 0.5 for result in found)
    store.close()


def test_without_an_encoder_words_alone_decide(bank: MemBank) -> None:
    path = bank.path
    bank.close()
    with MemBank(None, path) as lexical:
        best = lexical.recall("where does my sister live")[0]
        assert best.text == FACTS[0]
        assert (best.score_l0, best.score_l1, best.score_l2, best.final_score) == (None, None, None, 0.0)
        assert best.relevant
        assert best.best_ptr == best.ptr_level0
        assert lexical.recall("nothing in common whatsoever zzz") == []


def test_a_question_without_content_words(bank: MemBank) -> None:
    assert len(bank.recall("how are you?", 3)) == 3
    assert len(bank.recall("🦊", 3)) == 3


def test_an_empty_bank(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        for levels in (None, (0,), (2,)):
            assert bank.recall("anything", levels=levels) == []
        assert bank.recall("anything", since=1.0) == []


def test_equal_scores_go_to_the_newer_memory(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest("blue door")
        bank.ingest("door, blue")
        assert texts(bank.recall("door blue")) == ["door, blue", "blue door"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"top_k": 0},
        {"top_k": -1},
        {"levels": ()},
        {"levels": (7,)},
        {"levels": (0, 3)},
        {"since": 5.0, "until": 5.0},
        {"since": 6.0, "until": 5.0},
    ],
)
def test_impossible_questions(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidQueryError):
        RecallQuery("text", **wrong)  # type: ignore[arg-type]
