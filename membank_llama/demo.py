"""The demo: one process is told things and ends; another, started anew, is asked about them.

Nothing passes between the two but the bank's directory. The second fails where a memory that was asked for does not
stand in the prompt. With the tiny models at hand the replies themselves mean little, and the demo says so.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from .bank import MemBank
from .errors import ModelNotFoundError
from .items import IngestResult
from .llama import Llama
from .sources import resolve_model
from .terminal import ACCENT, facts_table, out, plain, recall_table, size, visible
from .types import NewMemory

FACTS = (
    "The dentist appointment is on 14 March at half past nine.",
    "The code of my bicycle lock is 4719.",
    "My sister Ilse keeps bees behind the old mill.",
    "I cannot eat walnuts, they make my throat swell.",
    "The spare key lies under the blue flower pot by the shed.",
    "Our wifi at the cabin is called Heron and has no password.",
    "Grandmother's plum cake needs a kilo of plums and no eggs.",
    "I learn the cello with Mrs Okafor on Thursdays.",
)
CONVERSATION = (
    "In May I start a new job at the observatory in Lisbon.",
    "While I am away our neighbour Tomasz feeds the cat.",
)


@dataclass(frozen=True)
class Question:
    """What is asked, and a word of the memory that must come back."""

    text: str
    expected: str


QUESTIONS = (
    Question("What is the code of my bicycle lock?", "4719"),
    Question("When is my dentist appointment?", "14 March"),
    Question("Who feeds the cat while I am away?", "Tomasz"),
)
_TOO_SMALL_TO_ANSWER = 20_000_000
_SHARED = Path("..") / "shared" / "models"
_CONTEXT = 2048
_TEMPERATURE = 0.7


def run(model: str | None, encoder: str | None, *, fast: bool = False) -> int:
    """Run both processes on a bank that is gone afterwards; returns the exit status of the first that failed, or 0."""
    with tempfile.TemporaryDirectory(prefix="membank-demo-") as directory:
        chat_model = _chat_model(model, Path(directory))
        encoding = _encoder(encoder, chat_model)
        told = [str(Path(directory) / "bank"), str(chat_model), str(encoding or ""), "16" if fast else "40"]
        for command in ("demo-tell", "demo-ask"):
            # nothing here comes from outside but paths, and no shell reads them
            done = subprocess.run([sys.executable, "-m", "membank_llama", command, *told], check=False)  # noqa: S603
            if done.returncode:
                return done.returncode
        if chat_model.stat().st_size < _TOO_SMALL_TO_ANSWER:
            out.print(Text(f"{chat_model.stem} is too small a model to answer; a larger one reads the block.", "dim"))
    out.print(Text("The second process was given the bank's directory and nothing else.", "green"))
    return 0


def _chat_model(named: str | None, directory: Path) -> Path:
    """The model named, else the story model beside the checkout, else random weights made now."""
    if named:
        return resolve_model(named)
    beside = _root() / _SHARED / "stories260K.gguf"
    if beside.exists():
        return beside.resolve()
    script = _root() / "models" / "make_tiny.py"
    if not script.exists() or importlib.util.find_spec("gguf") is None:
        raise ModelNotFoundError("name a model for the demo: membank demo --model model.gguf")
    made = directory / "random.gguf"
    subprocess.run([sys.executable, str(script), str(made)], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    return made


def _encoder(named: str | None, chat_model: Path) -> Path | None:
    """The encoder named, or one beside the checkout; None: the chat model's own hidden states."""
    if named:
        chosen = resolve_model(named)
        return None if chosen == chat_model else chosen
    beside = _root() / _SHARED / "all-MiniLM-L6-v2-q8_0.gguf"
    return beside.resolve() if beside.exists() else None


def _root() -> Path:
    return Path(__file__).resolve().parent.parent


def _open(bank: Path, model: str, encoder: str) -> Llama:
    return Llama(model_path=model, memory=bank, encoder=encoder or None, n_ctx=_CONTEXT, verbose=False, seed=1)


def _reply(llm: Llama, text: str, tokens: int) -> str:
    answer: Any = llm.create_chat_completion(
        messages=[{"role": "user", "content": text}], max_tokens=tokens, temperature=_TEMPERATURE, seed=1
    )
    return str(answer["choices"][0]["message"]["content"])


# -- the first process


def tell(bank: Path, model: str, encoder: str, tokens: int) -> None:
    """Tell facts and have a short conversation, then close everything."""
    llm = _open(bank, model, encoder)
    try:
        memory = llm.memory.bank
        results = memory.ingest_many([NewMemory(fact, source="demo") for fact in FACTS])
        lines: list[RenderableType] = [Text.assemble(("you   ", "dim"), fact) for fact in FACTS]
        for said in CONVERSATION:
            lines += [Text.assemble(("you   ", "dim"), said), _model_line(_reply(llm, said, tokens))]
        llm.memory.flush()
        _panel(f"1 · told  [dim](process {os.getpid()}, {Path(model).stem})", *lines)
        _panel("captured, of the first memory", _captured(memory, results[0]))
    finally:
        llm.close()


def _model_line(reply: str) -> Text:
    return Text("model ", style="dim").append_text(plain(reply or "(nothing)", "dim italic"))


def _captured(bank: MemBank, result: IngestResult) -> RenderableType:
    """What one memory became: layer, dimensions, bytes of each level, the pointer."""
    adapter: Any = bank.adapter
    layer = getattr(adapter, "layer", None)
    hierarchy = bank.store.hierarchy
    pointer = bank.store.pointers([bank.get(result.memory_id).slot])[bank.get(result.memory_id).slot][0]
    packed = pointer.pack().hex()
    full = 4 * result.dims
    levels = ", ".join(f"L{n} {size(hierarchy.nbytes(n))} ({hierarchy.nbytes(n) / full:.1%})" for n in (0, 1, 2))
    return facts_table(
        [
            ("encoder", visible(adapter.name)),
            (
                "hidden state",
                "the model's own pooled output" if layer is None else f"residual stream after layer {layer}",
            ),
            ("dimensions", f"{result.dims} float32, {size(full)}"),
            ("kept", f"{levels} of float32"),
            ("pointer", "\n".join(packed[at : at + 32] for at in range(0, len(packed), 32))),
            ("", f"{len(packed) // 2} bytes, the first 32 the SHA-256 of the activation"),
        ]
    )


# -- the second process


def ask(bank: Path, model: str, encoder: str, tokens: int) -> bool:
    """Ask; returns whether every memory asked for stood in its prompt."""
    llm = _open(bank, model, encoder)
    try:
        kept = llm.memory.bank.stats()["memories"]
        out.print(Text(f"\nA new process, {os.getpid()}, opens the bank: {kept} memories.\n", style=f"bold {ACCENT}"))
        found = [_ask_one(llm, number, question, tokens) for number, question in enumerate(QUESTIONS, 1)]
        return all(found)
    finally:
        llm.close()


def _ask_one(llm: Llama, number: int, question: Question, tokens: int) -> bool:
    reply = _reply(llm, question.text, tokens)
    last = llm.memory.last
    block = last.block if last is not None else ""
    found = question.expected in block
    parts: list[RenderableType] = [Text.assemble(("you   ", "dim"), (question.text, "bold"))]
    if last is not None and last.results:
        parts += [Text("\nrecalled", style="dim"), recall_table(last.results[:4])]
    parts += [
        Text(f"\ninjected ahead of the question, {last.tokens if last else 0} tokens", style="dim"),
        Text(visible(block.strip()) or "(nothing)", style=ACCENT),
        Text(),
        _model_line(reply),
    ]
    mark = "[green]● the right memory is in the prompt" if found else "[red]✗ the right memory is not in the prompt"
    _panel(f"2.{number} · asked", *parts, subtitle=mark)
    return found


def _panel(title: str, *parts: RenderableType, subtitle: str | None = None) -> None:
    out.print(
        Panel(
            Group(*parts), title=title, title_align="left", subtitle=subtitle, subtitle_align="left", border_style="dim"
        )
    )
