"""What torch computes for a hundred prompts, kept beside the file so that a test can compare without torch."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer

from .batches import Coder
from .dialogues import Dialogues
from .network import RecallTiny
from .words import Words

PROMPTS = 100
LONGEST = 160
# every n-th logit: enough to catch a wrong tensor, small enough to commit
STRIDE = 32


def write(model: RecallTiny, tokenizer: Tokenizer, path: Path) -> Path:
    """Write the token ids of `PROMPTS` beginnings of conversations and the logits after each.

    Args:
        model: with the weights as the file keeps them, see `export.rounded`.
    """
    dialogues, coder = Dialogues(Words(random.Random("reference"), held=True)), Coder(tokenizer)
    rows = []
    for number in range(PROMPTS):
        ids, _ = coder.conversation(dialogues.conversation(), with_bos=number % 2 == 0)
        ids = ids[: 1 + number * LONGEST // PROMPTS]
        with torch.no_grad():
            logits = model(torch.tensor([ids]))[0, -1]
        rows.append({"ids": ids, "logits": [round(float(value), 5) for value in logits[::STRIDE]]})
    path.write_text(json.dumps({"stride": STRIDE, "prompts": rows}) + "\n", encoding="utf-8")
    return path
