"""Where banks and models live when nobody says where."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def default_bank(name: str = "default") -> Path:
    """$MEMBANK_BANK, or the directory of this name in the user's data directory."""
    chosen = os.environ.get("MEMBANK_BANK")
    return Path(chosen) if chosen else platformdirs.user_data_path("membank-llama", appauthor=False) / name


def default_models() -> Path:
    """$MEMBANK_MODELS, or the folder for models in the user's data directory."""
    chosen = os.environ.get("MEMBANK_MODELS")
    return Path(chosen) if chosen else platformdirs.user_data_path("membank-llama", appauthor=False) / "models"


def default_cache() -> Path:
    """$MEMBANK_CACHE, or the user's cache directory for what can be found out again."""
    chosen = os.environ.get("MEMBANK_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("membank-llama", appauthor=False)
