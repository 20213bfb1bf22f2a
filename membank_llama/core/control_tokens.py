"""How control tokens are written in the model families there are, for prompts to a model whose vocabulary is not known.

A model parses its own control tokens in a prompt, and what they do differs from family to family: end a turn, begin one
that speaks for the system, call a tool. Where the vocabulary can be read they are known one by one. Where it cannot,
everything that is written as one counts as one. What ordinary text looks like (``a < b``, ``ana@example.org``, a list's
``[x]``) does not; an HTML tag or a type parameter does, and gets a space, which leaves it readable.
"""

from __future__ import annotations

import re

FORMS = (
    # <|…|>, <turn|>, <|turn>; <｜…｜> in full width; [|…|]
    re.compile(r"<[|｜¦│]|[|｜¦│]>|\[\||\|\]"),
    # <s>, </s>, <end_of_turn>, <file_sep>, <unused12>, <0x0A>, <seed:think>, <[PAD]>; the block's own marks are none
    re.compile(r"<(?!/?memory>)/?[\w▁\[][\w▁\]:.$*#+\-]{0,63}/?>"),
    # [INST], [/TOOL_CALLS], [gMASK], [PAD32011]
    re.compile(r"\[/?[A-Za-z]?[A-Z]{2}[A-Z0-9_]{0,61}\]"),
    re.compile(r"\[/?(?:unused|control|extra_id|multimodal|audio|image|img|video|begin|end)(?:_?\w{1,40})?\]", re.I),
    # >>TITLE<<, <<SYS>>, <</SYS>>, |ENDOFTEXT|
    re.compile(r">>[A-Z_]{2,40}<<|<</?[A-Z_]{2,40}>>|\|[A-Z_]{3,40}\|"),
    # MiniMax
    re.compile(r"\]~!?b\[?\]?|\[e~\[|\]!p~\[|\]<\]|\[>\["),
)

COMMON = (
    "### Instruction:", "### Response:", "### Input:", "### User:", "### Assistant:", "### System:",
)  # fmt: skip
"""What begins a turn with models that have no token for it."""
