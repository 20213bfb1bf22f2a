"""Questions go first: what is learned waits, but not for ever."""

from __future__ import annotations

import numpy as np
import pytest

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.server.proxy import priority_adapter
from membank_llama.server.proxy.priority_adapter import PriorityAdapter


def test_it_is_the_adapter_inside() -> None:
    inner = MockAdapter(64)
    adapter = PriorityAdapter(inner)
    assert (adapter.hidden_dim, adapter.model_id(), adapter.name) == (64, inner.model_id(), inner.name)
    texts = ["one two", "three"]
    np.testing.assert_array_equal(adapter.encode_batch(texts), inner.encode_batch(texts))
    with adapter.in_background():
        np.testing.assert_array_equal(adapter.encode_batch(texts), inner.encode_batch(texts))
        assert adapter.encode_batch([]).shape == (0, 64)


def test_what_is_learned_waits_while_a_recall_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = PriorityAdapter(MockAdapter(64))
    asked: list[None] = []
    for_ever = False

    def busy() -> bool:
        asked.append(None)
        return for_ever or len(asked) < 5

    adapter.is_busy = busy
    adapter.encode("a question does not")
    adapter.encode_batch(["nor", "do these"])
    assert asked == []
    monkeypatch.setattr(priority_adapter, "PATIENCE_SECONDS", 200.0)
    with adapter.in_background():
        adapter.encode_batch(["this"])
        assert len(asked) == 5
        monkeypatch.setattr(priority_adapter, "PATIENCE_SECONDS", 0.1)
        for_ever = True
        adapter.encode_batch(["and this", "and that"])
    assert len(asked) > 6
