"""Write measured figures into the metadata of a GGUF that is already there."""

from __future__ import annotations

import json
from pathlib import Path

import gguf

KEY = "membank.metrics"


def record(path: Path, figures: dict[str, float]) -> None:
    """The same file with `figures` as its metrics, everything else as it was."""
    reader = gguf.GGUFReader(str(path))
    partial = path.with_suffix(".part")
    writer = gguf.GGUFWriter(str(partial), "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in (KEY, gguf.Keys.General.ARCHITECTURE):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
    writer.add_string(KEY, json.dumps({name: round(value, 4) for name, value in figures.items()}))
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    del reader
    partial.replace(path)
