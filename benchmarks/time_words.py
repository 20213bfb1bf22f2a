"""Time expressions in seven languages, asked around midnight in three time zones.

    python benchmarks/time_words.py [--json FILE]

`QUESTIONS` holds "language | question | days": the local days that are meant, written by hand, once for ten minutes
before midnight on Sunday, 31 December 2023 and once for ten minutes after, when day, week, month and year are others;
of days that are the same for both only once. "Two weeks ago" is three days to either side, "last night" goes on until
the morning. A question counts as right where `spans` finds these days and nothing else.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from bankbench import table, write_json

from membank_llama.core.days import day_of
from membank_llama.recall.time_expressions import spans

ZONES = ("America/Los_Angeles", "Europe/Berlin", "Asia/Tokyo")
MOMENTS = (datetime(2023, 12, 31, 23, 50), datetime(2024, 1, 1, 0, 10))
QUESTIONS = """
English | What did I have for dinner yesterday? | 2023-12-30 | 2023-12-31
English | What did I plan last week? | 2023-12-18 2023-12-24 | 2023-12-25 2023-12-31
English | Where was I two days ago? | 2023-12-29 | 2023-12-30
English | Whom did we meet last Friday? | 2023-12-29
English | Who called on 8 May 2023? | 2023-05-08
English | What did I buy last month? | 2023-11-01 2023-11-30 | 2023-12-01 2023-12-31
German | Was habe ich gestern gegessen? | 2023-12-30 | 2023-12-31
German | Wo war ich vorgestern? | 2023-12-29 | 2023-12-30
German | Was war letzte Woche bei der Arbeit los? | 2023-12-18 2023-12-24 | 2023-12-25 2023-12-31
German | Wen habe ich vor zwei Wochen getroffen? | 2023-12-14 2023-12-20 | 2023-12-15 2023-12-21
German | Was habe ich am 8. Mai 2023 erzählt? | 2023-05-08
German | Wohin sind wir im Mai gefahren? | 2023-05-01 2023-05-31
German | Was habe ich letzten Freitag gekauft? | 2023-12-29
German | Was habe ich in den letzten drei Tagen gelesen? | 2023-12-28 2023-12-31 | 2023-12-29 2024-01-01
German | Wer war am Wochenende zu Besuch? | 2023-12-30 2023-12-31
French | Qu'est-ce que j'ai mangé hier ? | 2023-12-30 | 2023-12-31
French | Où étais-je avant-hier ? | 2023-12-29 | 2023-12-30
French | Qui ai-je rencontré il y a deux semaines ? | 2023-12-14 2023-12-20 | 2023-12-15 2023-12-21
French | Que s'est-il passé la semaine dernière ? | 2023-12-18 2023-12-24 | 2023-12-25 2023-12-31
French | Qu'ai-je raconté le 8 mai 2023 ? | 2023-05-08
French | Qu'avons-nous fait vendredi dernier ? | 2023-12-29
French | Où sommes-nous allés en mai ? | 2023-05-01 2023-05-31
French | Qu'ai-je acheté le mois dernier ? | 2023-11-01 2023-11-30 | 2023-12-01 2023-12-31
French | Quel livre ai-je lu l'année dernière ? | 2022-01-01 2022-12-31 | 2023-01-01 2023-12-31
Spanish | ¿Qué cené ayer? | 2023-12-30 | 2023-12-31
Spanish | ¿Dónde estuve anteayer? | 2023-12-29 | 2023-12-30
Spanish | ¿A quién conocí hace dos semanas? | 2023-12-14 2023-12-20 | 2023-12-15 2023-12-21
Spanish | ¿Qué pasó la semana pasada? | 2023-12-18 2023-12-24 | 2023-12-25 2023-12-31
Spanish | ¿Qué conté el 8 de mayo de 2023? | 2023-05-08
Spanish | ¿Qué hicimos el viernes pasado? | 2023-12-29
Spanish | ¿Adónde fuimos en mayo? | 2023-05-01 2023-05-31
Spanish | ¿Qué compré el mes pasado? | 2023-11-01 2023-11-30 | 2023-12-01 2023-12-31
Spanish | ¿Qué libro leí el año pasado? | 2022-01-01 2022-12-31 | 2023-01-01 2023-12-31
Portuguese | O que jantei ontem? | 2023-12-30 | 2023-12-31
Portuguese | Onde estive anteontem? | 2023-12-29 | 2023-12-30
Portuguese | Quem conheci há duas semanas? | 2023-12-14 2023-12-20 | 2023-12-15 2023-12-21
Portuguese | O que eu disse três dias atrás? | 2023-12-28 | 2023-12-29
Portuguese | O que aconteceu na semana passada? | 2023-12-18 2023-12-24 | 2023-12-25 2023-12-31
Portuguese | O que contei em 8 de maio de 2023? | 2023-05-08
Portuguese | O que fizemos na sexta-feira passada? | 2023-12-29
Portuguese | O que comprei no mês passado? | 2023-11-01 2023-11-30 | 2023-12-01 2023-12-31
Portuguese | Que livro li no ano passado? | 2022-01-01 2022-12-31 | 2023-01-01 2023-12-31
Chinese | 我昨天晚饭吃了什么？ | 2023-12-30 | 2023-12-31
Chinese | 我前天去了哪里？ | 2023-12-29 | 2023-12-30
Chinese | 上周公司里发生了什么？ | 2023-12-18 2023-12-24 | 2023-12-25 2023-12-31
Chinese | 上週五我見了誰？ | 2023-12-22 | 2023-12-29
Chinese | 两周前我认识了谁？ | 2023-12-14 2023-12-20 | 2023-12-15 2023-12-21
Chinese | 我三天前说了什么？ | 2023-12-28 | 2023-12-29
Chinese | 5月8日我们去了哪里？ | 2023-05-08
Chinese | 上個月我買了什麼？ | 2023-11-01 2023-11-30 | 2023-12-01 2023-12-31
Chinese | 昨晚我读了什么书？ | 2023-12-30 2023-12-31 | 2023-12-31 2024-01-01
Japanese | 昨日の夕食は何でしたか？ | 2023-12-30 | 2023-12-31
Japanese | おとといはどこにいましたか？ | 2023-12-29 | 2023-12-30
Japanese | 先週、会社で何がありましたか？ | 2023-12-18 2023-12-24 | 2023-12-25 2023-12-31
Japanese | 先週の金曜日に誰と会いましたか？ | 2023-12-22 | 2023-12-29
Japanese | 二週間前に何を買いましたか？ | 2023-12-14 2023-12-20 | 2023-12-15 2023-12-21
Japanese | 3日前に何と言いましたか？ | 2023-12-28 | 2023-12-29
Japanese | ２０２３年５月８日に誰が電話してきましたか？ | 2023-05-08
Japanese | 先月はどこへ行きましたか？ | 2023-11-01 2023-11-30 | 2023-12-01 2023-12-31
Japanese | 今朝、何を読みましたか？ | 2023-12-31 | 2024-01-01
"""


def found(question: str, moment: datetime, zone: ZoneInfo) -> list[tuple[str, str]]:
    """The first and the last local day of each span."""
    now = moment.replace(tzinfo=zone).timestamp()
    return [(day_of(span.since, zone), day_of(span.until - 1, zone)) for span in spans(question, now, zone)]


def right() -> dict[str, dict[str, list[bool]]]:
    """Of each language, in each zone, which were right; what was not is printed."""
    results: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for line in QUESTIONS.strip().splitlines():
        language, question, *meant = line.split(" | ")
        for name in ZONES:
            for moment, days in zip(MOMENTS, meant * 2 if len(meant) == 1 else meant, strict=True):
                expected = [(days.split()[0], days.split()[-1])]
                got = found(question, moment, ZoneInfo(name))
                results[language][name].append(got == expected)
                if got != expected:
                    print(f"{name}, {moment:%H:%M}: {question}  {expected} is meant, {got} found")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    results = right()
    rows = [(language, [answers[zone] for zone in ZONES]) for language, answers in results.items()]
    rows.append(("all", [[one for answers in results.values() for one in answers[zone]] for zone in ZONES]))
    figures = {}
    for language, answers in rows:
        shares = [sum(one) / len(one) for one in answers]
        figures[language] = dict(zip((*ZONES, "all"), (*shares, sum(shares) / len(shares)), strict=True))
    asked = {language: len(answers[0]) // len(MOMENTS) for language, answers in rows}
    table(
        "days that a question names, asked around midnight",
        ["", "expressions", *(name.split("/")[1].replace("_", " ") for name in ZONES), "right"],
        [
            [language, f"{asked[language]}", *(f"{one:.1%}" for one in shares.values())]
            for language, shares in figures.items()
        ],
    )
    write_json(options.json, figures)


if __name__ == "__main__":
    main()
