"""The words that a text is filed by."""

from __future__ import annotations

import unicodedata

import pytest

from membank_llama.store.full_text import LONGEST_WORD, filed_as, words_of_texts


def words(text: str) -> set[str]:
    return words_of_texts([text])[0]


def test_plain_english_is_stemmed_and_nothing_else() -> None:
    assert words("Running DOGS, isn't it? snake_case 42") == {"run", "dog", "isn", "t", "it", "snake", "case", "42"}


def test_typographic_marks_and_accents_cut_and_fold_as_before() -> None:
    assert words("it’s a “café” … naïve—really") == {"it", "s", "a", "cafe", "naiv", "realli"}


@pytest.mark.parametrize(
    ("told", "asked"),
    [
        ("Groß", "gross"),
        ("Voss", "VOß"),
        ("Müller", unicodedata.normalize("NFD", "Müller")),
        ("İzmir", "izmir"),
        ("ﬁddle", "fiddle"),
        ("４４７１", "4471"),
        ("ΟΔΥΣΣΕΑΣ", "Οδυσσέας"),
        ("Алёна", "Алена"),
        ("й", unicodedata.normalize("NFD", "й")),
        ("محمد", "مُحَمَّد"),
        ("मेरी", "मेरी"),
        ("여동생", unicodedata.normalize("NFD", "여동생")),
    ],
)
def test_the_same_word_in_other_letters(told: str, asked: str) -> None:
    assert filed_as(asked) and set(filed_as(asked)) <= words(f"Here is {told}.")


def test_vowels_are_a_part_of_their_word() -> None:
    assert words("मेरी बहन") == {"मेरी", "बहन"}


def test_scripts_without_spaces_by_pairs_beside_the_whole() -> None:
    assert words("门锁密码") == {"门锁密码", "门锁", "锁密", "密码", *"门锁密码"}
    # of kana and Thai one letter is no word
    assert words("タマです") == {"タマです", "タマ", "マで", "です"}
    assert words("แมว") == {"แมว", "แม", "มว"}


def test_what_touches_them_is_a_word() -> None:
    assert {"numpi", "4471", "密码"} <= words("我的numpy密码是4471")
    assert {"port8443", "サー"} <= words("サーバーはport8443で動く")


def test_a_run_is_looked_up_by_its_pairs_wherever_it_stands() -> None:
    assert filed_as("密码") == ("密码",) and filed_as("猫") == ("猫",)
    assert set(filed_as("门锁密码")) == {"门锁", "锁密", "密码"} <= words("我的门锁密码是4471")
    assert set(filed_as("numpy密码")) == {"numpi", "密码"}


def test_a_long_run_is_cut_and_its_pairs_are_all_there() -> None:
    run = "".join(chr(0x4E00 + number) for number in range(500))
    found = words(run)
    assert max(map(len, found)) == LONGEST_WORD
    assert run[-2:] in found
