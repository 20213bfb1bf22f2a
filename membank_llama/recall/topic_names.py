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

from .common_words import stem_per_thousand
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
LEAST_RATIO = 1.5
"""How many times as often as elsewhere a word is said in a topic that it names."""
NAMELESS = STOP_WORDS | {
    "behind", "beside", "within", "without", "among", "along", "across", "around", "upon", "toward", "towards",
    "beneath", "near", "since", "though", "although", "whether", "unless", "onto", "instead", "perhaps", "already",
    "almost", "always", "never", "often", "sometimes",
}  # fmt: skip
"""Words of grammar, which name nothing where too few memories are there to show how common they are."""
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
        samples = [*texts, elsewhere[0]]
        cut = [[_cut(text) for text in sample] for sample in samples]
        written = Counter(word for sample in cut for words in sample for word in words)
        stems = _stems({word: folded(word) for word in written}, left_out)
        self._spellings = _most_written(written, stems)
        self._sizes, self._read = [*sizes, elsewhere[1]], [len(sample) for sample in samples]
        self._holding: list[Counter[str]] = [Counter() for _ in samples]
        for holding, sample in zip(self._holding, cut, strict=True):
            for words in sample:
                holding.update(dict.fromkeys((stems[word] for word in words if word in stems), 1))
        self._everywhere: dict[str, float] = dict.fromkeys(self._spellings, 0.0)
        for holding, size, read in zip(self._holding, self._sizes, self._read, strict=True):
            for stem, count in holding.items():
                self._everywhere[stem] += count * size / read

    def names(self) -> list[tuple[str, tuple[str, ...]]]:
        """Of each topic its name, each a different one, and its words, the most characteristic first."""
        found: list[tuple[str, tuple[str, ...]]] = []
        for place in range(len(self._sizes) - 1):
            words = self._characteristic(place)
            found.append((_name_beside([name for name, _ in found], words), tuple(word for word, _ in words)))
        return found

    def _characteristic(self, place: int) -> list[tuple[str, float]]:
        """The words of one topic with what each is worth, best first."""
        best: list[tuple[str, float]] = []
        _add_words(best, self._worth(place, once=False), WORDS)
        if len(best) < ENOUGH:
            _add_words(best, self._worth(place, once=True), ENOUGH)
        return best

    def _worth(self, place: int, *, once: bool) -> list[tuple[str, float]]:
        """Words that several of its memories hold, or a single one each, with what each is worth, best first: much for
        what many hold, few elsewhere do, and is rare at all."""
        size, read = self._sizes[place], self._read[place]
        total = sum(self._sizes)
        scored = []
        # words come in the order of the texts: of those said once the ones of typical memories are first
        for stem, count in self._holding[place].items():
            if (count == 1) != once:
                continue
            within, everywhere = count / read, self._everywhere[stem]
            said = max(0.0, everywhere - within * size) + BACKGROUND * stem_per_thousand(stem) / 1000 + 0.25
            ratio = within * (total - size + BACKGROUND) / said
            if ratio > LEAST_RATIO:
                overall = (everywhere + said) / (total + BACKGROUND)
                scored.append((self._spellings[stem], within * math.log(ratio) * -math.log(min(overall, 0.99))))
        return sorted(scored, key=lambda one: -one[1])


def _add_words(best: list[tuple[str, float]], more: Iterable[tuple[str, float]], most: int) -> None:
    """Words behind those there are, until there are so many; pairs of letters that stand in one of them are not."""
    for word, worth in more:
        if len(best) >= most:
            return
        if not RUN.match(word) or not any(word in other or other in word for other, _ in best):
            best.append((word, worth))


def _most_written(written: Mapping[str, int], stems: Mapping[str, str]) -> dict[str, str]:
    """Of each stem the spelling that is met most often; of equal ones the one that no sentence begins with."""
    found: dict[str, tuple[int, bool, str]] = {}
    for word, stem in stems.items():
        told = (-written[word], word.istitle(), word)
        if stem not in found or told < found[stem]:
            found[stem] = told
    return {stem: word for stem, (_, _, word) in found.items()}


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


def stems_of_texts(texts: Sequence[str]) -> list[list[str]]:
    """Of each text the stems of its words that may name something, each once, in order."""
    cut = [_cut(text) for text in texts]
    stems = _stems({word: folded(word) for words in cut for word in words}, ())
    return [list(dict.fromkeys(stems[word] for word in words if word in stems)) for words in cut]


def _stems(plain: Mapping[str, str], left_out: Collection[str]) -> dict[str, str]:
    """Of each word as it was written, given with how it is compared, the stem; those that name nothing are left out. A
    run of a script without spaces, which is filed by its letters, is its own."""
    kept = {
        word: same
        for word, same in plain.items()
        if same not in NAMELESS and same not in left_out and not same.isdigit()
    }
    spaced_words = sorted({same for same in kept.values() if not RUN.match(same)})
    filed = dict(zip(spaced_words, words_of_texts(spaced_words), strict=True))
    return {word: " ".join(sorted(filed.get(same, ()))) or same for word, same in kept.items()}


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
