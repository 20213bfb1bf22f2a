"""What `/api/tags` and `/api/show` say about a model: family, size, quantisation, capabilities, metadata.

All of it comes from the file's own header, which is true of the file whatever a manifest says about it; where the
header cannot be read, a manifest's description stands in. Headers are read once for each state of a file.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from membank_llama.core.errors import ModelFileError
from membank_llama.gguf.capabilities import read_facts
from membank_llama.gguf.header import GGUFHeader, file_state, read_header, read_metadata

from ..durations import rfc3339
from .catalogue import CatalogueEntry

_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip
_TENSOR_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K",
    12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
    20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64",
    29: "IQ1_M", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip
_INFILL = ("tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id")


def listed(entry: CatalogueEntry) -> dict[str, Any]:
    """A row of `/api/tags`."""
    model = entry.model
    return {
        "name": model.name,
        "model": model.name,
        "modified_at": rfc3339(model.modified_at),
        "size": model.size,
        "digest": model.digest,
        "details": details(entry),
    }


def details(entry: CatalogueEntry) -> dict[str, Any]:
    """The `details` of a model, in any answer that has them."""
    config: Mapping[str, Any] = entry.config or {}
    found = {"family": "", "parameter_size": "", "quantization_level": ""}
    try:
        found = _summary(*file_state(entry.model.path))
    except ModelFileError:
        names = {"family": "model_family", "parameter_size": "model_type", "quantization_level": "file_type"}
        found = {name: str(config.get(key) or "") for name, key in names.items()}
    families = config.get("model_families")
    return {
        "parent_model": entry.parent,
        "format": "gguf",
        "family": found["family"],
        "families": families if isinstance(families, list) and families else [found["family"]],
        "parameter_size": found["parameter_size"],
        "quantization_level": found["quantization_level"],
    }


def capabilities(entry: CatalogueEntry) -> list[str]:
    """What a model can do, in Ollama's words.

    Raises:
        ModelFileError: its file cannot be read.
    """
    facts = read_facts(entry.model.path)
    known = _header(*file_state(entry.model.path)).metadata
    template = entry.model.template or ""
    can = {
        "completion": facts.writes,
        "embedding": not facts.writes,
        "tools": facts.writes and (facts.knows_tools or ".Tools" in template),
        "insert": facts.writes and any(key in known for key in _INFILL),
        "vision": facts.writes and (bool(entry.projectors) or f"{facts.architecture}.vision.block_count" in known),
        "thinking": facts.writes and (facts.thinks or ".Thinking" in template),
    }
    return [name for name, able in can.items() if able]


def model_info(path: Path, *, verbose: bool) -> dict[str, Any]:
    """A file's metadata as `/api/show` has it: without name and chat template, arrays null unless `verbose`."""
    found = dict((_whole_metadata if verbose else _metadata)(*file_state(path)))
    found.pop("general.name", None)
    found.pop("tokenizer.chat_template", None)
    found["general.parameter_count"] = count_parameters(_header(*file_state(path)))
    return dict(sorted(found.items()))


def tensors(path: Path) -> list[dict[str, Any]]:
    """A file's tensors as `/api/show` lists them."""
    return [
        {"name": tensor.name, "type": _TENSOR_TYPES.get(tensor.type, str(tensor.type)), "shape": list(tensor.shape)}
        for tensor in _header(*file_state(path)).tensors
    ]


def count_parameters(header: GGUFHeader) -> int:
    """How many weights a file holds."""
    return sum(math.prod(tensor.shape) for tensor in header.tensors)


def human_number(count: int) -> str:
    """A number of weights as Ollama writes it: 8.0B, 494.03M, 12K."""
    for unit, sign, digits in ((10**12, "T", 1), (10**9, "B", 1), (10**6, "M", 2), (10**3, "K", 0)):
        if count >= unit:
            number = count / unit
            return f"{number:.{0 if number == int(number) else digits}f}{sign}"
    return str(count)


def quantisation(header: GGUFHeader) -> str:
    """The quantisation of a whole file, by the name that llama.cpp gives it."""
    kind = header.metadata.get("general.file_type")
    if isinstance(kind, int):
        return _FILE_TYPES.get(kind, "unknown")
    # what most of it is stored as, where the file does not say
    sizes: Counter[int] = Counter()
    for tensor in header.tensors:
        sizes[tensor.type] += math.prod(tensor.shape)
    return _TENSOR_TYPES.get(sizes.most_common(1)[0][0], "unknown") if sizes else "unknown"


@lru_cache(maxsize=64)
def _metadata(path: Path, _mtime: int, _size: int) -> dict[str, Any]:
    return read_metadata(path, arrays=False)


# a vocabulary takes a second to read and some ten megabytes
@lru_cache(maxsize=1)
def _whole_metadata(path: Path, _mtime: int, _size: int) -> dict[str, Any]:
    return read_metadata(path, arrays=True)


@lru_cache(maxsize=16)
def _header(path: Path, _mtime: int, _size: int) -> GGUFHeader:
    return read_header(path)


@lru_cache(maxsize=1024)
def _summary(path: Path, _mtime: int, _size: int) -> dict[str, str]:
    header = read_header(path)
    return {
        "family": header.architecture,
        "parameter_size": human_number(count_parameters(header)),
        "quantization_level": quantisation(header),
    }
