"""Requests that a client makes for itself: a title for the chat, tags, suggestions, a summary, a probe.

They hold the conversation again or no user at all, so they leave no memory and get none. A single one is known by its
form: what its answer has to look like, the conversation in it as a transcript, the middle of code; by what the
instructions of such programs say, or by how their makers word them. A person who asks for a title in words of her own
is answered as always. What only shows beside other requests is told by `RequestHabits`.
"""

from __future__ import annotations

from membank_llama.memory.conversation_keys import text_of

from ..asgi import Scope, header
from . import auxiliary_phrases as say
from .client_request import ChatRequest

_MARKS = ("x-openai-subagent", "x-openai-memgen-request", "x-claude-code-agent-id")
"""Headers of Codex and of Claude Code."""
_MOST_SEARCHED = 64 * 1024
_LONGEST_INSTRUCTIONS = 6000
"""Characters; the instructions of an agent at its work are longer, and speak of everything."""
_LONG = 100
_ORDER = 300
"""Characters that an order to sum up begins with."""
_INSTRUCTIONS_BEGIN = 1500
_FEW = 64
"""Tokens of an answer that is not made to be read at length."""
_MARKS_OF_A_TEMPLATE = 3
_CUE = 12
"""Characters of a message that says nothing, behind instructions that hold it all."""
_PROBE = 1
"""Tokens of an answer that nobody could read."""
_SPOKEN = ("user", "assistant")


def is_marked(scope: Scope) -> bool:
    """Whether a client says itself, by a header, that nobody asks this."""
    return any(header(scope, name) for name in _MARKS)


def is_auxiliary(request: ChatRequest, client: str = "") -> bool:
    """Whether nobody but the client itself asks this, as far as one request tells.

    Args:
        client: what the client calls itself.
    """
    users = [text_of(m.get("content")).strip()[:_MOST_SEARCHED] for m in request.messages if m.get("role") == "user"]
    if not users:
        return not request.raw
    said = [message for message in request.said if message.get("role") in _SPOKEN]
    # an answer at the end is one that the client has begun
    answered = any(message.get("role") == "assistant" for message in said[:-1])
    if not answered and request.max_tokens is not None and request.max_tokens <= _PROBE:
        return True
    newest = next((str(m.get("content")) for m in reversed(said) if m.get("role") == "user"), "")
    if not newest and not request.raw:
        # all that stands under the user's name is the client's
        return True
    last = users[-1]
    if say.INFILL.search(last) or say.SENTINEL.search(last[: say.BEGINNING]):
        return True
    if any(say.WORDED.search(text[: say.BEGINNING]) for text in (last, newest)):
        return True
    shape = request.shape
    if not shape.tools and len(shape.system) <= _LONGEST_INSTRUCTIONS and say.INSTRUCTED.search(shape.system):
        return True
    if not shape.tools and shape.system and say.AGENTS.search(client):
        # an agent that works has tools
        return True
    if answered:
        return _is_about_all(last) or _ends_in_an_order(request)
    if say.WORDED.search(users[0][: say.BEGINNING]):
        return True
    return _asks_about_a_chat(request, "\n".join(users), last, newest)


def _is_about_all(text: str) -> bool:
    """Whether a message behind a conversation is a client's order to sum it up or to name it: a person is brief."""
    beginning = text[:_ORDER]
    if _is_own(text):
        return False
    if len(text) >= _LONG and say.ABOUT_ALL.search(beginning):
        return True
    return _is_restricted(beginning)


def _is_own(text: str) -> bool:
    """Whether somebody speaks of herself at the beginning of a text."""
    return say.OWN.search(text[:_LONG].rpartition(" ")[0] if len(text) > _LONG else text) is not None


def _is_restricted(text: str) -> bool:
    """Whether it wants a conversation named or summed up within bounds."""
    return all(phrase.search(text) for phrase in (say.NAMED, say.RESTRICTED, say.CONVERSATION))


def _ends_in_an_order(request: ChatRequest) -> bool:
    """Whether instructions stand behind an answer, where a person would speak."""
    last, before = request.messages[-1], request.messages[-2]
    if last.get("role") not in ("system", "developer"):
        return False
    return before.get("role") == "assistant" or _is_restricted(text_of(last.get("content"))[:_ORDER])


def _asks_about_a_chat(request: ChatRequest, whole: str, last: str, newest: str) -> bool:
    shape, system = request.shape, request.shape.system
    if shape.schema and {field.lower() for field in shape.schema} <= say.ANSWER_FIELDS:
        return True
    if shape.tools and not shape.forced:
        told = f"{system[:_INSTRUCTIONS_BEGIN]}\n{system[-_ORDER:]}"
        return _is_transcript(whole) or say.SUB_AGENT.search(told) is not None
    if shape.forced and system:
        return True
    if shape.schema is not None and say.ORDERS.search(whole):
        return True
    if say.DIFF.search(whole) and "commit" in whole[: say.BEGINNING].lower():
        return True
    return _holds_a_chat(whole, last, system) or _is_a_template(request, last, newest)


def _holds_a_chat(whole: str, last: str, system: str) -> bool:
    if _is_transcript(whole) or say.HISTORY.search(whole):
        return True
    if (len(last) <= _CUE or say.NAMED.search(last)) and _is_transcript(system):
        return True
    return any(map(_is_restricted, (last[:_ORDER], last[-_ORDER:], system[:_ORDER])))


def _is_a_template(request: ChatRequest, last: str, newest: str) -> bool:
    """Whether a text is handed over with orders for what to make of it; `newest`: what of it a person said."""
    if newest.strip() != last:
        # a person's words in a template of a client's
        last = newest
    elif say.ADDRESSED.match(last) and say.GIVEN.search(last) and not _is_own(last):
        return True
    system = request.shape.system if len(request.shape.system) <= _LONGEST_INSTRUCTIONS else ""
    ends = f"{last[:_ORDER]}\n{last[-_ORDER:]}"
    orders = f"{system[:_INSTRUCTIONS_BEGIN]}\n{system[-_ORDER:]}"
    forms, words = (say.BOUND, say.MARKUP, say.SKELETON), (say.OF_A_USER, say.WORK)
    cued = say.CUE.search(last) is not None
    own = {phrase for phrase in (*forms, *words) if phrase.search(ends)}
    behind = {phrase for phrase in (*forms, *words) if phrase not in own and phrase.search(orders)}
    asked = (
        cued,
        request.shape.schema is not None,
        request.max_tokens is not None and request.max_tokens <= _FEW,
    )
    return (cued or not own.isdisjoint(forms)) and len(own) + len(behind) + sum(asked) >= _MARKS_OF_A_TEMPLATE


def _is_transcript(text: str) -> bool:
    return len({bool(found[1]) for found in say.TURNS.finditer(text[:_MOST_SEARCHED])}) == 2
