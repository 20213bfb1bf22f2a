"""Where the project lies, and the real models beside it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MODELS = ROOT.parent / "shared" / "models"
