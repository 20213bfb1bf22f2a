"""The view *Map*: memories as points in a plane, coloured by their topics, beside a list of the topics.

The picture is made on the server. It is for the eye and the mouse; the list says the same to everybody, and leads to
each topic's memories.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from membank_llama.recall.topic_finder import MapPoint, Topic, TopicMap

from ..face_context import FaceContext
from .memory_list import day_names, shown_memory
from .page_requests import PageRequest, page_route

POINTS = 2000
AT_ONCE = 5000
"""Memories whose topics are found while one waits for the page."""
COLOURS = 12
"""As many as page.css has; topics beyond them begin again."""
WIDTH, HEIGHT, BORDER = 1000, 700, 26


def map_routes(context: FaceContext) -> list[Route]:
    """What the view is made of."""
    return [
        page_route(context, "/membank/page/map", show_map),
        page_route(context, "/membank/page/map/drawn", show_drawn),
        page_route(context, "/membank/page/memories/{memory_id:int}/card", show_card),
    ]


def show_map(asked: PageRequest) -> Response:
    """The whole view; the picture of a large namespace comes when it is drawn."""
    count = asked.mine.bank.count(asked.mine.namespace)
    drawn = count <= AT_ONCE or asked.query.get("now") == "1"
    values = _drawn(asked) if drawn else {}
    return asked.show("map.html", title="Map", view="map", drawn=drawn, count=count, **values)


def show_drawn(asked: PageRequest) -> Response:
    """The picture and the list."""
    return asked.show("map_drawn.html", **_drawn(asked))


def _drawn(asked: PageRequest) -> dict[str, Any]:
    mine = asked.mine
    drawn = mine.bank.topic_map(mine.namespace, most=POINTS)
    colours = {topic.id: place % COLOURS for place, topic in enumerate(drawn.topics)}
    radius = 9 if len(drawn.points) < 150 else 6 if len(drawn.points) < 700 else 4
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "radius": radius,
        "groups": _groups(drawn, colours, radius),
        "topics": [_topic(asked, topic, colours[topic.id]) for topic in drawn.topics],
        "names": [
            {"name": topic.name, "colour": colours[topic.id], **_place(*drawn.centres[topic.id])}
            for topic in drawn.topics[:COLOURS]
        ],
        "memories": drawn.memories,
        "shown": len(drawn.points),
        "without": drawn.memories - sum(topic.size for topic in drawn.topics),
    }


def show_card(asked: PageRequest) -> Response:
    """The memory of a point."""
    return asked.show("map_card.html", one=shown_memory(asked.mine.plain(asked.memory_id), day_names(asked.zone)))


def _groups(drawn: TopicMap, colours: dict[str, int], radius: int) -> list[dict[str, Any]]:
    """The points of each topic; those of none first, below the others."""
    order: list[str | None] = [None, *colours]
    by_topic: dict[str | None, list[MapPoint]] = {topic: [] for topic in order}
    for point in drawn.points:
        by_topic.setdefault(point.topic, []).append(point)
    taken: Counter[tuple[float, float]] = Counter()
    return [
        {
            "topic": topic,
            "colour": colours.get(topic or ""),
            "points": [{"id": point.id, **_beside(_place(point.x, point.y), taken, radius)} for point in points],
        }
        for topic, points in by_topic.items()
        if points
    ]


def _beside(place: dict[str, float], taken: Counter[tuple[float, float]], radius: int) -> dict[str, float]:
    """The place itself, or around it where others have it already: each point can be pointed at."""
    at = place["x"], place["y"]
    before = taken[at]
    taken[at] += 1
    away, angle = 2.2 * radius * math.sqrt(before), before * math.pi * (3 - math.sqrt(5))
    return {
        "x": round(min(max(at[0] + away * math.cos(angle), radius), WIDTH - radius), 1),
        "y": round(min(max(at[1] + away * math.sin(angle), radius), HEIGHT - radius), 1),
    }


def _place(x: float, y: float) -> dict[str, float]:
    """Where a point of the plane, from -1 to 1, is in the picture."""
    across, down = (x + 1) / 2, (1 - y) / 2
    return {
        "x": round(BORDER + across * (WIDTH - 2 * BORDER), 1),
        "y": round(BORDER + down * (HEIGHT - 2 * BORDER), 1),
    }


def _topic(asked: PageRequest, topic: Topic, colour: int) -> dict[str, Any]:
    days = day_names(asked.zone)
    return {
        "id": topic.id,
        "name": topic.name,
        "words": ", ".join(topic.words[:6]),
        "size": topic.size,
        "newest": days.date(topic.newest),
        "colour": colour,
    }
