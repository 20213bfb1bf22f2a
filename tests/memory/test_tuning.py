"""Weights fitted to labelled questions: never worse, better where there is something to gain, and kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.banks import FACTS, open_bank
from support.terminals import Membank

from membank_llama.core.errors import BankReadOnlyError, InvalidInputError
from membank_llama.core.types import NewMemory
from membank_llama.memory.bank import MemBank
from membank_llama.memory.tuning import CUTS, TIE_BREAKERS, Case, Labelled, fit, measure, quality, read_labels
from membank_llama.recall.signals import SIGNALS, Weights
from membank_llama.store.namespace_snapshot import ALONE

NAMES = list(SIGNALS)
OFF = dict.fromkeys(NAMES, 0.0)


def case(rows: list[dict[str, float]], wanted: set[int], sessions: list[int] | None = None, answers: int = 0) -> Case:
    """Candidates with some signals each; those in `wanted` answer."""
    signals = np.array([[row.get(name, 0.0) for row in rows] for name in NAMES], np.float32)
    numbers = np.array([ALONE] * len(rows) if sessions is None else sessions, np.int32)
    answering = frozenset(numbers[sorted(wanted)].tolist()) - {ALONE}
    flags = np.isin(np.arange(len(rows)), sorted(wanted))
    return Case(signals, flags, numbers, answers or len(wanted), answering)


# the answer is said by the one asked about, others share more words: worth a larger weight of the speaker
PLANTED = [case([{"words": 4.0} for _ in range(12)] + [{"words": 1.0, "speaker": 1.0}], {12}) for _ in range(3)]


# -- quality and fit


def test_quality_is_the_mean_of_recall_at_both_cuts() -> None:
    only = Weights.of(OFF | {"words": 1.0})
    assert CUTS == (5, 10)
    rows = [{"words": 20.0 - n} for n in range(12)]
    assert quality([case(rows, {0})], only) == 1
    assert quality([case(rows, {7})], only) == pytest.approx(0.5)
    assert quality([case(rows, {11})], only) == 0
    # one of two, the other not even a candidate
    assert quality([case(rows, {0}, answers=2)], only) == pytest.approx(0.5)
    assert quality([case(rows, {0}), case(rows, {11})], only) == pytest.approx(0.5)
    assert quality([], only) == 0


def test_quality_counts_sessions_by_their_first_memory() -> None:
    only = Weights.of(OFF | {"words": 1.0})
    rows = [{"words": 20.0 - n} for n in range(12)]
    # twelve memories of three sessions: the answer stands last, its session second
    found = quality([case(rows, {11}, [0, 1] * 5 + [2, 1])], only)
    assert found == pytest.approx((0 + 0 + 1 + 1) / 4)


def test_fit_climbs_where_there_is_something_to_gain() -> None:
    start = Weights()
    assert quality(PLANTED, start) < 0.5
    fitted = fit(PLANTED, start)
    assert quality(PLANTED, fitted) > quality(PLANTED, start) + 0.4
    assert fitted.speaker > start.speaker or fitted.words < start.words


def test_fit_switches_on_what_was_off() -> None:
    start = Weights.of(OFF | {"words": 0.01})
    rows = [{"words": 1.0} for _ in range(12)] + [{"speaker": 1.0}]
    fitted = fit([case(rows, {12})], start)
    assert fitted.speaker > 0
    assert quality([case(rows, {12})], fitted) == 1


@pytest.mark.parametrize("seed", range(5))
def test_fit_never_makes_it_worse_and_leaves_ties_alone(seed: int) -> None:
    random = np.random.default_rng(seed)
    cases = [
        Case(
            random.standard_normal((len(NAMES), 40)).astype(np.float32), random.random(40) < 0.1,
            random.integers(-1, 5, 40).astype(np.int32), 6, frozenset({0, 3}),
        )
        for _ in range(6)
    ]  # fmt: skip
    start = Weights()
    fitted = fit(cases, start)
    assert quality(cases, fitted) >= quality(cases, start)
    assert all(getattr(fitted, name) == getattr(start, name) for name in TIE_BREAKERS)


def test_fit_changes_nothing_where_nothing_is_to_be_gained() -> None:
    perfect = [case([{"words": 5.0}, {"words": 1.0}], {0})]
    assert fit(perfect, Weights()) == Weights()
    assert fit([], Weights()) == Weights()


def test_fit_tells_how_far_it_is() -> None:
    told: list[tuple[str, int, int]] = []
    fit(PLANTED, Weights(), lambda *progress: told.append(progress))
    done = [number for _, number, _ in told]
    assert done == sorted(done) and done[-1] <= told[-1][2]
    assert {label for label, _, _ in told} == {"tuning"}


# -- labels


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[MemBank]:
    with open_bank(tmp_path / "bank") as opened:
        opened.ingest_many(
            [*FACTS, NewMemory(FACTS[0], namespace="work"), NewMemory("Only at work.", namespace="work")]
        )
        yield opened


def labels(tmp_path: Path, *entries: Any) -> Path:
    path = tmp_path / "labels.jsonl"
    lines = [entry if isinstance(entry, str) else json.dumps(entry, ensure_ascii=False) for entry in entries]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_labels_name_memories_by_id_or_by_text(bank: MemBank, tmp_path: Path) -> None:
    path = labels(
        tmp_path,
        {"question": "Where does my sister live?", "memories": [1]},
        "",
        {"question": "Which tyres?", "memories": [FACTS[1], 3], "now": 5},
        {"question": "Where does my sister live?", "memories": [FACTS[0]], "namespace": "work"},
        {"question": "a line \u2028 within", "memories": [1, 1, FACTS[0]]},
    )
    assert read_labels(path, bank) == [
        Labelled("Where does my sister live?", frozenset({1})),
        Labelled("Which tyres?", frozenset({2, 3}), "default", 5),
        Labelled("Where does my sister live?", frozenset({7}), "work"),
        Labelled("a line \u2028 within", frozenset({1})),
    ]


@pytest.mark.parametrize("mark", ["\ufeff", ""])
def test_windows_files_are_read_too(bank: MemBank, tmp_path: Path, mark: str) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_bytes(f'{mark}{{"question": "Who?", "memories": [1]}}\r\n\r\n'.encode())
    assert read_labels(path, bank) == [Labelled("Who?", frozenset({1}))]


GOOD = {"question": "Who?", "memories": [1]}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("no json", "write {"),
        ("5", "write {"),
        ('"text"', "write {"),
        ("[]", "write {"),
        ({"question": "Who?"}, "write {"),
        ({"question": " ", "memories": [1]}, "question must be text"),
        ({"question": 5, "memories": [1]}, "question must be text"),
        ({"question": "Who?", "memories": []}, "not empty"),
        ({"question": "Who?", "memories": 1}, "a list"),
        ({"question": "Who?", "memories": [99]}, "holds no memory 99 in namespace 'default'"),
        ({"question": "Who?", "memories": ["Never told."]}, "holds no memory 'Never told.'"),
        ({"question": "Who?", "memories": [1, 8]}, "holds no memory 8 in namespace 'default'"),
        ({"question": "Who?", "memories": ["Only at work."]}, "holds no memory 'Only at work.'"),
        ({"question": "Who?", "memories": [{"id": 1}]}, "holds no memory"),
        ({"question": "Who?", "memories": [[1]]}, "holds no memory"),
        ({"question": "Who?", "memories": [True]}, "holds no memory True"),
        ({"question": "Who?", "memories": [None]}, "holds no memory None"),
        (GOOD | {"now": "yesterday"}, "seconds since 1970"),
        (GOOD | {"namespace": 5}, "namespace must be text"),
    ],
)
def test_a_bad_line_is_named_with_its_place(bank: MemBank, tmp_path: Path, entry: Any, said: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read_labels(labels(tmp_path, GOOD, "", entry), bank)
    assert "labels.jsonl, line 3: " in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.parametrize(("content", "said"), [(None, "cannot be read"), (b"\xff\xfe", "UTF-8"), (b"\n\n", "no quest")])
def test_a_file_without_questions_is_refused(bank: MemBank, tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "labels.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=said):
        read_labels(path, bank)


# -- measured on a bank, kept with it


def test_measuring_sees_what_recall_weighs(bank: MemBank) -> None:
    told: list[tuple[str, int, int]] = []
    labelled = [Labelled("Where does my sister Ana live?", frozenset({1})), Labelled("work?", frozenset({7}), "work")]
    first, second = measure(bank, labelled, lambda *progress: told.append(progress))
    assert told == [("measuring", 1, 2), ("measuring", 2, 2)]
    assert first.signals.shape == (len(NAMES), len(FACTS)) and second.signals.shape == (len(NAMES), 2)
    assert first.wanted.sum() == second.wanted.sum() == 1
    weighed = np.array(list(vars(Weights()).values()), np.float32) @ first.signals
    best = bank.recall(labelled[0].question, 1)[0]
    assert first.wanted[int(np.argmax(weighed))]
    assert float(weighed.max()) == pytest.approx(best.fused_score, abs=1e-3)


def test_tuned_weights_are_kept_and_used(tmp_path: Path) -> None:
    tuned = Weights.of({"dense": 0.0, "words": 3.0})
    with open_bank(tmp_path) as bank:
        bank.ingest_many(FACTS)
        assert bank.weights() == Weights()
        before = bank.recall("my sister Ana")[0]
        bank.tune(tuned)
        assert bank.weights() == tuned
    with open_bank(tmp_path) as bank:
        assert bank.weights() == tuned
        after = bank.recall("my sister Ana")[0]
        assert "dense" in before.signals and "dense" not in after.signals
        assert after.signals["words"] == pytest.approx(4 * before.signals["words"])
        # what is asked for in one search goes before what is kept
        assert bank.recall("my sister Ana", weights=Weights())[0].signals == pytest.approx(before.signals, abs=1e-5)
        bank.tune(None)
        assert bank.weights() == Weights()
    with open_bank(tmp_path, read_only=True) as bank:
        assert bank.weights() == Weights()
        with pytest.raises(BankReadOnlyError):
            bank.tune(tuned)


# -- membank tune


@pytest.fixture
def mb(tmp_path: Path, capsys: pytest.CaptureFixture[str], recall_tiny: Path) -> Membank:
    """A bank in which a few say much the same, and one of them is asked about."""
    run = Membank(tmp_path / "bank", capsys)
    rows = [{"text": f"I bake {kind} bread.", "role": name} for kind, name in SAID]
    notes = tmp_path / "said.jsonl"
    notes.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = run("ingest", notes, "--model", recall_tiny, "--threads", 1)
    assert done.code == 0, done.err
    return run


SAID = (*((kind, "Ben") for kind in ("oat", "white", "corn", "flat", "sweet", "dark", "soda", "fresh")), ("rye", "Ana"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return labels(tmp_path, {"question": "What does Ana bake?", "memories": ["I bake rye bread."]})


def kept(mb: Membank) -> Weights:
    with MemBank(None, mb.bank, read_only=True) as bank:
        return bank.weights()


def poor_start(mb: Membank) -> Weights:
    """Weights under which the right memory is not among the first five."""
    start = Weights.of(OFF | {"speaker": -1.0, "words": 1.0})
    with MemBank(None, mb.bank) as bank:
        bank.tune(start)
    return start


def test_the_command_keeps_what_it_finds(mb: Membank, file: Path) -> None:
    start = poor_start(mb)
    done = mb("tune", file, "--threads", 1, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["questions"], found["kept"]) == (1, True)
    assert found["after"] > found["before"]
    assert kept(mb) == Weights(**found["weights"]) != start


def test_a_dry_run_keeps_nothing(mb: Membank, file: Path) -> None:
    start = poor_start(mb)
    found = json.loads(mb("tune", file, "--dry-run", "--threads", 1, "--json").out)
    assert found["kept"] is False and found["after"] > found["before"]
    assert kept(mb) == start


def test_its_table_shows_every_signal(mb: Membank, file: Path) -> None:
    done = mb("tune", file, "--threads", 1)
    assert done.code == 0, done.err
    assert all(any(line.split()[:1] == [name] for line in done.out.splitlines()) for name in NAMES)
    assert "1 question:" in done.err and "recall@5" in done.err


def test_reset_goes_back_to_the_default_weights(mb: Membank) -> None:
    poor_start(mb)
    done = mb("tune", "--reset")
    assert done.code == 0, done.err
    assert kept(mb) == Weights()


@pytest.mark.parametrize("both", [False, True])
def test_neither_or_both_is_refused(mb: Membank, file: Path, both: bool) -> None:
    start = poor_start(mb)
    done = mb("tune", *((file, "--reset") if both else ()))
    assert done.code == 2
    assert "name a file of labelled questions, or --reset and no file" in done.err
    assert kept(mb) == start


def test_bad_labels_and_no_bank_are_refused(mb: Membank, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = poor_start(mb)
    done = mb("tune", labels(tmp_path, {"question": "Who?", "memories": ["Never told."]}), "--threads", 1)
    assert done.code == 2
    assert "line 1: the bank holds no memory 'Never told.'" in done.err
    assert kept(mb) == start
    nowhere = Membank(tmp_path / "nowhere", capsys)("tune", "--reset")
    assert nowhere.code != 0 and not (tmp_path / "nowhere").exists()
