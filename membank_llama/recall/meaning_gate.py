"""The gate of a bank that keeps tokens: evidence by meaning, and by what kind of question it is.

What speaks for a memory is what ranks it (all signals but who speaks, and time apart), how much of the question's
content it says in whatever words, names of those who speak left out, and how far its cosine stands above unrelated
text. How much of that is enough depends on the question: a person's own life is what the memories are of, so that a
question about oneself needs least; one that names a time is answered by what is of that time; one that names somebody
unknown here, wants something done, or asks nothing at all, needs more.

The weights are those of a logistic regression, rounded, on everyday questions with four encoders and on LoCoMo's
conversations, asked of themselves, of each other, and with the names changed (docs/recall.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from membank_llama.core.types import Mask, Vector

from .question_kind import QuestionKind
from .relevance_gate import Verdict

SUPPORT, SAID, SPREADS = 0.2, 10.0, 0.4
"""What a point of the ranking's score, all of the question said, and a spread above unrelated text count."""

OF_ITS_TIME, CALLED = 4.0, 2.5
ABOUT_ONESELF, TASK, STRANGER, NO_QUESTION = 3.6, -3.0, -2.0, -3.0
A_WORD = -0.24
"""For each content word of the question, up to `MOST_WORDS`: the more there are, the more is found by chance."""
MOST_WORDS = 12
LOWEST_SPREADS = -1.0
FAR_BEHIND = 4.0
"""Behind the best one, in a question about oneself: it needs so little evidence that beside a clear answer much else
would come along."""

ENOUGH = 3.75
"""Evidence that opens the gate. The same in every bank: what the evidence is made of is measured against unrelated text
already, and what unrelated sentences find in a bank of everyday notes says nothing of what unrelated questions do."""


@dataclass(frozen=True)
class Asked:
    """A question as the gate sees it: what kind it is, how many content words it has, whether it names a stranger."""

    kind: QuestionKind
    words: int
    strangers: bool

    def added_to(self, evidence: Vector) -> Vector:
        """The evidence for some memories, with what the question adds."""
        alone = A_WORD * min(self.words, MOST_WORDS) + TASK * self.kind.task
        if self.kind.about_oneself:
            # "Why would I rather take the train to Rome?": a name is a place as often as a person
            return evidence + np.float32(alone) + ABOUT_ONESELF * np.clip(evidence, 0, 1)
        if not self.kind.asks:
            alone += NO_QUESTION
        return evidence + np.float32(alone + STRANGER * self.strangers)

    @property
    def can_be_answered(self) -> bool:
        """Whether there is anything in it to answer: content, or the person herself."""
        return self.words > 0 or self.kind.about_oneself


@dataclass(frozen=True)
class Parts:
    """What speaks for some memories, each float32 ``(n,)``: points of the ranking, the share of the question said in
    any words, and in its own, spreads above unrelated text; whether they are of the time that the question names,
    whether they hold a name that is in it, and whether they only ask."""

    support: Vector
    said: Vector
    words: Vector
    spreads: Vector
    of_its_time: Mask
    called: Mask
    asks: Mask

    def evidence(self) -> Vector:
        """The sum, without what the question adds."""
        spreads = np.maximum(self.spreads, LOWEST_SPREADS)
        found = SUPPORT * self.support + SAID * self.said + SPREADS * spreads
        found += OF_ITS_TIME * self.of_its_time + CALLED * self.called
        return found.astype(np.float32)


def judged_by_meaning(asked: Asked, parts: Parts, enough: float = ENOUGH) -> list[Verdict]:
    """Decide on some memories."""
    found = asked.added_to(parts.evidence())
    if asked.kind.about_oneself:
        # the same question, asked before, is no answer
        enough = max(enough, float(found[~parts.asks].max(initial=enough)) - FAR_BEHIND)
    rows = zip(found.tolist(), parts.said.tolist(), parts.words.tolist(), parts.spreads.tolist(), strict=True)
    return [_judged(asked, *row, enough) for row in rows]


def _judged(asked: Asked, evidence: float, said: float, words: float, spreads: float, enough: float) -> Verdict:
    relevant = asked.can_be_answered and evidence >= enough
    about = [
        text
        for holds, text in (
            (asked.kind.about_oneself, "about oneself"), (asked.kind.task, "a task"),
            (asked.strangers, "a stranger's name"), (not asked.kind.asks, "no question"),
        )
        if holds
    ]  # fmt: skip
    kinds = f" ({', '.join(about)})" if about else ""
    return Verdict(
        relevant,
        f"{'relevant' if relevant else 'not relevant'}: {spreads:+.1f} spreads above unrelated text, {said:.0%} of the "
        f"question said, {words:.0%} of the words; evidence {evidence:.1f} of {enough:.1f}{kinds}",
        evidence,
        enough,
    )
