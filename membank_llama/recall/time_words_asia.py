"""Words and phrases for times in Chinese, in both scripts, and in Japanese.

Nothing stands between words here: what a phrase must not be part of is named around it ("目前天气" has no 前天). Texts
come as `plain_text` gives them, full-width digits as others.
"""

from __future__ import annotations

from .time_language import Language, Phrase, spelled
from .time_resolvers import FORTNIGHT_AGO, LAST, LAST_NIGHT, Unit, ago, calendar, past, period, some_day, weekday

_D, _W, _M, _Y = int(Unit.DAY), int(Unit.WEEK), int(Unit.MONTH), int(Unit.YEAR)
_WEEK, _MONTH, _WEEKEND = {"period": _W}, {"period": _M}, {"period": int(Unit.WEEKEND)}
_NUMERAL = "[二三四五六七八九]?十[一二三四五六七八九]?|[一二三四五六七八九]"
_DIGITS = {
    "year": r"(?:19|20)\d\d|[一二][九〇零][〇零一二三四五六七八九]{2}",
    "month": rf"\d{{1,2}}|{_NUMERAL}",
    "day": rf"\d{{1,2}}|{_NUMERAL}",
    "count": rf"\d{{1,3}}|{_NUMERAL}",
}
_FEW = {"几": 3, "幾": 3, "数": 3, "數": 3, "两": 2, "兩": 2}
# nothing is read from the middle of a number
_WHOLE = r"(?<![\d一二三四五六七八九十百千.])"
_BEFORE = "(?:[以之]?前|まえ)"
_DATE = r"<month> ?月 ?<day> ?[日号號]"
# "5月8日(金)": the date has been read
_NO_DATE = r"(?<!\|)(?<!\|\()(?<!\| )"

HAN = Language(
    words={
        "count": _FEW,
        "yearsback": spelled("今年|去年 昨年|前年 一昨年 おととし", 0),
        "season": {"冬": 12, "春": 3, "夏": 6, "秋": 9},
        "unit": {"日": _D, "年": _Y},
    },
    digits=_DIGITS,
    phrases=(
        Phrase(calendar, rf"{_WHOLE}<year> ?年 ?{_DATE}"),
        Phrase(calendar, rf"{_WHOLE}<year> ?年 ?<month> ?月"),
        Phrase(calendar, rf"{_WHOLE}<year> ?年[的の]?<season>[天季]?(?![节節分至])"),
        Phrase(calendar, rf"<yearsback>[的の]? ?{_DATE}"),
        Phrase(calendar, r"<yearsback>[的の]? ?<month> ?月"),
        Phrase(calendar, r"<yearsback>[的の]?<season>[天季]?(?![节節分至])"),
        Phrase(calendar, rf"{_WHOLE}{_DATE}"),
        Phrase(ago, rf"半年{_BEFORE}", {"unit": _M, "count": 6}),
        Phrase(ago, rf"{_WHOLE}<count> ?<unit>{_BEFORE}"),
        Phrase(calendar, rf"{_WHOLE}(?<![每毎第])<month> ?月(?![\d天亮前曜球間间日雨蝿病]|革命|に一[度回])"),
        Phrase(calendar, rf"{_WHOLE}<year> ?年(?![前間间])"),
        # 以前年轻 is "young before", and 前年の in Japanese of the year before another
        Phrase(calendar, r"(?<![以之目])<yearsback>(?!(?<=前年)[轻輕代度后後龄齡青ぁ-ん])"),
        Phrase(period, r"昨日の[夜晩]|昨天(?:晚上|夜里|夜裡|夜晚)|昨[晚晩夜]", LAST_NIGHT),
        Phrase(some_day, r"(?<!一)昨日|昨天", {"daysback": 1}),
        Phrase(some_day, r"今(?:[天朝早晨晚晩夜]|日(?!本))", {"daysback": 0}),
    ),
)
"""What Chinese and Japanese write alike."""

# 马上 is "at once", 晚上 "in the evening", 日本 Japan
_THAT = "(?<![马馬晚早网網身路日书書基根])"
_A_WEEK = "(?:周|週|星期|礼拜|禮拜)"

CHINESE = Language(
    words={
        "weekday": spelled("一|二|三|四|五|六|日 天", 0),
        "weeksback": spelled("这 這 本|上|上上", 0),
        "back": spelled("这 這 本|上|上上", 0),
        "count": _FEW,
        "unit": {"天": _D, "周": _W, "週": _W, "星期": _W, "礼拜": _W, "禮拜": _W, "个月": _M, "個月": _M, "年": _Y},
    },
    digits=_DIGITS,
    phrases=(
        Phrase(ago, rf"{_WHOLE}<count> ?[个個]?<unit>{_BEFORE}"),
        Phrase(ago, rf"半[个個]月{_BEFORE}", FORTNIGHT_AGO),
        Phrase(past, r"(?:最近|过去|過去|[这這近](?!一))的? ?<count> ?[个個]?<unit>"),
        Phrase(past, r"前(?:[几幾]|些)天", {"unit": _D, "count": 7}),
        Phrase(weekday, rf"{_THAT}<weeksback>[个個]?{_A_WEEK}<weekday>(?![个個次])"),
        Phrase(period, rf"{_THAT}<back>[个個]?[周週]末", _WEEKEND),
        Phrase(period, rf"{_THAT}<back>一?[个個]?{_A_WEEK}(?![刊围圍到杰边邊转轉密全身岁歲年期])", _WEEK),
        Phrase(period, rf"{_THAT}<back>(?:一?[个個])?月(?![亮球色光])", _MONTH),
        Phrase(
            weekday,
            rf"{_NO_DATE}(?<![每下个個一二两兩三四五六七八九十几幾\d先今来毎]){_A_WEEK}<weekday>(?![个個次回度曜本])",
        ),
        Phrase(period, r"(?<![每下个個先今来毎])[周週]末", _WEEKEND),
        Phrase(some_day, r"大前天", {"daysback": 3}),
        # 目前天气 is the weather now
        Phrase(some_day, r"(?<![以之目])前天(?![气氣空堂])", {"daysback": 2}),
    ),
)

_ALONE = "(?<![ぁ-ん])"

JAPANESE = Language(
    words={
        "weekday": spelled("月曜|火曜|水曜|木曜|金曜|土曜|日曜", 0),
        "weeksback": spelled("今週|先週|先々週", 0),
        "count": _FEW,
        "season": HAN.words["season"],
        "unit": {"日": _D, "週": _W, "年": _Y, **dict.fromkeys(("か月", "ヶ月", "カ月", "ヵ月", "ケ月", "箇月"), _M)},
    },
    digits=_DIGITS,
    phrases=(
        Phrase(ago, rf"{_WHOLE}<count> ?<unit>間?{_BEFORE}"),
        Phrase(past, r"(?:過去|ここ|この|最近)の? ?<count> ?<unit>間?"),
        Phrase(weekday, r"<weeksback>の?<weekday>日?"),
        Phrase(weekday, r"(?<=前の)<weekday>日?", LAST),
        Phrase(weekday, rf"{_NO_DATE}(?<!毎週)(?<!来週)(?<!来週の)(?<!次の)(?<!今度の)<weekday>日?(?!ごと)"),
        Phrase(period, r"先週末|先週の週末", {**_WEEKEND, "back": 1}),
        Phrase(period, r"(?<![毎来])週末", _WEEKEND),
        Phrase(period, r"先々週", {**_WEEK, "back": 2}),
        Phrase(period, r"先週", {**_WEEK, "back": 1}),
        Phrase(period, r"今週", _WEEK),
        Phrase(period, r"先々月", {**_MONTH, "back": 2}),
        Phrase(period, r"先月", {**_MONTH, "back": 1}),
        Phrase(period, r"今月", _MONTH),
        Phrase(calendar, r"この<season>"),
        Phrase(period, rf"ゆうべ|夕べ|{_ALONE}きのうの[夜晩]", LAST_NIGHT),
        Phrase(some_day, r"一昨日|おととい|おとつい", {"daysback": 2}),
        # 木の上 and 勉強 have the same sounds within
        Phrase(some_day, rf"{_ALONE}きのう(?!え)", {"daysback": 1}),
        Phrase(some_day, rf"{_ALONE}(?:きょう(?=[はのも、])|けさ)", {"daysback": 0}),
    ),
)
