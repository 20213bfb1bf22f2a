"""What the numbers of a KV cache may be; light enough for the command line to know."""

from __future__ import annotations

KV_TYPES = ("f16", "q8_0")
"""The first is the default."""

NUMBER_BYTES = {"f16": 2.0, "q8_0": 34 / 32}
