"""The launcher runs a program it knows nothing of, twice; the second run is reminded of the first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from membank_llama.adapters.hashing import MockAdapter
from membank_llama.memory.bank import MemBank

ROOT = Path(__file__).resolve().parent.parent.parent
LAUNCHER = ROOT / "hooks" / "run_with_memory.py"

PROGRAM = """
import json, sys
import llama_cpp
from llama_cpp import Llama

class Mine(Llama):
    pass

llm = Llama(sys.argv[1], n_ctx=512, n_threads=1, verbose=False)
reply = llm.create_chat_completion([{"role": "user", "content": sys.argv[2]}], max_tokens=8, temperature=0.0)
prompt = llm.detokenize(llm._input_ids[: llm.n_tokens].tolist()).decode("utf-8", "replace")
print(json.dumps({"prompt": prompt, "object": reply["object"], "is": isinstance(llm, Llama), "name": __name__,
                  "argv": sys.argv[1:], "sub": issubclass(Mine, Llama)}))
llm.close()
"""


def run(program: Path, bank: Path, *args: str, module: bool = False) -> tuple[dict[str, object], str]:
    target = ["-m", program.stem] if module else [str(program)]
    done = subprocess.run(
        [sys.executable, str(LAUNCHER), "--bank", str(bank), *target, *args],
        capture_output=True,
        text=True,
        cwd=program.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_a_program_remembers_across_runs(stories_chatml_gguf: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    model, bank = str(stories_chatml_gguf), tmp_path / "bank"
    told, _ = run(program, bank, model, "My sister Ana lives in Porto.")
    assert told["is"] and told["sub"] and told["name"] == "__main__" and told["object"] == "chat.completion"
    asked, _ = run(program, bank, model, "Where does my sister Ana live?", module=True)
    assert "Porto" in str(asked["prompt"])
    assert asked["argv"] == [model, "Where does my sister Ana live?"]


def test_without_its_bank_the_program_still_runs(stories_chatml_gguf: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    with MemBank(MockAdapter(hidden_dim=64), tmp_path / "bank") as bank:
        bank.ingest("My sister Ana lives in Porto.")
        told, stderr = run(program, tmp_path / "bank", str(stories_chatml_gguf), "Where does my sister Ana live?")
        assert "running without memory" in stderr and str(os.getpid()) in stderr
        assert "Porto" not in str(told["prompt"])
        assert bank.verify().ok
