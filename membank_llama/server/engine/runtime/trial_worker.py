"""What a child process does with a model file that was never loaded: all that the engine does with one, in small."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event

import llama_cpp

from membank_llama.adapters.llama_cpp.loaded_model import load_native
from membank_llama.adapters.llama_cpp.tokenizer import Tokenizer
from membank_llama.core.errors import MembankError
from membank_llama.gguf.capabilities import read_facts
from membank_llama.gguf.checks import check_loadable

from ...asgi import WireError
from ..generation.decode import Tally, generate_text
from ..generation.generation_context import GenerationContext
from ..generation.sampling_options import SamplingOptions
from .embedder import Embedder

_TEXT = "Hello, wörld! 你好 🙂 \t\n\n  1234567890 </s><|im_end|> \x00\x01\x7f"
_CONTEXT = 256


def try_model_file(request: bytes) -> bytes:
    """Load a file, and use it a little; nothing where that went well, or what was wrong with it."""
    path, vocabulary_only = json.loads(request)
    try:
        (_read if vocabulary_only else _run)(Path(path))
    except (MembankError, WireError, ValueError, OSError) as exc:
        return str(exc)[:1000].encode("utf-8", "replace") or b"?"
    return b""


def _run(path: Path) -> None:
    facts = read_facts(path)
    if facts.embeds:
        embedder = Embedder(path, 1, 0, _CONTEXT)
        embedder.count(_TEXT)
        embedder.encode([_TEXT])
        return
    model = GenerationContext(path, n_ctx=_CONTEXT, n_threads=1, n_gpu_layers=0)
    prompt = model.tokenize(_TEXT)[: _CONTEXT // 2]
    for piece in range(0, model.n_vocab, max(1, model.n_vocab // 1000)):
        model.piece(piece)
    list(generate_text(model, prompt, SamplingOptions(num_predict=4, seed=1), Event(), Tally()))


def _read(path: Path) -> None:
    check_loadable(path)
    handle = load_native(path, vocab_only=True)
    if not handle:
        raise ValueError("llama.cpp could not load it")
    vocab = llama_cpp.llama_model_get_vocab(handle)
    tokenizer = Tokenizer(lambda: vocab)
    for specials in (False, True):
        tokenizer.tokenize(_TEXT, add=True, specials=specials)
    for token in range(llama_cpp.llama_vocab_n_tokens(vocab)):
        llama_cpp.llama_vocab_get_text(vocab, token)
