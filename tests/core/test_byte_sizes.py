"""Bytes as people read them."""

from __future__ import annotations

import pytest

from membank_llama.core.byte_sizes import size


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (1024, "1.0 KB"), (1500, "1.5 KB"), (99_940, "99.9 KB"),
        (99_960, "100 KB"), (123_456, "123 KB"), (999_499, "999 KB"), (999_600, "1.0 MB"), (2_500_000, "2.5 MB"),
        (7e9, "7.0 GB"), (1.25e13, "12,500.0 GB"),
    ],
)  # fmt: skip
def test_sizes_are_said_by_thousands(count: float, said: str) -> None:
    assert size(count) == said
