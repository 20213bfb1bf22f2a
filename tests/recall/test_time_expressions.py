"""Times that a question names, and how near to them a memory lies."""

from __future__ import annotations

from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from membank_llama.recall.time_expressions import DAY, Span, spans


def at(stamp: str) -> float:
    return datetime.fromisoformat(stamp).replace(tzinfo=timezone.utc).timestamp()


NOW = at("2023-06-15T13:45")
"""A Thursday."""


def days(text: str, now: float = NOW) -> list[tuple[str, str]]:
    """The first day of each span, and the day after its last."""
    return [(day_of(span.since), day_of(span.until)) for span in spans(text, now, timezone.utc)]


def day_of(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d")


@pytest.mark.parametrize(
    ("text", "since", "until"),
    [
        ("What happened on 2023-05-08?", "2023-05-08", "2023-05-09"),
        ("on 8 May 2023", "2023-05-08", "2023-05-09"),
        ("on the 8th of May, 2023", "2023-05-08", "2023-05-09"),
        ("on May 8, 2023", "2023-05-08", "2023-05-09"),
        ("Since Dec. 31st 2022?", "2022-12-31", "2023-01-01"),
        ("in February 2024", "2024-02-01", "2024-03-01"),
        ("December of 2022", "2022-12-01", "2023-01-01"),
        ("in Sept. 2022", "2022-09-01", "2022-10-01"),
        ("summer 2022", "2022-06-01", "2022-09-01"),
        ("the winter of 2021", "2021-12-01", "2022-03-01"),
        ("Who came on 2 June?", "2023-06-02", "2023-06-03"),
        ("Who came on July 4th?", "2022-07-04", "2022-07-05"),
        ("two days ago", "2023-06-13", "2023-06-14"),
        ("a week ago", "2023-06-05", "2023-06-12"),
        ("a couple of weeks ago", "2023-05-29", "2023-06-05"),
        ("three years ago", "2020-01-01", "2021-01-01"),
        ("in the last 10 days", "2023-06-05", "2023-06-16"),
        ("the past two weeks", "2023-06-01", "2023-06-16"),
        ("last week", "2023-06-05", "2023-06-12"),
        ("this week", "2023-06-12", "2023-06-19"),
        ("last month", "2023-05-01", "2023-06-01"),
        ("this month", "2023-06-01", "2023-07-01"),
        ("last year", "2022-01-01", "2023-01-01"),
        ("this year", "2023-01-01", "2024-01-01"),
        ("on Thursday", "2023-06-15", "2023-06-16"),
        ("last Thursday", "2023-06-08", "2023-06-09"),
        ("on Friday", "2023-06-09", "2023-06-10"),
        ("last weekend", "2023-06-10", "2023-06-12"),
        ("today", "2023-06-15", "2023-06-16"),
        ("yesterday", "2023-06-14", "2023-06-15"),
        ("the day before yesterday", "2023-06-13", "2023-06-14"),
        ("this morning", "2023-06-15", "2023-06-16"),
        ("last May", "2023-05-01", "2023-06-01"),
        ("in June", "2023-06-01", "2023-07-01"),
        ("in July", "2022-07-01", "2022-08-01"),
        ("in early March", "2023-03-01", "2023-04-01"),
        ("last summer", "2023-06-01", "2023-09-01"),
        ("in the winter", "2022-12-01", "2023-03-01"),
        ("in 2019", "2019-01-01", "2020-01-01"),
        ("WHAT DID I SAY   LAST\nWEEK?", "2023-06-05", "2023-06-12"),
    ],
)
def test_a_time_is_resolved(text: str, since: str, until: str) -> None:
    assert days(text) == [(since, until)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Where does my sister live?",
        "what may I do",
        "May I ask you something?",
        "This may be a silly question, but who is Ana?",
        "I think this may not work.",
        "March on!",
        "They march for peace",
        "31 February 2023",
        "on 2023-13-45",
        "room 2019",
        "it costs 1999 euros",
        "the second monday",
        "on Aprilfools",
        "I decided to stay",
        "the fallen leaves",
    ],
)
def test_what_is_no_time_says_nothing(text: str) -> None:
    assert spans(text, NOW) == []


def test_several_times_and_a_date_is_not_read_again_as_its_month() -> None:
    found = days("Was it on 8 May 2023, in June 2022, or yesterday?")
    assert found == [("2023-05-08", "2023-05-09"), ("2022-06-01", "2022-07-01"), ("2023-06-14", "2023-06-15")]


def test_last_night_goes_on_until_the_morning() -> None:
    (night,) = spans("What was that last night?", NOW, timezone.utc)
    assert (night.since, night.until) == (at("2023-06-14"), at("2023-06-15T06:00"))


def test_days_begin_and_end_at_midnight() -> None:
    assert days("today", at("2023-06-15T00:00")) == [("2023-06-15", "2023-06-16")]
    assert days("today", at("2023-06-14T23:59")) == [("2023-06-14", "2023-06-15")]
    assert spans("today", NOW, timezone.utc)[0].since % DAY == 0


@pytest.mark.parametrize("name", ["America/Los_Angeles", "Asia/Tokyo", "Pacific/Auckland", "Asia/Kolkata", "UTC"])
def test_days_are_those_of_the_zone(name: str) -> None:
    zone = ZoneInfo(name)
    asked = datetime(2026, 5, 13, 7, tzinfo=zone).timestamp()
    (yesterday,) = spans("What did I have for dinner yesterday?", asked, zone)
    assert yesterday.since == datetime(2026, 5, 12, tzinfo=zone).timestamp()
    assert yesterday.until == datetime(2026, 5, 13, tzinfo=zone).timestamp()
    (month,) = spans("in May 2025", asked, zone)
    assert month.since == datetime(2025, 5, 1, tzinfo=zone).timestamp()


def test_the_day_the_clocks_change_has_23_hours() -> None:
    zone = ZoneInfo("Europe/Lisbon")
    (day,) = spans("on 29 March 2026", datetime(2026, 4, 1, tzinfo=zone).timestamp(), zone)
    assert day.until - day.since == 23 * 3600


def test_what_lies_ahead_means_the_one_before() -> None:
    assert days("in May", at("2023-04-30T12:00")) == [("2022-05-01", "2022-06-01")]
    assert days("in May", at("2023-05-01T00:00")) == [("2023-05-01", "2023-06-01")]
    assert days("last month", at("2023-01-10")) == [("2022-12-01", "2023-01-01")]


@pytest.mark.parametrize("now", [float("inf"), float("nan"), 1e18, -1e18])
def test_an_impossible_now_says_nothing(now: float) -> None:
    assert spans("yesterday", now) == []


@pytest.mark.parametrize("now", [-62135596800.0, 253402300799.0])
def test_the_ends_of_the_calendar_are_survived(now: float) -> None:
    for text in ("yesterday", "999 years ago", "last month", "this month", "this year", "in the last 999 years"):
        assert all(span.since < span.until for span in spans(text, now))


def test_closeness_is_one_inside_and_falls_off() -> None:
    may = Span(at("2023-05-01"), at("2023-06-01"))
    moments = ["2023-05-01", "2023-05-31T23:59", "2023-06-01", "2023-06-10", "2023-08-01", "2024-06-01"]
    close = may.closeness(np.array([at(moment) for moment in moments]))
    assert close.dtype == np.float32
    assert close[:2].tolist() == [1, 1]
    assert 1 > close[2] > close[3] > close[4] > close[5] >= 0
    assert close[5] < 1e-6


def test_what_is_told_soon_after_counts_more_than_what_was_told_before() -> None:
    may = Span(at("2023-05-01"), at("2023-06-01"))
    before, after = may.closeness(np.array([may.since - 5 * DAY, may.until + 5 * DAY]))
    assert after > before > 0


def test_a_long_span_reaches_further_than_a_day() -> None:
    day, year = Span(at("2022-12-31"), at("2023-01-01")), Span(at("2022-01-01"), at("2023-01-01"))
    month_later = np.array([at("2023-02-01")])
    assert year.closeness(month_later)[0] > 0.4
    assert day.closeness(month_later)[0] < 0.001


def test_last_may_in_may_is_not_this_one() -> None:
    asked = datetime(2023, 5, 20, tzinfo=timezone.utc).timestamp()
    (last,), (this,) = spans("last May", asked, timezone.utc), spans("in May", asked, timezone.utc)
    assert this.since - last.since == 365 * DAY
