"""Days are the person's: in what is shown, in questions, in files and on the command line alike."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from support.banks import open_bank
from support.terminals import Membank

from membank_llama.cli.commands.options import parse_time
from membank_llama.core.days import LAST_SECOND, day_of, parse_instant, read_instant, zone_named
from membank_llama.core.errors import InvalidInputError
from membank_llama.core.types import NewMemory
from membank_llama.memory.memory_files import memory_of_line
from membank_llama.memory.prompt_block import Neutraliser, build_block

DINNERS = {10: "lentil soup", 11: "grilled mackerel", 12: "mushroom risotto", 13: "potato salad"}


@pytest.fixture(params=["America/Los_Angeles", "Asia/Tokyo"])
def here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ZoneInfo]:
    """This machine stands there."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield ZoneInfo(request.param)
    monkeypatch.undo()
    time.tzset()


def dinners(path: Path, zone: ZoneInfo) -> list[NewMemory]:
    return [
        NewMemory(f"For dinner I had {what}.", created_at=datetime(2026, 5, day, 21, 30, tzinfo=zone).timestamp())
        for day, what in DINNERS.items()
    ]


def test_yesterday_is_that_of_this_machine(tmp_path: Path, here: ZoneInfo) -> None:
    asked = datetime(2026, 5, 13, 7, tzinfo=here).timestamp()
    with open_bank(tmp_path) as bank:
        bank.ingest_many(dinners(tmp_path, here))
        best = bank.recall("What did I have for dinner yesterday?", 1, now=asked)[0]
        assert "risotto" in best.text
        block = build_block([best], 400, len, Neutraliser(())).text
        assert "- 2026-05-12 (" in block, "the day that is shown is the day that is meant"


def test_or_that_of_the_zone_given(tmp_path: Path) -> None:
    far = ZoneInfo("Pacific/Auckland")
    asked = datetime(2026, 5, 13, 7, tzinfo=far).timestamp()
    with open_bank(tmp_path) as bank:
        bank.ingest_many(dinners(tmp_path, far))
        best = bank.recall("What did I have for dinner yesterday?", 1, now=asked, zone=far)[0]
        assert "risotto" in best.text
        assert "- 2026-05-12 (" in build_block([best], 400, len, Neutraliser(()), far).text


def test_a_time_without_an_offset_is_the_same_in_files_and_on_the_command_line(here: ZoneInfo) -> None:
    stamp = "2025-01-31T18:00"
    expected = datetime(2025, 1, 31, 18, tzinfo=here).timestamp()
    line = memory_of_line(json.dumps({"text": "x", "created_at": stamp}), "line 1", NewMemory("x"))
    assert line.created_at == parse_time(stamp, 0.0) == parse_instant(stamp) == expected
    zoned = memory_of_line(json.dumps({"text": "x", "created_at": f"{stamp}Z"}), "line 1", NewMemory("x"))
    assert (
        zoned.created_at == parse_time(f"{stamp}Z", 0.0) == datetime(2025, 1, 31, 18, tzinfo=timezone.utc).timestamp()
    )


def test_what_is_told_at_a_local_time_is_recalled_by_it(
    tmp_path: Path, here: ZoneInfo, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_bank(tmp_path / "bank") as bank:
        bank.ingest("The plumber came.", created_at=parse_instant("2025-01-31T18:00"))
        bank.ingest("The plumber left.", created_at=parse_instant("2025-02-01T00:30"))
    done = Membank(tmp_path / "bank", capsys)("recall", "plumber", "--until", "2025-02-01", "--json")
    assert "came" in done.out
    assert "left" not in done.out


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../../etc/passwd", "x" * 500, "a\0b"])
def test_no_such_zone(name: str) -> None:
    with pytest.raises(InvalidInputError, match="no time zone"):
        zone_named(name)


def test_a_time_that_no_calendar_has_shows_no_day() -> None:
    assert day_of(1e300) == day_of(float("nan")) == ""


AT = 1_735_700_645.123456


@pytest.mark.parametrize(
    "written",
    [
        "2025-01-01T03:04:05.123456Z", "2025-01-01 03:04:05.123456789Z", "2025-01-01T03:04:05,123456+00",
        "2025-01-01T05:04:05.123456+0200", "2025-01-01 05:04:05.123456 +02:00", "2024-12-31 20:04:05.123456-07:00",
        "2025-01-01 03:04:05.123456 +0000 UTC", " 2025-01-01t03:04:05.123456z ".upper(),
        AT, AT * 1e3, AT * 1e6, 1_735_700_645_123_456_000,
    ],
)  # fmt: skip
def test_moments_as_programs_write_them(written: str | float) -> None:
    assert read_instant(written) == pytest.approx(AT, abs=1e-5)


def test_a_time_without_an_offset_may_be_of_a_zone() -> None:
    assert read_instant("2025-01-01 03:04:05", timezone.utc) == 1_735_700_645
    assert read_instant("2025-01-01 03:04", timezone.utc) == 1_735_700_640
    assert read_instant("2025-01-01", timezone.utc) == 1_735_689_600


@pytest.mark.parametrize(
    "value", ["", "soon", "2025-13-01", "3025-01-01", 1e30, float("nan"), float("inf"), -1e25, True, None, [1]]
)
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises((ValueError, OverflowError)):
        read_instant(value)


def test_an_end_may_be_far_away() -> None:
    assert read_instant(2.5e11, latest=LAST_SECOND) == 2.5e11
    assert read_instant(2.5e11) == 2.5e8
