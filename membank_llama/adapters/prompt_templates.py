"""Text put around an input so that a model says more of it, without any training.

``echo`` gives the text twice and pools over the second time alone: a decoder's token sees only what stands ahead of
it, and the second time that is the whole text (Springer et al. 2024, "Repetition Improves Language Model Embeddings").
``one-word`` asks for the text in one word and takes the state from which that word would come (Jiang et al. 2023,
"Scaling Sentence Embeddings with Large Language Models"). Banks know these by name: whoever changes a wording gives
it another name.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, TypeAlias

from membank_llama.core.errors import InvalidInputError

Pooling: TypeAlias = Literal["content", "mean", "last", "weighted"]

TEXT = "{text}"


@dataclass(frozen=True)
class PromptTemplate:
    """What stands around a text, and the pooling that belongs to it."""

    wording: str
    pooling: Pooling


TEMPLATES = {
    "echo": PromptTemplate("A sentence: {text}\nThe same sentence again: {text}", "mean"),
    "one-word": PromptTemplate('This sentence: "{text}" means in one word: "', "last"),
}


def resolve_template(template: str | None) -> PromptTemplate | None:
    """The template of a name, or made of a text that holds ``{text}`` once or, to pool the second time, twice.

    Raises:
        InvalidInputError: neither.
    """
    if template is None or template in TEMPLATES:
        return None if template is None else TEMPLATES[template]
    if template.count(TEXT) not in (1, 2):
        names = ", ".join(TEMPLATES)
        raise InvalidInputError(
            f"template must be {names}, or hold {TEXT} once, or twice to pool the second; it is {template!r}"
        )
    return PromptTemplate(template, "mean")


def template_wording(template: str | None) -> str | None:
    """The text of a named template, or the one that was given."""
    found = resolve_template(template)
    return None if found is None else found.wording


def pools_apart(template: str | None) -> bool:
    """Whether a template wants some of its tokens pooled and not all, which a model's own pooling cannot do."""
    return template is not None and (template in TEMPLATES or template.count(TEXT) > 1)


def template_mark(template: str | None) -> str:
    """What a template adds to a model id: its name, or a hash of a text of one's own."""
    if template is None:
        return ""
    return f"-{template}" if template in TEMPLATES else "-t" + hashlib.sha256(template.encode()).hexdigest()[:8]
