#!/usr/bin/env python3
"""Run any Python program with a memory, without changing it.

    python hooks/run_with_memory.py [--bank DIR] [--encoder GGUF] [--namespace NAME] program.py [ARG ...]
    python hooks/run_with_memory.py [...] -m package.module [ARG ...]

`llama_cpp.Llama` is replaced by `membank_llama.Llama` before the program starts. A model that is opened for embeddings
keeps none, and where the memory cannot be opened (another process holds it, say) the program runs without it and the
reason is printed to stderr.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path
from typing import Any

import llama_cpp

import membank_llama
from membank_llama import MembankError, MemoryOptions


def switch_on(bank: str | None, encoder: str | None, namespace: str) -> None:
    """Put the remembering class in llama_cpp's place."""
    plain = llama_cpp.Llama

    class Llama(membank_llama.Llama):
        def __init__(self, model_path: str, **kwargs: Any) -> None:
            options = MemoryOptions(namespace=namespace)
            super().__init__(model_path, memory=bank, encoder=encoder, memory_options=options, **kwargs)

    def make(model_path: str, **kwargs: Any) -> llama_cpp.Llama:
        if kwargs.get("embedding") or kwargs.get("vocab_only"):
            return plain(model_path, **kwargs)
        try:
            return Llama(model_path, **kwargs)
        except MembankError as exc:
            print(f"membank: running without memory: {exc}", file=sys.stderr)
            return plain(model_path, **kwargs)

    class Switch(type):
        """Keeps `isinstance(x, Llama)`, class methods and subclassing as they were."""

        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            return make(*args, **kwargs) if cls is switched else super().__call__(*args, **kwargs)

        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, plain)

    switched = Switch("Llama", (plain,), {"__module__": plain.__module__, "__doc__": plain.__doc__})
    llama_cpp.Llama = llama_cpp.llama.Llama = switched  # type: ignore[misc,assignment]


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Run a Python program with llama_cpp.Llama remembering.")
    parser.add_argument("--bank", help="directory of the bank (default: $MEMBANK_BANK or your data directory)")
    parser.add_argument("--encoder", help="GGUF that encodes memories (default: the program's own model)")
    parser.add_argument("--namespace", default="default", help="whose memories")
    parser.add_argument("-m", dest="module", action="store_true", help="PROGRAM is a module")
    parser.add_argument("program", help="a Python file, or a module with -m")
    parser.add_argument("args", nargs=argparse.REMAINDER, help="arguments of the program")
    options = parser.parse_args(argv)
    switch_on(options.bank, options.encoder, options.namespace)
    sys.argv = [options.program, *options.args]
    if options.module:
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(options.program, run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(options.program).resolve().parent)
        runpy.run_path(options.program, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
