"""Requests that a client makes for itself: a title for the chat, tags, suggestions, a summary, a probe.

They hold the conversation again or no user at all, so they leave no memory and get none. A single one is known by its
form: what its answer has to look like, the conversation in it as a transcript, the middle of code; by what the
instructions of such programs say, or by how their makers word them. A person who asks for a title in words of her own
is answered as always. What only shows beside other requests is told by `RequestHabits`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from membank_llama.memory.conversation_keys import text_of

from ..asgi import Scope, header
from .client_request import ChatRequest

_MARKS = ("x-openai-subagent", "x-openai-memgen-request")
"""Headers of Codex."""
_BEGINNING = 600
_MOST_SEARCHED = 64 * 1024
_LONGEST_INSTRUCTIONS = 6000
"""Characters; the instructions of an agent at its work are longer, and speak of everything."""
_LONG = 120
_LEAST_OF_ORDER = 300
"""Characters that an order to sum up begins with."""
_PROBE = 1
"""Tokens of an answer that nobody could read."""

_WORDED = re.compile(
    "|".join(
        (
            # Open WebUI: title, tags, follow-ups, search queries, image prompts, autocompletion, emoji
            r"\A### Task:\s*\n(?:Generate|Suggest|Analyze|Create|You are an autocompletion|Your task is to reflect)",
            r"\ABased on the chat history, determine whether a search is necessary",
            r"\AAvailable Tools: .*Return .* JSON",
            r"\AYour task is to reflect the speaker's likely facial expression",
            r"\AYou have been (?:provided with|given)\b[^\n]{0,80}\bmodels\b[^\n]{0,80}\blatest user query",
            # LibreChat, LobeChat, Chatbox, Continue and others: names for a conversation
            r"\A(?:Please )?(?:provide|generate|create|write|give|suggest|come up with)\b[^.\n]{0,60}"
            r"\b(?:title|name|headline|topic)\b[^.\n]{0,60}\b(?:conversation|chat|dialogue|thread|session)\b",
            r"\ABased on the (?:chat history|conversation)[^.\n]{0,80}\b(?:title|name)\b",
            r"\ASummari[sz]e (?:the|this|our) (?:conversation|chat|dialogue)\b[^.\n]{0,40}\b(?:title|words)\b",
            r"\AGiven the following\.{0,3}[^.\n]{0,40}please (?:reply|answer) with",
            # Claude Code, Codex, opencode, Cline: what an agent asks beside its work
            r"\A\[SUGGESTION MODE:|\AWeb page content:\s*\n---|\A<policy_spec>",
            r"\AYou are performing a CONTEXT CHECKPOINT",
            r"\A(?:Command|Bash command): [^\n]{0,4000}\nOutput:|\AWarm-?up\Z",
            r"\AYou are a HOLE FILLER|\AORIGINAL CODE:\s*\n|^<explicit_instructions\b",
            r"\AThe user (?:has|is|was|will|wants|asked|stepped|left|returned)\b",
        )
    ),
    re.DOTALL | re.IGNORECASE | re.MULTILINE,
)
_INFILL = re.compile(
    r"<\|?fim[_▁-]?(?:prefix|begin|suffix|hole|middle|end)\|?>|<｜fim▁\w+｜>|<PRE> |\[SUFFIX\]|\[PREFIX\]"
)

_OF_CHATS = r"(?:conversations?|chats?|sessions?|threads?|discussions?|dialog(?:ue)?s?|messages?|exchanges?|tasks?)"
_NAMES = r"(?:titles?|headlines?|topics?|names?|labels?|summar(?:y|ies)|tags?|keywords?|quer(?:y|ies)|emojis?)"
_MAKES = (
    r"(?:generat\w*|creat\w*|writ\w*|produc\w*|extract\w*|provid\w*|suggest\w*|nam(?:e|es|ing)|summari[sz]\w*|analy[sz]\w*"
    r"|classif\w*|condens\w*|compact\w*|com(?:e|ing) up with|predict\w*|output\w*|return\w*|respond\w*|distill?\w*)"
)
_ALONE = (
    r"\b(?:return|output|respond|answer|reply|identify|pick|translate)\w*\b[^.\n]{0,60}"
    r"\b(?:only|just|alone|nothing (?:else|but)|single)\b[^.\n]{0,40}\b(?:titles?|translat\w+|json|emoji|locale|code"
    r"|labels?|category|quer(?:y|ies)|keywords?|summary|score|tags?|names?|text)\b"
)
_ORDERS = re.compile(_ALONE, re.IGNORECASE)
_INSTRUCTED = re.compile(
    "|".join(
        (
            rf"\b{_MAKES}\b[^.\n]{{0,100}}\b{_NAMES}\b[^.\n]{{0,80}}"
            rf"\b(?:{_OF_CHATS}|users?|coding|request|prompt|input)\b",
            rf"\b{_MAKES}\b[^.\n]{{0,60}}\b(?:the|this|our|a|an|user'?s?) (?:\w+ ){{0,3}}{_OF_CHATS}\b"
            rf"[^.\n]{{0,80}}\b{_NAMES}\b",
            r"\b(?:title|headline|topic|conversation|summary|summari[sz]ation|query|tag|emoji)[ -]"
            r"(?:generat|nam|summari|compact|extract|rewrit|classif)\w*",
            r"\b(?:task(?:ed)? (?:is|with|to)|you (?:are|will be)|assistant (?:that|who|tasked))\b[^.\n]{0,80}"
            r"\bsummari[sz](?:e|es|ing)\b",
            r"\b(?:new|current) (?:conversation )?topic\b|\bisNewTopic\b|\bcommit messages?\b",
            _ALONE,
            r"\b(?:risk assessment|security monitor|safety (?:check|classif)\w*"
            r"|memory (?:writing|store|manager|extract)\w*)",
            r"\b(?:predict|suggest)\w*\b[^.\n]{0,60}\b(?:next|follow[- ]?up)\b",
            r"\b(?:extract|process)\w*\b[^.\n]{0,40}\b(?:file ?paths?|bash commands?|command prefix)\b",
        )
    ),
    re.IGNORECASE,
)
"""What the instructions of such a call are about; of a call without tools."""
_ABOUT_ALL = re.compile(
    r"\b(?:summari[sz]\w*|summary|title|name|headline|compact\w*|recap|hand-?off|condens\w*|continu\w*)\b[^.\n]{0,120}"
    r"\b(?:(?:this|the|our|whole|entire|current) (?:\w+ )?(?:conversation|chat|session|thread|discussion|context)|above"
    r"|so far)\b"
    r"|\b(?:this|the|our|whole|entire|current) (?:conversation|chat|session|thread|discussion)\b[^.\n]{0,100}"
    r"\b(?:summar|title|compact|continu|hand-?off|recap)\w*",
    re.IGNORECASE,
)
_SUB_AGENT = re.compile(
    r"\b(?:sub-?agent|agent threads|agent for claude code|agent sdk|file search specialist|acting as a reviewer"
    r"|(?:search|exploration|planning|review|research|code|test\w*|software) (?:specialist|reviewer)|spawned by"
    r"|delegated to you)\b",
    re.IGNORECASE,
)
"""What the instructions of an agent say that works for another."""
_BEGINNING_OF_INSTRUCTIONS = 1500

_ANSWER_FIELDS = frozenset(
    {
        "title", "titles", "topic", "topics", "name", "isnewtopic", "tags", "keywords", "follow_ups", "followups",
        "questions", "queries", "suggestions", "emoji", "summary", "conversation_title", "should_search",
        "search_query", "category", "language", "session_name",
    }
)  # fmt: skip
_ANSWER = re.compile(
    r'\{\s*\\?"(?:title|topic|isNewTopic|tags|follow_ups|queries|suggestions|emoji|text|name|summary|keywords)\\?"\s*:'
)
_HISTORY = re.compile(
    r"<(?:chat_history|conversation(?:_history)?|transcript|chat_log|dialogue|messages|rollout|session)>"
    r"|\bTRANSCRIPT START\b|^Responses from models:",
    re.MULTILINE,
)
_TURNS = re.compile(
    r"^(?:[\s>*\-\[\"#]{0,6}|\[\d{1,4}\] |<)"
    r"(?:(user|human|nutzer|benutzer|utilisateur|usuario|usuário|utente|пользователь|kullanıcı|gebruiker|用户|用戶|人类"
    r"|ユーザー?|사용자)|(assistant|ai|ki|ia|claude|assistent|asistente|assistente|ассистент|asistan|助手|助理"
    r"|アシスタント|어시스턴트))(?:[\]\"*]{0,4}[^\S\n]{0,2}[:：]|>|[^\S\n]{0,4}$)",
    re.IGNORECASE | re.MULTILINE,
)
"""How a transcript names who speaks."""
_DIFF = re.compile(r"^diff --git ", re.MULTILINE)


def is_marked(scope: Scope) -> bool:
    """Whether a client says itself, by a header, that nobody asks this."""
    return any(header(scope, name) for name in _MARKS)


def is_auxiliary(request: ChatRequest) -> bool:
    """Whether nobody but the client itself asks this, as far as one request tells."""
    users = [text_of(m.get("content")).strip()[:_MOST_SEARCHED] for m in request.messages if m.get("role") == "user"]
    if not users:
        return False
    spoken = [message.get("role") for message in request.said if message.get("role") in ("user", "assistant")]
    # an answer at the end is one that the client has begun
    answered = "assistant" in spoken[:-1]
    if not answered and request.max_tokens is not None and request.max_tokens <= _PROBE:
        return True
    said = next((str(m.get("content")) for m in reversed(request.said) if m.get("role") == "user"), "")
    if _INFILL.search(users[-1]) or any(_WORDED.search(text[:_BEGINNING]) for text in (users[-1], said)):
        return True
    if answered:
        return _is_about_all(users[-1])
    return _WORDED.search(users[0][:_BEGINNING]) is not None or _asks_about_a_chat(request, users)


def _is_about_all(text: str) -> bool:
    """Whether a message behind a conversation is a client's order to sum it up or to name it: a person is brief."""
    return len(text) >= _LONG and _ABOUT_ALL.search(text[:_LEAST_OF_ORDER]) is not None


def _asks_about_a_chat(request: ChatRequest, users: Sequence[str]) -> bool:
    shape, system = request.shape, request.shape.system
    if shape.schema and {field.lower() for field in shape.schema} <= _ANSWER_FIELDS:
        return True
    whole = "\n".join(users)
    if shape.schema is not None and system and _ORDERS.search(users[-1]):
        return True
    if len({bool(found[1]) for found in _TURNS.finditer(whole)}) == 2:
        return True
    if shape.tools and not shape.forced:
        return _SUB_AGENT.search(system[:_BEGINNING_OF_INSTRUCTIONS]) is not None
    if len(system) <= _LONGEST_INSTRUCTIONS and _INSTRUCTED.search(system):
        return True
    if _DIFF.search(whole) and "commit" in whole[:_BEGINNING].lower():
        return True
    return _HISTORY.search(whole) is not None or ("###" in whole and _ANSWER.search(whole) is not None)
