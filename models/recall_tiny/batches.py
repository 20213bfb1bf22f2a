"""Batches of conversations and of question-and-memory pairs, each made from its number alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from .dialogues import Dialogues, Turn
from .facts import make
from .vocabulary import BOS, END, START
from .words import Words

PROMPT_WEIGHT = 0.1
BOS_SHARE = 0.15


@dataclass(frozen=True)
class Batch:
    """Token ids (batch, length + 1), and how much each target counts (batch, length)."""

    ids: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Pairs:
    """Questions and the memories that answer them, as membank-llama encodes text: ids, masks of what is averaged."""

    questions: Tensor
    question_mask: Tensor
    memories: Tensor
    memory_mask: Tensor
    same: Tensor


class Coder:
    """Conversations to token ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.bos, self.start, self.end = (tokenizer.token_to_id(token) for token in (BOS, START, END))

    def encode(self, texts: list[str]) -> list[list[int]]:
        # text is text here: a control token in it is never one
        return [encoded.ids for encoded in self.tokenizer.encode_batch(texts, add_special_tokens=False)]

    def conversation(self, turns: list[Turn], with_bos: bool = False) -> tuple[list[int], list[float]]:
        """Ids of the conversation, and how much predicting each counts."""
        ids: list[int] = [self.bos] if with_bos else []
        weights: list[float] = [0.0] * len(ids)
        texts = self.encode([part for turn in turns for part in (f"{turn.role}\n", turn.content)] + ["\n"])
        newline = texts.pop()
        for number, turn in enumerate(turns):
            role, content = texts[2 * number], texts[2 * number + 1]
            answer = turn.role == "assistant"
            ids += [self.start, *role, *content, self.end, *newline]
            weights += [PROMPT_WEIGHT] * (1 + len(role))
            weights += [1.0 if answer else PROMPT_WEIGHT] * (len(content) + 1)
            weights += [PROMPT_WEIGHT] * len(newline)
        return ids, weights

    def plain(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Texts as they are encoded for memory: BOS in front, which is not averaged."""
        rows = [[self.bos, *row] for row in self.encode(texts)]
        width = max(map(len, rows))
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros(len(rows), width, dtype=torch.bool)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, 1 : len(row)] = True
        return ids, mask


class Source:
    """All batches of a training run.

    Args:
        tokens: padded tokens a batch, at most.
        pool: conversations that are sorted by length together, so that little is padding.
    """

    def __init__(self, coder: Coder, pieces: tuple[str, ...], seed: int, tokens: int, pairs: int, n_ctx: int) -> None:
        self.coder = coder
        self.pieces = pieces
        self.seed = seed
        self.tokens = tokens
        self.pairs = pairs
        self.n_ctx = n_ctx

    def _words(self, *what: object) -> Words:
        return Words(random.Random("/".join(map(str, (self.seed, *what)))), pieces=self.pieces)

    def batches(self, first_pool: int, ease: float, pool: int = 256) -> Iterator[Batch]:
        """The batches of one pool."""
        dialogues = Dialogues(self._words("pool", first_pool), ease, updates=ease == 0)
        rows = []
        for _ in range(pool):
            ids, weights = self.coder.conversation(dialogues.conversation(), dialogues.rng.random() < BOS_SHARE)
            rows.append((ids[: self.n_ctx + 1], weights[: self.n_ctx + 1]))
        rows.sort(key=lambda row: len(row[0]))
        packed: list[list[tuple[list[int], list[float]]]] = [[]]
        for row in rows:
            if packed[-1] and (len(packed[-1]) + 1) * len(row[0]) > self.tokens:
                packed.append([])
            packed[-1].append(row)
        dialogues.rng.shuffle(packed)
        for group in packed:
            yield _padded(group)

    def contrast(self, number: int) -> Pairs:
        """Pairs of facts with many of one kind among them, so that the kind alone does not tell them apart."""
        dialogues = Dialogues(self._words("pairs", number))
        facts = dialogues.distinct(self.pairs * 2 // 3)
        crowded = [dialogues.rng.choice(facts).kind for _ in range(4)]
        facts += [make(dialogues.rng.choice(crowded), dialogues.words) for _ in range(self.pairs - len(facts))]
        questions, question_mask = self.coder.plain([dialogues.question(fact)[0] for fact in facts])
        memories, memory_mask = self.coder.plain([dialogues.telling(fact) for fact in facts])
        numbers = {key: number for number, key in enumerate(dict.fromkeys(fact.key for fact in facts))}
        labels = torch.tensor([numbers[fact.key] for fact in facts])
        return Pairs(questions, question_mask, memories, memory_mask, labels[:, None] == labels[None, :])


def _padded(group: list[tuple[list[int], list[float]]]) -> Batch:
    width = max(len(ids) for ids, _ in group)
    ids = torch.zeros(len(group), width, dtype=torch.long)
    weights = torch.zeros(len(group), width)
    for number, (row, weight) in enumerate(group):
        ids[number, : len(row)] = torch.tensor(row)
        weights[number, : len(row)] = torch.tensor(weight)
    return Batch(ids, weights[:, 1:])
