"""What a model's own chat template puts before, between and behind the messages of a conversation."""

from __future__ import annotations

import re
from collections.abc import Sequence

import jinja2
import llama_cpp

from membank_llama.adapters.llama_cpp.loaded_model import LoadedModel

_MARK = re.compile(r"MESSAGE-NUMBER-\d{1,9}\.")


def pieces_around(model: LoadedModel, roles: Sequence[str], *, reply: bool) -> list[str]:
    """One text more than there are messages; the last ends where a reply begins, if one is wanted."""
    template = llama_cpp.llama_model_chat_template(model.handle, None)
    if not template:
        raise SystemExit(f"{model.path.name} has no chat template")
    made = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(template.decode())
    messages = [{"role": role, "content": f"MESSAGE-NUMBER-{number}."} for number, role in enumerate(roles)]
    pieces = _MARK.split(made.render(messages=messages, add_generation_prompt=reply, tools=None))
    if len(pieces) != len(roles) + 1:
        raise SystemExit(f"the chat template of {model.path.name} does not show every message")
    return pieces
