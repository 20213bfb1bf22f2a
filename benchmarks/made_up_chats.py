"""A ChatGPT export as large as wanted, of plain English that no two messages share: the same for every seed."""

from __future__ import annotations

import random
from typing import Any

_WHO = (
    "my sister Ana",
    "our neighbour",
    "the dentist",
    "my boss",
    "grandmother",
    "the plumber",
    "my son Leo",
    "a friend",
)
_DID = (
    "painted",
    "sold",
    "repaired",
    "photographed",
    "borrowed",
    "cleaned",
    "measured",
    "wrapped",
    "forgot",
    "weighed",
)
_WHAT = (
    "canoe", "violin", "bicycle", "oven", "garden fence", "laptop", "kettle", "winter coat", "bookshelf", "tent",
    "carpet", "boiler", "sewing machine", "telescope", "rucksack", "mirror", "piano", "ladder", "suitcase", "clock",
)  # fmt: skip
_HOW = ("green", "broken", "second-hand", "heavy", "new", "wooden", "old", "rusty", "borrowed", "expensive", "tiny")
_WHERE = (
    "in Porto",
    "at the market",
    "near the harbour",
    "in the cellar",
    "at school",
    "by the lake",
    "on Maple Street",
)
_WHY = (
    "because the rent went up", "although it rained all day", "after the meeting was moved", "before the guests came",
    "since the old one was lost", "while the train was late", "so that nobody would notice", "to save some money",
)  # fmt: skip
_ADVICE = (
    "You could start with the {what} and leave the rest for the weekend.",
    "A {how} {what} usually needs about {n} minutes of work and some patience.",
    "I would measure it twice, write the {n} centimetres down and only then cut.",
    "Shops {where} often have one for less than {n} euros, and they take it back.",
    "If {who} can help, the whole thing takes half as long.",
    "Keep the receipt, and note the number {n} that stands on the back of the {what}.",
)
_ASKS = ("How do I mend it?", "What would you do?", "Is that a good idea?", "Which one should I take?", "Any advice?")
BEGAN = 1_700_000_000.0


def made_up_export(messages: int, seed: int = 7) -> list[dict[str, Any]]:
    """Conversations of 4 to 40 messages, half of a person and half of the model, each an hour after the one before."""
    draw = random.Random(seed)
    chats: list[dict[str, Any]] = []
    left, when = messages, BEGAN
    while left > 0:
        count = min(left, 2 * draw.randint(2, 20))
        left, when = left - count, when + 3600
        mapping: dict[str, Any] = {"n0": {"id": "n0", "message": None, "parent": None, "children": ["n1"]}}
        for place in range(1, count + 1):
            role = "user" if place % 2 else "assistant"
            text = _person(draw) if place % 2 else _reply(draw)
            message = {
                "id": f"n{place}", "author": {"role": role, "name": None, "metadata": {}}, "create_time": when + place,
                "content": {"content_type": "text", "parts": [text]}, "status": "finished_successfully", "weight": 1.0,
                "metadata": {"model_slug": "gpt-4o"} if role == "assistant" else {}, "recipient": "all",
            }  # fmt: skip
            children = [f"n{place + 1}"] if place < count else []
            node = {"id": f"n{place}", "message": message, "parent": f"n{place - 1}", "children": children}
            mapping[f"n{place}"] = node
        key = f"{len(chats):08x}-0000-4000-8000-{draw.getrandbits(48):012x}"
        chats.append(
            {"title": f"About the {draw.choice(_WHAT)}", "create_time": when, "update_time": when + count,
             "mapping": mapping, "current_node": f"n{count}", "conversation_id": key, "id": key}
        )  # fmt: skip
    return chats[::-1]


def _person(draw: random.Random) -> str:
    said = [_fact(draw) for _ in range(draw.randint(1, 3))]
    return " ".join([*said, draw.choice(_ASKS)] if draw.random() < 0.5 else said)


def _fact(draw: random.Random) -> str:
    who, did, how, what = draw.choice(_WHO), draw.choice(_DID), draw.choice(_HOW), draw.choice(_WHAT)
    when = f"on day {draw.randint(1, 3000)}"
    fact = f"{who} {did} the {how} {what} {draw.choice(_WHERE)} {when} {draw.choice(_WHY)}."
    return fact[0].upper() + fact[1:]


def _reply(draw: random.Random) -> str:
    said = []
    for _ in range(draw.randint(2, 8)):
        said.append(
            draw.choice(_ADVICE).format(
                what=draw.choice(_WHAT), how=draw.choice(_HOW), where=draw.choice(_WHERE), who=draw.choice(_WHO),
                n=draw.randint(2, 90_000),
            )
        )  # fmt: skip
    return " ".join(said)
