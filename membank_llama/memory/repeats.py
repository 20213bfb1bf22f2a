"""Replies that only repeat what a person told: they go with it when it is forgotten."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain

import numpy as np

from membank_llama.core.provenance import Provenance
from membank_llama.core.types import Memory
from membank_llama.recall.evidence import answered_ids
from membank_llama.recall.query_terms import terms
from membank_llama.store.full_text import words_of_texts
from membank_llama.store.namespace_snapshot import NamespaceSnapshot

MOSTLY = 0.7
"""The share of a reply's content that stands in what was told, or in the question that it answers."""


class ToldWords:
    """The content of what was told, by which replies are known that say one of it and little else.

    Many are looked through as quickly as one: each word leads to those that hold it.
    """

    def __init__(self, told: Iterable[Memory]) -> None:
        self._holding: defaultdict[str, list[int]] = defaultdict(list)
        for place, one in enumerate(told):
            for word in _content(one.text):
                self._holding[word].append(place)

    def repeated_by(self, replies: Iterable[Memory], questions: Mapping[int, str]) -> dict[int, list[int]]:
        """By the ids of those replies that only repeat, the places of what they repeat.

        Args:
            questions: by the id of a reply the text that it answered.
        """
        found = {}
        for reply in replies:
            if reply.provenance != Provenance.MODEL:
                continue
            said, asked = _content(reply.text), _content(questions.get(reply.id, ""))
            own = [self._holding[word] for word in said - asked if word in self._holding]
            enough = MOSTLY * len(said) - len(said & asked)
            # first whether all of them together would do
            if own and len(own) >= enough:
                shared = Counter(chain.from_iterable(own))
                if places := [place for place, count in shared.items() if count >= enough]:
                    found[reply.id] = places
        return found


def _content(text: str) -> set[str]:
    """The stems of a text's content words."""
    words = terms(text)
    return set().union(*words_of_texts(words)) if words else set()


def questions_of(snapshot: NamespaceSnapshot, ids: Iterable[int]) -> dict[int, int]:
    """Of some replies the ids of what they answered."""
    rows = snapshot.rows(np.array(list(ids), np.int64))
    return {int(snapshot.ids[rows[place]]): turn for place, turn in answered_ids(snapshot, rows).items()}
