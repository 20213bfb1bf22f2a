"""Words of texts: those of SQLite's FTS5, cut by its `unicode61`, without diacritics, stemmed by its Porter.

They are taken from it and filed in a table of our own (word_index.py), because FTS5 before SQLite 3.42 keeps the words
of what was deleted until segments happen to be merged. Texts come to it in the letters that are compared
(core/letters.py); of scripts without spaces, each two neighbouring letters are words as well, and each letter of Han,
where one letter often is a word.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from functools import lru_cache

from membank_llama.core.letters import HAN, RUN, folded, pairs_of, spaced, unaccented

TOKENIZER = "porter unicode61 remove_diacritics 2"
_WITH_MARKS = f"{TOKENIZER} categories ''L* N* Co M*''"
"""Marks are parts of a word: Devanagari and Thai write vowels with them."""
LONGEST_WORD = 200
"""Characters of a word that count; what is longer is no word."""


class _Cutter:
    """An FTS5 table in memory, filled for one look at its words and emptied again. One thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._db.execute(f"CREATE VIRTUAL TABLE piece USING fts5 (text, content='', tokenize='{_WITH_MARKS}')")
        self._db.execute("CREATE VIRTUAL TABLE words USING fts5vocab (piece, instance)")

    def cut(self, texts: Sequence[str]) -> list[set[str]]:
        found: list[set[str]] = [set() for _ in texts]
        with self._lock:
            self._db.execute("BEGIN")
            try:
                # a null character would end the text for SQLite
                rows = ((n, text.replace("\0", " ")) for n, text in enumerate(texts))
                self._db.executemany("INSERT INTO piece (rowid, text) VALUES (?, ?)", rows)
                for place, word in self._db.execute("SELECT doc, term FROM words"):
                    found[place].add(word[:LONGEST_WORD])
            finally:
                self._db.execute("ROLLBACK")
        return found


_cutter = lru_cache(maxsize=1)(_Cutter)


def words_of_texts(texts: Sequence[str]) -> list[set[str]]:
    """The words of each text, each once, as they are filed."""
    plain = [text if text.isascii() else spaced(unaccented(folded(text))) for text in texts]
    found = _cutter().cut(plain)
    for text, words in zip(plain, found, strict=True):
        if not text.isascii():
            for run in RUN.findall(text):
                words.update(pairs_of(run), HAN.findall(run))
    return found


@lru_cache(maxsize=8192)
def filed_as(word: str) -> tuple[str, ...]:
    """What one word of a question is filed as: one word mostly, several where FTS5 cuts it up, or none."""
    if word.isascii():
        return tuple(sorted(words_of_texts([word])[0]))
    plain = spaced(unaccented(folded(word)))
    # a run is looked up by its pairs, wherever it stands
    found = _cutter().cut([RUN.sub(" ", plain)])[0]
    return tuple(sorted(found.union(*(pairs_of(run) for run in RUN.findall(plain)))))
