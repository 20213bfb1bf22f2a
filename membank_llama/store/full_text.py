"""Words of texts, and the keys under which a bank files them.

Words are those of SQLite's FTS5: cut by its `unicode61`, without diacritics, stemmed by its Porter. They are taken
from it and filed in a table of our own, because FTS5 before SQLite 3.42 keeps the words of what was deleted until
segments happen to be merged. A word is filed as a keyed hash (BLAKE2b, 64 bits) of its namespace and itself: no byte
of a text stands in the index, where freed pages and split ones may keep copies, and what one namespace holds says
nothing in another.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache

TOKENIZER = "porter unicode61 remove_diacritics 2"
LONGEST_WORD = 200
"""Characters of a word that count; what is longer is no word."""

KEY_BYTES = 8


class _Cutter:
    """An FTS5 table in memory, filled for one look at its words and emptied again. One thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._db.execute(f"CREATE VIRTUAL TABLE piece USING fts5 (text, content='', tokenize='{TOKENIZER}')")
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
    return _cutter().cut(texts)


@lru_cache(maxsize=8192)
def filed_as(word: str) -> tuple[str, ...]:
    """What one word of a question is filed as: one word mostly, several where FTS5 cuts it up, or none."""
    return tuple(sorted(words_of_texts([word])[0]))


class WordKeys:
    """Keys of words in one bank, from its secret."""

    def __init__(self, secret: str) -> None:
        self._secret = bytes.fromhex(secret)

    def key(self, namespace: str, word: str) -> int:
        """The key of one filed word in a namespace: 64 bits, signed, as SQLite stores integers."""
        name = f"{len(namespace)} {namespace} {word}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(name, digest_size=KEY_BYTES, key=self._secret).digest()
        return int.from_bytes(digest, "little", signed=True)

    def of_texts(self, pairs: Sequence[tuple[str, str]]) -> list[set[int]]:
        """For each (namespace, text) the keys of its words."""
        cut = words_of_texts([text for _, text in pairs])
        return [{self.key(namespace, word) for word in words} for (namespace, _), words in zip(pairs, cut, strict=True)]

    def of_forms(self, namespace: str, forms: Sequence[str]) -> list[tuple[int, ...]]:
        """For each form of a word the keys that a text must have all of; forms that are no word are left out."""
        return [keys for form in forms if (keys := tuple(self.key(namespace, word) for word in filed_as(form)))]


def sql_function() -> Callable[[str, object, object], str]:
    """``membank_words(secret, namespace, text)`` for migrations: the keys of a text's words as a JSON array."""

    @lru_cache(maxsize=1)
    def keys(secret: str) -> WordKeys:
        return WordKeys(secret)

    def words(secret: str, namespace: object, text: object) -> str:
        if not isinstance(namespace, str) or not isinstance(text, str):
            # damaged, which is no reason to refuse the whole bank
            return "[]"
        return json.dumps(sorted(keys(secret).of_texts([(namespace, text)])[0]))

    return words
