"""What requests say that clients make for themselves: the words of their instructions, in their languages."""

from __future__ import annotations

import re

BEGINNING = 600
"""Characters of a message in which it says what it is."""

INFILL = re.compile(
    r"<\|?fim[_▁-]?(?:prefix|begin|suffix|hole|middle|end)\|?>|<｜fim▁\w+｜>|<PRE> |\[SUFFIX\]|\[PREFIX\]"
    r"|<\|/?(?:editable|user_cursor|cursor|code|current_file|edit|recently)\w*\|>|\[BLANK\]"
)

WORDED = re.compile(
    "|".join(
        (
            # Open WebUI: title, tags, follow-ups, search queries, image prompts, autocompletion, emoji
            r"\A### Task:\s*\n(?:Generate|Suggest|Analyze|Create|You are an autocompletion|Your task is to reflect)",
            r"\ABased on the chat history, determine whether a search is necessary",
            r"\AYour task is to reflect the speaker's likely facial expression",
            r"\AYou have been (?:provided with|given)\b[^\n]{0,80}\bmodels\b[^\n]{0,80}\blatest user query",
            # LibreChat, Chatbox, Continue, Jan and others: names for a conversation
            r"\A(?:Please )?(?:provide|generate|create|write|give|suggest|come up with)\b[^.\n]{0,60}"
            r"\b(?:title|name|headline|topic)\b[^.\n]{0,60}\b(?:conversation|chat|dialogue|thread|session)\b",
            r"\ABased on the (?:chat history|conversation)[^.\n]{0,80}\b(?:title|name)\b",
            r"\ASummari[sz]e (?:in|the|this|our)\b[^.\n]{0,60}\b(?:title|words)\b[^\n]{0,60}\b(?:title|message|chat)",
            r"\AGiven the following\b[^\n]{0,160}\b(?:please (?:reply|answer)|rephrase|follow[- ]?up)\b",
            r"\AGenerate an? (?:enhanced|improved) version of (?:this|the) prompt",
            r"\ASummari[sz]e the following (?:tool|command|text|output)\b[^\n]{0,160}\btokens\b",
            # agents: what they ask beside their work
            r"\A\[SUGGESTION MODE:|\AWeb page content:\s*\n---|\A<policy_spec>",
            r"\AYou are performing a CONTEXT CHECKPOINT|\AWarm-?up\Z|\APerform a web search for",
            r"\A(?:Command|Bash command): [^\n]{0,4000}\n(?:Output|Description):",
            r"\AYou are a HOLE FILLER|\AORIGINAL CODE:\s*\n|^<explicit_instructions\b",
            r"\AThe user (?:has|is|was|will|wants|asked|stepped|left|returned)\b|\AThe original user request was:",
            r"\A(?:IMPORTANT: )?This message\b[^\n]{0,80}\bnot part of the\b|\bpre-compaction\b",
            r"\bgenerate the <\w{1,40}>",
            r"\AYou are now acting as\b|\ADescribe your (?:most recent|last) action\b|\AHere are the tool requests:",
            r"\AAnalyze \*?only\*? your\b",
        )
    ),
    re.DOTALL | re.IGNORECASE | re.MULTILINE,
)
SENTINEL = re.compile(
    r"\b(?:reply|respond|answer|return|output|say)\b[^.\n]{0,40}\b(?:[A-Z]{2,16}_[A-Z]{2,16}|HEARTBEAT\w*)\b"
)
"""A word for a machine that is to be answered with."""

_OF_CHATS = (
    r"(?:conversation\w*|chats?|sessions?|threads?|discussions?|dialog(?:ue)?s?|messages?|exchanges?|tasks?|history)"
)
_NAMES = (
    r"(?:titles?|headlines?|topics?|names?|labels?|summar(?:y|ies)|tags?|keywords?|quer(?:y|ies)|emojis?|questions?"
    r"|entit(?:y|ies)|facts?|memor(?:y|ies)|intent\w*|snapshot)"
)
_MAKES = (
    r"(?:generat\w*|creat\w*|writ\w*|produc\w*|extract\w*|provid\w*|suggest\w*|nam(?:e|es|ing)|summari[sz]\w*"
    r"|analy[sz]\w*"
    r"|classif\w*|condens\w*|compact\w*|com(?:e|ing) up with|predict\w*|output\w*|return\w*|respond\w*|distill?\w*"
    r"|rephras\w*|reformulat\w*|formulat\w*|rewrit\w*|decompos\w*|detect\w*|maintain\w*|updat\w*)"
)
_ALONE = (
    r"\b(?:return|output|respond|answer|reply|identify|pick|translate)\w*\b[^.\n]{0,60}"
    r"\b(?:only|just|alone|nothing (?:else|but)|single)\b[^.\n]{0,40}\b(?:titles?|translat\w+|json|emoji|locale|code"
    r"|labels?|category|quer(?:y|ies)|keywords?|summary|score|tags?|names?|text|prompt|commit)\b"
)
_JOB = (
    r"\b(?:your|its|the) (?:only |sole |main )?(?:job|task|goal|role|purpose) is to (?:rank|classify|translate|extract"
    r"|rewrite|rephrase|determine|tell whether|decide|evaluate|assess|analy[sz]e|summari[sz]e|generate|detect"
    r"|identify|process)\b"
)
ORDERS = re.compile(f"{_ALONE}|{_JOB}|\\bin JSON only\\b", re.IGNORECASE)
INSTRUCTED = re.compile(
    "|".join(
        (
            rf"\b{_MAKES}\b[^.\n]{{0,100}}\b{_NAMES}\b[^.\n]{{0,80}}"
            rf"\b(?:{_OF_CHATS}|users?|coding|request|prompt|input)\b",
            rf"\b{_MAKES}\b[^.\n]{{0,60}}\b(?:the|this|our|a|an|user'?s?) (?:\w+ ){{0,3}}{_OF_CHATS}\b"
            rf"[^.\n]{{0,80}}\b{_NAMES}\b",
            rf"\b(?:given|get|from) (?:a|the|an)\b[^.\n]{{0,40}}\b{_OF_CHATS}\b[^\n]{{0,160}}"
            r"\b(?:rephras|reformulat|formulat|rewrit|stands? alone|standalone|summari|title)\w*",
            r"\b(?:title|headline|topic|conversation|summary|summari[sz]ation|query|question|tag|emoji|chat|language)s?"
            r"[ -](?:generat|nam|summari|compact|extract|rewrit|rephras|classif|detect|titles|assistant who)\w*",
            r"\b(?:task(?:ed)? (?:is|with|to)|you (?:are|will be)|assistant (?:that|who|tasked)|component that)\b"
            r"[^.\n]{0,80}\bsummari[sz](?:e|es|ing)\b",
            r"\b(?:new|current) (?:conversation )?topic\b|\bisNewTopic\b|\bcommit messages?\b",
            r"\b(?:predict|suggest)\w*\b[^.\n]{0,60}\b(?:next|follow[- ]?up)\b",
            r"\b(?:extract|process)\w*\b[^.\n]{0,40}\b(?:file ?paths?|bash commands?|command prefix|entit|keyword)",
            _ALONE,
            _JOB,
            r"\b(?:risk assessment|security monitor|safety (?:check|classif)\w*|evaluating a hook|diagnostic agent"
            r"|memory (?:writing|store|manager|extract)\w*)",
            r"\A\W*(?:## )?Task Context\b|\AAvailable Tools: |\bwhich operations only read\b",
        )
    ),
    re.IGNORECASE,
)
"""What the instructions of such a call are about; of a call without tools."""
SUB_AGENT = re.compile(
    r"\b(?:sub-?agent|agent threads|agent for (?:claude code|crush)|cc_is_subagent=true|file search specialist"
    r"|acting as a reviewer"
    r"|(?:search|exploration|planning|review|research|code|test\w*|software) (?:specialist|reviewer)"
    r"|content analysis agent|spawned by|delegated to you|performing a web search|explain what they do)\b",
    re.IGNORECASE,
)
"""What the instructions of an agent say that works for another."""
AGENTS = re.compile(
    r"claude-cli|claude-code|codex_|opencode|Charm-Crush|QwenCode|GeminiCLI|goose|Cline|RooCode|Kilo-?Code|OpenHands",
    re.IGNORECASE,
)
"""Programs that give their own work instructions of many thousands of characters, by what they call themselves."""

ABOUT_ALL = re.compile(
    r"\b(?:summari[sz]\w*|summary|title|name|headline|compact\w*|recap|hand-?off|condens\w*|continu\w*|analy[sz]e)\b"
    r"[^.\n]{0,120}\b(?:(?:this|the|our|whole|entire|current) (?:\w+ )?(?:conversation|chat|session|thread|discussion"
    r"|context|exchange|story)|above|so far)\b"
    r"|\b(?:next|nächste[nrs]?|prochain|siguiente|próximo|prossimo) (?:agent|mod[eè]l)"
    r"|\b(?:agente?|mod[eè]l\w?) suivant|\bhand-?over\b|übergabe|\bmemento\b"
    r"|\b(?:this|the|our|whole|entire|current) (?:conversation|chat|session|thread|discussion)\b[^.\n]{0,100}"
    r"\b(?:summar|title|compact|continu|hand-?off|recap|up to date)\w*",
    re.IGNORECASE,
)
NAMED = re.compile(
    r"\btitles?\b|headline|\btopic\b|summar|titel|überschrift|zusammenfass|\bthema\b|titre|résum|sujet|título|resum"
    r"|\btema\b|assunto|titolo|riassun|argomento|tytuł|streszcz|başlık|özet|заголов|назван|тем[ауы]|кратк|резюм"
    r"|タイトル|題名|要約|标题|標題|题目|主题|主題|总结|總結|摘要|概括|제목|요약|عنوان"
    r"|शीर्षक|tiêu đề|judul|onderwerp|samenvat",
    re.IGNORECASE,
)
RESTRICTED = re.compile(
    r"\d ?(?:words?|wörter|mots|palabras|palavras|parole|слов|字|語|characters)"
    r"|\bonly\b|\bnur\b|\bnichts\b|\bsolo\b|\bsólo\b|\bapenas\b|\bseulement\b|\buniquement\b|только|punctuation"
    r"|satzzeichen|ponctuation|puntuaci|pontua|punteggiatura|знаков|标点|標點|句読点|구두점|不要|只(?:返回|输出|回)"
    r"|だけ|만 |\bwords?\b|wörter"
    r"|mots\b|palabras|palavras|слов|以内|以內|語以内|个字|個字",
    re.IGNORECASE,
)
CONVERSATION = re.compile(
    r"conversation|\bchat\b|dialog|\bmessages?\b|\bthread\b|\bsession\b|\bquery\b|unterhaltung|gespräch"
    r"|conversaci|conversa|échange|discussion|бесед|разговор"
    r"|диалог|会话|會話|对话|對話|会話|聊天|这段话|這段話|대화|konuşma|rozmow"
    r"|gesprek|percakapan|محادثة|बातचीत",
    re.IGNORECASE,
)

ANSWER_FIELDS = frozenset(
    {
        "title", "titles", "topic", "topics", "name", "isnewtopic", "tags", "keywords", "follow_ups", "followups",
        "questions", "queries", "suggestions", "emoji", "summary", "conversation_title", "should_search",
        "search_query", "category", "language", "session_name", "branch", "ok", "reason", "extracted_entities",
        "risk_level", "rationale", "raw_memory", "rollout_summary", "rollout_slug",
    }
)  # fmt: skip
ANSWER = re.compile(
    r'\{\s*\\?"(?:title|topic|isNewTopic|tags|follow_ups|queries|suggestions|emoji|text|name|summary|keywords)\\?"\s*:'
)
HISTORY = re.compile(
    r"<(?:chat_history|conversation(?:_history)?|transcript|chat_log|dialogue|messages|rollout|session|description"
    r"|PREVIOUS SUMMARY|CURRENT MESSAGE|translate_input|QUERY)>"
    r"|\bTRANSCRIPT START\b|---BEGIN \w+ MESSAGES---|^Responses from models:|\bChat History: ?\S"
    r"|^The following code was suggested as an edit:",
    re.MULTILINE,
)
TURNS = re.compile(
    r"^(?:[\s>*\-\[\"#]{0,6}|\[\d{1,4}\] |<)"
    r"(?:(user|human|you|mensch|nutzer|benutzer|utilisateur|usuario|usuário|utente|пользователь|kullanıcı|gebruiker|用户|用戶"
    r"|人类|ユーザー?|사용자)|(assistant|ai|ki|ia|ии|claude|assistent|asistente|assistente|ассистент|asistan|助手|助理"
    r"|アシスタント|어시스턴트))(?:[\]\"*]{0,4}[^\S\n]{0,2}[:：]|>|[^\S\n]{0,4}$)",
    re.IGNORECASE | re.MULTILINE,
)
"""How a transcript names who speaks."""
DIFF = re.compile(r"^diff --git |```diff\b|\bunidiff\b", re.MULTILINE)
CUE = re.compile(r"\n(?:#{1,4} |\|\|>)?[^\W\d_][\w -]{1,30}[:：](?:\s|\"){0,6}\Z")
"""A label at the end of a text, behind which an answer is to be written."""
ADDRESSED = re.compile(r"\A(?:#[^\n]{0,80}\n\s*)?(?:## System Instructions\s*)?You (?:are|have been|need to|get)\b")
"""How a text begins that tells a model what it is."""
GIVEN = re.compile(
    r"\byou (?:will be|are) given\b|\b(?:following|provided|enclosed|given|retrieved)\b|<[a-zA-Z_]{2,40}>|```|\bInput:",
    re.IGNORECASE,
)
"""What such a text is about is handed over with it."""
OWN = re.compile(
    r"\b(?:i|i'm|my|me|mine|mein\w*|mir|mich|ich|mon|ma|mes|moi|je|mi|mis|yo|meu|minha|eu|mio|mia|io)\b"
    r"|\bмо[йяеёи]\w*|\bмне\b|我|私|僕|俺|나의|내 |저의",
    re.IGNORECASE,
)

# -- marks of a template, of which one alone says little

BOUND = re.compile(
    r"\b(?:answer|respon[ds]\w*|return|output|reply|provide|include)\b[^.\n]{0,60}"
    r"\b(?:only|just|alone|nothing else|must)\b"
    r"|\b(?:only|MUST|must) (?:the|respond|return|output|include|be)\b|\bin this format\b|\bthe following format\b"
    r"|только|\bодно\b|只(?:输出|返回|回答|需)|仅(?:输出|返回)|\bnur (?:den|die|das|mit)\b"
    r"|\bs[oó]lo (?:el|la|con)\b|\bapenas\b|\buniquement\b|\bseulement\b|だけ(?:を|で)|만 (?:출력|답)",
    re.IGNORECASE,
)
MARKUP = re.compile(
    r"<\|[a-z_]+\|>|^</?[a-zA-Z_]{3,30}>\s*$|^\|\|>|\"\"\"|^-{3,}\s*$|<BEGIN "
    r"|^[^\W\d_][\w ()-]{2,30}[:：]\s*$|\A[^\W\d_][\w ]{1,24}[:：]|^\[[A-Z][^\]\n]{2,40}\]\s*$|^#{1,4} \S",
    re.MULTILINE,
)
SKELETON = re.compile(r"\{\s*\\?\"\w|\bJSON\b|</\w{3,30}>")
OF_A_USER = re.compile(
    r"\b(?:the|a|an) (?:user|developer|human|customer|speaker|assistant)(?:'s|s)?\b|'User'|用户|用戶|ユーザ|пользовател"
    r"|\butilisateur|\busuari[oa]|\bbenutzer|\bnutzers?\b|\busuário|\bpessoa\b|\bследующ",
    re.IGNORECASE,
)
WORK = re.compile(
    r"\b(?:extract|classif|summari[sz]|rate\b|evaluat|judg|label|categor|rewrit|rephras|rout(?:e|ing)\b|translat|translit"
    r"|analy[sz]|document analyzer|search quer|query to answer|write a passage|fill in|suggested as an edit|supervisor)"
    r"|извлек|классифиц|назыв|переведи|判断|分类|分類|提取|总结|總結|抽出|分類|추출|분류|\bextra(?:ia|er|e|is|ire)\b|\bclasific"
    r"|\bklassifiz|\bbewerte|\bfasse\b|\bbenenn|\brésum|\bresum[ea]\b|\btraduz|\btraduc|\bübersetz",
    re.IGNORECASE,
)
