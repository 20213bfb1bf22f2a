"""The header reader: what it accepts, what it refuses and how, and when two files are the same model."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from support.made_models import make_tiny

from membank_llama.core.errors import ModelFileError
from membank_llama.gguf.fingerprint import fingerprint
from membank_llama.gguf.header import read_header


def test_header_of_a_good_file(tiny_gguf: Path) -> None:
    header = read_header(tiny_gguf)
    assert header.architecture == "llama"
    assert header.metadata["llama.block_count"] == 4
    assert header.metadata["tokenizer.ggml.tokens"] > 256  # of arrays, the length
    assert {"token_embd.weight", "blk.3.ffn_down.weight"} <= {t.name for t in header.tensors}
    assert max(t.offset + t.nbytes for t in header.tensors) <= header.file_size == tiny_gguf.stat().st_size
    assert header.file_size < 1_000_000


def test_header_agrees_with_the_gguf_package(tiny_gguf: Path, minilm_gguf: Path) -> None:
    gguf = pytest.importorskip("gguf")
    for path in (tiny_gguf, minilm_gguf):
        theirs = {t.name: (t.data_offset, t.n_bytes) for t in gguf.GGUFReader(path).tensors}
        assert {t.name: (t.offset, t.nbytes) for t in read_header(path).tensors} == theirs


def test_making_it_twice_gives_the_same_bytes(tiny_gguf: Path, tmp_path: Path) -> None:
    again = make_tiny().make_model(tmp_path / "again.gguf", **make_tiny().SIZES["tiny"])
    assert again.read_bytes() == tiny_gguf.read_bytes()


def test_another_name_is_the_same_model(tiny_gguf: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(tiny_gguf, tmp_path / "renamed.gguf"))
    assert fingerprint(copy) == fingerprint(tiny_gguf)
    assert len(fingerprint(copy)) == 64


def test_what_changes_no_vector_is_the_same_model(stories_gguf: Path, stories_chatml_gguf: Path) -> None:
    assert fingerprint(stories_gguf) == fingerprint(stories_chatml_gguf)  # only the chat template differs


@pytest.mark.parametrize("change", [{"quantisation": "q8_0"}, {"seed": 1}, {"n_layer": 3}, {"n_head": 8}])
def test_another_quantisation_or_weights_is_another_model(tiny_gguf: Path, tmp_path: Path, change: dict) -> None:
    other = make_tiny().make_model(tmp_path / "other.gguf", **change)
    assert fingerprint(other) != fingerprint(tiny_gguf)


def test_changed_tensor_bytes_are_another_model(tiny_gguf: Path, tmp_path: Path) -> None:
    data = bytearray(tiny_gguf.read_bytes())
    tensor = next(t for t in read_header(tiny_gguf).tensors if t.name == "blk.2.attn_q.weight")
    data[tensor.offset : tensor.offset + tensor.nbytes] = bytes(tensor.nbytes)
    changed = tmp_path / "changed.gguf"
    changed.write_bytes(data)
    assert fingerprint(changed) != fingerprint(tiny_gguf)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cannot be read as a model"),
        (b"PK\x03\x04 not a model", "not a GGUF"),
        (b"GG", "not a GGUF"),
        (b"GGUF", "header"),
        (b"GGUF\x01\x00\x00\x00" + bytes(16), "version 1"),
        (b"GGUF\x03\x00\x00\x00" + bytes(16), "no tensors"),
        (b"GGUF\x03\x00\x00\x00" + b"\xff" * 16, "header"),
        (b"GGUF\x03\x00\x00\x00" + bytes(7) + b"\x01" + bytes(8) + bytes(4096), "header"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=says):
        read_header(path)


def test_missing_file_and_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no model file at"):
        read_header(tmp_path / "none.gguf")
    with pytest.raises(ModelFileError, match=r"directory|cannot be read"):
        read_header(tmp_path)


def test_cut_short_anywhere_is_refused(tiny_gguf: Path, tmp_path: Path) -> None:
    data = tiny_gguf.read_bytes()
    start = read_header(tiny_gguf).data_start
    path = tmp_path / "short.gguf"
    for cut in [*range(0, start, 97), *range(start, len(data), 60_007), len(data) - 1]:
        path.write_bytes(data[:cut])
        with pytest.raises(ModelFileError, match=r"cut short|header|not a GGUF|cannot be read"):
            read_header(path)


def test_random_damage_is_read_or_refused_but_nothing_else(tiny_gguf: Path, tmp_path: Path) -> None:
    data = tiny_gguf.read_bytes()
    start = read_header(tiny_gguf).data_start
    rng, path, refused = random.Random(5), tmp_path / "damaged.gguf", 0
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 1, 4, 16))):
            damaged[rng.randrange(start)] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            read_header(path)
        except ModelFileError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 50


def test_all_parts_of_a_split_model_count(tiny_gguf: Path, tmp_path: Path) -> None:
    first, second = (tmp_path / f"m-0000{n}-of-00002.gguf" for n in (1, 2))
    shutil.copy(tiny_gguf, first)
    with pytest.raises(ModelFileError, match="00002-of-00002"):
        fingerprint(first)
    shutil.copy(tiny_gguf, second)
    assert fingerprint(first) == fingerprint(second) != fingerprint(tiny_gguf)
