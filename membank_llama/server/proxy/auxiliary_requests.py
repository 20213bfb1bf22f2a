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

from .client_request import ChatRequest

_BEGINNING = 600
_MOST_SEARCHED = 64 * 1024
_LONGEST_INSTRUCTIONS = 6000
"""Characters; the instructions of an agent at its work are longer, and speak of everything."""
_LONG = 120
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
            r"\AYou have been provided with a set of responses from various models",
            # LibreChat, LobeChat, Chatbox, Continue and others: names for a conversation
            r"\A(?:Please )?(?:provide|generate|create|write|give|suggest|come up with)\b[^.\n]{0,60}"
            r"\b(?:title|name|headline|topic)\b[^.\n]{0,60}\b(?:conversation|chat|dialogue|thread|session)\b",
            r"\ABased on the (?:chat history|conversation)[^.\n]{0,80}\b(?:title|name)\b",
            r"\ASummari[sz]e (?:the|this|our) (?:conversation|chat|dialogue)\b[^.\n]{0,40}\b(?:title|words)\b",
            r"\AGiven the following[^.\n]{0,60}(?:please )?reply with a title for the chat",
            # Claude Code, Codex, opencode, Cline: what an agent asks beside its work
            r"\A\[SUGGESTION MODE:|\AWeb page content:\s*\n---|\A<policy_spec>",
            r"\AYou are performing a CONTEXT CHECKPOINT",
            r"\A(?:Command|Bash command): [^\n]{0,4000}\nOutput:",
        )
    ),
    re.DOTALL | re.IGNORECASE,
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
            r"\b(?:predict|suggest)\w*\b[^.\n]{0,60}\b(?:next|follow[- ]?up)\b",
            r"\b(?:extract|process)\w*\b[^.\n]{0,40}\b(?:file ?paths?|bash commands?|command prefix)\b",
        )
    ),
    re.IGNORECASE,
)
"""What the instructions of such a call are about; of a call without tools."""
_ABOUT_ALL = re.compile(
    r"\b(?:summari[sz]\w*|summary|title|name|headline|compact\w*|recap|handoff|condens\w*|hand[- ]off)\b[^.\n]{0,120}"
    r"\b(?:conversation|chat|session|thread|discussion|context|work|task|above|so far|history|messages)\b"
    r"|\b(?:conversation|chat|session|thread|discussion)\b[^.\n]{0,100}\b(?:summar|title|compact|continu|handoff)\w*",
    re.IGNORECASE,
)
_RESTRICTED = re.compile(
    r"\b(?:respond|reply|answer|return|output|write|include|omit|avoid|use|do not|don't|without|no) "
    r"(?:(?:with|in|any|only|the) ){0,3}"
    r"(?:only|just|json|quotes?|quotation|punctuation|markdown|explanation|preamble|prefix|formatting|text|tools?)\b"
    r"|\b\d+ ?(?:-|–|to|or) ?\d+ words?\b"
    r"|\b(?:max(?:imum)?|at most|under|up to|fewer than|less than) \d+ (?:words?|char)"
    r"|\byour task is\b|\bomit\w* punctuation\b|\bALL (?:previous|the)\b",
    re.IGNORECASE,
)

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
_HISTORY = re.compile(r"<(?:chat_history|conversation(?:_history)?|transcript|chat_log|dialogue|messages)>")
_TURNS = re.compile(
    r"^[\s>*\-\[\"#]{0,6}(?:(user|human|you|用户|ユーザー?|utilisateur|usuario|benutzer|usuário|utente|пользователь|사용자"
    r"|kullanıcı)|(assistant|ai|bot|model|助手|助理|アシスタント|assistent|asistente|assistente|ассистент|어시스턴트|asistan))"
    r"[\]\"*]{0,4}\s{0,2}[:：]",
    re.IGNORECASE | re.MULTILINE,
)
"""How a transcript names who speaks."""
_NAMED = re.compile(
    r"titles?\b|headline|titel|titre|título|titolo|tytuł|başlık|заголов|назван|タイトル|题目|标题|標題|제목|topic|thema"
    r"|sujet|\btags?\b|schlagw|étiquette|etiquetas|标签|タグ|summar|zusammenfass|résum|resum|riassu|摘要|总结|總結|要約|요약|краткое"
    r"|\bJSON\b|follow[- ]?up|folgefrage|suivi|seguimiento|queries|suchanfrage|检索|查询|検索|追问|\bquery\b|emoji"
    r"|name\b",
    re.IGNORECASE,
)


def is_auxiliary(request: ChatRequest) -> bool:
    """Whether nobody but the client itself asks this, as far as one request tells."""
    users = [text_of(m.get("content")).strip()[:_MOST_SEARCHED] for m in request.messages if m.get("role") == "user"]
    if not users:
        return False
    answered = any(message.get("role") == "assistant" for message in request.said)
    if not answered and request.max_tokens is not None and request.max_tokens <= _PROBE:
        return True
    if _INFILL.search(users[-1]) or _WORDED.search(users[-1][:_BEGINNING]):
        return True
    if answered:
        return _is_about_all(users[-1])
    return _WORDED.search(users[0][:_BEGINNING]) is not None or _asks_about_a_chat(request, users)


def _is_about_all(text: str) -> bool:
    """Whether a message behind a conversation is a client's order to sum it up or to name it."""
    beginning = text[:_BEGINNING]
    return len(text) >= _LONG and bool(_ABOUT_ALL.search(beginning)) and bool(_RESTRICTED.search(text))


def _asks_about_a_chat(request: ChatRequest, users: Sequence[str]) -> bool:
    if request.shape.tools:
        return False
    shape = request.shape
    if shape.schema and {field.lower() for field in shape.schema} <= _ANSWER_FIELDS:
        return True
    system = shape.system
    if len(system) <= _LONGEST_INSTRUCTIONS and _INSTRUCTED.search(system):
        return True
    whole = "\n".join(users)
    if _HISTORY.search(whole) and (_NAMED.search(whole) or _ANSWER.search(whole)):
        return True
    if _ANSWER.search(whole) and "###" in whole:
        return True
    spoken = {bool(found[1]) for found in _TURNS.finditer(whole)}
    return len(spoken) == 2 and bool(
        _NAMED.search(f"{whole[:_BEGINNING]}\n{whole[-_BEGINNING:]}\n{system[:_BEGINNING]}")
    )
