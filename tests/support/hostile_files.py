"""What a stranger's GGUF may say: each of these ended llama.cpp, or was meant to."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import product

from support.hostile_gguf import ARRAY, FLOAT32, INT32, STRING, UINT32, Parts

Change = Callable[[Parts], object]

TOKENS = "tokenizer.ggml."
TEMPLATE = "tokenizer.chat_template"

_NUMBERS = {
    "block_count": [0, 1, 9, 513, 1000, 2**32 - 1],
    "context_length": [0, 1, 2**32 - 1],
    "embedding_length": [0, 64, 2**31],
    "feed_forward_length": [0, 2**31],
    "attention.head_count": [0, 3, 4096, 2**31],
    "attention.head_count_kv": [0, 3, 8, 2**31],
    "rope.dimension_count": [0, 31, 4096, 2**32 - 1],
    "vocab_size": [0, 5, 2**32 - 1],
    "attention.key_length": [1, 2**31],
    "attention.value_length": [7],
    "expert_count": [1, 8, 513, 2**31],
    "expert_used_count": [1, 9],
    "attention.sliding_window": [1, 2**32 - 1],
    "pooling_type": [1, 2, 4, 5, 65, 99, 127, 256],
    "nextn_predict_layers": [1, 99],
    "ssm.conv_kernel": [4],
}
_TOKEN_IDS = ("bos", "eos", "unknown", "padding", "eot", "fim_pre", "mask")


def _number(key: str, value: int) -> Change:
    return lambda parts: parts.set(f"llama.{key}", value, UINT32)


def _set(key: str, value: object, kind: int) -> Change:
    return lambda parts: parts.set(key, value, kind)


def _of_tokens(make: Callable[[list[bytes]], list[bytes]]) -> Change:
    return lambda parts: parts.set(TOKENS + "tokens", (STRING, make(parts.array(TOKENS + "tokens"))))


def _tensor(place: int, column: int, value: object) -> Change:
    return lambda parts: parts.tensors[place].__setitem__(column, value)


def _garbage_charsmap(parts: Parts) -> None:
    parts.set(TOKENS + "model", b"t5")
    parts.set(TOKENS + "precompiled_charsmap", (0, [255] * 64), ARRAY)


CHANGES: dict[str, Change] = {
    **{f"{key} = {value}": _number(key, value) for key, values in _NUMBERS.items() for value in values},
    **{
        f"{name}_token_id = {value}": _set(f"{TOKENS}{name}_token_id", value, UINT32)
        for name, value in product(_TOKEN_IDS, (1024, 2**31 - 1, 2**32 - 1))
    },
    **{
        f"epsilon {value}": _set("llama.attention.layer_norm_rms_epsilon", value, FLOAT32)
        for value in (float("nan"), float("inf"), -1.0, 1e30)
    },
    **{f"tokenizer {name}": _set(TOKENS + "model", name, STRING) for name in
       ("none", "no_vocab", "llama", "t5", "bert", "rwkv", "plamo2", "", "x")},
    **{f"architecture {name[:9]}": _set("general.architecture", name, STRING) for name in
       ("evil", "mamba", "bert", "gemma3", "%n%s%n%s", "e" * (1 << 20), "")},
    "several experts used of several": lambda p: (_number("expert_count", 8)(p), _number("expert_used_count", 2)(p)),
    "freq_base 0": _set("llama.rope.freq_base", 0.0, FLOAT32),
    "head_count in words": _set("llama.attention.head_count", "four", STRING),
    "head_count as array": _set("llama.attention.head_count", (UINT32, [4, 4]), ARRAY),
    "head_count as digits of another script": _set("llama.attention.head_count_kv", "²", STRING),
    "alignment 3": _set("general.alignment", 3, UINT32),
    "alignment 0": _set("general.alignment", 0, UINT32),
    "alignment 2**30": _set("general.alignment", 2**30, UINT32),
    "ten tokens": _of_tokens(lambda tokens: tokens[:10]),
    "no tokens": _of_tokens(lambda tokens: []),
    "tokens all the same": _of_tokens(lambda tokens: [b"a"] * len(tokens)),
    "two tokens the same": _of_tokens(lambda tokens: [*tokens[:-1], tokens[-2]]),
    "tokens alike up to a NUL": _of_tokens(lambda tokens: [*tokens[:-1], tokens[-2] + b"\0x"]),
    "a token called empty": _of_tokens(lambda tokens: [*tokens[:-2], b"[EMPTY_1023]", b""]),
    "tokens all empty": _of_tokens(lambda tokens: [b""] * len(tokens)),
    "tokens that are no UTF-8": _of_tokens(lambda tokens: [b"\xff\xfe%d" % n for n in range(len(tokens))]),
    "a token of 5 MB": _of_tokens(lambda tokens: [*tokens[:-1], b"z" * (5 << 20)]),
    "tokens as numbers": _set(TOKENS + "tokens", (INT32, list(range(1024))), ARRAY),
    "three types of tokens": _set(TOKENS + "token_type", (INT32, [1] * 3), ARRAY),
    **{f"all tokens of type {kind}": _set(TOKENS + "token_type", (INT32, [kind] * 1024), ARRAY) for kind in (3, 6, 99)},
    "merges of garbage": _set(TOKENS + "merges", (STRING, [b"", b"a", b" ", b"a b c"] * 10), ARRAY),
    "merges as floats": _set(TOKENS + "merges", (FLOAT32, [1.0]), ARRAY),
    "no merges": lambda parts: parts.values.pop(TOKENS + "merges"),
    "pre-tokenizer unknown": _set(TOKENS + "pre", "zzz", STRING),
    "charsmap of garbage": _garbage_charsmap,
    "template of 2 MB": _set(TEMPLATE, "{{ 1 }}" * 300_000, STRING),
    "template that is no UTF-8": _set(TEMPLATE, b"\xff\xfe", STRING),
    "template as number": _set(TEMPLATE, 5, UINT32),
    "template that ends in the middle": _set(TEMPLATE, "{% for m in messages %}{{ m.content }}{% endfor", STRING),
    "name of 10 MB": _set("general.name", "n" * (10 << 20), STRING),
    "weights all NaN": lambda parts: setattr(parts, "data", b"\xff" * len(parts.data)),
    "one part of nine": _set("split.count", 9, 2),
    "100,000 keys": lambda parts: parts.values.update({f"k{n}": (UINT32, n) for n in range(100_000)}),
    "tensor beyond the file": _tensor(5, 3, 1 << 40),
    "tensor at 2**64 - 32": _tensor(5, 3, 2**64 - 32),
    "tensor unaligned": _tensor(5, 3, 7),
    "tensors that overlap": _tensor(5, 3, 0),
    "tensor of 2**63 x 2": _tensor(5, 1, [2**63, 2]),
    "tensor of nothing": _tensor(5, 1, [0]),
    "tensor of five dimensions": _tensor(5, 1, [1] * 5),
    "tensor name of 1 MB": _tensor(5, 0, "x" * (1 << 20)),
    "tensor of a removed type": _tensor(0, 2, 4),
    "tensor of an unknown type": _tensor(0, 2, 9999),
    "tensor of an unknown type, huge": lambda p: (_tensor(5, 2, 38)(p), _tensor(5, 1, [2**40])(p)),
    "tensor of another type": _tensor(0, 2, 2),
    "the same tensor twice": lambda parts: parts.tensors[5].__setitem__(0, parts.tensors[4][0]),
    "no output": lambda parts: parts.tensors.pop(0),
}  # fmt: skip

_HEAD = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
RAW: dict[str, bytes] = {
    "string of 2**63": _HEAD + struct.pack("<Q", 2**63) + b"x" * 100,
    "string of 2**64 - 1": _HEAD + struct.pack("<Q", 2**64 - 1) + b"x" * 100,
    "array of 2**62 strings": _HEAD + struct.pack("<Q", 1) + b"k" + struct.pack("<IIQ", 9, 8, 2**62) + bytes(40 << 20),
    "arrays of arrays": _HEAD + struct.pack("<Q", 1) + b"k" + struct.pack("<IIQ", 9, 9, 2**60)
    + struct.pack("<IQ", 9, 2**60) * 1000,
    "big endian": b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + bytes(100),
    "2**60 tensors": b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0) + bytes(1000),
    "2**60 keys": b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60) + bytes(1000),
    "ten bytes": b"GGUF\x03\0\0\0\0\0",
    "empty": b"",
}  # fmt: skip

ENDED_LLAMA_CPP = (
    "block_count = 0", "block_count = 1000", "block_count = 4294967295", "expert_count = 8",
    "expert_count = 2147483648", "expert_used_count = 9", "epsilon nan", "epsilon -1.0", "tokens all the same",
    "two tokens the same", "tokens alike up to a NUL", "a token called empty", "tokenizer none",
    "tokenizer no_vocab", "tokenizer llama", "pooling_type = 65", "nextn_predict_layers = 99",
)  # fmt: skip
