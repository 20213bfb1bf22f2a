"""The requests in `side_requests/`, read: what is long and nobody's words stands in them as its length.

In any string `⟦filler 48000 de⟧` becomes that many characters of made-up instructions in that language (English where
none is named), other ones at each place and the same at each reading. ``{"⟦tools⟧": ["Read", "Bash"], "characters":
20000}`` becomes definitions of tools of these names in the form of the request's dialect, of about that length.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("side_requests")
KINDS = ("side", "turn")
PATHS = (
    "/api/chat", "/api/generate", "/v1/chat/completions", "/v1/completions", "/v1/messages",
    "/v1/messages/count_tokens", "/v1/responses",
)  # fmt: skip
TOOLS = "⟦tools⟧"

_FILLER = re.compile(r"⟦filler (\d{1,6})(?: (\w\w))?⟧")
_INSTRUCTIONS: Mapping[str, tuple[str, ...]] = {
    "en": (
        "Before a file is changed, read the part that will change and what calls it.",
        "Prefer the smallest edit that settles the matter, and leave unrelated lines alone.",
        "When a command fails, look at its output before trying another one.",
        "State what was done in one or two sentences and stop there.",
        "Never print credentials, and never write them into a file under version control.",
        "A check that cannot be run is reported as not run, not as passed.",
        "If two readings of an instruction are possible, take the one that can be undone.",
        "Keep the formatting of the surrounding code, its names and its comments.",
        "Output shown to the user is plain text in a fixed-width font.",
        "Do not add a dependency where the standard library has the function.",
        "Paths in arguments are absolute; a relative one is refused by the harness.",
        "Independent calls may be sent together, dependent ones follow one another.",
    ),
    "de": (
        "Lies den betroffenen Abschnitt, bevor eine Datei verändert wird.",
        "Antworte knapp und ohne Vorrede in der Sprache der Anfrage.",
        "Nenne Unsicherheiten ausdrücklich, statt etwas zu erfinden.",
        "Halte dich an die vorgegebene Gliederung und füge nichts hinzu.",
    ),
    "fr": (
        "Réponds de manière brève, sans préambule ni formule de politesse.",
        "Signale ce qui reste incertain au lieu de l'inventer.",
        "Respecte la structure demandée et n'ajoute aucun commentaire.",
    ),
    "es": (
        "Responde con brevedad, sin introducción ni despedida.",
        "Indica lo que no se sabe con certeza en lugar de inventarlo.",
        "Respeta la estructura pedida y no añadas comentarios.",
    ),
    "zh": ("回答应当简短，不要加开场白。", "不确定的地方要说明，不得编造。", "严格遵守给定的格式，不添加其他内容。"),
    "ja": (
        "前置きなしで簡潔に答えてください。",
        "不確かな点は作らずに明示してください。",
        "指定された形式を守ってください。",
    ),
    "ru": (
        "Отвечай кратко и без вступления.",
        "Отмечай неясное, ничего не выдумывая.",
        "Соблюдай заданную структуру ответа.",
    ),
    "pt": (
        "Responda de forma breve e sem introdução.",
        "Indique o que for incerto, sem inventar.",
        "Siga a estrutura pedida.",
    ),
    "ko": ("서론 없이 간결하게 답하십시오.", "불확실한 내용은 지어내지 말고 밝히십시오.", "지정된 형식을 지키십시오."),
}


@dataclass(frozen=True)
class RecordedRequest:
    """One request of a client.

    Args:
        what: title, tags, compaction, sub-agent and so on; of turns, what is special in them.
        store: all that the person said in it, each message's words alone.
        may: words of the person that are of one moment (how a piece of code is to be changed): stored or not.
        never: pieces of what stands in it and nobody said.
        recall: whether memory must be given, must not be, or (None) may be.
        begins: of a turn in the middle of tool calls: the messages of its first call, which is sent before.
        source: where its shape was read.
    """

    id: str
    client: str
    path: str
    kind: str
    what: str
    body: dict[str, Any]
    language: str = "en"
    headers: dict[str, str] = field(default_factory=dict)
    store: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    recall: bool | None = False
    begins: int | None = None
    source: str = ""

    def calls(self) -> Iterator[dict[str, Any]]:
        """The bodies to send, one after the other."""
        if self.begins is not None:
            key = "input" if self.path == "/v1/responses" else "messages"
            yield {**self.body, key: self.body[key][: self.begins]}
        yield self.body

    def texts(self) -> Iterator[str]:
        """All strings of the body."""
        yield from strings(self.body)


def load(half: str, folder: Path = FOLDER) -> tuple[list[str], list[RecordedRequest]]:
    """The memories that the bank holds, and the requests of one half.

    Raises:
        ValueError: a request is not as it should be.
    """
    memories = json.loads((folder / "memories.json").read_text(encoding="utf-8"))
    rows = json.loads((folder / f"side_requests_{half}.json").read_text(encoding="utf-8"))
    requests = [read(row) for row in rows]
    if len({request.id for request in requests}) < len(requests):
        raise ValueError(f"half {half} has two requests of one id")
    return memories, requests


def read(row: Mapping[str, Any]) -> RecordedRequest:
    """A request as it stands in the file, with what is long written out.

    Raises:
        ValueError: a field is missing, unknown or does not fit the others.
    """
    named = f"request {row.get('id')!r}"
    if unknown := set(row) - {one.name for one in fields(RecordedRequest)}:
        raise ValueError(f"{named} has unknown fields: {', '.join(sorted(unknown))}")
    if missing := {"id", "client", "path", "kind", "what", "body"} - set(row):
        raise ValueError(f"{named} lacks {', '.join(sorted(missing))}")
    if row["kind"] not in KINDS or row["path"] not in PATHS:
        raise ValueError(f"{named} is of kind {row['kind']!r} at {row['path']!r}, which is not known here")
    listed = {name: tuple(row.get(name, ())) for name in ("store", "may", "never")}
    words, recall = listed["store"] or listed["may"], row.get("recall", False)
    if row["kind"] == "side" and (words or recall is not False):
        raise ValueError(f"{named} is a side request: nobody's words are in it, and it gets no memory")
    if row["kind"] == "turn" and not words:
        raise ValueError(f"{named} is a turn without words of a person")
    body = _expanded(row["body"], row["path"], itertools.count(sum(row["id"].encode())))
    return RecordedRequest(**{**row, **listed, "body": body, "recall": recall})


def user_text(path: str, body: Mapping[str, Any]) -> str:
    """The text of the newest user message of a request in any dialect."""
    if "prompt" in body:
        return str(body["prompt"])
    said = body.get("input" if path == "/v1/responses" else "messages", ())
    if isinstance(said, str):
        return said
    users = [message.get("content") for message in said if message.get("role") == "user"]
    if not users:
        return ""
    if isinstance(users[-1], str):
        return users[-1]
    return "\n".join(str(part["text"]) for part in users[-1] or () if isinstance(part.get("text"), str))


def filler(characters: int, language: str = "en", seed: int = 0) -> str:
    """Made-up instructions of about so many characters."""
    rng = random.Random(seed)
    sentences = _INSTRUCTIONS[language]
    between = "" if language in ("zh", "ja") else " "
    parts: list[str] = []
    length = 0
    while length < characters:
        parts.append(rng.choice(sentences))
        length += len(parts[-1]) + len(between)
        if rng.random() < 0.15:
            parts[-1] += "\n"
    return between.join(parts)[:characters].rstrip()


def _expanded(value: Any, path: str, seeds: Iterator[int]) -> Any:
    if isinstance(value, str):
        return _FILLER.sub(lambda found: filler(int(found[1]), found[2] or "en", next(seeds)), value)
    if isinstance(value, list):
        return [_expanded(part, path, seeds) for part in value]
    if isinstance(value, dict):
        if TOOLS in value:
            return _tools(value[TOOLS], value["characters"], path, seeds)
        return {key: _expanded(part, path, seeds) for key, part in value.items()}
    return value


def _tools(names: list[str], characters: int, path: str, seeds: Iterator[int]) -> list[dict[str, Any]]:
    each = max(40, characters // len(names) - 200)
    found = []
    for name in names:
        about = filler(each, "en", next(seeds))
        properties = {"target": {"type": "string", "description": "What it works on."}, "limit": {"type": "integer"}}
        schema = {"type": "object", "properties": properties, "required": ["target"], "additionalProperties": False}
        if path.startswith("/v1/messages"):
            found.append({"name": name, "description": about, "input_schema": schema})
        elif path == "/v1/responses":
            found.append(
                {"type": "function", "name": name, "description": about, "strict": False, "parameters": schema}
            )
        else:
            inner = {"name": name, "description": about, "parameters": schema}
            found.append({"type": "function", "function": inner})
    return found


def strings(value: Any) -> Iterator[str]:
    """All strings in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)
