"""Which statement a later one has replaced."""

from __future__ import annotations

import pytest

from membank_llama.recall.replacements import LONGEST, Statement, replaced

CHANGED = [
    ("I drink my coffee black.", "I drink my coffee with oat milk now."),
    ("I drink my coffee with oat milk now.", "I drink my coffee black."),
    ("My desk is in room 12.", "My desk moved to room 40."),
    ("My desk moved to room 40.", "My desk is in room 12."),
    ("I work at Foxglove Ltd.", "I no longer work at Foxglove Ltd, since May I am at Harebell GmbH."),
    ("My phone number is 555 0101.", "My new phone number is 555 0199."),
    ("My favourite colour is green.", "My favourite colour is orange these days."),
    ("My doctor is Dr Hale.", "I changed doctors, it's Dr Moreno now."),
    ("I drive a blue Fiat.", "I sold the Fiat and drive a Skoda."),
    ("I live in Leeds.", "We moved to Bath last week."),
    ("The meeting is on Monday.", "We moved the meeting to Thursday."),
    ("The meeting is on Monday.", "The meeting is on Thursday."),
    ("My sister lives in Oslo.", "My sister lives in Rome now."),
    ("My doctor is Dr Hale.", "I changed doctors, it's Dr Moreno now."),
    ("I study biology.", "I switched to law, I study law now."),
    ("We are going to Crete this summer.", "We changed our plans, we are going to Iceland this summer."),
    ("My bank is Northway.", "I changed banks, my bank is Silverline now."),
]
BOTH_SO = [
    ("My cat is called Minka.", "My dog is called Rex."),
    ("My WiFi password is Tulip77", "My mail password is tulip77"),
    ("My sister lives in Oslo.", "My brother lives in Bergen."),
    ("For dinner I had lentil soup.", "For dinner I had grilled mackerel."),
    ("I visited Rome in May.", "I visited Paris in June."),
    ("I am allergic to peanuts.", "I am allergic to penicillin."),
    ("I like tea.", "I like jazz."),
    ("Anna lives in Oslo.", "Bob lives in Oslo now."),
    ("I bought a bike.", "I bought a new coat."),
    ("I have a cat called Minka.", "I have a cat called Tom."),
    ("My car is red.", "My car needs new tyres."),
    ("My sister works in Rome.", "I work in Bergen now."),
    ("My desk is in room 12.", "My desk needs paint now."),
    ("I moved to Bath last week.", "I live in a small flat in Bath."),
    ("I bought a boat.", "I sold the car."),
    ("I go to the gym on Fridays now.", "My gym locker is number 31 now."),
    ("My gym locker is number 8.", "I go to the gym on Fridays now."),
    ("I drive a Skoda now.", "My car is parked on level 5 now."),
    ("The doctor's surgery has moved to the health centre.", "My new dentist is Dr Abara."),
]


@pytest.mark.parametrize(("older", "newer"), CHANGED)
def test_what_has_changed(older: str, newer: str) -> None:
    assert replaced([Statement(newer, 2.0), Statement(older, 1.0)]) == {1: 0}


@pytest.mark.parametrize(("older", "newer"), BOTH_SO)
def test_what_stands_beside_each_other(older: str, newer: str) -> None:
    assert replaced([Statement(older, 1.0), Statement(newer, 2.0)]) == {}


def test_of_several_changes_the_newest_counts() -> None:
    told = [Statement(f"My desk is in room {room}.", float(when)) for when, room in enumerate((3, 4, 5))]
    assert replaced(told) == {0: 2, 1: 2}


def test_what_is_less_known_replaces_nothing() -> None:
    person, document = Statement("My desk is in room 3.", 1.0), Statement("My desk is in room 4.", 2.0, known=False)
    assert replaced([person, document]) == {}
    assert replaced([Statement(document.text, 1.0, known=False), Statement(person.text, 2.0)]) == {0: 1}


def test_long_texts_and_those_of_one_moment_are_left_alone() -> None:
    assert replaced([Statement("My desk is in room 3.", 1.0), Statement("My desk is in room 4.", 1.0)]) == {}
    long = "My desk is in room 4. " * LONGEST
    assert replaced([Statement("My desk is in room 3.", 1.0), Statement(long, 2.0)]) == {}


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("I study biology.", "I switched to law, I study law now."),
        ("We are going to Crete this summer.", "We changed our plans, we are going to Iceland this summer."),
        ("I take the 8 o'clock train.", "I take the 9 o'clock train now."),
        ("I play the violin.", "I gave up the violin, I play the cello now."),
    ],
)
def test_what_was_told_before_a_change_and_again_after_it_is_so_again(first: str, then: str) -> None:
    again, between = Statement(first, 3.0, first_told_at=1.0), Statement(then, 2.0, first_told_at=2.0)
    assert replaced([again, between]) == {1: 0}
    assert replaced([Statement(first, 1.0), between]) == {0: 1}
