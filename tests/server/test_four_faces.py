"""Page, REST, MCP and terminal are hands on one bank: what one of them does, all of them see."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.agents import agent_over_stdio
from support.bank_clients import bank_client
from support.terminals import Membank, membank

from membank_llama.adapters.hashing import WordsAdapter
from membank_llama.memory.sharing.shared_bank import open_shared

pytest.importorskip("mcp", reason="skipped MCP among the faces: the mcp package is not installed")

AT = "/membank/page/memories"


class Faces:
    """One bank, held by the process that answers page and REST. An agent is a process of its own, and so are commands
    that write."""

    def __init__(self, looking: Membank, client: httpx.Client, agent: Any) -> None:
        self.looking, self.path, self.client, self.agent = looking, looking.bank, client, agent

    def terminal(self, *args: object) -> Any:
        done = membank(*args, "--json", "--bank", self.path)
        assert done.code == 0, done.err
        return json.loads(done.out)

    def rest(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.client.request(method, f"/membank/{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def page(self, method: str, path: str = "", **form: Any) -> str:
        origin = str(self.client.base_url).rstrip("/")
        headers = {"accept": "text/html", "hx-request": "true", "origin": origin}
        answer = self.client.request(method, f"{AT}{path}", data=form or None, headers=headers)
        assert answer.is_success, answer.text
        return answer.text

    def agree(self) -> set[str]:
        """What all four show, which is the same."""
        listed = {one["text"] for one in self.rest("GET", "memories")["memories"]}
        assert {one["text"] for one in json.loads(self.looking("list", "--json").out)["memories"]} == listed
        assert {one["text"] for one in self.agent.call("memory_recent")["memories"]} == listed
        html = self.client.get("/", headers={"accept": "text/html"}).text
        shown = set(map(unescape, re.findall(r'<p class="text"[^>]*>(.*?)</p>', html, re.DOTALL)))
        assert {text.strip() for text in shown} == listed, html
        return listed

    def number(self, text: str) -> int:
        return next(int(one["id"]) for one in self.rest("GET", "memories")["memories"] if one["text"] == text)


@pytest.fixture
def faces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Faces]:
    path = tmp_path / "bank"
    with (
        open_shared(WordsAdapter(), path) as bank,
        bank_client(bank) as client,
        agent_over_stdio(path) as agent,
    ):
        yield Faces(Membank(path, capsys), client, agent)


TELL: dict[str, Callable[[Faces, str], Any]] = {
    "page": lambda faces, text: faces.page("POST", text=text),
    "rest": lambda faces, text: faces.rest("POST", "memories", {"text": text}),
    "mcp": lambda faces, text: faces.agent.call("memory_save", text=text, said_by="user"),
    "terminal": lambda faces, text: membank("ingest", "-", "--bank", faces.path, stdin=text),
}
CORRECT: dict[str, Callable[[Faces, int, str], Any]] = {
    "page": lambda faces, at, text: faces.page("PATCH", f"/{at}", text=text),
    "rest": lambda faces, at, text: faces.rest("PATCH", f"memories/{at}", {"text": text}),
    "mcp": lambda faces, at, text: faces.agent.call("memory_correct", id=at, text=text),
    "terminal": lambda faces, at, text: membank("correct", at, text, "--bank", faces.path),
}
FORGET: dict[str, Callable[[Faces, int], Any]] = {
    "page": lambda faces, at: faces.page("DELETE", f"/{at}"),
    "rest": lambda faces, at: faces.rest("DELETE", f"memories/{at}"),
    "mcp": lambda faces, at: faces.agent.call("memory_forget", ids=[at], confirm=True),
}
BRING_BACK: dict[str, Callable[[Faces], Any]] = {
    "page": lambda faces: faces.page("POST", f"/../undo/{faces.rest('GET', 'changes')['changes'][0]['id']}"),
    "rest": lambda faces: faces.rest("POST", "undo", {}),
    "mcp": lambda faces: faces.agent.call("memory_undo"),
    "terminal": lambda faces: faces.terminal("undo"),
}


def test_what_one_face_does_all_of_them_see(faces: Faces) -> None:
    expected: set[str] = set()
    for name, tell in TELL.items():
        tell(faces, f"The boat of the {name} is green.")
        expected.add(f"The boat of the {name} is green.")
        assert faces.agree() == expected
    # each corrects what the next one told
    for name, other in zip(CORRECT, [*list(TELL)[1:], next(iter(TELL))], strict=True):
        before = f"The boat of the {other} is green."
        CORRECT[name](faces, faces.number(before), f"The boat of the {other} is red, says {name}.")
        expected = expected - {before} | {f"The boat of the {other} is red, says {name}."}
        assert faces.agree() == expected
    # and forgets what another one brings back
    back = list(BRING_BACK)
    for place, name in enumerate(FORGET):
        gone = sorted(expected)[place]
        FORGET[name](faces, faces.number(gone))
        assert faces.agree() == expected - {gone}
        BRING_BACK[back[(place + 1) % len(back)]](faces)
        assert faces.agree() == expected
    # what is undone last is a correction
    BRING_BACK["page"](faces)
    assert len(faces.agree() - expected) == 1
    gone = membank("forget", *[faces.number(text) for text in faces.agree()], "--bank", faces.path)
    assert gone.code == 0 and faces.agree() == set()
