"""One spelling for what is spelled in several ways, and words where there are no spaces."""

from __future__ import annotations

import unicodedata

import pytest

from membank_llama.core.letters import RUN, WORD, composed, folded, pairs_of, readable, spaced, unaccented


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Straße", "STRASSE"),
        ("İzmir", "izmir"),
        ("IŞIK", "Işık"),
        ("ﬁddle", "Fiddle"),
        ("ＮＨ２０３", "nh203"),
        ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
        ("ﾌｨﾙﾀｰ", "フィルター"),
        ("مُحَمَّد", "محمد"),
        ("القـــط", "القط"),
        ("ﻓﺎﻃﻤﺔ", "فاطمة"),
        ("שָׁלוֹם", "שלום"),
        ("کتاب‌ها", "کتابها"),
        ("Donau\u00addampf", "donaudampf"),
        ("1️⃣", "1"),
    ],
)
def test_the_same_letters(one: str, other: str) -> None:
    assert folded(one) == folded(other)


@pytest.mark.parametrize("text", ["Nguyễn Müller Žižek", "ёлка йод їжак", "여동생", "がぎ", "क़लम", "Καράς"])
def test_in_one_piece_or_in_several(text: str) -> None:
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert folded(unicodedata.normalize(form, text)) == folded(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Foo™ №5", ["foo", "5"]),
        ("1½ cups", ["1", "1", "2", "cups"]),
        ("10² and 102", ["10", "2", "and", "102"]),
        ("H₂O, m²", ["h2o", "m2"]),
        ("don´t", ["don", "t"]),
        ("☕️ ok", ["ok"]),
        ("मेरी बहन", ["मेरी", "बहन"]),
    ],
)
def test_what_compatibility_would_glue_together(text: str, words: list[str]) -> None:
    assert WORD.findall(folded(text)) == words


@pytest.mark.parametrize(
    ("text", "plain"),
    [("café", "cafe"), ("πώς ΐ", "πωσ ι"), ("ёж йод ўсё їжак", "еж йод ўсе їжак"), ("plain", "plain")],
)
def test_without_accents(text: str, plain: str) -> None:
    assert unaccented(folded(text)) == plain


def test_case_is_kept_where_letters_are_only_composed() -> None:
    assert composed(unicodedata.normalize("NFD", "Ångström ＡＢ")) == "Ångström AB"


def test_what_a_model_reads() -> None:
    assert readable("ＮＨ２０３ ﬁ Ⅻ ﾀﾏ") == "NH203 fi XII タマ"
    kept = "Straße ½ … ’s 中文，？ é"
    assert readable(kept) == kept


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("我的NAS密码是4471。", "我的 NAS 密码是 4471。"),
        ("サーバーはport8443で動く", "サーバーは port8443 で動く"),
        ("รถKT9จอด", "รถ KT9 จอด"),
        ("naïve 中・文", "naïve 中・文"),
    ],
)
def test_scripts_that_touch(text: str, pieces: str) -> None:
    assert spaced(text) == pieces


def test_pairs_of_letters() -> None:
    assert pairs_of("门锁密码") == ["门锁", "锁密", "密码"]
    assert pairs_of("猫") == ["猫"] and pairs_of("") == []
    # marks belong to the letter before them
    assert pairs_of("ฉันมี") == ["ฉัน", "นมี"]


def test_runs_hold_letters_alone() -> None:
    assert RUN.findall("中文，123 タマ・ねこ ๑๒ ไทย") == ["中文", "タマ", "ねこ", "ไทย"]


def test_a_heap_of_marks_takes_no_time() -> None:
    # normalisation alone sorts these in time squared: 100,000 of them take twenty seconds
    assert len(folded("a" + "\u0301\u0323" * 50_000)) < 100
