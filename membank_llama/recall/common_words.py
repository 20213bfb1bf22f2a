"""How common everyday words are, for a bank of a few memories, which cannot know: in three every word is rare.

A word of the first list stands in about one of fifty things that people say, of the second in one of a hundred and
fifty, of the third in one of four hundred; any other in fewer. Estimates of ours, in round numbers, for English.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from membank_llama.store.full_text import filed_as, words_of_texts

_LISTS = {
    20.0: """
        time day year week month people person thing way work home house today tomorrow yesterday night morning friend
        family love like want need look see feel think know make take come try start find use call talk say tell ask
        help work live play new old big little long last next first best better lot bit
        """,
    7.0: """
        man woman boy girl child kid mother father mum mom dad parent sister brother son daughter wife husband baby
        name life world place room car city town country street job office school money number hour minute moment end
        part side kind sort type problem question answer idea plan story word book music film movie game picture photo
        food dinner lunch breakfast water coffee dog cat weekend evening afternoon holiday trip birthday
        buy bring show meet move stay visit keep hold put run walk drive eat drink sleep read write learn study watch
        listen hear speak remember forget hope wish enjoy pay spend send open close change happen become leave
        turn stop wait stand sit wear cook join share support own call plan favourite favorite different important
        happy sad nice hard easy small large high low early late young busy ready free full whole real right wrong
        """,
    2.5: """
        aunt uncle cousin grandmother grandfather grandma grandpa neighbour neighbor colleague boss team group class
        company business doctor teacher student member party event meeting appointment date list message letter email
        phone computer internet website app program code file computer table door window kitchen bed garden road train
        bus plane flight ticket hotel shop store market price cost bank card account bag box clothes shirt shoe colour
        color red blue green black white bread tea milk meat fish fruit cake meal recipe restaurant tree flower animal
        pet bird sun rain snow weather summer winter spring autumn fall sport team football music song band instrument
        art paint picture language english history news interest hobby skill goal dream health body head hand eye foot
        heart hair face pain ill sick hurt allergic medicine exercise weight age size half second third couple
        hundred thousand win lose break build grow cut draw sing dance travel fly ride swim jump climb teach explain
        choose decide agree believe understand mean seem expect prefer hate worry care miss lend borrow sell order book
        prepare clean wash fix repair check finish complete return arrive wake born die marry married single alone
        together special beautiful strong bad cold hot warm cheap expensive strange funny quiet loud quick fast slow
        """,
}


@cache
def _by_stem() -> dict[str, float]:
    listed = {word: share for share, words in reversed(_LISTS.items()) for word in words.split()}
    found: dict[str, float] = {}
    # in one go: a word at a time takes ten times as long, and the first question waits for it
    for share, stems in zip(listed.values(), words_of_texts(list(listed)), strict=True):
        for stem in stems:
            found[stem] = max(share, found.get(stem, 0.0))
    return found


def per_thousand(words: Sequence[str]) -> list[float]:
    """In how many of a thousand things that people say each word stands; 0 for one that is not listed."""
    known = _by_stem()
    return [max((known.get(stem, 0.0) for stem in filed_as(word)), default=0.0) for word in words]


def stem_per_thousand(stem: str) -> float:
    """The same of a word that is stemmed already."""
    return _by_stem().get(stem, 0.0)
