"""The demo: one process is told things and ends; another, started anew, is asked about them.

Nothing passes between the two but the bank's directory. What the model answers is held against what it was told, with
memory and without: the second process fails where one of the two is not as it should be.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from membank_llama.gguf.builtin import UNKNOWN, embedded_model, is_embedded
from membank_llama.gguf.references import resolve_model
from membank_llama.memory.bank import MemBank
from membank_llama.memory.llama_with_memory import Llama
from membank_llama.memory.prompt_injection import LastRecall

from .terminal import ACCENT, facts_table, out, plain, recall_table, size, visible

FACTS = (
    "The code of my bicycle lock is 4719.",
    "My dentist appointment is on 14 March.",
    "My sister is called Ilse.",
    "My neighbour Tomasz feeds the cat.",
    "I work as a gardener in Lisbon.",
)


@dataclass(frozen=True)
class DemoQuestion:
    """What is asked, and what the answer must hold; nothing where nothing was told about it."""

    text: str
    expected: str = ""


QUESTIONS = (
    DemoQuestion("What is the code of my bicycle lock?", "4719"),
    DemoQuestion("When is my dentist appointment?", "14 March"),
    DemoQuestion("What is my sister called?", "Ilse"),
    DemoQuestion("Who feeds the cat?", "Tomasz"),
    DemoQuestion("Where do I work?", "Lisbon"),
    DemoQuestion("What is my brother called?"),
)


@dataclass(frozen=True)
class DemoAnswer:
    """One question with both answers."""

    question: DemoQuestion
    without: str
    answer: str
    last: LastRecall | None
    toy: bool

    @property
    def right(self) -> bool:
        """With memory, what was told; what was never told only the toy is sure to admit."""
        if self.question.expected:
            return self.question.expected in self.answer
        return self.answer == UNKNOWN or not self.toy

    @property
    def ignorant(self) -> bool:
        """Without memory, nothing of it; the toy says so."""
        if self.toy:
            return self.without == UNKNOWN
        return not self.question.expected or self.question.expected not in self.without

    @property
    def good(self) -> bool:
        return self.right and self.ignorant


_PAUSE = 0.5
_CONTEXT = 1024
_REPLY = 64


def run_demo(model: str | None, encoder: str | None, *, fast: bool = False) -> int:
    """Run both processes on a bank that is gone afterwards; returns the exit status of the first that failed, or 0."""
    chat_model = resolve_model(model) if model else embedded_model()
    encoding = resolve_model(encoder) if encoder else None
    with tempfile.TemporaryDirectory(prefix="membank-demo-") as directory:
        told = [str(Path(directory) / "bank"), str(chat_model), str(encoding or ""), *(["--fast"] if fast else [])]
        for command in ("demo-tell", "demo-ask"):
            # nothing here comes from outside but paths, and no shell reads them
            done = subprocess.run([sys.executable, "-m", "membank_llama", command, *told], check=False)  # noqa: S603
            if done.returncode:
                return done.returncode
    out.print(Text("The second process was given the bank's directory and nothing else.", "green"))
    if is_embedded(chat_model):
        out.print(
            "This model is a toy for showing memory. With a real one: "
            "[bold]membank chat model.gguf[/bold], hf:owner/repo/file.gguf, or the name of one that Ollama has."
        )
    return 0


def _open(bank: Path, model: str, encoder: str) -> Llama:
    return Llama(model_path=model, memory=bank, encoder=encoder or None, n_ctx=_CONTEXT, verbose=False, seed=1)


def _reply(llm: llama_cpp.Llama, text: str) -> str:
    answer: Any = llm.create_chat_completion(
        messages=[{"role": "user", "content": text}], max_tokens=_REPLY, temperature=0.0
    )
    return str(answer["choices"][0]["message"]["content"])


def _pause(fast: bool) -> None:
    if not fast and out.is_terminal:
        time.sleep(_PAUSE)


def _you(text: str) -> Text:
    return Text.assemble(("you    ", "dim"), text)


def _model(reply: str) -> Text:
    return Text.assemble(("model  ", "dim"), plain(reply or "(nothing)"))


# -- the first process


def tell(bank: Path, model: str, encoder: str, *, fast: bool = False) -> None:
    """Say every fact to the model in a chat of its own, then close everything."""
    llm = _open(bank, model, encoder)
    try:
        _heading(f"1 · told: process {os.getpid()}, {Path(model).stem}")
        for fact in FACTS:
            out.print(_you(fact))
            out.print(_model(_reply(llm, fact)))
            llm.memory.new_conversation()
            _pause(fast)
        llm.memory.flush()
        memory = llm.memory.bank
        found = memory.recall(FACTS[0], 1)
        out.print()
        _panel("captured, of the first message", _captured(memory, found[0].memory_id))
    finally:
        llm.close()
    out.print(Text("The process ends. The window is closed.\n", style="dim"))
    _pause(fast)


def _captured(bank: MemBank, memory_id: int) -> RenderableType:
    """What one memory became: layer, dimensions, bytes of each level, the pointer."""
    adapter: Any = bank.adapter
    layer = getattr(adapter, "layer", None)
    hierarchy, slot = bank.store.hierarchy, bank.get(memory_id).slot
    packed = bank.store.pointers([slot])[slot][0].pack().hex()
    full = 4 * adapter.hidden_dim
    levels = ", ".join(f"L{n} {size(hierarchy.nbytes(n))} ({hierarchy.nbytes(n) / full:.1%})" for n in (0, 1, 2))
    source = "the model's own pooled output" if layer is None else f"residual stream after layer {layer}, averaged"
    return facts_table(
        [
            ("encoder", visible(adapter.name)),
            ("hidden state", source),
            ("dimensions", f"{adapter.hidden_dim} float32, {size(full)}"),
            ("kept", f"{levels} of float32"),
            ("pointer", "\n".join(packed[at : at + 32] for at in range(0, len(packed), 32))),
            ("", f"{len(packed) // 2} bytes, the first 32 the SHA-256 of the activation"),
        ]
    )


# -- the second process


def ask(bank: Path, model: str, encoder: str, *, fast: bool = False) -> bool:
    """Ask with the bank and without; returns whether every answer is as it should be."""
    bare = llama_cpp.Llama(model_path=model, n_ctx=_CONTEXT, verbose=False, seed=1)
    llm = _open(bank, model, encoder)
    try:
        kept = llm.memory.bank.stats()["memories"]
        _heading(f"2 · asked: a new process, {os.getpid()}, opens the bank: {kept} memories")
        asked, toy = [], is_embedded(Path(model))
        for question in QUESTIONS:
            answer = _reply(llm, question.text)
            last = llm.memory.last
            asked.append(DemoAnswer(question, _reply(bare, question.text), answer, last, toy))
            llm.memory.new_conversation()
        _show_first(asked[0])
        _pause(fast)
        _show_all(asked)
        return all(one.good for one in asked)
    finally:
        llm.close()
        bare.close()


def _show_first(asked: DemoAnswer) -> None:
    last = asked.last
    parts: list[RenderableType] = [_you(asked.question.text)]
    if last is not None and last.results:
        parts += [Text("\nrecalled", style="dim"), recall_table(last.results[:4])]
    parts += [
        Text(f"\ninjected ahead of the question, {last.tokens if last else 0} tokens", style="dim"),
        Text(visible(last.block.strip() if last else "") or "(nothing)", style=ACCENT),
        Text(),
        _model(asked.answer),
    ]
    _panel("from question to answer", *parts)


def _show_all(asked: Sequence[DemoAnswer]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0), expand=True)
    for name in ("asked", "without memory", "with memory"):
        table.add_column(name, ratio=1, overflow="fold")
    for one in asked:
        table.add_row(
            plain(one.question.text),
            _marked(one.ignorant, one.without, "dim"),
            _marked(one.right, one.answer, "bold"),
        )
    _panel("the same model, the same questions", table)
    wrong = [one for one in asked if not one.good]
    for one in wrong:
        which = "with memory" if not one.right else "without memory"
        out.print(Text(f"✗ {one.question.text} The answer {which} is not as it should be.", style="red"))
    if not wrong:
        out.print(Text(f"● {len(asked)} of {len(asked)} answers as they should be", style="green"))


def _marked(good: bool, answer: str, style: str) -> Text:
    return Text.assemble(("● ", "green") if good else ("✗ ", "red"), plain(answer or "(nothing)", style))


def _heading(text: str) -> None:
    out.print(Text(text + "\n", style=f"bold {ACCENT}"))


def _panel(title: str, *parts: RenderableType) -> None:
    out.print(Panel(Group(*parts), title=title, title_align="left", border_style="dim"))
