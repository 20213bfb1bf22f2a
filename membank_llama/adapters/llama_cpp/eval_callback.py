"""The eval callback: copies tensors named ``l_out-N`` out of a llama.cpp graph, then ends the graph.

llama.cpp asks once a node whether its data is wanted; of the layers that are, the rows are copied from whatever
backend holds them, and after the deepest one nothing more is computed. Of a graph that pools, what it pools is copied
and the graph goes on. No Python exception is lost inside the C callback: it is kept and raised afterwards.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import llama_cpp
import numpy as np

from membank_llama.core.errors import EncodingError
from membank_llama.core.types import Vector

from .private_api import ggml_base

FINAL = {b"result_norm": -1, b"result_embd": -2}
"""What graphs call the last states of a text's tokens, ahead of pooling; of both, the second comes later."""


class EvalCallback:
    """Watches one evaluation after the other for the states after some layers.

    Args:
        layers: 0-based; the evaluation ends after the deepest. Empty: it watches nothing, and ends nothing.
        dim: length of a row.
        final: watch for the last states as well, and end nothing.
    """

    def __init__(self, layers: Sequence[int], dim: int, *, final: bool = False) -> None:
        self._names = names = {f"l_out-{layer}".encode(): layer for layer in layers} | (FINAL if final else {})
        self._dim = dim
        self._last = None if final else max(layers, default=-1)
        self._parts: dict[int, list[Vector]] = {}
        self._missing: dict[int, int] = {}
        self._enough = False
        self._stored: BaseException | None = None
        get_name = _ggml().ggml_get_name

        def on_node(tensor: int, ask: bool, _user: Any) -> bool:
            # called for every node of the graph: the usual case is one C call. Once all is there, or something
            # went wrong, each part of the graph still to come is asked for at its first node and ended there
            try:
                if ask:
                    return self._enough or get_name(tensor) in names
                if not self._enough:
                    self._take(tensor, names[get_name(tensor)])
            except BaseException as error:  # noqa: BLE001  C cannot carry it: raised afterwards
                self._stored, self._enough = error, True
                return ask
            return not self._enough

        self.c_callback = llama_cpp.ggml_backend_sched_eval_callback(on_node)

    def expect(self, rows: int) -> None:
        """An evaluation of so many tokens comes next."""
        self._parts = {layer: [] for layer in self._names.values()}
        self._missing = dict.fromkeys(self._parts, rows)
        self._enough, self._stored = False, None

    def _take(self, tensor: int, layer: int) -> None:
        ggml = _ggml()
        count, rows, size = ggml.ggml_nelements(tensor), ggml.ggml_nrows(tensor), ggml.ggml_nbytes(tensor)
        kind = {4: np.float32, 2: np.float16}.get(size // count if count else 0)
        if kind is None or count != rows * self._dim or not ggml.ggml_is_contiguous(tensor):
            if layer < 0:
                # a step on the way that bears the name
                return
            raise EncodingError(f"l_out-{layer} holds {count} values in {size} bytes, not rows of {self._dim}")
        part = np.empty((rows, self._dim), kind)
        ggml.ggml_backend_tensor_get(tensor, part.ctypes.data, 0, size)
        self._parts[layer].append(part.astype(np.float32, copy=False))
        self._missing[layer] -= rows
        self._enough = layer == self._last and self._missing[layer] <= 0

    def raise_stored(self) -> None:
        """What went wrong inside the callback, if something did."""
        stored, self._stored = self._stored, None
        if stored is not None:
            raise stored

    def rows(self, layer: int) -> Vector:
        """All rows of the evaluation after one layer, one for each token, in order: ``(n_tokens, dim)``.

        Raises:
            EncodingError: there are more or fewer of them than tokens.
        """
        if self._missing[layer] or not self._parts[layer]:
            raise EncodingError(f"the rows of l_out-{layer} and the tokens differ by {abs(self._missing[layer])}")
        return np.concatenate(self._parts[layer])

    def final_rows(self) -> Vector | None:
        """The last states of all tokens of the evaluation, in order; None where the graph did not show them."""
        for layer in sorted(FINAL.values()):
            if self._parts.get(layer) and not self._missing[layer]:
                return np.concatenate(self._parts[layer])
        return None


@lru_cache(maxsize=1)
def _ggml() -> Any:
    """The tensor functions of libggml-base, with their prototypes. The struct itself is never looked into."""
    lib = ggml_base()
    prototypes = (
        ("ggml_get_name", ctypes.c_char_p),  # const char * ggml_get_name(const struct ggml_tensor * tensor)
        ("ggml_nelements", ctypes.c_int64),  # int64_t ggml_nelements(const struct ggml_tensor * tensor)
        ("ggml_nrows", ctypes.c_int64),  # int64_t ggml_nrows(const struct ggml_tensor * tensor)
        ("ggml_nbytes", ctypes.c_size_t),  # size_t ggml_nbytes(const struct ggml_tensor * tensor)
        ("ggml_is_contiguous", ctypes.c_bool),  # bool ggml_is_contiguous(const struct ggml_tensor * tensor)
    )
    for name, result in prototypes:
        function = getattr(lib, name)
        function.argtypes, function.restype = [ctypes.c_void_p], result
    # void ggml_backend_tensor_get(const struct ggml_tensor * tensor, void * data, size_t offset, size_t size)
    get = lib.ggml_backend_tensor_get
    get.argtypes, get.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t], None
    return lib
