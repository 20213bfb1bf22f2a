"""The embedded model's file: what it is, that llama.cpp computes what torch did, and that every installation has it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import pytest
from support.terminals import ROOT, environment, membank

from membank_llama.core.errors import ModelNotFoundError
from membank_llama.gguf import builtin
from membank_llama.gguf.builtin import FILE, embedded_model, is_embedded

MODEL = ROOT / "models" / FILE
REFERENCE = ROOT / "models" / "recall-tiny-logits.json"
MOST_BYTES = 8_000_000
TOLERANCE = 1e-2
STRINGS = 3000


@pytest.fixture(scope="module")
def metadata() -> dict[str, Any]:
    return {field.name: field.contents() for field in gguf.GGUFReader(str(MODEL)).fields.values()}


@pytest.fixture(scope="module")
def llm() -> Iterator[llama_cpp.Llama]:
    opened = llama_cpp.Llama(
        str(MODEL), n_ctx=1024, n_threads=1, n_threads_batch=1, logits_all=True, type_k=0, type_v=0, verbose=False
    )
    yield opened
    opened.close()


def test_it_is_small_and_says_where_it_comes_from(metadata: dict[str, Any]) -> None:
    assert MODEL.stat().st_size <= MOST_BYTES
    assert metadata["general.architecture"] == "llama"
    assert metadata["general.license"] == "MIT"
    assert "im_start" in metadata["tokenizer.chat_template"]
    training, metrics = (json.loads(metadata[f"membank.{part}"]) for part in ("training", "metrics"))
    assert "generated" in training["data"]
    assert training["steps"] > 0
    assert metrics["held-out names, 1–8 memories"] > 0.9


def test_logits_are_those_of_torch(llm: llama_cpp.Llama) -> None:
    reference = json.loads(REFERENCE.read_text(encoding="utf-8"))
    assert len(reference["prompts"]) == 100
    for row in reference["prompts"]:
        llm.reset()
        llm.eval(row["ids"])
        logits = llm.scores[len(row["ids"]) - 1, :: reference["stride"]]
        np.testing.assert_allclose(logits, row["logits"], atol=TOLERANCE, rtol=0)


def strings() -> Iterator[str]:
    """Printable strings of all kinds: words, numbers, spaces, scripts, marks, symbols."""
    rng = random.Random("strings")
    printable = [chr(code) for code in range(32, 0x2FFF) if unicodedata.category(chr(code))[0] in "LNPSZM"]
    ascii_ = [chr(code) for code in range(32, 127)]
    yield from (
        "",
        " ",
        "  ",
        "   a",
        "a   ",
        "don't I'll we've",
        "4719",
        " 4719 ",
        "A1b22C333",
        "½ ² Ⅷ",
        "a\nb\n\nc\t d",
    )
    for number in range(STRINGS):
        alphabet = ascii_ if number % 2 else printable
        yield "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 24)))


def test_tokens_are_those_of_the_tokenizer_it_was_trained_with(llm: llama_cpp.Llama, metadata: dict[str, Any]) -> None:
    pytest.importorskip("tokenizers", reason="needs tokenizers, of the extras dev and train")
    from recall_tiny.vocabulary import from_parts

    tokenizer = from_parts(metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.merges"])
    for text in strings():
        theirs = llm.tokenize(text.encode(), add_bos=False, special=False)
        assert theirs == tokenizer.encode(text, add_special_tokens=False).ids, repr(text)


def test_every_string_comes_back_from_its_tokens(llm: llama_cpp.Llama) -> None:
    for text in strings():
        tokens = llm.tokenize(text.encode(), add_bos=False, special=False)
        assert llm.detokenize(tokens).decode() == text


# -- where it is found


def test_it_is_found_in_a_checkout() -> None:
    assert embedded_model() == MODEL
    assert is_embedded(MODEL)
    assert not is_embedded(MODEL.with_name("other.gguf"))


def test_a_file_of_that_name_elsewhere_is_another(tmp_path: Path) -> None:
    other = tmp_path / FILE
    other.write_bytes(b"GGUF")
    assert not is_embedded(other)


def test_an_installation_without_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin, "_PLACES", (tmp_path / FILE,))
    with pytest.raises(ModelNotFoundError, match="name a model"):
        embedded_model()


def test_a_wheel_brings_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if tracked.returncode:
        pytest.skip("needs the repository")
    for name in tracked.stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(source)],
        capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    if built.returncode and "setuptools" in built.stderr and "No matching distribution" in built.stderr:
        pytest.skip("needs setuptools from a package registry")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    place = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    assert (place / "membank_llama" / "gguf" / FILE).read_bytes() == MODEL.read_bytes()
    told = subprocess.run(
        [sys.executable, "-m", "membank_llama", "demo", "--fast"],
        cwd=tmp_path, env={**environment(), "PYTHONPATH": str(place), "PATH": os.environ["PATH"]},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr
    assert "6 of 6 answers" in told.stdout


def test_help_names_the_toy() -> None:
    assert "toy" in membank("chat", "--help").out
