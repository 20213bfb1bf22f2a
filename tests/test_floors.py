"""Modules import only from floors below their own; the map is the architecture."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "membank_llama"

FLOORS = {
    "_version": 0, "errors": 0, "types": 0, "paths": 0, "logs": 0, "families": 0, "lookalikes": 0, "surrogates": 0,
    "embedded": 0.5, "views": 0.5, "children": 0,
    "hgns": 0.5, "hgns.base": 1, "hgns.gradient": 1, "hgns.digits": 1.2, "hgns.selection": 1.2,
    "hgns.axes": 1.2, "hgns.spending": 1.2, "hgns.axial": 1.3, "hgns.hierarchy": 1.4,
    "bank_files": 0.8, "checksums": 0.5, "schema_check": 1.1, "commit_note": 1, "memory_rows": 1,
    "graph_file": 0.9, "bank_records": 1.7, "verification": 3.1, "row_checks": 1.5, "rewriting": 3.1,
    "pointer": 1, "buffer": 1, "lock": 1, "traits": 0.5, "schema": 1, "index": 1.2, "prompt": 1, "gguf_file": 1,
    "gguf_checks": 1.1, "trial": 1.2, "sources": 1.2,
    "passages": 1, "forms": 0.5, "lexical": 1, "timewords": 1, "alike": 1.2, "streams": 1,
    "tokenizing": 1, "vocabulary": 1.2,
    "days": 0.5, "background": 1, "full_text": 0.5, "word_index": 1.3, "removal": 1.5, "expiry": 1.7, "newest": 0.5,
    "database": 1.2, "registry": 1.4, "passage_rows": 1.5, "encoding": 1.6, "indexing": 1.6, "placement": 1.6,
    "roster": 1.6, "speakers": 1.8, "signals": 1.8, "query": 2,
    "store": 2, "watch": 1.8, "capture": 2,
    "adapters": 3.4, "adapters.base": 3, "adapters.templates": 2.8, "adapters.windows": 3, "adapters.layers": 3.1,
    "adapters.mock": 3.2, "adapters.words": 3.3, "adapters.ollama": 3.2,
    "adapters.llama_cpp": 3.2, "adapters.huggingface": 3.2,
    "gate": 3, "thresholds": 3.1, "calibrator": 3.8, "index_plan": 1.3, "indexed_vectors": 1.5, "stored_vectors": 1.9,
    "scope": 3.1, "ranking": 3.15, "excerpts": 3.17, "recall": 3.2, "upkeep": 3.2,
    "calibration": 3.4, "items": 3.4, "validation": 0.7, "recorded": 3.6, "asking": 3.6,
    "benching": 3.4, "benching.questions": 3.5, "benching.metrics": 3.5, "benching.encoder": 3.6,
    "bank": 4,
    "wire": 1, "intake": 1.1, "origins": 1.2,
    "engine.facts": 2.1, "engine.fields": 2, "engine.durations": 2, "engine.options": 2, "engine.grammars": 2.2,
    "engine.bridge": 2, "engine.exchange": 2, "engine.template": 2, "engine.messages": 2.2, "engine.rendering": 2.2,
    "engine.grammar_worker": 1.9, "engine.native": 2.5,
    "engine.sampling": 2.6, "engine.generation": 2.7, "engine.prompting": 2.7, "engine.thinking": 2.7,
    "engine.tools": 2.7, "engine.answering": 2.8, "engine.asking": 2.9, "engine.embedder": 3.5, "engine.loading": 4,
    "engine.serving": 4.2, "engine.ollama": 4.4, "engine.openai": 4.4, "engine.embeddings": 4.4, "engine.app": 5,
    "engine.layers": 2.2, "engine.catalogue": 3, "engine.metadata": 2, "engine.details": 3.2, "engine.store": 3,
    "engine.remote": 2, "engine.downloads": 3.3, "engine.pull": 3.4, "engine.modelfile": 3.4, "engine.management": 4.4,
    "engine": 6.5, "engine.served": 2, "engine.trial_worker": 3.6,
    "proxy": 6.5, "proxy.dialects": 6.1, "proxy.whose": 6, "proxy.sidecalls": 6, "proxy.conversations": 6.2,
    "proxy.vocabularies": 6, "proxy.learner": 6.3, "proxy.polite": 6, "proxy.memory": 6.4, "proxy.upstream": 6,
    "proxy.metrics": 6, "proxy.contexts": 6, "proxy.targets": 6.1, "proxy.replies": 6.15,
    "proxy.way": 6.6, "proxy.operations": 6.6, "proxy.app": 6.7, "proxy.server": 6,
    "reminder": 4.5, "session": 5, "tuning": 5, "benching.recall": 5.2, "traces": 5.2, "transfer": 5,
    "llama": 6, "terminal": 6, "conversation": 6,
    "chat": 7, "demo": 7,
    "commands": 7.1, "commands.base": 7.2, "commands.memories": 7.5, "commands.upkeep": 7.5, "commands.chatting": 7.5,
    "commands.bench_encoder": 7.5, "commands.bench_recall": 7.5, "commands.tuning": 7.5, "commands.serving": 7.5,
    "cli": 8, "__init__": 8, "__main__": 9,
}  # fmt: skip
LAZY_ALLOWED = {"cli", "commands", "__init__"}


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found.append((name, path))
    return found


def imported(path: Path, name: str) -> Iterator[tuple[str, bool]]:
    """(module of the package, whether inside a function) for every import of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    package = name.split(".") if path.name == "__init__.py" and name != "__init__" else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            target = ".".join([*base, *([node.module] if node.module else [])])
            names = [target] if node.module else [".".join([*base, alias.name]) for alias in node.names]
            yield from ((found, id(node) in inner) for found in names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "membank_llama":
            yield (node.module or "").partition(".")[2] or "__init__", id(node) in inner
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "membank_llama":
                    yield alias.name.partition(".")[2] or "__init__", id(node) in inner


@pytest.mark.parametrize(("name", "path"), modules(), ids=[name for name, _ in modules()])
def test_imports_come_from_below(name: str, path: Path) -> None:
    room = name.split(".")[0]
    assert name in FLOORS, f"{name} has no floor yet: give it one in tests/test_floors.py"
    floor = FLOORS[name]
    for target, lazy in imported(path, name):
        known = target if target in FLOORS else target.split(".")[0]
        assert known in FLOORS, f"{name} imports {target}, which has no floor"
        assert FLOORS[known] < floor, f"{name} (floor {floor}) imports {target} (floor {FLOORS[known]})"
        assert not lazy or room in LAZY_ALLOWED, f"{name} imports {target} inside a function"
