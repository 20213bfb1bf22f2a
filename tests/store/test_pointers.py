"""Pointers: 64 bytes, content-addressed, and refused when damaged."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

import numpy as np
import pytest

from membank_llama.core.errors import BankCorruptError, InvalidInputError
from membank_llama.hgns.hierarchy import HGNSHierarchy
from membank_llama.store.pointers import POINTER_BYTES, PointerRecord, model_tag, pack_many, relocate

ROW = np.arange(40, dtype=np.uint8)


def make() -> PointerRecord:
    return PointerRecord.of(ROW, offset=2**40 + 7, dims=384, dtype="digits", level=1, model_id="a model", flags=1)


def test_the_bytes_are_those_of_the_table() -> None:
    packed = make().pack()
    assert len(packed) == POINTER_BYTES == 64
    assert packed[:32] == hashlib.sha256(bytes(range(40))).digest()
    assert packed[32:40] == (2**40 + 7).to_bytes(8, "little")
    assert packed[40:48] == hashlib.sha256(b"a model").digest()[:8] == model_tag("a model")
    assert packed[48:52] == (384).to_bytes(4, "little")
    assert packed[52:56] == (40).to_bytes(4, "little")
    assert packed[56:] == bytes([1, 0, 1, 2, 1, 0, 0, 0])


def test_round_trip() -> None:
    record = make()
    again = PointerRecord.unpack(record.pack())
    assert again == record
    assert again.ptr_id == hashlib.sha256(bytes(range(40))).hexdigest()
    assert (again.shape, again.nbytes, again.dtype, again.level) == ((384,), 40, "digits", 1)
    assert again.matches(ROW)
    assert not again.matches(ROW[::-1])
    assert not again.matches(ROW[:-1])


def test_content_alone_makes_the_name() -> None:
    strided = np.repeat(ROW, 2)[::2]
    other = PointerRecord.of(strided, offset=0, dims=1, dtype="float32", level=0, model_id="b")
    assert other.ptr_id == make().ptr_id


def test_a_batch_packs_to_the_same_bytes() -> None:
    rows = np.random.default_rng(0).integers(0, 256, (20, 70), np.uint8)
    parts = rows[:, 3:63]
    many = pack_many(parts, range(0, 2000, 100), dims=60, dtype="digits", level=2, model_id="m", flags=1)
    for index, packed in enumerate(many):
        one = PointerRecord.of(
            parts[index], offset=index * 100, dims=60, dtype="digits", level=2, model_id="m", flags=1
        )
        assert packed == one.pack()
    assert pack_many(rows[:0], [], dims=60, dtype="digits", level=2, model_id="m") == []


@pytest.mark.parametrize(("position", "value"), [(58, 3), (59, 0), (59, 7), (60, 2), (61, 1), (62, 1), (63, 9)])
def test_damage_is_refused(position: int, value: int) -> None:
    packed = bytearray(make().pack())
    packed[position] = value
    with pytest.raises(BankCorruptError, match="membank verify"):
        PointerRecord.unpack(bytes(packed))


def test_a_moved_pointer_differs_in_its_offset_alone() -> None:
    record = make()
    assert PointerRecord.unpack(relocate(record.pack(), 2**63)) == replace(record, offset=2**63)


@pytest.mark.parametrize("length", [0, 63, 65])
def test_another_length_is_refused(length: int) -> None:
    with pytest.raises(BankCorruptError, match="64 bytes"):
        PointerRecord.unpack(bytes(length))


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "int4"}, {"level": 3}, {"offset": -1}, {"offset": 2**64}, {"dims": 2**32},
        {"flags": 2**16}, {"digest": b"short"}, {"model": b"nine bytes"},
    ],
)  # fmt: skip
def test_fields_that_do_not_fit(change: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        replace(make(), **change).pack()  # type: ignore[arg-type]
    assert not isinstance(caught.value, struct.error)


def test_input_that_does_not_fit() -> None:
    with pytest.raises(InvalidInputError, match="uint8"):
        PointerRecord.of(ROW.astype(np.int32), offset=0, dims=1, dtype="digits", level=1, model_id="m")
    with pytest.raises(InvalidInputError):
        PointerRecord.of(ROW, offset=-1, dims=1, dtype="digits", level=1, model_id="m")
    with pytest.raises(InvalidInputError, match="as many offsets"):
        pack_many(np.zeros((2, 4), np.uint8), [0], dims=1, dtype="digits", level=1, model_id="m")
    with pytest.raises(InvalidInputError, match="out of range"):
        pack_many(np.zeros((1, 4), np.uint8), [-5], dims=1, dtype="digits", level=1, model_id="m")
    with pytest.raises(InvalidInputError, match="shape"):
        pack_many(np.zeros(4, np.uint8), [0], dims=1, dtype="digits", level=1, model_id="m")


def test_level_zero_is_called_by_what_it_is_in_every_codec() -> None:
    for codec in ("digits", "selection"):
        assert HGNSHierarchy(8, codec).dtypes == ("float32", codec, codec)
    assert HGNSHierarchy(8, "digits", full="int8").dtypes[0] == "int8"
