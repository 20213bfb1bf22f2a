"""What a shell offers where Tab is pressed: banks, and models that are on this machine.

Where nothing is offered the shell goes on with the names of files, as it does everywhere.
"""

from __future__ import annotations

from pathlib import Path

from membank_llama.core.errors import MembankError


def bank_names(incomplete: str) -> list[str]:
    """Banks of the data directory, by their paths."""
    from membank_llama.core.paths import default_bank

    from .bank_choice import banks_in

    found = [str(path) for path in banks_in(default_bank().parent)]
    return [path for path in found if path.startswith(incomplete)]


def model_names(incomplete: str) -> list[str]:
    """Models of Ollama's store, and GGUFs of the folder that was typed so far."""
    from membank_llama.gguf.ollama_store import list_ollama_models

    typed = Path(incomplete)
    folder = typed if incomplete.endswith("/") else typed.parent
    start = incomplete[: len(incomplete) - len("" if incomplete.endswith("/") else typed.name)]
    try:
        files = [f"{start}{entry.name}" for entry in folder.expanduser().iterdir() if entry.suffix.lower() == ".gguf"]
    except OSError:
        files = []
    try:
        names = [model.name for model in list_ollama_models()]
    except (MembankError, OSError):
        names = []
    return [name for name in (*sorted(names), *sorted(files)) if name.startswith(incomplete)]
