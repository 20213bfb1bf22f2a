"""A model's tokenizers in a process of their own, given what ended them before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SURVEY = """
import sys, threading
from pathlib import Path
from membank_llama.adapters.llama_cpp.file_vocabulary import FileVocabulary
from membank_llama.adapters.llama_cpp.loaded_model import LoadedModel
atoms = ["a", "A", "中", "!", " ", "1", "a b ", "ab cd ", "a1-", "é", "\\u0301a"]
atoms += ["\\n", "½", "_", "aB", "🙂", "0.", "ไ", "１"]
def work():
    size = int(sys.argv[2])
    counts, weights = FileVocabulary(Path(sys.argv[1])), LoadedModel(sys.argv[1])
    for atom in atoms:
        text = (atom * size)[:size]
        assert counts.count(text) <= len(text.encode()) + 1
        assert weights.tokenize("<|im_start|>" + text, specials=True, add=True)
thread = threading.Thread(target=work)  # with the stack that requests have
thread.start()
thread.join()
print("done")
"""


def survives(path: Path, size: int) -> None:
    ran = subprocess.run([sys.executable, "-c", SURVEY, str(path), str(size)], capture_output=True, timeout=250)
    assert ran.stdout.split() == [b"done"], f"{ran.returncode}: {ran.stderr[-500:]!r}"
    assert b"Error" not in ran.stderr
