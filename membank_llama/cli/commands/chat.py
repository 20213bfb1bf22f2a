"""Commands that talk: chat and the demo."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from membank_llama.kv.kv_types import KV_TYPES

from .bank_opening import prepare
from .chat_model import llama_options, load_chat_model
from .completion import model_names
from .encoders import Capture, adapter_of, capture_wanted, embeds, encoder_for
from .options import (
    BankOption,
    ChatNameOption,
    GpuOption,
    KVOption,
    KVTypeOption,
    LayerOption,
    NamespaceOption,
    PoolingOption,
    TemplateOption,
    ThreadsOption,
    WithoutOption,
    bank_path,
    kv_type_of,
    named_namespace,
    namespace_of,
    provenances,
    settings,
)

if TYPE_CHECKING:
    from rich.console import Console

    from membank_llama.adapters.base import ModelAdapter
    from membank_llama.memory.prompt_injection import MemoryOptions

DEFAULT_TEMPERATURE = 0.7


def chat(
    ctx: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(
            help="A GGUF path, hf:owner/repo/file.gguf, or a model of Ollama's store. Default: a toy that comes along.",
            metavar="MODEL", show_default=False, autocompletion=model_names,
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder", help="An embedding GGUF to encode memories. Default: what made the bank, or MODEL itself.",
            show_default=False, autocompletion=model_names,
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option("--ctx", help="Tokens of context.", min=64, show_default="4096, or what MODEL was made for"),
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system message.", show_default=False)] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="0 is always the same reply.", min=0.0, show_default="0.7; 0 for the toy"),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Longest reply, in tokens.", min=1, show_default="a quarter of the context")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="For replies that can be repeated.", show_default=False)] = None,
    memory: Annotated[bool, typer.Option(" /--no-memory", help="Chat without a memory.", show_default=False)] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the last conversation.")] = False,
    conversation: ChatNameOption = None,
    bank: BankOption = None,
    namespace: NamespaceOption = None,
    without: WithoutOption = None,
    layer: LayerOption = None,
    pooling: PoolingOption = None,
    template: TemplateOption = None,
    kv: KVOption = None,
    kv_type: KVTypeOption = KV_TYPES[0],
    threads: ThreadsOption = None,
    gpu_layers: GpuOption = 0,
) -> None:  # fmt: skip
    """Talk to a model that remembers.

    [dim]membank chat Qwen3-4B-Q4_K_M.gguf[/dim]

    [dim]membank chat llama3.2:3b --encoder all-MiniLM-L6-v2-q8_0.gguf --bank ./work[/dim]
    """
    from membank_llama.gguf.builtin import NAME, embedded_model, is_embedded
    from membank_llama.gguf.references import resolve_model
    from membank_llama.memory.prompt_injection import MemoryOptions

    from ..chat_session import ChatSession, ReplyOptions
    from ..terminal_chat import Chat

    path = embedded_model() if model is None else resolve_model(model)
    toy = is_embedded(path)
    # a bank is made by one model: the toy's never stands in the way of a real one
    where = bank_path(ctx, bank, NAME if toy else "default", new=True) if memory else None
    wanted = MemoryOptions(namespace=namespace_of(ctx, namespace), without=provenances(without))
    goes_on = _wanted_chat(where, wanted.namespace, conversation) if resume or conversation is not None else None
    if temperature is None:
        temperature = 0.0 if toy else DEFAULT_TEMPERATURE
    options = llama_options(path, context, threads, gpu_layers, seed=seed, kv_type=kv_type_of(kv_type))
    with _opened(path, where, encoder, wanted, options, capture_wanted(layer, pooling, template), kv) as llm:
        _greet(llm, path, toy)
        session = ChatSession(llm, ReplyOptions(temperature, max_tokens, system, seed))
        Chat(session, where, _again(ctx, model, bank, namespace, context)).run(goes_on)


def _wanted_chat(bank: Path | None, namespace: str, name: str | None) -> str:
    """The name of the chat to go on with.

    Raises:
        InvalidInputError: there is none, which is found before a model is loaded.
    """
    from membank_llama.core.errors import InvalidInputError
    from membank_llama.memory.chat_transcripts import ChatTranscripts

    if bank is None:
        raise InvalidInputError("a chat without memory is not kept, and cannot be gone on with: leave --no-memory out")
    return ChatTranscripts(bank).find(namespace, name).name


def _again(ctx: typer.Context, model: str | None, bank: Path | None, namespace: str | None, context: int | None) -> str:
    """The command that chats here again."""
    own, name = bank or settings(ctx).bank, named_namespace(ctx, namespace)
    words = [*([] if model is None else [model]), *([] if own is None else ["--bank", str(own)])]
    words += [] if name is None else ["--namespace", name]
    words += [] if context is None else ["--ctx", str(context)]
    return shlex.join(["membank", "chat", *words])


@contextmanager
def _opened(
    path: Path,
    bank: Path | None,
    encoder: str | None,
    remembering: MemoryOptions,
    options: dict[str, Any],
    wanted: Capture | None,
    kv: str | None,
) -> Iterator[Any]:
    """The model, with its memory where a bank is given; all of it is closed in order."""
    from membank_llama.memory.llama_with_memory import remember
    from membank_llama.store.model_record import made_by, recorded_model

    from ..status_line import StatusLine

    with ExitStack() as stack:
        if bank is None:
            llm = load_chat_model(path, options)
            stack.callback(llm.close)
            yield llm
            return
        card = recorded_model(bank)
        threads, gpu_layers = options["n_threads"], options["n_gpu_layers"]
        adapter: ModelAdapter | None = None
        if encoder is not None or (card is not None and not made_by(card, path)):
            adapter = encoder_for(bank, encoder, threads=threads, gpu_layers=gpu_layers, card=card, wanted=wanted)
        if adapter is not None:
            # the bank first: where it cannot be had, nobody waits for the chat model
            opened = _bank(stack, adapter, bank)
            llm = load_chat_model(path, options)
            stack.callback(llm.close)
        else:
            llm = load_chat_model(path, options)
            # closed last: the adapter's context lives on these weights
            stack.callback(llm.close)
            own = adapter_of(llm, path, str(path), threads=threads, card=card, wanted=wanted)
            opened = _bank(stack, own, bank)
        with StatusLine("looking through the bank …"):
            prepare(opened, remembering.namespace)
        told = remember(llm, opened, remembering, kv=kv)
        stack.callback(told.memory.close)
        yield told


def _bank(stack: ExitStack, adapter: Any, path: Path) -> Any:
    from membank_llama.memory.sharing.shared_bank import open_shared

    from ..terminal import progress_bar

    stack.callback(adapter.close)
    with progress_bar() as progress:
        return stack.enter_context(open_shared(adapter, path, progress=progress))


def _greet(llm: Any, path: Path, toy: bool) -> None:
    from rich.text import Text

    from .. import terminal

    memory = getattr(llm, "memory", None)
    greeting = Text.assemble(("membank ", f"bold {terminal.ACCENT}"), (path.stem, "bold"))
    if memory is None:
        greeting.append(" · without memory", style="dim")
    else:
        bank = memory.bank
        count = bank.count(memory.options.namespace)
        greeting.append(f" · {terminal.counted(count, 'memory')}", style="dim")
        if bank.adapter.source != str(path.resolve()):
            greeting.append(f" · encoded by {terminal.visible(bank.model.name)}", style="dim")
    notes = _notes()
    notes.print(greeting)
    if memory is not None:
        notes.print(Text(f"{memory.bank.path} · /help lists commands, Ctrl-D leaves", style="dim"))
    notes.print()
    if toy:
        _explain_toy(notes)


def _notes() -> Console:
    """Where a greeting goes: not among the replies where those are read by a program."""
    from .. import terminal

    return terminal.out if terminal.out.is_terminal else terminal.err


def _explain_toy(notes: Console) -> None:
    from membank_llama.gguf.ollama_store import list_ollama_models

    notes.print("A toy that shows what memory does: tell it facts, leave, come back and ask. It knows nothing else.")
    example = next((found.name for found in list_ollama_models() if not embeds(found.path)), "llama3.2")
    notes.print(
        f"A real model: [bold]membank chat {example}[/bold] (from Ollama), model.gguf, or hf:owner/repo/file.gguf"
    )
    notes.print()


# -- the demo


def demo(
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            envvar="MODEL",
            help="The model that chats. Default: a toy that comes along.",
            show_default=False,
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            envvar="ENCODER",
            help="The model that encodes. Default: the one that chats.",
            show_default=False,
        ),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Without pauses.")] = False,
) -> None:
    """Tell a model things in one process, ask in another; fails where an answer is wrong."""
    from ..demo import run_demo

    raise typer.Exit(run_demo(model, encoder, fast=fast))


def demo_tell(bank: Path, model: str, encoder: str, fast: bool = False) -> None:
    """First process of the demo."""
    from ..demo import tell

    tell(bank, model, encoder, fast=fast)


def demo_ask(bank: Path, model: str, encoder: str, fast: bool = False) -> None:
    """Second process of the demo."""
    from ..demo import ask

    if not ask(bank, model, encoder, fast=fast):
        raise typer.Exit(1)
