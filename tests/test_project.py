"""What the project promises about itself: names, version, sizes, habits."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import membank_llama

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("membank_llama", "tests", "benchmarks", "models", "hooks", "docs")
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


OLD_HOMES = """
from membank_llama.adapters.llama_cpp import LlamaCppAdapter
from membank_llama.adapters.mock import MockAdapter
from membank_llama.bank import MemBank
from membank_llama.errors import MembankError
from membank_llama.items import IngestResult
from membank_llama.llama import Llama, remember
from membank_llama.passages import split_passages
from membank_llama.pointer import PointerRecord
from membank_llama.recall import RecallResult
from membank_llama.reminder import MemoryOptions
from membank_llama.session import ChatMemory
from membank_llama.types import NewMemory
import membank_llama
names = {name: value for name, value in globals().items() if name in membank_llama.__all__}
assert len(names) == 13, sorted(names)
assert all(getattr(membank_llama, name) is value for name, value in names.items())
"""


def test_what_programs_imported_from_before_is_there_and_says_where_it_is() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "always::DeprecationWarning", "-c", OLD_HOMES],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "membank_llama.types is membank_llama.core.types now" in done.stderr


def test_importing_the_package_prints_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import membank_llama.memory.bank"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""


def test_the_bank_loads_no_host_library() -> None:
    """Whoever encodes elsewhere, or only looks at a bank, waits for none of them."""
    code = (
        "import sys, membank_llama.memory.bank; print([m for m in ('llama_cpp', 'torch', 'typer') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_public_names_mean_one_thing() -> None:
    """No class, function or alias of a type is defined in two modules, and no module is called as another.

    Commands are named as people type them and are left out.
    """
    named, modules = defaultdict(list), defaultdict(list)
    for path in SOURCES:
        where = path.relative_to(ROOT / "membank_llama").as_posix()
        if path.stem not in ("__init__", "app"):
            modules[path.stem].append(where)
        if not where.startswith("cli/commands/"):
            for name in _public(ast.parse(path.read_text(encoding="utf-8"))):
                named[name].append(where)
    assert {name: places for name, places in named.items() if len(places) > 1} == {}
    assert {name: places for name, places in modules.items() if len(places) > 1} == {}


def _public(tree: ast.Module) -> set[str]:
    """The public classes and functions of a module, and its aliases of types, which are in CamelCase."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = {target.id for target in targets if isinstance(target, ast.Name)}
            found |= {name for name in names if re.fullmatch(r"[A-Z]+[a-z]\w*", name)}
    return {name for name in found if not name.startswith("_")}


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


def test_the_picture_of_the_architecture_is_the_tree() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    picture = page.split("```")[1]
    shown = set(re.findall(r"[a-z_]+", picture))
    there = {path.stem for path in SOURCES} - {"__init__", "__main__", "_moved", "_version"}
    assert there <= shown, sorted(there - shown)
    named = {word for line in picture.splitlines() if "·" in line for word in re.findall(r"(?<=· )[a-z_]+", line)}
    assert named <= there, sorted(named - there)


@pytest.mark.parametrize("path", [*SOURCES, *(ROOT / "docs").glob("*.md")], ids=lambda path: path.name)
def test_files_that_a_text_names_are_there(path: Path) -> None:
    """In docs, docstrings and comments: ``name.py`` or ``room/name.py``."""
    files = [one.relative_to(ROOT).as_posix() for folder in FOLDERS for one in (ROOT / folder).rglob("*.py")]
    elsewhere = {"setup.py", "convert_hf_to_gguf.py"}
    named = set(re.findall(r"(?<![\w./-])(?:\w+/)*\w+\.py\b", path.read_text(encoding="utf-8"))) - elsewhere
    gone = {name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in files)}
    assert not gone
