"""What kind of message asks: about oneself, for a task, or nothing; and which part of a long one is the question.

A person's own memories answer "What is my job?" and seldom "What is the capital of Peru?" or "Write a haiku": so the
gate asks for less evidence where a question is about the person, and for more where it wants something done. Forms are
English, with the commonest pronouns of some other languages.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from membank_llama.core.dialogue_acts import QUESTION_MARKS, SENTENCE

LONG_WORDS = 40
"""Words from which on the question is looked for within a message."""
MOST_SENTENCES = 4
"""Sentences that are taken for the question."""

_OWN = re.compile(
    r"\b(?:my|our|(?-i:mine)|ours|myself|ourselves|i|i'[md]|i've|we|we're|we've|me|us"
    r"|ich|mein(?:e[mnrs]?)?|mir|mich|wir|unser(?:e[mnrs]?)?|uns|je|j'|mon|mes|nous|notre|nos|moi|yo|mi|mis|nuestr[oa]s?"
    r"|io|mio|mia|miei|noi|nostr[oaie]|meu|minha|meus|minhas|eu|mijn|ik|wij|ons|onze)\b|[我私僕俺나내]",
    re.IGNORECASE,
)
_NOT_OWN = re.compile(
    r"\b(?:how (?:do|can|could|should|would|to|might) (?:i|we)|(?:can|could|should|may|would) (?:i|we)"
    r"|what (?:should|can|could) (?:i|we)|let me|(?:give|tell|show|help|teach|explain|recommend|suggest|write|name)"
    r" (?:me|us))\b(?! (?:what|when|where|who|which|if|whether|about (?:me|my|myself|us|our)))",
    re.IGNORECASE,
)
_TASK = re.compile(
    r"\b(?:write|translate|explain|summari[sz]e|convert|proofread|calculate|generate|compose|draft|rewrite|rephrase)\b"
    r"|\bhow (?:do|can|could|should|would|might|to|long do) (?:i|we|you|one)\b"
    r"|\b(?:what|how) (?:should|can|could) (?:i|we) (?:do|fix|stop|get|say)\b|"
    r"\bany (?:ideas?|tips|advice|suggestions?)\b"
    r"|\bwhat (?:now|helps)\b|^(?:should|can|could) i\b"
    r"|\bwhy (?:do|does|is|are|did|won't|doesn't|can't) (?:my|our|the)\b"
    r"|\bis it (?:rude|ok|okay|safe|normal|bad|possible|legal)\b"
    r"|\b(?:can|could|would|will) you\b(?! (?:remind|remember|recall|tell me (?:when|what|which|who|where|how|if)))",
    re.IGNORECASE,
)
_ORDER = re.compile(
    r"(?:please )?(?:give|suggest|name|list|fix|draw|define|recommend|create|help|compare|sort|describe|tell me an?"
    r"|show|make|find|design|invent|plan)\b",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"(?:(?:and|but|so|ok|okay|hey|hi|well|please|by the way)[,:]? )?(?:what|which|who|whom|whose|when|where|why|how"
    r"|is|are|am|was|were|do|does|did|have|has|had|can|could|will|would|should|shall|may|remind me|tell me|do you"
    r"|(?:at|in|on|from|to|during|until|since|with|for) (?:what|which|whom|when)"
    r"|was|wer|wen|wem|wann|wo|warum|wie|welche[rsmn]?|quel(?:le)?s?|qui|quand|où|comment|pourquoi|qué|quién|cuándo"
    r"|dónde|cómo|cuál)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_SHORTEST_QUESTION, _LONGEST_QUESTION = 2, 60
_LETTERS = 0.6
"""Share of letters from which on a line is language, and no log and no code."""


@dataclass(frozen=True)
class QuestionKind:
    """What a message is: whether it asks anything, whether about the person, and whether it wants something done."""

    asks: bool
    about_oneself: bool
    task: bool


def kind_of(text: str) -> QuestionKind:
    """What kind of message a text is."""
    sentences = [found.strip() for found in SENTENCE.findall(text)]
    asking = [sentence for sentence in sentences if sentence.endswith(QUESTION_MARKS) or _ASKS.match(sentence)]
    own = any(_OWN.search(_NOT_OWN.sub(" ", sentence)) for sentence in asking)
    task = any(_TASK.search(sentence) or _ORDER.match(sentence) for sentence in sentences)
    return QuestionKind(bool(asking), own, task)


def focus(text: str) -> str:
    """What of a message is the question: all of a short one; of a long one the sentences that ask, or where none does
    its beginning and its end."""
    if len(text.split(None, LONG_WORDS)) <= LONG_WORDS:
        return text
    sentences = [found.strip() for found in SENTENCE.findall(text) if _is_language(found)]
    asking = [sentence for sentence in sentences if sentence.endswith(QUESTION_MARKS)]
    chosen = asking[-MOST_SENTENCES:] or [one for one in sentences if _ASKS.match(one)][-MOST_SENTENCES:]
    if not chosen and len(sentences) > MOST_SENTENCES:
        chosen = [*sentences[: MOST_SENTENCES // 2], *sentences[-(MOST_SENTENCES // 2) :]]
    return " ".join(chosen) or text


def _is_language(sentence: str) -> bool:
    words = len(_WORD.findall(sentence))
    bare = sentence.replace(" ", "")
    if not bare or words > _LONGEST_QUESTION:
        return False
    letters = sum(map(str.isalpha, bare))
    # scripts without spaces write a sentence as one word
    return letters >= _LETTERS * len(bare) and (words >= _SHORTEST_QUESTION or not bare.isascii())
