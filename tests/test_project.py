"""What the project promises about itself: names, version, sizes, habits."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import membank_llama

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "membank_llama").rglob("*.py"))


def test_public_names_are_sorted_and_exist() -> None:
    assert membank_llama.__all__ == sorted(membank_llama.__all__)
    for name in membank_llama.__all__:
        assert getattr(membank_llama, name) is not None


def test_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d[^\]]*)\]", text, re.MULTILINE)
    assert released[0] == membank_llama.__version__


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_files_stay_small_and_say_what_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 400
    if path.name != "_version.py":
        assert ast.get_docstring(tree), "a module docstring gives the idea and the invariant"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 70, f"{node.name} is too long"
        assert not isinstance(node, ast.Assert), "no assert in the package"
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), "no bare except"


def test_importing_the_package_prints_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import membank_llama.memory.bank"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""


def test_what_the_page_on_security_promises_is_tested() -> None:
    """Each promise names the tests that hold it, and they are there."""
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    files = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    tests = {name for text in files.values() for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)}
    named = set(re.findall(r"`(test_\w+(?:\.py)?)`", page))
    assert len(named) > 40
    assert named <= tests | files.keys(), sorted(named - tests - files.keys())
    promises = [line for line in page.splitlines() if line.startswith("| ") and "held by" not in line]
    assert all(re.search(r"`test_\w+(?:\.py)?` \|$|– \|$", line) for line in promises)
