"""The model that comes along: a toy that answers from its notes and knows nothing else.

It lies in the installed package, or in `models/` of a checkout; `models/train_recall_tiny.py` makes it.
"""

from __future__ import annotations

from pathlib import Path

from membank_llama.core.errors import ModelNotFoundError

FILE = "recall-tiny.gguf"
NAME = "recall-tiny"
UNKNOWN = "I don't know. You have not told me that yet."
NOTED = "Got it, I will remember that."

_ROOM = Path(__file__).resolve().parent
_PLACES = (_ROOM / FILE, _ROOM.parent.parent / "models" / FILE)


def embedded_model() -> Path:
    """The embedded model's file.

    Raises:
        ModelNotFoundError: it was left out of this installation.
    """
    for path in _PLACES:
        if path.is_file():
            return path
    raise ModelNotFoundError(
        f"the embedded model {FILE} is not part of this installation; name a model: a GGUF path, "
        "hf:owner/repo/file.gguf, or one that Ollama has"
    )


def is_embedded(path: Path) -> bool:
    """Whether a file is the embedded model."""
    return path.name == FILE and any(place.is_file() and place.samefile(path) for place in _PLACES)
