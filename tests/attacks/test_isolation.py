"""Thirty-two namespaces with nearly the same texts: nothing of one comes out of another, whatever is asked and how."""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from support.banks import open_bank

from membank_llama.core.types import NewMemory
from membank_llama.memory.import_export import export_memories
from membank_llama.memory.prompt_injection import MemoryOptions, PromptInjector
from membank_llama.recall.signals import Weights
from membank_llama.server.proxy.conversation_tracker import ConversationTracker
from membank_llama.server.proxy.tokenizers import EstimatedTokenizer

pytestmark = pytest.mark.attack

NAMES = [*(f"n{i}" for i in range(20)), "N0", "n0.", "n-0", "n+0", "n_0", "ｎ0", "n０", "nＯ", "pêche",
         "pêche2", "Ångström",
         "n0n0"]  # fmt: skip
TEXTS = (
    "My sister Ana lives in Porto, {}.",
    "The wifi password is under the router, {}.",
    "Our flight to Lisbon leaves at seven on 8 May 2023, {}.",
    "Bob: the boiler of {} was serviced in March",
    "What is the code of {}?",
    "long " + "The harbour of {} is blue and the lamp is lit. " * 60,
)
QUESTIONS = (
    "Where does my sister Ana live?",
    "wifi password",
    "flight to Lisbon in May 2023",
    "What did Bob say of the boiler?",
    "what did I tell you?",
    "harbour blue lamp",
    "mark3x",
    "the very same text everywhere",
    "last week",
    "*",
    "ns:n1 OR mark2x",
)
WAYS: tuple[dict[str, Any], ...] = (
    {}, {"levels": (0,)}, {"levels": (1,)}, {"levels": (2,)}, {"levels": (0, 1)}, {"since": 1.68e9},
    {"until": 1.68e9 + 2 * 86400}, {"since": 1.68e9, "until": 1.69e9}, {"exclude": [1, 2, 3]}, {"min_score": -1.0},
    {"diversity": 1.0}, {"top_k": 200}, {"now": 1.69e9}, {"weights": Weights()},
)  # fmt: skip


def marks(number: int, texts: Iterable[str]) -> list[str]:
    """What belongs to another namespace than this."""
    return [mark for text in texts for mark in re.findall(r"mark\d+x", text) if mark != f"mark{number}x"]


def told() -> list[NewMemory]:
    items = [
        NewMemory(
            text.replace("{}", f"mark{number}x"),
            {"speaker": "Bob"} if "Bob" in text else {},
            namespace=name,
            conversation="conv",
            created_at=1.68e9 + place * 86400,
            source="s",
            pinned=place == 1,
            role=("user", "assistant", "note")[place % 3],
        )
        for number, name in enumerate(NAMES)
        for place, text in enumerate(TEXTS)
    ]
    items += [NewMemory("the very same text everywhere", namespace=name) for name in NAMES]
    items += [
        NewMemory(f"filler {i} lamp river mark{number}x", namespace=name)
        for number, name in enumerate(NAMES)
        for i in range(20)
    ]
    random.Random(4).shuffle(items)
    return items


def test_nothing_crosses(tmp_path: Path) -> None:
    looked = 0
    with open_bank(tmp_path / "bank") as bank:
        bank.ingest_many(told())
        for number, name in enumerate(NAMES):
            for question in QUESTIONS:
                for way in WAYS:
                    found = bank.recall(question, namespace=name, **{"top_k": 10, **way})
                    looked += len(found)
                    assert {result.namespace for result in found} <= {name}
                    assert marks(number, (result.text for result in found)) == []
            stream = io.StringIO()
            export_memories(bank, stream, namespace=name)
            rows = [json.loads(line) for line in stream.getvalue().splitlines()]
            assert len(rows) == len(TEXTS) + 21
            assert {row["namespace"] for row in rows} == {name}
            assert marks(number, (row["text"] for row in rows)) == []
        assert looked > 30_000
        _conversations_and_blocks(bank)
        before = [bank.recall("the very same text everywhere", 3, namespace=name) for name in NAMES if name != "n3"]
        bank.forget(namespace="n3")
        bank.gc()
        after = [bank.recall("the very same text everywhere", 3, namespace=name) for name in NAMES if name != "n3"]
        assert [[r.memory_id for r in one] for one in before] == [[r.memory_id for r in one] for one in after]
        assert bank.recall("the very same text everywhere", 3, namespace="n3") == []
        assert bank.verify().ok


def _conversations_and_blocks(bank: Any) -> None:
    messages = [
        {"role": "user", "content": "hello there my friend"},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": "where does Ana live"},
    ]
    known, reminder = ConversationTracker(bank.store.registry), PromptInjector(bank)
    names = set()
    for number, name in enumerate(NAMES):
        found = known.recognise(name, messages)
        assert len(found.fresh) == 3
        known.note(found.conversation, [(turn.key, turn.depth) for turn in found.fresh])
        names.add(found.conversation)
        options = MemoryOptions(namespace=name)
        more = [*messages, {"role": "assistant", "content": "?"}, {"role": "user", "content": "and the boiler?"}]
        for asked in (messages, more):
            shown, _ = reminder.messages(asked, EstimatedTokenizer(4096), options, "c")
            assert marks(number, [json.dumps(shown, ensure_ascii=False)]) == []
    assert len(names) == len(NAMES)
    context = b"[1,2,3]"
    known.note("C", [(known.context_key("n0", context), 0)])
    go_on = [{"role": "user", "content": "go on"}]
    assert known.recognise("n0", go_on, context).conversation == "C"
    assert known.recognise("n1", go_on, context).conversation != "C"
