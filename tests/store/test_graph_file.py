"""Saved graphs that a stranger wrote or a disk damaged: none leads hnswlib out of itself."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import hnswlib
import pytest
from support.banks import FACTS, open_bank, python
from support.damage import copy_of, make_bank, sign

from membank_llama.core.errors import BankCorruptError
from membank_llama.store.graph_file import checked_graph
from membank_llama.store.vector_index import VectorIndex


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bank(tmp_path_factory.mktemp("made") / "bank")


@pytest.fixture
def bank(tmp_path: Path, made: Path) -> Path:
    return copy_of(made, tmp_path / "bank")


HEAD = {"start": (0, "Q"), "room": (8, "Q"), "count": (16, "Q"), "each": (24, "Q"), "label": (32, "Q"),
        "vector": (40, "Q"), "top": (48, "i"), "entry": (52, "I"), "most": (56, "Q"), "below": (64, "Q"),
        "links": (72, "Q"), "factor": (80, "d"), "width": (88, "Q")}  # fmt: skip
CRAFTED: list[tuple[str, float]] = [
    ("entry", 5_000_000), ("top", 60), ("top", -1), ("label", 1 << 30), ("vector", 1 << 20), ("each", 1 << 40),
    ("each", 8), ("count", 10**12), ("count", 0), ("below", 1 << 20), ("most", 1 << 40), ("start", 1 << 30),
    ("links", 0), ("links", 1 << 50), ("factor", 1e300), ("factor", float("nan")), ("width", 1 << 40),
]  # fmt: skip


def graph_of(bank: Path) -> Path:
    return next((bank / "index").glob("*.hnsw"))


LOOK = """
    import sys
    from support.banks import FACTS, open_bank
    with open_bank(sys.argv[1]) as bank:
        best = [result.text for result in bank.recall("Where does my sister Ana live?", 1)]
        bank.ingest_many([f"another memory {n}" for n in range(40)])
        bank.flush()
        assert best == [FACTS[0]], best
        assert bank.verify().ok, bank.verify().problems
        print("right")
"""


def answers_right(bank: Path) -> None:
    with python(LOOK, bank) as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, "right\n"), (process.returncode, err[-2000:])


@pytest.mark.parametrize(("field", "value"), CRAFTED)
def test_a_graph_that_leads_out_of_itself_is_not_loaded(bank: Path, field: str, value: float) -> None:
    graph = graph_of(bank)
    data = bytearray(graph.read_bytes())
    at, kind = HEAD[field]
    struct.pack_into("<" + kind, data, at, value)
    graph.write_bytes(data)
    sign(graph)
    with pytest.raises(BankCorruptError, match="damaged: it holds"):
        checked_graph(graph, json.loads(graph.with_suffix(".json").read_text())["dim"])
    answers_right(bank)


def within(data: bytearray, number: int, word: int) -> int:
    """Where a word of an element lies."""
    return 96 + number * int(struct.unpack_from("<Q", data, 24)[0]) + 4 * word


def crafted(bank: Path, edit: Callable[[bytearray], None]) -> Path:
    graph = graph_of(bank)
    data = bytearray(graph.read_bytes())
    edit(data)
    graph.write_bytes(data)
    sign(graph)
    return graph


def upper(data: bytearray) -> int:
    """Where the upper levels of the first element that has any begin."""
    at = 96 + struct.unpack_from("<Q", data, 16)[0] * struct.unpack_from("<Q", data, 24)[0]
    while not struct.unpack_from("<I", data, at)[0]:
        at += 4
    return int(at)


EDITS: dict[str, Callable[[bytearray], None]] = {
    "a link far beyond": lambda data: struct.pack_into("<I", data, within(data, 0, 1), 1 << 31),
    "more links than fit": lambda data: struct.pack_into("<H", data, within(data, 7, 0), 60_000),
    "a mark without meaning": lambda data: struct.pack_into("<B", data, within(data, 3, 0) + 3, 9),
    "a label twice": lambda data: struct.pack_into("<q", data, within(data, 4, 0) - 8, 7),
    "a label of nobody": lambda data: struct.pack_into("<q", data, within(data, 4, 0) - 8, -5),
    "no number in a vector": lambda data: struct.pack_into("<f", data, within(data, 2, 40), float("nan")),
    "endless numbers": lambda data: struct.pack_into("<f", data, within(data, 2, 40), 3e38),
    "upper levels of another length": lambda data: struct.pack_into("<I", data, upper(data), 12),
    "an upper link beyond": lambda data: struct.pack_into("<2I", data, upper(data) + 4, 1, 1 << 30),
    "an upper link to a low one": lambda data: struct.pack_into("<2I", data, upper(data) + 4, 1, _low(data)),
    "more upper links than fit": lambda data: struct.pack_into("<I", data, upper(data) + 4, 65_000),
    "bytes at the end": lambda data: data.extend(b"more"),
    "a byte at the end": lambda data: data.extend(b"m"),
    "an end too early": lambda data: data.__delitem__(slice(-40, None)),
}


def _low(data: bytearray) -> int:
    """An element at level 0 alone."""
    at = 96 + struct.unpack_from("<Q", data, 16)[0] * struct.unpack_from("<Q", data, 24)[0]
    number = 0
    while size := struct.unpack_from("<I", data, at)[0]:
        at, number = at + 4 + size, number + 1
    return number


@pytest.mark.parametrize("what", EDITS)
def test_links_of_a_graph_stay_within_it(bank: Path, what: str) -> None:
    graph = crafted(bank, EDITS[what])
    with pytest.raises(BankCorruptError, match="damaged: it holds"):
        checked_graph(graph, json.loads(graph.with_suffix(".json").read_text())["dim"])


@pytest.mark.parametrize(
    "changes",
    [{"dim": 10**9}, {"dim": 63}, {"dim": -1}, {"dim": "64"}, {"dim": None}, {"generation": "x"}, {"tag": 5},
     {"of": "other"}, {"crc32": 2**70}, {"format": None}],
)  # fmt: skip
def test_what_a_note_says_is_bounded(bank: Path, changes: dict[str, object]) -> None:
    sign(graph_of(bank), **changes)
    with open_bank(bank) as opened:
        assert opened.recall("Where does my sister Ana live?", 1)[0].text == FACTS[0]
        assert opened.verify().ok


@pytest.mark.parametrize("note", ["[]", "7", "null", "{", "[" * 5000, '"x"', "", "\0", "9" * 5000])
def test_a_note_that_is_none(bank: Path, note: str) -> None:
    graph_of(bank).with_suffix(".json").write_text(note)
    with open_bank(bank) as opened:
        assert opened.recall("Where does my sister Ana live?", 1)[0].text == FACTS[0]
        assert opened.verify().ok


def test_a_changed_note_is_seen(bank: Path) -> None:
    path = graph_of(bank).with_suffix(".json")
    note = json.loads(path.read_text())
    path.write_text(json.dumps({**note, "generation": note["generation"] + 1}))
    with pytest.raises(BankCorruptError, match="does not match its checksum"):
        VectorIndex.load(graph_of(bank), tag=note["tag"])
    answers_right(bank)


def test_our_own_graphs_pass(bank: Path) -> None:
    graph = graph_of(bank)
    dim = json.loads(graph.with_suffix(".json").read_text())["dim"]
    facts = checked_graph(graph, dim)
    mirror = hnswlib.Index(space="ip", dim=dim)
    mirror.load_index(str(graph))
    assert sorted(facts.labels.tolist()) == sorted(mirror.get_ids_list())
    assert facts.removed.sum() == 0 or facts.labels[facts.removed].tolist() == [2, 3]
    assert facts.links == mirror.M
