"""Turns that hold a forgotten text, taken out of a conversation.

A text is found whatever case and white space it is written in, and in what is remembered of a reply too; a short one as
words of its own alone, for "ok" is no part of "book". A turn is a user's message with its reply: neither stays alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from membank_llama.core.letters import folded

from .conversation_keys import without_echo
from .prompt_block import KeptBlock
from .text_splitting import clean_text

SHORT = 16
"""Characters below which a text is looked for as words, and not within them."""


def without_turns(
    messages: Sequence[Mapping[str, str]],
    blocks: Mapping[int, KeptBlock],
    texts: Iterable[str],
    shown: Collection[int] = (),
) -> tuple[list[dict[str, str]], dict[int, KeptBlock]]:
    """Messages without the turns that hold one of these texts, whatever case and white space it is written in, or whose
    block shows one of the memories `shown`; and the blocks of those that stay, by their new places."""
    said = [_said(message["content"], blocks.get(place)) for place, message in enumerate(messages)]
    near = _held(compared_texts(texts), "\n".join(said))
    kept: list[dict[str, str]] = []
    stay: dict[int, KeptBlock] = {}
    for start, end in _turns(messages):
        held = [blocks[place] for place in range(start, end) if place in blocks]
        if any(_held(near, one) for one in said[start:end]) or any(set(shown) & set(block.ids) for block, _ in held):
            continue
        for place in range(start, end):
            if place in blocks:
                stay[len(kept)] = blocks[place]
            kept.append(dict(messages[place]))
    return kept, stay


def _turns(messages: Sequence[Mapping[str, str]]) -> Iterator[tuple[int, int]]:
    """Where each turn begins and ends; what stands ahead of the first is one by itself."""
    starts = [place for place, message in enumerate(messages) if message["role"] == "user"]
    borders = [*([0] if starts[:1] != [0] else []), *starts, len(messages)]
    return pairwise(borders)


def _said(content: str, kept: KeptBlock | None) -> str:
    """All that a message shows, and what of it is remembered, as texts are compared."""
    remembered = without_echo(content)
    parts = (content, "" if remembered == content else remembered, "" if kept is None else kept[0].text)
    return "\n".join(compared_text(part) for part in parts if part)


def compared_text(text: str) -> str:
    """A text as it is looked for."""
    return " ".join(folded(clean_text(text)).split())


def compared_texts(texts: Iterable[str]) -> set[str]:
    """The same of several, without those that hold nothing."""
    return {compared_text(text) for text in texts} - {""}


def which_hold(texts: Iterable[str], said: Sequence[str]) -> list[bool]:
    """Of things that were said, each whether it holds one of some texts."""
    compared = [compared_text(one) for one in said]
    near = _held(compared_texts(texts), "\n".join(compared))
    return [bool(_held(near, one)) for one in compared]


def _held(texts: Iterable[str], said: str) -> list[str]:
    """Those of some texts that are in what was said."""
    words = set(said.split())
    # to look up the words of many texts takes less time than to look for each text
    return [text for text in texts if words.issuperset(text.split()[1:-1]) and _is_in(text, said)]


def _is_in(text: str, said: str) -> bool:
    at = said.find(text)
    while at >= 0 and len(text) < SHORT:
        end = at + len(text)
        if not _is_one_word(said[at - 1 : at + 1]) and not _is_one_word(said[end - 1 : end + 1]):
            break
        at = said.find(text, at + 1)
    return at >= 0


def _is_one_word(border: str) -> bool:
    return len(border) == 2 and border.isascii() and border.isalnum()
