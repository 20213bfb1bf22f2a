"""Replies that only repeat what a person told: they go with it when it is forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from membank_llama.core.provenance import Provenance
from membank_llama.core.types import Memory
from membank_llama.recall.evidence import answered_ids
from membank_llama.recall.query_terms import terms
from membank_llama.store.full_text import words_of_texts
from membank_llama.store.namespace_snapshot import NamespaceSnapshot

MOSTLY = 0.7
"""The share of a reply's content that stands in what was told, or in the question that it answers."""


def repeating(told: Memory, replies: Iterable[Memory], questions: Mapping[int, str]) -> list[int]:
    """Ids of those replies that say what was told, and little else.

    Args:
        questions: by the id of a reply the text that it answered.
    """
    fact = _content(told.text)
    found = []
    for reply in replies:
        said, asked = _content(reply.text), _content(questions.get(reply.id, ""))
        if reply.provenance == Provenance.MODEL and said and (said & fact) - asked:
            shared = said & (fact | asked)
            if len(shared) >= MOSTLY * len(said):
                found.append(reply.id)
    return found


def _content(text: str) -> set[str]:
    """The stems of a text's content words."""
    words = terms(text)
    return set().union(*words_of_texts(words)) if words else set()


def questions_of(snapshot: NamespaceSnapshot, ids: Iterable[int]) -> dict[int, int]:
    """Of some replies the ids of what they answered."""
    rows = snapshot.rows(np.array(list(ids), np.int64))
    return {int(snapshot.ids[rows[place]]): turn for place, turn in answered_ids(snapshot, rows).items()}
