"""`ModelFacts`: what a GGUF says about itself before it is loaded.

Read from the header alone, and kept for as long as the file does not change, so that a request that the
model cannot serve is refused without loading it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from membank_llama.core.thoughts import ThoughtTag, tag_of

from .header import file_state, read_header

_POOLING_RANK = 4


@dataclass(frozen=True)
class ModelFacts:
    """Of one file: `pooling` is llama.cpp's number, None or 0 for a model that writes."""

    architecture: str
    n_ctx_train: int
    pooling: int | None
    template: str | None
    causal: bool = True
    """Whether a token sees only those ahead of it, as in every model that chats."""

    @property
    def embeds(self) -> bool:
        """Whether it was made for embeddings."""
        return bool(self.pooling) and self.pooling != _POOLING_RANK

    @property
    def writes(self) -> bool:
        """Whether it generates text."""
        return not self.pooling

    @property
    def thinks(self) -> bool:
        """Whether its chat template knows of thinking."""
        return self.thought_tag is not None

    @property
    def thought_tag(self) -> ThoughtTag | None:
        """How it writes what it thinks, by its chat template; None for a model that does not think."""
        return tag_of(self.template)

    @property
    def knows_tools(self) -> bool:
        """Whether its chat template shows tools to the model."""
        return self.template is not None and "tools" in self.template


def read_facts(path: Path) -> ModelFacts:
    """The facts of a file.

    Raises:
        ModelFileError: it is missing, damaged or no GGUF.
    """
    return _read(*file_state(path))


@lru_cache(maxsize=64)
def _read(path: Path, _mtime: int, _size: int) -> ModelFacts:
    header = read_header(path)
    meta, arch = header.metadata, header.architecture
    pooling, template = meta.get(f"{arch}.pooling_type"), meta.get("tokenizer.chat_template")
    trained = meta.get(f"{arch}.context_length", 0)
    return ModelFacts(
        architecture=arch,
        n_ctx_train=trained if isinstance(trained, int) else 0,
        pooling=pooling if isinstance(pooling, int) else None,
        causal=meta.get(f"{arch}.attention.causal") is not False,
        template=template if isinstance(template, str) and template.strip() else None,
    )
