"""`ChatTranscripts`: the chats of a bank, so that one can be gone on with after a restart.

A file a chat, with its messages and the blocks that stood in them: put back into the same turns, the prompt is token
for token what it was. What is forgotten leaves these files before it leaves the bank: with each text go the turns that
hold it, and those whose block showed the memory.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from membank_llama.core.atomic_files import write_whole
from membank_llama.core.errors import BankCorruptError, BankError, BankFormatError, BankStorageError, InvalidInputError
from membank_llama.store.bank_files import CHATS, chat_file, chat_files, is_plain, make_directory, remove
from membank_llama.store.registry import Registry
from membank_llama.store.store import Store

from .forgotten_turns import compared_text, compared_texts, without_turns
from .transcript_file import MOST_BYTES, ChatTranscript, read_transcript, transcript_bytes

logger = logging.getLogger("membank_llama")

MOST_KEPT = 100
"""Chats of a namespace, the newest ones."""
ON_ITS_WAY = 10.0
"""Seconds for which a chat that is kept may still say what was forgotten: another program was just about to keep it."""


class ChatTranscripts:
    """The transcripts of one bank.

    Args:
        bank: its directory.
        registry: of the bank, to know whose texts a block shows; None to read alone.
    """

    def __init__(self, bank: Path, registry: Registry | None = None) -> None:
        self._bank = bank
        self._registry = registry
        self._lock = threading.Lock()
        self._forgotten: list[tuple[float, dict[str, set[str]]]] = []

    def newest(self, namespace: str) -> list[ChatTranscript]:
        """The chats of a namespace, the one used last first. One that cannot be read is named in the log and left out.

        Raises:
            BankStorageError: their directory cannot be read.
        """
        found = []
        with _on_disk(f"cannot read {self._bank / CHATS}"):
            paths = chat_files(self._bank)
        for path in paths:
            try:
                found.append(read_transcript(path))
            except BankError as exc:
                logger.warning("a chat is left out: %s", exc)
        own = (chat for chat in found if chat.namespace == namespace)
        return sorted(own, key=lambda chat: (chat.used, chat.name), reverse=True)

    def find(self, namespace: str, name: str | None = None) -> ChatTranscript:
        """The chat of this name, or the one used last.

        Raises:
            InvalidInputError: there is none in this namespace.
            BankError: it cannot be read.
        """
        if name is None:
            chats = self.newest(namespace)
            if not chats:
                raise InvalidInputError(
                    f"there is no chat of the namespace {namespace!r} in {self._bank} to go on with"
                )
            return chats[0]
        path = chat_file(self._bank, name)
        if path not in chat_files(self._bank):
            known = ", ".join(chat.name for chat in self.newest(namespace)[:5])
            raise InvalidInputError(f"{self._bank} keeps no chat {name}; the newest are: {known or 'none'}")
        chat = read_transcript(path)
        if chat.namespace != namespace:
            raise InvalidInputError(
                f"the chat {name} is one of the namespace {chat.namespace!r}; name that one (--namespace)"
            )
        return chat

    def used(self, name: str) -> float | None:
        """When a chat was used last; None where it is not kept, or cannot be read."""
        path = chat_file(self._bank, name)
        try:
            return read_transcript(path).used if path.exists() else None
        except BankError:
            return None

    def save(self, chat: ChatTranscript, seen: float | None = None) -> bool:
        """Keep a chat as it stands now; one in which nothing is said any more is deleted.

        Args:
            seen: when the chat was used that this one goes on with; None where nobody else can have gone on with it.

        Returns:
            False where another program has gone on with it since: what that one has kept is left as it is.

        Raises:
            BankStorageError: it could not be written; what was kept before is there still.
        """
        path = chat_file(self._bank, chat.name)
        with self._lock, _on_disk(f"cannot keep this chat in {path}"):
            self._remove_drafts()
            # the very same may come again, from one whose holder was killed before it could answer
            if seen is not None and self.used(chat.name) not in (None, seen, chat.used):
                return False
            chat = self._without_forgotten(chat)
            if not chat.turns:
                remove(path)
                return True
            is_new = not path.exists()
            self._write(path, chat)
        if is_new:
            for old in self.newest(chat.namespace)[MOST_KEPT:]:
                remove(chat_file(self._bank, old.name))
        return True

    def forget(self, texts: Mapping[str, Sequence[str]]) -> None:
        """Take turns that hold these texts, given by namespace, out of every chat (see `removal.Listener`).

        A file that cannot be understood goes as a whole: nobody knows what it holds.

        Raises:
            BankError: a file could not be read or written, and may hold them still; the message names it.
        """
        wanted = {namespace: compared_texts(some) for namespace, some in texts.items()}
        with self._lock, _on_disk(f"nothing was forgotten, for {self._bank / CHATS} may hold it and cannot be changed"):
            self._remove_drafts()
            self._forgotten.append((time.monotonic(), wanted))
            for path in chat_files(self._bank):
                try:
                    chat = read_transcript(path)
                except BankCorruptError as exc:
                    logger.warning("%s; it may hold what is forgotten and was deleted", exc)
                    remove(path)
                    continue
                if wanted.get(chat.namespace):
                    self._take_out(path, chat, wanted[chat.namespace])

    def _without_forgotten(self, chat: ChatTranscript) -> ChatTranscript:
        """A chat without what was forgotten a moment ago, when it may have been on its way here."""
        since = time.monotonic() - ON_ITS_WAY
        self._forgotten = [one for one in self._forgotten if one[0] > since]
        for _, texts in self._forgotten:
            chat = self._without(chat, texts.get(chat.namespace, ()))
        return chat

    def _without(self, chat: ChatTranscript, texts: Collection[str]) -> ChatTranscript:
        """The chat itself, where nothing of it goes."""
        if not texts:
            return chat
        messages, blocks = without_turns(chat.messages, chat.blocks, texts, self._shown_of(chat, texts))
        gone = len(messages) < len(chat.messages)
        return replace(chat, messages=tuple(messages), blocks=blocks) if gone else chat

    def _take_out(self, path: Path, chat: ChatTranscript, texts: Collection[str]) -> None:
        left = self._without(chat, texts)
        if left is chat:
            return
        if left.turns:
            self._write(path, left)
        else:
            remove(path)

    def _shown_of(self, chat: ChatTranscript, texts: Collection[str]) -> set[int]:
        """Ids in the blocks of a chat whose memory is one of these, or not there any more: a block may show a part."""
        ids = {memory_id for block, _ in chat.blocks.values() for memory_id in block.ids}
        if not ids or self._registry is None:
            return set()
        try:
            found = self._registry.get(ids)
        except BankError:
            # what is damaged must go too
            return ids
        return {number for number in ids if number not in found or compared_text(found[number].text) in texts}

    def _remove_drafts(self) -> None:
        # the writer alone comes here: what lies there was left by one that was killed
        for path in chat_files(self._bank, drafts=True):
            remove(path)

    def _write(self, path: Path, chat: ChatTranscript) -> None:
        data = transcript_bytes(chat)
        if len(data) > MOST_BYTES:
            raise BankStorageError(f"cannot keep this chat in {path}: it is longer than {MOST_BYTES:,} bytes")
        make_directory(path.parent)
        if not is_plain(path.parent, directory=True):
            raise BankFormatError(f"{path.parent} is no plain directory but a link; put a directory there")
        write_whole(path, data)


def chats_of(store: Store) -> ChatTranscripts:
    """The chats of an open bank, which follow what is forgotten in it."""
    chats = ChatTranscripts(store.path, store.registry)
    store.on_forget.append(chats.forget)
    return chats


@contextmanager
def _on_disk(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise BankStorageError(f"{what}: {exc.strerror or exc}; check the disk and its permissions") from exc
