"""Raw prompts, which some program templated by itself: where their newest user turn stands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class UserTurn:
    """The newest user turn of a raw prompt: where its text starts, and the text."""

    start: int
    text: str


_TURNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("<|im_start|>user\n", ("<|im_end|>",)),
    ("<|start_header_id|>user<|end_header_id|>\n\n", ("<|eot_id|>",)),
    ("<start_of_turn>user\n", ("<end_of_turn>",)),
    ("<|user|>\n", ("<|end|>", "</s>", "<|assistant|>")),
    ("<|start|>user<|message|>", ("<|end|>",)),
    ("[INST] ", ("[/INST]",)),
    ("[INST]", ("[/INST]",)),
    ("### Instruction:\n", ("### Response:", "### Input:")),
    ("### User:\n", ("### Assistant:",)),
    ("USER: ", ("ASSISTANT:",)),
    ("User: ", ("\nAssistant:", "\nBot:")),
    ("Human: ", ("\nAssistant:",)),
    ("Q: ", ("\nA:",)),
)


def find_user_turn(prompt: str) -> UserTurn:
    """The newest user turn by the chat formats in use; the whole prompt where it follows none."""
    best = UserTurn(0, prompt)
    for opening, endings in _TURNS:
        at = prompt.rfind(opening)
        start = at + len(opening)
        if at < 0 or start <= best.start:
            continue
        rest = prompt[start:]
        ends = [found for found in (rest.find(ending) for ending in endings) if found >= 0]
        best = UserTurn(start, rest[: min(ends)] if ends else rest)
    return best
