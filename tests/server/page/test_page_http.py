"""The page over HTTP: what it shows, what it changes, and what nobody can make it do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.banks import wait_for
from support.pages import START, TOLD, Elements, ServedPage, served_page
from support.proxies import engine_of, proxied

from membank_llama.cli.terminal import stats_facts
from membank_llama.core.types import NewMemory
from membank_llama.server.page.map_view import HEIGHT, WIDTH
from membank_llama.server.page.memory_list import PAGE
from membank_llama.server.page.page_templates import ASSETS, AT

VIEWS = ("/", "/membank/page/why", "/membank/page/map", "/membank/page/bank")


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[ServedPage]:
    with served_page(tmp_path, TOLD) as page:
        yield page


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPage]:
    """The same for tests that change nothing."""
    with served_page(tmp_path_factory.mktemp("still"), TOLD) as page:
        yield page


def id_of(page: ServedPage, text: str) -> int:
    return next(memory.id for memory in page.bank.memories() if memory.text == text)


def texts_of(html: str) -> list[str]:
    return [
        re.sub("<[^>]+>", "", one)
        for one in re.findall(r'<p class="text" id="t\d+" dir="auto">(.*?)</p>', html, re.DOTALL)
    ]


# -- what it is made of


@pytest.mark.parametrize("view", VIEWS)
def test_a_browser_runs_nothing_but_the_pages_own_files(still: ServedPage, view: str) -> None:
    answer = still.get(view)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"
    elements = Elements(answer.text)
    assert {one["src"] for one in elements.all("script")} == {f"{AT}{name}" for name in ASSETS if name.endswith(".js")}
    assert elements.all("style") == []
    for _, attributes in elements.found:
        assert not {name for name in attributes if name.startswith("on") or name == "style"}


def test_all_files_of_the_page_are_light_and_kept(still: ServedPage) -> None:
    weight = 0
    for name, kind in ASSETS.items():
        answer = still.get(f"{AT}{name}")
        assert answer.headers["content-type"] == kind
        weight += len(answer.content)
        again = still.client.get(f"{AT}{name}", headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        text = answer.text
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "") and "https://" not in text
        assert "eval(" not in text and "new Function" not in text
    assert weight <= 150_000
    assert still.get(f"{AT}page_templates.py").status_code == 404


# -- looking


def test_memories_are_leafed_through_by_plain_links(tmp_path: Path) -> None:
    told = [NewMemory(f"Note {n} of many.", created_at=START + n, conversation=f"c{n // 9}") for n in range(137)]
    with served_page(tmp_path, told) as page:
        found, path = [], "/"
        while path:
            html = page.get(path).text
            found += texts_of(html)
            link = [one["href"] for one in Elements(html).all("a") if "cursor=" in one.get("href", "")]
            path = link[0] if link else ""
    assert found == [f"Note {n} of many." for n in reversed(range(137))]


def test_a_search_is_made_among_what_the_filters_leave(tmp_path: Path) -> None:
    told = [NewMemory(f"The wool socks of drawer {n} are grey.", conversation="drawers") for n in range(300)]
    told.append(NewMemory("Grey wool was bought.", conversation="attic"))
    with served_page(tmp_path, told) as page:
        assert texts_of(page.get("/", q="grey wool socks drawer", conversation="attic").text) == [
            "Grey wool was bought."
        ]
        assert texts_of(page.get("/", q="grey wool socks drawer", conversation="none such").text) == []


def test_a_day_and_a_conversation_are_headed_once_across_pages(tmp_path: Path) -> None:
    told = [NewMemory(f"Note {n} of one day.", created_at=START + n, conversation="one talk") for n in range(120)]
    with served_page(tmp_path, told) as page:
        html = page.get("/").text
        more = re.search(r'hx-get="([^"]*cursor[^"]*)"', html)
        rest = page.get(more[1].replace("&amp;", "&"), script=True).text if more else ""
    assert html.count('class="day"') == html.count('class="talk"') == 1
    assert 'class="day"' not in rest and 'class="talk"' not in rest and len(texts_of(rest)) == PAGE


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"who": "model"}, 1), ({"who": "document"}, 1), ({"who": "person"}, 4), ({"pinned": "1"}, 1),
        ({"conversation": "family"}, 3), ({"conversation": "-"}, 1), ({"conversation": "family", "who": "model"}, 1),
        ({"topic": "gone"}, 0), ({"conversation": "nobody's"}, 0),
    ],
)  # fmt: skip
def test_filters_show_what_fits(still: ServedPage, query: dict[str, str], count: int) -> None:
    assert len(texts_of(still.get("/", **query).text)) == count


def test_a_search_finds_by_words_and_by_letters(still: ServedPage) -> None:
    html = still.get("/membank/page/memories", script=True, q="Ana allergic").text
    assert texts_of(html)[0] == "Ana is allergic to hazelnuts."
    letters = still.get("/membank/page/memories", script=True, q="azeln")
    assert texts_of(letters.text) == ["Ana is allergic to hazelnuts."] and "h<mark>azeln</mark>uts" in letters.text
    assert letters.headers["hx-replace-url"] == "/?q=azeln"
    assert texts_of(still.get("/membank/page/letters", script=True, q="azeln").text) == [
        "Ana is allergic to hazelnuts."
    ]
    nothing = still.get("/membank/page/memories", script=True, q="???").text
    assert "Nothing belongs to “???”" in nothing


def test_a_topic_leads_to_its_memories(tmp_path: Path) -> None:
    told = [NewMemory(f"The piano in room {n} needs new strings and tuning.", created_at=START + n) for n in range(20)]
    told += [NewMemory(f"Carrots and beans grow in bed {n} of the allotment.", created_at=START - n) for n in range(20)]
    with served_page(tmp_path, told) as page:
        topics = page.bank.topics()
        assert topics
        html = page.get("/membank/page/map").text
        assert html.count("<circle") >= 40 and topics[0].name in html
        shown = texts_of(page.get("/", topic=topics[0].id).text)
        assert {id_of(page, text) for text in shown} == set(topics[0].ids)
        card = page.get(f"/membank/page/memories/{topics[0].example}/card", script=True).text
        assert page.bank.get(topics[0].example).text in card
        assert topics[0].id in page.get("/membank/page/topics", script=True).text


def test_details_tell_what_it_said_before_and_what_was_said_since(shown: ServedPage) -> None:
    new = shown.bank.correct(id_of(shown, "My sister Ana lives in Porto."), "My sister Ana lives in Braga.").memory_id
    html = shown.get(f"/membank/page/memories/{new}/details", script=True).text
    assert "My sister Ana lives in Porto." in html and "What it said before" in html and "family" in html


def test_details_show_what_else_is_kept_with_a_memory(shown: ServedPage) -> None:
    new = shown.bank.ingest("The oven is new.", {"where": {"floor": [1, None]}, "mood": "glad"}).memory_id
    text = Elements(shown.get(f"/membank/page/memories/{new}/details", script=True).text).text
    assert '{"floor": [1, null]}' in text and "glad" in text


def test_every_memory_on_the_map_has_a_place_of_its_own(tmp_path: Path) -> None:
    """Memories that share no word lie at the same place of the plane."""
    words = ("anchor", "bread", "canoe", "dentist", "engine", "flute", "garden")
    with served_page(tmp_path, [NewMemory(f"{word.title()}, {word}s.") for word in words]) as page:
        points = Elements(page.get("/membank/page/map").text).all("circle")
        places = {(one["cx"], one["cy"]) for one in points if "data-id" in one}
        assert len(places) == len(words)
        assert all(0 < float(x) < WIDTH and 0 < float(y) < HEIGHT for x, y in places)


# -- changing


def test_a_memory_is_told_corrected_pinned_forgotten_and_brought_back(shown: ServedPage) -> None:
    told = shown.send("POST", "/membank/page/memories", {"text": "The cat is called Biscuit.", "pinned": "1"})
    assert told.status_code == 200 and "Remembered." in told.text
    cat = id_of(shown, "The cat is called Biscuit.")
    assert shown.bank.get(cat).pinned and shown.bank.get(cat).source == "page"
    assert "known already" in shown.send("POST", "/membank/page/memories", {"text": "The cat is called Biscuit."}).text
    assert "<textarea" in shown.get(f"/membank/page/memories/{cat}/edit", script=True).text
    corrected = shown.send("PATCH", f"/membank/page/memories/{cat}", {"text": "The cat is called Toast."})
    new = id_of(shown, "The cat is called Toast.")
    assert f'id="m{new}"' in corrected.text and "corrected" in corrected.text
    shown.send("DELETE", f"/membank/page/memories/{new}/pin")
    assert not shown.bank.get(new).pinned
    shown.send("POST", f"/membank/page/memories/{new}/pin")
    assert shown.bank.get(new).pinned
    forgotten = shown.send("DELETE", f"/membank/page/memories/{new}")
    undo = re.search(r'hx-post="([^"]*/undo/[^"]+)"', forgotten.text)
    assert undo and "The cat is called Toast." not in shown.texts()
    back = shown.send("POST", undo[1])
    assert f'hx-swap-oob="outerHTML:#m{new}"' in back.text and "The cat is called Toast." in shown.texts()
    assert shown.send("POST", undo[1]).status_code == 400


def test_what_only_repeats_a_memory_goes_with_it_and_comes_back(tmp_path: Path) -> None:
    turns = (
        ("user", "I bought a sailboat, she is called Nordlys."),
        ("user", "What is my sailboat called?"),
        ("assistant", "Your sailboat is called Nordlys."),
    )
    told = [NewMemory(text, role=role, conversation="c", created_at=START + n) for n, (role, text) in enumerate(turns)]
    with served_page(tmp_path, told) as page:
        answer = page.send("DELETE", f"/membank/page/memories/{id_of(page, told[0].text)}")
        assert "1 reply that only repeats it" in answer.text and page.texts() == [turns[1][1]]
        page.send("POST", f"/membank/page/undo/{page.bank.changes()[0].id}")
        assert len(page.texts()) == 3


def test_how_many_there_are_is_said_anew_with_each_change(tmp_path: Path) -> None:
    with served_page(tmp_path, []) as page:
        assert 'id="empty"' in page.get("/").text
        added = page.send("POST", "/membank/page/memories", {"text": "The oven is new."}).text
        assert 'id="total" hx-swap-oob="true">1 memory<' in added and 'hx-swap-oob="delete:#empty"' in added
        forgotten = page.send("DELETE", "/membank/page/memories/1").text
        assert 'id="total" hx-swap-oob="true">0 memories<' in forgotten
        back = page.send("POST", f"/membank/page/undo/{page.bank.changes()[0].id}").text
        assert 'id="total" hx-swap-oob="true">1 memory<' in back and 'id="empty"' not in page.get("/").text


def test_many_are_changed_at_once(shown: ServedPage) -> None:
    ids = [memory.id for memory in shown.bank.memories()][:3]
    answer = shown.send("POST", "/membank/page/chosen", {"action": "pin", "ids": [str(one) for one in ids]})
    assert answer.status_code == 200 and all(shown.bank.get(one).pinned for one in ids)
    shown.send("POST", "/membank/page/chosen", {"action": "unpin", "ids": [str(one) for one in ids]})
    assert not any(shown.bank.get(one).pinned for one in ids)
    answer = shown.send("POST", "/membank/page/chosen", {"action": "forget", "ids": [str(one) for one in ids]})
    assert "3 forgotten." in answer.text and len(shown.texts()) == len(TOLD) - 3
    for form in ({}, {"action": "forget"}, {"action": "burn", "ids": "4"}, {"action": "pin", "ids": "x"}):
        assert shown.send("POST", "/membank/page/chosen", form).status_code == 400


def test_the_last_changes_are_listed_and_undone(shown: ServedPage) -> None:
    boiler = id_of(shown, "The boiler was serviced in March.")
    shown.send("POST", f"/membank/page/memories/{boiler}/pin")
    html = shown.get("/membank/page/bank").text
    undo = re.search(r'hx-post="([^"]*/undo/[^"]+)"[^>]*data-then', html)
    assert undo and "pinned" in html
    shown.send("POST", undo[1])
    assert not shown.bank.get(boiler).pinned


def test_sizes_are_said_as_in_the_terminal(still: ServedPage) -> None:
    facts = dict(stats_facts(still.bank.stats()))
    total = facts["on disk"].partition(":")[0]
    assert f"<dt>On disk</dt><dd>{total}</dd>" in still.get("/membank/page/bank").text


# -- why


def test_a_question_of_ones_own_is_answered_signal_by_signal(still: ServedPage) -> None:
    html = still.get("/membank/page/why", q="What is Ana allergic to?").text
    assert "In the prompt" in html and "Held back by the gate" in html and "evidence" in html
    assert "Ana is allergic to hazelnuts." in html and "&lt;memory&gt;" in html and "coarse" in html
    assert "No chats go by here" in html
    assert still.get("/membank/page/why/asked", script=True, q="").text.strip() == ""


def test_recalls_of_chats_come_as_they_go_by(tmp_path: Path) -> None:
    recalls: list[dict[str, object]] = []
    with served_page(tmp_path, TOLD, recalls=lambda namespace: recalls) as page:
        assert "None yet" in page.get("/membank/page/why").text
        assert page.get("/membank/page/why/newer", script=True, after="0").status_code == 204
        row = {
            "id": 2, "memory_id": 2, "final_score": 0.5, "score_l0": 0.5, "score_l1": 0.4, "score_l2": None,
            "lexical_score": 1.0, "fused_score": 3.0, "signals": {"dense": 2.0, "words": -1.0}, "duplicates": [],
            "relevant": True, "reason": "relevant: evidence 9.0 of 5.0",
        }  # fmt: skip
        recalls.append(
            {
                "query": "Which nuts?", "when": 12.5, "conversation": "", "injected": [2], "skipped": {}, "tokens": 9,
                "block": "<memory>…</memory>", "recall_ms": 1.0, "error": None, "memories": [row],
            }
        )  # fmt: skip
        newer = page.get("/membank/page/why/newer", script=True, after="0").text
        assert "Which nuts?" in newer and "after=12.5" in newer and "Ana is allergic" in newer and "-1.00" in newer
        page.bank.forget(2)
        assert "Ana is allergic" not in page.get("/membank/page/why").text


# -- the bank


def test_a_bank_is_verified_and_backed_up(shown: ServedPage, tmp_path: Path) -> None:
    shown.send("POST", "/membank/page/bank/verify")
    wait_for(lambda: "All is as it was written" in shown.get("/membank/page/bank/verify", script=True).text)
    shown.send("POST", "/membank/page/bank/backup")
    wait_for(lambda: "is made and verified" in shown.get("/membank/page/bank/backup", script=True).text)
    (made,) = [path for path in (tmp_path / "backups").iterdir() if path.is_dir()]
    assert made.name in shown.get("/membank/page/bank").text


def test_a_history_is_previewed_stored_and_undone(shown: ServedPage) -> None:
    when = "2025-03-01T10:00:00Z"
    talk = [
        {
            "uuid": "1", "name": "Garden", "created_at": "2025-03-01T10:00:00Z",
            "chat_messages": [
                {"uuid": "a", "sender": "human", "text": "I planted two apple trees.", "created_at": when},
                {"uuid": "b", "sender": "assistant", "text": "Apples want a second tree.", "created_at": when},
            ],
        }
    ]  # fmt: skip

    def send(path: str, body: bytes = b"") -> str:
        headers = {"origin": shown.url, "hx-request": "true", "content-type": "application/octet-stream"}
        return shown.client.post(path, content=body, headers=headers).text

    def state() -> str:
        return shown.get("/membank/page/import", script=True).text

    send("/membank/page/import?name=..%2F..%2Fclaude.json", json.dumps(talk).encode())
    wait_for(lambda: "2 new memories" in state())
    assert "claude.json" in state() and "Claude" in state() and "I planted two apple trees." not in shown.texts()
    send("/membank/page/import/leave")
    assert "Preview" in state()
    send("/membank/page/import?name=claude.json", json.dumps(talk).encode())
    wait_for(lambda: "2 new memories" in state())
    send("/membank/page/import/store")
    wait_for(lambda: "2 memories imported" in state())
    assert "I planted two apple trees." in shown.texts()
    send("/membank/page/import/1/undo")
    assert "I planted two apple trees." not in shown.texts()
    send("/membank/page/import?name=x", b"nothing that is known")
    wait_for(lambda: "cannot tell what" in state())
    assert "membank-import-" not in state()
    assert shown.send("POST", "/membank/page/import/store").status_code == 400
    assert shown.send("POST", "/membank/page/import/9/undo").status_code == 400


# -- what nobody can make it do


@pytest.mark.parametrize(
    "path",
    [
        "/?who=nobody", "/?cursor=x", "/?q=" + "a" * 2001, "/?conversation=%00", "/?q=%00%FF", "/?topic=%27%22",
        f"/membank/page/memories/{10**30}", f"/membank/page/memories/{2**63}/details", "/membank/page/memories/0",
        "/membank/page/letters?q=a&without=99999999999999999999,x,-1", "/membank/page/why/newer?after=nan",
        "/membank/page/why/newer?after=x", "/membank/page/why?q=%00", "/membank/page/map?now=1",
        "/membank/page/fresh?since=x", "/membank/page/fresh?since=99999999999999999999&shown=1",
        "/membank/page/nothing", "/?cursor=x&after=%20", "/membank/page/static/..%2Fpage_templates.py",
    ],
)  # fmt: skip
def test_nonsense_is_answered_calmly(still: ServedPage, path: str) -> None:
    assert still.get(path).status_code in (200, 204, 400, 404)
    assert still.get(path, script=True).status_code in (200, 204, 303, 400, 404)


def test_bad_forms_change_nothing(still: ServedPage) -> None:
    for form in ({}, {"text": " "}, {"text": "a\0b"}, {"text": "x" * 70_000}, {"text": "fine", "day": "soon"}):
        answer = still.send("POST", "/membank/page/memories", form)
        assert answer.status_code == 400 and 'class="toast bad"' in answer.text
    raw = still.client.post("/membank/page/memories", content=b"text=%ff%fe", headers={"origin": still.url})
    assert raw.status_code == 400
    assert still.send("POST", "/membank/page/memories", {"text": "y" * 9_000_000}).status_code == 413
    assert still.texts() == [one.text for one in TOLD]


CHANGES = [
    ("POST", "/membank/page/memories"), ("PATCH", "/membank/page/memories/1"), ("DELETE", "/membank/page/memories/1"),
    ("POST", "/membank/page/memories/1/pin"), ("DELETE", "/membank/page/memories/1/pin"),
    ("POST", "/membank/page/chosen"), ("POST", "/membank/page/undo/x"), ("POST", "/membank/page/bank/verify"),
    ("POST", "/membank/page/bank/backup"), ("POST", "/membank/page/import?name=a"),
    ("POST", "/membank/page/import/store"), ("POST", "/membank/page/sign-in"), ("POST", "/membank/page/sign-out"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_no_other_page_changes_anything(still: ServedPage, method: str, path: str) -> None:
    for headers in (
        {},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:9", "sec-fetch-site": "same-site"},
        {"origin": "http://127.0.0.1:9"},
        {"sec-fetch-site": "cross-site"},
        {"origin": still.url, "sec-fetch-site": "cross-site"},
    ):
        answer = still.client.request(method, path, content=b"text=Evil&ids=1&action=forget", headers=headers)
        assert answer.status_code == 403, headers
    assert still.texts() == [one.text for one in TOLD] and still.bank.changes() == []


HOSTILE = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"><svg onload=alert(1)>", "' onfocus='alert(1)",
    "javascript:alert(1)", "</textarea><script>alert(1)</script>", "</title><script>alert(1)</script>",
    "{{ 7 * 7 }}{% raw %}", "<a href=javascript:alert(1) hx-get=/membank/page/bank hx-trigger=load>x</a>",
    "</pre></details><iframe src=//evil.example></iframe>", "<!-- <b>", "]]><script>alert(1)</script>",
)  # fmt: skip


def test_nothing_that_a_memory_says_becomes_a_part_of_the_page(tmp_path: Path) -> None:
    told = [
        NewMemory(
            f"{text} {place}", {"part": text, text: text}, role=text[:60], source=text, conversation=f"{text} {place}",
            created_at=START + place,
        )
        for place, text in enumerate(HOSTILE)
    ]  # fmt: skip
    with served_page(tmp_path, told, tokens=None) as page:
        ids = [memory.id for memory in page.bank.memories()]
        for memory_id in ids[:4]:
            page.bank.correct(memory_id, f"{page.bank.get(memory_id).text} again")
        ids = [memory.id for memory in page.bank.memories()]
        paths = [*VIEWS, "/membank/page/conversations", "/membank/page/topics", "/membank/page/map?now=1"]
        paths += [
            f"/membank/page/memories/{one}{part}" for one in ids[-6:] for part in ("", "/edit", "/details", "/card")
        ]
        answers = [page.get(path, script=path not in VIEWS) for path in paths]
        for text in HOSTILE:
            answers += [page.get("/", q=text, conversation=text), page.get("/membank/page/why", q=text)]
            answers.append(page.send("POST", "/membank/page/memories", {"text": f"{text} told", "conversation": text}))
        for answer in answers:
            assert answer.status_code == 200, answer.url
            elements = Elements(answer.text)
            assert all(one.get("src", "").startswith(AT) for one in elements.all("script"))
            assert not elements.all("iframe") and not elements.all("img") and not elements.all("b")
            for _, attributes in elements.found:
                assert not {name for name in attributes if name.startswith("on")}, attributes
                assert not attributes.get("href", "").startswith(("javascript:", "//"))
                assert attributes.get("hx-get", "").startswith(("/membank/page/", "")) and "evil" not in str(
                    attributes.get("src")
                )
        assert "49" not in Elements(page.get("/", q="{{ 7 * 7 }}").text).text
        assert "<script>alert(1)</script>" in Elements(page.get("/").text).text


def test_a_namespace_shows_and_changes_nothing_of_another(tmp_path: Path) -> None:
    told = [*TOLD, NewMemory("Their secret.", namespace="theirs", conversation="secret talk", created_at=START)]
    with served_page(tmp_path, told) as page:
        (theirs,) = [memory.id for memory in page.bank.memories("theirs")]
        for part in ("", "/edit", "/details", "/card"):
            assert page.get(f"/membank/page/memories/{theirs}{part}").status_code == 404
        for method, path in (("PATCH", ""), ("DELETE", ""), ("POST", "/pin"), ("DELETE", "/pin")):
            answer = page.send(method, f"/membank/page/memories/{theirs}{path}", {"text": "Ours."})
            assert answer.status_code == 404
        for action in ("pin", "forget"):
            answers = [
                page.send("POST", "/membank/page/chosen", {"action": action, "ids": str(one)}).text.replace(
                    str(one), ""
                )
                for one in (theirs, 9999)
            ]
            assert answers[0] == answers[1] and "elsewhere" in answers[0]
        own = page.send("DELETE", f"/ns/theirs/membank/page/memories/{theirs}", origin=page.url)
        undo = re.search(r'hx-post="/ns/theirs(/membank/page/undo/[^"]+)"', own.text)
        assert undo and page.send("POST", undo[1]).status_code == 400
        assert page.send("POST", f"/ns/theirs{undo[1]}").status_code == 200
        for path in (*VIEWS[:3], "/membank/page/conversations", "/membank/page/why?q=secret", "/?q=secret"):
            assert "Their secret" not in page.get(path).text and "secret talk" not in page.get(path).text
        there = page.get("/ns/theirs/").text
        assert (
            "Their secret." in there and 'href="/ns/theirs/membank/page/why"' in there and 'href="/membank' not in there
        )
        assert page.bank.get(theirs).text == "Their secret." and page.texts() == [one.text for one in TOLD]


# -- tokens


def test_a_browser_signs_in_with_a_token_and_out_again(tmp_path: Path) -> None:
    told = [NewMemory("Ours.", namespace="work"), NewMemory("Not ours.", namespace="home")]
    tokens = {"t-work": "work", "t-boss": "home"}
    with served_page(tmp_path, told, tokens, ["t-boss"]) as page:
        asked = page.get("/")
        assert asked.status_code == 401 and 'type="password"' in asked.text and "Ours" not in asked.text
        assert page.get("/membank/page/bank").status_code == 401
        assert page.get(f"{AT}page.css").status_code == 200
        wrong = page.send("POST", "/membank/page/sign-in", {"token": "guessed"})
        assert wrong.status_code == 401 and "set-cookie" not in wrong.headers
        right = page.send("POST", "/membank/page/sign-in", {"token": " t-work "})
        cookie = right.headers["set-cookie"]
        assert right.status_code == 303 and "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie
        assert "Ours." in page.get("/").text and "Not ours" not in page.get("/").text
        bank = page.get("/membank/page/bank").text
        assert "Sign out" in bank and "home" not in Elements(bank).text
        assert page.send("POST", "/membank/page/bank/verify").status_code == 403
        assert page.get("/ns/home/").status_code == 403
        page.send("POST", "/membank/page/sign-out")
        assert page.get("/").status_code == 401
        page.send("POST", "/membank/page/sign-in", {"token": "t-boss"})
        assert "work" in Elements(page.get("/membank/page/bank").text).text
        assert page.send("POST", "/membank/page/bank/verify").status_code == 200


def test_a_cookie_counts_for_the_page_alone(tmp_path: Path) -> None:
    with served_page(tmp_path, [NewMemory("Ours.", namespace="work")], {"t-work": "work"}) as page:
        page.client.cookies.set("membank_token", "t-work")
        other = {"origin": "http://localhost:9", "sec-fetch-site": "same-site"}
        for headers in (other, {"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {}):
            answer = page.client.delete("/membank/page/memories/1", headers=headers)
            assert answer.status_code in (401, 403)
        assert page.texts("work") == ["Ours."]


# -- in front of a model


def test_what_a_chat_recalls_is_seen_with_its_block_and_forgotten_with_it(tmp_path: Path, recall_tiny: Path) -> None:
    html = {"accept": "text/html"}
    with proxied(tmp_path, engine_of(tmp_path, recall_tiny)) as running:
        assert "Ollama is running" in running.client.get("/").text
        assert "<title>Memories" in running.client.get("/", headers=html).text
        running.say("My sister Ana lives in Porto.")
        running.say("Where does my sister Ana live?")
        (told,) = [one.id for one in running.bank.memories() if one.text == "My sister Ana lives in Porto."]
        page = running.client.get("/membank/page/why", headers=html).text
        assert "Where does my sister Ana live?" in page and "Notes from earlier conversations" in page
        (recall, *_) = running.client.get("/membank/why").json()["recalls"]
        assert "Ana lives in Porto" in recall["block"]
        assert "Where does my sister" in running.client.get(f"/membank/page/memories/{told}/details", headers=html).text
        own = {"origin": running.url, "sec-fetch-site": "same-origin", "hx-request": "true"}
        running.client.delete(f"/membank/page/memories/{told}", headers=own)
        page = running.client.get("/membank/page/why", headers=html).text
        assert "Ana lives in Porto" not in page and "holds what was forgotten since" in page
        (recall,) = running.client.get("/membank/why").json()["recalls"]
        assert recall["query"] == "Where does my sister Ana live?" and recall["block"] is None
        running.client.post(f"/membank/page/undo/{running.bank.changes()[0].id}", headers=own)
        assert "Ana lives in Porto" in running.client.get("/membank/why").json()["recalls"][0]["block"]
        running.bank.forget(told)
        assert "Ana lives in Porto" not in running.client.get("/membank/why").text
