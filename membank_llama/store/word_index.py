"""`WordIndex`: which memories of a namespace hold a word.

A table of (key of the word, id of the memory). A word is filed as a keyed hash (BLAKE2b, 64 bits) of its namespace
and itself: no byte of a text stands in the index, where freed pages and split ones may keep copies, and a word is
looked for among the memories of one namespace alone: what others store neither counts nor costs time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from sqlite_utils import Database

from membank_llama.core.errors import BankCorruptError
from membank_llama.core.types import Progress

from .database import CHUNK, BankDatabase, chunks
from .full_text import filed_as, words_of_texts
from .row_format import damaged

KEY_BYTES = 8

MOST_KEYS = 8192
"""Words asked for whose keys are kept in mind."""

MOST_COMMON = 65_536
"""Words known to be too common; past so many all are counted again."""

Texts = Sequence[tuple[int, str, str]]
"""(id, namespace, text) of memories."""


class WordKeys:
    """Keys of words in one bank, from its secret."""

    def __init__(self, secret: str) -> None:
        self._secret = bytes.fromhex(secret)
        self._known = lru_cache(maxsize=MOST_KEYS)(self._of_form)

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
        return [keys for form in forms if (keys := self._known(namespace, form))]

    def _of_form(self, namespace: str, form: str) -> tuple[int, ...]:
        return tuple(self.key(namespace, word) for word in filed_as(form))


class WordIndex:
    """The table `postings` of one bank; `secret` makes its keys."""

    def __init__(self, database: BankDatabase, secret: str) -> None:
        self._database = database
        self._keys = WordKeys(secret)
        self._common: tuple[int, set[tuple[str, tuple[str, ...], int]]] = (-1, set())

    def file(self, db: Database, texts: Texts) -> None:
        """File the words of these memories, in the transaction that `db` is in."""
        db.conn.executemany("INSERT OR IGNORE INTO postings VALUES (?, ?)", self._filed(texts))

    def unfile(self, texts: Texts) -> None:
        """Take the words of these memories out."""
        with self._database.transaction() as db:
            db.conn.executemany("DELETE FROM postings WHERE word = ? AND memory_id = ?", self._filed(texts))

    def _filed(self, texts: Texts) -> list[tuple[int, int]]:
        keys = self._keys.of_texts([(namespace, text) for _, namespace, text in texts])
        # in the order of the table: a page is touched once
        return sorted((key, memory_id) for (memory_id, _, _), held in zip(texts, keys, strict=True) for key in held)

    def rebuild(self) -> None:
        """File the words of all memories anew."""
        with self._database.transaction() as db:
            db.execute("DELETE FROM postings")
            for texts in self._texts():
                self.file(db, texts)

    def is_sound(self, progress: Progress | None = None) -> bool:
        """Whether what is filed is what the memories hold."""
        with self._database.snapshot():
            return self._is_sound(progress)

    def _is_sound(self, progress: Progress | None) -> bool:
        expected, seen, total = 0, 0, int(self._database.scalar("SELECT count(*) FROM memories"))
        for texts in self._texts():
            seen += len(texts)
            if progress is not None:
                progress("verifying words", seen, total)
            filed = self._filed(texts)
            expected += len(filed)
            for _, piece in chunks([value for pair in filed for value in pair]):
                pairs = ",".join(["(?,?)"] * (len(piece) // 2))
                # each pair is looked up; "IN (VALUES …)" would read the whole table for every piece
                sql = (
                    f"WITH filed(key, id) AS (VALUES {pairs}) SELECT count(*) FROM filed CROSS JOIN postings"
                    " ON word = key AND memory_id = id"
                )
                if self._database.scalar(sql, piece) != len(piece) // 2:
                    return False
        return bool(expected == self._database.scalar("SELECT count(*) FROM postings"))

    def _texts(self) -> Iterator[Texts]:
        after, sql = 0, "SELECT id, namespace, text FROM memories WHERE id > ? ORDER BY id LIMIT ?"
        while rows := self._database.rows(sql, (after, CHUNK)):
            for memory_id, namespace, text in rows:
                if not isinstance(text, str) or not isinstance(namespace, str):
                    raise damaged(memory_id)
            if rows[-1][0] <= after:
                raise BankCorruptError(f"{self._database.path}: memories are out of order; restore it from a copy")
            yield rows
            after = rows[-1][0]

    def postings(self, namespace: str, terms: Sequence[Sequence[str]], limit: int, removals: int) -> list[str | None]:
        """For each word, given in all its forms, the ids of the memories with any of them as ``"1,5,12"``; None where
        there are more than `limit`: then it is not counted again before `removals` changes."""
        common = self._known_common(removals)
        asked = [forms for forms in terms if (namespace, tuple(forms), limit) not in common]
        parts: list[str] = []
        params: list[int] = [limit]
        for forms in asked:
            ids, keys = _holding(self._keys.of_forms(namespace, forms))
            params += keys
            # one string a word: a row for each posting costs twice the time
            parts.append(
                "(SELECT CASE WHEN count(*) <= ?1 THEN coalesce(group_concat(memory_id), '') END"
                f" FROM ({ids} LIMIT ?1 + 1))"
            )
        row = self._database.rows("SELECT " + ", ".join(parts), params)[0] if parts else ()
        found = {tuple(forms): ids for forms, ids in zip(asked, row, strict=True)}
        common.update((namespace, forms, limit) for forms, ids in found.items() if ids is None)
        return [found.get(tuple(forms)) for forms in terms]

    def _known_common(self, removals: int) -> set[tuple[str, tuple[str, ...], int]]:
        """Words that are too common: more memories do not make them rarer, only fewer do."""
        common = self._common
        if common[0] != removals or len(common[1]) > MOST_COMMON:
            self._common = common = (removals, set())
        return common[1]


def _holding(forms: Sequence[tuple[int, ...]]) -> tuple[str, list[int]]:
    """A query for the ids that hold all keys of any form, and the keys in its order."""
    if [len(keys) for keys in forms] == [1]:
        return "SELECT memory_id FROM postings WHERE word = ?", [forms[0][0]]
    single = [keys[0] for keys in forms if len(keys) == 1]
    choices = [f"SELECT memory_id FROM postings WHERE word IN ({','.join('?' * len(single))})"] if single else []
    for keys in forms:
        if len(keys) > 1:
            held = " INTERSECT ".join(["SELECT memory_id FROM postings WHERE word = ?"] * len(keys))
            choices.append(f"SELECT memory_id FROM ({held})")
    several = [key for keys in forms if len(keys) > 1 for key in keys]
    every = " UNION ALL ".join(choices) or "SELECT NULL AS memory_id WHERE 0"
    return f"SELECT DISTINCT memory_id FROM ({every})", single + several


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
