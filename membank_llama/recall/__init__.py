"""From a question to ranked memories: candidates, signals, ranking, and the gate that says what is relevant."""

from __future__ import annotations

from .query import RecallQuery, RecallResult

__all__ = ["RecallQuery", "RecallResult"]
