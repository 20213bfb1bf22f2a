"""`membank serve`: memory for every client that speaks Ollama's or OpenAI's API."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from membank_llama.core.errors import InvalidInputError, MembankError, ModelError
from membank_llama.core.logs import JsonLines, TextLines

from . import options as base

if TYPE_CHECKING:
    from membank_llama.adapters.base import ModelAdapter
    from membank_llama.server.engine.app import Engine
    from membank_llama.server.proxy.app import Proxy
    from membank_llama.server.proxy.upstream import Upstream

OLLAMA = "http://127.0.0.1:11434"
PORT = 11435


def serve(
    ctx: typer.Context,
    upstream: Annotated[
        str | None,
        typer.Option(help="The Ollama to stand in front of.", show_default=f"{OLLAMA}, where no model is named"),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="A GGUF to answer with here, without Ollama; several times for several.",
                     show_default=False),
    ] = None,
    models: Annotated[
        Path | None, typer.Option("--models", help="A folder of GGUFs to answer with here.", show_default=False)
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 11434 is Ollama's own.", min=0, max=65535)] = PORT,
    bank: base.BankOption = None,
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", help="What encodes memories: a GGUF, or a model that Ollama has. Default: what made "
                     "the bank, or the best at hand.", show_default=False),
    ] = None,
    memory: Annotated[bool, typer.Option(" /--no-memory", help="Serve without a memory.", show_default=False)] = True,
    tokens: Annotated[
        Path | None,
        typer.Option(help="Who may come in: a file of lines NAMESPACE TOKEN, with admin at the end of those that may "
                     "change models.", show_default=False),
    ] = None,
    deadline: Annotated[int, typer.Option(help="Milliseconds that a recall may take.", min=1)] = 300,
    context: Annotated[
        int, typer.Option("--ctx", help="Tokens of context, where a request names none.", min=256)
    ] = 4096,
    keep_alive: Annotated[int, typer.Option(help="Seconds that a model stays loaded; -1 for ever.", min=-1)] = 300,
    max_loaded: Annotated[int, typer.Option(help="Models in memory at once.", min=1)] = 1,
    max_queue: Annotated[int, typer.Option(help="Requests that may wait for a model.", min=1)] = 512,
    max_body: Annotated[int, typer.Option(help="Megabytes of a request.", min=1, max=1024)] = 8,
    log_format: Annotated[str, typer.Option(help="text, or json: an object a line.")] = "text",
    threads: base.ThreadsOption = None,
    gpu_layers: base.GpuOption = 0,
) -> None:  # fmt: skip
    """Give every Ollama client a memory: in front of Ollama, or with llama.cpp here.

    [dim]membank serve[/dim]  then point the client at http://127.0.0.1:11435

    [dim]membank serve --model Qwen3-4B-Q4_K_M.gguf --encoder all-MiniLM-L6-v2-q8_0.gguf[/dim]
    """
    if upstream is not None and (model or models):
        raise InvalidInputError("name either --upstream or models of your own, not both")
    _log_to_stderr(log_format)
    limits = (max_loaded, max_queue, float(keep_alive), max_body << 20)
    engine = _Engine(tuple(model or ()), models, context, threads, gpu_layers, *limits)
    where = base.bank_path(ctx, bank) if memory else None
    with _proxy(engine, upstream or OLLAMA, where, encoder, tokens, deadline) as (proxy, facts):
        _greet(host, port, facts, proxy.memory)
        _run(proxy, host, port)


@dataclass(frozen=True)
class _Engine:
    """What llama.cpp answers with here, and how; without any models, Ollama answers."""

    refs: tuple[str, ...]
    folder: Path | None
    context: int
    threads: int | None
    gpu_layers: int
    max_loaded: int
    max_queue: int
    keep_alive: float
    max_body: int

    @property
    def wanted(self) -> bool:
        return bool(self.refs) or self.folder is not None

    def open(self) -> Engine:
        """The engine.

        Raises:
            InvalidInputError, ModelError: a model or the folder is not there.
        """
        from membank_llama.core.paths import default_models
        from membank_llama.gguf.references import resolve_model
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
            )
        )


@contextmanager
def _proxy(
    engine: _Engine, upstream: str, where: Path | None, encoder: str | None, tokens: Path | None, deadline: int
) -> Iterator[tuple[Proxy, dict[str, Any]]]:
    """The proxy and what is said of it; its bank and its encoder are closed after it."""
    from membank_llama.server.proxy.app import Proxy
    from membank_llama.server.proxy.namespace_auth import Tokens
    from membank_llama.server.proxy.upstream import Upstream

    known = Tokens.read(tokens)
    with ExitStack() as stack:
        behind: Engine | Upstream
        if engine.wanted:
            behind, address = engine.open(), ""
            facts = {"engine": "llama.cpp", "models": ", ".join(found.name for found in behind.catalogue.models())}
        else:
            behind, address = Upstream(upstream, keep_authorization=tokens is None), upstream
            facts = {"engine": "upstream", "upstream": upstream}
        memory = None
        if where is not None:
            adapter = stack.enter_context(_encoder(where, encoder, address, behind, engine.threads, engine.gpu_layers))
            memory = _memory(stack, where, adapter, behind, deadline, engine.context)
            facts |= {"encoder": adapter.name, "encoder_id": adapter.model_id()}
        yield Proxy(behind, memory, tokens=known, facts=lambda: facts, max_body=engine.max_body), facts


def _memory(
    stack: ExitStack, where: Path, adapter: ModelAdapter, behind: Engine | Upstream, deadline: int, context: int
) -> Any:
    from membank_llama.memory.bank import MemBank
    from membank_llama.server.proxy.priority_adapter import PoliteAdapter
    from membank_llama.server.proxy.recall_service import ProxyMemory

    from ..terminal import progress_bar

    with progress_bar() as progress:
        bank = stack.enter_context(MemBank(PoliteAdapter(adapter), where, progress=progress))
        base.prepare(bank)
    return ProxyMemory(bank, find_model=_finder(behind), deadline=deadline / 1000, context=context)


def _finder(behind: Any) -> Any:
    """What finds the GGUF of a model's name, for its tokenizer. The name is a client's: it is looked up, in Ollama's
    manifests or among the models served, and never a path or something to download."""
    from membank_llama.gguf.ollama_store import find_ollama_model

    catalogue = getattr(behind, "catalogue", None)

    def find(name: str) -> Path | None:
        try:
            return find_ollama_model(name) if catalogue is None else Path(catalogue.find(name).path)
        except MembankError:
            return None

    return find


# -- who encodes


def _encoder(
    where: Path, ref: str | None, address: str, behind: Any, threads: int | None, gpu_layers: int
) -> ModelAdapter:
    """The encoder named; that of the bank; or the best at hand: an embedding GGUF, a chat GGUF, Ollama's, words."""
    from membank_llama.adapters import ollama, words
    from membank_llama.store.model_record import recorded_model

    card = recorded_model(where)
    if ref is not None:
        return _named(ref, address, card, threads, gpu_layers)
    if card is not None and card["id"].startswith(words.PREFIX):
        return words.WordsAdapter(card["dim"])
    if card is not None and card["id"].startswith(ollama.PREFIX) and "#" in (card.get("source") or ""):
        recorded, name = card["source"].split("#", 1)
        _check_address(where, recorded, name, address or OLLAMA)
        return ollama.OllamaAdapter(recorded, name)
    if card is not None:
        return base.needed_encoder(where, None, threads=threads, gpu_layers=gpu_layers)
    return _best(address, behind, threads, gpu_layers)


def _check_address(where: Path, recorded: str, name: str, given: str) -> None:
    """What is said goes to whoever encodes it: to no address that only the bank names, which may be a stranger's."""
    from membank_llama.adapters.ollama import same_address

    if not same_address(recorded, given):
        raise InvalidInputError(
            f"{where} says that the Ollama at {recorded[:200]} made it, which is not the one at {given}: every "
            "question and every new memory would be sent there. If that Ollama is yours, say so with: --encoder "
            f"'{recorded[:200]}#{name[:100]}'; if not, name a model of your own: membank reencode MODEL"
        )


def _named(ref: str, address: str, card: dict[str, Any] | None, threads: int | None, gpu_layers: int) -> ModelAdapter:
    from membank_llama.adapters.ollama import OllamaAdapter

    if ref.startswith(("http://", "https://")) and "#" in ref:
        return OllamaAdapter(*ref.split("#", 1))
    try:
        return base.open_model(ref, threads=threads, gpu_layers=gpu_layers, card=card)
    except ModelError:
        if not address or ref.endswith(".gguf"):
            raise
        return OllamaAdapter(address, ref)


def _best(address: str, behind: Any, threads: int | None, gpu_layers: int) -> ModelAdapter:
    from membank_llama.adapters import ollama, words
    from membank_llama.adapters.llama_cpp.trial_load import prove

    logger = logging.getLogger("membank_llama")
    for path, name in _at_hand(behind):
        try:
            # nobody chose this file
            prove(path)
            return base.adapter_of(path, path, name, threads=threads, gpu_layers=gpu_layers, card=None, wanted=None)
        except MembankError as exc:
            logger.warning("%s cannot encode: %s", name, exc)
    if address:
        try:
            return ollama.OllamaAdapter(address)
        except MembankError as exc:
            logger.warning("no embedding model of Ollama's: %s", exc)
    return words.WordsAdapter()


def _at_hand(behind: Any) -> list[tuple[Path, str]]:
    """GGUFs that could encode, those made for it first."""
    from membank_llama.gguf.ollama_store import list_ollama_models

    catalogue = getattr(behind, "catalogue", None)
    found = list_ollama_models() if catalogue is None else catalogue.models()
    return sorted(((model.path, model.name) for model in found), key=lambda pair: not _embeds(pair[0]))


def _embeds(path: Path) -> bool:
    from membank_llama.gguf.header import read_header

    try:
        header = read_header(path)
    except MembankError:
        return False
    return bool(header.metadata.get(f"{header.architecture}.pooling_type"))


# -- running


def _log_to_stderr(kind: str) -> None:
    if kind not in ("text", "json"):
        raise InvalidInputError(f"--log-format is {kind!r}; use text or json")
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if kind == "json" else TextLines())
    logger = logging.getLogger("membank_llama")
    logger.handlers[:] = [handler]
    logger.setLevel(os.environ.get("MEMBANK_LOG_LEVEL", "INFO").upper())


def _greet(host: str, port: int, facts: dict[str, Any], memory: Any) -> None:
    from .. import terminal

    rows = [("clients use", f"http://{host}:{port}")]
    rows += [(name.replace("_", " "), terminal.visible(str(value))) for name, value in facts.items()]
    if memory is not None:
        bank = memory.bank
        rows.append(("bank", f"{bank.path} · {terminal.counted(bank.store.registry.count(), 'memory')}"))
    terminal.err.print(terminal.facts_table(rows))


def _run(proxy: Any, host: str, port: int) -> None:
    import uvicorn

    from membank_llama.server.proxy.uvicorn_config import configured

    server = uvicorn.Server(configured(proxy, host, port))
    # uvicorn raises the signal that ended it once more; the bank is to be closed all the same
    signal.signal(signal.SIGTERM, lambda *_: None)
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        raise InvalidInputError(f"{host}:{port} cannot be listened on; is something else there? Choose another --port")
