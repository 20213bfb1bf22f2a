"""Words and phrases for times in English and German; time_words_romance.py and time_words_asia.py hold the others.

Letters stand here without accents, as texts are read (time_language.py); only ç keeps its cedilla. Abbreviated months
count in whole dates alone, but in English: "set", "out" and "mar" are words.
"""

from __future__ import annotations

from .time_language import Language, Phrase, spelled, words_for
from .time_resolvers import (
    FORTNIGHT_AGO,
    LAST,
    LAST_NIGHT,
    WEEK_AGO,
    Unit,
    ago,
    calendar,
    past,
    period,
    some_day,
    weekday,
)

_D, _W, _M, _Y = int(Unit.DAY), int(Unit.WEEK), int(Unit.MONTH), int(Unit.YEAR)
_WEEKEND, _NIGHT = int(Unit.WEEKEND), int(Unit.NIGHT)
# "Friday, 8 May": the date has been read
_NO_DATE = r"(?!,? (?:the |de[nm] )?\|)"

# "this may be a silly question"
_MODAL = r"(?!this may (?:be|have|not|well|also|just|only|seem|sound|look|help|work|need|take|cause|mean|come|go)\b)"
WHEN = "in|during|of|by|since|until|till|for|around|before|after|early|late|mid|last|this|on|from|through"
_WHEN = rf"\b(?:{WHEN})[ -]".replace("|last|", "|<last>|")
_EARLY = r"(?:early |late |mid-?)?"

ENGLISH = Language(
    words={
        "month": spelled(
            "jan january|feb february|mar march|apr april|may|jun june|jul july|aug august|sep sept september|"
            "oct october|nov november|dec december"
        ),
        "weekday": spelled("monday|tuesday|wednesday|thursday|friday|saturday|sunday", 0),
        "season": {"winter": 12, "spring": 3, "summer": 6, "autumn": 9, "fall": 9},
        "count": spelled("a an one|two couple|three few|four several|five|six|seven|eight|nine|ten|eleven|twelve"),
        "unit": words_for({_D: "day days", _W: "week weeks", _M: "month months", _Y: "year years"}),
        "period": words_for({_W: "week", _M: "month", _Y: "year", _WEEKEND: "weekend", _NIGHT: "night"}),
        "back": {"this": 0, "last": 1},
        "yearsback": {"this year": 0, "last year": 1},
        "daysback": spelled(
            "today tonight this_morning this_afternoon this_evening|yesterday|"
            "the_day_before_yesterday day_before_yesterday",
            0,
        ),
        "last": LAST,
    },
    phrases=(
        Phrase(calendar, r"\b<day>(?:st|nd|rd|th)? (?:of )?<month>\.?,? <year>\b"),
        Phrase(calendar, r"\b<month>\.? <day>(?:st|nd|rd|th)?,? <year>\b"),
        Phrase(calendar, r"\b<month>\.?,? (?:of )?<year>\b"),
        Phrase(calendar, r"\b<season>,? (?:of )?<year>\b"),
        Phrase(calendar, rf"(?:{_WHEN}{_EARLY}|\b<day>(?:st|nd|rd|th)? (?:of )?)<month>,? (?:of )?<yearsback>\b(?!-)"),
        Phrase(calendar, r"\b<month>\.? <day>(?:st|nd|rd|th)?,? (?:of )?<yearsback>\b(?!-)"),
        Phrase(calendar, r"\b<season>,? (?:of )?<yearsback>\b(?!-)"),
        Phrase(calendar, r"\b<yearsback>,? (?:in|during) (?:the )?(?:<month>|<season>)\b"),
        Phrase(calendar, r"\b<day>(?:st|nd|rd|th)? (?:of )?<month>\b"),
        Phrase(calendar, r"\b<month>\.? <day>(?:st|nd|rd|th)?\b"),
        Phrase(ago, r"\b<count>(?: of)? <unit> ago\b"),
        Phrase(past, r"\b(?:last|past) <count>(?: of)? <unit>\b"),
        Phrase(weekday, rf"\b(?:<last>|this|on) <weekday>\b{_NO_DATE}"),
        Phrase(period, r"\bthis night\b", LAST_NIGHT),
        Phrase(period, r"\b<back> <period>\b"),
        Phrase(period, r"\bon <period>\b(?<= weekend)"),
        Phrase(some_day, r"\b<daysback>\b"),
        Phrase(calendar, rf"{_MODAL}{_WHEN}{_EARLY}<month>\b"),
        Phrase(calendar, r"\b(?:last|this|in|during|over) (?:the )?<season>\b"),
    ),
    common=(
        "the is are were what who where when which how i you my your we he she it they did do does and or to "
        "of that this for with about at on have has had me not don didn isn like"
    ),
)

_SINCE = r"(?:im|seit|bis|ab|vor|nach|anfang|mitte|ende|<last>|diese[nms])"

_GERMAN_DAYS = spelled("montag|dienstag|mittwoch|donnerstag|freitag|samstag sonnabend|sonntag", 0)
_GERMAN_PARTS = ("", "morgen", "vormittag", "mittag", "nachmittag", "abend")

GERMAN = Language(
    words={
        "month": spelled(
            "januar janner|februar feber|marz maerz|april|mai|juni|juli|august|september|oktober|november|dezember"
        ),
        "short": spelled("jan|feb|mrz mar|apr||jun|jul|aug|sep sept|okt|nov|dez"),
        "weekday": {f"{day}{part}": number for day, number in _GERMAN_DAYS.items() for part in _GERMAN_PARTS},
        "season": words_for({12: "winter", 3: "fruhling fruehling fruhjahr fruehjahr", 6: "sommer", 9: "herbst"}),
        "count": spelled(
            "ein eine einem einer einen|zwei|drei paar ein_paar einem_paar wenigen einigen|vier mehreren|"
            "funf fuenf|sechs|sieben|acht|neun|zehn|elf|zwolf zwoelf"
        ),
        "unit": words_for(
            {_D: "tag tage tagen", _W: "woche wochen", _M: "monat monate monaten", _Y: "jahr jahre jahren"}
        ),
        "period": words_for(
            {_W: "woche", _M: "monat monats", _Y: "jahr jahres", _WEEKEND: "wochenende", _NIGHT: "nacht"}
        ),
        "back": {
            **{f"{one}{end}": 1 for one in ("letzt", "vorig", "vergangen") for end in ("e", "en", "er", "es")},
            **{f"vorletzt{end}": 2 for end in ("e", "en", "er", "es")},
            **dict.fromkeys(("diese", "diesen", "dieser", "dieses", "diesem"), 0),
        },
        "weeksback": spelled(
            "diese_woche dieser_woche|letzte_woche letzter_woche der_letzten_woche vorige_woche voriger_woche", 0
        ),
        "yearsback": spelled(
            "dieses_jahr diesen_jahres dieses_jahres|letztes_jahr letzten_jahres vorigen_jahres vergangenen_jahres", 0
        ),
        "daysback": spelled("heute|gestern|vorgestern|vorvorgestern", 0),
        "last": dict.fromkeys(("letzten", "letzter", "vorigen", "vergangenen"), 1),
        # "mai" is French as well
        "day": {"ersten": 1, "erste": 1, "erster": 1, "1er": 1, "premier": 1},
    },
    phrases=(
        Phrase(calendar, r"\b<day>(?:\. ?| )(?:<month>|<short>)\.?,? <year>\b"),
        Phrase(calendar, r"\b(?:<month>|<short>)\.?,? <year>\b"),
        Phrase(calendar, r"\b<season>,? <year>\b"),
        Phrase(calendar, r"\b<yearsback>,? (?:im )?(?:<month>|<season>)\b"),
        Phrase(calendar, r"\b(?:(?:<day>(?:\. ?| ))?<month>|<season>) <yearsback>\b"),
        Phrase(calendar, r"\b<day>(?:\. ?| )<month>\b"),
        Phrase(calendar, r"\b<day>\. <short>\b"),
        Phrase(ago, r"\bvor acht tagen\b", WEEK_AGO),
        Phrase(ago, r"\bvor (?:vierzehn|14) tagen\b", FORTNIGHT_AGO),
        Phrase(ago, r"\bvor (?:etwa |ungefahr |rund |gut |knapp |fast )?<count> <unit>\b"),
        Phrase(ago, r"\b<count> <unit> her\b"),
        Phrase(past, r"\b(?:letzten|letzte|vergangenen|vergangene) <count> <unit>\b"),
        Phrase(weekday, r"\b<weekday> <weeksback>\b"),
        Phrase(weekday, r"\b<weeksback>,? (?:am )?<weekday>\b"),
        Phrase(weekday, rf"\b(?:<last>|am|vom|seit|diesen) <weekday>\b{_NO_DATE}"),
        Phrase(period, r"\bgestern nacht\b", LAST_NIGHT),
        Phrase(period, r"\b<back> <period>\b"),
        Phrase(period, r"\b(?:am|vom|ubers|uebers|uber das) <period>\b(?<= wochenende)"),
        Phrase(some_day, r"\b<daysback>\b"),
        Phrase(calendar, rf"\b{_SINCE} (?:anfang |mitte |ende |monat )?<month>\b", unsure=True),
        Phrase(calendar, r"\b(?:im|letzten|vergangenen|vorigen|diesen|diesem) <season>\b"),
    ),
    common=(
        "der die das ein eine einen einem ist sind war waren ich du er sie wir ihr mir mich dir dich uns mein "
        "meine dein deine und oder nicht was wo wer wie wann wohin habe hab hast hat haben hatte im am zu mit "
        "von fur auf bei gibt es den dem des noch gut schon nur nichts wird kann bin bist seit ab bis vor "
        "nach anfang mitte ende letzten diesen"
    ),
)
