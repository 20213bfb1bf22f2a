"""A result as JSON: all of it, and its scores alone."""

from __future__ import annotations

import json
from pathlib import Path

from support.banks import FACTS, open_bank

from membank_llama.core.types import NewMemory
from membank_llama.memory.import_export import memory_fields
from membank_llama.recall.result_json import result_json, scores_of


def test_all_fields_are_there_and_scores_hold_no_text(tmp_path: Path) -> None:
    with open_bank(tmp_path) as bank:
        bank.ingest_many([NewMemory(fact, metadata={"n": n}) for n, fact in enumerate(FACTS)])
        bank.pin(1)
        (result, *_) = bank.recall(FACTS[0], 2)
        memory = bank.get(result.memory_id)
    whole, scores = result_json(result), scores_of([result])[0]
    pointers = {name for name in result.keys() if name.startswith("ptr_")}  # noqa: SIM118
    assert whole.keys() == ({*result.keys()} - pointers) | {"pointers", "provenance", "id", "text_hash"}
    assert memory_fields(memory).items() <= whole.items()
    assert (scores["evidence"] >= scores["enough"]) == scores["relevant"]
    assert len(whole["pointers"]) == 3
    assert scores.items() <= whole.items()
    assert FACTS[0] in json.dumps(whole)
    assert FACTS[0] not in json.dumps(scores)
