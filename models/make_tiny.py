"""Write a random-weight Llama GGUF that llama.cpp loads: ``python models/make_tiny.py tiny.gguf``.

The weights are drawn from a fixed seed, so the same options give the same file byte for byte, and the text
it generates means nothing. The vocabulary is made here: byte pieces for any input, letters and common
words, and real control tokens ``<|im_start|>`` and ``<|im_end|>`` with the ChatML template that uses them.
By default the file is under 1 MB; ``--size 100m`` gives the 100-million-parameter one of the benchmarks.
Needs the `gguf` package (extra `dev`).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import gguf
import numpy as np

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROL = ("<|im_start|>", "<|im_end|>")
_WORDS = """
the and you that was for are with his they this have from one had word but not what all were when your can
said there use each which she how their will other about out many then them these some her would make like
him into time has look two more write see number way could people my than first water been call who its now
find long down day did get come made may part over new sound take only little work know place year live back
give most very after thing our just name good sentence man think say great where help through much before
line right too mean old any same tell boy follow came want show also around form three small set put end
does another well large must big even such because turn here why ask went men read need land different home
move try kind hand picture again change off play spell air away animal house point page letter mother answer
found study still learn should world remember memory cat dog
"""
WORDS = _WORDS.split()
QUANTISATIONS = {
    "f32": gguf.GGMLQuantizationType.F32,
    "f16": gguf.GGMLQuantizationType.F16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
}
SIZES: dict[str, dict[str, int]] = {
    "tiny": {"n_layer": 4, "n_embd": 64, "n_ff": 160, "n_head": 4, "n_head_kv": 2},
    "100m": {"n_layer": 14, "n_embd": 768, "n_ff": 2048, "n_head": 12, "n_head_kv": 12},
}


def vocabulary(n_vocab: int = 0) -> tuple[list[bytes], list[float], list[int]]:
    """Texts, scores and types of all tokens, filled up to `n_vocab` with unused ones."""
    kind = gguf.TokenType
    tokens: dict[str, int] = {"<unk>": kind.UNKNOWN, "<s>": kind.CONTROL, "</s>": kind.CONTROL}
    tokens |= dict.fromkeys(CONTROL, kind.CONTROL)
    tokens |= {f"<0x{byte:02X}>": kind.BYTE for byte in range(256)}
    tokens["▁"] = kind.NORMAL
    for code in range(33, 127):
        tokens.setdefault(chr(code), kind.NORMAL)
    # SentencePiece merges pairs, so that a word is reached only if all of its beginnings are pieces too
    for word in WORDS:
        for end in range(1, len(word) + 1):
            tokens.setdefault("▁" + word[:end], kind.NORMAL)
    for unused in range(max(0, n_vocab - len(tokens))):
        tokens[f"<unused{unused}>"] = kind.UNUSED
    special = 5 + 256
    scores = [0.0 if i < special else -float(i - special) for i in range(len(tokens))]
    return [token.encode() for token in tokens], scores, [int(t) for t in tokens.values()]


def _weights(shape: tuple[int, ...], rng: np.random.Generator, gain: float = 1.0) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(gain / np.sqrt(shape[-1]))


def make_model(
    path: str | Path,
    *,
    n_layer: int = 4,
    n_embd: int = 64,
    n_ff: int = 160,
    n_head: int = 4,
    n_head_kv: int = 2,
    n_ctx: int = 2048,
    n_vocab: int = 0,
    quantisation: str = "f16",
    seed: int = 0,
    name: str = "membank tiny random",
    chat_template: str | None = CHATML,
    pooling_type: int | None = None,
) -> Path:
    """Write the model and return `path`.

    `quantisation` (f32, f16, q8_0) is that of the matrices; norms stay float32. `pooling_type` is written as the
    model's own, as embedding models and rerankers (4) have it.
    """
    tokens, scores, types = vocabulary(n_vocab)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name(name)
    writer.add_block_count(n_layer)
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(n_embd)
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(n_head)
    writer.add_head_count_kv(n_head_kv)
    writer.add_rope_dimension_count(n_embd // n_head)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(tokens.index(b"<|im_end|>"))
    writer.add_add_bos_token(True)
    if pooling_type is not None:
        writer.add_uint32("llama.pooling_type", pooling_type)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    _add_tensors(writer, types, n_layer, n_embd, n_ff, n_embd // n_head * n_head_kv, quantisation, seed)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Path(path)


def _add_tensors(
    writer: gguf.GGUFWriter,
    types: list[int],
    n_layer: int,
    n_embd: int,
    n_ff: int,
    n_kv: int,
    quant: str,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    dtype = QUANTISATIONS[quant]

    def matrix(name: str, *shape: int, gain: float = 1.0, keep: np.ndarray | None = None) -> None:
        data = _weights(shape, rng, gain)
        if keep is not None:
            data[~keep] = 0
        packed = gguf.quants.quantize(data, dtype)
        writer.add_tensor(name, packed, raw_dtype=dtype)

    def ones(name: str) -> None:
        writer.add_tensor(name, np.ones(n_embd, np.float32))

    # only plain pieces get output weights: greedy generation stays printable and goes on to max_tokens
    plain = np.array(types) == int(gguf.TokenType.NORMAL)
    matrix("token_embd.weight", len(types), n_embd, gain=float(np.sqrt(n_embd)))
    for block in range(n_layer):
        ones(f"blk.{block}.attn_norm.weight")
        matrix(f"blk.{block}.attn_q.weight", n_embd, n_embd)
        matrix(f"blk.{block}.attn_k.weight", n_kv, n_embd)
        matrix(f"blk.{block}.attn_v.weight", n_kv, n_embd)
        matrix(f"blk.{block}.attn_output.weight", n_embd, n_embd, gain=0.5)
        ones(f"blk.{block}.ffn_norm.weight")
        matrix(f"blk.{block}.ffn_gate.weight", n_ff, n_embd)
        matrix(f"blk.{block}.ffn_up.weight", n_ff, n_embd)
        matrix(f"blk.{block}.ffn_down.weight", n_embd, n_ff, gain=0.5)
    ones("output_norm.weight")
    matrix("output.weight", len(types), n_embd, gain=4.0, keep=plain)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--size", choices=sorted(SIZES), default="tiny")
    parser.add_argument("--quantisation", choices=sorted(QUANTISATIONS), default="f16")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    made = make_model(args.path, quantisation=args.quantisation, seed=args.seed, **SIZES[args.size])
    print(f"{made}: {made.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
