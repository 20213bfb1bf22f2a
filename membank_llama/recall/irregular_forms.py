"""English words whose forms no stemmer brings together: what "bought" shares with "buy", "kids" with "children".

One line a family; a question's word is looked up as any of its family. Only everyday words whose forms mean the same,
and none that Porter cuts down to a word without content: "ate" to "at", "one" to "on".
"""

from __future__ import annotations

_FAMILIES = """
    become became / begin began begun / bend bent / bite bit bitten / blow blew blown / break broke broken /
    bring brought / build built / buy bought / catch caught / choose chose chosen / come came / deal dealt / dig dug /
    draw drew drawn / dream dreamt / drink drank drunk / drive drove driven / eat eaten / fall fell fallen /
    feed fed / feel felt / fight fought / find found / fly flew flown / forget forgot forgotten /
    forgive forgave forgiven / freeze froze frozen / give gave given / grow grew grown / hang hung / hear heard /
    hide hid hidden / hold held / keep kept / know knew known / lead led / learn learnt / leave left / lend lent /
    lose lost / make made / mean meant / meet met / pay paid / ride rode ridden / ring rang rung / rise rose risen /
    run ran / say said / see saw seen / sell sold / send sent / sew sewn / shake shook shaken / shine shone /
    shoot shot / show shown / sing sang sung / sink sank sunk / sit sat / sleep slept / speak spoke spoken speech /
    spend spent / stand stood / steal stole stolen / stick stuck / strike struck / swear swore sworn / sweep swept /
    swim swam swum / swing swung / take took taken / teach taught / tear tore torn / tell told /
    think thought thoughts /
    throw threw thrown / understand understood / wake woke woken / wear wore worn / win won / write wrote written /
    child children kid kids / man men / woman women / person people / foot feet / tooth teeth / mouse mice /
    wife wives / life lives / knife knives / leaf leaves / mother mom mum mama / father dad papa /
    grandmother grandma granny / grandfather grandpa / photo photograph picture / movie film / bike bicycle /
    tv television / phone telephone / fridge refrigerator / marry marriage wedding / die death dead /
    birth born / choice choose / flight fly / gift present / begin start /
    two 2 / three 3 / four 4 / five 5 / six 6 / seven 7 / eight 8 / nine 9 / ten 10 / twelve 12
"""


def _families() -> dict[str, tuple[str, ...]]:
    members: dict[str, dict[str, None]] = {}
    for line in _FAMILIES.split("/"):
        family = line.split()
        for word in family:
            members.setdefault(word, {}).update(dict.fromkeys(family))
    return {word: tuple(other for other in family if other != word) for word, family in members.items()}


FAMILIES = _families()


def forms_of(word: str) -> tuple[str, ...]:
    """The other members of a word's family, given in lower case, with or without a plural's or verb's ending."""
    for stem in (word, word.removesuffix("s"), word.removesuffix("es"), word.removesuffix("ing")):
        if stem in FAMILIES:
            return FAMILIES[stem]
    if word.endswith("ing"):
        # "making" → "make", "running" → "run"
        stem = word[:-3]
        for other in (stem + "e", stem[:-1] if stem[-1:] == stem[-2:-1] else stem):
            if other in FAMILIES:
                return FAMILIES[other]
    return ()
