"""`ServedModel`: a model as clients name it, and the file behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ServedModel:
    """A model that can be asked for.

    Args:
        name: with its tag, as Ollama lists it: ``llama3.2:latest``.
        path: its GGUF.
        digest: 64 hex digits that change with the model; of the manifest, as Ollama has it, where there is one.
        size: bytes of the file.
        modified_at: seconds since 1970.
        parameters: defaults of its Modelfile: ``{"temperature": 0.7, "stop": ["…"]}``.
        system: the system message of its Modelfile.
        template: the template of its Modelfile, in Go's language: shown, never run.
        license: the licences' texts.
        messages: the messages of its Modelfile.
        named: whether the user named this very file; what lies in a store or a folder may come from anywhere.
    """

    name: str
    path: Path
    digest: str
    size: int
    modified_at: float
    parameters: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None
    template: str | None = None
    license: tuple[str, ...] = ()
    messages: tuple[Mapping[str, Any], ...] = ()
    named: bool = False
