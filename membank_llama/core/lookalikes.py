"""What looks like a part of the block and is none: its markers in other spellings, a line within a line, a role that
claims authority. A person would not be fooled, a tokenizer is not either; a model may be.
"""

from __future__ import annotations

import re
import unicodedata

_THIN = "[\u00ad\u034f\u180e\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff\u0300-\u036f]"
_GAP = rf"(?:\s|{_THIN}){{0,4}}"
# m e m o r y, with letters of other alphabets that look alike
_LETTERS = ("mм\u03bc\uff4d", "eеё\uff45", "mм\uff4d", "oоο0\uff4f", "rг\uff52", "yуү\u03b3\uff59")
_MARKER = re.compile(
    rf"(?:[<＜﹤〈‹\[［]|&lt;|&#60;){_GAP}([/\\／⁄∕]{{0,4}}){_GAP}"
    + f"{_THIN}{{0,4}}".join(f"[{letters}]" for letters in _LETTERS)
    + rf"{_GAP}(?:[>＞﹥〉›\]］]|&gt;|&#62;)",
    re.IGNORECASE,
)
_LINE = re.compile(r"[-–—•*]\s(?=\d{4}-\d\d-\d\d,\s)")
_NAME = re.compile(r"[^\W\d_][\w.'’-]{0,31}(?: [^\W\d_][\w.'’-]{0,31}){0,2}")
_AUTHORITY = frozenset(
    {
        "admin", "administrator", "authority", "developer", "instruction", "instructions", "moderator", "official",
        "operator", "policy", "root", "security", "superuser", "system", "trusted", "verified",
    }
)  # fmt: skip


def without_markers(text: str) -> str:
    """The text with the block's markers, however they are spelled, in round brackets."""
    return _MARKER.sub(lambda found: "(/memory)" if found[1] else "(memory)", text)


def one_memory(text: str) -> str:
    """The text on one line, without what a line of the block begins with."""
    return _LINE.sub("", " ".join(text.split()))


def shown_role(role: str) -> str:
    """Who said it, as a line shows it: a name or a plain word, and nothing that claims authority."""
    shown = " ".join(role.split())
    words = unicodedata.normalize("NFKC", shown).casefold().split()
    claims = any(word.strip(".'’-") in _AUTHORITY for word in words)
    return shown if _NAME.fullmatch(shown) and not claims else "note"
