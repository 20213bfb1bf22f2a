"""What opens the gate of a bank that keeps tokens."""

from __future__ import annotations

import numpy as np
import pytest

from membank_llama.recall.meaning_gate import ABOUT_ONESELF, ENOUGH, Asked, Parts, judged_by_meaning
from membank_llama.recall.question_kind import QuestionKind

PLAIN = QuestionKind(asks=True, about_oneself=False, task=False)
OWN = QuestionKind(asks=True, about_oneself=True, task=False)
TOLD = QuestionKind(asks=False, about_oneself=False, task=False)


def parts(
    support: float = 0.0, said: float = 0.0, spreads: float = 0.0, of_its_time: bool = False, called: bool = False
) -> Parts:
    one = [np.array([value], np.float32) for value in (support, said, said, spreads)]
    return Parts(*one, np.array([of_its_time]), np.array([called]), np.array([False]))


def opens(asked: Asked, found: Parts) -> bool:
    return judged_by_meaning(asked, found)[0].relevant


def test_a_question_about_oneself_needs_least() -> None:
    some = parts(support=3, said=0.05, spreads=4)
    assert opens(Asked(OWN, 2, False), some)
    assert not opens(Asked(PLAIN, 2, False), some)
    assert opens(Asked(PLAIN, 2, False), parts(support=9, said=0.2, spreads=6))


@pytest.mark.parametrize(
    "harder",
    [
        Asked(PLAIN, 2, True),
        Asked(QuestionKind(True, False, True), 2, False),
        Asked(TOLD, 2, False),
        Asked(PLAIN, 12, False),
    ],
    ids=["a stranger's name", "a task", "no question", "many words"],
)
def test_what_needs_more(harder: Asked) -> None:
    enough = parts(support=4, said=0.2, spreads=4)
    assert opens(Asked(PLAIN, 2, False), enough) and not opens(harder, enough)


def test_nothing_at_all_does_not_open_it_even_for_oneself() -> None:
    assert not opens(Asked(OWN, 1, False), parts())
    assert not opens(Asked(OWN, 1, False), parts(spreads=-3))
    assert ABOUT_ONESELF < ENOUGH


def test_a_name_in_a_question_about_oneself_is_as_often_a_place() -> None:
    some = parts(support=3, said=0.05, spreads=4)
    assert opens(Asked(OWN, 2, True), some)


def test_without_content_only_the_person_can_be_asked_about() -> None:
    much = parts(support=20, said=0.9, spreads=12)
    assert opens(Asked(OWN, 0, False), much) and not opens(Asked(PLAIN, 0, False), much)


def test_the_time_that_is_named_speaks_for_what_is_of_it() -> None:
    little = parts(support=2, spreads=1)
    assert not opens(Asked(PLAIN, 1, False), little)
    assert opens(Asked(PLAIN, 1, False), parts(support=2, spreads=1, of_its_time=True))


def test_a_name_that_it_holds_speaks_for_it() -> None:
    some = {"support": 5, "said": 0.1, "spreads": 3}
    assert not opens(Asked(PLAIN, 2, False), parts(**some)) and opens(
        Asked(PLAIN, 2, False), parts(**some, called=True)
    )


def test_beside_a_clear_answer_about_oneself_what_is_far_behind_stays_out() -> None:
    none = np.zeros(2, np.bool_)
    values = [np.array(pair, np.float32) for pair in ((12, 3), (0.5, 0.03), (0.5, 0), (9, 3))]
    clear, alone = Parts(*values, none, none, none), Parts(*(value[1:] for value in values), *[none[1:]] * 3)
    asked = Asked(OWN, 2, False)
    assert [verdict.relevant for verdict in judged_by_meaning(asked, clear)] == [True, False]
    assert judged_by_meaning(asked, alone)[0].relevant
    # the same question, asked before, is no clear answer
    again = Parts(*values, none, none, np.array([True, False]))
    assert [verdict.relevant for verdict in judged_by_meaning(asked, again)] == [True, True]


def test_the_reason_says_what_spoke_for_it_and_what_kind_of_question_it_is() -> None:
    (verdict,) = judged_by_meaning(Asked(OWN, 2, False), parts(support=3, said=0.25, spreads=4.2))
    assert verdict.reason.startswith("relevant: +4.2 spreads above unrelated text, 25% of the question said, 25% of ")
    assert verdict.reason.endswith("(about oneself)")
