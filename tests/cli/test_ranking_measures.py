"""Measures of a ranking, against values computed by hand."""

from __future__ import annotations

from math import log2

import pytest

from membank_llama.cli.bench.ranking_measures import CUTS, measures

RANKING = list("abcdefghijklmnopqrstuvwxyz")


def test_of_a_ranking_that_finds_some() -> None:
    # found at ranks 2, 5 and 12; one is not in the ranking
    found = measures(RANKING, {"b", "e", "l", "?"})
    assert found["MRR"] == 1 / 2
    assert [found[f"R@{cut}"] for cut in CUTS] == [0, 0.5, 0.5, 0.75]
    assert [found[f"hit@{cut}"] for cut in CUTS] == [0, 1, 1, 1]
    assert [found[f"all@{cut}"] for cut in CUTS] == [0, 0, 0, 0]
    ideal = 1 + 1 / log2(3) + 1 / 2 + 1 / log2(5)
    five = 1 / log2(3) + 1 / log2(6)
    assert found["NDCG@1"] == 0
    assert found["NDCG@5"] == pytest.approx(five / ideal)
    assert found["NDCG@10"] == pytest.approx(five / ideal)
    assert found["NDCG@20"] == pytest.approx((five + 1 / log2(13)) / ideal)


def test_the_best_that_a_cut_has_room_for_counts_as_one() -> None:
    found = measures(RANKING, set(RANKING[:7]))
    assert [found[f"NDCG@{cut}"] for cut in CUTS] == pytest.approx([1, 1, 1, 1])
    assert [found[f"R@{cut}"] for cut in CUTS] == pytest.approx([1 / 7, 5 / 7, 1, 1])
    assert [found[f"all@{cut}"] for cut in CUTS] == [0, 0, 1, 1]
    assert found["MRR"] == 1


@pytest.mark.parametrize("ranking", [[], ["x", "y"]])
def test_of_a_ranking_that_finds_nothing(ranking: list[str]) -> None:
    assert set(measures(ranking, {"a"}).values()) == {0.0}


def test_one_that_is_found_first_is_worth_all() -> None:
    assert set(measures(["a", "b"], ["a"]).values()) == {1.0}


def test_numbers_are_ranked_like_names() -> None:
    assert measures([3, 1, 2], frozenset({2}))["MRR"] == pytest.approx(1 / 3)
