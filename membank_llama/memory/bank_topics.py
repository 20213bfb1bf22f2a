"""`BankTopics`: what a bank's memories are about, as topics and as a map."""

from __future__ import annotations

from membank_llama.core.types import DEFAULT_NAMESPACE
from membank_llama.recall.topic_finder import Topic, TopicFinder, TopicMap


class BankTopics:
    """Topics are computed when they are asked for, and kept in memory until the namespace changes; `MemBank` opens what
    is named here."""

    _topics: TopicFinder

    def topics(self, namespace: str = DEFAULT_NAMESPACE, *, now: float | None = None) -> list[Topic]:
        """The topics of a namespace, largest first; a memory belongs to one or none. No model is asked.

        Args:
            now: what has expired by then is left out; None for the clock's time.
        """
        return self._topics.topics(namespace, now)

    def topic(self, named: str, namespace: str = DEFAULT_NAMESPACE) -> Topic:
        """The topic of this id or name, or the one whose words come nearest.

        Raises:
            InvalidQueryError: none does; the message names those there are.
        """
        return self._topics.find(namespace, named)

    def topic_map(self, namespace: str = DEFAULT_NAMESPACE, *, most: int = 2000, now: float | None = None) -> TopicMap:
        """The memories of a namespace as points in a plane, at most so many, evenly from all topics.

        Args:
            now: as for `topics`.

        Raises:
            InvalidQueryError: `most` is below 1.
        """
        return self._topics.topic_map(namespace, most, now)
