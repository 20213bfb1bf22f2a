"""A told life: what a real chat model answers days later, from what recall gives it.

    python benchmarks/told_life.py --model MODEL.gguf [--encoder MODEL.gguf] [--sessions 3] [--between 0,10,100]

`everyday/life.json` is a conversation of thirteen turns with small talk in it, nine questions, and three that were
never told the answer to. The model really answers the told turns, and both sides are remembered as five days old. Then
the questions are asked, each in a chat of its own: with the right memory given, with recall, in several sessions in a
row, all of which is remembered too, and after so many turns of small talk, questions and evasions in between. A reply
is right where the answer's word stands in it. Of what was never told it is counted how often the model makes something
up, with memory and without, and how often what it made up stands in a later block, as if it were known. The replies are
the model's own at temperature 0; they are printed with --show, to be read.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bankbench import holds, reply_of, table, write_json

from membank_llama import Llama, LlamaCppAdapter, MemBank, MemoryOptions, NewMemory
from membank_llama.memory.llama_with_memory import SafeLlama
from membank_llama.memory.prompt_block import Excerpt, Neutraliser, build_block

DATA = Path(__file__).with_name("everyday") / "life.json"
DAYS_AGO = 5
TOKENS = 48
UNKNOWING = re.compile(
    r"\b(?:don't|do not|didn't|not|no|never|cannot|can't|couldn't|unable|unknown|sorry|unsure|isn't|aren't|haven't)\b"
    r"|\?",
    re.IGNORECASE,
)
"""A reply that owns up, or asks back."""


def is_right(reply: str, accepted: Sequence[str]) -> bool:
    """Whether one of the accepted words stands in a reply."""
    return any(holds(reply, word) for word in accepted)


def ask(llm: Any, text: str) -> str:
    """The reply to one message in a new chat."""
    return reply_of(llm, [{"role": "user", "content": text}], TOKENS)


def told_life(life: dict[str, Any], llm: Any, since: float) -> list[NewMemory]:
    """Both sides of the told conversation, as it really goes with this model."""
    messages: list[dict[str, str]] = []
    told: list[NewMemory] = []
    for place, text in enumerate(life["told"]):
        messages.append({"role": "user", "content": text})
        reply = reply_of(llm, messages, TOKENS)
        messages.append({"role": "assistant", "content": reply})
        for role, said, later in (("user", text, 0), ("assistant", reply, 5)):
            told.append(NewMemory(said, role=role, conversation="told", created_at=since + 60 * place + later))
    return told


def given(life: dict[str, Any], plain: Any, told: Sequence[NewMemory]) -> list[str]:
    """The replies where the very turn that answers is given."""
    replies = []
    for question, accepted in life["asked"]:
        memories = [
            Excerpt(n, one.text, one.role, one.created_at or 0.0)
            for n, one in enumerate(told)
            if one.role == "user" and is_right(one.text, accepted)
        ]
        block = build_block(memories, 1024, lambda text: len(text) // 3, Neutraliser(()))
        replies.append(ask(plain, block.text + question))
    return replies


def run(options: argparse.Namespace) -> dict[str, Any]:
    life = json.loads(DATA.read_text(encoding="utf-8"))
    load = {"n_ctx": 4096, "n_threads": options.threads, "n_threads_batch": options.threads, "verbose": False}
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        plain = SafeLlama(str(options.model), **load)
        told = told_life(life, plain, time.time() - DAYS_AGO * 86_400)
        replies = given(life, plain, told)
        found["given the memory"] = counted(life["asked"], replies)
        show(options, "given the memory", [question for question, _ in life["asked"]], replies)
        alone = [ask(plain, question) for question in life["unknown"]]
        found["without memory: never told, made up"] = made_up(alone)
        plain.close()
        for between in options.between:
            path = Path(folder) / f"bank{between}"
            found |= asked_later(life, told, path, between, options, load)
    return found


def asked_later(
    life: dict[str, Any], told: Sequence[NewMemory], path: Path, between: int, options: argparse.Namespace, load: Any
) -> dict[str, Any]:
    """What is answered in sessions after one another."""
    found: dict[str, Any] = {}
    encoder = None if options.encoder is None else LlamaCppAdapter(options.encoder, n_threads=options.threads)
    llm = Llama(str(options.model), memory=path, encoder=encoder, memory_options=MemoryOptions(), **load)
    bank: MemBank = llm.memory.bank
    bank.ingest_many(told)
    invented: list[str] = []
    for turn in range(between):
        ask(llm, life["between"][turn % len(life["between"])])
        llm.memory.new_conversation()
    for session in range(options.sessions if not between else 1):
        llm.memory.flush()
        name = f"with recall, session {session + 1}" if not between else f"after {between} turns between"
        replies, blocks = [], []
        for question, _ in life["asked"]:
            llm.memory.new_conversation()
            replies.append(ask(llm, question))
            blocks.append(llm.memory.last.block if llm.memory.last else "")
        found[name] = counted(life["asked"], replies)
        held = sum(is_right(block, accepted) for block, (_, accepted) in zip(blocks, life["asked"], strict=True))
        found[f"{name}: in the block"] = f"{held} of {len(blocks)}"
        show(options, name, [question for question, _ in life["asked"]], replies, blocks)
        unknown, later = [], list(blocks)
        blocks = []
        for question in life["unknown"]:
            llm.memory.new_conversation()
            unknown.append(ask(llm, question))
            blocks.append(llm.memory.last.block if llm.memory.last else "")
        later += blocks
        found[f"{name}: never told, made up"] = made_up(unknown)
        # of the sessions before: what is in this one's blocks is what was known by then
        put_back = sum(any(" ".join(said.split()) in block for block in later) for said in invented)
        found[f"{name}: made up before, in a block"] = f"{put_back} of {len(invented)}"
        invented += [reply for reply in unknown if not UNKNOWING.search(reply)]
        show(options, f"{name}, never told", life["unknown"], unknown, blocks)
    llm.close()
    if encoder is not None:
        encoder.close()
    return found


def made_up(replies: Sequence[str]) -> str:
    """How many replies assert something."""
    return f"{sum(not UNKNOWING.search(reply) for reply in replies)} of {len(replies)}"


def counted(asked: Sequence[tuple[str, Sequence[str]]], replies: Sequence[str]) -> str:
    """How many replies are right."""
    right = sum(is_right(reply, accepted) for (_, accepted), reply in zip(asked, replies, strict=True))
    return f"{right} of {len(replies)}"


def show(
    options: argparse.Namespace, name: str, asked: Sequence[str], replies: Sequence[str], blocks: Sequence[str] = ()
) -> None:
    if options.show:
        print(f"\n== {name}")
        for place, (question, reply) in enumerate(zip(asked, replies, strict=True)):
            print(f"{blocks[place] if blocks else ''}> {question}\n< {' '.join(reply.split())}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the GGUF that answers")
    parser.add_argument("--encoder", type=Path, help="a GGUF that encodes; the chat model's own states where left out")
    parser.add_argument("--threads", type=int, default=1, help="of llama.cpp")
    parser.add_argument("--sessions", type=int, default=3, help="in which the questions are asked in a row")
    parser.add_argument(
        "--between", type=lambda text: [int(part) for part in text.split(",")], default=[0, 10, 100],
        help="turns of small talk and questions between telling and asking, each in a bank of its own",
    )  # fmt: skip
    parser.add_argument("--show", action="store_true", help="print what was asked, injected and answered")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    figures = run(options)
    table("a told life, five days later", ["", "right"], [[name, value] for name, value in figures.items()])
    write_json(options.json, figures)


if __name__ == "__main__":
    main()
