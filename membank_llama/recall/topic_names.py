"""What a topic is called: the words that many of its memories hold and few of the others.

Words are counted by their stems and shown as people wrote them most often. What is said everywhere drops out by being
said everywhere, in whatever language; a list only helps where there are too few memories to tell. Of scripts without
spaces short runs between words of grammar are words, of longer ones each two letters.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from membank_llama.core.letters import RUN, WORD, composed, folded, letters_of, pairs_of, spaced
from membank_llama.core.stop_words import STOP_WORDS
from membank_llama.store.full_text import words_of_texts

from .common_words import per_thousand
from .unspaced_terms import content_of

IN_A_NAME = 3
ENOUGH = 2
"""Words said by several memories, with which those of a single one are not asked for."""
WORDS = 8
"""Of a topic, its name's among them."""
LONGEST_RUN = 4
"""Letters of a run in a script without spaces that may be one word."""
BACKGROUND = 50
"""Memories that words are thought to be said in elsewhere, as often as people say them, beside those of the bank."""
FEW_WORDS = 500
LEAST_RATIO = 1.5
"""How many times as often as elsewhere a word is said in a topic that it names."""
WEAK = 0.3
"""A third word is left out of the name where it says less than this share of what the first one does."""


class TopicWords:
    """Words of some topics' memories, counted.

    Args:
        texts: of each topic some of its memories, the most typical ones first.
        sizes: of each topic how many memories it has.
        elsewhere: texts of memories that belong to no topic, and how many of those there are.
        left_out: words that name nothing, folded: those who speak.
    """

    def __init__(
        self,
        texts: Sequence[Sequence[str]],
        sizes: Sequence[int],
        elsewhere: tuple[Sequence[str], int] = ((), 0),
        left_out: Collection[str] = (),
    ) -> None:
        self._written: dict[str, Counter[str]] = {}
        self._left_out = left_out
        self._sizes = [*sizes, elsewhere[1]]
        samples = [*texts, elsewhere[0]]
        words = [[self._words(text) for text in sample] for sample in samples]
        self._stems = _stems(self._written)
        self._read = [len(sample) for sample in samples]
        self._holding = [Counter(stem for held in sample for stem in self._stems_of(held)) for sample in words]
        self._spellings = self._most_written()
        self._common = self._commonness()

    def names(self) -> list[tuple[str, tuple[str, ...]]]:
        """Of each topic its name, each a different one, and its words, the most characteristic first."""
        everywhere: Counter[str] = Counter()
        for holding, size, read in zip(self._holding, self._sizes, self._read, strict=True):
            for stem, count in holding.items():
                everywhere[stem] += count * size / read  # type: ignore[assignment]
        found: list[tuple[str, tuple[str, ...]]] = []
        for place in range(len(self._sizes) - 1):
            words = self._characteristic(place, everywhere)
            found.append((_name_beside([name for name, _ in found], words), tuple(word for word, _ in words)))
        return found

    def _characteristic(self, place: int, everywhere: Mapping[str, float]) -> list[tuple[str, float]]:
        """The words of one topic with what each is worth, best first."""
        holding, size, read = self._holding[place], self._sizes[place], self._read[place]
        others = sum(self._sizes) - size
        scored = []
        # words come in the order of the texts: of those said once the ones of typical memories are first
        for order, (stem, count) in enumerate(holding.items()):
            within = count / read
            said = max(0.0, everywhere[stem] - within * size) + BACKGROUND * self._common[stem] + 0.25
            ratio = within * (others + BACKGROUND) / said
            if ratio > LEAST_RATIO:
                overall = (everywhere[stem] + said) / (sum(self._sizes) + BACKGROUND)
                worth = within * math.log(ratio) * -math.log(min(overall, 0.99))
                scored.append((count == 1, -worth, order, self._spellings[stem]))
        best: list[tuple[str, float]] = []
        for once, worth, _, word in sorted(scored):
            if once and len(best) >= ENOUGH:
                break
            if not RUN.match(word) or not any(word in other or other in word for other, _ in best):
                best.append((word, -worth))
            if len(best) == WORDS:
                break
        return best

    def _stems_of(self, words: Iterable[str]) -> dict[str, None]:
        return dict.fromkeys(self._stems[word] for word in words)

    def _words(self, text: str) -> list[str]:
        """The folded words of a text that may name something; how they were written is noted."""
        found = []
        for word in _cut(text):
            plain = folded(word)
            if plain not in STOP_WORDS and plain not in self._left_out and not plain.isdigit():
                self._written.setdefault(plain, Counter())[word] += 1
                found.append(plain)
        return found

    def _commonness(self) -> dict[str, float]:
        """Of each stem the share of what people say that holds it. Where there are many words those said twice will do:
        the others name nothing."""
        counts: Counter[str] = Counter()
        for holding in self._holding:
            counts.update(holding)
        asked = [stem for stem, count in counts.items() if count > 1 or len(counts) <= FEW_WORDS]
        shares = per_thousand([self._spellings[stem] for stem in asked])
        return dict.fromkeys(counts, 0.0) | {stem: share / 1000 for stem, share in zip(asked, shares, strict=True)}

    def _most_written(self) -> dict[str, str]:
        """Of each stem the spelling that is met most often."""
        spelled: dict[str, Counter[str]] = {}
        for plain, counts in self._written.items():
            spelled.setdefault(self._stems[plain], Counter()).update(counts)
        return {
            stem: min(counts, key=lambda word: (-counts[word], word.istitle(), word))
            for stem, counts in spelled.items()
        }


def _cut(text: str) -> list[str]:
    """The words of a text in their case; of scripts without spaces short parts, or pairs of letters."""
    found: list[str] = []
    for word in WORD.findall(spaced(composed(text))):
        if not RUN.match(word):
            found += [word] if len(word) > 1 else []
            continue
        for part in content_of(word):
            letters = letters_of(part)
            found += [part] if 1 < len(letters) <= LONGEST_RUN else []
            found += pairs_of(part) if len(letters) > 2 else []
    return found


def _stems(words: Collection[str]) -> dict[str, str]:
    """Each word's stem; a run of a script without spaces, which is filed by its letters, is its own."""
    every = list(words)
    plain = [word for word in every if not RUN.match(word)]
    stems = dict.fromkeys(every, "")
    for word, filed in zip(plain, words_of_texts(plain), strict=True):
        stems[word] = " ".join(sorted(filed))
    return {word: stem or word for word, stem in stems.items()}


def _name_beside(names: Collection[str], words: Sequence[tuple[str, float]]) -> str:
    """Two or three words as a name that is not among those given."""
    most = min(IN_A_NAME, len(words))
    if most == IN_A_NAME and words[2][1] < WEAK * words[0][1]:
        most = 2
    name = ", ".join(word for word, _ in words[:most])
    while name in names or not name:
        most += 1
        if most > len(words):
            return _numbered(names, name)
        name = ", ".join(word for word, _ in words[:most])
    return name


def _numbered(names: Collection[str], name: str) -> str:
    base = name or "unnamed"
    number = 1 if not name else 2
    while (tried := base if number == 1 else f"{base} ({number})") in names:
        number += 1
    return tried
