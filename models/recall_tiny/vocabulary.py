"""The model's own byte-level BPE vocabulary: trained on its dialogues, split as GPT-2 splits, digits never merged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from .dialogues import Turn

BOS, START, END = "<s>", "<|im_start|>", "<|im_end|>"
SPECIAL = (BOS, START, END)


def chatml(turns: Sequence[Turn]) -> str:
    """The conversation as `make_tiny.CHATML` writes it, without a generation prompt."""
    return "".join(f"{START}{turn.role}\n{turn.content}{END}\n" for turn in turns)


def train(texts: Iterable[str], size: int) -> Tokenizer:
    """A vocabulary of `size` pieces: control tokens first, every byte, then merges by frequency."""
    trained = Tokenizer(models.BPE())
    # digits apart while training: a merge that joins two would make a code of four digits one or two pieces
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    return from_parts(*tokens_and_merges(trained))


def from_parts(tokens: Sequence[str], merges: Sequence[str]) -> Tokenizer:
    """The tokenizer of a GGUF's token list and merges: what llama.cpp is to do with them."""
    ids = {token: number for number, token in enumerate(tokens)}
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    made = Tokenizer(models.BPE(vocab=ids, merges=pairs))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([tokenizers.AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return made


def load(path: Path) -> Tokenizer:
    return Tokenizer.from_file(str(path))


def pieces(tokenizer: Tokenizer) -> tuple[str, ...]:
    """The texts of all pieces that are nothing but letters, in lower case: names are put together from them."""
    texts = (tokenizer.decode([number]) for number in range(tokenizer.get_vocab_size()))
    return tuple(sorted({text.strip().lower() for text in texts if text.strip().isalpha() and len(text.strip()) < 7}))


def tokens_and_merges(tokenizer: Tokenizer) -> tuple[list[str], list[str]]:
    """All pieces in order of their ids, and the merges in order of rank, both as GPT-2 writes bytes."""
    described = json.loads(tokenizer.to_str())["model"]
    vocabulary: dict[str, int] = described["vocab"]
    return sorted(vocabulary, key=vocabulary.__getitem__), [" ".join(merge) for merge in described["merges"]]
