"""The view *Memories*: search as one types, leaf through days, tell, correct, pin, forget, and take it back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.routing import Route

from membank_llama.core.days import instant_of
from membank_llama.core.errors import InvalidInputError, InvalidQueryError, MembankError, MemoryNotFoundError
from membank_llama.core.provenance import NAMES
from membank_llama.memory.bank_editing import HISTORY
from membank_llama.memory.bank_undo import GRACE_SECONDS, Change
from membank_llama.memory.block_lines import replaced_among

from ..face_context import FaceContext
from .map_view import AT_ONCE
from .memory_list import LABELS, DayNames, ListFilter, MemoryLister, day_names, shown_memory
from .page_requests import MOST_ID, PageRequest, page_route
from .page_templates import nothing_new, redirected

MOST_CHOSEN = 1000
"""Memories that are pinned or forgotten with one press."""
_ID = "/membank/page/memories/{memory_id:int}"


def memories_routes(context: FaceContext) -> list[Route]:
    """What the view is made of."""
    warmed: set[str] = set()

    def first(asked: PageRequest) -> Response:
        response = show_memories(asked)
        if asked.mine.namespace not in warmed:
            # the first search reads the graphs: it is done while the page is looked at
            warmed.add(asked.mine.namespace)
            response.background = BackgroundTask(_warmed, asked)
        return response

    return [
        page_route(context, "/", first),
        page_route(context, "/membank/page/memories", list_found),
        page_route(context, "/membank/page/memories", add_memory, "POST"),
        page_route(context, "/membank/page/letters", list_letters),
        page_route(context, "/membank/page/fresh", show_fresh),
        page_route(context, "/membank/page/conversations", list_talks),
        page_route(context, "/membank/page/topics", topic_choices),
        page_route(context, "/membank/page/chosen", change_chosen, "POST"),
        page_route(context, "/membank/page/undo/{change}", undo_one, "POST"),
        page_route(context, _ID, show_memory),
        page_route(context, _ID, correct_memory, "PATCH"),
        page_route(context, _ID, forget_shown, "DELETE"),
        page_route(context, f"{_ID}/edit", edit_memory),
        page_route(context, f"{_ID}/details", show_details),
        page_route(context, f"{_ID}/pin", pin_shown, "POST"),
        page_route(context, f"{_ID}/pin", unpin_shown, "DELETE"),
    ]


# -- looking


def show_memories(asked: PageRequest) -> Response:
    """The whole view."""
    chosen = ListFilter.of(asked.query)
    listed, count = _listed(asked, chosen), asked.mine.bank.count(asked.mine.namespace)
    return asked.show(
        "memories.html",
        title="Memories",
        view="memories",
        chosen=chosen,
        count=count,
        lists_now=count <= AT_ONCE,
        since=asked.mine.newest(),
        fresh=0,
        oob=False,
        whos=[(name, LABELS[name]) for name in ("person", "model", "document", "import", "tool") if name in NAMES],
        **listed,
    )


def list_found(asked: PageRequest) -> Response:
    """What a search or a filter shows, or the next page of it."""
    chosen = ListFilter.of(asked.query)
    if not asked.by_script:
        return redirected(f"{asked.at}/?{chosen.address(**_place(asked))}")
    goes_on = "cursor" in asked.query
    address = chosen.address()
    headers = {} if goes_on else {"hx-replace-url": f"{asked.at}/?{address}" if address else f"{asked.at}/"}
    return asked.show(
        "memory_rows.html" if goes_on else "memory_results.html",
        headers=headers,
        chosen=chosen,
        **_listed(asked, chosen),
    )


def _place(asked: PageRequest) -> dict[str, str]:
    return {name: asked.query[name] for name in ("cursor", "after") if name in asked.query}


def _listed(asked: PageRequest, chosen: ListFilter) -> dict[str, Any]:
    lister = _lister(asked, chosen)
    if chosen.q:
        return {"found": lister.search(), "rows": [], "more": ""}
    return {"found": None, **lister.page(asked.query.get("cursor"), asked.query.get("after", ""))}


def show_fresh(asked: PageRequest) -> Response:
    """That somebody else told something meanwhile, if so."""
    try:
        since, shown = (min(int(asked.query.get(name, "0")), MOST_ID) for name in ("since", "shown"))
    except ValueError as exc:
        raise InvalidInputError("since and shown are whole numbers") from exc
    count = asked.mine.newer(since)
    return nothing_new() if count == shown else asked.show("fresh.html", since=since, fresh=count, oob=False)


def list_letters(asked: PageRequest) -> Response:
    """What holds the very letters, but for what was found by its meaning."""
    chosen = ListFilter.of(asked.query)
    without = {int(one) for one in asked.query.get("without", "").split(",") if one.isdecimal() and len(one) < 19}
    letters = _lister(asked, chosen).letters(without) if chosen.q else []
    return asked.show("letters.html", chosen=chosen, letters=letters, is_alone=not without)


def list_talks(asked: PageRequest) -> Response:
    """The conversations to choose from."""
    chosen = ListFilter.of(asked.query)
    return asked.show("conversations.html", chosen=chosen, conversations=asked.mine.conversations(200))


def topic_choices(asked: PageRequest) -> Response:
    """The topics to choose from."""
    topics = asked.mine.bank.topics(asked.mine.namespace)
    return asked.show("topics.html", chosen=ListFilter.of(asked.query), topics=topics)


def show_memory(asked: PageRequest) -> Response:
    """One memory."""
    return _shown(asked, asked.mine.plain(asked.memory_id))


def edit_memory(asked: PageRequest) -> Response:
    """One memory, to be written anew."""
    return asked.show("memory_edit.html", one=shown_memory(asked.mine.plain(asked.memory_id), _days(asked)))


def show_details(asked: PageRequest) -> Response:
    """What a memory said before, what replaced it, and where it was used."""
    one = asked.mine.one(asked.memory_id)
    days = _days(asked)
    return asked.show(
        "memory_details.html",
        one=shown_memory(one, days),
        history=[{**before, "at": days.whole(before.get("created_at") or 0)} for before in reversed(one["history"])],
        used=[{**use, "at": days.whole(use["at"])} for use in one["used"]],
        newer=_replaced_by(asked, one, days),
        metadata={key: _as_text(value) for key, value in one["metadata"].items() if key != HISTORY},
        expires=None if one["expires_at"] is None else days.whole(one["expires_at"]),
    )


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _replaced_by(asked: PageRequest, one: dict[str, Any], days: DayNames) -> dict[str, Any] | None:
    """The later statement that takes the place of a memory, if there is one."""
    mine = asked.mine
    with suppress(InvalidQueryError):
        near = mine.bank.recall(one["text"][:1000], 8, namespace=mine.namespace)
        places = {result.memory_id: place for place, result in enumerate(near)}
        newer = replaced_among(near).get(places.get(one["id"], -1))
        if newer is not None:
            return shown_memory(mine.plain(near[newer].memory_id), days)
    return None


# -- changing


def add_memory(asked: PageRequest) -> Response:
    """Remember what was written into the form."""
    told = asked.mine.create(
        asked.form.get("text", ""),
        conversation=asked.form.get("conversation", "").strip() or None,
        pinned=asked.form.get("pinned") == "1",
        source="page",
        **_when(asked),
    )
    if not asked.by_script:
        return redirected(f"{asked.at}/")
    said = "Remembered." if told["is_new"] else "That was known already."
    return _changed(asked, "added.html", one=shown_memory(told, _days(asked)), said=said, is_new=told["is_new"])


def _when(asked: PageRequest) -> dict[str, float]:
    """The day that was chosen for a memory; none is today."""
    day = asked.form.get("day", "").strip()
    if not day:
        return {}
    try:
        return {"created_at": instant_of(datetime.fromisoformat(f"{day}T12:00:00"), asked.zone)}
    except (ValueError, OverflowError, OSError) as exc:
        raise InvalidInputError("write the day as 2026-01-31") from exc


def correct_memory(asked: PageRequest) -> Response:
    """Say better what a memory says."""
    mine, text = asked.mine, asked.form.get("text", "")
    old = mine.plain(asked.memory_id)
    if text.replace("\r\n", "\n").strip() == old["text"].replace("\r\n", "\n").strip():
        return _shown(asked, old)
    corrected = mine.correct(asked.memory_id, text)
    return _shown(asked, corrected, said="Corrected.", change=corrected["change"])


def pin_shown(asked: PageRequest) -> Response:
    """Keep a memory past its expiry."""
    return _shown(asked, asked.mine.pin(asked.memory_id))


def unpin_shown(asked: PageRequest) -> Response:
    """Keep it past its expiry no longer."""
    return _shown(asked, asked.mine.pin(asked.memory_id, False))


def forget_shown(asked: PageRequest) -> Response:
    """Forget a memory and what only repeats it, with ten seconds to bring it back."""
    return _forgotten(asked, [asked.memory_id])


def change_chosen(asked: PageRequest) -> Response:
    """Do the same to all memories that were selected."""
    ids = list(dict.fromkeys(asked.ids()))
    if not 0 < len(ids) <= MOST_CHOSEN:
        raise InvalidInputError(f"select 1 to {MOST_CHOSEN:,} memories")
    action = asked.form.get("action")
    if action not in ("pin", "unpin", "forget"):
        raise InvalidInputError("memories are pinned, unpinned or forgotten")
    there = asked.mine.known(ids)
    ids, gone = [one for one in ids if one in there], [one for one in ids if one not in there]
    if action == "forget" and ids:
        return _forgotten(asked, ids, gone)
    days = _days(asked)
    changed = [shown_memory(asked.mine.pin(memory_id, action == "pin"), days) for memory_id in ids]
    said = f"{len(ids)} {action}ned{_without(gone)}." if ids else "They were corrected or forgotten elsewhere."
    return _changed(asked, "chosen.html", back=[(one["id"], one) for one in changed], gone=gone, said=said)


def _without(gone: Sequence[int]) -> str:
    return f", {len(gone)} {'was' if len(gone) == 1 else 'were'} there no longer" if gone else ""


def _forgotten(asked: PageRequest, ids: Sequence[int], gone: Sequence[int] = ()) -> Response:
    mine = asked.mine
    going = [one.id for one in mine.forgettable(ids)]
    change = mine.forget(going, GRACE_SECONDS)
    again = len(going) - len(ids)
    what = "Forgotten" if len(ids) == 1 else f"{len(ids)} forgotten"
    if again:
        what += ", and 1 reply that only repeats it" if again == 1 else f", and {again} replies that only repeat them"
    said = f"{what}{_without(gone)}."
    values = {"gone": [*going, *gone], "change": change.id, "said": said, "seconds": int(GRACE_SECONDS)}
    return _changed(asked, "forgotten.html", **values)


def undo_one(asked: PageRequest) -> Response:
    """Take back one change."""
    mine, change_id = asked.mine, str(asked.scope["path_params"]["change"])
    change = next((one for one in mine.bank.changes(mine.namespace) if one.id == change_id), None)
    if change is None:
        raise InvalidInputError("This was taken back already, or its time is over.")
    done = mine.undo(change.id)
    days = _days(asked)
    back = []
    for place, memory_id in zip(_places(change, done["ids"]), done["ids"], strict=True):
        with suppress(MemoryNotFoundError):
            back.append((place, shown_memory(mine.plain(memory_id), days)))
    return _changed(asked, "chosen.html", back=back, gone=[], said="Taken back.")


def _places(change: Change, ids: Sequence[int]) -> Sequence[int]:
    """Which memories on the page are replaced by those that an undo gave, in their order."""
    return change.ids if len(change.ids) == len(ids) and change.kind == "correct" else ids


# -- parts


def _days(asked: PageRequest) -> DayNames:
    return day_names(asked.zone)


def _lister(asked: PageRequest, chosen: ListFilter) -> MemoryLister:
    return MemoryLister(asked.mine, chosen, _topic_ids(asked, chosen))


def _topic_ids(asked: PageRequest, chosen: ListFilter) -> frozenset[int] | None:
    """The memories of the topic that is asked for; none where it is gone."""
    if not chosen.topic:
        return None
    topics = asked.mine.bank.topics(asked.mine.namespace)
    return next((frozenset(one.ids) for one in topics if one.id == chosen.topic), frozenset())


def _shown(asked: PageRequest, memory: dict[str, Any], said: str = "", change: str | None = None) -> Response:
    return _changed(asked, "memory.html", one=shown_memory(memory, _days(asked)), said=said, change=change)


def _changed(asked: PageRequest, template: str, **values: Any) -> Response:
    """What became of a change, which is no news to whoever asked for it."""
    mine = asked.mine
    count = mine.bank.count(mine.namespace)
    return asked.show(template, since=mine.newest(), fresh=0, oob=True, count=count, **values)


def _warmed(asked: PageRequest) -> None:
    mine = asked.mine
    with suppress(MembankError):
        mine.bank.recall("memories", 1, namespace=mine.namespace)
