"""What says the same twice, and how what differs is chosen."""

from __future__ import annotations

import numpy as np
import pytest

from membank_llama.core.types import Vector
from membank_llama.recall.results import SAME, collapsed, diversified


@pytest.mark.parametrize(
    ("texts", "places"),
    [
        ([], []),
        (["I like jazz."], [0]),
        (["I like jazz.", "Well, I really like jazz!", "i like JAZZ"], [0, 0, 0]),
        (["I like jazz.", "I do not like jazz.", "I like jazz"], [0, 1, 0]),
        (["The bus leaves at 7.", "The bus leaves at 8.", "Bus leaves at 7!"], [0, 1, 0]),
        (["Jon likes Ana.", "Ana likes Jon."], [0, 1]),
        (["I like jazz.", "I like the jazz.", "I liked jazz."], [0, 0, 2]),
        (["Die Straße ist lang.", "DIE STRASSE IST LANG"], [0, 0]),
        (["Room ４４７１ is free.", "Room 4471 is free.", "Room 10² is free.", "Room 102 is free."], [0, 0, 2, 3]),
        (["Ich muss drücken.", "Ich muss drucken."], [0, 1]),
        # nothing but fillers is no text that others could say again
        (["Oh well", "Hey!", "…", "!?"], [0, 1, 2, 3]),
    ],
)
def test_the_same_words_but_for_fillers(texts: list[str], places: list[int]) -> None:
    assert collapsed(texts, None) == places


def directions(*degrees: float) -> Vector:
    turned = np.radians(np.array(degrees, np.float32))
    return np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)


def test_vectors_keep_apart_what_means_another_thing() -> None:
    near, far = np.degrees(np.arccos(SAME)) - 1, np.degrees(np.arccos(SAME)) + 1
    texts = ["I like jazz.", "Well, I like jazz.", "Oh, I like jazz."]
    assert collapsed(texts, directions(0, near, far)) == [0, 0, 2]


def test_near_vectors_alone_are_not_the_same() -> None:
    assert collapsed(["I like jazz.", "I hate jazz."], directions(0, 0)) == [0, 1]


SCORES = np.array([10.0, 9.5, 6.0, 0.0], np.float32)
VECTORS = directions(0, 5, 85, 90)


def test_without_diversity_the_best_are_taken_in_order() -> None:
    assert diversified(SCORES, VECTORS, 3, 0.0) == [0, 1, 2]


def test_with_diversity_what_repeats_waits() -> None:
    assert diversified(SCORES, VECTORS, 3, 0.6) == [0, 2, 1]


def test_difference_alone_takes_the_best_and_what_is_least_like_it() -> None:
    assert diversified(SCORES, VECTORS, 2, 1.0) == [0, 3]


def test_more_than_there_are_and_equal_scores() -> None:
    assert sorted(diversified(SCORES, VECTORS, 9, 0.5)) == [0, 1, 2, 3]
    assert diversified(np.ones(3, np.float32), directions(0, 0, 0), 2, 0.5) == [0, 1]
    assert diversified(np.ones(1, np.float32), directions(0), 5, 0.5) == [0]
