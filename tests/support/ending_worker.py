"""For a child process: loads a file without any check, as llama.cpp would be asked to by somebody careless."""

from __future__ import annotations

import json

import llama_cpp


def answer(request: bytes) -> bytes:
    path, _ = json.loads(request)
    params = llama_cpp.llama_model_default_params()
    llama_cpp.llama_model_load_from_file(path.encode(), params)
    return b""
