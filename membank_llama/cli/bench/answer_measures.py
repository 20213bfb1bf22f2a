"""How near a reply comes to an answer that is known, without a model that judges.

Token-F1 and exact match over texts in lower case, without punctuation and articles, as SQuAD has them (Rajpurkar et al.
2016, arXiv:1606.05250); beside them whether an accepted answer stands in the reply, whatever stands around it, and
whether a reply to what nobody told says anything but that it is not known.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Sequence

ASSERTED_F1 = 0.5
"""Token-F1 with an answer from which on it is taken to be what a reply says."""

_DROPPED = str.maketrans("", "", string.punctuation + "‘’“”„«»–—…·")
_ARTICLES = frozenset({"a", "an", "the"})


def normalised(text: str) -> str:
    """The words that are compared, parted by single spaces."""
    return " ".join(word for word in text.lower().translate(_DROPPED).split() if word not in _ARTICLES)


_NOT_KNOWING = tuple(
    f" {normalised(phrase)} "
    for phrase in (
        "don't know", "do not know", "doesn't know", "not know", "no idea", "not sure", "unsure",
        "uncertain", "unknown", "can't", "cannot", "can not", "couldn't", "unable", "no information", "no details",
        "no record", "no mention", "don't have any", "don't have access", "don't have information",
        "don't have that", "don't have enough",
        "do not have any", "do not have access", "do not have information", "do not have that", "do not have enough",
        "don't have the", "do not have the", "don't have specific", "do not have specific", "not enough information",
        "haven't told", "have not told", "haven't mentioned", "have not mentioned", "haven't said", "didn't mention",
        "did not mention", "didn't say", "didn't tell", "did not tell", "never told", "never mentioned", "never said",
        "not mentioned", "isn't mentioned", "not specified", "not stated", "not provided", "not given", "not available",
        "doesn't say", "does not say", "doesn't mention", "does not mention", "don't mention", "do not mention",
        "don't remember", "don't recall", "not told", "not said", "need more", "please provide", "please tell",
    )
)  # fmt: skip


def token_f1(reply: str, answers: Iterable[str]) -> float:
    """The harmonic mean of precision and recall over words, of the answer that fits best."""
    said = normalised(reply).split()
    return max((_f1(said, normalised(answer).split()) for answer in answers), default=0.0)


def _f1(said: Sequence[str], wanted: Sequence[str]) -> float:
    if not said or not wanted:
        return float(said == wanted)
    shared = sum((Counter(said) & Counter(wanted)).values())
    return 2 * shared / (len(said) + len(wanted))


def exact_match(reply: str, answers: Iterable[str]) -> bool:
    """Whether the reply is one of the answers."""
    said = normalised(reply)
    return any(said == normalised(answer) for answer in answers)


def holds_answer(reply: str, answers: Iterable[str]) -> bool:
    """Whether one of the answers stands in the reply, as whole words."""
    said = f" {normalised(reply)} "
    return any(f" {normalised(answer)} " in said for answer in answers)


def asserts(reply: str) -> bool:
    """Whether a reply says something, and not that it is not known."""
    said = f" {normalised(reply)} "
    return bool(said.strip()) and not any(phrase in said for phrase in _NOT_KNOWING)


def answer_scores(reply: str, answers: Sequence[str], wrong: Sequence[str] = ()) -> dict[str, float]:
    """What can be measured of one reply.

    `f1`, `em` and `right` where there is an answer; `outdated`, where values that held once are known too: one of them
    stands there, and the answer does not. Without an answer `adversarial` is whether it says what is `wrong`, and
    `asserted` whether it says anything.
    """
    if answers:
        right = holds_answer(reply, answers)
        found = {
            "f1": token_f1(reply, answers), "em": float(exact_match(reply, answers)), "right": float(right)
        }  # fmt: skip
        return found | ({"outdated": float(not right and holds_answer(reply, wrong))} if wrong else {})
    if wrong:
        return {"adversarial": float(token_f1(reply, wrong) >= ASSERTED_F1)}
    return {"asserted": float(asserts(reply))}
