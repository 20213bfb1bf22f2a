"""What a turn of a conversation does: whether it tells anything, or only asks, puts off, or orders to forget.

A memory is what was told. A question holds no answer, "I don't know" and "How can I help you today?" hold nothing, and
"please forget my address" is a command. Forms are English, with the commonest of some other languages; what no form
knows is taken to tell something.
"""

from __future__ import annotations

import re

SENTENCE = re.compile(r"[^.!?？؟。！\n]+[.!?？؟。！]*")
QUESTION_MARKS = ("?", "？", "؟")

_AUXILIARY = (
    r"(?:do|does|did|can|could|will|would|is|are|am|was|were|have|has|had|should|shall|may|isn't|aren't|don't|doesn't"
    r"|didn't|can't|won't)"
)
_PRONOUN = r"(?:i|you|we|he|she|they|it|my|your|our|his|her|their|the|this|that|these|those|there|any|some|an?)"
_OPENING = r"(?:(?:and|but|so|ok|okay|hey|hi|hello|well|please|sorry|by the way|oh|um|again)[,:]? )*"
_ASKING = re.compile(
    rf"\A{_OPENING}(?:(?:what|who|whom|whose|where|when|why|how|which) {_AUXILIARY}\b"
    rf"|(?:what|which|whose|how)(?: \w+){{1,3}} {_AUXILIARY} {_PRONOUN}\b"
    r"|(?:what|who|where|when|why|how)(?:['’](?:s|re|d))\b"
    rf"|{_AUXILIARY} {_PRONOUN}\b"
    r"|(?:remind|tell|show|give|teach|ask) (?:me|us)\b"
    r"|(?:i wonder|do you know|any idea|guess) (?:what|who|where|if|how)\b)",
    re.IGNORECASE,
)
"""How a sentence begins that asks or orders, whatever it ends with."""
_ORDERING = re.compile(
    rf"\A{_OPENING}(?:write|translate|explain|summari[sz]e|describe|list|recommend|suggest|compare|name|define|draw"
    r"|calculate|answer) (?!down\b|of\b|off\b)\w+",
    re.IGNORECASE,
)
_LEADS = re.compile(
    r"(?:answer|question|reply|respond|tell|say|explain|help|task|request|frage|antwort|beantwort|sag|erklär|question|répon"
    r"|dis|pregunta|respond|responde|di|pergunta|domanda|rispond|回答|问题|問題|質問|答え)",
    re.IGNORECASE,
)
"""What is in a line that only leads to a question: "Answer this:"."""
_LONGEST_LEAD = 80
_OWN = re.compile(r"\b(?:i|me|my|mine|we|us|our)\b", re.IGNORECASE)
_ASKING_AT_ITS_END = re.compile(
    r"(?:吗|嗎|呢|(?:什么|什麼|哪里|哪裡|哪儿|多少|谁|誰|几点|怎么样)[^，、。]{0,4}|ですか|ますか|でしたか|ましたか|かな|だっけ)\W{0,4}\Z"
)
_TELLING = re.compile(
    rf"\A{_OPENING}(?:(?:can|could|will|would) you (?:please )?(?:remember|note|save|keep in mind)(?: down)? that\b"
    r"|(?:i|i'm|i’m|we|my|our|he|she|they|it|the|this|there|ich|mein|meine|wir|je|mon|ma|nous|yo|mi)\b[^?]{8,400},)",
    re.IGNORECASE,
)
"""A question that tells something first: "I moved to Rome, can you believe it?"."""

_UNKNOWING = re.compile(
    r"\b(?:i(?:['’]m| am) (?:so |very |really )?(?:sorry|afraid)\b[^.?!]{0,60}"
    r"\b(?:but|i (?:don['’]t|do not|can['’]t|cannot|am not))"
    r"|as an ai\b|as a(?: large)? language model\b|i (?:do not|don['’]t) (?:actually |really |currently )?(?:know|have"
    r" (?:any |enough |access|that |the |specific |personal )|remember|recall)"
    r"|i(?:['’]m| am) not (?:sure|able|aware|certain)"
    r"|i (?:cannot|can['’]t) (?:know|tell|answer|access|provide|recall|remember|assist|help)"
    r"|i (?:haven['’]t|have not) been (?:told|given)|you (?:haven['’]t|have not|didn['’]t) (?:told|tell|mention)"
    r"|(?:could|can|would) you (?:please |kindly )?(?:provide|clarify|tell me|give me|share|specify|rephrase)"
    r"|(?:please|kindly) (?:provide|clarify|specify|share)\b|i don['’]t understand"
    r"|ich (?:weiß|weiss) (?:es |das )?nicht|tut mir leid, (?:aber|ich)|je ne (?:sais|peux) pas|désolé, mais"
    r"|no (?:lo )?sé|lo siento, pero|não sei|desculpe, mas)\b|抱歉|对不起，|我不知道|申し訳|わかりません|分かりません",
    re.IGNORECASE,
)
_OFFER = re.compile(
    r"\b(?:how (?:can|may) i (?:help|assist)|what (?:can|may) i (?:do|help)"
    r"|(?:is there )?anything else (?:i can|you)|feel free to|let me know|i['’]?(?:m| am) here to"
    r"|happy to (?:help|assist)|glad to (?:help|assist|hear)|you['’]?(?:re| are) welcome"
    r"|no problem|my pleasure|thank you|thanks|nice to meet you|good (?:morning|afternoon|evening|night)|hello|hi there"
    r"|have a (?:great|nice|good)|see you|goodbye|wie kann ich|gern geschehen"
    r"|comment puis-je|de rien|cómo puedo|de nada|como posso)\b|有什么|お手伝い",
    re.IGNORECASE,
)
_DENYING = re.compile(
    r"\A\W*(?:i (?:really |honestly )?(?:don['’]t|do not) (?:know|remember|recall)|no idea|not sure"
    r"|i(?:['’]m| am) not sure|i (?:forgot|have forgotten|can['’]t remember)(?! (?:my|the|a|an|our|to)\b)"
    r"|never ?mind|who knows"
    r"|beats me|dunno"
    r"|keine ahnung|weiß nicht|aucune idée|je ne sais pas|ni idea|no sé|não sei|不知道|忘了"
    r"|わからない)\b[^,;:]{0,80}\Z"
    r"|\A\W*(?:maybe|perhaps|possibly)\W{0,20}\Z",
    re.IGNORECASE,
)
_FORGET = re.compile(
    r"\A\W*(?:(?:please|ok|okay|now|hey|and|then|can you|could you|would you|will you|i want you to"
    r"|you (?:can|should|must))[, ]+)*(?:please )?"
    r"(?:forget (?:all|everything|anything|what|that|about|it|this|the fact|whatever|whether|where|who|how|my|our)\b"
    r"|(?:delete|erase|remove|unlearn|discard) (?:everything|anything|what|all|whatever) (?:that )?(?:i|you|we)\b"
    r"|(?:delete|erase|remove|unlearn|discard) [^,;:]{1,80}\bfrom (?:your |the )?memor)"
    r"[^,;:]{0,120}(?:,? please)?\W{0,20}\Z",
    re.IGNORECASE,
)
_FORGET_ELSEWHERE = re.compile(
    r"\A\W*(?:(?:bitte )?(?:vergiss|vergessen sie|lösche)\b|(?:s'il te plaît,? )?(?:oublie|efface)\b"
    r"|(?:por favor,? )?(?:olvida|borra|esquece|apaga)\b|请?(?:忘记|忘掉|删除)"
    r"|.{0,120}(?:忘れて|消して)(?:ください)?\W{0,20}\Z)",
    re.IGNORECASE,
)
_LONGEST_EVASION, _LONGEST_COMMAND = 600, 200
_WORD = re.compile(r"\w")


def sentences_of(text: str) -> list[str]:
    """The sentences of a text, and its lines, without white space around them; those without a letter left out."""
    return [found for part in SENTENCE.findall(text) if _WORD.search(found := part.strip())]


def only_asks(text: str) -> bool:
    """Whether all that a text says are questions and requests."""
    sentences = sentences_of(text)
    return bool(sentences) and _is_asking(sentences[-1]) and all(map(_asks_or_leads, sentences[:-1]))


def _asks_or_leads(sentence: str) -> bool:
    leads = len(sentence) <= _LONGEST_LEAD and sentence.endswith((":", "："))
    return (leads and bool(_LEADS.search(sentence))) or _is_asking(sentence)


def _is_asking(sentence: str) -> bool:
    if sentence.endswith(QUESTION_MARKS):
        return not _TELLING.match(sentence)
    if _ASKING.match(sentence) or _ASKING_AT_ITS_END.search(sentence):
        return True
    # "Write to my clients in a warm tone": how somebody wants it is told once for all
    return bool(_ORDERING.match(sentence)) and not _OWN.search(sentence)


def is_evasion(text: str) -> bool:
    """Whether a reply says that nothing is known, or only greets and offers help."""
    if len(text) > _LONGEST_EVASION:
        return False
    sentences = sentences_of(text)
    if any(map(_UNKNOWING.search, sentences[:2])):
        return True
    # a question of its own is kept: without it a short answer says little
    return bool(sentences) and all(map(_OFFER.search, sentences))


def is_denial(text: str) -> bool:
    """Whether somebody only says that she does not know, or does not mind."""
    sentences = sentences_of(text)
    return bool(sentences) and all(map(_DENYING.match, sentences))


def is_forget_command(text: str) -> bool:
    """Whether a text only orders to forget something; "don't forget the milk" does not."""
    if len(text) > _LONGEST_COMMAND:
        return False
    sentences = sentences_of(text)
    orders = [bool(_FORGET.match(one) or _FORGET_ELSEWHERE.match(one)) for one in sentences]
    rest = [one for one, order in zip(sentences, orders, strict=True) if not order]
    return any(orders) and all(only_asks(one) or _OFFER.search(one) for one in rest)


def tells_nothing(text: str) -> bool:
    """Whether a text only asks, denies or orders to forget: nothing in it is evidence of what is so."""
    return only_asks(text) or is_denial(text) or is_forget_command(text)
