"""Times in seven languages: what each says, what only looks alike, and whose midnight it is."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import pytest

from membank_llama.core.days import day_of
from membank_llama.recall.time_expressions import LANGUAGES, plain_text, spans
from membank_llama.recall.time_language import WAKING, Language

NOW = datetime(2023, 6, 15, 13, 45, tzinfo=timezone.utc).timestamp()
"""A Thursday."""

GERMAN = """
gestern | 06-14
Was gab es gestern Abend? | 06-14
gestern Nacht | 06-14 06-15
vorgestern | 06-13
heute Morgen | 06-15
letzte Woche | 06-05 06-11
vorletzte Woche | 05-29 06-04
vor zwei Wochen | 05-29 06-04
vor vierzehn Tagen | 05-29 06-04
vor drei Tagen | 06-12
vor etwa einer Woche | 06-05 06-11
vor 3 Jahren | 2020-01-01 2020-12-31
am 8. Mai 2023 | 05-08
am Montag, dem 8. Mai | 05-08
am 8. Dez. 2022 | 2022-12-08
am ersten Mai | 05-01
am 24. Dezember | 2022-12-24
am 8.5.2023 | 05-08
im Mai | 05-01 05-31
seit März | 03-01 03-31
Wo war ich im August? | 2022-08-01 2022-08-31
im Mai letzten Jahres | 2022-05-01 2022-05-31
letzten Freitag | 06-09
letzten Donnerstag | 06-08
am Donnerstag | 06-15
am Freitagabend | 06-09
Freitag letzter Woche | 06-09
letztes Jahr | 2022-01-01 2022-12-31
im letzten Monat | 05-01 05-31
im Sommer 2022 | 2022-06-01 2022-08-31
im Frühling | 03-01 05-31
in den letzten drei Tagen | 06-12 06-15
am Wochenende | 06-10 06-11
im Jahr 2019 | 2019-01-01 2019-12-31
"""
FRENCH = """
Qu'ai-je mangé hier ? | 06-14
hier soir | 06-14
avant-hier | 06-13
depuis hier | 06-14
aujourd’hui | 06-15
il y a deux semaines | 05-29 06-04
il y a quinze jours | 05-29 06-04
il y a 3 jours | 06-12
la semaine dernière | 06-05 06-11
le 8 mai 2023 | 05-08
le 8 mai de l'année dernière | 2022-05-08
1er mai | 05-01
le premier mai 2020 | 2020-05-01
le 2 mars | 03-02
vendredi dernier | 06-09
jeudi dernier | 06-08
Où étais-je mardi ? | 06-13
vendredi 12 mai 2023 | 05-12
en mai | 05-01 05-31
mi-mai | 05-01 05-31
fin août | 2022-08-01 2022-08-31
le mois dernier | 05-01 05-31
l'année dernière | 2022-01-01 2022-12-31
Où ai-je été l'an dernier ? | 2022-01-01 2022-12-31
cet été | 06-01 08-31
l'hiver dernier | 2022-12-01 02-28
ce week-end | 06-10 06-11
le dernier week-end | 06-10 06-11
les trois derniers jours | 06-12 06-15
la nuit dernière | 06-14 06-15
Qu'ai-je dit le 8/5/2023 ? | 05-08
en 2019 | 2019-01-01 2019-12-31
"""
SPANISH = """
¿Qué comí ayer? | 06-14
anteayer | 06-13
antes de ayer | 06-13
anoche | 06-14 06-15
esta mañana | 06-15
hace dos semanas | 05-29 06-04
hace unos días | 06-12
tres días atrás | 06-12
la semana pasada | 06-05 06-11
el 8 de mayo de 2023 | 05-08
el lunes 8 de mayo | 05-08
el primero de mayo | 05-01
el viernes pasado | 06-09
el pasado jueves | 06-08
el jueves | 06-15
en mayo | 05-01 05-31
a finales de abril | 04-01 04-30
en mayo del año pasado | 2022-05-01 2022-05-31
el mes pasado | 05-01 05-31
el año pasado | 2022-01-01 2022-12-31
el verano de 2022 | 2022-06-01 2022-08-31
el fin de semana | 06-10 06-11
los últimos tres días | 06-12 06-15
en 2019 | 2019-01-01 2019-12-31
"""
PORTUGUESE = """
ontem | 06-14
ontem à noite | 06-14 06-15
anteontem | 06-13
hoje de manhã | 06-15
há duas semanas | 05-29 06-04
ha duas semanas | 05-29 06-04
duas semanas atrás | 05-29 06-04
faz três dias | 06-12
na semana passada | 06-05 06-11
em 8 de maio de 2023 | 05-08
1º de maio | 05-01
em 5 set. 2019 | 2019-09-05
na sexta-feira passada | 06-09
na última sexta-feira | 06-09
O que fizemos na quinta? | 06-15
no sábado | 06-10
em março | 03-01 03-31
em maio do ano passado | 2022-05-01 2022-05-31
no mês passado | 05-01 05-31
no ano passado | 2022-01-01 2022-12-31
no verão de 2022 | 2022-06-01 2022-08-31
neste fim de semana | 06-10 06-11
nos últimos três dias | 06-12 06-15
"""
CHINESE = """
我昨天去了哪里 | 06-14
前天 | 06-13
大前天 | 06-12
上周 | 06-05 06-11
上個禮拜 | 06-05 06-11
上星期五 | 06-09
上週五 | 06-09
星期四 | 06-15
两周前 | 05-29 06-04
兩週前 | 05-29 06-04
三天前 | 06-12
二十三天前 | 05-23
一個月以前 | 04-30 05-30
2023年5月8日 | 05-08
2023 年 5 月 8 日 | 05-08
2023年5月8日星期一 | 05-08
二〇二三年五月八日 | 05-08
5月8號 | 05-08
我五月做了什么 | 05-01 05-31
去年五月 | 2022-05-01 2022-05-31
上个月 | 05-01 05-31
上個月 | 05-01 05-31
去年 | 2022-01-01 2022-12-31
前年 | 2021-01-01 2021-12-31
今天早上 | 06-15
昨晚 | 06-14 06-15
昨天晚上 | 06-14 06-15
最近三天 | 06-12 06-15
2022年夏天 | 2022-06-01 2022-08-31
上周末 | 06-10 06-11
去年春节 | 2022-01-01 2022-12-31
"""
JAPANESE = """
昨日は何を食べましたか | 06-14
一昨日 | 06-13
おととい | 06-13
きのうの夜 | 06-14 06-15
先週 | 06-05 06-11
先々週 | 05-29 06-04
先週の金曜日 | 06-09
この前の木曜日 | 06-08
木曜日に | 06-15
二週間前 | 05-29 06-04
三日前 | 06-12
3日まえ | 06-12
1ヶ月前 | 04-30 05-30
2023年5月8日 | 05-08
5月8日(月) | 05-08
5月8日 | 05-08
十二月二十五日 | 2022-12-25
五月に | 05-01 05-31
先月 | 05-01 05-31
去年 | 2022-01-01 2022-12-31
昨年の5月8日 | 2022-05-08
一昨年 | 2021-01-01 2021-12-31
今朝 | 06-15
昨夜 | 06-14 06-15
この三日間 | 06-12 06-15
去年の夏 | 2022-06-01 2022-08-31
"""
ENGLISH = """
on Friday, 12 May 2023 | 05-12
last Monday, May 8 | 05-08
in May last year | 2022-05-01 2022-05-31
last year in May | 2022-05-01 2022-05-31
on May 8 last year | 2022-05-08
on 29 February | 2020-02-29
day before yesterday | 06-13
"""

FALSE_FRIENDS = """
Gibt es hier einen Bäcker?
Hier?
Wo ist hier das Café?
Waar is de bakker hier en nu?
the Hier family
am nächsten Freitag
vor 2000 Jahren
im april and i like the sea
2 mars bars
the canals of Mars
What did I do at Mardi Gras?
il a été malade 2 fois
le vendredi
vendredi prochain
Who was Ayer?
chicken with mayo
la Clínica Mayo
la Avenida de Mayo
los viernes
el viernes que viene
na segunda vez
confio em Marco
no domingo que vem
5 out of 10
so what do you set out to do
What may I do on 8/5/2023?
以前天气很好
目前天气怎么样
晚上周杰伦唱歌
晚上月亮很圆
以前年轻
五月天的歌
五个月
每周五
下周五
日本周边
毎週金曜日
来週の金曜日
週一回
一月に一度
今日本では
木のきのうえ
前年の売上
https://example.org/2023/5/8/picture
"""


def days(text: str, now: float = NOW, zone: timezone | ZoneInfo = timezone.utc) -> list[tuple[str, str]]:
    """The first and the last day of each span."""
    return [(day_of(span.since, zone), day_of(span.until - 1, zone)) for span in spans(text, now, zone)]


def rows(*tables: str) -> list[tuple[str, str, str]]:
    """Text, first and last day; days without a year are of 2023."""
    found = []
    for line in "".join(tables).strip().splitlines():
        if line:
            text, meant = line.split(" | ")
            dated = [day if len(day) > 5 else f"2023-{day}" for day in meant.split()]
            found.append((text, dated[0], dated[-1]))
    return found


ALL = rows(ENGLISH, GERMAN, FRENCH, SPANISH, PORTUGUESE, CHINESE, JAPANESE)


@pytest.mark.parametrize(("text", "since", "until"), ALL)
def test_a_time_is_resolved_in_every_language(text: str, since: str, until: str) -> None:
    assert days(text) == [(since, until)]


@pytest.mark.parametrize(("text", "since", "until"), ALL)
def test_how_a_text_is_encoded_changes_nothing(text: str, since: str, until: str) -> None:
    wide = "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in text)
    for form in (unicodedata.normalize("NFD", text), text.upper(), f"  {text}\n", wide):
        assert days(form) == [(since, until)], form


@pytest.mark.parametrize("text", FALSE_FRIENDS.strip().splitlines())
def test_what_only_looks_like_a_time_says_nothing(text: str) -> None:
    assert days(text) == []


@pytest.mark.parametrize("text", ["il y a trois jours", "la semaine derniere", "Ou etais-je hier", "en aout 2022"])
def test_accents_may_be_missing(text: str) -> None:
    assert len(days(text)) == 1


def test_hier_is_yesterday_only_in_french() -> None:
    assert days("Où ai-je mangé hier ?") == days("Dîner hier") == [("2023-06-14", "2023-06-14")]
    assert days("Was kann man hier im Café essen?") == []


def test_several_times_in_one_question() -> None:
    found = days("War das am 8. Mai 2023, im Juni 2022 oder gestern?")
    assert found == [("2023-05-08", "2023-05-08"), ("2022-06-01", "2022-06-30"), ("2023-06-14", "2023-06-14")]


YESTERDAY = ["yesterday", "gestern", "Qu'ai-je fait hier ?", "ayer", "ontem", "昨天", "昨日"]


@pytest.mark.parametrize("name", ["America/Los_Angeles", "Europe/Berlin", "Asia/Tokyo", "Pacific/Kiritimati"])
@pytest.mark.parametrize("text", YESTERDAY)
def test_yesterday_changes_at_local_midnight(text: str, name: str) -> None:
    zone = ZoneInfo(name)
    before = datetime(2023, 12, 31, 23, 59, 59, tzinfo=zone).timestamp()
    assert days(text, before, zone) == [("2023-12-30", "2023-12-30")]
    assert days(text, before + 1, zone) == [("2023-12-31", "2023-12-31")]


@pytest.mark.parametrize("text", YESTERDAY)
@pytest.mark.parametrize(("day", "hours"), [(26, 23), (25, 24)])
def test_the_day_the_clocks_change_is_shorter(text: str, day: int, hours: int) -> None:
    zone = ZoneInfo("Europe/Berlin")
    (span,) = spans(text, datetime(2023, 3, day + 1, 0, 10, tzinfo=zone).timestamp(), zone)
    assert span.since == datetime(2023, 3, day, tzinfo=zone).timestamp()
    assert span.until - span.since == hours * 3600


def test_a_midnight_that_comes_twice_is_the_first() -> None:
    zone = ZoneInfo("America/Havana")
    second = datetime(2023, 11, 5, 0, 30, fold=1, tzinfo=zone).timestamp()
    (today,) = spans("hoy", second, zone)
    assert today.since == datetime(2023, 11, 5, tzinfo=zone).timestamp()
    assert today.until - today.since == 25 * 3600


def test_a_midnight_that_never_comes_is_the_first_moment_of_its_day() -> None:
    zone = ZoneInfo("America/Sao_Paulo")
    (day,) = spans("ontem", datetime(2018, 11, 5, 9, tzinfo=zone).timestamp(), zone)
    assert (day_of(day.since, zone), day_of(day.since - 1, zone)) == ("2018-11-04", "2018-11-03")
    assert day.until - day.since == 23 * 3600


@pytest.mark.parametrize("language", [one for one in LANGUAGES if one.waking and one.common])
def test_every_phrase_has_a_word_that_wakes_its_language(language: Language) -> None:
    """Else its pattern would never be tried."""
    for phrase in language.phrases:
        words = re.findall(r"[^\W\d_]+", re.sub(r"\\b|\(\?.|<\w+>", " ", phrase.pattern))
        named = set(re.findall(r"<(\w+)>", phrase.pattern))
        assert named & set(WAKING) or language.waking & set(words), phrase.pattern


def test_a_text_is_read_in_small_letters_without_accents_but_the_cedilla() -> None:
    assert plain_text("  MARÇO,\nl’été  Straße ｍａｙ ") == (
        "março, l'ete strasse may",
        ["março", "l", "ete", "strasse", "may", "´"],
    )
    assert plain_text("ゆうべ")[0] == "ゆうべ"
