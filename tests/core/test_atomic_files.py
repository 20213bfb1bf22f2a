"""A file is replaced whole, or stays as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from membank_llama.core.atomic_files import replacing, write_whole


def test_a_file_is_replaced_and_private(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.name == "nt" or path.stat().st_mode & 0o777 == 0o600
    with replacing(path, "w") as file:
        file.write("ünï\ncode")
        assert path.read_bytes() == b"two"
    assert path.read_bytes() == "ünï\ncode".encode()
    assert [found.name for found in tmp_path.iterdir()] == ["kept"]


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    write_whole(path, b"one")
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    (tmp_path / "taken" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        write_whole(tmp_path / "taken", b"one")
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "nowhere" / "kept", b"one")
    assert path.read_bytes() == b"one"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["kept", "taken"]
