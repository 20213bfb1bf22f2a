"""Rooms import only from rooms below their own, and no file imports in a circle; the map is the architecture."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "membank_llama"

FLOORS = {
    "core": 0,
    "gguf": 1,
    "hgns": 1,
    "adapters": 2,
    "kv": 3,
    "store": 4,
    "recall": 5,
    "memory": 6,
    "server": 7,
    "cli": 8,
}
AT_THE_ROOT = {"__init__", "__main__", "_moved", "_version"}
OWNERS = {
    "hnswlib": ("store/",),
    "httptools": ("server/proxy/upstream_connection",),
    "llama_cpp": ("adapters/llama_cpp/", "kv/", "memory/llama_with_memory.py", "server/engine/", "cli/demo.py"),
    "sqlite3": ("store/", "cli/bench/recall.py"),
    "sqlite_utils": ("store",),
    "starlette": ("server",),
    "typer": ("cli",),
    "uvicorn": ("server",),
    "rich": ("cli",),
}
"""Libraries of others, and where alone they are used."""

FILES = {path.relative_to(PACKAGE).with_suffix("").as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}


def room(name: str) -> str:
    return name.split("/")[0]


def imported(name: str) -> Iterator[tuple[str, bool]]:
    """(module, whether inside a function) for all that a file imports; of the package by its path in it."""
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    inner = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    folder = name.split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.replace(".", "/"), id(node) in inner) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".") if node.module else []
            above = ["membank_llama", *folder[: len(folder) - node.level + 1]] if node.level else []
            whole = "/".join([*above, *module])
            parts = [f"{whole}/{alias.name}" for alias in node.names]
            yield from ((part if _own(part) in FILES else whole, id(node) in inner) for part in parts)


def _own(module: str) -> str:
    """The file of the package that a module is; empty for modules of others."""
    name = module.removeprefix("membank_llama/")
    if name == module:
        return "__init__" if module == "membank_llama" else ""
    return name if name in FILES else f"{name}/__init__"


@pytest.mark.parametrize("name", FILES)
def test_rooms_import_from_below(name: str) -> None:
    for module, lazy in imported(name):
        target = _own(module)
        if not target or name in AT_THE_ROOT:
            continue
        assert target in FILES, f"{name} imports {module}, which is not there"
        if target == "__init__" or room(target) in AT_THE_ROOT:
            continue
        assert room(target) == room(name) or FLOORS[room(target)] < FLOORS[room(name)], f"{name} imports {target}"
        assert not lazy or room(name) == "cli", f"{name} imports {target} inside a function"


def test_no_file_imports_in_a_circle() -> None:
    graph = {name: {_own(module) for module, _ in imported(name)} & FILES.keys() - {"__init__"} for name in FILES}
    assert len(list(TopologicalSorter(graph).static_order())) == len(FILES)


@pytest.mark.parametrize("library", OWNERS)
def test_libraries_of_others_have_one_owner(library: str) -> None:
    users = [name for name in FILES for module, _ in imported(name) if module.split("/")[0] == library]
    assert users
    strangers = [name for name in users if not f"{name}.py".startswith(OWNERS[library])]
    assert not strangers, f"{strangers} import {library}"


def test_private_parts_of_llama_cpp_python_are_touched_in_one_file() -> None:
    private = re.compile(
        r"llama_cpp import _|llama_cpp\._(?!_)|\._model\.model\b|\._exit_stack|\._(?:ctx|batch)\.(?:ctx|batch)\b"
    )
    touching = {name for name, path in FILES.items() if private.search(path.read_text(encoding="utf-8"))}
    assert touching == {"adapters/llama_cpp/private_api"}


def test_every_room_has_a_floor() -> None:
    assert {room(name) for name in FILES} == FLOORS.keys() | AT_THE_ROOT
