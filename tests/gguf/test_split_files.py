"""Names of models in several files."""

from __future__ import annotations

from pathlib import Path

import pytest

from membank_llama.gguf.split_files import part_names, part_number, parts_of, whole_name


def test_a_split_model() -> None:
    names = ["m-Q4-00001-of-00003.gguf", "m-Q4-00002-of-00003.gguf", "m-Q4-00003-of-00003.gguf"]
    for number, name in enumerate(names, 1):
        assert part_number(name) == number
        assert part_names(name) == names
        assert whole_name(name) == "m-Q4.gguf"
        assert parts_of(Path("models") / name) == [Path("models") / one for one in names]


@pytest.mark.parametrize("name", ["m.gguf", "m-00001-of-00002.bin", "m-1-of-2.gguf", "m-00001-of-00002.gguf.part", ""])
def test_a_model_in_one_file(name: str) -> None:
    assert part_number(name) is None
    assert part_names(name) == [name]
    assert whole_name(name) == name
