"""`MemBank`: tell it, ask it, close it, open it again.

Encodes with an adapter, stores through `Store`, finds through `RecallEngine`. Without an adapter a bank can still
be read and searched by its words.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import tzinfo
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from membank_llama.adapters.base import ModelAdapter
from membank_llama.core.errors import InvalidInputError
from membank_llama.core.types import DEFAULT_NAMESPACE, LEVELS, Memory, NewMemory, Progress, Vector
from membank_llama.core.validation import check_memories
from membank_llama.hgns.hierarchy import DEFAULT_CODEC
from membank_llama.kv.piece_store import forget_pieces
from membank_llama.recall.engine import Measured
from membank_llama.recall.query import RecallQuery, RecallResult
from membank_llama.recall.signals import Weights
from membank_llama.recall.topic_finder import TopicFinder
from membank_llama.store.bank_files import temporary_directory
from membank_llama.store.database import Database
from membank_llama.store.encoding import encoded_by
from membank_llama.store.maintenance import compact
from membank_llama.store.memory_writer import ModelCard, tell_again
from membank_llama.store.namespace_snapshot import NamespaceSnapshot
from membank_llama.store.store import Store

from .bank_editing import correction_of
from .bank_maintenance import card_of
from .bank_topics import BankTopics
from .bank_undo import HIDDEN, BankUndo, is_hidden
from .chat_transcripts import chats_of
from .ingest_results import IngestResult, Integration
from .prompt_block import Neutraliser, build_block, excerpted
from .text_splitting import passages_of_texts
from .typed_lines import forget_typed

logger = logging.getLogger("membank_llama")

MAX_TEXT_BYTES = 64 * 1024
BATCH_SIZE = 32
"""Memories that are encoded and committed at a time."""
CHARACTERS_A_TOKEN = 4
INTEGRATE_TOKENS = 512
WEIGHTS = "weights"
_T = TypeVar("_T")


class MemBank(BankTopics, BankUndo):
    """A bank of memories, made by one model. One that holds none yet takes the model that comes.

    Args:
        adapter: encodes texts; None to read and search by words only.
        path: the bank's directory, made where missing; None for one that is gone after `close()`.
        read_only: open beside a process that writes.
        codec: for a new bank, the HGNS codec of its levels.
        candidate_multiplier: how many times `top_k` the coarse level hands on.
        min_recall_score: results with a lower cosine are left out.
        max_text_bytes: the longest text of one memory, in UTF-8 bytes.
        progress: told about long work on opening: bringing a bank of an earlier format up to date.
        repair: open a bank of another model or with damaged activations, to call `reencode()`.

    Raises:
        BankLockedError, BankNotFoundError, BankFormatError, BankStorageError, ModelMismatchError: see errors.py.
    """

    def __init__(
        self,
        adapter: ModelAdapter | None = None,
        path: str | Path | None = None,
        *,
        read_only: bool = False,
        codec: str = DEFAULT_CODEC,
        candidate_multiplier: int = 5,
        min_recall_score: float | None = None,
        max_text_bytes: int = MAX_TEXT_BYTES,
        auto_validate_adapter: bool = True,
        progress: Progress | None = None,
        repair: bool = False,
    ) -> None:
        self.max_text_bytes = max_text_bytes
        self._multiplier = candidate_multiplier
        self._min_score = min_recall_score
        with ExitStack() as stack:
            if path is None:
                path = temporary_directory()
                stack.callback(shutil.rmtree, path, ignore_errors=True)
            if adapter is not None and auto_validate_adapter:
                adapter.validate()
            card = None if adapter is None else card_of(adapter)
            self.path = Path(path)
            store = self._open_store(card, codec=codec, read_only=read_only, repair=repair, progress=progress)
            stack.callback(store.close)
            self._take(store)
            if adapter is not None and not repair:
                compact.adopt(self._store, adapter)
            self.use(adapter)
            stack.callback(self._close_hidden)
            self._open_hidden()
            self._stack = stack.pop_all()
        if adapter is not None and not repair:
            self._calibrator.soon()

    def _open_store(self, card: ModelCard | None, **options: Any) -> Store:
        return Store(self.path, card, **options)

    def _take(self, store: Store) -> None:
        """Work on this store from now on."""
        self._store = store
        store.on_forget += [partial(forget_pieces, self.path), partial(forget_typed, self.path)]
        self.chats = chats_of(store)
        self._topics = TopicFinder(store)

    @property
    def model(self) -> ModelCard:
        """The model that made the bank."""
        return self._store.model

    @property
    def store(self) -> Store:
        """The storage below, for tools that look inside."""
        return self._store

    # -- writing

    def ingest(
        self,
        text: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        role: str = "user",
        namespace: str = DEFAULT_NAMESPACE,
        conversation: str | None = None,
        created_at: float | None = None,
        source: str | None = None,
        pinned: bool = False,
        expires_at: float | None = None,
        derived_from: Iterable[int] = (),
    ) -> IngestResult:
        """Remember one text.

        Args:
            derived_from: ids of the memories it was made of, as a summary is: it is worth what the least of them is.

        Raises:
            MemoryNotFoundError: one of those is not there.
            EmptyTextError, TextTooLongError, InvalidTextError: see errors.py; nothing is stored.
            ModelError: the bank was opened without a model.
        """
        item = NewMemory(
            text,
            self._derived(metadata, tuple(derived_from)),
            role=role,
            namespace=namespace,
            conversation=conversation,
            created_at=created_at,
            source=source,
            pinned=pinned,
            expires_at=expires_at,
        )
        return self.ingest_many([item])[0]

    def ingest_many(
        self,
        items: Iterable[str | NewMemory],
        *,
        batch_size: int = BATCH_SIZE,
        progress: Progress | None = None,
        beside: Callable[[Database], None] | None = None,
    ) -> list[IngestResult]:
        """Remember many texts, encoded and committed `batch_size` at a time.

        A bad text raises before anything of its batch is stored; earlier batches stay.

        Args:
            beside: writes something else into the bank, in the transaction of the last batch, whose database it is
                given.
        """
        self._store.check_writable()
        if batch_size < 1:
            raise InvalidInputError(f"batch_size is {batch_size}; use 1 or more")
        total = len(items) if isinstance(items, Sequence) else 0
        results: list[IngestResult] = []
        batch: list[NewMemory] = []

        def commit(beside: Callable[[Database], None] | None = None) -> None:
            results.extend(self._ingest_batch(batch, beside))
            batch.clear()
            if progress is not None:
                progress("remembering", len(results), total)

        for item in items:
            if len(batch) == batch_size:
                commit()
            batch.append(item if isinstance(item, NewMemory) else NewMemory(item))
        if batch:
            commit(beside)
        return results

    def _stored_as(self, item: NewMemory) -> int:
        return self.ingest_many([item])[0].memory_id

    def _ingest_batch(self, batch: list[NewMemory], beside: Callable[[Database], None] | None) -> list[IngestResult]:
        start = time.perf_counter()
        check_memories(batch, self.max_text_bytes)
        adapter, card = self.adapter or self.need_adapter(), self._card or self._store.model
        spans, texts = passages_of_texts([item.text for item in batch])
        # a bank made by an earlier version keeps vectors alone until it is re-encoded
        vectors, tokens = encoded_by(adapter, texts, self._store.model)
        stored = self._store.add(batch, vectors, model_id=card.id, spans=spans, tokens=tokens, beside=beside)
        self._calibrator.soon(len(texts))
        spent = 1000 * (time.perf_counter() - start) / len(batch)
        dims = self._store.hierarchy.dim
        return [IngestResult(entry.memory_id, entry.pointers, entry.is_new, dims, spent) for entry in stored]

    def tell_again(self, items: Sequence[NewMemory]) -> None:
        """Take these for told once more, where the bank holds them; whatever else there is among them is left alone."""
        self._store.check_writable()
        with self._store.write_lock:
            tell_again(self._store.registry, items, time.time())

    def correct(self, memory_id: int, text: str) -> IngestResult:
        """Say better what a memory says: the text takes its place, as of now and as the person's own word.

        What it said before is kept, as `history` reads it, and is not found any more; the new one has another id.

        Raises:
            MemoryNotFoundError: there is none with this id.
            InvalidInputError, EmptyTextError, …: the text says the same, or cannot be stored; nothing is changed.
        """
        with self._store.write_lock:
            old = self.get(memory_id)
            corrected = correction_of(old, text)
            (stored,) = self.ingest_many([corrected])
            if not stored.is_new:
                # it was told already: that memory takes the history over
                self._store.registry.add_metadata(stored.memory_id, corrected.metadata or {})
            self._store.remove([memory_id])
            known = self.get(stored.memory_id)
            was = {} if stored.is_new else {known.id: (known.pinned, known.expires_at)}
            self._noted("correct", [stored.memory_id], {old.namespace}, was=was)
        return stored

    def run_where_held(self, work: Callable[..., _T], *args: Any) -> _T:
        """Call ``work(bank, *args)``, which writes, in the process that holds the bank: this one."""
        return work(self, *args)

    # -- finding

    def recall(
        self,
        query: str,
        top_k: int = 5,
        levels: Sequence[int] | None = None,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        since: float | None = None,
        until: float | None = None,
        exclude: Iterable[int] = (),
        only: Iterable[int] | None = None,
        topic: str | None = None,
        min_score: float | None = None,
        now: float | None = None,
        diversity: float = 0.0,
        weights: Weights | None = None,
        zone: tzinfo | None = None,
    ) -> list[RecallResult]:
        """The memories nearest to a question, best first, each with whether it is relevant and why.

        Args:
            levels: levels that take part, of 0 (full), 1 and 2 (coarse); all by default. Without 2 the search
                is exact and reads every memory of the namespace.
            since, until: only memories created in ``[since, until)``, seconds since 1970.
            exclude: ids to leave out.
            only: ids of the memories that are searched; None for all.
            topic: the id or name of one of `topics()`: only its memories are searched.
            now: when it is asked, which "last May" in the question counts from; None for the clock's time.
            diversity: 0 for the best, however alike, to 1 for each as unlike those before it as can be.
            weights: what each signal counts for; None for those tuned for this bank, or else the default ones.
            zone: whose "yesterday" is meant; None for this machine's.

        Raises:
            InvalidQueryError: impossible parameters, no such topic, or nothing to look for.
        """
        searched = None if only is None else frozenset(only)
        if topic is not None:
            ids = frozenset(self.topic(topic, namespace).ids)
            searched = ids if searched is None else searched & ids
        asked = RecallQuery(
            query,
            top_k,
            tuple(LEVELS if levels is None else levels),
            namespace=namespace,
            since=since,
            until=until,
            exclude=frozenset(exclude),
            only=searched,
            min_score=self._min_score if min_score is None else min_score,
            candidate_multiplier=self._multiplier,
            now=now,
            diversity=diversity,
            weights=weights,
            zone=zone,
        )
        return self._engine.search(asked)

    def measured(self, asked: RecallQuery) -> Measured:
        """The candidates of a question with every signal before it is weighed (tuning.py)."""
        return self._engine.measured(asked)

    def weights(self) -> Weights:
        """What each signal counts for in this bank: as tuned, or else the default set."""
        return Weights.of(self._store.meta(WEIGHTS, {}), tokens=self.keeps_tokens)

    @property
    def keeps_tokens(self) -> bool:
        """Whether the bank keeps the states of tokens beside its vectors."""
        return self._store.model.token_dim > 0

    def tune(self, weights: Weights | None) -> None:
        """Keep these weights with the bank; None goes back to the default ones."""
        self._store.check_writable()
        if weights is None:
            self._store.registry.drop_meta(WEIGHTS)
        else:
            self._store.registry.set_meta(WEIGHTS, asdict(weights))

    def encode(self, text: str) -> Vector | None:
        """The vector of a question, shape ``(dim,)``; None without an adapter."""
        return self._encoder.encode(text)

    def integrate(self, text: str, top_k: int = 3, **recall: Any) -> Integration:
        """Recall what belongs to a text, put it ahead of the text, and remember the text."""
        recalled = self.recall(text, top_k, **recall)
        others = [result for result in recalled if result.relevant and result.text != text]
        shown = [excerpted(result, INTEGRATE_TOKENS, _about) for result in others]
        block = build_block(shown, INTEGRATE_TOKENS, _about, Neutraliser(()), recall.get("zone"))
        stored = self.ingest(text, namespace=recall.get("namespace", DEFAULT_NAMESPACE))
        return Integration(text, recalled, block.text + text, stored)

    # -- what there is

    def memories(self, namespace: str | None = None) -> Iterator[Memory]:
        """All memories in the order they came."""
        return (memory for memory in self._store.registry.iterate(namespace) if not is_hidden(memory))

    def count(self, namespace: str | None = None) -> int:
        """How many memories there are."""
        registry = self._store.registry
        return registry.count(namespace) - registry.expiring_at(HIDDEN, namespace)

    def exists(self, ids: Iterable[int]) -> set[int]:
        """Those of some ids that there are memories of."""
        return self._store.registry.existing(ids)

    def snapshot(self, namespace: str = DEFAULT_NAMESPACE) -> NamespaceSnapshot:
        """What a namespace holds now: ids, times, sessions and speakers, as arrays."""
        return self._store.snapshots.get(namespace)

    def close(self) -> None:
        """Save and let go; the adapter stays open. May be called twice."""
        self._stack.close()

    def __enter__(self) -> MemBank:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _about(text: str) -> int:
    return len(text) // CHARACTERS_A_TOKEN
