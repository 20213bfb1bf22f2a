"""Letters as they are compared: one spelling for what Unicode, case and scripts spell in several ways.

Texts are kept and shown as they were written; only what two of them are compared by comes through here. Scripts that
put no spaces between words are cut into pairs of neighbouring letters, which finds a word wherever it stands.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import pairwise

# where Unicode has them: looking at all of it would take a third of a second
_MARK_BLOCKS = (
    (0x300, 0x1E00), (0x20D0, 0x2100), (0x2CE0, 0x2E00), (0x302A, 0x309B), (0xA600, 0xAC00), (0xFB1E, 0xFB1F),
    (0xFE20, 0xFE30),
)  # fmt: skip
_RARE_BLOCKS = (
    (0x101FD, 0x10380), (0x10A00, 0x10B00), (0x10D20, 0x10F90), (0x11000, 0x11FFF), (0x16AF0, 0x17000),
    (0x1BC9D, 0x1BC9F), (0x1D165, 0x1D245), (0x1E000, 0x1E950),
)  # fmt: skip


def _marks_in(blocks: Iterable[tuple[int, int]]) -> str:
    letters = (chr(code) for first, end in blocks for code in range(first, end))
    return "".join(letter for letter in letters if unicodedata.category(letter)[0] == "M")


_MARKS = _marks_in(_MARK_BLOCKS)

WORD = re.compile(rf"(?:[^\W_]|[{_MARKS}])+")
"""A word of a text: letters and digits, and the marks that some scripts write vowels with."""

_UNSPACED = (
    # Han, kana, Thai, Lao, Khmer, Myanmar: letters and their marks, neither digits nor punctuation
    "々〇〻㐀-䶿一-鿿豈-\ufaff\U00020000-\U0003ffff"
    "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u0edc-\u0edf\u1780-\u17d3\u17d7\u17dc\u17dd"
    "\u1000-\u103f\u1050-\u1089\u108b-\u108f\u109a-\u109d\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa7f"
)
RUN = re.compile(f"[{_UNSPACED}]+")
"""Letters of scripts without spaces, as many as stand together."""
_BORDER = re.compile(rf"(?<=[{_UNSPACED}])(?=[^\W_])(?![{_UNSPACED}])|(?<=[^\W_])(?<![{_UNSPACED}])(?=[{_UNSPACED}])")
HAN = re.compile("[々〇〻㐀-䶿一-鿿豈-\ufaff\U00020000-\U0003ffff]")

# letters of trade marks and accents that stand for an apostrophe would grow into the word beside them
_APART = {ord(sign): " " for sign in "™℠№´¨¯¸"} | {ord(part): f" {part}" for part in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞⅟↉"}
_POWER = re.compile("[⁰¹²³⁴-⁹](?<=[0-9].)")
_LEFT_OUT = (
    # soft hyphen, joiners, frames around a key, variation selectors
    (0xAD, 0xAD), (0x34F, 0x34F), (0x200C, 0x200D), (0x2060, 0x2060), (0x20D0, 0x20FF), (0xFE00, 0xFE0F),
    (0xE0100, 0xE01EF),
    # the points of Hebrew, the vowels and the stretching stroke of Arabic
    (0x591, 0x5BD), (0x5BF, 0x5BF), (0x5C1, 0x5C2), (0x5C4, 0x5C5), (0x5C7, 0x5C7), (0x610, 0x61A), (0x640, 0x640),
    (0x64B, 0x65F), (0x670, 0x670), (0x6D6, 0x6DC), (0x6DF, 0x6E4), (0x6E7, 0x6E8), (0x6EA, 0x6ED),
)  # fmt: skip
_OPTIONAL = {code: "" for first, last in _LEFT_OUT for code in range(first, last + 1)}
# patterns are slow with letters beyond the first plane in them: its scripts are compared without marks
_OPTIONAL |= {ord(mark): "" for mark in _marks_in(_RARE_BLOCKS)}
_PREPARED = _APART | _OPTIONAL
_MOST_MARKS = 30
"""On a letter: no script has more (UAX #15 stops there as well), and to sort them takes time squared."""
_HEAP = re.compile(f"[{_MARKS}][{_MARKS}]{{{_MOST_MARKS},}}")
_FORMS = re.compile("[ﬀ-ﬆⅠ-ⅿ０-９Ａ-Ｚａ-ｚ\uff66-\uff9f]+")
_ACCENTS = range(0x300, 0x370)
_LONGEST_LETTER = 16


def _plain_letters() -> dict[int, str]:
    """Letters of Latin, Greek and Cyrillic with accents, and what they are without; й, ў and ї are letters."""
    found = dict.fromkeys(_ACCENTS, "")
    for letter in map(chr, (*range(0xC0, 0x250), *range(0x370, 0x530), *range(0x1E00, 0x2000))):
        parts = unicodedata.normalize("NFD", letter)
        base = "".join(part for part in parts if ord(part) not in _ACCENTS)
        if base != parts and letter not in "йўї":
            found[ord(letter)] = base
    return found


_PLAIN = _plain_letters()


def readable(text: str) -> str:
    """A text as a model is given it: letters of full width, kana of half width, ligatures and Roman numerals as
    ordinary ones, for vocabularies have few others."""
    if text.isascii():
        return text
    return _FORMS.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)


def without_heaps(text: str) -> str:
    """A text with no more marks on a letter than any script has: to sort more takes time squared."""
    return _HEAP.sub(lambda found: found[0][:_MOST_MARKS], text)


def composed(text: str) -> str:
    """A text with one spelling of each letter (NFKC), in its case, without joiners and what may be left out: the points
    of Hebrew, the vowels of Arabic."""
    if text.isascii():
        return text
    apart = _POWER.sub(r" \g<0>", text.translate(_PREPARED))
    return unicodedata.normalize("NFKC", without_heaps(apart))


def folded(text: str) -> str:
    """A text as it is compared: `composed`, and without case."""
    if text.isascii():
        return text.lower()
    # Turkish has two letters i, and a question in capitals does not say which
    plain = composed(text).casefold().replace("i\u0307", "i").replace("ı", "i")
    return unicodedata.normalize("NFKC", plain.translate(_OPTIONAL))


def unaccented(text: str) -> str:
    """A folded text without accents: as its words are filed."""
    return text if text.isascii() else text.translate(_PLAIN)


def spaced(text: str) -> str:
    """A text with a space wherever a script without spaces touches another: "使用numpy库" is three words."""
    return _BORDER.sub(" ", text) if RUN.search(text) else text


def letters_of(run: str) -> list[str]:
    """The letters of a run, each with the marks that belong to it."""
    found: list[str] = []
    for letter in run:
        if found and len(found[-1]) < _LONGEST_LETTER and unicodedata.category(letter)[0] == "M":
            found[-1] += letter
        else:
            found.append(letter)
    return found


def pairs_of(run: str) -> list[str]:
    """Each two neighbouring letters of a run; the letter itself where it has one alone."""
    letters = letters_of(run)
    return [first + second for first, second in pairwise(letters)] or letters
