"""`membank serve`: memory for every client that speaks Ollama's or OpenAI's API."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from membank_llama.core.errors import InvalidInputError, MembankError
from membank_llama.core.logs import JsonLines, TextLines
from membank_llama.kv.kv_types import KV_TYPES

from .bank_opening import encoder_name, prepare
from .completion import model_names
from .options import (
    BankOption,
    GpuOption,
    KVOption,
    KVTypeOption,
    ThreadsOption,
    WithoutOption,
    bank_path,
    kv_type_of,
    provenances,
)
from .served_encoders import OLLAMA, AtHand, better_than_words, serving_encoder

if TYPE_CHECKING:
    from membank_llama.memory.bank import MemBank
    from membank_llama.memory.prompt_injection import MemoryOptions
    from membank_llama.server.engine.app import Engine
    from membank_llama.server.proxy.app import Proxy
    from membank_llama.server.proxy.upstream import Upstream

PORT = 11435


_UpstreamOption = Annotated[
    str | None,
    typer.Option(help="What to stand in front of: Ollama, llama-server, LM Studio, or another that speaks OpenAI's "
                 "API.", show_default=f"{OLLAMA}, where no model is named"),
]  # fmt: skip
_EncoderOption = Annotated[
    str | None,
    typer.Option("--encoder", help="What encodes memories: a GGUF, a model that Ollama has, or the address of a "
                 "server that has one. Default: what made the bank, or the best at hand.", show_default=False,
                 autocompletion=model_names),
]  # fmt: skip
_TokensOption = Annotated[
    Path | None,
    typer.Option(help="Who may come in: a file of lines NAMESPACE TOKEN, with admin at the end of those that may "
                 "change models.", show_default=False),
]  # fmt: skip


def serve(
    ctx: typer.Context,
    upstream: _UpstreamOption = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="A GGUF to answer with here, without Ollama; several times for several.",
                     show_default=False, autocompletion=model_names),
    ] = None,
    models: Annotated[
        Path | None, typer.Option("--models", help="A folder of GGUFs to answer with here.", show_default=False)
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 11434 is Ollama's own.", min=0, max=65535)] = PORT,
    bank: BankOption = None,
    encoder: _EncoderOption = None,
    move: Annotated[
        bool, typer.Option("--move", help="Move a bank made by words alone to the embedding model at hand, while "
                           "serving.", show_default=False),
    ] = False,
    memory: Annotated[bool, typer.Option(" /--no-memory", help="Serve without a memory.", show_default=False)] = True,
    without: WithoutOption = None,
    tokens: _TokensOption = None,
    upstream_slots: Annotated[
        bool, typer.Option("--upstream-slots", help="Let a llama-server keep what it read in its --slot-save-path.")
    ] = False,
    deadline: Annotated[int, typer.Option(help="Milliseconds that a recall may take.", min=1)] = 300,
    context: Annotated[
        int | None,
        typer.Option("--ctx", help="Tokens of context, where a request names none.", min=256,
                     show_default="4096, or what a longer prompt takes")
    ] = None,
    keep_alive: Annotated[int, typer.Option(help="Seconds that a model stays loaded; -1 for ever.", min=-1)] = 300,
    max_loaded: Annotated[int, typer.Option(help="Models in memory at once.", min=1)] = 1,
    max_queue: Annotated[int, typer.Option(help="Requests that may wait for a model.", min=1)] = 512,
    max_body: Annotated[int, typer.Option(help="Megabytes of a request.", min=1, max=1024)] = 8,
    kv: KVOption = None,
    kv_type: KVTypeOption = KV_TYPES[0],
    log_format: Annotated[str, typer.Option(help="text, or json: an object a line.")] = "text",
    threads: ThreadsOption = None,
    gpu_layers: GpuOption = 0,
) -> None:  # fmt: skip
    """Give every Ollama client a memory: in front of Ollama, or with llama.cpp here.

    [dim]membank serve[/dim]  then point the client at http://127.0.0.1:11435

    [dim]membank serve --model Qwen3-4B-Q4_K_M.gguf --encoder all-MiniLM-L6-v2-q8_0.gguf[/dim]
    """
    if upstream is not None and (model or models):
        raise InvalidInputError("name either --upstream or models of your own, not both")
    from membank_llama.memory.prompt_injection import MemoryOptions
    from membank_llama.server.listening import serve_until_stopped

    _log_to_stderr(log_format)
    given = (context, threads, gpu_layers, max_loaded, max_queue, float(keep_alive), max_body << 20)
    engine = _Engine(tuple(model or ()), models, *given, kv, kv_type_of(kv_type))
    where = bank_path(ctx, bank, new=True) if memory else None
    options = MemoryOptions(without=provenances(without))
    remembering = _Remembering(where, encoder, move, deadline, upstream_slots, options)
    with _proxy(engine, upstream or OLLAMA, tokens, remembering) as (proxy, facts):
        serve_until_stopped(proxy, host, port, partial(_greet, facts=facts(), memory=proxy.memory))


@dataclass(frozen=True)
class _Engine:
    """What llama.cpp answers with here, and how; without any models, Ollama answers."""

    refs: tuple[str, ...]
    folder: Path | None
    context: int | None
    threads: int | None
    gpu_layers: int
    max_loaded: int
    max_queue: int
    keep_alive: float
    max_body: int
    kv: str | None
    kv_type: str

    @property
    def wanted(self) -> bool:
        return bool(self.refs) or self.folder is not None

    def open(self, bank: Path | None) -> Engine:
        """The engine; KV state is kept beside the bank.

        Raises:
            InvalidInputError, ModelError: a model or the folder is not there.
        """
        from membank_llama.core.paths import default_models
        from membank_llama.gguf.references import resolve_model
        from membank_llama.kv.piece_store import open_pieces
        from membank_llama.server.engine.app import Engine, EngineSettings

        if self.folder is not None and not self.folder.is_dir():
            raise InvalidInputError(f"{self.folder} is no folder; give one with GGUF files in it, or a file: --model")
        return Engine(
            EngineSettings(
                store=default_models(),
                models=tuple(resolve_model(ref) for ref in self.refs),
                folder=self.folder,
                n_ctx=self.context,
                n_threads=self.threads,
                n_gpu_layers=self.gpu_layers,
                max_loaded=self.max_loaded,
                max_queue=self.max_queue,
                keep_alive=self.keep_alive,
                max_body=self.max_body,
                kv_store=None if bank is None else open_pieces(bank, self.kv),
                kv_type=self.kv_type,
            )
        )


@dataclass(frozen=True)
class _Remembering:
    """The bank, None for none, and how it is used."""

    where: Path | None
    encoder: str | None
    move: bool
    deadline: int
    slots: bool
    options: MemoryOptions


@contextmanager
def _proxy(
    engine: _Engine, upstream: str, tokens: Path | None, remembering: _Remembering
) -> Iterator[tuple[Proxy, Callable[[], dict[str, Any]]]]:
    """The proxy and what is said of it; its bank and its encoder are closed after it."""
    from membank_llama.server.proxy.app import Proxy
    from membank_llama.server.proxy.namespace_auth import BearerTokens
    from membank_llama.server.proxy.proxy_memory import DEFAULT_CONTEXT, ProxyMemory
    from membank_llama.server.proxy.upstream import Upstream

    known = BearerTokens.read(tokens)
    with ExitStack() as stack:
        behind: Engine | Upstream
        if engine.wanted:
            behind, address = engine.open(remembering.where), ""
        else:
            behind, address = Upstream(upstream, keep_authorization=tokens is None), upstream
            behind.server.look()
        bank = memory = None
        if remembering.where is not None:
            at_hand = AtHand(address, behind, engine.threads, engine.gpu_layers)
            bank = _bank(stack, remembering.where, remembering, at_hand)
            memory = ProxyMemory(
                bank,
                find_model=_finder(behind),
                deadline=remembering.deadline / 1000,
                context=engine.context or DEFAULT_CONTEXT,
                options=remembering.options,
            )
        facts = partial(_facts, behind, bank)
        limit, slots = engine.max_body, remembering.slots
        yield Proxy(behind, memory, tokens=known, facts=facts, max_body=limit, upstream_slots=slots), facts


def _facts(behind: Any, bank: MemBank | None) -> dict[str, Any]:
    """What answers and what encodes, as of now."""
    server = getattr(behind, "server", None)
    if server is None:
        facts = {"engine": "llama.cpp", "models": ", ".join(found.name for found in behind.catalogue.models())}
    else:
        server.recognise()
        facts = {"engine": "upstream", "upstream": str(server)}
    if getattr(behind, "kv_store", None) is not None:
        counts = behind.kv_store.counts
        facts["kv_state"] = f"{counts.restored_tokens:,} tokens restored, {counts.kept_tokens:,} kept"
    if bank is not None:
        facts |= {"encoder": encoder_name(bank), "encoder_id": bank.model.id}
    return facts


def _bank(stack: ExitStack, where: Path, remembering: _Remembering, at_hand: AtHand) -> MemBank:
    """The bank with its encoder, and with what looks for a better one."""
    from membank_llama.adapters.deferred import DeferredAdapter
    from membank_llama.adapters.hashing import WordsAdapter
    from membank_llama.memory.sharing.shared_bank import open_shared
    from membank_llama.server.proxy.bank_mover import BankMover
    from membank_llama.server.proxy.priority_adapter import PriorityAdapter

    from ..terminal import progress_bar

    adapter = serving_encoder(where, remembering.encoder, at_hand)
    if adapter is not None:
        stack.enter_context(adapter)
    is_there = not isinstance(adapter, DeferredAdapter)
    mover = ExitStack()
    stack.callback(mover.close)
    with progress_bar() as progress:
        encoder = None if adapter is None else PriorityAdapter(adapter)
        opened = open_shared(encoder, where.absolute(), join=False, progress=progress, auto_validate_adapter=is_there)
        bank = stack.enter_context(opened)
        if is_there:
            prepare(bank)
    if adapter is None:
        logging.getLogger("membank_llama").warning(
            "%s, which made %s, is gone from %s: memories are found by their words, and nothing new is remembered. Say "
            "where it is with --encoder FILE, or move to another model with: membank reencode MODEL",
            bank.model.name, where, bank.model.source or "where it was",
        )  # fmt: skip
    if isinstance(adapter, WordsAdapter) and remembering.encoder is None:
        looking = BankMover(bank, partial(better_than_words, at_hand), move=remembering.move)
        mover.callback(looking.close)
        looking.start()
        stack.callback(looking.stop)
    return bank


def _finder(behind: Any) -> Any:
    """What finds the GGUF of a model's name, for its tokenizer, or what else counts its tokens.

    The name is a client's: it is looked up, in Ollama's manifests, among the models served or with the server that has
    them, and never a path or something to download.
    """
    from membank_llama.gguf.ollama_store import find_ollama_model
    from membank_llama.server.proxy.remote_vocabulary import RemoteVocabulary

    catalogue, server = getattr(behind, "catalogue", None), getattr(behind, "server", None)

    def find(name: str) -> Path | RemoteVocabulary | None:
        try:
            if server is not None and server.recognise() is not None and server.tokenizes:
                return server.file_of(name) or RemoteVocabulary(server, name)
            return find_ollama_model(name) if catalogue is None else Path(catalogue.find(name).path)
        except MembankError:
            return None

    return find


def _log_to_stderr(kind: str) -> None:
    if kind not in ("text", "json"):
        raise InvalidInputError(f"--log-format is {kind!r}; use text or json")
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if kind == "json" else TextLines())
    logger = logging.getLogger("membank_llama")
    logger.handlers[:] = [handler]
    logger.setLevel(os.environ.get("MEMBANK_LOG_LEVEL", "INFO").upper())


def _greet(address: str, facts: dict[str, Any], memory: Any) -> None:
    from .. import terminal

    rows = [("clients use", address)]
    rows += [(name.replace("_", " "), terminal.visible(str(value))) for name, value in facts.items()]
    if memory is not None:
        bank = memory.bank
        rows.append(("bank", f"{bank.path} · {terminal.counted(bank.count(), 'memory')}"))
    terminal.err.print(terminal.facts_table(rows))
