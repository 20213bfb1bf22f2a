"""Every hostile GGUF: loaded straight, as the user's own, and answered with, it ends no process and fills no memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.hostile_files import CHANGES, RAW
from support.hostile_gguf import changed

USED = """
import os, resource, sys
from pathlib import Path
from threading import Event
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
from membank_llama.server.engine.generation.answer import write_answer
from membank_llama.server.engine.generation.conversation_request import ConversationRequest, RequestedModel
from membank_llama.server.engine.runtime.embedder import Embedder
from membank_llama.gguf.capabilities import read_facts
from membank_llama.gguf.header import read_metadata
from membank_llama.server.engine.generation.generation_context import GenerationContext
from membank_llama.server.engine.generation.sampling_options import SamplingOptions
from membank_llama.server.engine.library.served_model import ServedModel
from membank_llama.core.errors import MembankError
from membank_llama.adapters.llama_cpp.file_vocabulary import FileVocabulary
from membank_llama.server.asgi import WireError
path = Path(sys.argv[1])
try:
    facts = read_facts(path)
    read_metadata(path, arrays=True)
    exact = FileVocabulary(path)
    exact.count("hello <|im_end|> wörld \\U0001f600" * 50), exact.controls, exact.close()
    if facts.embeds:
        Embedder(path, 1, 0, 512).encode(["hello world" * 100])
    else:
        model = GenerationContext(path, n_ctx=512, n_threads=1, n_gpu_layers=0)
        target = RequestedModel("x", ServedModel(name="x", path=path, digest="0", size=1, modified_at=0.0), facts)
        said = [{"role": "user", "content": "hello there " * 20}]
        ask = ConversationRequest(target, said, SamplingOptions(num_predict=6, seed=1))
        list(write_answer(model, ask.plan(model), Event()))
        model.close()
except (MembankError, WireError, ValueError) as exc:
    print("told", type(exc).__name__)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
print("peak", peak)
sys.stdout.flush()
os._exit(0 if peak < 1024 else 9)
"""


@pytest.mark.attack
@pytest.mark.parametrize("name", [*CHANGES, *RAW])
def test_it_is_told_or_loaded(tmp_path: Path, recall_tiny: Path, name: str) -> None:
    path = tmp_path / "m.gguf"
    if name in RAW:
        path.write_bytes(RAW[name])
    else:
        changed(recall_tiny, path, CHANGES[name])
    ran = subprocess.run([sys.executable, "-c", USED, str(path)], capture_output=True, timeout=60)
    assert ran.returncode == 0, (ran.stdout[-300:], ran.stderr[-1000:])
