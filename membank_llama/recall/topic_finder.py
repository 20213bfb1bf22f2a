"""`TopicFinder`: what the memories of a namespace are about, as topics with names, and as points in a plane.

Groups come from the memories' coarse level (topic_groups.py), names from their words (topic_names.py). Questions, what
the model answered and small talk have no say in what topics there are: they join the one that they are near to, or
none, as everything does that is near to none.

Nothing of it is written to disk. When the namespace changes sizes, names and members are made of what is there now;
while little has changed axes and centres are gone on with, and a topic keeps its id while most of its memories stay
together.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

import numpy as np

from membank_llama.core.dialogue_acts import is_evasion
from membank_llama.core.errors import InvalidQueryError, MembankError
from membank_llama.core.letters import WORD, folded, spaced
from membank_llama.core.types import Fields, Ids, Mask, Rows, Times
from membank_llama.store.memory_texts import beginnings, text_lengths
from membank_llama.store.namespace_snapshot import NamespaceSnapshot
from membank_llama.store.registry import BankState
from membank_llama.store.store import Store

from .topic_groups import Groups, MemoryLines, grouped
from .topic_names import TopicWords

ENOUGH_TOLD = 12
"""Memories that tell something, with which what only asks has no say in what topics there are."""
SMALL_TALK = 60
"""Bytes of a text that may be nothing but "Thanks, that was helpful!"."""
NAMED_BY = 120
"""Memories of a topic whose words are counted, and of each its first characters."""
NAMED_BY_CHARACTERS = 600
MOST_KEPT = 32
"""Namespaces whose topics are kept in memory."""
LEAST_POINTS = 8
"""Of each topic on a map, however small it is beside the others."""


@dataclass(frozen=True)
class Topic(Fields):
    """Memories that are about the same.

    `name` is two or three of its `words`, the most characteristic first; `ids` are its memories by rising id, of which
    `example` is a typical one; `oldest` and `newest` are when the first was told and the last.
    """

    id: str
    name: str
    words: tuple[str, ...]
    size: int
    oldest: float
    newest: float
    example: int
    ids: tuple[int, ...] = field(repr=False)


@dataclass(frozen=True)
class MapPoint(Fields):
    """A memory in the plane, `x` and `y` from -1 to 1; `topic` is the id of its topic, None where it has none."""

    id: int
    x: float
    y: float
    topic: str | None


@dataclass(frozen=True)
class TopicMap:
    """A namespace in two dimensions: the leading axes of its coarse level.

    `points` are all of its memories, or as many of each topic as there is room for; `centres` says by the id of a topic
    where its name belongs; `memories` is how many there are.
    """

    topics: tuple[Topic, ...]
    points: tuple[MapPoint, ...] = field(repr=False)
    centres: dict[str, tuple[float, float]]
    memories: int


@dataclass(frozen=True)
class _Kept:
    """The topics of a namespace at one moment; `of` says of each line which of them it belongs to, -1 for none."""

    state: BankState
    hidden: bytes
    ids: Ids
    groups: Groups
    of: Rows
    topics: tuple[Topic, ...]


class TopicFinder:
    """Finds the topics of one store's namespaces."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Kept] = OrderedDict()

    def topics(self, namespace: str, now: float | None = None) -> list[Topic]:
        """The topics of what a namespace holds, largest first; `now` leaves out what has expired by then."""
        return list(self._current(namespace, now).topics)

    def topic_map(self, namespace: str, most: int, now: float | None = None) -> TopicMap:
        """A namespace in two dimensions, at most so many of its memories, evenly from all topics.

        Raises:
            InvalidQueryError: no room for any.
        """
        if most < 1:
            raise InvalidQueryError(f"a map of {most} memories shows none; ask for 1 or more")
        kept = self._current(namespace, now)
        plane, topics = kept.groups.plane, kept.topics
        chosen = _evenly(kept.of, most)
        names = [*(topic.id for topic in topics), None]
        rows = zip(kept.ids[chosen].tolist(), plane[chosen].tolist(), kept.of[chosen].tolist(), strict=True)
        points = tuple(MapPoint(memory_id, x, y, names[place]) for memory_id, (x, y), place in rows)
        centres = {}
        for place, topic in enumerate(topics):
            x, y = plane[kept.of == place].mean(axis=0).tolist()
            centres[topic.id] = (x, y)
        return TopicMap(topics, points, centres, len(kept.ids))

    def find(self, namespace: str, named: str, now: float | None = None) -> Topic:
        """The topic of this id or name, or the one whose name or words come nearest.

        Raises:
            InvalidQueryError: none does; the message names those there are.
        """
        topics = self.topics(namespace, now)
        asked = " ".join(folded(named).split())
        for topic in topics:
            if asked in (folded(topic.id), folded(topic.name)):
                return topic
        words = set(_words(asked))
        shared = [len(words & set(_words(" ".join(topic.words)))) for topic in topics]
        if any(shared):
            # of several the one that is called so, and not only holds the word somewhere
            called = [bool(words & {*_words(topic.name)}) for topic in topics]
            return topics[max(range(len(topics)), key=lambda place: (shared[place], called[place], -place))]
        near = get_close_matches(asked, [folded(word) for topic in topics for word in topic.words], 1, 0.75)
        for topic in topics:
            if near and near[0] in map(folded, topic.words):
                return topic
        there = "; ".join(f"{topic.name} ({topic.id})" for topic in topics)
        raise InvalidQueryError(
            f"no topic of {namespace!r} is like {named!r}; "
            + (f"there are: {there}" if there else "it holds no topics yet: they come with more memories")
        )

    def _current(self, namespace: str, now: float | None) -> _Kept:
        with self._lock:
            while True:
                state = self._store.current()
                try:
                    kept = self._known.get(namespace)
                    snapshot, seen, hidden = self._seen(namespace, state, now)
                    if kept is None or (kept.state, kept.hidden) != (state, hidden):
                        kept = self._made(namespace, state, snapshot, seen, hidden)
                except (MembankError, ValueError, IndexError):
                    # arrays of two encodings do not fit together either
                    if self._store.is_current(state.activations):
                        raise
                    continue
                if self._store.is_current(state.activations):
                    break
            self._known[namespace] = kept
            self._known.move_to_end(namespace)
            while len(self._known) > MOST_KEPT:
                self._known.popitem(last=False)
            return kept

    def _seen(self, namespace: str, state: BankState, now: float | None) -> tuple[NamespaceSnapshot, Mask, bytes]:
        """The snapshot, its rows that may be seen, and what tells those from others of the same snapshot."""
        snapshot = self._store.snapshots.get(namespace, state)
        expired = self._store.registry.select(
            namespace=namespace, conversation=None, before=None, expired_at=now
        ) if now is not None else []  # fmt: skip
        seen = snapshot.seen(None, None, expired)
        if seen is None:
            return snapshot, np.ones(len(snapshot), np.bool_), b""
        return snapshot, seen, np.packbits(seen).tobytes()

    def _made(self, namespace: str, state: BankState, snapshot: NamespaceSnapshot, seen: Mask, hidden: bytes) -> _Kept:
        ids, lengths, short = text_lengths(self._store.registry, namespace, SMALL_TALK)
        # what another process removed stays in a snapshot until somebody misses it
        gone = np.setdiff1d(snapshot.owner, ids)
        if len(gone):
            self._store.snapshots.drop(namespace, gone.tolist())
            seen = seen & ~np.isin(snapshot.owner, gone)
        lines = MemoryLines.of(snapshot, seen)
        told = _telling(snapshot, lines, short)
        at = np.searchsorted(ids, lines.ids)
        before = self._known.get(namespace)
        same = before is not None and before.state.activations == state.activations
        earlier = before.groups.fitted if before is not None and same else None
        groups = grouped(self._store, snapshot, lines, told, lengths[at].astype(np.float32), earlier)
        topics, of = self._named(snapshot, lines, told, groups, () if before is None else before.topics)
        return _Kept(state, hidden, lines.ids, groups, of, topics)

    def _named(
        self, snapshot: NamespaceSnapshot, lines: MemoryLines, told: Mask, groups: Groups, before: Sequence[Topic]
    ) -> tuple[tuple[Topic, ...], Rows]:
        """The topics of some groups, largest first, and which of them each line belongs to."""
        members = [np.flatnonzero(groups.of == group) for group in range(int(groups.of.max(initial=-1)) + 1)]
        members = sorted((lines_ for lines_ in members if told[lines_].any()), key=lambda one: (-len(one), one[0]))
        # a memory beside others is about nothing that they share
        members = [lines_ for lines_ in members if len(lines_) > 1] or members
        of = np.full(len(lines), -1, np.intp)
        for place, own in enumerate(members):
            of[own] = place
        typical = [_typical(own[told[own]], groups) for own in members]
        loose = np.flatnonzero((of < 0) & told)
        names = self._names(snapshot, lines.ids, typical, loose)
        ids = _kept_ids([lines.ids[own] for own in members], [lines.ids[own] for own in typical], before)
        oldest, newest = snapshot.created[lines.first], snapshot.told[lines.first]
        topics = tuple(
            _topic(topic_id, named, lines.ids[own], int(lines.ids[likely[0]]), (oldest[own], newest[own]))
            for topic_id, named, own, likely in zip(ids, names, members, typical, strict=True)
        )
        return topics, of

    def _names(
        self, snapshot: NamespaceSnapshot, ids: Ids, typical: Sequence[Rows], loose: Rows
    ) -> list[tuple[str, tuple[str, ...]]]:
        read = [_some(lines_, NAMED_BY) for lines_ in (*typical, loose)]
        wanted = [memory_id for lines_ in read for memory_id in ids[lines_].tolist()]
        texts = beginnings(self._store.registry, wanted, NAMED_BY_CHARACTERS)
        *named, elsewhere = [[texts[i] for i in ids[lines_].tolist() if i in texts] for lines_ in read]
        speakers = {word for name in snapshot.names for word in _words(folded(name))}
        left_out = speakers if snapshot.tells_speakers_apart else set()
        return TopicWords(named, [len(own) for own in typical], (elsewhere, len(loose)), left_out).names()


def _telling(snapshot: NamespaceSnapshot, lines: MemoryLines, short: dict[int, str]) -> Mask:
    """Which lines say what topics there are: what tells something, or all where hardly anything does."""
    quiet = snapshot.records[lines.first].copy()
    small_talk = [memory_id for memory_id, text in short.items() if is_evasion(text)]
    quiet |= np.isin(lines.ids, np.array(small_talk, np.int64))
    told = ~quiet
    enough = int(told.sum()) >= ENOUGH_TOLD or 4 * int(told.sum()) >= len(lines) or len(lines) < ENOUGH_TOLD
    return told if enough else np.ones(len(lines), np.bool_)


def _typical(lines: Rows, groups: Groups) -> Rows:
    """The most typical first; of equal ones the earlier."""
    order: Rows = lines[np.argsort(-groups.closeness[lines], kind="stable")]
    return order


def _topic(
    topic_id: str, named: tuple[str, tuple[str, ...]], ids: Ids, example: int, times: tuple[Times, Times]
) -> Topic:
    oldest, newest = float(times[0].min()), float(times[1].max())
    return Topic(topic_id, *named, len(ids), oldest, newest, example, tuple(ids.tolist()))


def _kept_ids(members: Sequence[Ids], typical: Sequence[Ids], before: Sequence[Topic]) -> list[str]:
    """An id for each topic: that of an earlier one where most of either is in both, or else by the oldest memory of
    its more typical half."""
    found: dict[int, str] = {}
    shared = [
        (len(np.intersect1d(own, np.array(old.ids, np.int64), assume_unique=True)), place, old)
        for old in before
        for place, own in enumerate(members)
    ]
    for count, place, old in sorted(shared, key=lambda one: (-one[0], one[1])):
        mostly = 2 * count > min(old.size, len(members[place]))
        if mostly and place not in found and old.id not in found.values():
            found[place] = old.id
    # what was the id of one topic is not that of another
    taken = {*found.values(), *(old.id for old in before)}
    for place, own in enumerate(typical):
        if place not in found:
            half = np.sort(own[: (len(own) + 1) // 2]).tolist()
            free = (f"t{memory_id}" for memory_id in [*half, *own.tolist()] if f"t{memory_id}" not in taken)
            found[place] = next(free, f"t{half[0]}-{place}")
            taken.add(found[place])
    return [found[place] for place in range(len(members))]


def _some(lines: Rows, most: int) -> Rows:
    """At most so many of some lines, evenly, the first among them."""
    return lines if len(lines) <= most else lines[np.linspace(0, len(lines) - 1, most).astype(np.intp)]


def _evenly(of: Rows, most: int) -> Rows:
    """At most so many lines: of each topic its share, but a few of the smallest too."""
    if len(of) <= most:
        return np.arange(len(of))
    groups = [np.flatnonzero(of == place) for place in range(-1, int(of.max(initial=-1)) + 1)]
    groups = sorted((lines for lines in groups if len(lines)), key=lambda lines: -len(lines))[:most]
    least = min(LEAST_POINTS, most // len(groups))
    room = most - least * len(groups)
    shares = [min(len(lines), least + room * len(lines) // len(of)) for lines in groups]
    return np.sort(np.concatenate([_some(lines, share) for lines, share in zip(groups, shares, strict=True)]))


def _words(text: str) -> list[str]:
    return [folded(word) for word in WORD.findall(spaced(text))]
