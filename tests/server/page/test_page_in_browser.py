"""The page in a real browser: every button and key for its effect in the bank, in both themes and on a telephone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.pages import START, TOLD, ServedPage, Watched, served_page, watched

from membank_llama.core.types import NewMemory

VIEWS = ("/", "/membank/page/why", "/membank/page/map", "/membank/page/bank")
MANY = [NewMemory(f"The piano in room {n} needs new strings.", created_at=START - 60 * n) for n in range(1, 130)]


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[ServedPage]:
    with served_page(tmp_path, TOLD) as page:
        yield page


@pytest.fixture
def seen(shown: ServedPage, browser: Any) -> Iterator[Watched]:
    with watched(browser, shown.url) as found:
        found.page.goto(f"{shown.url}/")
        found.page.wait_for_selector("article.memory")
        yield found


def until(page: Any, expression: str, wanted: object = True) -> None:
    """Until the page says so; asked by the debugger, as the page itself evaluates no text."""
    end = time.monotonic() + 10
    while (found := page.evaluate(expression)) != wanted and time.monotonic() < end:
        page.wait_for_timeout(20)
    assert found == wanted, expression


def article(page: Any, text: str) -> Any:
    return page.locator("article.memory", has_text=text)


def test_a_memory_is_edited_in_its_place(shown: ServedPage, seen: Watched) -> None:
    page = seen.page
    article(page, "The boiler").hover()
    article(page, "The boiler").get_by_role("button", name="Edit").click()
    area = page.locator("form.editing textarea")
    assert area.evaluate("one => one === document.activeElement")
    area.press("Escape")
    article(page, "serviced in March").wait_for()
    article(page, "The boiler").hover()
    article(page, "The boiler").get_by_role("button", name="Edit").click()
    area.fill("The boiler was serviced in May.")
    area.press("Shift+Enter")
    area.press("Backspace")
    area.press("Enter")
    article(page, "serviced in May").wait_for()
    assert (
        "The boiler was serviced in May." in shown.texts() and "The boiler was serviced in March." not in shown.texts()
    )
    page.get_by_role("button", name="Undo").click()
    article(page, "serviced in March").wait_for()
    assert "The boiler was serviced in March." in shown.texts()


def test_an_edit_of_what_was_changed_elsewhere_keeps_what_was_written_until_it_is_left(
    shown: ServedPage, seen: Watched
) -> None:
    page = seen.page
    article(page, "The boiler").hover()
    article(page, "The boiler").get_by_role("button", name="Edit").click()
    area = page.locator("form.editing textarea")
    area.fill("The boiler was serviced in May.")
    (boiler,) = [memory.id for memory in shown.bank.memories() if "boiler" in memory.text]
    shown.bank.correct(boiler, "The boiler was serviced in June.")
    area.press("Enter")
    page.locator(".toast", has_text="What you wrote is not saved.").wait_for()
    assert area.input_value() == "The boiler was serviced in May."
    area.press("Escape")
    page.locator(f"#m{boiler}.gone").wait_for(state="attached")
    assert page.locator("form.editing").count() == 0 and article(page, "boiler").count() == 0
    # the browser itself says that there was none
    seen.troubles.clear()


def test_a_memory_that_comes_to_say_what_another_says_is_that_one(shown: ServedPage, seen: Watched) -> None:
    page = seen.page
    article(page, "The boiler").hover()
    article(page, "The boiler").get_by_role("button", name="Edit").click()
    area = page.locator("form.editing textarea")
    area.fill("Ana is allergic to hazelnuts.")
    area.press("Enter")
    article(page, "hazelnuts").get_by_text("corrected").wait_for()
    assert article(page, "hazelnuts").count() == 1 and page.locator("article.memory").count() == len(TOLD) - 1


def test_a_memory_is_forgotten_and_brought_back_into_its_place(shown: ServedPage, seen: Watched) -> None:
    page = seen.page
    before = page.locator("article.memory .text").all_inner_texts()
    article(page, "wifi").hover()
    article(page, "wifi").get_by_role("button", name="Forget").click()
    undo = page.get_by_role("button", name="Undo")
    undo.wait_for()
    assert len(shown.texts()) == len(TOLD) - 1 and article(page, "wifi").count() == 0
    until(page, "document.querySelector('#said').textContent", "Forgotten. Undo: press u, within 10 seconds.")
    # it counts down
    until(page, "/^\\([0-9] s\\)$/.test(document.querySelector('.toast .left').textContent)")
    undo.click()
    article(page, "wifi").wait_for()
    assert page.locator("article.memory .text").all_inner_texts() == before and len(shown.texts()) == len(TOLD)


def test_what_is_not_brought_back_is_gone_and_the_note_too(shown: ServedPage, seen: Watched) -> None:
    page = seen.page
    article(page, "wifi").hover()
    article(page, "wifi").get_by_role("button", name="Forget").click()
    page.locator(".toast .close").click()
    assert page.locator(".toast").count() == 0
    shown.bank.finish_hidden(all_of_it=True)
    page.reload()
    page.wait_for_selector("article.memory")
    assert article(page, "wifi").count() == 0


def test_pinning_and_details_by_their_buttons(shown: ServedPage, seen: Watched) -> None:
    page, boiler = seen.page, article(seen.page, "The boiler")
    boiler.hover()
    boiler.get_by_role("button", name="Pin").click()
    boiler.get_by_role("button", name="Unpin").wait_for()
    assert [memory.pinned for memory in shown.bank.memories() if "boiler" in memory.text] == [True]
    boiler.get_by_role("button", name="Unpin").click()
    boiler.get_by_role("button", name="Pin", exact=True).wait_for()
    more = boiler.get_by_role("button", name="More")
    more.click()
    boiler.get_by_text("Where it was used").wait_for()
    assert more.get_attribute("aria-expanded") == "true"
    more.click()
    assert boiler.get_by_text("Where it was used").is_hidden()
    boiler.get_by_role("button", name="More").click()
    boiler.get_by_role("link", name="house").click()
    page.wait_for_url("**/?conversation=house")
    assert page.locator("article.memory").count() == 1


def test_every_key_does_what_the_list_of_keys_says(shown: ServedPage, seen: Watched) -> None:
    page = seen.page
    focused = "document.activeElement.dataset.id"
    ids = page.locator("article.memory").evaluate_all("found => found.map(one => one.dataset.id)")
    page.keyboard.press("j")
    assert page.evaluate(focused) == ids[0]
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert page.evaluate(focused) == ids[1]
    page.keyboard.press("p")
    page.wait_for_selector(f"#m{ids[1]}.pinned")
    assert shown.bank.get(int(ids[1])).pinned and page.evaluate(focused) == ids[1]
    page.keyboard.press("Enter")
    page.locator(f"#d{ids[1]}").get_by_text("Where it was used").wait_for()
    page.keyboard.press("e")
    page.locator("form.editing textarea").press("Escape")
    page.wait_for_selector(f"article#m{ids[1]}")
    until(page, focused, ids[1])
    page.keyboard.press("x")
    assert page.locator("#chosen-count").inner_text() == "1 selected"
    page.keyboard.press("x")
    assert page.locator("#chosen").is_hidden()
    page.keyboard.press("Delete")
    page.get_by_role("button", name="Undo").wait_for()
    assert len(shown.texts()) == len(TOLD) - 1 and page.evaluate(focused) == ids[2]
    page.keyboard.press("u")
    page.wait_for_selector(f"article#m{ids[1]}")
    assert len(shown.texts()) == len(TOLD)
    page.keyboard.press("j")
    page.keyboard.press("Backspace")
    page.get_by_role("button", name="Undo").wait_for()
    assert len(shown.texts()) == len(TOLD) - 1
    page.keyboard.press("u")
    page.locator(".toast", has_text="Taken back").last.wait_for()
    page.keyboard.press("?")
    assert page.locator("#help").evaluate("one => one.open")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("jpeu")
    assert page.locator("#q").input_value() == "jpeu" and len(shown.texts()) == len(TOLD)


def test_the_search_follows_what_is_typed(shown: ServedPage, seen: Watched) -> None:
    page = seen.page
    page.locator("#q").press_sequentially("Ana hazelnuts", delay=15)
    page.wait_for_url("**/?q=Ana+hazelnuts")
    page.get_by_text("Belongs to it").wait_for()
    assert "hazelnuts" in page.locator("article.memory .text").first.inner_text()
    page.locator("#q").fill("azeln")
    page.locator("mark", has_text="azeln").wait_for()
    page.locator("#q").fill("")
    until(page, "document.querySelectorAll('article.memory').length", len(TOLD))
    page.wait_for_url(f"{shown.url}/")
    page.reload()
    page.wait_for_selector("article.memory")


def test_filters_narrow_the_list(shown: ServedPage, seen: Watched) -> None:
    page = seen.page
    until(page, "document.querySelectorAll('#conversation option').length > 3")

    def count(number: int) -> None:
        until(page, "document.querySelectorAll('article.memory').length", number)

    page.select_option("#conversation", "family")
    count(3)
    page.select_option("select[name=who]", "model")
    count(1)
    page.select_option("select[name=who]", "")
    page.select_option("#conversation", "")
    page.check("input[name=pinned] >> nth=0")
    count(1)
    page.uncheck("input[name=pinned] >> nth=0")
    count(len(TOLD))


def test_a_memory_is_added(shown: ServedPage, seen: Watched) -> None:
    page = seen.page
    page.get_by_text("Add a memory").click()
    page.get_by_label("What should be remembered?").fill("The cat is called Biscuit.")
    page.get_by_label("Conversation", exact=True).last.fill("pets")
    page.get_by_label("Day").fill("2026-03-04")
    page.get_by_role("button", name="Remember").click()
    article(page, "Biscuit").wait_for()
    (told,) = [memory for memory in shown.bank.memories() if "Biscuit" in memory.text]
    assert told.conversation == "pets" and time.gmtime(told.created_at)[:3] == (2026, 3, 4)
    assert page.get_by_label("What should be remembered?").input_value() == ""


def test_many_are_selected_and_changed_at_once(shown: ServedPage, seen: Watched) -> None:
    page, picks = seen.page, seen.page.locator(".pick")
    page.locator("article.memory").first.hover()
    picks.nth(0).click()
    page.locator("article.memory").nth(2).hover()
    picks.nth(2).click(modifiers=["Shift"])
    assert page.locator("#chosen-count").inner_text() == "3 selected"
    bar = page.locator("#chosen")
    bar.get_by_role("button", name="Pin", exact=True).click()
    page.locator(".toast", has_text="3 pinned.").wait_for()
    assert sum(memory.pinned for memory in shown.bank.memories()) == 3
    page.locator("article.memory").first.hover()
    picks.nth(0).click()
    page.get_by_label("all shown").check()
    bar.get_by_role("button", name="Unpin").click()
    page.locator(".toast", has_text=f"{len(TOLD)} unpinned.").wait_for()
    assert not any(memory.pinned for memory in shown.bank.memories())
    page.locator("article.memory").first.hover()
    picks.nth(0).click()
    bar.get_by_role("button", name="Clear").click()
    assert bar.is_hidden()
    picks.nth(0).click()
    page.get_by_label("all shown").check()
    bar.get_by_role("button", name="Forget").click()
    page.locator(".toast", has_text=f"{len(TOLD)} forgotten.").wait_for()
    assert shown.texts() == []
    page.keyboard.press("u")
    until(page, "document.querySelectorAll('article.memory').length", len(TOLD))
    assert len(shown.texts()) == len(TOLD)


def test_the_list_goes_on_as_one_scrolls(tmp_path: Path, browser: Any) -> None:
    with served_page(tmp_path, MANY) as served, watched(browser, served.url) as found:
        found.page.goto(f"{served.url}/")
        while (there := found.page.locator("article.memory").count()) < len(MANY):
            found.page.mouse.wheel(0, 4000)
            until(found.page, f"document.querySelectorAll('article.memory').length > {there}")
        texts = found.page.locator("article.memory .text").all_inner_texts()
        assert texts == [memory.text for memory in MANY]


def test_what_others_tell_meanwhile_is_offered(shown: ServedPage, seen: Watched) -> None:
    page = seen.page
    page.get_by_text("Add a memory").click()
    page.get_by_label("What should be remembered?").fill("Told on the page.")
    page.get_by_role("button", name="Remember").click()
    article(page, "Told on the page.").wait_for()
    shown.bank.ingest("Told in a chat.")
    page.get_by_text("1 new memory: show").click()
    article(page, "Told in a chat.").wait_for()
    assert page.locator("#fresh").inner_text() == ""


def test_questions_and_live_recalls(tmp_path: Path, browser: Any) -> None:
    recalls: list[dict[str, Any]] = []
    with (
        served_page(tmp_path, TOLD, recalls=lambda namespace: list(recalls)) as served,
        watched(browser, served.url) as found,
    ):
        page = found.page
        page.goto(f"{served.url}/membank/page/why")
        page.keyboard.press("/")
        page.keyboard.type("What is Ana allergic to?")
        page.keyboard.press("Enter")
        page.get_by_text("In the prompt").first.wait_for()
        page.get_by_text("The very block").click()
        assert "Notes from earlier conversations" in page.locator(".block pre").inner_text()
        for number in (1, 2):
            told = {
                "query": f"Question {number}?", "when": float(number), "conversation": "", "injected": [], "tokens": 0,
                "skipped": {}, "block": "", "recall_ms": 1.0, "error": None, "memories": [],
            }  # fmt: skip
            recalls.insert(0, told)
            page.get_by_text(f"Question {number}?").wait_for()
        assert page.locator("#recalls .question").all_inner_texts() == ["Question 2?", "Question 1?"]
        assert page.locator("#recall-poll").count() == 1


def test_the_map_shows_memories_and_leads_to_topics(tmp_path: Path, browser: Any) -> None:
    told = [*MANY[:30], *(NewMemory(f"Carrots and beans grow in bed {n}.", created_at=START) for n in range(30))]
    with served_page(tmp_path, told) as served, watched(browser, served.url) as found:
        page = found.page
        page.goto(f"{served.url}/membank/page/map")
        point = page.locator("#points circle").last
        text = served.bank.get(int(point.get_attribute("data-id"))).text
        point.hover(force=True)
        page.locator("#card", has_text=text).wait_for()
        topic = page.locator(".topics a").first
        topic.hover()
        assert page.locator("#points.picked g.on").count() == 1
        size = served.bank.topics()[0].size
        topic.click()
        page.wait_for_url("**/?topic=*")
        until(page, "document.querySelectorAll('article.memory').length", size)


def test_the_bank_is_verified_backed_up_and_given_a_history(shown: ServedPage, seen: Watched, tmp_path: Path) -> None:
    page = seen.page
    page.goto(f"{shown.url}/membank/page/bank")
    page.get_by_role("button", name="Verify").click()
    page.get_by_text("All is as it was written").wait_for()
    page.get_by_role("button", name="Make a backup").click()
    page.get_by_text("is made and verified").wait_for()
    export = tmp_path / "mem0.json"
    export.write_text(
        json.dumps({"results": [{"id": "1", "memory": "Plays the oboe.", "created_at": "2025-01-02T03:04:05Z"}]})
    )
    page.set_input_files("input[type=file]", export)
    page.get_by_role("button", name="Preview").click()
    page.get_by_text("1 new memory").wait_for()
    page.get_by_role("button", name="Leave it").click()
    page.set_input_files("input[type=file]", export)
    page.get_by_role("button", name="Preview").click()
    page.get_by_role("button", name="Import").click()
    page.get_by_text("1 memory imported").wait_for()
    assert "Plays the oboe." in shown.texts()
    page.locator(".sure summary").click()
    page.get_by_role("button", name="Forget it").click()
    page.get_by_text("forgotten for good").wait_for()
    assert "Plays the oboe." not in shown.texts()
    shown.bank.pin(1)
    page.reload()
    page.locator("#changes").get_by_role("button", name="Undo").first.click()
    page.get_by_text("Nothing that could be undone.").wait_for()
    assert not shown.bank.get(1).pinned


def test_the_theme_is_chosen_and_kept(shown: ServedPage, seen: Watched) -> None:
    page = seen.page
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(paper)
    page.get_by_role("button", name="Dark theme").click()
    dark = page.evaluate(paper)
    assert dark != light
    page.goto(f"{shown.url}/membank/page/why")
    assert page.evaluate(paper) == dark and page.locator("#theme").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Dark theme").click()
    assert page.evaluate(paper) == light
    page.get_by_role("button", name="Keys").click()
    page.get_by_role("button", name="Close", exact=True).click()


@pytest.mark.parametrize("width", [320, 360])
def test_a_telephone_shows_all_of_it(shown: ServedPage, browser: Any, width: int) -> None:
    """The narrowest is a page four times as large in a window of 1,280, too."""
    shown.bank.ingest("x" * 300 + " " + "wide " * 100, conversation="y" * 150, source="z" * 200)
    options = {"viewport": {"width": width, "height": 740}, "is_mobile": True, "has_touch": True}
    with watched(browser, shown.url, **options) as found:
        for view in ("/membank/page/why?q=What+is+Ana+allergic+to%3F", *VIEWS[1:], "/?q=Ana", "/"):
            found.page.goto(shown.url + view)
            assert found.page.evaluate("document.documentElement.scrollWidth") <= width, view
        article(found.page, "wifi").get_by_role("button", name="Pin").tap()
        article(found.page, "wifi").get_by_role("button", name="Unpin").wait_for()


def test_without_scripts_one_looks_and_tells(shown: ServedPage, browser: Any) -> None:
    with watched(browser, shown.url, java_script_enabled=False) as found:
        page = found.page
        page.goto(f"{shown.url}/")
        assert page.locator("article.memory").count() == len(TOLD)
        page.locator("#q").fill("hazelnuts")
        page.locator("#q").press("Enter")
        page.wait_for_url("**/?q=hazelnuts*")
        assert page.locator("article.memory").count() == 1
        page.goto(f"{shown.url}/membank/page/why?q=Where+does+Ana+live")
        assert page.get_by_text("In the prompt").count() > 0
        page.goto(f"{shown.url}/")
        page.get_by_text("Add a memory").click()
        page.get_by_label("What should be remembered?").fill("Told without scripts.")
        page.get_by_role("button", name="Remember").click()
        page.get_by_text("Told without scripts.").wait_for()


def test_what_went_wrong_in_the_server_is_said(seen: Watched) -> None:
    page = seen.page
    answers = [("text/plain", "Internal Server Error", 500), ("application/json", '{"error": "not from there"}', 403)]
    for kind, body, status in answers:
        page.unroute_all()
        page.route("**/pin", lambda route: route.fulfill(status=status, content_type=kind, body=body))  # noqa: B023
        article(page, "The boiler").hover()
        article(page, "The boiler").get_by_role("button", name="Pin").click()
        page.locator(".toast", has_text="not from there" if status == 403 else "That went wrong (500)").wait_for()
        page.locator(".toast .close").click()
    seen.troubles.clear()


def test_a_server_that_is_gone_is_said(tmp_path: Path, browser: Any) -> None:
    with served_page(tmp_path, TOLD) as served:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{served.url}/")
        page.wait_for_selector("article.memory")
    page.locator("article.memory").first.hover()
    page.get_by_role("button", name="Pin").first.click()
    page.get_by_text("membank does not answer").wait_for()
    context.close()


def test_a_browser_signs_in(tmp_path: Path, browser: Any) -> None:
    told = [NewMemory("Ours.", namespace="work")]
    with served_page(tmp_path, told, {"t-work": "work"}) as served, watched(browser, served.url) as found:
        page = found.page
        page.goto(f"{served.url}/")
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Open").click()
        page.get_by_role("alert").wait_for()
        page.get_by_label("Token").fill("t-work")
        page.get_by_role("button", name="Open").click()
        page.get_by_text("Ours.").wait_for()
        article(page, "Ours.").hover()
        article(page, "Ours.").get_by_role("button", name="Pin").click()
        article(page, "Ours.").get_by_role("button", name="Unpin").wait_for()
        page.goto(f"{served.url}/membank/page/bank")
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("Token").wait_for()
        # the browser says so of every page that is refused
        found.troubles[:] = [one for one in found.troubles if "401" not in one]


def test_nothing_hostile_runs(tmp_path: Path, browser: Any) -> None:
    texts = ("<img src=x onerror=alert(1)>", "</textarea><script>alert(1)</script>", '"><svg onload=alert(1)>')
    told = [NewMemory(text, conversation=text, source=text, created_at=START) for text in texts]
    with served_page(tmp_path, told) as served, watched(browser, served.url) as found:
        page = found.page
        page.on("dialog", lambda dialog: found.troubles.append(dialog.message))
        for view in (*VIEWS, "/?q=%3Cimg+src%3Dx%3E", "/membank/page/why?q=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E"):
            page.goto(served.url + view)
            page.wait_for_timeout(50)
        page.goto(f"{served.url}/")
        for text in texts:
            article(page, text).get_by_role("button", name="More").click(force=True)
            page.keyboard.press("e")
            area = page.locator("form.editing textarea")
            assert area.input_value() == text
            area.fill(f"{text} again")
            area.press("Enter")
            article(page, f"{text} again").wait_for()
        assert page.evaluate("document.querySelectorAll('main img, main script, main iframe').length") == 0
