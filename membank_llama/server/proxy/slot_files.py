"""`SlotFiles`: the files in which an upstream keeps what it has read of conversations: whose they are, and what of them
is to be emptied.

Their names are keyed hashes of namespace, conversation and model, so that no namespace ever comes by another's file
and none says anything. The list is kept with the bank. A namespace in which something is forgotten loses all its files:
from then on none of them is read, and each is emptied as soon as the server can. Where a bank was changed while this
was not running, that counts for all.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from membank_llama.core.bounded import keep_newest
from membank_llama.core.errors import BankCorruptError
from membank_llama.store.registry import Registry

logger = logging.getLogger("membank_llama")

META = "upstream_slots"
MOST_FILES = 64
"""Conversations whose files are kept; the ones that were asked longest ago are emptied."""
MOST_MODELS = 64
LEAST_APART = 16
"""Tokens between two files by which is told how they grow."""
_SLACK = 0.01


@dataclass(frozen=True)
class SlotFile:
    """One file: whose, of which model, and what is in it."""

    namespace: str
    model: str
    tokens: int
    size: int


@dataclass(frozen=True)
class FileGrowth:
    """How a model's files grow: the size of one, and whether those that followed grew by as much with each token as
    there is to a token in it; None while there were none."""

    tokens: int
    size: int
    is_straight: bool | None = None


def _grown(known: FileGrowth | None, file: SlotFile) -> FileGrowth:
    """What is known with one more file.

    Where files do not grow straight, the server keeps only the last of some layers (a sliding window), or a state of
    one size. What is read from such a file can be gone on from and not be cut, and the server may cut it all the same.
    """
    if known is None:
        return FileGrowth(file.tokens, file.size)
    apart = file.tokens - known.tokens
    if abs(apart) < LEAST_APART or known.is_straight is False:
        return known
    slope = (file.size - known.size) / apart
    straight = abs(slope * file.tokens - file.size) <= _SLACK * file.size
    return replace(known, is_straight=straight)


class SlotFiles:
    """The files of one bank. Any thread may ask; what is written to the bank is written by `keep`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._files: OrderedDict[str, SlotFile] = OrderedDict()
        self._emptying: dict[str, bool] = {}
        self._grows: OrderedDict[str, FileGrowth] = OrderedDict()
        self._secret = secrets.token_bytes(16)
        self.forgets = 0
        """How often something was forgotten: what a server has read before holds it still."""
        self._open()

    def _open(self) -> None:
        try:
            kept = self._registry.get_meta(META)
            if kept is None:
                return
            self._secret = bytes.fromhex(kept["secret"])
            self._files.update({name: SlotFile(**one) for name, one in kept["files"].items()})
            self._emptying.update({name: bool(at_once) for name, at_once in kept["emptying"].items()})
            self._grows.update({model: FileGrowth(**one) for model, one in kept["grows"].items()})
            unchanged = kept["lifetimes"] == self._registry.lifetimes
        except (BankCorruptError, AttributeError, KeyError, TypeError, ValueError):
            logger.warning("the list of the upstream's slot files is damaged: files from before are no longer read")
            return
        if not unchanged:
            # something may have been forgotten meanwhile
            self._let_go(list(self._files), at_once=True)

    def name_of(self, namespace: str, conversation: str, model: str) -> str:
        """The name of the file of a conversation."""
        said = "\0".join((namespace, conversation, model)).encode("utf-8", "replace")
        return f"membank-{hmac.new(self._secret, said, 'sha256').hexdigest()[:40]}.bin"

    def get(self, name: str) -> SlotFile | None:
        """What is in a file; None where there is none to be read."""
        with self._lock:
            return self._files.get(name)

    @property
    def any(self) -> bool:
        """Whether there are files to be read."""
        return bool(self._files)

    def add(self, name: str, file: SlotFile, forgets: int) -> bool:
        """It was written.

        Args:
            forgets: how often something had been forgotten when the server read what is in it now.

        Returns whether it will be read: not where something was forgotten since.
        """
        with self._lock:
            if forgets != self.forgets:
                self._let_go([name], at_once=True)
                return False
            self._emptying.pop(name, None)
            self._files[name] = file
            self._files.move_to_end(name)
            grown = _grown(self._grows.get(file.model), file)
            keep_newest(self._grows, file.model, grown, MOST_MODELS)
            if grown.is_straight is False:
                self._let_go([name for name, one in self._files.items() if one.model == file.model])
            while len(self._files) > MOST_FILES:
                self._let_go([next(iter(self._files))])
        return True

    def grows_straight(self, model: str) -> bool | None:
        """Whether a model's files hold all of each token; None while that is not known."""
        with self._lock:
            growth = self._grows.get(model)
            return None if growth is None else growth.is_straight

    def drop(self, name: str) -> None:
        """It is not read any more, and is to be emptied."""
        with self._lock:
            self._let_go([name])

    def forget(self, told: Mapping[str, Sequence[str]]) -> None:
        """Memories of these namespaces are about to go: with them go all files of the namespaces."""
        with self._lock:
            self.forgets += 1
            self._let_go([name for name, file in self._files.items() if file.namespace in told], at_once=True)
        self.keep()

    def _let_go(self, names: Sequence[str], *, at_once: bool = False) -> None:
        for name in names:
            self._files.pop(name, None)
            self._emptying[name] = at_once or self._emptying.get(name, False)

    @property
    def emptying(self) -> str | None:
        """The next file that is to be emptied."""
        with self._lock:
            return next(iter(sorted(self._emptying, key=lambda name: not self._emptying[name])), None)

    def is_urgent(self, name: str) -> bool:
        """Whether a file may hold what was forgotten."""
        with self._lock:
            return self._emptying.get(name, False)

    def emptied(self, name: str) -> None:
        """A file holds nothing any more."""
        with self._lock:
            self._emptying.pop(name, None)

    def keep(self) -> None:
        """Write the list down; the bank's own errors are raised."""
        with self._registry.transaction():
            # whoever has the transaction writes the newest
            with self._lock:
                kept: dict[str, Any] = {
                    "secret": self._secret.hex(),
                    "files": {name: asdict(file) for name, file in self._files.items()},
                    "emptying": dict(self._emptying),
                    "grows": {model: asdict(growth) for model, growth in self._grows.items()},
                }
            self._registry.set_meta(META, {**kept, "lifetimes": self._registry.lifetimes})
