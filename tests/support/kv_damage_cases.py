"""Pieces of KV state damaged, exchanged and forged, each time with a prompt that they are restored for.

Run as a program it takes a folder, the model and how many cases; it prints a line of JSON for each. The cases are the
same every time. It is a process of its own, for native code that is handed wrong cells may end it.
"""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import llama_cpp

from membank_llama.kv.kv_cache import KVParts
from membank_llama.kv.piece import encode
from membank_llama.kv.prefix_cache import PrefixCache
from support.damage import everything
from support.own_contexts import KEY, OwnContext, pieces_of, story

OTHER_KEY = bytes(32)
ENDS = (40, 64, 88)
SAID = 104
TOKENS = 4
Damage = Callable[["Bank", random.Random], None]


class Bank:
    """Three turns of a conversation kept in three files, and beside them what does not belong to it."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.root = folder, folder / "bank" / "kv"
        self.whole = story(SAID)
        with OwnContext(model, pieces_of(folder / "bank")) as context:
            self.answer = self._fill(context, "default")
        with OwnContext(model, pieces_of(folder / "namespace")) as context:
            self._fill(context, "somebody")
        with OwnContext(model, pieces_of(folder / "settings"), rope_freq_base=4000.0) as context:
            self._fill(context, "default")
        with OwnContext(model, pieces_of(folder / "tokens")) as context:
            self.whole = [token + 1 for token in self.whole]
            self._fill(context, "default")
            self.whole = story(SAID)
        self.pieces = sorted(self.root.glob("*/*.kv"))
        self.directory = self.pieces[0].parent
        self.good = {path: path.read_bytes() for path in self.pieces}

    def _fill(self, context: OwnContext, namespace: str) -> list[int]:
        at = 0
        for end in ENDS:
            context.evaluate(self.whole[at:end], at)
            assert context.keep(self.whole[:end], namespace) == end - at
            at = end
        context.evaluate(self.whole[at:], at)
        return context.greedy(TOKENS, len(self.whole))

    def others(self, kind: str) -> list[Path]:
        return sorted((self.folder / kind / "kv").glob("*/*.kv"))

    def mend(self) -> None:
        if self.root.is_symlink() or not self.root.is_dir():
            self.root.unlink(missing_ok=True)
        shutil.rmtree(self.root, ignore_errors=True)
        self.directory.mkdir(mode=0o700, parents=True)
        for path, data in self.good.items():
            path.write_bytes(data)


def _changed(change: Callable[[bytearray, int, random.Random], None]) -> Damage:
    def damage(bank: Bank, chosen: random.Random) -> None:
        path = chosen.choice(bank.pieces)
        data = bytearray(bank.good[path])
        # every second time where it hurts: what is ahead of the cells
        change(data, chosen.randrange(len(data) if chosen.random() < 0.5 else 3000), chosen)
        path.write_bytes(data)

    return damage


def _bit(data: bytearray, at: int, chosen: random.Random) -> None:
    data[at] ^= 1 << chosen.randrange(8)


def _noise(data: bytearray, at: int, chosen: random.Random) -> None:
    data[at : at + 64] = chosen.randbytes(len(data[at : at + 64]))


def _zeros(data: bytearray, at: int, _: random.Random) -> None:
    data[at : at + 512] = bytes(len(data[at : at + 512]))


def _cut(data: bytearray, at: int, _: random.Random) -> None:
    del data[at:]


def _gap(data: bytearray, at: int, chosen: random.Random) -> None:
    del data[at : at + chosen.choice((1, 4, 64, 512))]


def _longer(data: bytearray, _: int, chosen: random.Random) -> None:
    data += chosen.randbytes(chosen.choice((1, 64, 4096)))


def _empty(data: bytearray, *_: object) -> None:
    data.clear()


def _exchanged(bank: Bank, chosen: random.Random) -> None:
    one, other = chosen.sample(bank.pieces, 2)
    one.write_bytes(bank.good[other])
    other.write_bytes(bank.good[one])


def _foreign(kind: str) -> Damage:
    """A piece of another namespace, of other settings or of other tokens, by the name of one of ours or its own."""

    def damage(bank: Bank, chosen: random.Random) -> None:
        source, place = chosen.choice(bank.others(kind)), chosen.choice(bank.pieces)
        target = place if chosen.random() < 0.6 else bank.directory / source.name
        target.write_bytes(source.read_bytes())

    return damage


def _forged(bank: Bank, chosen: random.Random) -> None:
    """Signed with another machine's key: with the cells of other tokens, or with noise."""
    number = chosen.randrange(len(bank.pieces))
    store = pieces_of(bank.folder / "bank")
    stored, wrong = (
        store.glance(bank.pieces[number]),
        pieces_of(bank.folder / "tokens").glance(bank.others("tokens")[number]),
    )
    cells = wrong.cells().copy()
    if chosen.random() < 0.5:
        cells[chosen.randrange(len(cells)) :] = chosen.randrange(256)
    bank.pieces[number].write_bytes(b"".join(map(bytes, encode(stored.piece, cells, OTHER_KEY))))


def _linked(bank: Bank, chosen: random.Random) -> None:
    path = chosen.choice(bank.pieces)
    path.unlink()
    path.symlink_to(chosen.choice([bank.others("tokens")[0], bank.folder / "nowhere", Path("/dev/zero"), path.parent]))


def _no_file(bank: Bank, chosen: random.Random) -> None:
    path = chosen.choice(bank.pieces)
    path.unlink()
    if chosen.random() < 0.3:
        path.mkdir()
    elif chosen.random() < 0.5:
        os.mkfifo(path)


def _no_directory(bank: Bank, chosen: random.Random) -> None:
    place = chosen.choice((bank.root, bank.directory))
    shutil.rmtree(place)
    kind = chosen.randrange(4)
    if kind == 0:
        place.write_bytes(b"no directory")
    elif kind == 1:
        source = bank.folder / "tokens" / "kv"
        place.symlink_to(source if place == bank.root else bank.others("tokens")[0].parent)
    elif kind == 2:
        os.mkfifo(place)


def _no_epoch(bank: Bank, chosen: random.Random) -> None:
    place = bank.root / "epoch"
    kind = chosen.randrange(4)
    if kind == 0:
        os.mkfifo(place)
    elif kind == 1:
        place.symlink_to("/dev/zero")
    elif kind == 2:
        place.mkdir()
    else:
        place.write_bytes(b"\xff" * 100)


def _other_names(bank: Bank, chosen: random.Random) -> None:
    path = chosen.choice(bank.pieces)
    begin, end, rest = path.name.split("-")
    name = chosen.choice(
        (f"{int(begin) + 1:08d}-{end}-{rest}", f"{begin}-{int(end) + 1:08d}-{rest}", f"{begin}-{end}-{'0' * 32}.kv")
    )
    path.rename(path.with_name(name))


def _drafts(bank: Bank, chosen: random.Random) -> None:
    path = chosen.choice(bank.pieces)
    draft = path.with_name(f".{path.name}-{'abcdefgh'}")
    draft.write_bytes(bank.good[path][: chosen.randrange(len(bank.good[path]))])
    path.unlink()


DAMAGES: dict[str, tuple[int, Damage]] = {
    # how often of 100
    "a bit": (36, _changed(_bit)),
    "noise": (8, _changed(_noise)),
    "zeros": (4, _changed(_zeros)),
    "cut": (12, _changed(_cut)),
    "a gap": (3, _changed(_gap)),
    "longer": (2, _changed(_longer)),
    "empty": (2, _changed(_empty)),
    "exchanged": (4, _exchanged),
    "another namespace's": (4, _foreign("namespace")),
    "of other settings": (4, _foreign("settings")),
    "of other tokens": (4, _foreign("tokens")),
    "another machine's": (5, _forged),
    "a link": (2, _linked),
    "no file": (3, _no_file),
    "no directory": (2, _no_directory),
    "the epoch": (1, _no_epoch),
    "another name": (3, _other_names),
    "unfinished": (1, _drafts),
}


def main() -> None:
    folder, model, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    bank = Bank(folder, model)
    logging.getLogger("membank_llama").setLevel(logging.CRITICAL)
    outside = ("namespace", "settings", "tokens")
    key = pieces_of(folder / "bank").glance(bank.pieces[0]).piece.key
    before = [everything(folder / name) for name in outside]
    kinds = [kind for kind, (share, _) in DAMAGES.items() for _ in range(share)]
    with OwnContext(model, pieces_of(folder / "bank")) as context:
        for number in range(count):
            chosen = random.Random(number)
            kind = kinds[number % len(kinds)]
            bank.mend()
            DAMAGES[kind][1](bank, chosen)
            store = pieces_of(folder / "bank")
            if context.cache is not None:
                context.cache.close()
            context.cache = PrefixCache(KVParts(store, key, "model", context.cells, context.spell))
            restored = context.read(bank.whole)
            right = context.greedy(TOKENS, len(bank.whole)) == bank.answer
            if number % 5 == 0 or "no " in kind:
                # what is missing is kept anew, where it can be
                context.read(bank.whole)
                context.keep(bank.whole)
            sys.stdout.write(json.dumps([kind, restored, right]) + "\n")
            sys.stdout.flush()
    written = [name for name, files in zip(outside, before, strict=True) if everything(folder / name) != files]
    (folder / "outside.json").write_text(json.dumps(written))


if __name__ == "__main__":
    assert len(KEY) == len(OTHER_KEY)
    llama_cpp.llama_backend_init()
    main()
