"""`HuggingFaceAdapter`: hidden states of any transformer that the `transformers` library runs.

A forward hook on one block takes the residual stream after it and ends the forward pass there, as the
llama.cpp adapter does; windows and pooling are the same. The hook is there only during a call, so that the
model stays as it was for whoever else uses it. Needs the extra ``hf``; without it, making the adapter says
how to get it.
"""

from __future__ import annotations

import hashlib
import importlib
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from membank_llama.core.errors import (
    EncodingError,
    InvalidInputError,
    MissingExtraError,
    ModelError,
    ModelNotFoundError,
)
from membank_llama.core.types import Vector

from .base import ModelAdapter
from .pooling import TRIAL, Reader, Window, check_options, groups, pool, resolve_layer, unit_length
from .prompt_templates import Pooling, template_mark

_SAMPLES = 64


class HuggingFaceAdapter(ModelAdapter):
    """Encodes texts with a `transformers` model.

    Args:
        name_or_model: a model's name or folder, for `AutoModel.from_pretrained`, or a loaded model.
        tokenizer: of a loaded model; default: the one that comes with the name.
        layer: ``"auto"`` (half depth), a 0-based block (negative: from the last), or a share of the depth,
        0.0..1.0.
            Of an encoder made for embeddings, ``-1`` is usually best.
        pooling: over the tokens: ``"mean"``, ``"last"``, or ``"weighted"`` (weights rise with the position);
        default: what belongs to the template, or ``"mean"``.
        template: ``"echo"``, ``"one-word"`` (see prompt_templates.py), or text around the input, with ``{text}`` where
        it goes.
        device: where to run, such as ``"cuda"``; default: where the model is.
        window: longest stretch of tokens evaluated at once; at most what the model has positions for.
        max_sequences: most texts in one evaluation.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        ModelNotFoundError: nothing could be loaded by this name.
        ModelError: no stack of blocks was found in the model.
        InvalidInputError: an argument is out of range.
    """

    def __init__(
        self,
        name_or_model: Any,
        *,
        tokenizer: Any = None,
        layer: str | int | float = "auto",
        pooling: Pooling | None = None,
        template: str | None = None,
        device: str | None = None,
        window: int = 512,
        max_sequences: int = 16,
    ) -> None:
        if pooling == "content":
            raise InvalidInputError("content pooling is llama.cpp's alone here: use mean, last or weighted")
        pooling, wording = check_options(pooling, template, window=window, max_sequences=max_sequences)
        self._torch = _extra("torch")
        self._lock = threading.Lock()
        self._model, self._tokenizer = _load(name_or_model, tokenizer)
        if device is not None:
            self._model.to(device)
        blocks = _blocks(self._torch, self._model)
        self.layer, self.pooling = resolve_layer(layer, len(blocks)), pooling
        self._block = blocks[self.layer]
        positions = getattr(self._model.config, "max_position_embeddings", None) or window
        self._window, self._most = min(window, positions), max_sequences
        self._reader = Reader.of(self._tokenize, wording, self._window)
        self._dim = int(self._states([self._tokenize(TRIAL, specials=False, add=True) or [0]])[0].shape[-1])
        kind = getattr(self._model.config, "model_type", type(self._model).__name__.lower())
        mark = f"L{self.layer}-{pooling}{template_mark(template)}"
        self._id = f"hf-{kind}-{_fingerprint(self._model)}-{mark}"
        self._source = name_or_model if isinstance(name_or_model, str) else None

    @property
    def hidden_dim(self) -> int:
        return self._dim

    @property
    def name(self) -> str:
        return self._source or getattr(self._model.config, "name_or_path", "") or type(self._model).__name__

    @property
    def source(self) -> str | None:
        return self._source

    def model_id(self) -> str:
        """Kind of model, a hash of its tensors, the block, the pooling, name or hash of the template."""
        return self._id

    def encode(self, text: str) -> Vector:
        """Encode one text: float32 ``(hidden_dim,)``, of unit length.

        Raises:
            EncodingError: the text holds no token, or the model gave NaN.
        """
        vector: Vector = self.encode_batch([text])[0]
        return vector

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        """Encode several texts, as many at once as fit: float32 ``(len(texts), hidden_dim)``."""
        sums = np.zeros((len(texts), self._dim), np.float64)
        windows = [window for number, text in enumerate(texts) for window in self._reader.windows(number, text)]
        for group in groups(windows, self._capacity(windows), self._most):
            for window, rows in zip(group, self._states([w.tokens for w in group]), strict=True):
                sums[window.text] += pool(window, rows, self.pooling)
        return unit_length(sums, self.name)

    def _capacity(self, windows: Sequence[Window]) -> int:
        return max([self._window, *(len(window.tokens) for window in windows)])

    def _tokenize(self, text: str, *, specials: bool, add: bool) -> list[int]:
        text = text.encode("utf-8", "replace").decode()
        ids = self._tokenizer.encode(text, add_special_tokens=add, split_special_tokens=not specials)
        return [int(number) for number in ids]

    def _states(self, sequences: Sequence[Sequence[int]]) -> list[npt.NDArray[np.float32]]:
        """One forward pass up to the block; for each sequence ``(n_tokens, dim)``."""
        torch, taken = self._torch, []
        longest = max(len(tokens) for tokens in sequences)
        # padded on the right: with the mask, no token sees the padding, and positions stay as they are
        ids = torch.tensor([[*tokens, *[0] * (longest - len(tokens))] for tokens in sequences])
        mask = torch.tensor([[1] * len(tokens) + [0] * (longest - len(tokens)) for tokens in sequences])

        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            taken.append(output[0] if isinstance(output, tuple) else output)
            raise _EnoughError

        with self._lock, torch.inference_mode():
            if self._model is None:
                raise ModelError("the adapter is closed; make another")
            handle = self._block.register_forward_hook(hook)
            try:
                device = next(self._model.parameters()).device
                self._model(input_ids=ids.to(device), attention_mask=mask.to(device))
            except _EnoughError:
                pass
            finally:
                handle.remove()
        if not taken or taken[0].ndim != 3 or tuple(taken[0].shape[:2]) != tuple(ids.shape):
            raise EncodingError(f"block {self.layer} of {type(self._model).__name__} gives no row for each token")
        rows = taken[0].float().cpu().numpy()
        return [rows[number, : len(tokens)] for number, tokens in enumerate(sequences)]

    def close(self) -> None:
        """Let go of the model; one that was passed in is left as it is."""
        with self._lock:
            self._model = self._block = None


class _EnoughError(Exception):
    """Ends a forward pass whose rest is not wanted."""


def _extra(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"HuggingFaceAdapter needs {module}; install it with: pip install 'membank-llama[hf]'"
        ) from error


def _load(name_or_model: Any, tokenizer: Any) -> tuple[Any, Any]:
    transformers = _extra("transformers")
    if isinstance(name_or_model, str):
        try:
            tokenizer = tokenizer or transformers.AutoTokenizer.from_pretrained(name_or_model)
            model = transformers.AutoModel.from_pretrained(name_or_model)
        except (OSError, ValueError) as error:
            raise ModelNotFoundError(
                f"transformers could not load {name_or_model!r}: {error}; check the name, or give a folder"
            ) from error
    else:
        model = name_or_model
        if tokenizer is None:
            raise InvalidInputError("a loaded model needs its tokenizer: pass tokenizer=")
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    model.eval()
    return model, tokenizer


def _blocks(torch: Any, model: Any) -> Any:
    """The stack of blocks: the longest list of modules of one class."""
    lists = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len({type(x) for x in m}) == 1]
    if not lists:
        raise ModelError(f"no stack of blocks was found in {type(model).__name__}; is it a transformer?")
    return max(lists, key=len)


def _fingerprint(model: Any) -> str:
    """16 hex digits over names, shapes, types and samples of all tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().reshape(-1)
        some = flat[:: max(1, flat.numel() // _SAMPLES)].double().cpu().numpy()
        digest.update(f"\n{name} {tuple(tensor.shape)} {tensor.dtype}".encode() + some.tobytes())
    return digest.hexdigest()[:16]
